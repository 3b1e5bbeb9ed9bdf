/* What update.c and the other update*.c know of an update, and nobody else does.
 *
 * update.c is the state machine. Around it stand the orders that begin updates, join and supersede
 * them (update_order.c), the documents that follow (update_reembed.c), what changes by them
 * (update_compare.c), their ends and who hears of them
 * (update_end.c), what each took (update_measure.c), what is done without an order, for a model
 * that cannot be restored or keeps dying (update_restore.c), what is shown of it all
 * (update_json.c), the clearing away of revisions (update_sweep.c), and what runs them
 * (updates.c). */
#ifndef MOULT_FRONT_UPDATE_RUN_H
#define MOULT_FRONT_UPDATE_RUN_H

#include "front/compare.h"
#include "front/fetch.h"
#include "front/keeper.h"
#include "front/shelf.h"
#include "front/slot.h"
#include "front/sweep.h"
#include "front/trial.h"
#include "front/update.h"

#define MOULT_UPDATE_NOTE_BYTES 512

struct moult_update_waiting {
    moult_update_listener call;
    void *context;
    struct moult_update_waiting *next;
};

/* What is put back where the new state does not reach the disk. */
struct moult_update_before {
    struct moult_state_model current, previous;
    struct moult_state_kept kept;
    char refused[MOULT_STATE_REFUSED_MAX][MOULT_SHA256_HEX];
    unsigned refused_count;
};

struct moult_update {
    struct moult_updates *updates;
    struct moult_slot *slot;
    struct moult_state_slot *record;
    uint64_t id;
    enum moult_update_asker asked_by;
    enum moult_update_phase phase;
    double progress;                     /* Of the phase. */
    uint64_t phase_began_ns;
    uint64_t began_ns;
    struct moult_update_figures figures;
    bool measured;                       /* The latency that it adds is being measured. */
    char *source;                        /* NULL: a rollback. */
    bool force, polled;
    bool named;                          /* A caller did, and it is not the slot's own. */
    enum moult_cutover cutover;
    enum moult_swap swap;
    bool swapping;                       /* The slot has no worker, for its sake. */
    char note[MOULT_UPDATE_NOTE_BYTES];  /* The reason of a LIVE one: "", or why it rolls back. */
    struct moult_fetch *fetch;           /* While it fetches. */
    bool fetched;                        /* `revision` is installed. */
    char revision[MOULT_SHA256_HEX];
    uint64_t bytes;
    char validator[MOULT_VALIDATOR_BYTES];   /* Of the slot's own source, once it is fetched. */
    bool judged;                         /* It has come so far that what it fetched counts. */
    uint64_t number;
    struct moult_generation *candidate;  /* Referenced. */
    uint64_t disk_bytes;                 /* That its documents need. */
    struct moult_comparison *comparison; /* While it compares. */
    struct moult_trial *trial;           /* While it is on trial. */
    struct moult_report *report;         /* What came of that; NULL: nothing yet. */
    unsigned deaths;                     /* Of its worker, one soon after the other. */
    struct moult_update_before before;   /* While it persists. */
    struct moult_update_waiting *listeners;
    enum moult_update_status status;
    /* Once it has ended, until its listeners have been told. */
    char *reason;
    struct moult_update *next_ended;
};

struct moult_updates {
    uv_loop_t *loop;
    struct moult_slots *slots;
    struct moult_keeper *keeper;
    struct moult_shelf *shelf;
    struct moult_desk *desk;             /* NULL: there are no documents. */
    void (*serving_event)(void *context, struct moult_slot *slot);
    moult_update_listener failed_event;
    void *context;
    uint64_t last_id;
    bool stopping, guest;
    const char *why_stopping;            /* A sentence. */
    unsigned fetches, verifications;     /* Under way, wanted or not. */
    struct moult_sweep *sweep;           /* Clears revisions away; NULL: not just now. */
    bool sweep_wanted;
    uv_timer_t kick;                     /* Tells listeners, begins what is queued. */
    struct moult_update *ended;
    struct {
        moult_update_observer call;
        void *context;
    } observers[MOULT_UPDATE_OBSERVERS_MAX];
    unsigned observer_count;
    bool serving[MOULT_SLOTS_MAX];
    bool is_complete[MOULT_SLOTS_MAX];   /* No update was broken off while it embedded documents,
                                            since one went live; false: that is not known. */
    struct moult_update *running[MOULT_SLOTS_MAX], *next[MOULT_SLOTS_MAX];
    /* A rollback for the case that the one that runs fails. */
    struct moult_update *take_over[MOULT_SLOTS_MAX];
};

/* update.c */
/* Goes on to the next phase that is wanted. Whatever a phase has begun calls it when it is done,
 * after having found the update with moult_updates_find_in_phase(). */
void moult_update_advance(struct moult_update *update);
void moult_update_begin(struct moult_update *update);
/* Its revision is installed: whether there is anything to do. */
void moult_update_judge_fetched(struct moult_update *update);
/* What verification of its revision has found: NULL, or what is wrong. */
void moult_update_verified(struct moult_update *update, const struct moult_error *error);
/* It waits for room: perhaps there is some now. */
void moult_update_try_room(struct moult_update *update);
/* Its candidate has got further, or is ready. */
void moult_update_candidate_reports(struct moult_update *update);
void moult_update_candidate_failed(struct moult_update *update, const char *reason);
void moult_update_warm_one_is_gone(struct moult_update *update);

