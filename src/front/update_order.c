/* Orders: what begins an update, joins one, supersedes one, or ends one early.
 *
 * One update of a slot runs; one more may be next.
 *
 *   what runs, and where it is        an order for the same place     for another place
 *   ───────────────────────────────── ─────────────────────────────── ─────────────────────────────
 *   nothing                           runs                            runs
 *   it still reads the place          joins                           supersedes it
 *   further, but not yet persisting   comes next, for the files may   supersedes it
 *                                     have changed since
 *   it waits for a person             comes next, and reads: the same revision joins, another one
 *                                     supersedes, and where nothing can be read it goes on waiting
 *   it persists                       comes next                      comes next
 *
 * What comes next gives its place up to a newer order of another place. A rollback is a place of
 * its own, and supersedes what waits for a person at once. A poll supersedes nothing but what
 * waits for a person and came from the same place, by the row above. */
#include "front/update_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"

#define SUPERSEDED "A newer update took its place."

struct moult_update *moult_update_make(struct moult_updates *updates, struct moult_slot *slot,
                                       char *source, enum moult_update_asker asked_by) {
    struct moult_update *update = moult_allocate(1, sizeof *update);
    update->updates = updates;
    update->slot = slot;
    update->record = moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    MOULT_REQUIRE(update->record != NULL);
    update->id = ++updates->last_id;
    update->source = source;
    update->asked_by = asked_by;
    update->began_ns = update->phase_began_ns = moult_clock_ns();
    return update;
}

bool moult_update_is_manual(const struct moult_update *update) {
    if (update->cutover != MOULT_CUTOVER_DEFAULT)
        return update->cutover == MOULT_CUTOVER_MANUAL;
    return update->updates->slots->options->cutover_manual;
}

static bool same_place(const struct moult_update *update, const char *source) {
    if (update->source == NULL || source == NULL)
        return update->source == source;
    return strcmp(update->source, source) == 0;
}

static bool still_reads(const struct moult_update *update) {
    return update->phase <= MOULT_PHASE_FETCH && !update->fetched;
}

/* The one that an order of this place may join, or NULL. */
static struct moult_update *find_joinable(struct moult_updates *updates, unsigned at,
                                          const char *source) {
    struct moult_update *running = updates->running[at];
    struct moult_update *next = updates->next[at];
    struct moult_update *last = next != NULL ? next : running;
    if (last == NULL || !same_place(last, source))
        return NULL;
    return source == NULL || still_reads(last) ? last : NULL;
}

void moult_update_enqueue(struct moult_updates *updates, struct moult_update *update) {
    unsigned at = moult_updates_index(update->slot);
    struct moult_update *running = updates->running[at];
    if (updates->next[at] != NULL)
        moult_update_end(updates->next[at], MOULT_UPDATE_SUPERSEDED, SUPERSEDED);
    if (running == NULL) {
        updates->running[at] = update;
        moult_updates_kick(updates);
        return;
    }
    updates->next[at] = update;
    moult_updates_kick(updates);
    bool reads_first = running->phase == MOULT_PHASE_READY && update->source != NULL;
    if (!reads_first && running->phase != MOULT_PHASE_PERSIST &&
        !same_place(running, update->source))
        moult_update_end(running, MOULT_UPDATE_SUPERSEDED, SUPERSEDED);
}

/* What has fetched while another waited for a person, and found the same. */
static void join_ready(struct moult_update *ready, struct moult_update *newcomer) {
    struct moult_update_waiting **last = &ready->listeners;
    while (*last != NULL)
        last = &(*last)->next;
    *last = newcomer->listeners;
    newcomer->listeners = NULL;
    bool now = !newcomer->polled && !moult_update_is_manual(newcomer);
    moult_update_end(newcomer, MOULT_UPDATE_UNCHANGED, "Its revision was ready already.");
    if (now)
        moult_update_advance(ready);
}

/* A poll, which nobody asked for. */
static bool may_supersede(const struct moult_update *polled, const struct moult_update *ready) {
    return same_place(ready, polled->source) &&
           !moult_state_refused(polled->record, polled->revision);
}

bool moult_update_gets_its_turn(struct moult_update *update) {
    struct moult_updates *updates = update->updates;
    struct moult_update *running = updates->running[moult_updates_index(update->slot)];
    if (running == update)
        return true;
    if (running == NULL || running->phase != MOULT_PHASE_READY)
        return false;   /* on_kick() asks again. */
    if (!update->force && strcmp(running->revision, update->revision) == 0) {
        join_ready(running, update);
        return false;
    }
    if (update->polled && !may_supersede(update, running)) {
        moult_update_end(update, MOULT_UPDATE_UNCHANGED, "Another update waits for a person.");
        return false;
    }
    if (update->polled)
        update->cutover = running->cutover;   /* Who wanted to be asked still does. */
    moult_update_end(running, MOULT_UPDATE_SUPERSEDED,
                     same_place(running, update->source)
                         ? "Its source has something else now."
                         : SUPERSEDED);
    return true;
}

