/* Collections: what there is, and how one is dropped. They are made by their first document. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "front/api.h"
#include "front/documents.h"

static void write_text(struct moult_buffer *out, const char *key, const char *text) {
    moult_buffer_format(out, "\"%s\":", key);
    moult_buffer_json_string(out, text, strlen(text));
}

static void write_collection(struct moult_buffer *out, const struct moult_collection *collection) {
    write_text(out, "name", collection->name);
    moult_buffer_text(out, ",");
    write_text(out, "slot", collection->slot);
    moult_buffer_format(out,
                        ",\"documents\":%" PRIu64 ",\"text_bytes\":%" PRIu64
                        ",\"created_at\":%" PRIu64,
                        collection->documents, collection->text_bytes, collection->created_at);
}

/* GET /collections */

static int list_run(struct moult_errand *errand, struct moult_store *store,
                    struct moult_error *error) {
    struct moult_buffer *out = &errand->answer;
    struct moult_collection *collections;
    unsigned count;
    if (moult_store_collections(store, NULL, &collections, &count, error) != 0)
        return -1;
    moult_buffer_text(out, "{\"collections\":[");
    for (unsigned i = 0; i < count; i++) {
        moult_buffer_text(out, i > 0 ? ",{" : "{");
        write_collection(out, &collections[i]);
        moult_buffer_text(out, "}");
    }
    moult_buffer_text(out, "]}");
    free(collections);
    return 0;
}

static const struct moult_errand_kind list_kind = {
    .size = sizeof(struct moult_errand),
    .queue = MOULT_DESK_READ,
    .run = list_run,
};

void moult_collections_list(struct moult_http_request *request) {
    struct moult_errand *errand = moult_errand_open(request, &list_kind);
    if (errand != NULL)
        moult_errand_begin(errand);
}

/* GET /collections/{collection}: with what the models of its slot have made of all its
 * documents and those of the slot's other collections. */

static void write_space(struct moult_buffer *out, const struct moult_space *space) {
    moult_buffer_text(out, "{");
    write_text(out, "fingerprint", space->key.fingerprint);
    moult_buffer_format(out,
                        ",\"dimensions\":%" PRIu32 ",\"chunk_tokens\":%" PRIu32
                        ",\"chunk_overlap\":%" PRIu32 ",\"documents\":%" PRIu64
                        ",\"chunks\":%" PRIu64 ",\"created_at\":%" PRIu64 "}",
                        space->key.dimensions, space->key.chunk_tokens, space->key.chunk_overlap,
                        space->documents, space->chunks, space->created_at);
}

static int show_run(struct moult_errand *errand, struct moult_store *store,
                    struct moult_error *error) {
    struct moult_buffer *out = &errand->answer;
    struct moult_collection collection;
    struct moult_space *spaces;
    unsigned count;
    if (moult_store_collection(store, errand->collection, &collection, error) != 0 ||
        moult_store_spaces(store, collection.slot, &spaces, &count, error) != 0)
        return -1;
    moult_buffer_text(out, "{");
    write_collection(out, &collection);
    moult_buffer_text(out, ",\"spaces\":[");
    for (unsigned i = 0; i < count; i++) {
        moult_buffer_text(out, i > 0 ? "," : "");
        write_space(out, &spaces[i]);
    }
    moult_buffer_text(out, "]}");
    free(spaces);
    return 0;
}

static const struct moult_errand_kind show_kind = {
    .size = sizeof(struct moult_errand),
    .queue = MOULT_DESK_READ,
    .run = show_run,
};

void moult_collections_show(struct moult_http_request *request) {
    struct moult_errand *errand = moult_errand_open(request, &show_kind);
    if (errand != NULL)
        moult_errand_begin(errand);
}

/* DELETE /collections/{collection} */

struct drop {
    struct moult_errand errand;
    struct moult_collection collection;
    uint64_t seq;
};

static int drop_run(struct moult_errand *errand, struct moult_store *store,
                    struct moult_error *error) {
    struct drop *drop = (struct drop *)errand;
    if (moult_store_collection(store, errand->collection, &drop->collection, error) != 0 ||
        moult_store_collection_drop(store, errand->collection, &drop->seq, error) != 0)
        return -1;
    moult_buffer_format(&errand->answer, "{\"deleted\":%" PRIu64, drop->collection.documents);
    return 0;
}

static void drop_then(struct moult_errand *errand) {
    struct drop *drop = (struct drop *)errand;
    moult_errand_await(errand, &drop->collection, true, drop->seq, drop->seq);
}

static const struct moult_errand_kind drop_kind = {
    .size = sizeof(struct drop),
    .queue = MOULT_DESK_WRITE,
    .run = drop_run,
    .then = drop_then,
    .finish = moult_errand_close_answer,
};

void moult_collections_drop(struct moult_http_request *request) {
    struct moult_errand *errand = moult_errand_open(request, &drop_kind);
    if (errand != NULL)
        moult_errand_begin(errand);
}
