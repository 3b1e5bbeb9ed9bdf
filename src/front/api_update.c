/* The endpoints of updates: what is under way, and what orders begin, end and decide. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/memory.h"
#include "front/allowed.h"
#include "front/api.h"
#include "front/http_error.h"
#include "front/json.h"
#include "source/source.h"

static void answer_json(struct moult_http_request *request, unsigned status, json_t *json) {
    size_t size;
    char *body = moult_json_write(json, &size);
    json_decref(json);
    moult_http_answer(request, status, "application/json", body, size);
}

/* ------------------------------------------------------------ asking for updates */

void moult_own_updates(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    json_t *json = moult_updates_json(server->updates);
    json_object_set_new(json, "hooks", moult_hooks_json(server->hooks));
    size_t i;
    json_t *slot;
    json_array_foreach(json_object_get(json, "slots"), i, slot)
        json_object_set_new(slot, "poll", server->poll != NULL
                                              ? moult_poll_json(server->poll, (unsigned)i)
                                              : json_null());
    answer_json(request, 200, json);
}

/* The id behind /update_model/, or 0 after having answered that there is none. */
static uint64_t id_of_path(struct moult_http_request *request) {
    const char *rest = moult_http_rest(request);
    size_t size = strlen(rest);
    if (size > 0 && size < 19 && strspn(rest, "0123456789") == size)
        return strtoull(rest, NULL, 10);
    return 0;
}

static void fail_unknown(struct moult_http_request *request) {
    moult_http_fail(request, MOULT_HTTP_NOT_FOUND, NULL, "There is no update \"%.40s\".",
                    moult_http_rest(request));
}

void moult_own_update(struct moult_http_request *request) {
    json_t *json =
        moult_updates_one_json(moult_http_server(request)->updates, id_of_path(request));
    if (json == NULL)
        fail_unknown(request);
    else
        answer_json(request, 200, json);
}

/* ----------------------------------------------------------------- starting them */

/* One caller who waits: until the update has ended, or is ready and waits itself, or the client has
 * gone. */
struct waiter {
    struct moult_http_request *request;
    struct moult_updates *updates;
    uint64_t id;
    bool starting, ended;        /* What is waited for may have come before its start returns. */
};

static unsigned status_code(enum moult_update_status status) {
    switch (status) {
    case MOULT_UPDATE_RUNNING: return 202;
    case MOULT_UPDATE_READY:
    case MOULT_UPDATE_LIVE:
    case MOULT_UPDATE_UNCHANGED: return 200;
    case MOULT_UPDATE_REFUSED: return 422;
    case MOULT_UPDATE_SUPERSEDED:
    case MOULT_UPDATE_CANCELLED: return 409;
    }
    return 500;
}

static void add_text(struct moult_buffer *body, const char *text) {
    moult_buffer_json_string(body, text, strlen(text));
}

static void add_report(struct moult_buffer *body, const struct moult_report *report) {
    size_t size;
    json_t *json = moult_report_json(report);
    char *text = moult_json_write(json, &size);
    moult_buffer_text(body, ",\"report\":");
    moult_buffer_append(body, text, size);
    free(text);
    json_decref(json);
}

static void answer_result(struct moult_http_request *request,
                          const struct moult_update_result *result) {
    struct moult_buffer body;
    moult_buffer_init(&body, 16 * MOULT_KIB);
    moult_buffer_format(&body, "{\"id\":%" PRIu64 ",\"slot\":", result->id);
    add_text(&body, moult_slot_name(result->slot));
    moult_buffer_format(&body, ",\"status\":\"%s\"", moult_update_status_name(result->status));
    if (result->generation != 0)
        moult_buffer_format(&body, ",\"generation\":%" PRIu64, result->generation);
    if (result->reason != NULL && result->reason[0] != '\0') {
        moult_buffer_text(&body, ",\"reason\":");
        add_text(&body, result->reason);
    }
    if (result->report != NULL)
        add_report(&body, result->report);
    moult_buffer_text(&body, "}");
    size_t size;
    char *text = moult_buffer_take(&body, &size);
    moult_http_answer(request, status_code(result->status), "application/json", text, size);
}

