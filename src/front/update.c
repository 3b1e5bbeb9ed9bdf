/* Updates: the way from one generation of a slot to the next.
 *
 *   phase    what happens                           passed over where
 *   ──────── ────────────────────────────────────── ─────────────────────────────────────────────
 *   queued   revisions are being cleared away, or
 *            another update of the slot runs
 *   fetch    `moult pull` copies, hashes, installs  it is a rollback
 *   verify   the installed files are read again     they were fetched just now, or are warm
 *   room     place and memory for one more worker,  a warm generation has the model
 *            or somebody unloaded for it (room.c)
 *   reserve  the new number goes to the disk        it has one already, and loads again
 *   swap     --swap wait: the old model's worker    --swap overlap; nothing serves yet; a warm
 *            ends, requests wait (swap.c)           generation has the model
 *   load     a worker reads the model               a warm generation has it
 *   check    the worker checks itself, which warms  a warm generation has it
 *   reembed  vectors of all documents are made by   there are none, or the model has them; nothing
 *            the new model (update_reembed.c)       serves yet, or waits: --swap wait
 *   compare  texts that were asked, under both      a rollback, --report 0, nothing serves yet,
 *                                                   stored vectors stay good
 *   trial    searches, asked of both: a gate's, and  a rollback, --swap wait, nothing serves yet,
 *            clients' with a min_score             there are neither, or no documents
 *   ready    a person has to say when               --cutover auto, a rollback, nothing serves yet
 *   persist  the new state goes to the disk
 *
 * Each phase is a row of `steps`: whether it is wanted, and what it begins. What it has begun calls
 * moult_update_advance() when it is done, which goes on to the next phase that is wanted; one
 * phase more is one row more. Updates leave that order in three places: one whose
 * revision serves already is UNCHANGED after fetch; one whose worker dies while it waits for a
 * person goes back behind fetch; and so does one whose warm generation ends too early.
 *
 * Until it persists, an update can be cancelled or superseded, and whatever
 * fails makes it REFUSED with the reason. Neither changes anything that serves.
 * While it persists it can do neither: the disk may already say that the new
 * one serves. Then comes the cut-over, one assignment in moult_slot_cut_over(): every
 * request that is handed over after it goes to the new generation, and the update is LIVE. The old
 * one drains, stays warm and retires by itself (generation.c).
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
#include "front/memory.h"
#include "front/update_run.h"

/* Deaths, one after the other, each within that time of being ready: then it is refused. */
#define DEATHS_MAX 3
#define LONG_RUN_NS (10 * 1000000000ull)

static void fetch(struct moult_update *update);
static void reserve(struct moult_update *update);
static void load(struct moult_update *update);
static void check(struct moult_update *update);
static void wait_for_a_person(struct moult_update *update);
static void persist(struct moult_update *update);
static void cut_over(struct moult_update *update);

/* Phases. */

static bool has_a_source(const struct moult_update *update) {
    return update->source != NULL;
}

static bool has_no_generation(const struct moult_update *update) {
    return update->candidate == NULL;
}

static bool has_unread_files(const struct moult_update *update) {
    return !has_a_source(update) && has_no_generation(update);
}

static bool has_no_number(const struct moult_update *update) {
    return update->number == 0;
}

static bool has_a_new_generation(const struct moult_update *update) {
    return update->candidate->phase == MOULT_GENERATION_CANDIDATE;
}

static bool needs_a_person(const struct moult_update *update) {
    return has_a_source(update) && moult_slot_current(update->slot) != NULL &&
           !update->swapping && moult_update_is_manual(update);
}

static bool needs_room(const struct moult_update *update) {
    return has_no_generation(update) && !moult_update_swaps(update);
}

static bool needs_the_old_place(const struct moult_update *update) {
    return has_no_generation(update) && moult_update_swaps(update);
}

