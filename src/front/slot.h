/* What slots.c, route.c, generation.c and update*.c know of a slot and its
 * generations, and nobody else does.
 *
 * Jobs wait in queues: a slot has one, for those that any generation may
 * answer, which its current generation works off; a generation has one more,
 * for those that are pinned to it. A queue has the lanes, and before them
 * the suspects: jobs that had been begun when a worker died. Searches wait beside the lane of
 * single texts, so that an index which is not there yet keeps nobody else. */
#ifndef MOULT_FRONT_SLOT_H
#define MOULT_FRONT_SLOT_H

#include <uv.h>

#include "base/hash.h"
#include "base/machine.h"
#include "front/asked.h"
#include "front/follower.h"
#include "front/latency.h"
#include "front/options.h"
#include "front/process.h"
#include "front/slots.h"
#include "front/state.h"

enum { MOULT_LANES = MOULT_LANE_BACKGROUND + 1 };

struct moult_job_list {
    struct moult_job *first, *last;
};

struct moult_queue {
    struct moult_job_list suspects;
    struct moult_job_list searches;
    struct moult_job_list lanes[MOULT_LANES];
    uint32_t texts;                   /* Of clients, … */
    uint32_t jobs;                    /* … and their jobs. */
    uint32_t search_texts;            /* Of these texts, those that are to be searched. */
};

/* candidate ─> current ─> draining ─> warm ─> retiring ─> gone
 *     └───────────────────────────────────────^      (a candidate that fails)
 *             ^──────────┴──────────┘                (a rollback takes it back)
 *
 * Whether it has a worker is another matter: a current or warm one may be asleep
 * (sleep.c), and is given a worker when a job waits for it. */
enum moult_generation_phase {
    MOULT_GENERATION_CANDIDATE,   /* Loads and checks itself; nobody can call it. */
    MOULT_GENERATION_CURRENT,     /* Answers whatever is not pinned to another. */
    MOULT_GENERATION_DRAINING,    /* Was replaced, and still answers what it had begun. */
    MOULT_GENERATION_WARM,        /* Was replaced, has nothing left of that time, and can be called
                                     by name@fp8, or taken back where it has a worker. */
    MOULT_GENERATION_RETIRING,    /* Not to be called any more: ends when its pinned jobs have. */
    MOULT_GENERATION_GONE         /* No process; here as long as somebody holds a reference. */
};

struct moult_generation {
    struct moult_slot *slot;
    unsigned references;              /* The slot's until it is gone, pins, jobs answered by it. */
    uint64_t number;
    char revision[MOULT_SHA256_HEX];
    char fingerprint[MOULT_SHA256_HEX];
    char label[MOULT_MODEL_NAME_BYTES_MAX + 16];
    enum moult_generation_phase phase;
    struct moult_worker_report report;   /* Of the last run that became ready, or loads. */
    struct moult_rung rung;           /* As an earlier run had it, or as the state has it. */
    bool was_ready;
    uint64_t ready_at;                /* Seconds since the epoch. */
    bool kept;                        /* An update is about to take it back: it must not retire. */

    /* What the shelf (shelf.c) knows of its model. */
    bool installed;                   /* Its files stay: it can be called without a worker, too. */
    bool leased;                      /* Time does not end its worker. */
    uint64_t file_bytes;              /* 0: not known. */
    uint64_t replaced_at, retires_at; /* Seconds since the epoch; 0: not, or not settled. */

    /* Sleep. */
    bool asleep;                      /* It has no worker, and gets one when a job waits. */
    bool falling_asleep;              /* Its worker was asked to finish and end. */
    bool recalled;                    /* It is given a worker at once, wanted or not. */
    bool by_name;                     /* Its worker was raised for those who name it. */
    uint64_t wanted_ns;               /* Since when a job waits for room for its worker; 0: none. */
    uint64_t used_ns;                 /* When a job last came or was answered. */
    uint64_t worker_bytes;            /* What its worker took at most to load; 0: not known. */

