/* Documents: written and deleted. What is written or deleted is answered when it is on disk and
 * the next search knows it (errand.h). */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/api.h"
#include "front/documents.h"
#include "front/given.h"
#include "front/replaced.h"
#include "front/slot.h"

/* Of those that match a filter, so many are deleted in one transaction: others wait for it. */
#define DELETED_AT_ONCE 500

/* The changes of a request, from the first to the last; 0: there were none. */
struct changes {
    uint64_t first_seq, last_seq;
};

static void note_change(struct changes *changes, uint64_t seq) {
    if (changes->first_seq == 0 || seq < changes->first_seq)
        changes->first_seq = seq;
    if (seq > changes->last_seq)
        changes->last_seq = seq;
}

/* ------------------------------------------------------------- POST /documents */

struct upsert {
    struct moult_errand errand;
    char *model;                        /* As the request names it; NULL: it does not. */
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    struct moult_puts puts;
    struct moult_given given;
    struct moult_replaced_list *replaced;
    struct moult_collection collection;
    struct changes changes;
};

static int upsert_read(struct moult_errand *errand, const json_t *body) {
    struct upsert *upsert = (struct upsert *)errand;
    const json_t *documents = body;
    if (moult_given_read(&upsert->given, body, &documents, &errand->refusal) != 0 ||
        moult_puts_read(&upsert->puts, documents, documents != body, &errand->refusal) != 0)
        return -1;
    errand->task.bytes = upsert->puts.bytes;
    return 0;
}

/* Vectors of a model that does not serve (any more) would be left lying, and nobody would know. */
static int check_given(struct upsert *upsert) {
    const struct moult_slots *slots = upsert->errand.server->slots;
    if (upsert->given.fingerprint[0] == '\0')
        return 0;
    for (unsigned i = 0; i < moult_slots_count(slots); i++) {
        const struct moult_generation *current = moult_slots_at(slots, i)->current;
        if (current != NULL &&
            moult_given_is_of(&upsert->given, moult_generation_fingerprint(current)))
            return 0;
    }
    return moult_refuse(&upsert->errand.refusal, MOULT_HTTP_CONFLICT, "fingerprint",
                        "No model with the fingerprint %.16s serves now: vectors of another one "
                        "cannot be taken over. Send the documents without them.",
                        upsert->given.fingerprint);
}

/* Of the slot that the documents will belong to, as far as it is known before they are stored. */
static int check_room(struct upsert *upsert, const struct moult_slot *named) {
    struct moult_server *server = upsert->errand.server;
    const struct moult_collection *collection =
        moult_catalogue_find(server->catalogue, upsert->errand.collection);
    const struct moult_slot *slot =
        collection != NULL ? moult_slots_find(server->slots, collection->slot) : named;
    struct moult_error error;
    if (slot == NULL ||
        moult_followers_admit(server->followers, slot, upsert->puts.count, &error) == 0)
        return 0;
    return moult_refuse(&upsert->errand.refusal, MOULT_HTTP_OVERLOADED, NULL, "%s",
                        error.message);
}

/* A document is the slot's, whatever model of it serves: "name@fp8" means the slot here. */
static int upsert_check(struct moult_errand *errand) {
    struct upsert *upsert = (struct upsert *)errand;
    struct moult_target target;
    struct moult_error error;
    if (moult_slots_resolve(errand->server->slots, upsert->model, &target, &error) != 0)
        return moult_refuse(&errand->refusal, MOULT_HTTP_NO_MODEL, "model", "%s", error.message);
    if (target.pinned != NULL)
        moult_generation_drop(target.pinned);
    memcpy(upsert->slot, moult_slot_name(target.slot), strlen(moult_slot_name(target.slot)) + 1);
    return check_given(upsert) == 0 ? check_room(upsert, target.slot) : -1;
}

static void write_upserted(struct upsert *upsert) {
    struct moult_buffer *answer = &upsert->errand.answer;
    moult_buffer_format(answer, "{\"upserted\":%" PRIu32 ",\"ids\":[", upsert->puts.count);
    for (uint32_t i = 0; i < upsert->puts.count; i++) {
        const char *id = upsert->puts.items[i].id;
        moult_buffer_text(answer, i > 0 ? "," : "");
        moult_buffer_json_string(answer, id, strlen(id));
    }
    moult_buffer_text(answer, "]");
}

