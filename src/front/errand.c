#include "front/errand.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/answering.h"

#define DEFAULT_COLLECTION "default"
/* Where nobody knows better. */
#define RETRY_AFTER_S 2

static void read_body(struct moult_body_reader *reader);
static void after_reading(struct moult_body_reader *reader);
static int run(struct moult_desk_task *task, struct moult_store *store, struct moult_error *error);
static void done(struct moult_desk_task *task, const struct moult_error *error);

static void errand_free(struct moult_errand *errand) {
    if (errand->kind->release != NULL)
        errand->kind->release(errand);
    moult_buffer_release(&errand->answer);
    free(errand->later);
    free(errand);
}

/* What was written stays written, and is followed as all else: what waits for that is freed when it
 * has come. */
static void on_gone(void *context) {
    struct moult_errand *errand = context;
    struct moult_server *server = errand->server;
    errand->request = NULL;
    if (errand->waiting ||
        (errand->at_desk && !moult_desk_withdraw(server->desk, &errand->task)))
        return;
    if (!errand->at_desk && errand->kind->gone != NULL)
        errand->kind->gone(errand);
    errand_free(errand);
}

static bool name_collection(struct moult_errand *errand) {
    size_t size;
    const char *name = moult_http_name(errand->request, &size);
    if (name == NULL) {
        memcpy(errand->collection, DEFAULT_COLLECTION, sizeof DEFAULT_COLLECTION);
        return true;
    }
    if (size >= sizeof errand->collection)
        return false;
    memcpy(errand->collection, name, size);
    return moult_collection_name_valid(errand->collection);
}

void *moult_errand_open(struct moult_http_request *request, const struct moult_errand_kind *kind) {
    struct moult_server *server = moult_http_server(request);
    if (server->desk == NULL) {
        moult_http_fail(request, MOULT_HTTP_NOT_FOUND, NULL,
                        "This server embeds alone: it was started with --store none, so it has no "
                        "documents and searches nothing.");
        return NULL;
    }
    struct moult_errand *errand = moult_allocate(1, kind->size);
    errand->kind = kind;
    errand->request = request;
    errand->server = server;
    errand->status = 200;
    errand->queue = kind->queue;
    errand->task.run = run;
    errand->task.done = done;
    moult_buffer_init(&errand->answer, MOULT_DOCUMENTS_ANSWER_BYTES_MAX);
    if (name_collection(errand)) {
        moult_http_on_gone(request, on_gone, errand);
        return errand;
    }
    moult_http_fail(request, MOULT_HTTP_INVALID, NULL,
                    "A collection's name has 1 to %d letters, digits, dots, hyphens and "
                    "underscores of ASCII.", MOULT_COLLECTION_NAME_BYTES_MAX);
    free(errand);
    return NULL;
}

/* The way in. */

static struct moult_errand *errand_of_reader(struct moult_body_reader *reader) {
    return (struct moult_errand *)((char *)reader - offsetof(struct moult_errand, reader));
}

static struct moult_errand *errand_of(struct moult_desk_task *task) {
    return (struct moult_errand *)((char *)task - offsetof(struct moult_errand, task));
}

void moult_errand_begin(struct moult_errand *errand) {
    if (errand->kind->read != NULL)
        moult_body_read(&errand->reader, errand->request, read_body, after_reading);
    else
        after_reading(&errand->reader);
}

static void read_body(struct moult_body_reader *reader) {
    struct moult_errand *errand = errand_of_reader(reader);
    struct moult_error error;
    json_t *body = errand->kind->takes_lists
                       ? moult_json_read(reader->bytes, reader->size, &error)
                       : moult_json_read_object(reader->bytes, reader->size, &error);
    if (body == NULL)
        moult_refuse(&errand->refusal, MOULT_HTTP_MALFORMED, NULL, "%s", error.message);
    else
        errand->kind->read(errand, body);
    json_decref(body);
}

static void after_reading(struct moult_body_reader *reader) {
    struct moult_errand *errand = errand_of_reader(reader);
    bool away_from_desk = !errand->refusal.refused && errand->kind->check != NULL &&
                          errand->kind->check(errand) > 0;
    if (errand->refusal.refused)
        moult_errand_refuse(errand);
    else if (away_from_desk)
        errand->kind->then(errand);
    else
        moult_errand_hand_in(errand);
}

/* At the desk. */

void moult_errand_hand_in(struct moult_errand *errand) {
    if (errand->request == NULL) {
        errand_free(errand);
        return;
    }
    errand->at_desk = true;
    moult_desk_hand_in(errand->server->desk, errand->queue, &errand->task);
}

static int run(struct moult_desk_task *task, struct moult_store *store,
               struct moult_error *error) {
    struct moult_errand *errand = errand_of(task);
    errand->refusal.refused = false;
    if (errand->kind->queue == MOULT_DESK_WRITE)
        moult_buffer_release(&errand->answer);   /* It may have run before. */
    return errand->kind->run(errand, store, error);
}

