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
 * One update of a slot runs; one more may be next. An order for the same
 * place joins the one that runs as long as that has not finished reading the place; after that it
 * becomes the next, for the files may have changed since. An order for another
 * place supersedes both, or, where the running one already persists, becomes the next.
 *
 * Callbacks of the disk, of pull and of the pool name an update by its id: one
 * that has ended is not found, and what came for it is dropped. */
#include "front/update.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/fetch.h"
#include "front/keeper.h"
#include "front/slot.h"
#include "front/sweep.h"
#include "source/source.h"

/* A worker needs its weights, and a little for tokenizer, scratch and answers. */
#define MEMORY_PER_MODEL_BYTE 1.3
#define MEMORY_BASE_BYTES (48 * MOULT_MIB)

#define NOTE_BYTES 512

enum phase { QUEUED, FETCH, VERIFY, ROOM, RESERVE, LOAD, PERSIST };
static const char *const phase_names[] = {"queued",  "fetching", "verifying", "waiting for room",
                                          "reserving", "loading",  "persisting"};

struct listener {
    moult_update_listener call;
    void *context;
    struct listener *next;
};

struct update {
    struct moult_updates *updates;
    struct moult_slot *slot;
    struct moult_state_slot *record;
    uint64_t id;
    enum phase phase;
    double progress;                     /* Of the phase. */
    char *source;                        /* NULL: a rollback. */
    bool force;
    char note[NOTE_BYTES];/* The reason of a LIVE one: "", or why it was rolled back. */
    struct moult_fetch *fetch;           /* While it fetches. */
    char revision[MOULT_SHA256_HEX];
    uint64_t bytes;
    uint64_t number;
    struct moult_generation *candidate;  /* Referenced. */
    struct moult_state_model current_before, previous_before;
    struct listener *listeners;
    /* Once it has ended, until its listeners have been told. */
    enum moult_update_status status;
    char *reason;
    struct update *next_ended;
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
    struct update *ended;
    bool serving[MOULT_SLOTS_MAX];
    struct update *running[MOULT_SLOTS_MAX], *next[MOULT_SLOTS_MAX];
};

static void begin(struct update *update);
static void choose_generation(struct update *update);
static void try_room(struct update *update);
static void reserve(struct update *update);
static void load(struct update *update);
static void persist(struct update *update);
static void cut_over(struct update *update);
static void end(struct update *update, enum moult_update_status status, const char *reason);
static void kick(struct moult_updates *updates);
static void tell_listeners(struct moult_updates *updates);
static void try_sweep(struct moult_updates *updates);

const char *moult_update_status_name(enum moult_update_status status) {
    static const char *const names[] = {"running", "live",       "unchanged",
                                        "refused", "superseded", "cancelled"};
    return names[status];
}

static unsigned index_of(const struct moult_slot *slot) {
    return (unsigned)(slot - slot->slots->slots);
}

static struct update *find_running(struct moult_updates *updates, uint64_t id) {
    for (unsigned i = 0; i < updates->slots->count; i++)
        if (updates->running[i] != NULL && updates->running[i]->id == id)
            return updates->running[i];
    return NULL;
}

static struct update *find_phase(struct moult_updates *updates, uint64_t id, enum phase phase) {
    struct update *update = find_running(updates, id);
    return update != NULL && update->phase == phase ? update : NULL;
}

/* Orders. */

static bool within(const char *path, const char *folder) {
    size_t size = strlen(folder);
    while (size > 1 && folder[size - 1] == '/')
        size--;
    if (strncmp(path, folder, size) != 0)
        return false;
    return size == 1 || path[size] == '/' || path[size] == '\0';
}

/* Callers name paths: none may lead out of what the operator has allowed, not
 * by "..", nor by a link. A place that does not exist is judged by its name, so that its
 * absence becomes the reason of a refusal. Returns a malloc'ed path or NULL. */
