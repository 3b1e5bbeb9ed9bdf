/* What is done without an order: a current model that cannot be restored, or keeps dying, makes
 * way for the previous one. And the verification of installed files, which rollbacks share. */
#include "front/update_run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "source/source.h"

struct verification {
    uv_work_t work;
    struct moult_updates *updates;
    uint64_t id;                           /* The rollback that asks, … */
    struct moult_generation *generation;   /* … or the restored one; referenced. */
    char revision[MOULT_SHA256_HEX];
    int result;
    struct moult_error error;
};

static void judge_restored(struct moult_updates *updates, struct verification *verification);
static void take_over(struct moult_updates *updates, struct moult_slot *slot, const char *why,
                      const char *reason, moult_update_listener listener);

static void verify_on_pool(uv_work_t *work) {
    struct verification *verification = work->data;
    verification->result = moult_installed_verify(
        moult_keeper_data_folder(verification->updates->keeper), verification->revision,
        &verification->error);
}

static void on_verified(uv_work_t *work, int status) {
    struct verification *verification = work->data;
    struct moult_updates *updates = verification->updates;
    struct moult_update *update =
        moult_updates_find_in_phase(updates, verification->id, MOULT_PHASE_VERIFY);
    (void)status;
    updates->verifications--;
    if (verification->generation != NULL)
        judge_restored(updates, verification);
    else if (update != NULL)
        moult_update_verified(update, verification->result != 0 ? &verification->error : NULL);
    free(verification);
}

static struct verification *start_verification(struct moult_updates *updates,
                                               const char *revision) {
    struct verification *verification = moult_allocate(1, sizeof *verification);
    updates->verifications++;
    verification->work.data = verification;
    verification->updates = updates;
    memcpy(verification->revision, revision, sizeof verification->revision);
    int queued = uv_queue_work(updates->loop, &verification->work, verify_on_pool, on_verified);
    MOULT_REQUIRE(queued == 0);
    return verification;
}

void moult_update_verify(struct moult_update *update) {
    start_verification(update->updates, update->revision)->id = update->id;
}

/* A restored generation with another fingerprint than the state says: either its
 * files are whole, and this is another version of moult, or they are damaged. */
void moult_updates_on_differs(void *context, struct moult_generation *generation) {
    struct verification *verification = start_verification(context, generation->revision);
    moult_generation_hold(generation);
    verification->generation = generation;
}

static void correct(struct moult_state_model *model, const struct moult_generation *generation) {
    if (model->generation == generation->number)
        memcpy(model->fingerprint, generation->report.fingerprint, sizeof model->fingerprint);
}

/* Wherever the state has it: while an update persists, it is the previous one already. */
static void correct_fingerprint(struct moult_updates *updates,
                                const struct moult_generation *generation) {
    const struct moult_slot *slot = generation->slot;
    struct moult_update *running = updates->running[moult_updates_index(slot)];
    struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    moult_log_warning("%s had another fingerprint, and has %.8s with this version of moult.",
                      slot->name, generation->report.fingerprint);
    correct(&record->current, generation);
    correct(&record->previous, generation);
    if (running != NULL)
        correct(&running->before.current, generation);
    moult_keeper_save(updates->keeper, NULL, NULL, 0);
}

static void judge_restored(struct moult_updates *updates, struct verification *verification) {
    struct moult_generation *generation = verification->generation;
    struct moult_slot *slot = generation->slot;
    if (slot->current != generation) {
        /* It has been replaced meanwhile. */
    } else if (verification->result != 0) {
        moult_log_error("%s does not serve: %s", slot->name, verification->error.message);
        take_over(updates, slot, "the current model could not be restored.",
                  verification->error.message, updates->failed_event);
    } else {
        correct_fingerprint(updates, generation);
        moult_generation_accept(generation);
    }
    moult_generation_drop(generation);
}

static bool can_go_back(const struct moult_state_slot *record) {
    return record->previous.generation != 0 &&
           !moult_state_refused(record, record->previous.revision) &&
           strcmp(record->previous.revision, record->current.revision) != 0;
}

/* Gives it its place beside what runs. What only reads its place yet does so further, as the next;
 * what waits for a person gives up. What has got further is about to replace the current one
 * itself: the take-over waits, in case it fails. */
static void enqueue_take_over(struct moult_updates *updates, struct moult_update *update) {
    unsigned at = moult_updates_index(update->slot);
    const struct moult_update *running = updates->running[at];
    if (running == NULL || running->phase == MOULT_PHASE_READY) {
        moult_update_enqueue(updates, update);
    } else if (running->phase > MOULT_PHASE_FETCH) {
        updates->take_over[at] = update;
    } else {
        if (updates->next[at] != NULL)
            moult_update_end(updates->running[at], MOULT_UPDATE_SUPERSEDED,
                             "A newer update took its place.");
        updates->next[at] = updates->running[at];
        updates->running[at] = update;
        moult_updates_kick(updates);
    }
}

/* A rollback that nobody ordered; it is recorded like any other. Where there is nothing to go back
 * to, the listener, if any, hears so at once, or, where an update is under way, what comes of
 * that. */
static void take_over(struct moult_updates *updates, struct moult_slot *slot, const char *why,
                      const char *reason, moult_update_listener listener) {
    unsigned at = moult_updates_index(slot);
    struct moult_update *running = updates->running[at];
    if (updates->guest) {
        struct moult_update_result result = {
            .slot = slot, .status = MOULT_UPDATE_REFUSED, .reason = reason};
        updates->failed_event(updates->context, &result);
        return;
    }
    if (updates->stopping || updates->take_over[at] != NULL)
        return;
    if (running != NULL && running->source == NULL) {
        moult_update_listen(running, listener, updates->context);
        return;
    }
    if (can_go_back(moult_state_find(moult_keeper_state(updates->keeper), slot->name))) {
        struct moult_update *update =
            moult_update_make(updates, slot, NULL, MOULT_ASKED_BY_TAKE_OVER);
        snprintf(update->note, sizeof update->note, "Rolled back: %s %.300s", why, reason);
        moult_update_listen(update, listener, updates->context);
        enqueue_take_over(updates, update);
    } else if (running != NULL) {
        moult_update_listen(running, listener, updates->context);
    } else if (listener != NULL) {
        struct moult_update_result result = {
            .slot = slot, .status = MOULT_UPDATE_REFUSED, .reason = reason};
        listener(updates->context, &result);
    }
}

void moult_updates_on_keeps_dying(void *context, struct moult_generation *generation,
                                  const char *reason) {
    char why[96];
    snprintf(why, sizeof why, "generation %llu kept losing its worker.",
             (unsigned long long)generation->number);
    take_over(context, generation->slot, why, reason, NULL);
}
