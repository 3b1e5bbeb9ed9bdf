/* A job: one request for vectors, from the dialect that parsed it to the
 * generation that answers it. The dialect (api_*.c) makes it and gets it back;
 * in between it belongs to the slots (slots.h), which queue it, hand it to a
 * worker, hand it to another one when that dies, and call `done` exactly once,
 * in the loop's thread. Promises 1, 4 and 6 of docs/architecture.md live here. */
#ifndef MOULT_FRONT_JOB_H
#define MOULT_FRONT_JOB_H

#include "ipc/channel.h"
#include "ipc/message.h"

struct moult_generation;
struct moult_job_list;
struct moult_process;
struct moult_slot;

enum moult_job_outcome {
    MOULT_JOB_ANSWERED,      /* `answer` is valid; its status may still be MOULT_ANSWER_INVALID. */
    MOULT_JOB_KILLED_WORKER, /* It killed the worker while it ran alone: 500, or 424. */
    MOULT_JOB_UNAVAILABLE    /* No generation can serve it just now: 503. `answer.message` says why;
                                it may be empty. */
};

struct moult_job {
    /* Set by the dialect. */
    struct moult_slot *slot;
    struct moult_generation *pinned;   /* Exactly this one (name@fp8), or NULL: whichever is current
                                          when the job is handed over. A pin holds a reference. */
    enum moult_lane lane;
    bool searches;                     /* It needs the generation's index, and waits for it. */
    bool own;                          /* No client's: it takes none of the waiting room, and keeps
                                          no generation awake. */
    uint64_t run;                      /* It belongs to that run of the generation that it is pinned
                                          to, and no later one gets it; 0: any does. */
    uint32_t count;                    /* Texts. */
    char *message;                     /* moult_embed_request_write(); freed with the job. */
    size_t message_size;
    struct moult_embed_options options;
    struct moult_cell_frame frame;
    void (*done)(struct moult_job *job);
    void *owner;

    /* Set when `done` is called. */
    enum moult_job_outcome outcome;
    struct moult_answer_view answer;
    struct moult_generation *generation;   /* Who answered; referenced until the job is closed. */

    /* The slots' own. */
    struct moult_process *process;     /* The worker that has it or answered it, or NULL. */
    int channel_slot;                  /* Of that worker; -1: none. */
    uint32_t deaths;                   /* Workers that died while this was begun. */
    uint64_t admitted_ns;
    struct moult_job_list *list;       /* Where it waits or runs; NULL: the dialect has it. */
    struct moult_job *next, *previous;
};

struct moult_job *moult_job_open(void);
/* Frees the job, gives its answer block back and drops its references. Called by
 * the dialect after the response has left, or instead of ever admitting it. */
void moult_job_close(struct moult_job *job);

#endif
