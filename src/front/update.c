/* Updates: the way from one generation of a slot to the next.
 *
 *   phase     what happens                             then
 *   ───────── ──────────────────────────────────────── ─────────────────────────────────────────
 *   queued    revisions are being cleared away         fetch; a rollback: verify, or reserve
 *   fetch     `moult pull` copies, hashes, installs    current revision: UNCHANGED;
 *                                                      a warm generation has it: reserve; else room
 *   verify    a rollback reads its files again         room
 *   room      three generations of the slot live       reserve, once one of them is gone
 *   reserve   the new number goes to the disk          load; a warm generation: persist
 *   load      the worker loads, checks, warms          persist, when it is ready
 *   persist   the new state goes to the disk           cut over: LIVE
 *
 * Until it persists, an update can be cancelled or superseded, and whatever
 * fails makes it REFUSED with the reason. Neither changes anything that serves.
 * While it persists it can do neither: the disk may already say that the new
 * one serves. Then comes the cut-over, one assignment in moult_slot_cut_over(): every
 * request that is handed over after it goes to the new generation. The old one
 * drains, stays warm and retires by itself (generation.c).
 *
 * Callbacks of the disk, of pull and of the pool name an update by its id: one
 * that has ended is not found, and what came for it is dropped. */
#include "front/update.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/update_run.h"

/* A worker needs its weights, and a little for tokenizer, scratch and answers. */
#define MEMORY_PER_MODEL_BYTE 1.3
#define MEMORY_BASE_BYTES (48 * MOULT_MIB)

static void choose_generation(struct moult_update *update);
static void reserve(struct moult_update *update);
static void load(struct moult_update *update);
static void cut_over(struct moult_update *update);

const char *moult_update_status_name(enum moult_update_status status) {
    static const char *const names[] = {"running", "live",       "unchanged",
                                        "refused", "superseded", "cancelled"};
    return names[status];
}

const char *moult_update_phase_name(enum moult_update_phase phase) {
    static const char *const names[] = {"queued",    "fetching", "verifying", "waiting for room",
                                        "reserving", "loading",  "persisting"};
    return names[phase];
}

/* Begin, fetch, verify. */

static void on_fetch_advanced(void *context, uint64_t id, double progress) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_FETCH);
    if (update != NULL)
        update->progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
}

static void on_fetch_ended(void *context, uint64_t id, const struct moult_fetch_result *result) {
    struct moult_updates *updates = context;
    struct moult_update *update = moult_updates_find_in_phase(updates, id, MOULT_PHASE_FETCH);
    updates->fetches--;
    updates->sweep_wanted = true;
    if (update == NULL) {
        moult_updates_kick(updates);
        return;
    }
    update->fetch = NULL;
    if (result->revision[0] == '\0') {
        moult_update_end(update, MOULT_UPDATE_REFUSED, result->error.message);
        return;
    }
    memcpy(update->revision, result->revision, sizeof update->revision);
    update->bytes = result->bytes;
    const struct moult_state_model *current = &update->record->current;
    if (!update->force && current->generation != 0 && update->slot->current != NULL &&
        strcmp(current->revision, update->revision) == 0) {
        update->number = current->generation;
        moult_update_end(update, MOULT_UPDATE_UNCHANGED, "");
        return;
    }
    choose_generation(update);
}

