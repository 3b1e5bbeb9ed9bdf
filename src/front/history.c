#include "front/history.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

#define REASON_BYTES_MAX 1024

/* Writing. */

static void add_count(json_t *json, const char *key, uint64_t value) {
    if (value != 0)
        json_object_set_new(json, key, json_integer((json_int_t)value));
}

/* To the thousandth: more is noise. */
static void add_figure(json_t *json, const char *key, double value) {
    double rounded = round(value * 1000) / 1000;
    if (rounded != 0)
        json_object_set_new(json, key, json_real(rounded));
}

static void add_object(json_t *json, const char *key, json_t *object) {
    if (json_object_size(object) > 0)
        json_object_set(json, key, object);
    json_decref(object);
}

static void add_figures(json_t *json, const struct moult_update_figures *figures) {
    json_t *phases = json_object();
    json_t *memory = json_object();
    json_t *latency = json_object();
    for (enum moult_update_phase phase = MOULT_PHASE_QUEUED; phase < MOULT_PHASES; phase++)
        add_figure(phases, moult_update_phase_name(phase), figures->phase_seconds[phase]);
    add_count(memory, "candidate_bytes", figures->candidate_bytes);
    add_count(memory, "both_bytes", figures->both_bytes);
    add_figure(latency, "p99_before_ms", figures->p99_before_ms);
    add_figure(latency, "p99_during_ms", figures->p99_during_ms);
    add_figure(json, "seconds", figures->seconds);
    add_object(json, "phases", phases);
    add_count(json, "fetched_bytes", figures->fetched_bytes);
    add_count(json, "documents_embedded", figures->documents_embedded);
    add_object(json, "memory", memory);
    add_object(json, "latency", latency);
}

json_t *moult_event_json(const struct moult_state_event *event) {
    json_t *json = json_pack("{s:I, s:I, s:s, s:s, s:s, s:b, s:I}", "id", (json_int_t)event->id,
                             "generation", (json_int_t)event->generation, "result",
                             moult_update_status_name(event->result), "reason", event->reason,
                             "asked_by", moult_update_asker_name(event->asked_by), "rollback",
                             event->rollback, "at", (json_int_t)event->at);
    MOULT_REQUIRE(json != NULL);
    if (event->revision[0] != '\0')
        json_object_set_new(json, "revision", json_string(event->revision));
    add_figures(json, &event->figures);
    if (event->report != NULL)
        json_object_set_new(json, "report", moult_report_json(event->report));
    return json;
}

/* Reading. */

static int fail_at(struct moult_error *error, const char *key) {
    return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" is missing or not what it should be.",
                      key);
}

static int read_count(const json_t *object, const char *key, bool needed, uint64_t *value,
                      struct moult_error *error) {
    const json_t *found = json_object_get(object, key);
    if (found == NULL && !needed)
        return 0;
    if (!json_is_integer(found) || json_integer_value(found) < 0)
        return fail_at(error, key);
    *value = (uint64_t)json_integer_value(found);
    return 0;
}

static int read_figure(const json_t *object, const char *key, double *value,
                       struct moult_error *error) {
    const json_t *found = json_object_get(object, key);
    if (found == NULL)
        return 0;
    if (!json_is_number(found) || !(json_number_value(found) >= 0))
        return fail_at(error, key);
    *value = json_number_value(found);
    return 0;
}

/* An absent one is as an empty one. */
static int read_object(const json_t *object, const char *key, const json_t **value,
                       struct moult_error *error) {
    *value = json_object_get(object, key);
    return *value == NULL || json_is_object(*value) ? 0 : fail_at(error, key);
}

