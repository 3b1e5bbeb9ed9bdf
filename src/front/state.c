#include "front/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "base/precision.h"
#include "front/json.h"

#define VERSION 1

void moult_state_init(struct moult_state *state) {
    *state = (struct moult_state){0};
    state->slots = moult_allocate(MOULT_SLOTS_MAX, sizeof *state->slots);
}

static void release_event(struct moult_state_event *event) {
    free(event->reason);
    free(event->report);
}

void moult_state_release(struct moult_state *state) {
    for (unsigned i = 0; i < state->count; i++) {
        struct moult_state_slot *slot = &state->slots[i];
        for (unsigned h = 0; h < slot->history_count; h++)
            release_event(&slot->history[h]);
        free(slot->history);
        free(slot->name);
        free(slot->source);
    }
    free(state->slots);
    *state = (struct moult_state){0};
}

bool moult_slot_name_valid(const char *name) {
    size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return size > 0 && size <= MOULT_MODEL_NAME_BYTES_MAX && name[size] == '\0';
}

struct moult_state_slot *moult_state_find(struct moult_state *state, const char *name) {
    for (unsigned i = 0; i < state->count; i++)
        if (strcmp(state->slots[i].name, name) == 0)
            return &state->slots[i];
    return NULL;
}

struct moult_state_slot *moult_state_add(struct moult_state *state, const char *name,
                                         const char *source) {
    if (state->count == MOULT_SLOTS_MAX)
        return NULL;
    struct moult_state_slot *slot = &state->slots[state->count++];
    slot->name = moult_copy_string(name);
    slot->source = moult_copy_string(source);
    slot->next_generation = 1;
    slot->history = moult_allocate(MOULT_HISTORY_MAX, sizeof *slot->history);
    return slot;
}

struct moult_state_event *moult_state_note(struct moult_state_slot *slot, uint64_t id,
                                           uint64_t generation, enum moult_update_status result,
                                           const char *reason, uint64_t at) {
    if (slot->history_count == MOULT_HISTORY_MAX) {
        release_event(&slot->history[0]);
        memmove(&slot->history[0], &slot->history[1],
                (MOULT_HISTORY_MAX - 1) * sizeof slot->history[0]);
        slot->history_count--;
    }
    struct moult_state_event *event = &slot->history[slot->history_count++];
    *event = (struct moult_state_event){.id = id, .generation = generation, .result = result,
                                        .reason = moult_copy_string(reason), .at = at};
    return event;
}

void moult_state_note_report(struct moult_state_slot *slot, struct moult_state_event *event,
                             const struct moult_report *report) {
    unsigned count = 0;
    if (event->report == NULL)
        event->report = moult_allocate(1, sizeof *report);
    *event->report = *report;
    for (unsigned i = slot->history_count; i-- > 0;) {
        struct moult_state_event *other = &slot->history[i];
        if (other->report == NULL || ++count <= MOULT_STATE_REPORTS_MAX)
            continue;
        free(other->report);
        other->report = NULL;
    }
}

struct moult_state_event *moult_state_event_find(struct moult_state_slot *slot, uint64_t id) {
    for (unsigned i = slot->history_count; i-- > 0;)
        if (slot->history[i].id == id)
            return &slot->history[i];
    return NULL;
}

static unsigned find_refused(const struct moult_state_slot *slot, const char *revision) {
    unsigned at = 0;
    while (at < slot->refused_count && strcmp(slot->refused[at], revision) != 0)
        at++;
    return at;
}

bool moult_state_refused(const struct moult_state_slot *slot, const char *revision) {
    return find_refused(slot, revision) < slot->refused_count;
}

static void remove_refused(struct moult_state_slot *slot, unsigned at) {
    slot->refused_count--;
    memmove(slot->refused[at], slot->refused[at + 1],
            (slot->refused_count - at) * sizeof slot->refused[0]);
}

void moult_state_forgive(struct moult_state_slot *slot, const char *revision) {
    unsigned at = find_refused(slot, revision);
    if (at < slot->refused_count)
        remove_refused(slot, at);
}

