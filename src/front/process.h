/* One run of one worker: the child process, the shared memory between it and
 * the front, and the jobs that lie in there. Whether it may run, and what
 * becomes of its jobs when it ends, is generation.c's to decide.
 *
 * A process object outlives its child for as long as an answer that lies in
 * its shared memory is being sent: it counts references, one of the owner and one of
 * each job that it has or answered. */
#ifndef MOULT_FRONT_PROCESS_H
#define MOULT_FRONT_PROCESS_H

#include <uv.h>

#include "base/limits.h"
#include "front/job.h"

struct moult_process;

struct moult_process_order {
    const char *folder;      /* The installed revision. */
    const char *label;       /* "minilm 7" */
    uint32_t threads;
    enum moult_precision precision;
    double fidelity;         /* Of that precision, where it is known; 0: it is not. */
    enum moult_haste haste;
    uint64_t memory_bytes;   /* It must not take more until it is ready; 0: it may. */
    /* Files of vectors (moult_rows_file_fd(); they stay the caller's), among which it finds that
     * of its model, or a blank one; none: it has no index. */
    int rows_fds[MOULT_ROWS_FILES_MAX];
    unsigned rows_count;
    uint64_t row_count;      /* Rows that its index may come to have, for its estimate of memory. */
    unsigned follow_nice;    /* Of threads for the BACKGROUND lane (ipc/channel.h); 0: none. */
};

struct moult_process_end {
    bool killed_from_outside;   /* SIGKILL, not by the front: a person, or no memory. */
    bool asked;                 /* It was asked to exit, and did. */
    char reason[600];           /* A finished sentence. */
};

/* All of them come from the loop, never from within a call to this module. */
struct moult_process_events {
    /* The worker has said something new about itself. Until it is ready. */
    void (*reported)(void *owner, const struct moult_worker_report *report);
    /* job->answer is filled; the job still holds its slot. */
    void (*answered)(void *owner, struct moult_job *job);
    /* A round of answers has been handed out: there may be room. */
    void (*drained)(void *owner);
    /* The child is gone. Jobs that it had are still the owner's to move. */
    void (*ended)(void *owner, const struct moult_process_end *end);
};

struct moult_process *moult_process_start(uv_loop_t *loop, const struct moult_process_order *order,
                                          const struct moult_process_events *events, void *owner,
                                          struct moult_error *error);
/* The owner's last call: no event comes after it. A child that still runs is killed. */
void moult_process_drop(struct moult_process *process);

/* Hands the job over; false when there is no room just now. */
bool moult_process_submit(struct moult_process *process, struct moult_job *job,
                          size_t answer_capacity);
/* Takes the job back without an answer. What the worker still makes of it is thrown away. */
void moult_process_take_back(struct moult_process *process, struct moult_job *job);
/* Gives the job's answer block back; part of moult_job_close(). */
void moult_process_release_answer(struct moult_job *job);
/* What the process was started with; NULL once dropped. */
void *moult_process_owner(const struct moult_process *process);
/* Whether the worker has begun the job. */
bool moult_process_began(const struct moult_process *process, const struct moult_job *job);
/* Jobs in the worker whose owners took them back. */
unsigned moult_process_orphans(const struct moult_process *process);
/* One of them at least was begun. */
bool moult_process_orphan_began(const struct moult_process *process);

void moult_process_ask_exit(struct moult_process *process);
/* `reason` becomes that of the end. */
void moult_process_kill(struct moult_process *process, const char *reason);
/* Looks at the progress counter: nanoseconds for which it has stood still. Without
 * jobs, and once ready, a worker has nothing to move for: 0. */
uint64_t moult_process_still_ns(struct moult_process *process, uint64_t now_ns);
void moult_process_report(const struct moult_process *process, struct moult_worker_report *report);
int moult_process_pid(const struct moult_process *process);

#endif