static void on_ended(void *context, const struct moult_update_result *result) {
    struct waiter *waiter = context;
    answer_result(waiter->request, result);
    waiter->ended = true;
    if (!waiter->starting)
        free(waiter);
}

static void on_gone(void *context) {
    struct waiter *waiter = context;
    moult_updates_forget(waiter->updates, waiter->id, on_ended, waiter);
    free(waiter);
}

struct wish {
    struct moult_update_order order;
    bool cut_over;               /* This update is to serve, and nothing else is ordered. */
    uint64_t cut_over_id;
    bool wait;
    char *place;                 /* What order.model is then; malloc'ed, or NULL. */
};

static int read_slot(const struct moult_slots *slots, const json_t *body, struct wish *wish,
                     struct moult_error *error) {
    const char *name;
    int found = moult_json_string(body, "slot", &name, error);
    if (found < 0)
        return -1;
    if (found == 0) {
        wish->order.slot = moult_slots_at(slots, 0);
        return 0;
    }
    for (unsigned i = 0; i < moult_slots_count(slots); i++) {
        wish->order.slot = moult_slots_at(slots, i);
        if (strcmp(moult_slot_name(wish->order.slot), name) == 0)
            return 0;
    }
    return moult_fail(error, MOULT_ERROR_MISSING, "There is no slot \"%.64s\".", name);
}

static int read_cutover(const json_t *body, struct moult_update_order *order,
                        struct moult_error *error) {
    const char *word = NULL;
    if (moult_json_string(body, "cutover", &word, error) < 0)
        return -1;
    if (word == NULL)
        return 0;
    order->cutover = strcmp(word, "manual") == 0 ? MOULT_CUTOVER_MANUAL : MOULT_CUTOVER_AUTO;
    if (order->cutover == MOULT_CUTOVER_AUTO && strcmp(word, "auto") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"cutover\" must be \"auto\" or \"manual\".");
    return 0;
}

static int read_swap(const struct moult_serve_options *options, const json_t *body,
                     struct moult_update_order *order, struct moult_error *error) {
    const char *word = NULL;
    if (moult_json_string(body, "swap", &word, error) < 0)
        return -1;
    if (word != NULL)
        order->swap = strcmp(word, "wait") == 0 ? MOULT_SWAP_WAIT : MOULT_SWAP_OVERLAP;
    if (order->swap == MOULT_SWAP_OVERLAP && strcmp(word, "overlap") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "\"swap\" must be \"overlap\" or \"wait\".");
    bool waits = order->swap == MOULT_SWAP_DEFAULT ? options->swap_wait
                                                   : order->swap == MOULT_SWAP_WAIT;
    if (waits && options->gate_limit.kind != MOULT_GATE_ANY && !order->rollback)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"swap\": \"wait\" is not for a server with --gate-min: a model that is "
                          "judged is loaded beside the one that serves.");
    bool manual = order->cutover == MOULT_CUTOVER_DEFAULT ? options->cutover_manual
                                                          : order->cutover == MOULT_CUTOVER_MANUAL;
    if (waits && manual && !order->rollback)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"swap\": \"wait\" and a manual cut-over exclude each other: a model "
                          "that waits for a person is loaded beside the one that serves.");
    return 0;
}

/* A field that is not known must not be taken for done, so it is refused. */
static int check_fields(const json_t *body, const char *const *known, struct moult_error *error) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
    {
        unsigned i = 0;
        while (known[i] != NULL && strcmp(known[i], key) != 0)
            i++;
        if (known[i] == NULL && !json_is_null(value))
            return moult_fail(error, MOULT_ERROR_INVALID, "\"%.64s\" is not understood here.", key);
    }
    return 0;
}

/* "revision" makes org/name@revision of a model on a hub. */
static int read_revision(const json_t *body, struct wish *wish, struct moult_error *error) {
    const char *revision = NULL;
    const char *model = wish->order.model != NULL ? wish->order.model
                                                  : moult_slot_source(wish->order.slot);
    if (moult_json_string(body, "revision", &revision, error) < 0)
        return -1;
    if (revision == NULL)
        return 0;
    if (moult_source_kind_of(model) != MOULT_SOURCE_HUB)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Only a model on a hub has a \"revision\"; \"%.200s\" is none.", model);
    if (wish->order.model != NULL && strchr(model, '@') != NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"model\" names a revision already: leave \"revision\" out.");
    wish->place = moult_format("%.*s@%s", (int)strcspn(model, "@"), model, revision);
    wish->order.model = wish->place;
    return moult_source_check(wish->place, error);
}