void moult_state_refuse(struct moult_state_slot *slot, const char *revision) {
    moult_state_forgive(slot, revision);
    if (slot->refused_count == MOULT_STATE_REFUSED_MAX)
        remove_refused(slot, 0);
    snprintf(slot->refused[slot->refused_count++], MOULT_SHA256_HEX, "%s", revision);
}

uint64_t moult_state_last_id(const struct moult_state *state) {
    uint64_t last = 0;
    for (unsigned i = 0; i < state->count; i++)
        for (unsigned h = 0; h < state->slots[i].history_count; h++)
            if (state->slots[i].history[h].id > last)
                last = state->slots[i].history[h].id;
    return last;
}

/* Reading. Every member is asked for by name and must have its type and range;
 * others are passed over, so that a newer version may add some without a new number. */

static int fail_at(struct moult_error *error, const char *key) {
    return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" is missing or not what it should be.",
                      key);
}

static int read_number(const json_t *object, const char *key, uint64_t *value,
                       struct moult_error *error) {
    const json_t *found = json_object_get(object, key);
    if (!json_is_integer(found) || json_integer_value(found) < 0)
        return fail_at(error, key);
    *value = (uint64_t)json_integer_value(found);
    return 0;
}

/* A string without NUL of at most size_max bytes; the object's own. */
static const char *text_of(const json_t *value, size_t size_max) {
    const char *text = json_string_value(value);
    if (text == NULL || strlen(text) != json_string_length(value) || strlen(text) > size_max)
        return NULL;
    return text;
}

static int read_digest(const json_t *value, const char *key, char digest[MOULT_SHA256_HEX],
                       struct moult_error *error) {
    const char *text = text_of(value, MOULT_SHA256_HEX - 1);
    if (text == NULL || strspn(text, "0123456789abcdef") != MOULT_SHA256_HEX - 1)
        return fail_at(error, key);
    memcpy(digest, text, MOULT_SHA256_HEX);
    return 0;
}

/* A number that older states do not have. */
static int read_later_number(const json_t *object, const char *key, uint64_t *value,
                             struct moult_error *error) {
    return json_object_get(object, key) == NULL ? 0 : read_number(object, key, value, error);
}

/* What an older moult has written has none, and another CPU has its own: then it is measured. */
static int read_rung(const json_t *object, struct moult_rung *rung, struct moult_error *error) {
    const char *precision = text_of(json_object_get(object, "precision"), 16);
    const char *cpu = text_of(json_object_get(object, "cpu"), MOULT_CPU_BYTES - 1);
    double fidelity = json_number_value(json_object_get(object, "fidelity"));
    *rung = (struct moult_rung){.precision = MOULT_PRECISION_AUTO};
    if (json_object_get(object, "precision") == NULL)
        return 0;
    if (precision == NULL || !moult_precision_parse(precision, &rung->precision))
        return fail_at(error, "precision");
    if (!(fidelity >= 0 && fidelity <= 1))
        return fail_at(error, "fidelity");
    if (cpu == NULL)
        return fail_at(error, "cpu");
    rung->fidelity = fidelity;
    snprintf(rung->cpu, sizeof rung->cpu, "%s", cpu);
    return 0;
}

static int read_model(const json_t *object, struct moult_state_model *model,
                      struct moult_error *error) {
    uint64_t dimensions = 0;
    if (read_number(object, "generation", &model->generation, error) != 0 ||
        read_number(object, "since", &model->since, error) != 0 ||
        read_digest(json_object_get(object, "revision"), "revision", model->revision, error) != 0 ||
        read_digest(json_object_get(object, "fingerprint"), "fingerprint", model->fingerprint,
                    error) != 0 ||
        read_later_number(object, "until", &model->until, error) != 0 ||
        read_later_number(object, "retires_at", &model->retires_at, error) != 0 ||
        read_later_number(object, "bytes", &model->bytes, error) != 0 ||
        read_later_number(object, "memory_bytes", &model->memory_bytes, error) != 0 ||
        read_later_number(object, "dimensions", &dimensions, error) != 0 ||
        read_rung(object, &model->rung, error) != 0)
        return -1;
    if (dimensions > MOULT_DIMENSIONS_MAX)
        return fail_at(error, "dimensions");
    model->dimensions = (uint32_t)dimensions;
    return model->generation > 0 ? 0 : fail_at(error, "generation");
}

