#include "front/documents.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"

#define PARAMETER_DIGITS_MAX 9

/* Reading. */

static int refuse_item(struct moult_refusal *refusal, size_t index, const char *key,
                       const char *wanted, const json_t *value) {
    return moult_refuse(refusal, MOULT_HTTP_INVALID, key,
                        "documents[%zu]: %s%s%s must be %s, not %s.", index,
                        key != NULL ? "\"" : "", key != NULL ? key : "it",
                        key != NULL ? "\"" : "", wanted, moult_json_type_name(value));
}

/* A key that nobody reads is a value that somebody misses later. */
static int check_keys(const json_t *item, size_t index, bool vectors,
                      struct moult_refusal *refusal) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)item, key, value)
        if (strcmp(key, "id") != 0 && strcmp(key, "text") != 0 &&
            strcmp(key, "metadata") != 0 && !(vectors && strcmp(key, "vector") == 0))
            return moult_refuse(refusal, MOULT_HTTP_INVALID, NULL,
                                "documents[%zu]: there is no \"%.64s\" in a document; what "
                                "belongs to it stands in its \"metadata\".", index, key);
    return 0;
}

static const json_t *given(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* Its strings are the JSON's still. */
static int read_item(struct moult_put *put, const json_t *item, size_t index, bool vectors,
                     struct moult_refusal *refusal) {
    if (!json_is_object(item))
        return refuse_item(refusal, index, NULL, "an object", item);
    if (check_keys(item, index, vectors, refusal) != 0)
        return -1;
    const json_t *id = given(item, "id"), *text = given(item, "text");
    const json_t *metadata = given(item, "metadata");
    if (id != NULL && !json_is_string(id))
        return refuse_item(refusal, index, "id", "a string", id);
    if (!json_is_string(text))
        return refuse_item(refusal, index, "text", "a string", text);
    if (metadata != NULL && !json_is_object(metadata))
        return refuse_item(refusal, index, "metadata", "an object", metadata);
    if (id != NULL && strlen(json_string_value(id)) != json_string_length(id))
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "id",
                            "documents[%zu]: the id has NUL in it.", index);
    put->id = json_string_value(id);
    put->text = json_string_value(text);
    put->text_size = json_string_length(text);
    return 0;
}

/* Puts a string of the JSON behind those that are kept already. */
static const char *keep(char **at, const char *bytes, size_t size) {
    char *kept = memcpy(*at, bytes, size);
    *at += size + 1;
    return kept;
}

static size_t bytes_of(const struct moult_put *put) {
    return put->text_size + 1 + (put->id != NULL ? strlen(put->id) + 1 : 0);
}

static void keep_strings(struct moult_puts *puts) {
    size_t size = 0;
    for (uint32_t i = 0; i < puts->count; i++)
        size += bytes_of(&puts->items[i]);
    puts->strings = moult_allocate(size, 1);
    puts->bytes += size;
    char *at = puts->strings;
    for (uint32_t i = 0; i < puts->count; i++) {
        struct moult_put *put = &puts->items[i];
        if (put->id != NULL)
            put->id = keep(&at, put->id, strlen(put->id));
        put->text = keep(&at, put->text, put->text_size);
    }
}

static void keep_metadata(struct moult_puts *puts, uint32_t index, const json_t *metadata) {
    if (metadata == NULL || json_object_size(metadata) == 0)
        return;
    char *text = json_dumps(metadata, JSON_COMPACT | JSON_REAL_PRECISION(17));
    MOULT_REQUIRE(text != NULL);
    puts->metadata[index] = text;
    puts->items[index].metadata = text;
    puts->items[index].metadata_size = strlen(text);
    puts->bytes += puts->items[index].metadata_size;
}

static int read_all(struct moult_puts *puts, const json_t *body, bool vectors,
                    struct moult_refusal *refusal) {
    struct moult_error error;
    for (uint32_t i = 0; i < puts->count; i++) {
        const json_t *item = json_is_array(body) ? json_array_get(body, i) : body;
        if (read_item(&puts->items[i], item, i, vectors, refusal) != 0)
            return -1;
        keep_metadata(puts, i, given(item, "metadata"));
        if (moult_put_check(&puts->items[i], i, &error) != 0)
            return moult_refuse(refusal, MOULT_HTTP_INVALID, NULL, "%s", error.message);
    }
    keep_strings(puts);
    return 0;
}