static int read_wish(const struct moult_server *server, const json_t *body, struct wish *wish,
                     struct moult_error *error) {
    static const char *const of_update[] = {"model",   "slot",    "wait", "force",
                                            "if_busy", "cutover", "swap", "revision", NULL};
    static const char *const of_rollback[] = {"slot", "wait", "force", "if_busy", "swap", NULL};
    const char *if_busy = "join";
    if (check_fields(body, wish->order.rollback ? of_rollback : of_update, error) != 0 ||
        read_slot(server->slots, body, wish, error) != 0 ||
        moult_json_string(body, "model", &wish->order.model, error) < 0 ||
        moult_json_boolean(body, "force", &wish->order.force, error) < 0 ||
        moult_json_boolean(body, "wait", &wish->wait, error) < 0 ||
        moult_json_string(body, "if_busy", &if_busy, error) < 0 ||
        read_cutover(body, &wish->order, error) != 0 ||
        read_swap(server->options, body, &wish->order, error) != 0)
        return -1;
    if (wish->order.model != NULL && wish->order.model[0] == '\0')
        return moult_fail(error, MOULT_ERROR_INVALID, "\"model\" is empty.");
    wish->order.reject_if_busy = strcmp(if_busy, "reject") == 0;
    if (!wish->order.reject_if_busy && strcmp(if_busy, "join") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"if_busy\" must be \"join\" or \"reject\".");
    return read_revision(body, wish, error);
}

static void fail_start(struct moult_http_request *request, const struct moult_error *error) {
    enum moult_http_error kind = MOULT_HTTP_UNAVAILABLE;
    if (error->code == MOULT_ERROR_INVALID)
        kind = MOULT_HTTP_FORBIDDEN;
    else if (error->code == MOULT_ERROR_UNAVAILABLE)
        kind = moult_http_server(request)->stopping ? MOULT_HTTP_UNAVAILABLE : MOULT_HTTP_CONFLICT;
    else if (error->code == MOULT_ERROR_MISSING)
        kind = MOULT_HTTP_NOT_FOUND;
    moult_http_fail(request, kind, NULL, "%s", error->message);
}

static int begin(struct moult_updates *updates, const struct wish *wish,
                 moult_update_listener listener, void *context, uint64_t *id,
                 struct moult_error *error) {
    if (!wish->cut_over)
        return moult_updates_start(updates, &wish->order, listener, context, id, error);
    *id = wish->cut_over_id;
    return moult_updates_cut_over(updates, *id, listener, context, error);
}

static void start_and_wait(struct moult_http_request *request, const struct wish *wish) {
    struct waiter *waiter = moult_allocate(1, sizeof *waiter);
    waiter->request = request;
    waiter->updates = moult_http_server(request)->updates;
    waiter->starting = true;
    struct moult_error error;
    moult_http_on_gone(request, on_gone, waiter);
    int failed = begin(waiter->updates, wish, on_ended, waiter, &waiter->id, &error);
    waiter->starting = false;
    if (failed != 0)
        fail_start(request, &error);
    if (failed != 0 || waiter->ended)
        free(waiter);
}

static void start(struct moult_http_request *request, const struct wish *wish) {
    struct moult_error error;
    if (wish->wait) {
        start_and_wait(request, wish);
        return;
    }
    struct moult_update_result result = {.slot = wish->order.slot, .status = MOULT_UPDATE_RUNNING};
    if (begin(moult_http_server(request)->updates, wish, NULL, NULL, &result.id, &error) != 0)
        fail_start(request, &error);
    else
        answer_result(request, &result);
}

/* An order whose place is looked at on the disk first. */
struct look {
    struct moult_http_request *request;
    struct wish wish;
};

static void on_looked(void *context, char *place, const struct moult_error *error) {
    struct look *look = context;
    moult_http_keep(look->request, false);
    look->wish.order.model = place;
    if (place == NULL)
        fail_start(look->request, error);
    else
        start(look->request, &look->wish);
    free(place);
    free(look);
}

