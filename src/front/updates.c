/* The updates of all slots: what runs them, and what the server sees of them. */
#include "front/update_run.h"

#include <stdlib.h>

#include "base/memory.h"

unsigned moult_updates_index(const struct moult_slot *slot) {
    return (unsigned)(slot - slot->slots->slots);
}

static struct moult_update *if_it_is(struct moult_update *update, uint64_t id) {
    return update != NULL && update->id == id ? update : NULL;
}

struct moult_update *moult_updates_find(struct moult_updates *updates, uint64_t id) {
    struct moult_update *found = NULL;
    for (unsigned i = 0; i < updates->slots->count && found == NULL; i++) {
        found = if_it_is(updates->running[i], id);
        found = found != NULL ? found : if_it_is(updates->next[i], id);
    }
    return found;
}

struct moult_update *moult_updates_find_in_phase(struct moult_updates *updates, uint64_t id,
                                                 enum moult_update_phase phase) {
    struct moult_update *update = moult_updates_find(updates, id);
    return update != NULL && update->phase == phase ? update : NULL;
}

struct moult_slot *moult_updates_slot_of(struct moult_updates *updates, uint64_t id) {
    const struct moult_update *update = moult_updates_find(updates, id);
    return update != NULL ? update->slot : NULL;
}

/* Does what it could not do when it was there. */
static void move_on(struct moult_updates *updates, struct moult_update *update) {
    if (update == NULL)
        return;
    if (update->phase == MOULT_PHASE_SWAP)
        moult_update_try_swap(update);
    else if (update->phase == MOULT_PHASE_ROOM)
        moult_update_try_room(update);
    else if (update->phase == MOULT_PHASE_QUEUED && updates->sweep == NULL)
        moult_update_begin(update);
    else if (update->phase == MOULT_PHASE_FETCH && update->fetched)
        moult_update_judge_fetched(update);
}

static void on_kick(uv_timer_t *timer) {
    struct moult_updates *updates = timer->data;
    moult_updates_tell_listeners(updates);
    for (unsigned i = 0; i < updates->slots->count; i++) {
        move_on(updates, updates->running[i]);
        const struct moult_update *running = updates->running[i];
        /* What comes next reads its place while another waits for a person. */
        if (running != NULL && running->phase == MOULT_PHASE_READY)
            move_on(updates, updates->next[i]);
    }
    moult_updates_try_sweep(updates);
}

void moult_updates_kick(struct moult_updates *updates) {
    if (!uv_is_closing((uv_handle_t *)&updates->kick))
        uv_timer_start(&updates->kick, on_kick, 0, 0);
}

void moult_updates_tell_serving(struct moult_updates *updates, struct moult_slot *slot) {
    bool *serving = &updates->serving[moult_updates_index(slot)];
    if (*serving)
        return;
    *serving = true;
    updates->serving_event(updates->context, slot);
}

/* What the slots tell. */

static void on_ready(void *context, struct moult_generation *generation) {
    struct moult_updates *updates = context;
    struct moult_slot *slot = generation->slot;
    struct moult_update *update = updates->running[moult_updates_index(slot)];
    if (update != NULL && update->candidate == generation)
        moult_update_candidate_reports(update);
    else if (slot->current == generation)
        moult_updates_tell_serving(updates, slot);
}

static void on_reported(void *context, struct moult_generation *generation) {
    struct moult_updates *updates = context;
    struct moult_update *update = updates->running[moult_updates_index(generation->slot)];
    if (update != NULL && update->candidate == generation)
        moult_update_candidate_reports(update);
}

static void on_candidate_failed(void *context, struct moult_generation *generation,
                                const char *reason) {
    struct moult_updates *updates = context;
    struct moult_update *update = updates->running[moult_updates_index(generation->slot)];
    if (update != NULL && update->candidate == generation)
        moult_update_candidate_failed(update, reason);
}

static void on_gone(void *context, struct moult_slot *slot) {
    struct moult_updates *updates = context;
    struct moult_update *update = updates->running[moult_updates_index(slot)];
    updates->sweep_wanted = true;
    if (update != NULL && update->candidate != NULL &&
        (update->candidate->phase == MOULT_GENERATION_GONE ||
         moult_generation_rests(update->candidate)))
        moult_update_warm_one_is_gone(update);
    moult_updates_kick(updates);
}