    /* The present run. */
    struct moult_process *process;    /* NULL between two runs. */
    uint64_t run;                     /* Its number, from 1. */
    struct moult_follower *follower;  /* follow.h; NULL: it has had no worker, or no documents. */
    bool ends_follower;               /* Giving up its jobs settles nothing: the caller does. */
    bool indexed;                     /* Its index has all that searches are promised. */
    bool persistent;                  /* A candidate whose worker is started again when it dies. */
    uint64_t promised_bytes;          /* Of memory, until it is ready; 0: no limit. */
    bool starved;                     /* A candidate that got no CPU, … */
    bool hasty;                       /* … and is loading once more for that. */
    uint64_t hunger_ns;               /* When that is looked at again, … */
    struct moult_process_times times; /* … and what it had had by then. */
    bool ready;
    uint64_t ready_ns;
    uint64_t lost_ns;                 /* Since when it is being restarted in vain; 0: it is not. */

    /* Jobs. */
    struct moult_queue queue;
    struct moult_job_list running;
    unsigned running_count;
    unsigned running_own;             /* Of these, no client's. */
    uint32_t running_texts[MOULT_LANES];
    struct moult_job *alone;          /* A suspect which runs alone, or NULL. */

    /* Deaths, one after the other, each within 10 s of being ready or before. */
    unsigned strikes;

    /* When to look again, on moult_clock_ns(); 0: never. */
    uint64_t restart_ns, drain_until_ns, warm_until_ns, kill_ns;
};

struct moult_slot {
    struct moult_slots *slots;
    char *name;
    char *source;
    struct moult_generation *current;
    struct moult_generation **generations;   /* [generation_count], not gone, newest last. */
    unsigned generation_count;
    struct moult_latency latency;
    struct moult_queue queue;
    unsigned writes_waiting;          /* Until it has documents in its index: it must not sleep. */
    struct moult_asked *asked;        /* NULL: nobody wants to know what changes. */
    bool swapping;                    /* Nobody of it gets a worker but a candidate (swap.c). */
    uint64_t restarts;                /* Of workers that ended unasked. */
    /* The place that an update has asked for or been given, for a worker that is not there yet. */
    struct {
        uint64_t since_ns;            /* 0: nobody asks. */
        uint64_t bytes;
        bool given;
    } claim;
};

/* What the slots tell the updates. */
struct moult_slots_events {
    void (*ready)(void *context, struct moult_generation *generation);   /* Once for each run. */
    /* A candidate that is not ready yet has got further. */
    void (*reported)(void *context, struct moult_generation *generation);
    void (*candidate_failed)(void *context, struct moult_generation *generation,
                             const char *reason);
    /* Five strikes and more: it is the current one. */
    void (*keeps_dying)(void *context, struct moult_generation *generation, const char *reason);
    /* A worker of the slot has gone: there may be room for another, of any slot. */
    void (*gone)(void *context, struct moult_slot *slot);
    /* A current one is ready with another fingerprint than it was opened with.
     * It does not serve before it is accepted. */
    void (*differs)(void *context, struct moult_generation *generation);
    /* One has nothing left to answer: from now on it may be retired to make room. */
    void (*drained)(void *context, struct moult_slot *slot);
    /* The follower of one has got further, or is in trouble. */
    void (*followed)(void *context, struct moult_generation *generation);
};

struct moult_slots {
    uv_loop_t *loop;
    const struct moult_serve_options *options;
    struct moult_followers *followers;   /* NULL: there are no documents. */
    struct moult_given *given;        /* Vectors that came with them (given.h); NULL: none. */
    char *models_folder;              /* DATA/models */
    uint32_t threads;
    char cpu[MOULT_CPU_BYTES];        /* As rungs have it. */
    struct moult_slot *slots;         /* [count] */
    unsigned count;
    uint32_t waiting_texts;
    bool stopping;
    struct moult_job_list finished;   /* Without an answer; `done` is called from the loop. */
    uv_timer_t deliver, clock;
    uint64_t clock_ns;                /* When `clock` fires; UINT64_MAX: it does not. */
    const struct moult_slots_events *events;
    void *events_context;
};

/* slots.c */
struct moult_slots *moult_slots_open(uv_loop_t *loop, const struct moult_serve_options *options,
                                     const char *models_folder);