/* update_order.c */
/* Takes `source` over; NULL for a rollback. */
struct moult_update *moult_update_make(struct moult_updates *updates, struct moult_slot *slot,
                                       char *source, enum moult_update_asker asked_by);
/* Puts a new update in its place: it runs, or comes next. */
void moult_update_enqueue(struct moult_updates *updates, struct moult_update *update);
/* It has fetched: whether it goes on now. Not while another persists, which may be what it brings,
 * too; and not where another has the same revision ready, which it joins then. One that waits for a
 * person is superseded by what is newer. */
bool moult_update_gets_its_turn(struct moult_update *update);
bool moult_update_is_manual(const struct moult_update *update);
/* False where it is too late for that. */
bool moult_update_cancel(struct moult_update *update, const char *reason);

/* update_end.c */
void moult_update_end(struct moult_update *update, enum moult_update_status status,
                      const char *reason);
/* From now on the state says what was seen of the slot's source. */
void moult_update_note_seen(struct moult_update *update);
/* Into the history, or again, with what is known now. */
void moult_update_note(struct moult_update *update, enum moult_update_status status,
                       const char *reason);
void moult_update_listen(struct moult_update *update, moult_update_listener call, void *context);
/* Those of every update that has ended, or waits for a person; what has ended is freed. From the
 * loop, for what they do may start the next update. */
void moult_updates_tell_listeners(struct moult_updates *updates);
/* `ended`: the reason; NULL where it has only gone on from `from`. */
void moult_update_tell_observers(struct moult_update *update, enum moult_update_phase from,
                                 double seconds, const char *ended);

/* swap.c */
/* It loads in the old one's place. */
bool moult_update_swaps(const struct moult_update *update);
/* It waits for that place: perhaps it can have it now. */
void moult_update_try_swap(struct moult_update *update);
/* It has ended: where it is not live, the old model serves again. */
void moult_update_end_swap(struct moult_update *update);

/* update_measure.c */
/* It has come from there, after so long. */
void moult_update_measure_phase(struct moult_update *update, enum moult_update_phase from,
                                double seconds);
/* Its candidate is ready. */
void moult_update_measure_memory(struct moult_update *update);
/* `was_nothing`: a poll without news, of which nothing is kept. */
void moult_update_measure_end(struct moult_update *update, bool was_nothing);

/* update_reembed.c */
bool moult_update_wants_documents(const struct moult_update *update);
void moult_update_reembed(struct moult_update *update);
/* The follower of its candidate has got further, or is in trouble. */
void moult_update_followed(struct moult_update *update);
/* It has ended, or its candidate has: nobody waits for that one's index. */
void moult_update_let_documents_go(struct moult_update *update);
double moult_update_documents_progress(const struct moult_update *update);
/* A new reference: {"done", "total", "embedded", "disk_bytes", "per_second"?, "seconds_left"?,
 * "trouble"?}. */
json_t *moult_update_documents_json(const struct moult_update *update);

/* update_compare.c */
bool moult_update_wants_comparison(const struct moult_update *update);
void moult_update_compare(struct moult_update *update);
/* Its report, made where there is none yet. */
struct moult_report *moult_update_report(struct moult_update *update);
void moult_update_stop_comparing(struct moult_update *update);
void moult_update_note_report(const struct moult_update *update,
                              struct moult_state_event *event);

/* update_trial.c */
bool moult_update_wants_trial(const struct moult_update *update);
void moult_update_begin_trial(struct moult_update *update);
void moult_update_stop_trial(struct moult_update *update);
/* A person has said that it may serve. */
void moult_update_hurry_trial(struct moult_update *update);

/* update_restore.c */
/* Reads an update's revision again, on the pool; moult_update_verified() hears of it. */
void moult_update_verify(struct moult_update *update);
/* The events of the slots that tell of a current generation which does not serve as it should. */
void moult_updates_on_differs(void *context, struct moult_generation *generation);
void moult_updates_on_keeps_dying(void *context, struct moult_generation *generation,
                                  const char *reason);

/* update_sweep.c */
/* Begins to clear away the installed revisions that nothing refers to, where that is wanted and
 * nothing is under way. */
void moult_updates_try_sweep(struct moult_updates *updates);

/* updates.c */
unsigned moult_updates_index(const struct moult_slot *slot);
/* One that runs or comes next; NULL: it has ended. */
struct moult_update *moult_updates_find(struct moult_updates *updates, uint64_t id);
/* The same, and only in that phase. */
struct moult_update *moult_updates_find_in_phase(struct moult_updates *updates, uint64_t id,
                                                 enum moult_update_phase phase);
/* Something is under way, more than waiting for a person. */
bool moult_updates_busy(const struct moult_updates *updates);
/* From the loop, soon: listeners are told, what can begin begins, revisions are cleared away. */
void moult_updates_kick(struct moult_updates *updates);
/* The slot answers: told to the server once. */
void moult_updates_tell_serving(struct moult_updates *updates, struct moult_slot *slot);

#endif
