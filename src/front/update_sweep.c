/* Clearing away: which installed revisions and which vectors are still wanted, and when the rest
 * may go. */
#include "front/update_run.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static void keep(char (*kept)[MOULT_SHA256_HEX], unsigned *count, const char *revision) {
    if (revision[0] != '\0')
        memcpy(kept[(*count)++], revision, MOULT_SHA256_HEX);
}

static void on_swept(void *context) {
    struct moult_updates *updates = context;
    updates->sweep = NULL;
    moult_updates_kick(updates);
}

/* The vectors of whatever may serve again stay, and those of an update that was broken off, until
 * one goes live: when it is tried again, it goes on with them. */
static void sweep_vectors(struct moult_updates *updates, const struct moult_slot *slot) {
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    unsigned count = 0, most = 2 + MOULT_KEPT_MAX + slot->generation_count;
    char(*kept)[MOULT_SHA256_HEX] = moult_allocate(most, sizeof *kept);
    keep(kept, &count, record->current.fingerprint);
    keep(kept, &count, record->previous.fingerprint);
    for (unsigned k = 0; k < record->kept.count; k++)
        keep(kept, &count, record->kept.models[k].fingerprint);
    for (unsigned g = 0; g < slot->generation_count; g++)
        keep(kept, &count, slot->generations[g]->fingerprint);
    moult_followers_sweep(updates->slots->followers, slot, kept, count,
                          !updates->is_complete[moult_updates_index(slot)]);
    free(kept);
}

void moult_updates_try_sweep(struct moult_updates *updates) {
    if (!updates->sweep_wanted || updates->sweep != NULL || updates->stopping ||
        moult_updates_busy(updates))
        return;
    updates->sweep_wanted = false;
    for (unsigned i = 0; updates->slots->followers != NULL && i < updates->slots->count; i++)
        sweep_vectors(updates, &updates->slots->slots[i]);
    const struct moult_state *state = moult_keeper_state(updates->keeper);
    unsigned count = 0;
    unsigned most = (2 + MOULT_KEPT_MAX) * state->count;
    for (unsigned i = 0; i < updates->slots->count; i++)
        most += updates->slots->slots[i].generation_count;
    char(*kept)[MOULT_SHA256_HEX] = moult_allocate(most, sizeof *kept);
    for (unsigned i = 0; i < state->count; i++) {
        keep(kept, &count, state->slots[i].current.revision);
        keep(kept, &count, state->slots[i].previous.revision);
        for (unsigned k = 0; k < state->slots[i].kept.count; k++)
            keep(kept, &count, state->slots[i].kept.models[k].revision);
    }
    for (unsigned i = 0; i < updates->slots->count; i++)
        for (unsigned g = 0; g < updates->slots->slots[i].generation_count; g++)
            keep(kept, &count, updates->slots->slots[i].generations[g]->revision);
    updates->sweep = moult_sweep_start(updates->loop, moult_keeper_models_folder(updates->keeper),
                                       kept, count, on_swept, updates);
}
