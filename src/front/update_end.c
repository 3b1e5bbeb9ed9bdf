/* How an update ends, and who is told of it and of every step before: listeners, which have asked
 * for one update, and observers, which hear of all. */
#include "front/update_run.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"

/* A poll is quiet until it has found news. Of several in a row that could not even
 * fetch, the first is told, and the history keeps the last. */

static bool found_no_news(const struct moult_update *update, enum moult_update_status status) {
    return update->polled && update->phase <= MOULT_PHASE_FETCH && status != MOULT_UPDATE_REFUSED;
}

static bool could_not_fetch(const struct moult_update *update, enum moult_update_status status) {
    return update->polled && update->phase <= MOULT_PHASE_FETCH && status == MOULT_UPDATE_REFUSED;
}

static struct moult_state_event *last_failed_poll(const struct moult_update *update) {
    const struct moult_state_slot *record = update->record;
    struct moult_state_event *last =
        record->history_count > 0 ? &record->history[record->history_count - 1] : NULL;
    bool failed = last != NULL && last->asked_by == MOULT_ASKED_BY_POLL &&
                  last->result == MOULT_UPDATE_REFUSED && last->revision[0] == '\0';
    return failed ? last : NULL;
}

/* Observers. */

void moult_updates_observe(struct moult_updates *updates, moult_update_observer observer,
                           void *context) {
    MOULT_REQUIRE(updates->observer_count < MOULT_UPDATE_OBSERVERS_MAX);
    updates->observers[updates->observer_count].call = observer;
    updates->observers[updates->observer_count].context = context;
    updates->observer_count++;
}

void moult_update_tell_observers(struct moult_update *update, enum moult_update_phase from,
                                 double seconds, const char *ended) {
    struct moult_updates *updates = update->updates;
    if (ended == NULL && update->polled && update->phase <= MOULT_PHASE_FETCH)
        return;
    const struct moult_generation *candidate = update->candidate;
    struct moult_update_event event = {
        .id = update->id,
        .slot = update->slot,
        .asked_by = update->asked_by,
        .rollback = update->source == NULL,
        .source = update->source,
        .from = from,
        .to = update->phase,
        .status = update->status,
        .generation = update->number,
        .revision = update->revision,
        .fingerprint = candidate != NULL ? candidate->fingerprint : "",
        .reason = ended != NULL ? ended : "",
        .report = update->report,
        .phase_seconds = seconds,
    };
    for (unsigned i = 0; i < updates->observer_count; i++)
        updates->observers[i].call(updates->observers[i].context, &event);
}

/* The end, of whichever kind. */

void moult_update_note(struct moult_update *update, enum moult_update_status status,
                       const char *reason) {
    struct moult_state_slot *record = update->record;
    struct moult_state_event *event = moult_state_event_find(record, update->id);
    bool ours = status == MOULT_UPDATE_LIVE || status == MOULT_UPDATE_UNCHANGED;
    if (event == NULL && could_not_fetch(update, status))
        event = last_failed_poll(update);
    if (event == NULL) {
        event = moult_state_note(record, update->id, 0, status, reason, 0);
    } else if (strcmp(event->reason, reason) != 0) {
        free(event->reason);
        event->reason = moult_copy_string(reason);
    }
    event->id = update->id;
    event->result = status;
    event->generation = ours ? update->number : 0;
    event->at = (uint64_t)time(NULL);
    event->asked_by = update->asked_by;
    event->rollback = update->source == NULL;
    event->figures = update->figures;
    memcpy(event->revision, update->revision, sizeof event->revision);
    moult_update_note_report(update, event);
    record->failed_start = record->current.generation == 0 && status != MOULT_UPDATE_SUPERSEDED;
}

/* "…, in 2.3 s, 90.9 MB fetched, worker 113 MiB, with the current one 228 MiB, p99 of single texts
 * 3.1 ms before and 4.0 ms meanwhile" */
static void describe(const struct moult_update_figures *figures, struct moult_buffer *text) {
    moult_buffer_format(text, ", in %.2f s", figures->seconds);
    if (figures->fetched_bytes > 0)
        moult_buffer_format(text, ", %.1f MB fetched",
                            (double)figures->fetched_bytes / 1e6);
    if (figures->documents_embedded > 0)
        moult_buffer_format(text, ", %llu documents embedded",
                            (unsigned long long)figures->documents_embedded);
    if (figures->candidate_bytes > 0)
        moult_buffer_format(text, ", worker %.0f MiB",
                            (double)figures->candidate_bytes / (double)MOULT_MIB);
    if (figures->both_bytes > figures->candidate_bytes)
        moult_buffer_format(text, ", with the current one %.0f MiB",
                            (double)figures->both_bytes / (double)MOULT_MIB);
    if (figures->p99_before_ms > 0 && figures->p99_during_ms > 0)
        moult_buffer_format(text, ", p99 of single texts %.2f ms before and %.2f ms meanwhile",
                            figures->p99_before_ms, figures->p99_during_ms);
}

static void log_end(const struct moult_update *update) {
    struct moult_buffer figures;
    moult_buffer_init(&figures, 512);
    describe(&update->figures, &figures);
    moult_log(update->status == MOULT_UPDATE_REFUSED ? MOULT_LOG_WARNING : MOULT_LOG_INFO,
              "Update %llu of %s: %s, generation %llu%.*s.%s%s", (unsigned long long)update->id,
              update->slot->name, moult_update_status_name(update->status),
              (unsigned long long)update->number, (int)figures.size, figures.bytes,
              update->reason[0] != '\0' ? " " : "", update->reason);
    moult_buffer_release(&figures);
}

