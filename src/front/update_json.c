/* What is shown of updates: those that run, and the history. */
#include "front/update_run.h"

static double progress_of(const struct moult_update *update) {
    if (update->phase == MOULT_PHASE_REEMBED)
        return moult_update_documents_progress(update);
    if (update->comparison != NULL)
        return moult_comparison_progress(update->comparison);
    if (update->trial != NULL)
        return moult_trial_progress(update->trial);
    if (update->phase != MOULT_PHASE_LOAD || update->candidate == NULL)
        return update->progress;
    moult_generation_refresh(update->candidate);
    return update->candidate->report.load_progress;
}

static json_t *update_json(const struct moult_update *update) {
    if (update == NULL)
        return json_null();
    json_t *json = json_pack(
        "{s:I, s:s, s:s, s:f, s:s}", "id", (json_int_t)update->id, "status",
        moult_update_status_name(update->status), "phase", moult_update_phase_name(update->phase),
        "progress", progress_of(update), "asked_by", moult_update_asker_name(update->asked_by));
    if (update->number != 0)
        json_object_set_new(json, "generation", json_integer((json_int_t)update->number));
    if (update->revision[0] != '\0')
        json_object_set_new(json, "revision", json_string(update->revision));
    if (update->phase == MOULT_PHASE_REEMBED)
        json_object_set_new(json, "documents", moult_update_documents_json(update));
    if (update->report != NULL)
        json_object_set_new(json, "report", moult_report_json(update->report));
    return json;
}

static json_t *slot_json(struct moult_updates *updates, struct moult_slot *slot) {
    const struct moult_state_slot *record =
        moult_state_find(moult_keeper_state(updates->keeper), slot->name);
    const struct moult_generation *current = moult_slot_current(slot);
    const unsigned at = moult_updates_index(slot);
    json_t *history = json_array();
    json_t *followers = updates->slots->followers != NULL
                            ? moult_followers_json(updates->slots->followers, slot)
                            : json_array();
    for (unsigned i = 0; i < record->history_count; i++)
        json_array_append_new(history, moult_event_json(&record->history[i]));
    return json_pack("{s:s, s:I, s:s, s:b, s:s, s:o, s:o, s:o, s:o}", "name", slot->name,
                     "generation", (json_int_t)(current != NULL ? current->number : 0),
                     "fingerprint", current != NULL ? current->fingerprint : "", "loaded",
                     current != NULL && moult_generation_loaded(current), "source", slot->source,
                     "followers", followers, "update", update_json(updates->running[at]), "next",
                     update_json(updates->next[at]), "history", history);
}

json_t *moult_updates_json(struct moult_updates *updates) {
    json_t *list = json_array();
    for (unsigned i = 0; i < updates->slots->count; i++)
        json_array_append_new(list, slot_json(updates, &updates->slots->slots[i]));
    return json_pack("{s:o}", "slots", list);
}

/* Of one that has ended the result is its status. */
static json_t *ended_json(const struct moult_slot *slot, const struct moult_state_event *event) {
    json_t *json = moult_event_json(event);
    json_object_set_new(json, "slot", json_string(slot->name));
    json_object_set(json, "status", json_object_get(json, "result"));
    json_object_del(json, "result");
    return json;
}

json_t *moult_updates_one_json(struct moult_updates *updates, uint64_t id) {
    const struct moult_update *update = moult_updates_find(updates, id);
    if (update != NULL) {
        json_t *json = update_json(update);
        json_object_set_new(json, "slot", json_string(update->slot->name));
        return json;
    }
    for (unsigned i = 0; i < updates->slots->count; i++) {
        struct moult_slot *slot = &updates->slots->slots[i];
        const struct moult_state_event *event = moult_state_event_find(
            moult_state_find(moult_keeper_state(updates->keeper), slot->name), id);
        if (event != NULL)
            return ended_json(slot, event);
    }
    return NULL;
}
