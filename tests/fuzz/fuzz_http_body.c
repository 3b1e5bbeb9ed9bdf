/* A body of any bytes, in each dialect that takes one: exactly one answer comes,
 * it is JSON, and what reaches the slots on the way is a sound request. The first
 * byte of the input chooses the handler. */
#include <stdio.h>

#include "front/api.h"
#include "front/http.h"
#include "front/routes.h"

#include "../unit/front/fake_slots.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct moult_route routes[] = {
    {.path = "/embed", .dialect = MOULT_DIALECT_TEI, .handle = moult_tei_embed},
    {.path = "/v1/embeddings", .dialect = MOULT_DIALECT_OPENAI, .handle = moult_openai_embeddings},
    {.path = "/update_model", .dialect = MOULT_DIALECT_OWN, .handle = moult_own_update_start},
    {.path = "/rollback", .dialect = MOULT_DIALECT_OWN, .handle = moult_own_rollback},
    {.path = "/", .dialect = MOULT_DIALECT_OWN, .handle = moult_own_query},
};
enum { ROUTES = sizeof routes / sizeof routes[0] };

struct moult_http_request {
    const struct moult_route *route;
    const char *body;
    size_t size;
    unsigned answers;
    void (*gone)(void *context);
    void *gone_context;
};

static struct moult_serve_options options = {
    .body_bytes_max = 1 << 20, .allowed_sources = fake_allowed, .allowed_source_count = 2};
static struct moult_server server = {.options = &options};

/* What front/http.c gives, without sockets. */
struct moult_server *moult_http_server(const struct moult_http_request *request) {
    (void)request;
    return &server;
}

const struct moult_route *moult_http_route(const struct moult_http_request *request) {
    return request->route;
}

const char *moult_http_path(const struct moult_http_request *request) {
    return request->route->path;
}

const char *moult_http_rest(const struct moult_http_request *request) {
    (void)request;
    return "";
}

const char *moult_http_name(const struct moult_http_request *request, size_t *size) {
    (void)request;
    *size = 0;
    return NULL;
}

const char *moult_http_header(const struct moult_http_request *request, const char *name) {
    (void)request;
    (void)name;
    return NULL;
}

const char *moult_http_parameter(const struct moult_http_request *request, const char *name,
                                 size_t *size) {
    *size = request->size;
    return strcmp(name, "q") == 0 ? request->body : NULL;
}

const char *moult_http_body(const struct moult_http_request *request, size_t *size) {
    *size = request->size;
    return request->body;
}

uint64_t moult_http_begun_ns(const struct moult_http_request *request) {
    (void)request;
    return 0;
}

void moult_http_drop_body(struct moult_http_request *request) {
    (void)request;
}

void moult_http_keep(struct moult_http_request *request, bool kept) {
    (void)request;
    (void)kept;
}

void moult_http_on_gone(struct moult_http_request *request, void (*gone)(void *context),
                        void *context) {
    request->gone = gone;
    request->gone_context = context;
}

void moult_http_add_header(struct moult_http_request *request, const char *name,
                           const char *value) {
    MOULT_REQUIRE(request->answers == 0);
    MOULT_REQUIRE(strpbrk(name, "\r\n") == NULL && strpbrk(value, "\r\n") == NULL);
}

void moult_http_answer(struct moult_http_request *request, unsigned status,
                       const char *content_type, char *body, size_t size) {
    MOULT_REQUIRE(status >= 200 && status <= 503);
    MOULT_REQUIRE(strcmp(content_type, "application/json") == 0);
    json_t *json = json_loadb(body, size, JSON_ALLOW_NUL, NULL);
    MOULT_REQUIRE(json != NULL);
    json_decref(json);
    free(body);
    request->answers++;
}

void moult_http_answer_pieces(struct moult_http_request *request, unsigned status,
                              const char *content_type, const struct iovec *pieces, unsigned count,
                              void (*release)(void *context), void *context) {
    MOULT_REQUIRE(status == 200 && strcmp(content_type, "application/json") == 0);
    MOULT_REQUIRE(count >= 3 && pieces[0].iov_len > 0);
    request->answers++;
    release(context);
}

/* Large bodies would go to a pool thread; here they are read at once. */
int uv_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run, uv_after_work_cb after) {
    (void)loop;
    run(work);
    after(work, 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0)
        return 0;
    struct moult_http_request request = {
        .route = &routes[data[0] % ROUTES],
        .body = moult_copy_bytes((const char *)data + 1, size - 1),
        .size = size - 1,
    };
    request.route->handle(&request);
    if (request.answers == 0 && fake.kept_count > 0 && size % 2 == 0) {
        fake_answer_all();
    } else if (request.answers == 0) {
        request.gone(request.gone_context);
        request.answers = 1;
    }
    MOULT_REQUIRE(request.answers == 1);
    MOULT_REQUIRE(fake.kept_count == 0 && fake.opened == fake.closed);
    free((char *)(uintptr_t)request.body);
    return 0;
}