static char *allowed_place(struct moult_updates *updates, struct moult_slot *slot,
                           const char *model, struct moult_error *error) {
    const struct moult_serve_options *options = updates->slots->options;
    if (strcmp(model, slot->source) == 0)
        return moult_copy_string(model);
    char real[PATH_MAX];
    const char *place = realpath(model, real) != NULL ? real : model;
    bool plain = place == real || (model[0] == '/' && strstr(model, "/..") == NULL);
    if (plain && strcmp(place, slot->source) == 0)
        return moult_copy_string(place);
    for (unsigned i = 0; plain && i < options->allowed_source_count; i++)
        if (within(place, options->allowed_sources[i]))
            return moult_copy_string(place);
    moult_fail(error, MOULT_ERROR_INVALID,
               "Models are taken from the slot's own source and from places below "
               "--allow-model-from; \"%.200s\" is neither.",
               model);
    return NULL;
}

static void listen_to(struct update *update, moult_update_listener call, void *context) {
    if (call == NULL)
        return;
    struct listener *listener = moult_allocate(1, sizeof *listener);
    *listener = (struct listener){call, context, update->listeners};
    update->listeners = listener;
}

static struct update *make_update(struct moult_updates *updates, struct moult_slot *slot,
                                  char *source) {
    struct update *update = moult_allocate(1, sizeof *update);
    update->updates = updates;
    update->slot = slot;
    update->record = moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    MOULT_REQUIRE(update->record != NULL);
    update->id = ++updates->last_id;
    update->source = source;
    return update;
}

static bool same_target(const struct update *update, const char *source) {
    if (update->source == NULL || source == NULL)
        return update->source == source;
    return strcmp(update->source, source) == 0;
}

/* The one that an order of this target may join, or NULL. */
static struct update *find_joinable(struct moult_updates *updates, unsigned at,
                                    const char *source) {
    struct update *running = updates->running[at];
    struct update *next = updates->next[at];
    if (next != NULL)
        return same_target(next, source) ? next : NULL;
    if (running == NULL || !same_target(running, source))
        return NULL;
    return source == NULL || running->phase <= FETCH ? running : NULL;
}

/* Puts a new update in its place: it runs, or comes next. */
static void enqueue(struct moult_updates *updates, struct update *update) {
    unsigned at = index_of(update->slot);
    struct update *running = updates->running[at];
    struct update *next = updates->next[at];
    updates->next[at] = NULL;
    if (next != NULL)
        end(next, MOULT_UPDATE_SUPERSEDED, "A newer update took its place.");
    if (running == NULL) {
        updates->running[at] = update;
        kick(updates);
        return;
    }
    updates->next[at] = update;
    if (running->phase != PERSIST && !same_target(running, update->source))
        end(running, MOULT_UPDATE_SUPERSEDED, "A newer update took its place.");
}

int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error) {
    unsigned at = index_of(order->slot);
    if (updates->stopping)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The server is shutting down.");
    struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), order->slot->name);
    if (order->rollback && record->previous.generation == 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s has no previous model to go back to.", order->slot->name);
    char *source = NULL;
    if (!order->rollback) {
        source = order->model == NULL ? moult_copy_string(order->slot->source)
                                      : allowed_place(updates, order->slot, order->model, error);
        if (source == NULL)
            return -1;
    }
    struct update *update = find_joinable(updates, at, source);
    if (update != NULL) {
        free(source);
    } else if (order->reject_if_busy && updates->running[at] != NULL) {
        free(source);
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Another update of %s is running.",
                          order->slot->name);
    } else {
        update = make_update(updates, order->slot, source);
        enqueue(updates, update);
    }
    update->force = update->force || order->force;
    listen_to(update, listener, context);
    *id = update->id;
    return 0;
}

static struct update *find_unended(struct moult_updates *updates, uint64_t id) {
    for (unsigned i = 0; i < updates->slots->count; i++)
        if (updates->next[i] != NULL && updates->next[i]->id == id)
            return updates->next[i];
    return find_running(updates, id);
}

void moult_updates_forget(struct moult_updates *updates, uint64_t id,
                          moult_update_listener listener, void *context) {
    struct update *update = find_unended(updates, id);
    for (struct update *ended = updates->ended; ended != NULL; ended = ended->next_ended)
        if (ended->id == id)
            update = ended;
    if (update == NULL)
        return;
    for (struct listener **at = &update->listeners; *at != NULL; at = &(*at)->next)
        if ((*at)->call == listener && (*at)->context == context) {
            struct listener *gone = *at;
            *at = gone->next;
            free(gone);
            return;
        }
}