/* What the source has needs no other look, whatever becomes of it, but not before that is known:
 * a server that is killed until then must come back to it. */
void moult_update_note_seen(struct moult_update *update) {
    if (update->judged && update->validator[0] != '\0' && !update->updates->stopping)
        memcpy(update->record->seen, update->validator, sizeof update->validator);
}

static void tell_of_end(struct moult_update *update) {
    moult_update_note_seen(update);
    bool was_nothing = found_no_news(update, update->status);
    double seconds = (double)(moult_clock_ns() - update->phase_began_ns) / 1e9;
    moult_update_measure_end(update, was_nothing);
    if (was_nothing) {
        moult_keeper_save(update->updates->keeper, NULL, NULL, 0);
        return;
    }
    bool again = could_not_fetch(update, update->status) && last_failed_poll(update) != NULL;
    moult_update_note(update, update->status, update->reason);
    moult_keeper_save(update->updates->keeper, NULL, NULL, 0);
    if (again)
        return;
    log_end(update);
    moult_update_tell_observers(update, update->phase, seconds, update->reason);
}

/* Whatever it still holds and does not serve. */
static void let_go(struct moult_update *update) {
    if (update->fetch != NULL)
        moult_fetch_cancel(update->fetch);
    moult_update_stop_trial(update);
    moult_update_stop_comparing(update);
    moult_update_let_documents_go(update);
    if (update->phase >= MOULT_PHASE_ROOM && update->phase <= MOULT_PHASE_LOAD)
        moult_room_let_go(update->slot);
    moult_update_end_swap(update);
    if (update->candidate == NULL)
        return;
    if (update->candidate->kept)
        update->candidate->kept = false;   /* It stays as warm as it was. */
    else if (update->status != MOULT_UPDATE_LIVE &&
             update->candidate->phase != MOULT_GENERATION_GONE)
        moult_generation_retire(update->candidate);
    moult_slots_wake_by(update->updates->slots, moult_clock_ns());
    moult_generation_drop(update->candidate);
    update->candidate = NULL;
}

/* Whatever stands behind it moves up. */
static void leave_place(struct moult_update *update, enum moult_update_status status) {
    struct moult_updates *updates = update->updates;
    unsigned at = moult_updates_index(update->slot);
    struct moult_update *take_over = updates->take_over[at];
    if (updates->next[at] == update)
        updates->next[at] = NULL;
    if (updates->running[at] != update)
        return;
    updates->take_over[at] = NULL;
    if (take_over != NULL && status != MOULT_UPDATE_LIVE) {
        updates->running[at] = take_over;
        return;
    }
    updates->running[at] = updates->next[at];
    updates->next[at] = NULL;
    if (take_over != NULL)
        moult_update_end(take_over, MOULT_UPDATE_SUPERSEDED,
                         "The update that ran then has gone live.");
}

void moult_update_end(struct moult_update *update, enum moult_update_status status,
                      const char *reason) {
    struct moult_updates *updates = update->updates;
    leave_place(update, status);
    update->status = status;
    if (status == MOULT_UPDATE_LIVE || update->phase >= MOULT_PHASE_REEMBED)
        updates->is_complete[moult_updates_index(update->slot)] = status == MOULT_UPDATE_LIVE;
    update->reason = moult_copy_string(reason);
    update->next_ended = updates->ended;
    updates->ended = update;
    updates->sweep_wanted = true;
    tell_of_end(update);
    let_go(update);
    moult_shelf_settle(updates->shelf, update->slot);
    moult_updates_kick(updates);
}

/* Listeners. */

void moult_update_listen(struct moult_update *update, moult_update_listener call, void *context) {
    if (call == NULL)
        return;
    struct moult_update_waiting *listener = moult_allocate(1, sizeof *listener);
    *listener = (struct moult_update_waiting){call, context, update->listeners};
    update->listeners = listener;
}

static void tell(struct moult_update *update, enum moult_update_status status,
                 const char *reason) {
    bool ours = status == MOULT_UPDATE_LIVE || status == MOULT_UPDATE_UNCHANGED ||
                status == MOULT_UPDATE_READY;
    struct moult_update_result result = {.id = update->id,
                                         .slot = update->slot,
                                         .status = status,
                                         .generation = ours ? update->number : 0,
                                         .reason = reason,
                                         .report = update->report};
    struct moult_update_waiting *listener;
    while ((listener = update->listeners) != NULL) {
        update->listeners = listener->next;
        listener->call(listener->context, &result);
        free(listener);
    }
}

static void tell_of_ends(struct moult_updates *updates) {
    struct moult_update *update;
    while ((update = updates->ended) != NULL) {
        tell(update, update->status, update->reason);
        /* What they did may have ended others. */
        struct moult_update **at = &updates->ended;
        while (*at != update)
            at = &(*at)->next_ended;
        *at = update->next_ended;
        free(update->source);
        free(update->reason);
        free(update->report);
        free(update);
    }
}

void moult_updates_tell_listeners(struct moult_updates *updates) {
    tell_of_ends(updates);
    for (unsigned i = 0; i < updates->slots->count; i++)
        if (updates->running[i] != NULL && updates->running[i]->phase == MOULT_PHASE_READY)
            tell(updates->running[i], MOULT_UPDATE_READY, "");
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