static const struct step {
    const char *name;
    bool (*wanted)(const struct moult_update *update);   /* NULL: always. */
    void (*enter)(struct moult_update *update);
} steps[MOULT_PHASES] = {
    [MOULT_PHASE_QUEUED] = {"queued", NULL, moult_update_begin},
    [MOULT_PHASE_FETCH] = {"fetching", has_a_source, fetch},
    [MOULT_PHASE_VERIFY] = {"verifying", has_unread_files, moult_update_verify},
    [MOULT_PHASE_ROOM] = {"waiting for room", needs_room, moult_update_try_room},
    [MOULT_PHASE_RESERVE] = {"reserving", has_no_number, reserve},
    [MOULT_PHASE_SWAP] = {"making room", needs_the_old_place, moult_update_try_swap},
    [MOULT_PHASE_LOAD] = {"loading", has_no_generation, load},
    [MOULT_PHASE_CHECK] = {"checking", has_a_new_generation, check},
    [MOULT_PHASE_REEMBED] = {"embedding documents", moult_update_wants_documents,
                             moult_update_reembed},
    [MOULT_PHASE_COMPARE] = {"comparing", moult_update_wants_comparison, moult_update_compare},
    [MOULT_PHASE_TRIAL] = {"on trial", moult_update_wants_trial, moult_update_begin_trial},
    [MOULT_PHASE_READY] = {"ready", needs_a_person, wait_for_a_person},
    [MOULT_PHASE_PERSIST] = {"persisting", NULL, persist},
};

const char *moult_update_phase_name(enum moult_update_phase phase) {
    return steps[phase].name;
}

const char *moult_update_status_name(enum moult_update_status status) {
    static const char *const names[] = {"running", "ready",      "live",     "unchanged",
                                        "refused", "superseded", "cancelled"};
    return names[status];
}

const char *moult_update_asker_name(enum moult_update_asker asker) {
    static const char *const names[] = {"person", "poll", "start", "take-over"};
    return names[asker];
}

/* The only place where a phase becomes another. */
static void go_to(struct moult_update *update, enum moult_update_phase phase) {
    enum moult_update_phase from = update->phase;
    uint64_t now_ns = moult_clock_ns();
    double seconds = (double)(now_ns - update->phase_began_ns) / 1e9;
    update->phase = phase;
    update->status = phase == MOULT_PHASE_READY ? MOULT_UPDATE_READY : MOULT_UPDATE_RUNNING;
    update->phase_began_ns = now_ns;
    update->progress = 0;
    moult_update_measure_phase(update, from, seconds);
    moult_update_tell_observers(update, from, seconds, NULL);
    steps[phase].enter(update);
}

static void go_on_behind(struct moult_update *update, enum moult_update_phase phase) {
    do
        phase++;
    while (steps[phase].wanted != NULL && !steps[phase].wanted(update));
    go_to(update, phase);
}

void moult_update_advance(struct moult_update *update) {
    go_on_behind(update, update->phase);
}

/* Queued, fetch, verify. */

/* A worker that is still warm has all of it ready. */
static void look_for_a_warm_one(struct moult_update *update) {
    struct moult_generation *warm =
        update->force ? NULL : moult_slot_find_warm(update->slot, update->revision);
    if (warm == NULL)
        return;
    moult_generation_hold(warm);
    warm->kept = true;
    update->candidate = warm;
}

void moult_update_begin(struct moult_update *update) {
    const struct moult_state_slot *record = update->record;
    if (!has_a_source(update)) {
        if (record->previous.generation == 0) {
            moult_update_end(update, MOULT_UPDATE_REFUSED,
                             "There is no previous model to go back to.");
            return;
        }
        memcpy(update->revision, record->previous.revision, sizeof update->revision);
        update->bytes = record->previous.bytes;
        if (update->note[0] == '\0')
            snprintf(update->note, sizeof update->note, "Rolled back from generation %llu.",
                     (unsigned long long)record->current.generation);
        look_for_a_warm_one(update);
    }
    moult_update_advance(update);
}

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
    if (strcmp(update->source, update->slot->source) == 0)
        memcpy(update->validator, result->validator, sizeof update->validator);
    update->figures.fetched_bytes = result->fetched;
    update->fetched = true;
    moult_update_judge_fetched(update);
}