static bool cancel(struct update *update, const char *reason) {
    unsigned at = index_of(update->slot);
    if (update->phase == PERSIST)
        return false;
    if (update->updates->next[at] == update)
        update->updates->next[at] = NULL;
    end(update, MOULT_UPDATE_CANCELLED, reason);
    return true;
}

bool moult_updates_cancel(struct moult_updates *updates, uint64_t id) {
    struct update *update = find_unended(updates, id);
    return update != NULL && cancel(update, "It was cancelled.");
}

/* Begin, fetch, verify. */

static void on_kick(uv_timer_t *timer) {
    struct moult_updates *updates = timer->data;
    tell_listeners(updates);
    for (unsigned i = 0; i < updates->slots->count; i++)
        if (updates->running[i] != NULL && updates->running[i]->phase == ROOM)
            try_room(updates->running[i]);
    for (unsigned i = 0; i < updates->slots->count && updates->sweep == NULL; i++)
        if (updates->running[i] != NULL && updates->running[i]->phase == QUEUED)
            begin(updates->running[i]);
    try_sweep(updates);
}

static void kick(struct moult_updates *updates) {
    if (!uv_is_closing((uv_handle_t *)&updates->kick))
        uv_timer_start(&updates->kick, on_kick, 0, 0);
}

static void on_fetch_advanced(void *context, uint64_t id, double progress) {
    struct update *update = find_phase(context, id, FETCH);
    if (update != NULL)
        update->progress = progress < 0 ? 0 : progress > 1 ? 1 : progress;
}

static void on_fetch_ended(void *context, uint64_t id, const struct moult_fetch_result *result) {
    struct moult_updates *updates = context;
    struct update *update = find_phase(updates, id, FETCH);
    updates->fetches--;
    updates->sweep_wanted = true;
    if (update == NULL) {
        kick(updates);
        return;
    }
    update->fetch = NULL;
    if (result->revision[0] == '\0') {
        end(update, MOULT_UPDATE_REFUSED, result->error.message);
        return;
    }
    memcpy(update->revision, result->revision, sizeof update->revision);
    update->bytes = result->bytes;
    const struct moult_state_model *current = &update->record->current;
    if (!update->force && current->generation != 0 && update->slot->current != NULL &&
        strcmp(current->revision, update->revision) == 0) {
        update->number = current->generation;
        end(update, MOULT_UPDATE_UNCHANGED, "");
        return;
    }
    choose_generation(update);
}

static void fetch(struct update *update) {
    static const struct moult_fetch_events events = {on_fetch_advanced, on_fetch_ended};
    struct moult_updates *updates = update->updates;
    struct moult_error error;
    update->phase = FETCH;
    update->fetch =
        moult_fetch_start(updates->loop, moult_keeper_data_folder(updates->keeper), update->source,
                          &events, updates, update->id, &error);
    if (update->fetch == NULL)
        end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        updates->fetches++;
}

struct verification;
static void judge_restored(struct moult_updates *updates, struct verification *verification);

struct verification {
    uv_work_t work;
    struct moult_updates *updates;
    uint64_t id;                           /* The rollback that asks, … */
    struct moult_generation *generation;   /* … or the restored one; referenced. */
    char revision[MOULT_SHA256_HEX];
    int result;
    struct moult_error error;
};

static void verify_on_pool(uv_work_t *work) {
    struct verification *verification = work->data;
    verification->result = moult_installed_verify(
        moult_keeper_data_folder(verification->updates->keeper), verification->revision,
        &verification->error);
}