static void done(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_errand *errand = errand_of(task);
    errand->at_desk = false;
    if (errand->refusal.refused)
        moult_errand_refuse(errand);
    else if (error != NULL)
        moult_errand_fail_with(errand, error);
    else if (errand->kind->then != NULL)
        errand->kind->then(errand);
    else
        moult_errand_answer(errand);
}

int moult_errand_collection(const struct moult_errand *errand, struct moult_store *store,
                            struct moult_collection *collection, struct moult_error *error) {
    *collection = (struct moult_collection){0};
    if (moult_store_collection(store, errand->collection, collection, error) == 0)
        return 0;
    return error->code == MOULT_ERROR_MISSING &&
                   strcmp(errand->collection, DEFAULT_COLLECTION) == 0
               ? 0
               : -1;
}

/* The way out. */

/* What of it is not found, and why. */
static void refuse_document(struct moult_errand *errand, const struct moult_write_result *result) {
    uint32_t index = errand->kind->index_of != NULL ? errand->kind->index_of(errand, result->seq)
                                                    : 0;
    moult_refuse(&errand->refusal,
                 result->killed_worker ? MOULT_HTTP_BACKEND : MOULT_HTTP_NOT_EMBEDDED, NULL,
                 "documents[%" PRIu32 "] is stored, but no search by vectors finds it; the others "
                 "are found. %.380s", index, result->message);
    moult_errand_refuse(errand);
}

static void on_found(void *context, const struct moult_write_result *result) {
    struct moult_errand *errand = context;
    errand->waiting = false;
    if (result->outcome == MOULT_WRITE_REFUSED) {
        refuse_document(errand, result);
        return;
    }
    if (result->outcome == MOULT_WRITE_LATER)
        errand->later = moult_copy_string(result->message);
    moult_errand_answer(errand);
}

void moult_errand_await(struct moult_errand *errand, const struct moult_collection *collection,
                        bool dropped, uint64_t first_seq, uint64_t last_seq) {
    struct moult_server *server = errand->server;
    struct moult_slot *slot = moult_slots_find(server->slots, collection->slot);
    if (last_seq != 0)
        moult_catalogue_note(server->catalogue, collection, dropped);
    if (last_seq != 0 && slot == NULL)
        errand->later = moult_format("It is stored, and the model %s is not served now.",
                                     collection->slot);
    errand->waiting = last_seq != 0 && slot != NULL;
    if (errand->waiting)
        moult_followers_wrote(server->followers, slot, first_seq, last_seq, on_found, errand);
    else
        moult_errand_answer(errand);
}

void moult_errand_close_answer(struct moult_errand *errand) {
    if (errand->later != NULL) {
        errand->status = 202;
        moult_buffer_text(&errand->answer, ",\"searchable\":false,\"reason\":");
        moult_buffer_json_string(&errand->answer, errand->later, strlen(errand->later));
    }
    moult_buffer_text(&errand->answer, "}");
}

void moult_errand_answer(struct moult_errand *errand) {
    if (errand->kind->finish != NULL)
        errand->kind->finish(errand);
    if (errand->request != NULL && errand->answer.overflowed) {
        moult_refuse(&errand->refusal, MOULT_HTTP_INVALID, NULL,
                     "The answer would have more bytes than one may have: ask for fewer documents "
                     "at once, or without their texts.");
        moult_errand_refuse(errand);
        return;
    }
    if (errand->request != NULL) {
        size_t size;
        char *body = moult_buffer_take(&errand->answer, &size);
        moult_http_answer(errand->request, errand->status, "application/json", body, size);
    }
    errand_free(errand);
}

void moult_errand_refuse(struct moult_errand *errand) {
    const struct moult_refusal *refusal = &errand->refusal;
    bool again = refusal->kind == MOULT_HTTP_UNAVAILABLE || refusal->kind == MOULT_HTTP_OVERLOADED;
    if (errand->request != NULL && again)
        moult_answering_number(errand->request, "Retry-After",
                               refusal->retry_after_s > 0 ? refusal->retry_after_s
                                                          : RETRY_AFTER_S);
    if (errand->request != NULL)
        moult_http_fail(errand->request, refusal->kind, refusal->param, "%s", refusal->message);
    errand_free(errand);
}

void moult_errand_fail_with(struct moult_errand *errand, const struct moult_error *error) {
    enum moult_http_error kind = MOULT_HTTP_UNAVAILABLE;
    switch (error->code) {
    case MOULT_ERROR_INVALID:
    case MOULT_ERROR_LIMIT:
        kind = MOULT_HTTP_INVALID;
        break;
    case MOULT_ERROR_MISSING:
        kind = MOULT_HTTP_NOT_FOUND;
        break;
    case MOULT_ERROR_SYSTEM:
        if (errand->kind->queue == MOULT_DESK_WRITE)
            kind = MOULT_HTTP_STORAGE;
        break;
    case MOULT_ERROR_UNAVAILABLE:
    case MOULT_OK:
        break;
    }
    moult_refuse(&errand->refusal, kind, NULL, "%s", error->message);
    moult_errand_refuse(errand);
}
