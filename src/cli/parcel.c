#include "cli/parcel.h"

#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/memory.h"

/* A text of control characters grows sixfold; how much the server takes is its own affair. */
#define JSON_BYTES_MAX (16 * MOULT_BODY_BYTES_MAX)

void moult_parcel_begin(struct moult_parcel *parcel, const struct moult_import_place *begin) {
    moult_buffer_release(&parcel->json);
    memset(parcel->ids, 0, sizeof parcel->ids);
    moult_buffer_init(&parcel->json, JSON_BYTES_MAX);
    parcel->count = parcel->refused = 0;
    parcel->begin = parcel->taken = *begin;
    parcel->ranges[0].from = parcel->ranges[0].to = 0;
    parcel->range_count = 1;
}

void moult_parcel_release(struct moult_parcel *parcel) {
    moult_buffer_release(&parcel->json);
}

/* FNV-1a. */
static uint64_t hash_of(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

static size_t slot_of(const struct moult_parcel *parcel, uint64_t hash) {
    const size_t slots = sizeof parcel->ids / sizeof parcel->ids[0];
    size_t slot = hash % slots;
    while (parcel->ids[slot] != 0 && parcel->ids[slot] != hash)
        slot = (slot + 1) % slots;
    return slot;
}

bool moult_parcel_has(const struct moult_parcel *parcel, const char *id, size_t id_size) {
    return parcel->ids[slot_of(parcel, hash_of(id, id_size))] != 0;
}

static void add_metadata(struct moult_buffer *json, const json_t *metadata) {
    char *text = json_dumps(metadata, JSON_COMPACT);
    MOULT_REQUIRE(text != NULL);
    moult_buffer_text(json, ",\"metadata\":");
    moult_buffer_text(json, text);
    free(text);
}

/* As base64 of its bytes: as numbers they would be five times as long, and slow to read. */
static void add_vector(struct moult_buffer *json, const float *vector, uint32_t C) {
    char *text = moult_allocate(MOULT_BASE64_SIZE(C * sizeof *vector) + 1, 1);
    moult_base64_write(text, vector, C * sizeof *vector);
    moult_buffer_format(json, ",\"vector\":\"%s\"", text);
    free(text);
}

void moult_parcel_add(struct moult_parcel *parcel, const struct moult_record *record,
                       const struct moult_import_place *after, const float *vector, uint32_t C) {
    struct moult_buffer *json = &parcel->json;
    uint64_t hash = hash_of(record->id, record->id_size);
    MOULT_REQUIRE(parcel->count < MOULT_PARCEL_DOCUMENTS_MAX);
    parcel->ids[slot_of(parcel, hash)] = hash;
    moult_buffer_text(json, parcel->count > 0 ? ",{\"id\":" : "{\"id\":");
    moult_buffer_json_string(json, record->id, record->id_size);
    moult_buffer_text(json, ",\"text\":");
    moult_buffer_json_string(json, record->text, record->text_size);
    if (record->metadata != NULL)
        add_metadata(json, record->metadata);
    if (vector != NULL)
        add_vector(json, vector, C);
    moult_buffer_text(json, "}");
    MOULT_REQUIRE(!json->overflowed);
    parcel->items[parcel->count++] = (struct moult_parcel_item){
        .end = json->size, .line = record->line, .after = *after};
    parcel->ranges[0].to = parcel->count;
}

void moult_parcel_skip(struct moult_parcel *parcel, const struct moult_import_place *after) {
    if (parcel->count > 0)
        parcel->items[parcel->count - 1].after = *after;
    else
        parcel->begin = parcel->taken = *after;
}

char *moult_parcel_body(const struct moult_parcel *parcel, const char *fingerprint,
                         size_t *size) {
    if (parcel->range_count == 0)
        return NULL;
    uint32_t from = parcel->ranges[parcel->range_count - 1].from;
    uint32_t to = parcel->ranges[parcel->range_count - 1].to;
    size_t begin = from > 0 ? parcel->items[from - 1].end + 1 : 0;
    size_t end = parcel->items[to - 1].end;
    struct moult_buffer body;
    moult_buffer_init(&body, JSON_BYTES_MAX + 256);
    if (fingerprint != NULL)
        moult_buffer_format(&body, "{\"fingerprint\":\"%s\",\"documents\":", fingerprint);
    moult_buffer_text(&body, "[");
    moult_buffer_append(&body, parcel->json.bytes + begin, end - begin);
    moult_buffer_text(&body, fingerprint != NULL ? "]}" : "]");
    MOULT_REQUIRE(!body.overflowed);
    return moult_buffer_take(&body, size);
}

uint32_t moult_parcel_took(struct moult_parcel *parcel) {
    uint32_t from = parcel->ranges[parcel->range_count - 1].from;
    uint32_t to = parcel->ranges[parcel->range_count - 1].to;
    parcel->range_count--;
    parcel->taken = parcel->items[to - 1].after;
    return to - from;
}

const struct moult_parcel_item *moult_parcel_refused(struct moult_parcel *parcel) {
    unsigned top = parcel->range_count - 1;
    uint32_t from = parcel->ranges[top].from, to = parcel->ranges[top].to;
    if (to - from > 1) {
        uint32_t middle = from + (to - from) / 2;
        parcel->ranges[top].from = middle;
        parcel->ranges[top + 1].from = from;
        parcel->ranges[top + 1].to = middle;
        parcel->range_count++;
        MOULT_REQUIRE(parcel->range_count <= sizeof parcel->ranges / sizeof parcel->ranges[0]);
        return NULL;
    }
    parcel->range_count--;
    parcel->taken = parcel->items[from].after;
    return &parcel->items[from];
}