static void on_verified(uv_work_t *work, int status) {
    struct verification *verification = work->data;
    struct moult_updates *updates = verification->updates;
    struct update *update = find_phase(updates, verification->id, VERIFY);
    (void)status;
    updates->verifications--;
    if (verification->generation != NULL)
        judge_restored(updates, verification);
    else if (update != NULL && verification->result == 0)
        try_room(update);
    else if (update != NULL)
        end(update, MOULT_UPDATE_REFUSED, verification->error.message);
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

static void verify(struct update *update) {
    update->phase = VERIFY;
    start_verification(update->updates, update->revision)->id = update->id;
}

static void begin(struct update *update) {
    if (update->source != NULL) {
        fetch(update);
        return;
    }
    if (update->record->previous.generation == 0) {
        end(update, MOULT_UPDATE_REFUSED, "There is no previous model to go back to.");
        return;
    }
    memcpy(update->revision, update->record->previous.revision, sizeof update->revision);
    if (update->note[0] == '\0')
        snprintf(update->note, sizeof update->note, "Rolled back from generation %llu.",
                 (unsigned long long)update->record->current.generation);
    choose_generation(update);
}

/* A worker that is still warm has all of it ready. */
static void choose_generation(struct update *update) {
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
        try_room(update);
    }
}

/* Room, number, load. */

static void try_room(struct update *update) {
    update->phase = ROOM;
    update->progress = 0;
    /* Making it may have come back to here already. */
    if (moult_slot_make_room(update->slot) && update->phase == ROOM)
        reserve(update);
}

static void on_reserved(void *context, uint64_t id, const struct moult_error *error) {
    struct update *update = find_phase(context, id, RESERVE);
    if (update == NULL)
        return;
    if (error != NULL)
        end(update, MOULT_UPDATE_REFUSED, error->message);
    else if (update->candidate != NULL)
        persist(update);
    else
        load(update);
}

static void reserve(struct update *update) {
    update->phase = RESERVE;
    update->number = update->record->next_generation++;
    moult_keeper_save(update->updates->keeper, on_reserved, update->updates, update->id);
}

/* A candidate that does not fit would be killed, or, in a container, everything with it. */
static int check_memory(const struct update *update, struct moult_error *error) {
    uint64_t needed = (uint64_t)((double)update->bytes * MEMORY_PER_MODEL_BYTE) + MEMORY_BASE_BYTES;
    uint64_t available = moult_machine_memory_free_bytes();
    if (needed <= available)
        return 0;
    return moult_fail(error, MOULT_ERROR_SYSTEM,
                      "The model needs about %llu MiB of memory beside what is running, and only "
                      "%llu MiB are free.",
                      (unsigned long long)(needed >> 20), (unsigned long long)(available >> 20));
}

static void load(struct update *update) {
    struct moult_error error;
    update->phase = LOAD;
    if (check_memory(update, &error) != 0) {
        end(update, MOULT_UPDATE_REFUSED, error.message);
        return;
    }
    struct moult_state_model model = {.generation = update->number};
    memcpy(model.revision, update->revision, sizeof model.revision);
    update->candidate =
        moult_generation_open(update->slot, &model, MOULT_GENERATION_CANDIDATE, &error);
    if (update->candidate == NULL)
        end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        moult_generation_hold(update->candidate);
}

static void on_candidate_failed(void *context, struct moult_generation *generation,
                                const char *reason) {
    struct moult_updates *updates = context;
    struct update *update = updates->running[index_of(generation->slot)];
    if (update == NULL || update->candidate != generation || update->phase == PERSIST)
        return;   /* Nobody's, or on_persisted() will see that it is not ready. */
    moult_state_refuse(update->record, update->revision);
    end(update, MOULT_UPDATE_REFUSED, reason);
}

/* Persist and cut over. */

static struct moult_state_event *find_event(struct moult_state_slot *record, uint64_t id) {
    for (unsigned i = record->history_count; i-- > 0;)
        if (record->history[i].id == id)
            return &record->history[i];
    return NULL;
}

static void on_persisted(void *context, uint64_t id, const struct moult_error *error) {
    struct update *update = find_phase(context, id, PERSIST);
    MOULT_REQUIRE(update != NULL);
    moult_fault_point("state-after");
    struct moult_state_slot *record = update->record;
    if (error == NULL && update->candidate->ready) {
        cut_over(update);
        return;
    }
    record->current = update->current_before;
    record->previous = update->previous_before;
    end(update, MOULT_UPDATE_REFUSED,
        error != NULL ? error->message : "Its worker ended just before it would have served.");
}

