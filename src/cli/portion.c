#include "cli/portion.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"

/* A text of control characters grows sixfold; how much the server takes is its own affair. */
#define JSON_BYTES_MAX (16 * MOULT_BODY_BYTES_MAX)

void moult_portion_begin(struct moult_portion *portion, const struct moult_import_place *begin) {
    moult_buffer_release(&portion->json);
    memset(portion->ids, 0, sizeof portion->ids);
    moult_buffer_init(&portion->json, JSON_BYTES_MAX);
    portion->count = portion->refused = 0;
    portion->begin = portion->taken = *begin;
    portion->ranges[0].from = portion->ranges[0].to = 0;
    portion->range_count = 1;
}

void moult_portion_release(struct moult_portion *portion) {
    moult_buffer_release(&portion->json);
}

/* FNV-1a. */
static uint64_t hash_of(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211u;
    return hash != 0 ? hash : 1;
}

static size_t slot_of(const struct moult_portion *portion, uint64_t hash) {
    const size_t slots = sizeof portion->ids / sizeof portion->ids[0];
    size_t slot = hash % slots;
    while (portion->ids[slot] != 0 && portion->ids[slot] != hash)
        slot = (slot + 1) % slots;
    return slot;
}

bool moult_portion_has(const struct moult_portion *portion, const char *id, size_t id_size) {
    return portion->ids[slot_of(portion, hash_of(id, id_size))] != 0;
}

static void add_metadata(struct moult_buffer *json, const json_t *metadata) {
    char *text = json_dumps(metadata, JSON_COMPACT);
    MOULT_REQUIRE(text != NULL);
    moult_buffer_text(json, ",\"metadata\":");
    moult_buffer_text(json, text);
    free(text);
}

/* Nine digits bring every float32 back exactly. */
static void add_vector(struct moult_buffer *json, const float *vector, uint32_t C) {
    moult_buffer_text(json, ",\"vector\":[");
    for (uint32_t c = 0; c < C; c++)
        moult_buffer_format(json, c == 0 ? "%.9g" : ",%.9g", (double)vector[c]);
    moult_buffer_text(json, "]");
}

void moult_portion_add(struct moult_portion *portion, const struct moult_record *record,
                       const struct moult_import_place *after, const float *vector, uint32_t C) {
    struct moult_buffer *json = &portion->json;
    uint64_t hash = hash_of(record->id, record->id_size);
    MOULT_REQUIRE(portion->count < MOULT_PORTION_DOCUMENTS_MAX);
    portion->ids[slot_of(portion, hash)] = hash;
    moult_buffer_text(json, portion->count > 0 ? ",{\"id\":" : "{\"id\":");
    moult_buffer_json_string(json, record->id, record->id_size);
    moult_buffer_text(json, ",\"text\":");
    moult_buffer_json_string(json, record->text, record->text_size);
    if (record->metadata != NULL)
        add_metadata(json, record->metadata);
    if (vector != NULL)
        add_vector(json, vector, C);
    moult_buffer_text(json, "}");
    MOULT_REQUIRE(!json->overflowed);
    portion->items[portion->count++] = (struct moult_portion_item){
        .end = json->size, .line = record->line, .after = *after};
    portion->ranges[0].to = portion->count;
}

void moult_portion_skip(struct moult_portion *portion, const struct moult_import_place *after) {
    if (portion->count > 0)
        portion->items[portion->count - 1].after = *after;
    else
        portion->begin = portion->taken = *after;
}

char *moult_portion_body(const struct moult_portion *portion, const char *fingerprint,
                         size_t *size) {
    if (portion->range_count == 0)
        return NULL;
    uint32_t from = portion->ranges[portion->range_count - 1].from;
    uint32_t to = portion->ranges[portion->range_count - 1].to;
    size_t begin = from > 0 ? portion->items[from - 1].end + 1 : 0;
    size_t end = portion->items[to - 1].end;
    struct moult_buffer body;
    moult_buffer_init(&body, JSON_BYTES_MAX + 256);
    if (fingerprint != NULL)
        moult_buffer_format(&body, "{\"fingerprint\":\"%s\",\"documents\":", fingerprint);
    moult_buffer_text(&body, "[");
    moult_buffer_append(&body, portion->json.bytes + begin, end - begin);
    moult_buffer_text(&body, fingerprint != NULL ? "]}" : "]");
    MOULT_REQUIRE(!body.overflowed);
    return moult_buffer_take(&body, size);
}

uint32_t moult_portion_took(struct moult_portion *portion) {
    uint32_t from = portion->ranges[portion->range_count - 1].from;
    uint32_t to = portion->ranges[portion->range_count - 1].to;
    portion->range_count--;
    portion->taken = portion->items[to - 1].after;
    return to - from;
}

const struct moult_portion_item *moult_portion_refused(struct moult_portion *portion) {
    unsigned top = portion->range_count - 1;
    uint32_t from = portion->ranges[top].from, to = portion->ranges[top].to;
    if (to - from > 1) {
        uint32_t middle = from + (to - from) / 2;
        portion->ranges[top].from = middle;
        portion->ranges[top + 1].from = from;
        portion->ranges[top + 1].to = middle;
        portion->range_count++;
        MOULT_REQUIRE(portion->range_count <= sizeof portion->ranges / sizeof portion->ranges[0]);
        return NULL;
    }
    portion->range_count--;
    portion->taken = portion->items[from].after;
    return &portion->items[from];
}