static void fetch(struct moult_update *update) {
    static const struct moult_fetch_events events = {on_fetch_advanced, on_fetch_ended};
    struct moult_updates *updates = update->updates;
    struct moult_error error;
    update->fetch =
        moult_fetch_start(updates->loop, moult_keeper_data_folder(updates->keeper), update->source,
                          update->named, &events, updates, update->id, &error);
    if (update->fetch == NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        updates->fetches++;
}

static bool serves_already(const struct moult_update *update) {
    const struct moult_state_model *current = &update->record->current;
    return !update->force && current->generation != 0 && update->slot->current != NULL &&
           strcmp(current->revision, update->revision) == 0;
}

void moult_update_judge_fetched(struct moult_update *update) {
    if (!moult_update_gets_its_turn(update))
        return;
    update->judged = true;
    if (serves_already(update)) {
        update->number = update->record->current.generation;
        moult_update_end(update, MOULT_UPDATE_UNCHANGED, "");
    } else if (update->polled && moult_state_refused(update->record, update->revision)) {
        moult_update_end(update, MOULT_UPDATE_UNCHANGED,
                         "The source still has what was refused or rolled back before: "
                         "moult update tries it again.");
    } else {
        look_for_a_warm_one(update);
        moult_update_advance(update);
    }
}

void moult_update_verified(struct moult_update *update, const struct moult_error *error) {
    if (error == NULL)
        moult_update_advance(update);
    else
        moult_update_end(update, MOULT_UPDATE_REFUSED, error->message);
}

/* Room, number. */

void moult_update_try_room(struct moult_update *update) {
    struct moult_error error;
    switch (moult_room_claim(update->slot, update->bytes, &error)) {
    case MOULT_ROOM_GIVEN: moult_update_advance(update); break;
    case MOULT_ROOM_LATER: break;
    case MOULT_ROOM_NEVER: moult_update_end(update, MOULT_UPDATE_REFUSED, error.message); break;
    }
}

static void on_reserved(void *context, uint64_t id, const struct moult_error *error) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_RESERVE);
    if (update == NULL)
        return;
    if (error != NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error->message);
    else
        moult_update_advance(update);
}

static void reserve(struct moult_update *update) {
    update->number = update->record->next_generation++;
    moult_keeper_save(update->updates->keeper, on_reserved, update->updates, update->id);
}

/* Load and check. */

static void load(struct moult_update *update) {
    struct moult_error error;
    struct moult_state_model model = {.generation = update->number, .bytes = update->bytes};
    const struct moult_state_model *before = moult_state_model_of(update->record, update->revision);
    if (before != NULL)
        model.rung = before->rung;
    memcpy(model.revision, update->revision, sizeof model.revision);
    update->candidate =
        moult_generation_open(update->slot, &model, MOULT_GENERATION_CANDIDATE, &error);
    if (update->candidate == NULL)
        moult_update_end(update, MOULT_UPDATE_REFUSED, error.message);
    else
        moult_generation_hold(update->candidate);
    moult_room_let_go(update->slot);
}

static void check(struct moult_update *update) {
    if (!update->candidate->ready)
        return;
    moult_update_measure_memory(update);
    moult_update_advance(update);
}

void moult_update_candidate_reports(struct moult_update *update) {
    const struct moult_generation *candidate = update->candidate;
    if (update->phase == MOULT_PHASE_LOAD &&
        (candidate->ready || candidate->report.state == MOULT_WORKER_CHECKING))
        moult_update_advance(update);
    else if (update->phase == MOULT_PHASE_CHECK)
        check(update);
}

static void drop_candidate(struct moult_update *update) {
    moult_update_stop_trial(update);
    moult_update_stop_comparing(update);
    moult_update_let_documents_go(update);
    struct moult_generation *candidate = update->candidate;
    update->candidate = NULL;
    candidate->kept = false;
    moult_generation_drop(candidate);
}

/* Its generation could serve. */
static bool is_waiting(const struct moult_update *update) {
    return update->phase >= MOULT_PHASE_COMPARE && update->phase <= MOULT_PHASE_READY;
}