void moult_slots_listen(struct moult_slots *slots, const struct moult_slots_events *events,
                        void *context);
struct moult_slot *moult_slots_add(struct moult_slots *slots, const char *name,
                                   const char *source);
/* Admits nothing more. Jobs that wait or run get MOULT_JOB_UNAVAILABLE if `at_once`. */
void moult_slots_stop(struct moult_slots *slots, bool at_once);
/* Ends every worker. True once none is left; `gone` events tell when to ask again. */
bool moult_slots_retire_all(struct moult_slots *slots);
/* After that, and after the loop has run its last: frees everything. */
void moult_slots_close_handles(struct moult_slots *slots);
void moult_slots_free(struct moult_slots *slots);
/* `candidate`, which is ready, becomes current; the old one drains. One assignment. */
void moult_slot_cut_over(struct moult_slot *slot, struct moult_generation *candidate);
/* Its worker is asleep, or about to be. */
bool moult_generation_rests(const struct moult_generation *generation);
/* A ready generation of that revision which is warm, or NULL. One that still drains
 * may have a request that is stuck in it. */
struct moult_generation *moult_slot_find_warm(const struct moult_slot *slot, const char *revision);
void moult_slots_finish(struct moult_job *job, enum moult_job_outcome outcome);
/* Whatever waits in the queue fails as MOULT_JOB_UNAVAILABLE, with that sentence. */
void moult_slots_refuse(struct moult_queue *queue, const char *message);
/* Takes a job of the front itself, pinned to a generation that is not retiring, which is not
 * woken by it. `done` is called as for any other. */
void moult_slots_submit_own(struct moult_slots *slots, struct moult_job *job);
/* Sees to it that generations are looked at no later than then. */
void moult_slots_wake_by(struct moult_slots *slots, uint64_t ns);

/* room.c */
enum moult_room { MOULT_ROOM_GIVEN, MOULT_ROOM_LATER, MOULT_ROOM_NEVER };
/* An update asks for a place for a candidate whose files have so many bytes: again and again,
 * whenever `drained` or `gone` is told, until it is given or refused (then the error has the
 * figures). The place is held until moult_room_let_go(), for when the candidate has its worker, or
 * the update has ended. */
enum moult_room moult_room_claim(struct moult_slot *slot, uint64_t file_bytes,
                                 struct moult_error *error);
void moult_room_let_go(struct moult_slot *slot);
/* Not even without any other worker of its slot. */
bool moult_room_is_hopeless(struct moult_slot *slot, uint64_t file_bytes,
                            struct moult_error *error);
/* What the worker of a candidate may take. */
uint64_t moult_room_promise(const struct moult_generation *candidate);
/* The same for a worker of a generation that sleeps, which has been wanted for so long. */
enum moult_room moult_room_for(struct moult_generation *generation, uint64_t waited_ns,
                               struct moult_error *error);

/* sleep.c */
/* Makes a sleeping generation of an installed model. */
struct moult_generation *moult_generation_shelve(struct moult_slot *slot,
                                                 const struct moult_state_model *model);
/* Its worker finishes what it has begun, and ends; what waits then waits for another worker. */
void moult_generation_sleep(struct moult_generation *generation);
/* Its worker has ended, and it needs none now. */
void moult_generation_fall_asleep(struct moult_generation *generation);
/* For one that sleeps, whenever a job has come. */
void moult_generation_want(struct moult_generation *generation);
/* It has to serve again, as soon as a candidate that has failed is gone. */
void moult_generation_recall(struct moult_generation *generation);
/* Gives it a worker where there is room. */
void moult_generation_try_wake(struct moult_generation *generation, uint64_t now_ns);
/* It could not be loaded, for that reason; those who wait are told so. */
void moult_generation_give_up(struct moult_generation *generation, const char *reason);
/* When its worker, which is idle, has been so for long enough; 0: never. */
uint64_t moult_generation_rest_ns(const struct moult_generation *generation);