static void fetch(struct moult_update *update) {
    static const struct moult_fetch_events events = {on_fetch_advanced, on_fetch_ended};
    struct moult_updates *updates = update->updates;
    struct moult_error error;
    update->phase = MOULT_PHASE_FETCH;
    update->fetch =
        moult_fetch_start(updates->loop, moult_keeper_data_folder(updates->keeper), update->source,
                          &events, updates, update->id, &error);
    if (update->fetch == NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        updates->fetches++;
}

static void verify(struct moult_update *update) {
    update->phase = MOULT_PHASE_VERIFY;
    moult_update_verify(update);
}

void moult_update_verified(struct moult_update *update, const struct moult_error *error) {
    if (error == NULL)
        moult_update_try_room(update);
    else
        moult_update_end(update, MOULT_UPDATE_REFUSED, error->message);
}

void moult_update_begin(struct moult_update *update) {
    if (update->source != NULL) {
        fetch(update);
        return;
    }
    if (update->record->previous.generation == 0) {
        moult_update_end(update, MOULT_UPDATE_REFUSED, "There is no previous model to go back to.");
        return;
    }
    memcpy(update->revision, update->record->previous.revision, sizeof update->revision);
    if (update->note[0] == '\0')
        snprintf(update->note, sizeof update->note, "Rolled back from generation %llu.",
                 (unsigned long long)update->record->current.generation);
    choose_generation(update);
}

/* A worker that is still warm has all of it ready. */
static void choose_generation(struct moult_update *update) {
    struct moult_generation *warm =
        update->force ? NULL : moult_slot_find_warm(update->slot, update->revision);
    if (warm != NULL) {
        moult_generation_hold(warm);
        warm->kept = true;
        update->candidate = warm;
        reserve(update);
    } else if (update->source == NULL) {
        verify(update);
    } else {
        moult_update_try_room(update);
    }
}

/* Room, number, load. */

void moult_update_try_room(struct moult_update *update) {
    update->phase = MOULT_PHASE_ROOM;
    update->progress = 0;
    /* Making it may have come back to here already. */
    if (moult_slot_make_room(update->slot) && update->phase == MOULT_PHASE_ROOM)
        reserve(update);
}

static void on_reserved(void *context, uint64_t id, const struct moult_error *error) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_RESERVE);
    if (update == NULL)
        return;
    if (error != NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error->message);
    else if (update->candidate != NULL)
        moult_update_persist(update);
    else
        load(update);
}

static void reserve(struct moult_update *update) {
    update->phase = MOULT_PHASE_RESERVE;
    update->number = update->record->next_generation++;
    moult_keeper_save(update->updates->keeper, on_reserved, update->updates, update->id);
}

/* A candidate that does not fit would be killed, or, in a container, everything with it. */
static int check_memory(const struct moult_update *update, struct moult_error *error) {
    uint64_t needed = (uint64_t)((double)update->bytes * MEMORY_PER_MODEL_BYTE) + MEMORY_BASE_BYTES;
    uint64_t available = moult_machine_memory_free_bytes();
    if (needed <= available)
        return 0;
    return moult_fail(error, MOULT_ERROR_SYSTEM,
                      "The model needs about %llu MiB of memory beside what is running, and only "
                      "%llu MiB are free.",
                      (unsigned long long)(needed >> 20), (unsigned long long)(available >> 20));
}

static void load(struct moult_update *update) {
    struct moult_error error;
    update->phase = MOULT_PHASE_LOAD;
    if (check_memory(update, &error) != 0) {
        moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
        return;
    }
    struct moult_state_model model = {.generation = update->number};
    memcpy(model.revision, update->revision, sizeof model.revision);
    update->candidate =
        moult_generation_open(update->slot, &model, MOULT_GENERATION_CANDIDATE, &error);
    if (update->candidate == NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        moult_generation_hold(update->candidate);
}

void moult_update_candidate_failed(struct moult_update *update, const char *reason) {
    if (update->phase == MOULT_PHASE_PERSIST)
        return;   /* on_persisted() will see that it is not ready. */
    moult_state_refuse(update->record, update->revision);
    moult_update_end(update, MOULT_UPDATE_REFUSED, reason);
}

/* Persist and cut over. */

static void on_persisted(void *context, uint64_t id, const struct moult_error *error) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_PERSIST);
    MOULT_REQUIRE(update != NULL);
    moult_fault_point("state-after");
    struct moult_state_slot *record = update->record;
    if (error == NULL && update->candidate->ready) {
        cut_over(update);
        return;
    }
    record->current = update->current_before;
    record->previous = update->previous_before;
    moult_update_end(update, MOULT_UPDATE_REFUSED,
        error != NULL ? error->message : "Its worker ended just before it would have served.");
}

