/* What update.c and the other update*.c know of an update, and nobody else does.
 *
 * update.c is the state machine. Around it stand the orders that begin an update and end it early
 * (update_order.c), the places that callers may name (update_place.c), what is done without an
 * order, for a model that cannot be restored or keeps dying (update_restore.c), what is shown of
 * it all (update_json.c), the clearing away of revisions (update_sweep.c), and what runs them
 * (updates.c). */
#ifndef MOULT_FRONT_UPDATE_RUN_H
#define MOULT_FRONT_UPDATE_RUN_H

#include "front/fetch.h"
#include "front/keeper.h"
#include "front/slot.h"
#include "front/sweep.h"
#include "front/update.h"

#define MOULT_UPDATE_NOTE_BYTES 512

/* The table of update.c says what happens in each. */
enum moult_update_phase {
    MOULT_PHASE_QUEUED,
    MOULT_PHASE_FETCH,
    MOULT_PHASE_VERIFY,
    MOULT_PHASE_ROOM,
    MOULT_PHASE_RESERVE,
    MOULT_PHASE_LOAD,
    MOULT_PHASE_PERSIST
};

struct moult_update_waiting {
    moult_update_listener call;
    void *context;
    struct moult_update_waiting *next;
};

struct moult_update {
    struct moult_updates *updates;
    struct moult_slot *slot;
    struct moult_state_slot *record;
    uint64_t id;
    enum moult_update_phase phase;
    double progress;                     /* Of the phase. */
    char *source;                        /* NULL: a rollback. */
    bool force;
    char note[MOULT_UPDATE_NOTE_BYTES];  /* The reason of a LIVE one: "", or why it rolls back. */
    struct moult_fetch *fetch;           /* While it fetches. */
    char revision[MOULT_SHA256_HEX];
    uint64_t bytes;
    uint64_t number;
    struct moult_generation *candidate;  /* Referenced. */
    struct moult_state_model current_before, previous_before;
    struct moult_update_waiting *listeners;
    /* Once it has ended, until its listeners have been told. */
    enum moult_update_status status;
    char *reason;
    struct moult_update *next_ended;
};

struct moult_updates {
    uv_loop_t *loop;
    struct moult_slots *slots;
    struct moult_keeper *keeper;
    void (*serving_event)(void *context, struct moult_slot *slot);
    moult_update_listener failed_event;
    void *context;
    uint64_t last_id;
    bool stopping;
    unsigned fetches, verifications;     /* Under way, wanted or not. */
    struct moult_sweep *sweep;           /* Clears revisions away; NULL: not just now. */
    bool sweep_wanted;
    uv_timer_t kick;                     /* Tells listeners, begins what is queued. */
    struct moult_update *ended;
    bool serving[MOULT_SLOTS_MAX];
    struct moult_update *running[MOULT_SLOTS_MAX], *next[MOULT_SLOTS_MAX];
};

/* update.c */
const char *moult_update_phase_name(enum moult_update_phase phase);
void moult_update_begin(struct moult_update *update);
/* It waits for room: perhaps there is some now. */
void moult_update_try_room(struct moult_update *update);
/* Its candidate is ready. */
void moult_update_persist(struct moult_update *update);
void moult_update_candidate_failed(struct moult_update *update, const char *reason);
/* What verification of its revision has found: NULL, or what is wrong. */
void moult_update_verified(struct moult_update *update, const struct moult_error *error);
/* Listeners are told from the loop, for what they do may start the next update. */
void moult_update_end(struct moult_update *update, enum moult_update_status status,
                      const char *reason);

/* update_order.c */
/* Takes `source` over; NULL for a rollback. */
struct moult_update *moult_update_make(struct moult_updates *updates, struct moult_slot *slot,
                                       char *source);
/* Puts a new update in its place: it runs, or comes next. */
void moult_update_enqueue(struct moult_updates *updates, struct moult_update *update);
void moult_update_listen(struct moult_update *update, moult_update_listener call, void *context);
/* False where it is too late for that. */
bool moult_update_cancel(struct moult_update *update, const char *reason);
/* Tells those of every update that has ended, and frees it. */
void moult_updates_tell_listeners(struct moult_updates *updates);

/* update_place.c */
/* A malloc'ed path, or NULL: the place is not allowed. */
char *moult_update_place(struct moult_updates *updates, struct moult_slot *slot, const char *model,
                         struct moult_error *error);

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
/* The one of this id that runs, or NULL. */
struct moult_update *moult_updates_find_running(struct moult_updates *updates, uint64_t id);
/* The same, and only in that phase. */
struct moult_update *moult_updates_find_in_phase(struct moult_updates *updates, uint64_t id,
                                                 enum moult_update_phase phase);
/* One that runs or comes next. */
struct moult_update *moult_updates_find(struct moult_updates *updates, uint64_t id);
/* Anything is under way. */
bool moult_updates_busy(const struct moult_updates *updates);
/* From the loop, soon: listeners are told, what can begin begins, revisions are cleared away. */
void moult_updates_kick(struct moult_updates *updates);
/* The slot answers: told to the server once. */
void moult_updates_tell_serving(struct moult_updates *updates, struct moult_slot *slot);

#endif
