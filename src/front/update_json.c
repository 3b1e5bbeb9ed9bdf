/* What is shown of updates: those that run, and the history. */
#include "front/update_run.h"

static double progress_of(const struct moult_update *update) {
    if (update->phase != MOULT_PHASE_LOAD || update->candidate == NULL)
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
    const struct moult_update *update = updates->running[moult_updates_index(slot)];
    json_t *history = json_array();
    for (unsigned i = 0; i < record->history_count; i++)
        json_array_append_new(history, event_json(&record->history[i]));
    json_t *running = json_null();
    if (update != NULL)
        running =
            json_pack("{s:I, s:s, s:f}", "id", (json_int_t)update->id, "phase",
                      moult_update_phase_name(update->phase), "progress", progress_of(update));
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
    const struct moult_update *update = moult_updates_find(updates, id);
    if (update != NULL)
        return json_pack("{s:I, s:s, s:s, s:s, s:f}", "id", (json_int_t)id, "slot",
                         update->slot->name, "status", "running", "phase",
                         moult_update_phase_name(update->phase), "progress", progress_of(update));
    for (unsigned i = 0; i < updates->slots->count; i++) {
        struct moult_slot *slot = &updates->slots->slots[i];
        const struct moult_state_event *event = moult_state_event_find(
            moult_state_find(moult_keeper_state(updates->keeper), slot->name), id);
        if (event != NULL)
            return json_pack("{s:I, s:s, s:s, s:I, s:s, s:I}", "id", (json_int_t)id, "slot",
                             slot->name, "status", moult_update_status_name(event->result),
                             "generation", (json_int_t)event->generation, "reason", event->reason,
                             "at", (json_int_t)event->at);
    }
    return NULL;
}