static void check_place(struct moult_http_request *request, const struct wish *wish) {
    const struct moult_server *server = moult_http_server(request);
    const char *model = wish->order.model;
    const char *source = moult_slot_source(wish->order.slot);
    struct moult_error error;
    enum moult_allowed allowed =
        model == NULL ? MOULT_ALLOWED
                      : moult_allowed_judge(server->options, source, model, &error);
    if (allowed == MOULT_ALLOWED) {
        start(request, wish);
    } else if (allowed == MOULT_ALLOWED_NOT) {
        fail_start(request, &error);
    } else {
        struct look *look = moult_allocate(1, sizeof *look);
        *look = (struct look){request, *wish};
        moult_http_keep(request, true);
        moult_allowed_look(server->loop, server->options, source, model, on_looked, look);
    }
}

/* The body as an object; or NULL after having answered that it is none. */
static json_t *read_body(struct moult_http_request *request) {
    struct moult_error error;
    size_t size;
    const char *bytes = moult_http_body(request, &size);
    if (size > MOULT_BODY_BYTES_ON_LOOP) {
        moult_http_fail(request, MOULT_HTTP_TOO_LARGE, NULL,
                        "The body has %zu bytes; an order takes %lu at most.", size,
                        MOULT_BODY_BYTES_ON_LOOP);
        return NULL;
    }
    json_t *body = size > 0 ? moult_json_read_object(bytes, size, &error) : json_object();
    if (body == NULL)
        moult_http_fail(request, MOULT_HTTP_MALFORMED, NULL, "%s", error.message);
    return body;
}

static void start_from_body(struct moult_http_request *request, bool rollback) {
    const struct moult_server *server = moult_http_server(request);
    struct moult_error error;
    struct wish wish = {.order.rollback = rollback};
    json_t *body = read_body(request);
    if (body == NULL)
        return;
    if (read_wish(server, body, &wish, &error) != 0)
        moult_http_fail(request,
                        error.code == MOULT_ERROR_MISSING ? MOULT_HTTP_NOT_FOUND
                                                          : MOULT_HTTP_INVALID,
                        NULL, "%s", error.message);
    else
        check_place(request, &wish);
    free(wish.place);
    json_decref(body);
}

void moult_own_update_start(struct moult_http_request *request) {
    start_from_body(request, false);
}

void moult_own_rollback(struct moult_http_request *request) {
    start_from_body(request, true);
}

/* --------------------------------------------------- what becomes of one that runs */

/* POST /update_model/ID/cutover */
void moult_own_update_cut_over(struct moult_http_request *request) {
    static const char *const known[] = {"wait", NULL};
    struct moult_updates *updates = moult_http_server(request)->updates;
    struct moult_error error;
    const char *rest = moult_http_rest(request);
    size_t digits = strspn(rest, "0123456789");
    if (digits == 0 || digits > 18 || strcmp(rest + digits, "/cutover") != 0) {
        moult_http_fail(request, MOULT_HTTP_NOT_FOUND, NULL, "There is no such path.");
        return;
    }
    struct wish wish = {.cut_over = true, .cut_over_id = strtoull(rest, NULL, 10)};
    wish.order.slot = moult_updates_slot_of(updates, wish.cut_over_id);
    json_t *body = read_body(request);
    if (body == NULL)
        return;
    if (check_fields(body, known, &error) != 0 ||
        moult_json_boolean(body, "wait", &wish.wait, &error) < 0)
        moult_http_fail(request, MOULT_HTTP_INVALID, NULL, "%s", error.message);
    else
        start(request, &wish);
    json_decref(body);
}

void moult_own_update_cancel(struct moult_http_request *request) {
    struct moult_updates *updates = moult_http_server(request)->updates;
    struct moult_error error;
    uint64_t id = id_of_path(request);
    if (id == 0)
        fail_unknown(request);
    else if (moult_updates_cancel(updates, id, &error) != 0)
        fail_start(request, &error);
    else {
        json_t *json = moult_updates_one_json(updates, id);
        answer_json(request, 200, json != NULL ? json : json_object());
    }
}
