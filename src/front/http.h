/* HTTP, and nothing of what is asked by it: libmicrohttpd driven from the loop.
 *
 * A request reaches its route's handler when its body is complete and within
 * its limits; the handler answers at once or later, exactly once, by one of the
 * moult_http_answer functions or moult_http_fail (http_error.h). Until then the
 * connection sleeps. All of it runs in the loop's thread. A request is valid
 * until it is answered, or until its `gone` was called. */
#ifndef MOULT_FRONT_HTTP_H
#define MOULT_FRONT_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"
#include "front/server.h"

struct moult_http;
struct moult_http_request;
struct moult_route;

/* Begins to accept from the server's listener, which it closes when it needs no more. */
struct moult_http *moult_http_open(struct moult_server *server, struct moult_error *error);
/* Stops accepting; answers from now on carry Connection: close. Requests that
 * come over connections that are already open are still handled. */
void moult_http_drain(struct moult_http *http);
/* The same in no hurry, because another process accepts now: an idle client is not cut off, where
 * its next request may be under way, but told by the answer to that. moult_http_drain() hurries. */
void moult_http_hand_over(struct moult_http *http);
/* Requests whose first line has come and whose answer has not left. Just after the
 * drain began, and after a hand-over, also the connections, whose next requests may be under
 * way. */
unsigned moult_http_open_requests(const struct moult_http *http);
/* Closes all connections; no handler and no `gone` is called any more, so jobs
 * must be over, and no request kept. Frees itself when the loop has run once more. */
void moult_http_close(struct moult_http *http);

const char *moult_http_method(const struct moult_http_request *request);
/* Decoded, without the query. */
const char *moult_http_path(const struct moult_http_request *request);
/* NULL: absent. The first of several. */
const char *moult_http_header(const struct moult_http_request *request, const char *name);
/* A query parameter, decoded; NULL where absent, "" where it has no value. It
 * may have NUL in it: *size counts. */
const char *moult_http_parameter(const struct moult_http_request *request, const char *name,
                                 size_t *size);
/* Valid until the answer; safe to read from another thread until then. */
const char *moult_http_body(const struct moult_http_request *request, size_t *size);
struct moult_server *moult_http_server(const struct moult_http_request *request);
/* NULL where the path is nobody's. */
const struct moult_route *moult_http_route(const struct moult_http_request *request);
/* What follows the part of the path that a prefix route names. */
const char *moult_http_rest(const struct moult_http_request *request);
/* What stands in the path where its route has "{name}", with no NUL behind it; NULL: nothing. */
const char *moult_http_name(const struct moult_http_request *request, size_t *size);
/* moult_clock_ns() when its first line had come. */
uint64_t moult_http_begun_ns(const struct moult_http_request *request);

/* Called if the client goes before the answer: drop what was asked for it. The
 * request must not be used after. It takes up to MOULT_GONE_LOOK_MS to notice. */
void moult_http_on_gone(struct moult_http_request *request, void (*gone)(void *context),
                        void *context);
/* How often waiting requests are looked at: a sleeping connection is not polled. */
#define MOULT_GONE_LOOK_MS 100
/* While it is kept, a request does not go: another thread reads its body. */
void moult_http_keep(struct moult_http_request *request, bool kept);
/* No request is kept. */
bool moult_http_quiet(const struct moult_http *http);

/* The body is not needed any more; its bytes stay counted against
 * MOULT_BODIES_BYTES_MAX until the answer, for what was made of it lives on. */
void moult_http_drop_body(struct moult_http_request *request);

/* Adds a header to the answer to come. Both strings are copied. */
void moult_http_add_header(struct moult_http_request *request, const char *name,
                           const char *value);
/* Answers. `body` is malloc'ed and handed over. */
void moult_http_answer(struct moult_http_request *request, unsigned status,
                       const char *content_type, char *body, size_t size);
/* Answers from pieces that stay where they are until `release` is called. */
void moult_http_answer_pieces(struct moult_http_request *request, unsigned status,
                              const char *content_type, const struct iovec *pieces, unsigned count,
                              void (*release)(void *context), void *context);

#endif