/* gate.c */
/* From now on it answers searches. */
void moult_generation_open_gate(struct moult_generation *generation);
/* A search of so many texts is to wait at it: whether there is room. */
int moult_generation_check_gate(const struct moult_generation *generation,
                                const struct moult_job *job, struct moult_error *error);
/* Refuses searches that have waited for too long at a closed gate; when to look again, or 0. */
uint64_t moult_generation_watch_gate(struct moult_generation *generation, uint64_t now_ns);

/* generation.c */
/* Starts the first run of a model whose number and revision are given, and its
 * fingerprint where it is known. NULL: it cannot be started. */
struct moult_generation *moult_generation_open(struct moult_slot *slot,
                                               const struct moult_state_model *model,
                                               enum moult_generation_phase phase,
                                               struct moult_error *error);
/* Starts a run. */
int moult_generation_run(struct moult_generation *generation, struct moult_error *error);
/* The same after a run could not be started: it is tried again. */
void moult_generation_run_later(struct moult_generation *generation, const char *reason);
/* Out of its slot, for good: it has neither a worker nor a job. */
void moult_generation_leave(struct moult_generation *generation);
/* Its waiting jobs become those of `other`, which is the same model. */
void moult_generation_hand_on(struct moult_generation *generation,
                              struct moult_generation *other);
/* It has another fingerprint than it was opened with, and may serve for all that. */
void moult_generation_accept(struct moult_generation *generation);
/* Looks at what a loading worker says of itself just now. */
void moult_generation_refresh(struct moult_generation *generation);
void moult_generation_set_number(struct moult_generation *generation, uint64_t number);
/* Hands over what waits, as far as there is room. Calls no dialect. */
void moult_generation_pump(struct moult_generation *generation);
/* Takes a job that runs in it out of it, without an answer. */
void moult_generation_take_back(struct moult_generation *generation, struct moult_job *job);
/* Takes the next step of its life where its jobs allow it: to be called whenever one has left. */
void moult_generation_settle(struct moult_generation *generation);
void moult_generation_drain(struct moult_generation *generation);
void moult_generation_retire(struct moult_generation *generation);
bool moult_generation_idle(const struct moult_generation *generation);
/* The same, and nothing waits that only it may answer. */
bool moult_generation_unasked(const struct moult_generation *generation);
/* Enters the slot as its newest. */
void moult_generation_join(struct moult_slot *slot, struct moult_generation *generation);
/* Does what is due, and says when to look again (UINT64_MAX: never). */
uint64_t moult_generation_tick(struct moult_generation *generation, uint64_t now_ns);

/* followers.c: what it is told of generations; nothing where there are no documents. */
struct moult_process_order;
/* A worker is about to be started: the files that it is to inherit. */
void moult_followers_equip(struct moult_generation *generation,
                           struct moult_process_order *order);
/* It is ready; it is gone; nobody will have one any more. */
void moult_followers_ready(struct moult_generation *generation);
void moult_followers_lost(struct moult_generation *generation);
void moult_followers_leave(struct moult_generation *generation);
/* A candidate has just become the current one. */
void moult_followers_cut_over(struct moult_generation *candidate);
/* Something that decides who is followed has changed. */
void moult_followers_look(const struct moult_slot *slot);
/* A search of it met a row that cannot be read any more. False: nobody follows it. */
bool moult_followers_doubt(struct moult_generation *generation);
/* About what an index of the slot's documents needs in memory. */
uint64_t moult_followers_index_bytes(const struct moult_slot *slot);
/* The current one has no worker, and cannot have one. */
void moult_followers_refuse(struct moult_slot *slot, const char *reason);

/* job.c */
void moult_job_list_append(struct moult_job_list *list, struct moult_job *job);
void moult_job_list_prepend(struct moult_job_list *list, struct moult_job *job);
void moult_job_list_remove(struct moult_job *job);
/* Into its queue: the pinned generation's or the slot's. It counts as waiting from then on. */
void moult_job_wait(struct moult_job *job);
void moult_job_wait_again(struct moult_job *job, bool suspect);   /* Before all others. */
/* Out of its queue. */
void moult_job_unwait(struct moult_job *job);
/* No client waits in it. */
bool moult_queue_empty(const struct moult_queue *queue);

#endif
