/* Leases over HTTP: a model stays installed while somebody needs it. An answer about a lease that
 * was made, changed or ended leaves when that is on disk. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/api.h"
#include "front/embedding.h"

/* 256 leases of 300 bytes. */
#define LEASES_BYTES_MAX (128 * MOULT_KIB)

/* One change, until it is on disk. The client may go before; the change stays. */
struct change {
    struct moult_http_request *request;   /* NULL: it has gone. */
    struct moult_shelf *shelf;
    unsigned status;
    struct moult_state_lease before;      /* What the lease was; `expires` 0: there was none. */
    struct moult_state_lease after;       /* What the answer shows. */
};

static void write_lease(struct moult_buffer *body, const struct moult_state_lease *lease) {
    moult_buffer_format(body,
                        "{\"id\":\"%s\",\"model\":\"%s@%.8s\",\"fingerprint\":\"%s\","
                        "\"made_at\":%" PRIu64 ",\"expires_at\":%" PRIu64 "}",
                        lease->id, lease->slot, lease->fingerprint, lease->fingerprint,
                        lease->made, lease->expires);
}

static void answer(struct moult_http_request *request, unsigned status,
                   struct moult_buffer *body) {
    size_t size;
    char *text = moult_buffer_take(body, &size);
    moult_http_answer(request, status, "application/json", text, size);
}

static void answer_lease(struct moult_http_request *request, unsigned status,
                         const struct moult_state_lease *lease) {
    struct moult_buffer body;
    moult_buffer_init(&body, LEASES_BYTES_MAX);
    write_lease(&body, lease);
    answer(request, status, &body);
}

void moult_leases_list(struct moult_http_request *request) {
    const struct moult_shelf *shelf = moult_http_server(request)->shelf;
    const struct moult_state_lease *lease;
    struct moult_buffer body;
    moult_buffer_init(&body, LEASES_BYTES_MAX);
    moult_buffer_text(&body, "{\"leases\":[");
    for (unsigned i = 0; (lease = moult_shelf_lease_at(shelf, i)) != NULL; i++) {
        moult_buffer_text(&body, i == 0 ? "" : ",");
        write_lease(&body, lease);
    }
    moult_buffer_text(&body, "]}");
    answer(request, 200, &body);
}

static void fail_unknown(struct moult_http_request *request) {
    moult_http_fail(request, MOULT_HTTP_NOT_FOUND, NULL,
                    "There is no lease \"%.40s\"; GET /leases lists what there is.",
                    moult_http_rest(request));
}

void moult_leases_show(struct moult_http_request *request) {
    const struct moult_state_lease *lease =
        moult_shelf_find_lease(moult_http_server(request)->shelf, moult_http_rest(request));
    if (lease == NULL)
        fail_unknown(request);
    else
        answer_lease(request, 200, lease);
}

/* ---------------------------------------------------------------- changing them */

static void on_gone(void *context) {
    struct change *change = context;
    change->request = NULL;
}

static void on_saved(void *context, uint64_t tag, const struct moult_error *error) {
    struct change *change = context;
    (void)tag;
    if (error != NULL)
        moult_shelf_restore_lease(change->shelf, &change->before);
    if (change->request != NULL && error != NULL)
        moult_http_fail(change->request, MOULT_HTTP_BACKEND, NULL,
                        "The lease cannot be saved, and is as it was before: %s", error->message);
    else if (change->request != NULL)
        answer_lease(change->request, change->status, &change->after);
    free(change);
}

static void save(struct moult_http_request *request, unsigned status,
                 const struct moult_state_lease *before, const struct moult_state_lease *after) {
    struct change *change = moult_allocate(1, sizeof *change);
    *change = (struct change){.request = request,
                              .shelf = moult_http_server(request)->shelf,
                              .status = status,
                              .before = *before,
                              .after = *after};
    moult_http_on_gone(request, on_gone, change);
    moult_shelf_save(change->shelf, on_saved, change);
}

