/* Documents, one or a page of them: GET /documents/{id} and GET /documents. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/api.h"
#include "front/documents.h"

#define LIST_COUNT 100
#define LIST_COUNT_MAX 1000
#define LIST_BYTES_MAX (8 * MOULT_MIB)   /* Of one page; the last of it may go beyond. */

struct reading {
    struct moult_errand errand;
    char *id;                           /* NULL: a list. */
    char *cursor;
    struct moult_filter *filter;
    uint32_t limit;
    unsigned parts;
};

static int read_one(struct reading *reading, struct moult_store *store, uint32_t collection,
                    struct moult_error *error) {
    struct moult_buffer *answer = &reading->errand.answer;
    struct moult_documents documents;
    const char *id = reading->id;
    if (collection == 0)
        return moult_documents_missing(&reading->errand, id, error);
    if (moult_store_get(store, collection, &id, 1, reading->parts, &documents, error) != 0)
        return -1;
    bool found = documents.items[0].seq != 0;
    moult_buffer_text(answer, "{");
    if (found)
        moult_document_write(answer, &documents.items[0]);
    moult_buffer_text(answer, "}");
    moult_documents_release(&documents);
    return found ? 0 : moult_documents_missing(&reading->errand, id, error);
}

static int read_page(struct reading *reading, struct moult_store *store, uint32_t collection,
                     struct moult_error *error) {
    struct moult_buffer *answer = &reading->errand.answer;
    struct moult_documents documents = {0};
    if (collection != 0 &&
        moult_store_list(store, collection, reading->cursor, reading->limit, LIST_BYTES_MAX,
                         reading->filter, reading->parts, &documents, error) != 0)
        return -1;
    moult_buffer_text(answer, "{\"documents\":[");
    for (uint32_t i = 0; i < documents.count; i++) {
        moult_buffer_text(answer, i > 0 ? ",{" : "{");
        moult_document_write(answer, &documents.items[i]);
        moult_buffer_text(answer, "}");
    }
    moult_buffer_text(answer, "],\"cursor\":");
    if (documents.cursor != NULL)
        moult_buffer_json_string(answer, documents.cursor, strlen(documents.cursor));
    else
        moult_buffer_text(answer, "null");
    moult_buffer_text(answer, "}");
    moult_documents_release(&documents);
    return 0;
}

static int reading_run(struct moult_errand *errand, struct moult_store *store,
                       struct moult_error *error) {
    struct reading *reading = (struct reading *)errand;
    struct moult_collection collection;
    if (moult_errand_collection(errand, store, &collection, error) != 0)
        return -1;
    return reading->id != NULL ? read_one(reading, store, collection.number, error)
                               : read_page(reading, store, collection.number, error);
}

static void reading_release(struct moult_errand *errand) {
    struct reading *reading = (struct reading *)errand;
    free(reading->id);
    free(reading->cursor);
    moult_filter_free(reading->filter);
}

static int reading_check(struct moult_errand *errand) {
    struct reading *reading = (struct reading *)errand;
    bool with_text = true, with_metadata = true;
    if (moult_parameter_number(errand, "limit", 1, LIST_COUNT_MAX, &reading->limit) != 0 ||
        moult_parameter_flag(errand, "with_text", &with_text) != 0 ||
        moult_parameter_flag(errand, "with_metadata", &with_metadata) != 0 ||
        moult_parameter_filter(errand, "filter", &reading->filter) != 0)
        return -1;
    reading->parts = (with_text ? MOULT_DOCUMENT_TEXT : 0u) |
                     (with_metadata ? MOULT_DOCUMENT_METADATA : 0u);
    return 0;
}

static const struct moult_errand_kind reading_kind = {
    .size = sizeof(struct reading),
    .queue = MOULT_DESK_READ,
    .check = reading_check,
    .run = reading_run,
    .release = reading_release,
};

void moult_documents_show(struct moult_http_request *request) {
    struct reading *reading = moult_errand_open(request, &reading_kind);
    if (reading == NULL)
        return;
    reading->id = moult_copy_string(moult_http_rest(request));
    moult_errand_begin(&reading->errand);
}

void moult_documents_list(struct moult_http_request *request) {
    struct reading *reading = moult_errand_open(request, &reading_kind);
    size_t size;
    if (reading == NULL)
        return;
    const char *cursor = moult_http_parameter(request, "cursor", &size);
    reading->limit = LIST_COUNT;
    if (cursor != NULL)
        reading->cursor = moult_copy_string(cursor);
    moult_errand_begin(&reading->errand);
}