static int check_order(struct moult_updates *updates, const struct moult_update_order *order,
                       struct moult_error *error) {
    unsigned at = moult_updates_index(order->slot);
    const struct moult_update *running = updates->running[at];
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), order->slot->name);
    bool waits = running != NULL && running->phase == MOULT_PHASE_READY &&
                 updates->next[at] == NULL;
    if (updates->stopping)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%s", updates->why_stopping);
    if (order->rollback && record->previous.generation == 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s has no previous model to go back to.", order->slot->name);
    if (order->polled && running != NULL && !waits)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Another update of %s is running.",
                          order->slot->name);
    return 0;
}

static void join(struct moult_update *update, const struct moult_update_order *order) {
    update->force = update->force || order->force;
    if (order->cutover != MOULT_CUTOVER_DEFAULT)
        update->cutover = order->cutover;
    if (order->swap != MOULT_SWAP_DEFAULT)
        update->swap = order->swap;
    if (update->polled) {
        update->polled = false;
        update->asked_by = MOULT_ASKED_BY_PERSON;
    }
}

static struct moult_update *make_from(struct moult_updates *updates,
                                      const struct moult_update_order *order, char *source) {
    struct moult_update *update = moult_update_make(
        updates, order->slot, source,
        order->polled ? MOULT_ASKED_BY_POLL : MOULT_ASKED_BY_PERSON);
    update->force = order->force;
    update->named = order->model != NULL && strcmp(order->model, order->slot->source) != 0;
    update->polled = order->polled;
    update->cutover = order->cutover;
    update->swap = order->swap;
    return update;
}

int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error) {
    unsigned at = moult_updates_index(order->slot);
    if (check_order(updates, order, error) != 0)
        return -1;
    char *source = NULL;
    if (!order->rollback)
        source = moult_copy_string(order->model != NULL ? order->model : order->slot->source);
    struct moult_update *update = order->polled ? NULL : find_joinable(updates, at, source);
    if (update != NULL) {
        free(source);
        join(update, order);
    } else if (order->reject_if_busy && updates->running[at] != NULL) {
        free(source);
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Another update of %s is running.",
                          order->slot->name);
    } else {
        update = make_from(updates, order, source);
        moult_update_enqueue(updates, update);
    }
    moult_update_listen(update, listener, context);
    *id = update->id;
    return 0;
}

/* DELETE, and a person's word. */

static int fail_ended(struct moult_updates *updates, uint64_t id, struct moult_error *error) {
    struct moult_state *state = moult_keeper_state(updates->keeper);
    for (unsigned i = 0; i < state->count; i++) {
        const struct moult_state_event *event = moult_state_event_find(&state->slots[i], id);
        if (event != NULL)
            return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Update %llu has ended: %s.",
                              (unsigned long long)id, moult_update_status_name(event->result));
    }
    return moult_fail(error, MOULT_ERROR_MISSING, "There is no update %llu.",
                      (unsigned long long)id);
}

bool moult_update_cancel(struct moult_update *update, const char *reason) {
    if (update->phase == MOULT_PHASE_PERSIST)
        return false;
    moult_update_end(update, MOULT_UPDATE_CANCELLED, reason);
    return true;
}

int moult_updates_cancel(struct moult_updates *updates, uint64_t id, struct moult_error *error) {
    struct moult_update *update = moult_updates_find(updates, id);
    if (update == NULL)
        return fail_ended(updates, id, error);
    if (!moult_update_cancel(update, "It was cancelled."))
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "Update %llu cuts over just now: it is too late to cancel it.",
                          (unsigned long long)id);
    return 0;
}

int moult_updates_cut_over(struct moult_updates *updates, uint64_t id,
                           moult_update_listener listener, void *context,
                           struct moult_error *error) {
    struct moult_update *update = moult_updates_find(updates, id);
    if (update == NULL)
        return fail_ended(updates, id, error);
    update->cutover = MOULT_CUTOVER_AUTO;
    bool ready = update->phase == MOULT_PHASE_READY;
    /* Who waits for it to be ready need not wait any more, and hears of its end instead. */
    moult_update_listen(update, listener, context);
    if (ready)
        moult_update_advance(update);
    else if (update->comparison != NULL)
        moult_comparison_hurry(update->comparison);
    else if (update->trial != NULL)
        moult_update_hurry_trial(update);
    return 0;
}
