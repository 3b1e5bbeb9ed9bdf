/* Swap: an update where two models do not fit into the memory at once (--swap wait).
 *
 *     serving ──> the old one finishes ──> its worker ends ──> a candidate loads ──> cut-over
 *        ^        what it has begun              │                   │
 *        └────────────────────────── recalled <──┴── fails, or is cancelled
 *
 * Meanwhile requests are admitted as before and wait in the queue of the slot, or, where they name
 * the old model exactly, in its own. They may be more than --max-waiting: then what bounds them is
 * the budget of body bytes, which holds back reading. After the cut-over the new generation works
 * the queue off. Where there is none, the old model gets a worker again, whatever the machine
 * says, and answers the same requests: nothing is lost but time. A front that is killed
 * meanwhile has written nothing, and starts with the old model.
 *
 * Requests that name the old model by name@fp8 wait for it: after the cut-over it is a model that
 * sleeps, and is given a worker for them where there is room (sleep.c). */
#include "base/log.h"
#include "front/update_run.h"

bool moult_update_swaps(const struct moult_update *update) {
    bool wait = update->swap == MOULT_SWAP_DEFAULT ? update->updates->slots->options->swap_wait
                                                   : update->swap == MOULT_SWAP_WAIT;
    return wait && moult_slot_current(update->slot) != NULL;
}

static bool is_draining(const struct moult_slot *slot) {
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (slot->generations[i]->phase == MOULT_GENERATION_DRAINING)
            return true;
    return false;
}

static bool has_workers(const struct moult_slot *slot) {
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (slot->generations[i]->process != NULL)
            return true;
    return false;
}

static void unload_all(struct moult_slot *slot) {
    slot->swapping = true;
    /* One may leave while it is put to sleep; from last to first none is missed. */
    for (unsigned i = slot->generation_count; i-- > 0;)
        if (i < slot->generation_count)
            moult_generation_sleep(slot->generations[i]);
}

void moult_update_try_swap(struct moult_update *update) {
    struct moult_slot *slot = update->slot;
    struct moult_error error;
    if (!update->swapping) {
        if (is_draining(slot))
            return;   /* Somebody may have stragglers: nobody shall wait for those. */
        if (moult_room_is_hopeless(slot, update->bytes, &error)) {
            moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
            return;
        }
        moult_log_info("Update %llu of %s makes room: requests wait until the new model serves.",
                       (unsigned long long)update->id, slot->name);
        update->swapping = true;
        unload_all(slot);
    }
    if (!has_workers(slot))
        moult_update_try_room(update);
}

void moult_update_end_swap(struct moult_update *update) {
    struct moult_slot *slot = update->slot;
    if (!update->swapping)
        return;
    update->swapping = slot->swapping = false;
    if (update->status != MOULT_UPDATE_LIVE && slot->current != NULL)
        moult_generation_recall(slot->current);
    moult_slots_wake_by(slot->slots, 0);
}