static int read_model_or_null(const json_t *object, const char *key,
                              struct moult_state_model *model, struct moult_error *error) {
    const json_t *found = json_object_get(object, key);
    if (json_is_null(found))
        return 0;
    if (!json_is_object(found))
        return fail_at(error, key);
    return read_model(found, model, error) == 0 ? 0 : moult_fail_within(error, "\"%s\"", key);
}

static int read_kept(const json_t *object, struct moult_state_slot *slot,
                     struct moult_error *error) {
    const json_t *list = json_object_get(object, "kept");
    if (list == NULL)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > MOULT_KEPT_MAX)
        return fail_at(error, "kept");
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct moult_state_model *model = &slot->kept.models[i];
        if (!json_is_object(json_array_get(list, i)) ||
            read_model(json_array_get(list, i), model, error) != 0)
            return fail_at(error, "kept");
        if (model->generation >= slot->next_generation)
            return fail_at(error, "next_generation");
        slot->kept.count++;
    }
    return 0;
}

static int read_refused(const json_t *object, struct moult_state_slot *slot,
                        struct moult_error *error) {
    const json_t *list = json_object_get(object, "refused");
    if (!json_is_array(list) || json_array_size(list) > MOULT_STATE_REFUSED_MAX)
        return fail_at(error, "refused");
    for (size_t i = 0; i < json_array_size(list); i++) {
        char digest[MOULT_SHA256_HEX];
        if (read_digest(json_array_get(list, i), "refused", digest, error) != 0)
            return -1;
        moult_state_refuse(slot, digest);
    }
    return 0;
}

static int read_event(const json_t *object, struct moult_state_slot *slot,
                      struct moult_error *error) {
    struct moult_state_event event;
    if (moult_event_read(object, &event, error) != 0)
        return -1;
    char *reason = event.reason;
    struct moult_state_event *noted =
        moult_state_note(slot, event.id, event.generation, event.result, reason, event.at);
    event.reason = noted->reason;
    *noted = event;
    free(reason);
    return 0;
}

static int read_history(const json_t *object, struct moult_state_slot *slot,
                        struct moult_error *error) {
    const json_t *list = json_object_get(object, "history");
    if (!json_is_array(list) || json_array_size(list) > MOULT_HISTORY_MAX)
        return fail_at(error, "history");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_event(json_array_get(list, i), slot, error) != 0)
            return moult_fail_within(error, "\"history\" %zu", i);
    return 0;
}

/* States of older versions have none. */
static int read_seen(const json_t *object, struct moult_state_slot *slot,
                     struct moult_error *error) {
    const json_t *found = json_object_get(object, "seen");
    const char *text = text_of(found, MOULT_VALIDATOR_BYTES - 1);
    if (found == NULL)
        return 0;
    if (text == NULL)
        return fail_at(error, "seen");
    snprintf(slot->seen, sizeof slot->seen, "%s", text);
    return 0;
}