static void upsert_finish(struct moult_errand *errand) {
    const struct upsert *upsert = (const struct upsert *)errand;
    if (upsert->given.fingerprint[0] != '\0')
        moult_buffer_format(&errand->answer, ",\"vectors\":%" PRIu32, upsert->given.taken);
    moult_errand_close_answer(errand);
}

static uint32_t upsert_index_of(const struct moult_errand *errand, uint64_t seq) {
    const struct moult_puts *puts = &((const struct upsert *)errand)->puts;
    uint32_t i = 0;
    while (i < puts->count && puts->items[i].seq != seq)
        i++;
    return i;
}

static int put_all(struct upsert *upsert, struct moult_store *store, struct moult_error *error) {
    struct moult_puts *puts = &upsert->puts;
    uint32_t number = upsert->collection.number;
    moult_replaced_withdraw(upsert->replaced);
    if (moult_replaced_read(upsert->errand.server->replaced, store, &upsert->collection,
                            puts->items, puts->count, &upsert->replaced, error) != 0 ||
        moult_store_put(store, number, puts->items, puts->count, error) != 0)
        return -1;
    moult_replaced_publish(upsert->replaced, puts->items);
    return 0;
}

/* The collection belongs to the slot of its first document. Who names no model means that one. */
static int upsert_run(struct moult_errand *errand, struct moult_store *store,
                      struct moult_error *error) {
    struct upsert *upsert = (struct upsert *)errand;
    struct moult_puts *puts = &upsert->puts;
    upsert->changes = (struct changes){0};
    if (moult_store_collection_make(store, errand->collection, upsert->slot, &upsert->collection,
                                    error) != 0)
        return -1;
    if (upsert->model != NULL && strcmp(upsert->collection.slot, upsert->slot) != 0) {
        moult_refuse(&errand->refusal, MOULT_HTTP_CONFLICT, "model",
                     "The documents of %s belong to the model %s, not to %s: name that model, or "
                     "another collection.", errand->collection, upsert->collection.slot,
                     upsert->slot);
        return moult_fail(error, MOULT_ERROR_INVALID, "%s", errand->refusal.message);
    }
    if (put_all(upsert, store, error) != 0)
        return -1;
    for (uint32_t i = 0; i < puts->count; i++)
        note_change(&upsert->changes, puts->items[i].seq);
    write_upserted(upsert);
    return 0;
}

static void upsert_then(struct moult_errand *errand) {
    struct upsert *upsert = (struct upsert *)errand;
    struct moult_slots *slots = errand->server->slots;
    moult_given_offer(&upsert->given, &slots->given, upsert->puts.items);
    moult_errand_await(errand, &upsert->collection, false, upsert->changes.first_seq,
                       upsert->changes.last_seq);
}

static void upsert_release(struct moult_errand *errand) {
    struct upsert *upsert = (struct upsert *)errand;
    moult_replaced_withdraw(upsert->replaced);
    moult_puts_release(&upsert->puts);
    moult_given_release(&upsert->given);
    free(upsert->model);
}

static const struct moult_errand_kind upsert_kind = {
    .size = sizeof(struct upsert),
    .queue = MOULT_DESK_WRITE,
    .takes_lists = true,
    .read = upsert_read,
    .check = upsert_check,
    .run = upsert_run,
    .then = upsert_then,
    .finish = upsert_finish,
    .index_of = upsert_index_of,
    .release = upsert_release,
};

void moult_documents_put(struct moult_http_request *request) {
    struct upsert *upsert = moult_errand_open(request, &upsert_kind);
    if (upsert == NULL)
        return;
    const char *model = moult_http_header(request, "x-moult-model");
    if (model != NULL)
        upsert->model = moult_copy_string(model);
    moult_errand_begin(&upsert->errand);
}

/* ------------------------------------- DELETE /documents/{id}, POST /documents/delete */

struct deletion {
    struct moult_errand errand;
    char **ids;                         /* [count], owned. NULL: those that match the filter. */
    uint32_t count;
    bool one;                           /* Of the path: 404 where it is not there. */
    struct moult_filter *filter;
    struct moult_collection collection;
    int64_t deleted_now;
    uint64_t deleted, seq;
    struct changes changes;
};