static void persist(struct update *update) {
    struct moult_state_slot *record = update->record;
    update->phase = PERSIST;
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

static void tell_serving(struct moult_updates *updates, struct moult_slot *slot) {
    bool *serving = &updates->serving[index_of(slot)];
    if (*serving)
        return;
    *serving = true;
    updates->serving_event(updates->context, slot);
}

static void cut_over(struct update *update) {
    struct moult_generation *candidate = update->candidate;
    candidate->kept = false;
    moult_generation_set_number(candidate, update->number);
    moult_slot_cut_over(update->slot, candidate);
    moult_fault_point("cutover-after");
    tell_serving(update->updates, update->slot);
    end(update, MOULT_UPDATE_LIVE, update->note);
}

/* The end, of whichever kind. */

static void note_end(struct update *update, enum moult_update_status status, const char *reason) {
    struct moult_state_event *event = find_event(update->record, update->id);
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
static void let_go(struct update *update, enum moult_update_status status) {
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

/* Its listeners are told from the loop, for what they do may start the next update. */
static void end(struct update *update, enum moult_update_status status, const char *reason) {
    struct moult_updates *updates = update->updates;
    unsigned at = index_of(update->slot);
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
    kick(updates);
}

static void tell_listeners_of(struct update *update) {
    struct moult_update_result result = {.id = update->id,
                                         .slot = update->slot,
                                         .status = update->status,
                                         .reason = update->reason};
    if (result.status == MOULT_UPDATE_LIVE || result.status == MOULT_UPDATE_UNCHANGED)
        result.generation = update->number;
    struct listener *listener;
    while ((listener = update->listeners) != NULL) {
        update->listeners = listener->next;
        listener->call(listener->context, &result);
        free(listener);
    }
}

static void tell_listeners(struct moult_updates *updates) {
    struct update *update;
    while ((update = updates->ended) != NULL) {
        tell_listeners_of(update);
        /* What they did may have ended others. */
        struct update **at = &updates->ended;
        while (*at != update)
            at = &(*at)->next_ended;
        *at = update->next_ended;
        free(update->source);
        free(update->reason);
        free(update);
    }
}

/* What the slots tell. */

static void on_ready(void *context, struct moult_generation *generation) {
    struct moult_updates *updates = context;
    struct moult_slot *slot = generation->slot;
    struct update *update = updates->running[index_of(slot)];
    if (update != NULL && update->candidate == generation && update->phase == LOAD) {
        persist(update);
        return;
    }
    if (slot->current == generation)
        tell_serving(updates, slot);
}

/* A restored generation with another fingerprint than the state says: either its
 * files are whole, and this is another version of moult, or they are damaged. */
static void on_differs(void *context, struct moult_generation *generation) {
    struct verification *verification = start_verification(context, generation->revision);
    moult_generation_hold(generation);
    verification->generation = generation;
}

static void take_over(struct moult_updates *updates, struct moult_slot *slot, const char *why,
                      const char *reason, moult_update_listener listener);

static void judge_restored(struct moult_updates *updates, struct verification *verification) {
    struct moult_generation *generation = verification->generation;
    struct moult_slot *slot = generation->slot;
    struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    if (slot->current != generation) {
        /* It has been replaced meanwhile. */
    } else if (verification->result != 0) {
        moult_log_error("%s does not serve: %s", slot->name, verification->error.message);
        take_over(updates, slot, "the current model could not be restored.",
                  verification->error.message, updates->failed_event);
    } else {
        moult_log_warning("%s had the fingerprint %.8s, and has %.8s with this version of moult.",
                          slot->name, record->current.fingerprint, generation->report.fingerprint);
        memcpy(record->current.fingerprint, generation->report.fingerprint,
               sizeof record->current.fingerprint);
        moult_keeper_save(updates->keeper, NULL, NULL, 0);
        moult_generation_accept(generation);
    }
    moult_generation_drop(generation);
}

/* A rollback that nobody ordered; it is recorded like any other. Where there is
 * nothing to go back to, the listener, if any, hears so at once. */
static void take_over(struct moult_updates *updates, struct moult_slot *slot, const char *why,
                      const char *reason, moult_update_listener listener) {
    struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    const struct moult_state_model *previous = &record->previous;
    if (updates->stopping || updates->running[index_of(slot)] != NULL)
        return;
    if (previous->generation == 0 || moult_state_refused(record, previous->revision) ||
        strcmp(previous->revision, record->current.revision) == 0) {
        struct moult_update_result result = {
            .slot = slot, .status = MOULT_UPDATE_REFUSED, .reason = reason};
        if (listener != NULL)
            listener(updates->context, &result);
        return;
    }
    struct update *update = make_update(updates, slot, NULL);
    snprintf(update->note, sizeof update->note, "Rolled back: %s %.300s", why, reason);
    listen_to(update, listener, updates->context);
    enqueue(updates, update);
}

static void on_keeps_dying(void *context, struct moult_generation *generation,
                           const char *reason) {
    char why[96];
    snprintf(why, sizeof why, "generation %llu kept losing its worker.",
             (unsigned long long)generation->number);
    take_over(context, generation->slot, why, reason, NULL);
}

static void on_gone(void *context, struct moult_slot *slot) {
    struct moult_updates *updates = context;
    struct update *update = updates->running[index_of(slot)];
    updates->sweep_wanted = true;
    if (update != NULL && update->phase == ROOM)
        try_room(update);
    kick(updates);
}

/* What waits for room may be able to make it now, but not within the call of who drained. */
static void on_drained(void *context, struct moult_slot *slot) {
    (void)slot;
    kick(context);
}

/* Clearing away. */

static void keep(char (*kept)[MOULT_SHA256_HEX], unsigned *count, const char *revision) {
    if (revision[0] != '\0')
        memcpy(kept[(*count)++], revision, MOULT_SHA256_HEX);
}

static void on_swept(void *context) {
    struct moult_updates *updates = context;
    updates->sweep = NULL;
    kick(updates);
}

static bool is_busy(const struct moult_updates *updates) {
    for (unsigned i = 0; i < updates->slots->count; i++)
        if (updates->running[i] != NULL)
            return true;
    return updates->fetches > 0 || updates->verifications > 0 || updates->ended != NULL;
}

static void try_sweep(struct moult_updates *updates) {
    if (!updates->sweep_wanted || updates->sweep != NULL || updates->stopping || is_busy(updates))
        return;
    updates->sweep_wanted = false;
    const struct moult_state *state = moult_keeper_state(updates->keeper);
    unsigned count = 0;
    unsigned most = 2 * state->count;
    for (unsigned i = 0; i < updates->slots->count; i++)
        most += updates->slots->slots[i].generation_count;
    char(*kept)[MOULT_SHA256_HEX] = moult_allocate(most, sizeof *kept);
    for (unsigned i = 0; i < state->count; i++) {
        keep(kept, &count, state->slots[i].current.revision);
        keep(kept, &count, state->slots[i].previous.revision);
    }
    for (unsigned i = 0; i < updates->slots->count; i++)
        for (unsigned g = 0; g < updates->slots->slots[i].generation_count; g++)
            keep(kept, &count, updates->slots->slots[i].generations[g]->revision);
    updates->sweep = moult_sweep_start(updates->loop, moult_keeper_models_folder(updates->keeper),
                                       kept, count, on_swept, updates);
}

/* For server.c. */

struct moult_updates *moult_updates_open(uv_loop_t *loop, struct moult_slots *slots,
                                         struct moult_keeper *keeper,
                                         void (*serving)(void *context, struct moult_slot *slot),
                                         moult_update_listener failed, void *context) {
    static const struct moult_slots_events slots_events = {on_ready, on_candidate_failed,
                                                           on_keeps_dying, on_gone, on_differs,
                                                           on_drained};
    struct moult_updates *updates = moult_allocate(1, sizeof *updates);
    updates->loop = loop;
    updates->slots = slots;
    updates->keeper = keeper;
    updates->serving_event = serving;
    updates->failed_event = failed;
    updates->context = context;
    updates->last_id = moult_state_last_id(moult_keeper_state(keeper));
    updates->sweep_wanted = true;
    uv_timer_init(loop, &updates->kick);
    updates->kick.data = updates;
    moult_slots_listen(slots, &slots_events, updates);
    return updates;
}

int moult_updates_raise(struct moult_updates *updates, struct moult_slot *slot,
                        struct moult_error *error) {
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    MOULT_REQUIRE(record != NULL);
    if (record->current.generation == 0) {
        struct moult_update_order order = {.slot = slot};
        uint64_t id;
        return moult_updates_start(updates, &order, updates->failed_event, updates->context, &id,
                                   error);
    }
    slot->current =
        moult_generation_open(slot, &record->current, MOULT_GENERATION_CURRENT, error);
    return 0;
}

bool moult_updates_stop(struct moult_updates *updates) {
    updates->stopping = true;
    for (unsigned i = 0; i < updates->slots->count; i++) {
        if (updates->next[i] != NULL)
            cancel(updates->next[i], "The server is shutting down.");
        if (updates->running[i] != NULL)
            cancel(updates->running[i], "The server is shutting down.");
    }
    return !is_busy(updates) && updates->sweep == NULL;
}

void moult_updates_close_handles(struct moult_updates *updates) {
    uv_close((uv_handle_t *)&updates->kick, NULL);
}

void moult_updates_free(struct moult_updates *updates) {
    free(updates);
}

/* As JSON. */

static double progress_of(const struct update *update) {
    if (update->phase != LOAD || update->candidate == NULL)
        return update->progress;
    moult_generation_refresh(update->candidate);
    return update->candidate->report.load_progress;
}

static json_t *event_json(const struct moult_state_event *event) {
    return json_pack("{s:I, s:I, s:s, s:s, s:I}", "id", (json_int_t)event->id, "generation",
                     (json_int_t)event->generation, "result",
                     moult_update_status_name(event->result), "reason", event->reason, "at",
                     (json_int_t)event->at);
}

static json_t *slot_json(struct moult_updates *updates, struct moult_slot *slot) {
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    const struct moult_generation *current = moult_slot_current(slot);
    const struct update *update = updates->running[index_of(slot)];
    json_t *history = json_array();
    for (unsigned i = 0; i < record->history_count; i++)
        json_array_append_new(history, event_json(&record->history[i]));
    json_t *running = json_null();
    if (update != NULL)
        running = json_pack("{s:I, s:s, s:f}", "id", (json_int_t)update->id, "phase",
                            phase_names[update->phase], "progress", progress_of(update));
    return json_pack("{s:s, s:I, s:s, s:s, s:o, s:o}", "name", slot->name, "generation",
                     (json_int_t)(current != NULL ? current->number : 0), "fingerprint",
                     current != NULL ? current->fingerprint : "", "source", slot->source, "update",
                     running, "history", history);
}

json_t *moult_updates_json(struct moult_updates *updates) {
    json_t *list = json_array();
    for (unsigned i = 0; i < updates->slots->count; i++)
        json_array_append_new(list, slot_json(updates, &updates->slots->slots[i]));
    return json_pack("{s:o}", "slots", list);
}

json_t *moult_updates_one_json(struct moult_updates *updates, uint64_t id) {
    const struct update *update = find_unended(updates, id);
    if (update != NULL)
        return json_pack("{s:I, s:s, s:s, s:s, s:f}", "id", (json_int_t)id, "slot",
                         update->slot->name, "status", "running", "phase",
                         phase_names[update->phase], "progress", progress_of(update));
    for (unsigned i = 0; i < updates->slots->count; i++) {
        struct moult_slot *slot = &updates->slots->slots[i];
        const struct moult_state_event *event = find_event(
            moult_state_find(moult_keeper_state(updates->keeper), slot->name), id);
        if (event != NULL)
            return json_pack("{s:I, s:s, s:s, s:I, s:s, s:I}", "id", (json_int_t)id, "slot",
                             slot->name, "status", moult_update_status_name(event->result),
                             "generation", (json_int_t)event->generation, "reason", event->reason,
                             "at", (json_int_t)event->at);
    }
    return NULL;
}