static int read_slot(struct moult_state *state, const json_t *object, struct moult_error *error) {
    const char *name = text_of(json_object_get(object, "name"), MOULT_MODEL_NAME_BYTES_MAX);
    const char *source = text_of(json_object_get(object, "source"), 4096);
    if (name == NULL || !moult_slot_name_valid(name) || moult_state_find(state, name) != NULL)
        return fail_at(error, "name");
    if (source == NULL)
        return fail_at(error, "source");
    struct moult_state_slot *slot = moult_state_add(state, name, source);
    if (slot == NULL)
        return fail_at(error, "slots");
    if (read_number(object, "next_generation", &slot->next_generation, error) != 0 ||
        read_model_or_null(object, "current", &slot->current, error) != 0 ||
        read_model_or_null(object, "previous", &slot->previous, error) != 0 ||
        read_kept(object, slot, error) != 0 || read_refused(object, slot, error) != 0 ||
        read_seen(object, slot, error) != 0 ||
        read_history(object, slot, error) != 0)
        return -1;
    if (slot->current.generation >= slot->next_generation ||
        slot->previous.generation >= slot->next_generation)
        return fail_at(error, "next_generation");
    return 0;
}

static int read_lease(struct moult_state *state, const json_t *object,
                      struct moult_error *error) {
    struct moult_state_lease lease = {0};
    const char *id = text_of(json_object_get(object, "id"), MOULT_LEASE_ID_BYTES - 1);
    const char *slot = text_of(json_object_get(object, "slot"), MOULT_MODEL_NAME_BYTES_MAX);
    if (id == NULL || strspn(id, "0123456789abcdef") != MOULT_LEASE_ID_BYTES - 1 ||
        moult_state_lease_find(state, id) != NULL)
        return fail_at(error, "id");
    if (slot == NULL || !moult_slot_name_valid(slot))
        return fail_at(error, "slot");
    if (read_number(object, "made", &lease.made, error) != 0 ||
        read_number(object, "expires", &lease.expires, error) != 0 ||
        read_digest(json_object_get(object, "fingerprint"), "fingerprint", lease.fingerprint,
                    error) != 0)
        return -1;
    memcpy(lease.id, id, sizeof lease.id);
    snprintf(lease.slot, sizeof lease.slot, "%s", slot);
    state->leases[state->lease_count++] = lease;
    return 0;
}

static int read_leases(struct moult_state *state, const json_t *object,
                       struct moult_error *error) {
    const json_t *list = json_object_get(object, "leases");
    if (list == NULL)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > MOULT_LEASES_MAX)
        return fail_at(error, "leases");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_lease(state, json_array_get(list, i), error) != 0)
            return moult_fail_within(error, "\"leases\" %zu", i);
    return 0;
}

static int read_state(struct moult_state *state, const json_t *object, struct moult_error *error) {
    uint64_t version;
    const json_t *list = json_object_get(object, "slots");
    if (read_number(object, "version", &version, error) != 0)
        return -1;
    if (version != VERSION)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "It has version %" PRIu64 ", and this moult reads version %d.", version,
                          VERSION);
    if (!json_is_array(list) || json_array_size(list) > MOULT_SLOTS_MAX)
        return fail_at(error, "slots");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (read_slot(state, json_array_get(list, i), error) != 0)
            return moult_fail_within(error, "\"slots\" %zu", i);
    return read_leases(state, object, error);
}

int moult_state_parse(struct moult_state *state, const char *bytes, size_t size,
                      struct moult_error *error) {
    if (size > MOULT_STATE_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "It has more than %lu bytes.",
                          (unsigned long)MOULT_STATE_BYTES_MAX);
    json_t *object = moult_json_read_object(bytes, size, error);
    if (object == NULL)
        return -1;
    int result = read_state(state, object, error);
    json_decref(object);
    return result;
}

/* Writing. */

static void write_text(struct moult_buffer *out, const char *text) {
    moult_buffer_json_string(out, text, strlen(text));
}

static void write_model(struct moult_buffer *out, const struct moult_state_model *model) {
    moult_buffer_format(out,
                        "{\"generation\": %" PRIu64 ", \"revision\": \"%s\",\n"
                        "      \"fingerprint\": \"%s\", \"since\": %" PRIu64
                        ", \"until\": %" PRIu64 ",\n      \"retires_at\": %" PRIu64
                        ", \"bytes\": %" PRIu64 ", \"memory_bytes\": %" PRIu64
                        ", \"dimensions\": %" PRIu32,
                        model->generation, model->revision, model->fingerprint, model->since,
                        model->until, model->retires_at, model->bytes,
                        model->memory_bytes, model->dimensions);
    if (model->rung.precision != MOULT_PRECISION_AUTO) {
        moult_buffer_format(out, ",\n      \"precision\": \"%s\", \"fidelity\": %.9f, \"cpu\": ",
                            moult_precision_name(model->rung.precision), model->rung.fidelity);
        write_text(out, model->rung.cpu);
    }
    moult_buffer_text(out, "}");
}