static int read_ids(struct deletion *deletion, const json_t *ids) {
    struct moult_refusal *refusal = &deletion->errand.refusal;
    if (!json_is_array(ids))
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "ids",
                            "\"ids\" must be a list of strings, not %s.",
                            moult_json_type_name(ids));
    if (json_array_size(ids) > MOULT_DOCUMENTS_PER_REQUEST_MAX)
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "ids",
                            "\"ids\" has %zu ids; a request takes %d at most.",
                            json_array_size(ids), MOULT_DOCUMENTS_PER_REQUEST_MAX);
    deletion->ids = moult_allocate(json_array_size(ids) + 1, sizeof *deletion->ids);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_string(id) || strlen(json_string_value(id)) != json_string_length(id))
            return moult_refuse(refusal, MOULT_HTTP_INVALID, "ids",
                                "ids[%zu] must be a string without NUL, not %s.", i,
                                moult_json_type_name(id));
        deletion->ids[deletion->count++] = moult_copy_string(json_string_value(id));
    }
    return 0;
}

static int deletion_read(struct moult_errand *errand, const json_t *body) {
    struct deletion *deletion = (struct deletion *)errand;
    const json_t *ids = json_object_get(body, "ids"), *filter = json_object_get(body, "filter");
    struct moult_error error;
    if ((ids != NULL) == (filter != NULL))
        return moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, NULL,
                            "The body must have either \"ids\" or a \"filter\".");
    if (ids != NULL)
        return read_ids(deletion, ids);
    deletion->filter = moult_filter_parse(filter, &error);
    if (deletion->filter == NULL)
        return moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, "filter", "%s", error.message);
    return 0;
}

static int deletion_run(struct moult_errand *errand, struct moult_store *store,
                        struct moult_error *error) {
    struct deletion *deletion = (struct deletion *)errand;
    deletion->deleted_now = 0;
    if (moult_errand_collection(errand, store, &deletion->collection, error) != 0)
        return -1;
    uint32_t number = deletion->collection.number;
    if (number != 0)
        deletion->deleted_now =
            deletion->ids != NULL
                ? moult_store_delete(store, number, (const char *const *)deletion->ids,
                                     deletion->count, NULL, &deletion->seq, error)
                : moult_store_delete_matching(store, number, deletion->filter, DELETED_AT_ONCE,
                                              &deletion->seq, error);
    if (deletion->deleted_now < 0)
        return -1;
    return deletion->one && deletion->deleted_now == 0
               ? moult_documents_missing(errand, deletion->ids[0], error)
               : 0;
}

static void deletion_then(struct moult_errand *errand) {
    struct deletion *deletion = (struct deletion *)errand;
    struct changes *changes = &deletion->changes;
    if (deletion->deleted_now > 0)
        note_change(changes, deletion->seq - (uint64_t)deletion->deleted_now + 1);
    if (deletion->deleted_now > 0)
        note_change(changes, deletion->seq);
    deletion->deleted += (uint64_t)deletion->deleted_now;
    if (deletion->filter != NULL && deletion->deleted_now == DELETED_AT_ONCE) {
        moult_errand_hand_in(errand);
        return;
    }
    moult_buffer_format(&errand->answer, "{\"deleted\":%" PRIu64, deletion->deleted);
    moult_errand_await(errand, &deletion->collection, false, changes->first_seq,
                       changes->last_seq);
}

static void deletion_release(struct moult_errand *errand) {
    struct deletion *deletion = (struct deletion *)errand;
    for (uint32_t i = 0; i < deletion->count; i++)
        free(deletion->ids[i]);
    free(deletion->ids);
    moult_filter_free(deletion->filter);
}

static const struct moult_errand_kind deletion_kind = {
    .size = sizeof(struct deletion),
    .queue = MOULT_DESK_WRITE,
    .read = deletion_read,
    .run = deletion_run,
    .then = deletion_then,
    .finish = moult_errand_close_answer,
    .release = deletion_release,
};

static const struct moult_errand_kind deletion_of_one_kind = {
    .size = sizeof(struct deletion),
    .queue = MOULT_DESK_WRITE,
    .run = deletion_run,
    .then = deletion_then,
    .finish = moult_errand_close_answer,
    .release = deletion_release,
};

void moult_documents_delete(struct moult_http_request *request) {
    struct deletion *deletion = moult_errand_open(request, &deletion_kind);
    if (deletion != NULL)
        moult_errand_begin(&deletion->errand);
}

void moult_documents_delete_one(struct moult_http_request *request) {
    struct deletion *deletion = moult_errand_open(request, &deletion_of_one_kind);
    if (deletion == NULL)
        return;
    deletion->one = true;
    deletion->count = 1;
    deletion->ids = moult_allocate(1, sizeof *deletion->ids);
    deletion->ids[0] = moult_copy_string(moult_http_rest(request));
    moult_errand_begin(&deletion->errand);
}