static void on_cleared(void *context) {
    struct moult_updates *updates = context;
    updates->sweep_wanted = true;
    moult_updates_kick(updates);
}

/* What waits for room may be able to make it now, but not within the call of who drained. */
static void on_drained(void *context, struct moult_slot *slot) {
    (void)slot;
    moult_updates_kick(context);
}

static void on_followed(void *context, struct moult_generation *generation) {
    struct moult_updates *updates = context;
    struct moult_update *update = updates->running[moult_updates_index(generation->slot)];
    if (update != NULL && update->candidate == generation)
        moult_update_followed(update);
}

bool moult_updates_busy(const struct moult_updates *updates) {
    for (unsigned i = 0; i < updates->slots->count; i++) {
        const struct moult_update *running = updates->running[i];
        if (running != NULL && running->phase != MOULT_PHASE_READY)
            return true;
        if (updates->next[i] != NULL)
            return true;
    }
    return updates->fetches > 0 || updates->verifications > 0 || updates->ended != NULL;
}

/* For server.c. */

struct moult_updates *moult_updates_open(uv_loop_t *loop, struct moult_slots *slots,
                                         struct moult_keeper *keeper, struct moult_shelf *shelf,
                                         void (*serving)(void *context, struct moult_slot *slot),
                                         moult_update_listener failed, void *context) {
    static const struct moult_slots_events slots_events = {
        .ready = on_ready,
        .reported = on_reported,
        .candidate_failed = on_candidate_failed,
        .keeps_dying = moult_updates_on_keeps_dying,
        .gone = on_gone,
        .differs = moult_updates_on_differs,
        .drained = on_drained,
        .followed = on_followed,
    };
    struct moult_updates *updates = moult_allocate(1, sizeof *updates);
    updates->loop = loop;
    updates->slots = slots;
    updates->keeper = keeper;
    updates->shelf = shelf;
    updates->serving_event = serving;
    updates->failed_event = failed;
    updates->context = context;
    updates->last_id = moult_state_last_id(moult_keeper_state(keeper));
    updates->sweep_wanted = true;
    uv_timer_init(loop, &updates->kick);
    updates->kick.data = updates;
    moult_slots_listen(slots, &slots_events, updates);
    moult_shelf_listen(shelf, on_cleared, updates);
    return updates;
}

int moult_updates_raise(struct moult_updates *updates, struct moult_slot *slot,
                        struct moult_error *error) {
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    MOULT_REQUIRE(record != NULL);
    moult_shelf_restore(updates->shelf, slot);
    if (record->current.generation == 0) {
        struct moult_update *update = moult_update_make(
            updates, slot, moult_copy_string(slot->source), MOULT_ASKED_BY_START);
        moult_update_listen(update, updates->failed_event, updates->context);
        moult_update_enqueue(updates, update);
        return 0;
    }
    slot->current =
        moult_generation_open(slot, &record->current, MOULT_GENERATION_CURRENT, error);
    return 0;
}

void moult_updates_use_desk(struct moult_updates *updates, struct moult_desk *desk) {
    updates->desk = desk;
}

bool moult_updates_stop(struct moult_updates *updates, const char *why) {
    updates->stopping = true;
    updates->why_stopping = why;
    for (unsigned i = 0; i < updates->slots->count; i++) {
        if (updates->take_over[i] != NULL) {
            moult_update_end(updates->take_over[i], MOULT_UPDATE_CANCELLED, why);
            updates->take_over[i] = NULL;
        }
        if (updates->next[i] != NULL)
            moult_update_cancel(updates->next[i], why);
        if (updates->running[i] != NULL)
            moult_update_cancel(updates->running[i], why);
    }
    return !moult_updates_busy(updates) && updates->sweep == NULL;
}

void moult_updates_resume(struct moult_updates *updates) {
    updates->stopping = updates->guest = false;
    moult_updates_kick(updates);
}

void moult_updates_be_guest(struct moult_updates *updates, const char *why) {
    updates->stopping = updates->guest = true;
    updates->why_stopping = why;
}

void moult_updates_close_handles(struct moult_updates *updates) {
    uv_close((uv_handle_t *)&updates->kick, NULL);
}

void moult_updates_free(struct moult_updates *updates) {
    free(updates);
}