static void write_model_or_null(struct moult_buffer *out, const char *key,
                                const struct moult_state_model *model) {
    moult_buffer_format(out, ",\n   \"%s\": ", key);
    if (model->generation == 0)
        moult_buffer_text(out, "null");
    else
        write_model(out, model);
}

static void write_kept(struct moult_buffer *out, const struct moult_state_kept *kept) {
    moult_buffer_text(out, ",\n   \"kept\": [");
    for (unsigned i = 0; i < kept->count; i++) {
        moult_buffer_text(out, i == 0 ? "" : ",\n      ");
        write_model(out, &kept->models[i]);
    }
    moult_buffer_text(out, "]");
}

static void write_event(struct moult_buffer *out, const struct moult_state_event *event) {
    size_t size;
    json_t *json = moult_event_json(event);
    char *text = moult_json_write(json, &size);
    moult_buffer_text(out, "\n      ");
    moult_buffer_append(out, text, size);
    free(text);
    json_decref(json);
}

static void write_slot(struct moult_buffer *out, const struct moult_state_slot *slot) {
    moult_buffer_text(out, "\n  {\"name\": ");
    write_text(out, slot->name);
    moult_buffer_text(out, ", \"source\": ");
    write_text(out, slot->source);
    moult_buffer_format(out, ", \"next_generation\": %" PRIu64, slot->next_generation);
    write_model_or_null(out, "current", &slot->current);
    write_model_or_null(out, "previous", &slot->previous);
    write_kept(out, &slot->kept);
    moult_buffer_text(out, ",\n   \"refused\": [");
    for (unsigned i = 0; i < slot->refused_count; i++)
        moult_buffer_format(out, "%s\"%s\"", i == 0 ? "" : ", ", slot->refused[i]);
    moult_buffer_text(out, "],\n   \"seen\": ");
    write_text(out, slot->seen);
    moult_buffer_text(out, ",\n   \"history\": [");
    for (unsigned i = 0; i < slot->history_count; i++) {
        moult_buffer_text(out, i == 0 ? "" : ",");
        write_event(out, &slot->history[i]);
    }
    moult_buffer_text(out, "]}");
}

static void write_leases(struct moult_buffer *out, const struct moult_state *state) {
    moult_buffer_text(out, "],\n \"leases\": [");
    for (unsigned i = 0; i < state->lease_count; i++) {
        const struct moult_state_lease *lease = &state->leases[i];
        moult_buffer_format(out,
                            "%s\n  {\"id\": \"%s\", \"slot\": \"%s\", \"fingerprint\": \"%s\","
                            " \"made\": %" PRIu64 ", \"expires\": %" PRIu64 "}",
                            i == 0 ? "" : ",", lease->id, lease->slot, lease->fingerprint,
                            lease->made, lease->expires);
    }
    moult_buffer_text(out, "]}\n");
}

char *moult_state_format(const struct moult_state *state, size_t *size) {
    struct moult_buffer out;
    moult_buffer_init(&out, MOULT_STATE_BYTES_MAX);
    moult_buffer_format(&out, "{\"version\": %d, \"slots\": [", VERSION);
    const char *comma = "";
    for (unsigned i = 0; i < state->count; i++) {
        if (state->slots[i].failed_start)
            continue;
        moult_buffer_text(&out, comma);
        write_slot(&out, &state->slots[i]);
        comma = ",";
    }
    write_leases(&out, state);
    MOULT_REQUIRE(!out.overflowed);
    return moult_buffer_take(&out, size);
}