int moult_puts_read(struct moult_puts *puts, const json_t *body, bool vectors,
                    struct moult_refusal *refusal) {
    size_t count = json_is_array(body) ? json_array_size(body) : 1;
    if (!json_is_array(body) && !json_is_object(body))
        return moult_refuse(refusal, MOULT_HTTP_INVALID, NULL,
                            "The body must be a document or a list of documents, not %s.",
                            moult_json_type_name(body));
    if (count == 0)
        return moult_refuse(refusal, MOULT_HTTP_EMPTY, NULL, "The list has no documents.");
    if (count > MOULT_DOCUMENTS_PER_REQUEST_MAX)
        return moult_refuse(refusal, MOULT_HTTP_INVALID, NULL,
                            "The list has %zu documents; a request takes %d at most.", count,
                            MOULT_DOCUMENTS_PER_REQUEST_MAX);
    puts->count = (uint32_t)count;
    puts->items = moult_allocate(count, sizeof *puts->items);
    puts->metadata = moult_allocate(count, sizeof *puts->metadata);
    return read_all(puts, body, vectors, refusal);
}

void moult_puts_release(struct moult_puts *puts) {
    for (uint32_t i = 0; i < puts->count; i++)
        free(puts->metadata[i]);
    free(puts->metadata);
    free(puts->items);
    free(puts->strings);
    *puts = (struct moult_puts){0};
}

/* Writing. */

void moult_document_write(struct moult_buffer *out, const struct moult_document *document) {
    moult_buffer_text(out, "\"id\":");
    moult_buffer_json_string(out, document->id, strlen(document->id));
    if (document->text != NULL) {
        moult_buffer_text(out, ",\"text\":");
        moult_buffer_json_string(out, document->text, document->text_size);
    }
    if (document->metadata != NULL) {
        moult_buffer_text(out, ",\"metadata\":");
        moult_buffer_append(out, document->metadata, document->metadata_size);
    }
}

int moult_documents_missing(const struct moult_errand *errand, const char *id,
                            struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_MISSING, "There is no document \"%.200s\" in %s.", id,
                      errand->collection);
}

/* Parameters. */

int moult_parameter_number(struct moult_errand *errand, const char *name, uint32_t least,
                           uint32_t most, uint32_t *value) {
    size_t size;
    const char *text = moult_http_parameter(errand->request, name, &size);
    if (text == NULL)
        return 0;
    unsigned long number = 0;
    bool good = size > 0 && size <= PARAMETER_DIGITS_MAX && strspn(text, "0123456789") == size;
    if (good)
        number = strtoul(text, NULL, 10);
    if (!good || number < least || number > most)
        return moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, name,
                            "\"%s\" must be a number from %" PRIu32 " to %" PRIu32 ".", name,
                            least, most);
    *value = (uint32_t)number;
    return 0;
}

int moult_parameter_flag(struct moult_errand *errand, const char *name, bool *value) {
    size_t size;
    const char *text = moult_http_parameter(errand->request, name, &size);
    if (text == NULL)
        return 0;
    *value = strcmp(text, "true") == 0;
    if (*value || strcmp(text, "false") == 0)
        return 0;
    return moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, name,
                        "\"%s\" must be true or false.", name);
}

int moult_parameter_filter(struct moult_errand *errand, const char *name,
                           struct moult_filter **filter) {
    size_t size;
    struct moult_error error;
    const char *text = moult_http_parameter(errand->request, name, &size);
    if (text == NULL)
        return 0;
    json_t *json = moult_json_read(text, size, &error);
    if (json == NULL)
        return moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, name,
                            "\"%s\" is not valid JSON.", name);
    *filter = moult_filter_parse(json, &error);
    json_decref(json);
    return *filter != NULL ? 0
                           : moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, name, "%s",
                                          error.message);
}