static int read_figures(const json_t *object, struct moult_update_figures *figures,
                        struct moult_error *error) {
    const json_t *phases, *memory, *latency;
    if (read_object(object, "phases", &phases, error) != 0 ||
        read_object(object, "memory", &memory, error) != 0 ||
        read_object(object, "latency", &latency, error) != 0)
        return -1;
    for (enum moult_update_phase phase = MOULT_PHASE_QUEUED; phase < MOULT_PHASES; phase++)
        if (read_figure(phases, moult_update_phase_name(phase), &figures->phase_seconds[phase],
                        error) != 0)
            return -1;
    if (read_figure(object, "seconds", &figures->seconds, error) != 0 ||
        read_count(object, "fetched_bytes", false, &figures->fetched_bytes, error) != 0 ||
        read_count(object, "documents_embedded", false, &figures->documents_embedded, error) !=
            0 ||
        read_count(memory, "candidate_bytes", false, &figures->candidate_bytes, error) != 0 ||
        read_count(memory, "both_bytes", false, &figures->both_bytes, error) != 0 ||
        read_figure(latency, "p99_before_ms", &figures->p99_before_ms, error) != 0 ||
        read_figure(latency, "p99_during_ms", &figures->p99_during_ms, error) != 0)
        return -1;
    return 0;
}

/* A string without NUL. */
static const char *text_of(const json_t *value, size_t size_max) {
    const char *text = json_string_value(value);
    bool whole = text != NULL && strlen(text) == json_string_length(value);
    return whole && strlen(text) <= size_max ? text : NULL;
}

static int read_result(const json_t *object, enum moult_update_status *result,
                       struct moult_error *error) {
    const char *text = text_of(json_object_get(object, "result"), 32);
    for (enum moult_update_status status = MOULT_UPDATE_LIVE; status <= MOULT_UPDATE_CANCELLED;
         status++)
        if (text != NULL && strcmp(text, moult_update_status_name(status)) == 0) {
            *result = status;
            return 0;
        }
    return fail_at(error, "result");
}

/* An older moult did not say, and a newer one may know of more. */
static enum moult_update_asker read_asker(const json_t *object) {
    const char *text = text_of(json_object_get(object, "asked_by"), 32);
    for (enum moult_update_asker asker = MOULT_ASKED_BY_PERSON; asker < MOULT_ASKERS; asker++)
        if (text != NULL && strcmp(text, moult_update_asker_name(asker)) == 0)
            return asker;
    return MOULT_ASKED_BY_PERSON;
}

static int read_revision(const json_t *object, char revision[MOULT_SHA256_HEX],
                         struct moult_error *error) {
    const json_t *found = json_object_get(object, "revision");
    const char *text = text_of(found, MOULT_SHA256_HEX - 1);
    if (found == NULL)
        return 0;
    if (text == NULL || strspn(text, "0123456789abcdef") != MOULT_SHA256_HEX - 1)
        return fail_at(error, "revision");
    memcpy(revision, text, MOULT_SHA256_HEX);
    return 0;
}

static int read_report(const json_t *object, struct moult_report **report,
                       struct moult_error *error) {
    struct moult_report read;
    const json_t *found = json_object_get(object, "report");
    if (found == NULL)
        return 0;
    if (moult_report_read(found, &read, error) != 0)
        return -1;
    *report = moult_allocate(1, sizeof read);
    **report = read;
    return 0;
}

int moult_event_read(const json_t *object, struct moult_state_event *event,
                     struct moult_error *error) {
    *event = (struct moult_state_event){0};
    const char *reason = text_of(json_object_get(object, "reason"), REASON_BYTES_MAX);
    if (reason == NULL)
        return fail_at(error, "reason");
    if (read_count(object, "id", true, &event->id, error) != 0 ||
        read_count(object, "generation", true, &event->generation, error) != 0 ||
        read_count(object, "at", true, &event->at, error) != 0 ||
        read_result(object, &event->result, error) != 0 ||
        read_revision(object, event->revision, error) != 0 ||
        read_figures(object, &event->figures, error) != 0)
        return -1;
    event->asked_by = read_asker(object);
    event->rollback = json_is_true(json_object_get(object, "rollback"));
    if (read_report(object, &event->report, error) != 0)
        return -1;
    event->reason = moult_copy_string(reason);
    return 0;
}