void moult_update_candidate_failed(struct moult_update *update, const char *reason) {
    if (update->phase == MOULT_PHASE_PERSIST)
        return;   /* on_persisted() will see that it is not ready. */
    bool waited = is_waiting(update);
    bool long_run = waited && moult_clock_ns() - update->phase_began_ns >= LONG_RUN_NS;
    update->deaths = long_run ? 1 : update->deaths + 1;
    if (waited && update->deaths < DEATHS_MAX) {
        moult_log_warning("Update %llu of %s lost its worker, and loads again: %s",
                          (unsigned long long)update->id, update->slot->name, reason);
        drop_candidate(update);
        go_on_behind(update, MOULT_PHASE_FETCH);
        return;
    }
    moult_state_refuse(update->record, update->revision);
    moult_update_end(update, MOULT_UPDATE_REFUSED, reason);
}

void moult_update_warm_one_is_gone(struct moult_update *update) {
    if (!is_waiting(update) && update->phase != MOULT_PHASE_REEMBED)
        return;   /* What saves just now will see it. */
    drop_candidate(update);
    go_on_behind(update, MOULT_PHASE_FETCH);
}

/* Ready, persist and cut over. */

static void wait_for_a_person(struct moult_update *update) {
    moult_log_info("Update %llu of %s is ready, and waits for a person: moult cutover.",
                   (unsigned long long)update->id, update->slot->name);
    moult_updates_kick(update->updates);
}

/* A rollback says that what served was wrong; what the source has newly says that it moved on. */
static void settle_refusals(struct moult_update *update) {
    struct moult_state_slot *record = update->record;
    moult_state_forgive(record, update->revision);
    if (!has_a_source(update))
        moult_state_refuse(record, update->before.current.revision);
    else if (strcmp(update->source, update->slot->source) == 0)
        record->refused_count = 0;
}

static void remember(struct moult_update *update) {
    struct moult_update_before *before = &update->before;
    const struct moult_state_slot *record = update->record;
    before->current = record->current;
    before->previous = record->previous;
    before->kept = record->kept;
    before->refused_count = record->refused_count;
    memcpy(before->refused, record->refused, sizeof before->refused);
}

static void put_back(const struct moult_update *update) {
    const struct moult_update_before *before = &update->before;
    struct moult_state_slot *record = update->record;
    record->current = before->current;
    record->previous = before->previous;
    record->kept = before->kept;
    record->refused_count = before->refused_count;
    memcpy(record->refused, before->refused, sizeof record->refused);
}

static void on_persisted(void *context, uint64_t id, const struct moult_error *error) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_PERSIST);
    MOULT_REQUIRE(update != NULL);
    moult_fault_point("state-after");
    if (error == NULL && update->candidate->ready) {
        cut_over(update);
        return;
    }
    put_back(update);
    moult_update_end(
        update, MOULT_UPDATE_REFUSED,
        error != NULL ? error->message : "Its worker ended just before it would have served.");
}

static void persist(struct moult_update *update) {
    struct moult_state_slot *record = update->record;
    if (!update->candidate->ready) {   /* A warm one, which has just ended. */
        drop_candidate(update);
        go_on_behind(update, MOULT_PHASE_FETCH);
        return;
    }
    if (moult_update_wants_documents(update) && !moult_followers_arrived(update->candidate)) {
        go_on_behind(update, MOULT_PHASE_CHECK);   /* The first document came after that phase. */
        return;
    }
    remember(update);
    struct moult_state_model model = {.generation = update->number,
                                      .since = (uint64_t)time(NULL),
                                      .bytes = update->candidate->file_bytes,
                                      .memory_bytes = update->candidate->report.memory_peak_bytes,
                                      .dimensions = update->candidate->report.dimensions,
                                      .rung = update->candidate->rung};
    memcpy(model.revision, update->revision, sizeof model.revision);
    memcpy(model.fingerprint, update->candidate->fingerprint, sizeof model.fingerprint);
    moult_state_succeed(moult_keeper_state(update->updates->keeper), record, &model,
                        moult_shelf_keeping(update->updates->shelf));
    settle_refusals(update);
    moult_update_note_seen(update);
    moult_update_note(update, MOULT_UPDATE_LIVE, update->note);
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
