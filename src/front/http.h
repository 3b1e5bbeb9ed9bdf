/* HTTP, and nothing of what is asked by it: libmicrohttpd driven from the loop.
 *
 * A request reaches its handler when its body is complete and within its
 * limits; the handler answers at once or later, exactly once, by one of the
 * moult_http_answer functions. Until then the connection sleeps. All of it runs
 * in the loop's thread. */
#ifndef MOULT_FRONT_HTTP_H
#define MOULT_FRONT_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

#include "base/error.h"
#include "front/server.h"

struct moult_http;
struct moult_http_request;

/* Binds and begins to accept. The error names the address and, for a taken
 * port, the way out. */
struct moult_http *moult_http_open(struct moult_server *server, struct moult_error *error);
/* Stops accepting; answers from now on carry Connection: close. */
void moult_http_drain(struct moult_http *http);
unsigned moult_http_open_requests(const struct moult_http *http);
void moult_http_close(struct moult_http *http);

const char *moult_http_method(const struct moult_http_request *request);
const char *moult_http_path(const struct moult_http_request *request);      /* Decoded, without the query. */
const char *moult_http_header(const struct moult_http_request *request, const char *name);   /* NULL: absent. */
/* A query parameter, decoded; NULL where absent. *size may hold NUL bytes' worth. */
const char *moult_http_parameter(const struct moult_http_request *request, const char *name, size_t *size);
const char *moult_http_body(const struct moult_http_request *request, size_t *size);
struct moult_server *moult_http_server(const struct moult_http_request *request);
/* What follows the part of the path that a route names. */
const char *moult_http_rest(const struct moult_http_request *request);

/* Called if the client goes before the answer: drop what was asked for it. */
void moult_http_on_gone(struct moult_http_request *request, void (*gone)(void *context), void *context);

/* Adds a header to the answer to come. */
void moult_http_add_header(struct moult_http_request *request, const char *name, const char *value);
/* Answers. `body` is malloc'ed and handed over. */
void moult_http_answer(struct moult_http_request *request, unsigned status,
                       const char *content_type, char *body, size_t size);
/* Answers from pieces that stay where they are until `release` is called. */
void moult_http_answer_pieces(struct moult_http_request *request, unsigned status,
                              const char *content_type, const struct iovec *pieces, unsigned count,
                              void (*release)(void *context), void *context);

#endif
