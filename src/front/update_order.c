/* Orders: what begins an update, joins one, or ends one early, and who hears of its end.
 *
 * One update of a slot runs; one more may be next. An order for the same
 * place joins the one that runs as long as that has not finished reading the place; after that it
 * becomes the next, for the files may have changed since. An order for another
 * place supersedes both, or, where the running one already persists, becomes the next. */
#include "front/update_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

struct moult_update *moult_update_make(struct moult_updates *updates, struct moult_slot *slot,
                                       char *source) {
    struct moult_update *update = moult_allocate(1, sizeof *update);
    update->updates = updates;
    update->slot = slot;
    update->record = moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    MOULT_REQUIRE(update->record != NULL);
    update->id = ++updates->last_id;
    update->source = source;
    return update;
}

void moult_update_listen(struct moult_update *update, moult_update_listener call, void *context) {
    if (call == NULL)
        return;
    struct moult_update_waiting *listener = moult_allocate(1, sizeof *listener);
    *listener = (struct moult_update_waiting){call, context, update->listeners};
    update->listeners = listener;
}

static bool same_target(const struct moult_update *update, const char *source) {
    if (update->source == NULL || source == NULL)
        return update->source == source;
    return strcmp(update->source, source) == 0;
}

/* The one that an order of this target may join, or NULL. */
static struct moult_update *find_joinable(struct moult_updates *updates, unsigned at,
                                          const char *source) {
    struct moult_update *running = updates->running[at];
    struct moult_update *next = updates->next[at];
    if (next != NULL)
        return same_target(next, source) ? next : NULL;
    if (running == NULL || !same_target(running, source))
        return NULL;
    return source == NULL || running->phase <= MOULT_PHASE_FETCH ? running : NULL;
}

void moult_update_enqueue(struct moult_updates *updates, struct moult_update *update) {
    unsigned at = moult_updates_index(update->slot);
    struct moult_update *running = updates->running[at];
    struct moult_update *next = updates->next[at];
    updates->next[at] = NULL;
    if (next != NULL)
        moult_update_end(next, MOULT_UPDATE_SUPERSEDED, "A newer update took its place.");
    if (running == NULL) {
        updates->running[at] = update;
        moult_updates_kick(updates);
        return;
    }
    updates->next[at] = update;
    if (running->phase != MOULT_PHASE_PERSIST && !same_target(running, update->source))
        moult_update_end(running, MOULT_UPDATE_SUPERSEDED, "A newer update took its place.");
}

int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error) {
    unsigned at = moult_updates_index(order->slot);
    if (updates->stopping)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The server is shutting down.");
    struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), order->slot->name);
    if (order->rollback && record->previous.generation == 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s has no previous model to go back to.", order->slot->name);
    char *source = NULL;
    if (!order->rollback) {
        source = order->model == NULL
                     ? moult_copy_string(order->slot->source)
                     : moult_update_place(updates, order->slot, order->model, error);
        if (source == NULL)
            return -1;
    }
    struct moult_update *update = find_joinable(updates, at, source);
    if (update != NULL) {
        free(source);
    } else if (order->reject_if_busy && updates->running[at] != NULL) {
        free(source);
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Another update of %s is running.",
                          order->slot->name);
    } else {
        update = moult_update_make(updates, order->slot, source);
        moult_update_enqueue(updates, update);
    }
    update->force = update->force || order->force;
    moult_update_listen(update, listener, context);
    *id = update->id;
    return 0;
}

void moult_updates_forget(struct moult_updates *updates, uint64_t id,
                          moult_update_listener listener, void *context) {
    struct moult_update *update = moult_updates_find(updates, id);
    for (struct moult_update *ended = updates->ended; ended != NULL; ended = ended->next_ended)
        if (ended->id == id)
            update = ended;
    if (update == NULL)
        return;
    for (struct moult_update_waiting **at = &update->listeners; *at != NULL; at = &(*at)->next)
        if ((*at)->call == listener && (*at)->context == context) {
            struct moult_update_waiting *gone = *at;
            *at = gone->next;
            free(gone);
            return;
        }
}

bool moult_update_cancel(struct moult_update *update, const char *reason) {
    unsigned at = moult_updates_index(update->slot);
    if (update->phase == MOULT_PHASE_PERSIST)
        return false;
    if (update->updates->next[at] == update)
        update->updates->next[at] = NULL;
    moult_update_end(update, MOULT_UPDATE_CANCELLED, reason);
    return true;
}

bool moult_updates_cancel(struct moult_updates *updates, uint64_t id) {
    struct moult_update *update = moult_updates_find(updates, id);
    return update != NULL && moult_update_cancel(update, "It was cancelled.");
}

static void tell_listeners_of(struct moult_update *update) {
    struct moult_update_result result = {.id = update->id,
                                         .slot = update->slot,
                                         .status = update->status,
                                         .reason = update->reason};
    if (result.status == MOULT_UPDATE_LIVE || result.status == MOULT_UPDATE_UNCHANGED)
        result.generation = update->number;
    struct moult_update_waiting *listener;
    while ((listener = update->listeners) != NULL) {
        update->listeners = listener->next;
        listener->call(listener->context, &result);
        free(listener);
    }
}

void moult_updates_tell_listeners(struct moult_updates *updates) {
    struct moult_update *update;
    while ((update = updates->ended) != NULL) {
        tell_listeners_of(update);
        /* What they did may have ended others. */
        struct moult_update **at = &updates->ended;
        while (*at != update)
            at = &(*at)->next_ended;
        *at = update->next_ended;
        free(update->source);
        free(update->reason);
        free(update);
    }
}