void moult_update_persist(struct moult_update *update) {
    struct moult_state_slot *record = update->record;
    update->phase = MOULT_PHASE_PERSIST;
    update->current_before = record->current;
    update->previous_before = record->previous;
    /* The same files once more leave the previous ones where they are. */
    if (strcmp(record->current.revision, update->revision) != 0)
        record->previous = record->current;
    record->current.generation = update->number;
    record->current.since = (uint64_t)time(NULL);
    memcpy(record->current.revision, update->revision, sizeof update->revision);
    memcpy(record->current.fingerprint, update->candidate->fingerprint,
           sizeof record->current.fingerprint);
    moult_state_forgive(record, update->revision);
    if (update->source == NULL)
        moult_state_refuse(record, update->current_before.revision);
    moult_state_note(record, update->id, update->number, MOULT_UPDATE_LIVE, update->note,
                     record->current.since);
    moult_keeper_save(update->updates->keeper, on_persisted, update->updates, update->id);
}

static void cut_over(struct moult_update *update) {
    struct moult_generation *candidate = update->candidate;
    candidate->kept = false;
    moult_generation_set_number(candidate, update->number);
    moult_slot_cut_over(update->slot, candidate);
    moult_fault_point("cutover-after");
    moult_updates_tell_serving(update->updates, update->slot);
    moult_update_end(update, MOULT_UPDATE_LIVE, update->note);
}

/* The end, of whichever kind. */

static void note_end(struct moult_update *update, enum moult_update_status status,
                     const char *reason) {
    struct moult_state_event *event = moult_state_event_find(update->record, update->id);
    uint64_t generation = status == MOULT_UPDATE_LIVE || status == MOULT_UPDATE_UNCHANGED
                              ? update->number : 0;
    if (event == NULL) {
        moult_state_note(update->record, update->id, generation, status, reason,
                         (uint64_t)time(NULL));
    } else if (event->result != status) {
        free(event->reason);
        event->reason = moult_copy_string(reason);
        event->result = status;
        event->generation = generation;
    }
    if (status != MOULT_UPDATE_LIVE)
        moult_keeper_save(update->updates->keeper, NULL, NULL, 0);
    moult_log(status == MOULT_UPDATE_REFUSED ? MOULT_LOG_WARNING : MOULT_LOG_INFO,
              "Update %llu of %s: %s, generation %llu.%s%s", (unsigned long long)update->id,
              update->slot->name, moult_update_status_name(status),
              (unsigned long long)update->number, reason[0] != '\0' ? " " : "", reason);
}

/* Whatever it still holds and does not serve. */
static void let_go(struct moult_update *update, enum moult_update_status status) {
    if (update->fetch != NULL)
        moult_fetch_cancel(update->fetch);
    if (update->candidate == NULL)
        return;
    if (update->candidate->kept)
        update->candidate->kept = false;   /* It stays as warm as it was. */
    else if (status != MOULT_UPDATE_LIVE && update->candidate->phase != MOULT_GENERATION_GONE)
        moult_generation_retire(update->candidate);
    moult_slots_wake_by(update->updates->slots, moult_clock_ns());
    moult_generation_drop(update->candidate);
}

void moult_update_end(struct moult_update *update, enum moult_update_status status,
                      const char *reason) {
    struct moult_updates *updates = update->updates;
    unsigned at = moult_updates_index(update->slot);
    if (updates->running[at] == update) {
        updates->running[at] = updates->next[at];
        updates->next[at] = NULL;
    }
    update->status = status;
    update->reason = moult_copy_string(reason);
    update->next_ended = updates->ended;
    updates->ended = update;
    updates->sweep_wanted = true;
    note_end(update, status, reason);
    let_go(update, status);
    moult_updates_kick(updates);
}