/* "90s", "15m", "6h", "7d", or a number of seconds. */
static int read_ttl(const json_t *body, uint64_t *seconds, struct moult_error *error) {
    static const char units[] = "smhd";
    static const uint64_t sizes[] = {1, 60, 3600, 86400};
    const json_t *value = json_object_get(body, "ttl");
    const char *text = json_string_value(value);
    *seconds = 0;
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        *seconds = (uint64_t)json_integer_value(value);
    } else if (text != NULL && strlen(text) == json_string_length(value)) {
        size_t digits = strspn(text, "0123456789");
        const char *unit = digits > 0 && digits < 10 ? strchr(units, text[digits]) : NULL;
        if (unit != NULL && text[digits] != '\0' && text[digits + 1] == '\0')
            *seconds = strtoull(text, NULL, 10) * sizes[unit - units];
    }
    if (*seconds > 0 && *seconds <= MOULT_LEASE_SECONDS_MAX)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "\"ttl\" must be a time such as \"90s\", \"15m\", \"6h\" or \"7d\", and %d "
                      "days at most; a lease can be renewed.",
                      MOULT_LEASE_SECONDS_MAX / 86400);
}

static json_t *read_body(struct moult_http_request *request, struct moult_error *error) {
    size_t size;
    const char *bytes = moult_http_body(request, &size);
    if (size <= MOULT_BODY_BYTES_ON_LOOP)
        return moult_json_read_object(bytes, size, error);
    moult_fail(error, MOULT_ERROR_INVALID, "The body has %zu bytes; a lease takes %lu at most.",
               size, MOULT_BODY_BYTES_ON_LOOP);
    return NULL;
}

static int check_fields(const json_t *body, const char *other, struct moult_error *error) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
        if (strcmp(key, "ttl") != 0 && strcmp(key, other) != 0 && !json_is_null(value))
            return moult_fail(error, MOULT_ERROR_INVALID, "\"%.64s\" is not understood here.", key);
    return 0;
}

/* Only an exact name will do: what "minilm" means is another model tomorrow. */
static int find_model(struct moult_http_request *request, const json_t *body,
                      struct moult_target *target, struct moult_error *error) {
    const char *model = NULL;
    if (moult_json_string(body, "model", &model, error) < 0)
        return -1;
    if (model == NULL || strchr(model, '@') == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"model\" must name one exact model, such as minilm@30a61859; "
                          "GET /v1/models lists them.");
    return moult_slots_resolve(moult_http_server(request)->slots, model, target, error);
}

static void fail_body(struct moult_http_request *request, const struct moult_error *error) {
    enum moult_http_error kind = MOULT_HTTP_INVALID;
    if (error->code == MOULT_ERROR_MISSING)
        kind = MOULT_HTTP_NOT_FOUND;
    else if (error->code == MOULT_ERROR_LIMIT)
        kind = MOULT_HTTP_CONFLICT;
    moult_http_fail(request, kind, NULL, "%s", error->message);
}

static int make_lease(struct moult_http_request *request, const json_t *body,
                      struct moult_error *error) {
    struct moult_target target;
    uint64_t seconds;
    if (check_fields(body, "model", error) != 0 || read_ttl(body, &seconds, error) != 0 ||
        find_model(request, body, &target, error) != 0)
        return -1;
    const struct moult_state_lease *lease =
        moult_shelf_lease(moult_http_server(request)->shelf, target.pinned, seconds, error);
    moult_generation_drop(target.pinned);
    if (lease == NULL)
        return -1;
    struct moult_state_lease before = *lease;
    before.expires = 0;
    save(request, 201, &before, lease);
    return 0;
}

void moult_leases_make(struct moult_http_request *request) {
    struct moult_error error;
    json_t *body = read_body(request, &error);
    if (body == NULL || make_lease(request, body, &error) != 0)
        fail_body(request, &error);
    json_decref(body);
}

static int renew_lease(struct moult_http_request *request, const json_t *body,
                       struct moult_error *error) {
    struct moult_shelf *shelf = moult_http_server(request)->shelf;
    const char *id = moult_http_rest(request);
    uint64_t seconds;
    if (check_fields(body, "ttl", error) != 0 || read_ttl(body, &seconds, error) != 0)
        return -1;
    const struct moult_state_lease *lease = moult_shelf_find_lease(shelf, id);
    if (lease == NULL) {
        fail_unknown(request);
        return 0;
    }
    struct moult_state_lease before = *lease;
    save(request, 200, &before, moult_shelf_renew(shelf, id, seconds));
    return 0;
}

void moult_leases_renew(struct moult_http_request *request) {
    struct moult_error error;
    json_t *body = read_body(request, &error);
    if (body == NULL || renew_lease(request, body, &error) != 0)
        fail_body(request, &error);
    json_decref(body);
}

void moult_leases_end(struct moult_http_request *request) {
    struct moult_state_lease lease;
    if (moult_shelf_end_lease(moult_http_server(request)->shelf, moult_http_rest(request), &lease))
        save(request, 200, &lease, &lease);
    else
        fail_unknown(request);
}
