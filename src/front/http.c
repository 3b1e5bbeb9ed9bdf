/* libmicrohttpd has its own epoll descriptor, which the loop polls; whenever it
 * is readable, a timer of libmicrohttpd is due or an answer was given, MHD_run()
 * does what there is to do and calls back on_request() below.
 *
 * The life of a request:
 *
 *   state      entered when                           connection   leaves when
 *   FRESH      the request line has come              polled       the headers are complete
 *   READING    nothing speaks against it              polled       the body is complete
 *   HELD       all bodies together are too large      suspended    others have gone
 *   REFUSED    the answer is an error and known, the  polled       the body is complete and
 *              body is read and thrown away                        thrown away
 *   HANDLED    its route's handler was called         suspended    the answer is there
 *   ANSWERED   the answer was handed over             polled       it has left
 *   GONE       the client closed while it was HANDLED              libmicrohttpd has closed
 *
 * Why a refused body is read at all: an answer in the middle of a body closes the
 * connection while the client still writes, the kernel answers that with a reset,
 * and the reset makes the client lose the answer. Only a body that is far too long,
 * or one whose client asks before it sends (Expect: 100-continue), is answered at once.
 *
 * Facts about libmicrohttpd 0.9.75 that this file rests on: MHD_get_timeout()
 * does not know of resumed connections, so every resume is followed by MHD_run();
 * a suspended connection does not see its client go, so look_around() does;
 * suspended connections must be resumed before the daemon stops. What it finds
 * wrong with a head by itself (a Content-Length that is no number, a head that is
 * too long) it answers in HTML and closes, and of a wrong Content-Length it sends the head of
 * that answer twice; no callback comes before that, so nothing can be done about it. */
#include "front/http.h"

#include <errno.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/guard.h"
#include "front/routes.h"

/* Bodies up to this size are not counted: connections bound them. */
#define UNCOUNTED_BODY_BYTES MOULT_BODY_BYTES_ON_LOOP
/* Of a body over the limit, so many limits' worth is read before the line is cut. */
#define DISCARDED_LIMITS 4
/* A client that sends or takes its bytes more slowly than this, after a start of
 * SLOW_SECONDS, is cut: its body holds memory, and its answer lies in the worker's. */
#define SLOW_BYTES_PER_SECOND (256 * MOULT_KIB)
#define SLOW_SECONDS 30
/* The start while draining: what runs containers kills 10 s after it has asked. */
#define SLOW_SECONDS_DRAINING 5
/* The start while others are held for want of room. */
#define SLOW_SECONDS_HOLDING 5
/* Answers up to this size are copied: one system call sends head and body, and
 * the worker has its memory back at once. */
#define COPIED_ANSWER_BYTES (16 * MOULT_KIB)
/* Longer ones go out in portions of so many bytes. */
#define READ_BYTES (128 * MOULT_KIB)
#define ANSWER_HEADERS_BYTES_MAX (32 * MOULT_KIB)
#define DRAIN_ACCEPT_ROUNDS 100
/* While draining, connections are kept open so long for the requests that their
 * clients have just sent; each is answered with Connection: close. */
#define DRAIN_GRACE_NS (200 * 1000000ull)
/* After a hand-over: until libmicrohttpd has closed the last one that stayed idle. */
#define HANDED_OVER_GRACE_NS ((MOULT_IDLE_SECONDS_MAX + 2) * 1000000000ull)

enum state { FRESH, READING, HELD, REFUSED, HANDLED, ANSWERED, GONE };

struct moult_http_request {
    struct moult_http *http;
    struct MHD_Connection *connection;
    enum state state;
    int fd;
    bool bad_url;
    bool in_handler;
    bool must_close;
    bool kept;                                /* Another thread reads its body. */
    const char *method, *path;                /* libmicrohttpd's, until the request is over. */
    struct moult_route_part part;
    const struct moult_route *route;
    uint64_t begun_ns, deadline_ns;           /* 0: no deadline. */
    uint64_t reading_ns;                      /* When it became READING, the last time. */

    char *body;
    size_t body_size, body_room;              /* Filled of what is allocated. */
    size_t body_capacity;                     /* The declared size, or the limit where chunked. */
    size_t body_counted;                      /* Its part of http->bodies_bytes. */
    size_t discarded_bytes;

    void (*gone)(void *context);
    void *gone_context;

    struct moult_buffer headers;              /* "name NUL value NUL …" */
    struct MHD_Response *response;            /* Until it is queued. */
    unsigned status;
    size_t answer_size;

    struct moult_http_request *next, *previous;   /* In http->requests. */
    struct moult_http_request *held_next;         /* In http->held_first. */
};

struct moult_http {
    struct moult_server *server;
    struct MHD_Daemon *daemon;
    uv_poll_t poll;
    uv_timer_t timer, look;
    uv_prepare_t prepare;
    unsigned handles_open;
    bool run_due, draining, hurried, closing;
    uint64_t grace_until_ns;                      /* Until then idle connections count. */
    unsigned open_requests, kept_requests;
    size_t bodies_bytes;
    struct moult_http_request *requests;
    struct moult_http_request *held_first, **held_end;
};

static void run(struct moult_http *http);
static void look_around(uv_timer_t *timer);

/* ------------------------------------------------------------------ lists */

static void list_add(struct moult_http *http, struct moult_http_request *request) {
    request->next = http->requests;
    if (http->requests != NULL)
        http->requests->previous = request;
    http->requests = request;
    http->open_requests++;
    if (!uv_is_active((uv_handle_t *)&http->look))
        uv_timer_start(&http->look, look_around, MOULT_GONE_LOOK_MS, MOULT_GONE_LOOK_MS);
}

static void list_remove(struct moult_http *http, struct moult_http_request *request) {
    if (request->next != NULL)
        request->next->previous = request->previous;
    if (request->previous != NULL)
        request->previous->next = request->next;
    else
        http->requests = request->next;
    http->open_requests--;
}

static void held_add(struct moult_http *http, struct moult_http_request *request) {
    request->held_next = NULL;
    *http->held_end = request;
    http->held_end = &request->held_next;
}

static void held_remove_first(struct moult_http *http) {
    http->held_first = http->held_first->held_next;
    if (http->held_first == NULL)
        http->held_end = &http->held_first;
}

/* ----------------------------------------------------------------- bodies */

static void set_deadline(struct moult_http_request *request, size_t bytes) {
    uint64_t seconds = request->http->hurried ? SLOW_SECONDS_DRAINING : SLOW_SECONDS;
    seconds += bytes / SLOW_BYTES_PER_SECOND;
    request->deadline_ns = moult_clock_ns() + seconds * 1000000000u;
}

static void start_reading(struct moult_http_request *request) {
    request->state = READING;
    request->reading_ns = moult_clock_ns();
    set_deadline(request, request->body_capacity);
}

/* Requests that the client still sends, or answers that it still takes, get less time. */
static void shorten_deadline(struct moult_http_request *request) {
    uint64_t deadline_ns = request->deadline_ns;
    if (deadline_ns == 0)
        return;
    set_deadline(request, request->state == ANSWERED ? request->answer_size
                                                     : request->body_capacity);
    if (deadline_ns < request->deadline_ns)
        request->deadline_ns = deadline_ns;
}

static bool bodies_have_room(const struct moult_http *http, size_t bytes) {
    if (http->bodies_bytes == 0)
        return true;   /* However large --max-body is, one fits. */
    return http->bodies_bytes < MOULT_BODIES_BYTES_MAX &&
           bytes <= MOULT_BODIES_BYTES_MAX - http->bodies_bytes;
}

static void count_body(struct moult_http_request *request, size_t bytes) {
    request->body_counted = bytes;
    request->http->bodies_bytes += bytes;
}

/* Gives all but `left` bytes of a request's share back, and lets those go on that
 * waited for it. */
static void uncount_body(struct moult_http_request *request, size_t left) {
    struct moult_http *http = request->http;
    if (request->body_counted <= left)
        return;
    http->bodies_bytes -= request->body_counted - left;
    request->body_counted = left;
    while (http->held_first != NULL && !http->closing &&
           bodies_have_room(http, http->held_first->body_capacity)) {
        struct moult_http_request *first = http->held_first;
        held_remove_first(http);
        count_body(first, first->body_capacity);
        start_reading(first);
        MHD_resume_connection(first->connection);
        http->run_due = true;
    }
}

void moult_http_drop_body(struct moult_http_request *request) {
    free(request->body);
    request->body = NULL;
    request->body_size = 0;
}

/* ---------------------------------------------------------------- answers */

static void add_headers(struct moult_http_request *request, const char *content_type) {
    struct MHD_Response *response = request->response;
    MHD_add_response_header(response, "Content-Type", content_type);
    const char *end = request->headers.bytes + request->headers.size;
    for (const char *at = request->headers.bytes; at != NULL && at < end;) {
        const char *value = at + strlen(at) + 1;
        MHD_add_response_header(response, at, value);
        at = value + strlen(value) + 1;
    }
}

/* Hands the finished answer to libmicrohttpd, within one of its callbacks. */
static enum MHD_Result queue(struct moult_http_request *request) {
    if (request->must_close || request->http->draining)
        MHD_add_response_header(request->response, "Connection", "close");
    enum MHD_Result result =
        MHD_queue_response(request->connection, request->status, request->response);
    MHD_destroy_response(request->response);
    request->response = NULL;
    request->state = ANSWERED;
    set_deadline(request, request->answer_size);
    return result;
}

static void give(struct moult_http_request *request, unsigned status, const char *content_type,
                 struct MHD_Response *response, size_t size) {
    MOULT_REQUIRE(request->response == NULL && request->state != ANSWERED &&
                  request->state != GONE && response != NULL);
    request->response = response;
    request->status = status;
    request->answer_size = size;
    request->gone = NULL;
    add_headers(request, content_type);
    moult_metrics_count_request(&request->http->server->metrics, request->route, status,
                                moult_clock_ns() - request->begun_ns);
    if (request->state != HANDLED || request->in_handler)
        return;
    MHD_resume_connection(request->connection);
    request->http->run_due = true;
}

void moult_http_answer(struct moult_http_request *request, unsigned status,
                       const char *content_type, char *body, size_t size) {
    give(request, status, content_type,
         MHD_create_response_from_buffer_with_free_callback(size, body, free), size);
}

static void answer_copied(struct moult_http_request *request, unsigned status,
                          const char *content_type, const struct iovec *pieces, unsigned count,
                          size_t size) {
    char *body = moult_allocate(size + 1, 1);
    size_t at = 0;
    for (unsigned i = 0; i < count; i++) {
        memcpy(body + at, pieces[i].iov_base, pieces[i].iov_len);
        at += pieces[i].iov_len;
    }
    moult_http_answer(request, status, content_type, body, size);
}

/* The pieces of a long answer, and how far they have been read.
 *
 * MHD_create_response_from_iovec() would spare the copy, but in 0.9.75 it copies the
 * pieces into the connection's memory, which the client's own headers may have
 * filled; then it unlocks a mutex that it has not locked, and aborts the process. */
struct reading {
    void (*release)(void *context);
    void *context;
    uint64_t position;
    size_t offset;               /* Within the first of what is left. */
    unsigned next, count;
    struct iovec pieces[];
};

static ssize_t read_pieces(void *context, uint64_t position, char *bytes, size_t room) {
    struct reading *reading = context;
    MOULT_REQUIRE(position == reading->position);
    size_t size = 0;
    while (size < room && reading->next < reading->count) {
        const struct iovec *piece = &reading->pieces[reading->next];
        size_t part = piece->iov_len - reading->offset;
        part = part < room - size ? part : room - size;
        memcpy(bytes + size, (const char *)piece->iov_base + reading->offset, part);
        size += part;
        reading->offset += part;
        if (reading->offset == piece->iov_len) {
            reading->offset = 0;
            reading->next++;
        }
    }
    reading->position += size;
    return (ssize_t)size;
}

static void end_reading(void *context) {
    struct reading *reading = context;
    reading->release(reading->context);
    free(reading);
}

void moult_http_answer_pieces(struct moult_http_request *request, unsigned status,
                              const char *content_type, const struct iovec *pieces, unsigned count,
                              void (*release)(void *context), void *context) {
    size_t size = 0;
    for (unsigned i = 0; i < count; i++)
        size += pieces[i].iov_len;
    if (size <= COPIED_ANSWER_BYTES) {
        answer_copied(request, status, content_type, pieces, count, size);
        release(context);
        return;
    }
    struct reading *reading = moult_allocate(1, sizeof *reading + count * sizeof *pieces);
    reading->release = release;
    reading->context = context;
    reading->count = count;
    memcpy(reading->pieces, pieces, count * sizeof *pieces);
    give(request, status, content_type,
         MHD_create_response_from_callback(size, READ_BYTES, read_pieces, reading, end_reading),
         size);
}

void moult_http_add_header(struct moult_http_request *request, const char *name,
                           const char *value) {
    moult_buffer_append(&request->headers, name, strlen(name) + 1);
    moult_buffer_append(&request->headers, value, strlen(value) + 1);
    MOULT_REQUIRE(!request->headers.overflowed);
}

/* ------------------------------------------------- the beginning of a request */

/* What of the headers decides on how the request is framed and whether it may be. */
struct heading {
    struct moult_guard_request guard;
    unsigned content_lengths, transfer_encodings, hosts;
    bool chunked, expects, odd_names;
    const char *content_length;
};

/* libmicrohttpd 0.9.75 puts the second line of a folded header behind its name: a folded
 * "Content-Length: 1" arrives as "Content-Length1", and is none. */
static bool is_odd_name(const char *name) {
    return name[strcspn(name, " \t\r\n")] != '\0' ||
           strncasecmp(name, "Content-Length", strlen("Content-Length")) == 0 ||
           strncasecmp(name, "Transfer-Encoding", strlen("Transfer-Encoding")) == 0;
}

static enum MHD_Result read_header(void *context, enum MHD_ValueKind kind, const char *name,
                                   const char *value) {
    (void)kind;
    struct heading *heading = context;
    if (value == NULL)
        value = "";
    if (strcasecmp(name, "Content-Length") == 0) {
        heading->content_lengths++;
        heading->content_length = value;
    } else if (strcasecmp(name, "Transfer-Encoding") == 0) {
        heading->transfer_encodings++;
        heading->chunked = strcasecmp(value, "chunked") == 0;
    } else if (strcasecmp(name, "Host") == 0) {
        heading->hosts++;
        heading->guard.host = value;
    } else if (strcasecmp(name, "Origin") == 0) {
        heading->guard.origin = value;
    } else if (strcasecmp(name, "Authorization") == 0) {
        heading->guard.authorization = value;
    } else if (strcasecmp(name, "Content-Type") == 0) {
        heading->guard.content_type = value;
    } else if (strcasecmp(name, "Expect") == 0) {
        heading->expects = true;
    } else if (is_odd_name(name)) {
        heading->odd_names = true;
    }
    return MHD_YES;
}

/* Where two programs in a row could disagree on where this request ends, nobody
 * should guess: that is how requests are smuggled. */
static const char *framing_fault(const struct heading *heading, const char *version) {
    if (heading->odd_names)
        return "A header is folded, or its name has white space in it.";
    if (heading->content_lengths > 1)
        return "The request has more than one Content-Length.";
    if (heading->content_lengths > 0 && heading->transfer_encodings > 0)
        return "The request has both Content-Length and Transfer-Encoding.";
    if (heading->transfer_encodings > 1 ||
        (heading->transfer_encodings == 1 && !heading->chunked))
        return "The only Transfer-Encoding that is understood is chunked.";
    if (heading->hosts > 1)
        return "The request has more than one Host.";
    if (heading->hosts == 0 && strcmp(version, "HTTP/1.1") == 0)
        return "The request has no Host, which HTTP/1.1 asks for.";
    return NULL;
}

static void allow_origin(struct moult_http_request *request, const char *origin) {
    if (origin == NULL || !moult_guard_allows_origin(request->http->server->options, origin))
        return;
    moult_http_add_header(request, "Access-Control-Allow-Origin", origin);
    moult_http_add_header(request, "Access-Control-Expose-Headers",
                          "x-moult-generation, x-moult-fingerprint, x-moult-truncated");
    moult_http_add_header(request, "Vary", "Origin");
}

static void answer_preflight(struct moult_http_request *request, const char *allowed) {
    moult_http_add_header(request, "Access-Control-Allow-Methods", allowed);
    moult_http_add_header(request, "Access-Control-Allow-Headers",
                          "authorization, content-type, x-moult-model");
    moult_http_add_header(request, "Access-Control-Max-Age", "600");
    moult_http_answer(request, 204, "text/plain", NULL, 0);
}

/* Answers at once whatever can be said without the body. */
static void check_heading(struct moult_http_request *request, const struct heading *heading,
                          const char *version, uint64_t length) {
    const char *allowed = NULL;
    request->route =
        moult_routes_find(request->method, request->path, &request->part, &allowed);
    const struct moult_serve_options *options = request->http->server->options;
    const char *fault = framing_fault(heading, version);
    enum moult_http_error kind;
    struct moult_error error;
    allow_origin(request, heading->guard.origin);
    if (fault != NULL) {
        request->must_close = true;
        moult_http_fail(request, MOULT_HTTP_MALFORMED, NULL, "%s", fault);
    } else if (request->bad_url) {
        moult_http_fail(request, MOULT_HTTP_MALFORMED, NULL,
                        "The path has a NUL in it or is longer than %lu bytes.",
                        MOULT_URL_BYTES_MAX);
    } else if (moult_guard_check(options, &heading->guard, request->route, &kind, &error) != 0) {
        moult_http_fail(request, kind, NULL, "%s", error.message);
    } else if (request->route != NULL && request->route->changes &&
               !request->route->of_documents && request->http->server->handing_over) {
        moult_http_add_header(request, "Retry-After", "2");
        moult_http_fail(request, MOULT_HTTP_UNAVAILABLE, NULL,
                        "A newer program is about to take over: order it again in a moment.");
    } else if (request->route == NULL && allowed == NULL) {
        moult_http_fail(request, MOULT_HTTP_NOT_FOUND, NULL, "There is nothing at %s %.200s.",
                        request->method, request->path);
    } else if (request->route == NULL && heading->guard.origin != NULL &&
               strcmp(request->method, "OPTIONS") == 0) {
        answer_preflight(request, allowed);
    } else if (request->route == NULL) {
        moult_http_add_header(request, "Allow", allowed);
        moult_http_fail(request, MOULT_HTTP_METHOD, NULL, "%.200s takes %s, not %s.",
                        request->path, allowed, request->method);
    } else if (length > options->body_bytes_max) {
        moult_http_fail(request, MOULT_HTTP_TOO_LARGE, NULL,
                        "The body has %" PRIu64 " bytes; the limit is %zu (--max-body).", length,
                        options->body_bytes_max);
    }
}

static enum MHD_Result begin(struct moult_http_request *request, const char *method,
                             const char *url, const char *version) {
    request->method = method;
    request->path = url;
    struct heading heading = {
        .guard = {.method = method, .bound_to = request->http->server->listener.host}};
    MHD_get_connection_values(request->connection, MHD_HEADER_KIND, read_header, &heading);
    uint64_t length =
        heading.content_length != NULL ? strtoull(heading.content_length, NULL, 10) : 0;
    heading.guard.has_body = length > 0 || heading.transfer_encodings > 0;
    size_t size_max = request->http->server->options->body_bytes_max;

    request->body_capacity = heading.chunked || length > size_max ? size_max : (size_t)length;
    start_reading(request);
    check_heading(request, &heading, version, length);
    if (request->response == NULL)
        return MHD_YES;
    request->state = REFUSED;
    if (heading.guard.has_body &&
        (request->must_close || heading.expects || length / DISCARDED_LIMITS > size_max)) {
        request->must_close = true;
        return queue(request);
    }
    return MHD_YES;
}

/* ------------------------------------------------------ its body and its end */

/* Chunked bodies are known to be too long only when they are. */
static void refuse_long_body(struct moult_http_request *request) {
    moult_http_drop_body(request);
    uncount_body(request, 0);
    moult_http_fail(request, MOULT_HTTP_TOO_LARGE, NULL,
                    "The body has more than %zu bytes, which is the limit (--max-body).",
                    request->http->server->options->body_bytes_max);
    request->state = REFUSED;
}

static enum MHD_Result discard(struct moult_http_request *request, size_t *size) {
    size_t size_max = request->http->server->options->body_bytes_max;
    request->discarded_bytes += *size;
    *size = 0;
    return request->discarded_bytes / DISCARDED_LIMITS > size_max ? MHD_NO : MHD_YES;
}

static void hold(struct moult_http_request *request) {
    request->state = HELD;
    request->deadline_ns = 0;
    held_add(request->http, request);
    MHD_suspend_connection(request->connection);
}

/* Pages that never come are never touched, so the declared size costs nothing;
 * a chunked body has its first bytes uncounted and then the limit. */
static void make_room(struct moult_http_request *request) {
    size_t room = request->body_capacity;
    if (request->body_counted == 0 && room > UNCOUNTED_BODY_BYTES)
        room = UNCOUNTED_BODY_BYTES;
    if (request->body != NULL && room == request->body_room)
        return;
    request->body = moult_reallocate(request->body, room + 1, 1);
    request->body_room = room;
}

static enum MHD_Result take_body(struct moult_http_request *request, const char *bytes,
                                 size_t *size) {
    struct moult_http *http = request->http;
    if (request->state == REFUSED)
        return discard(request, size);
    if (*size > request->body_capacity - request->body_size) {
        refuse_long_body(request);
        return discard(request, size);
    }
    if (request->body_size + *size > UNCOUNTED_BODY_BYTES && request->body_counted == 0) {
        if (http->held_first != NULL || !bodies_have_room(http, request->body_capacity)) {
            hold(request);
            return MHD_YES;
        }
        count_body(request, request->body_capacity);
    }
    make_room(request);
    memcpy(request->body + request->body_size, bytes, *size);
    request->body_size += *size;
    request->body[request->body_size] = '\0';
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result handle(struct moult_http_request *request) {
    request->state = HANDLED;
    request->deadline_ns = 0;
    uncount_body(request, request->body_size);
    request->in_handler = true;
    request->route->handle(request);
    request->in_handler = false;
    if (request->response != NULL)
        return queue(request);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *url, const char *method, const char *version,
                                  const char *bytes, size_t *size, void **of_connection) {
    (void)context;
    (void)connection;
    struct moult_http_request *request = *of_connection;
    if (request->state == FRESH)
        return begin(request, method, url, version);
    if (request->state == GONE)
        return MHD_NO;
    if (*size > 0)
        return take_body(request, bytes, size);
    if (request->response != NULL)
        return queue(request);
    return request->state == READING ? handle(request) : MHD_YES;
}

/* The first that is heard of a request: its line, not decoded yet. */
static void *on_line(void *context, const char *uri, struct MHD_Connection *connection) {
    struct moult_http *http = context;
    struct moult_http_request *request = moult_allocate(1, sizeof *request);
    request->http = http;
    request->connection = connection;
    request->begun_ns = moult_clock_ns();
    request->bad_url = strlen(uri) > MOULT_URL_BYTES_MAX;
    const char *nul = strstr(uri, "%00"), *query = strchr(uri, '?');
    if (nul != NULL && (query == NULL || nul < query))
        request->bad_url = true;
    request->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)
                      ->connect_fd;
    moult_buffer_init(&request->headers, ANSWER_HEADERS_BYTES_MAX);
    set_deadline(request, 0);
    list_add(http, request);
    return request;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **of_connection,
                         enum MHD_RequestTerminationCode code) {
    (void)context;
    (void)connection;
    (void)code;
    struct moult_http_request *request = *of_connection;
    if (request == NULL)
        return;
    *of_connection = NULL;
    if (request->response != NULL)
        MHD_destroy_response(request->response);
    moult_http_drop_body(request);
    list_remove(request->http, request);
    uncount_body(request, 0);
    moult_buffer_release(&request->headers);
    free(request);
}

/* ------------------------------------------------------------------ the loop */

static void on_timer(uv_timer_t *timer) {
    run(timer->data);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    run(poll->data);
}

/* Answers that were given in this turn of the loop leave together. */
static void on_prepare(uv_prepare_t *prepare) {
    struct moult_http *http = prepare->data;
    if (http->run_due)
        run(http);
}

static unsigned connections(const struct moult_http *http) {
    return MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS)->num_connections;
}

/* At the limit of connections or descriptors the daemon stops listening; one that
 * goes lets it listen again, but only at the next MHD_run(). */
static void run(struct moult_http *http) {
    unsigned before = connections(http);
    http->run_due = false;
    MHD_run(http->daemon);
    if (connections(http) < before)
        MHD_run(http->daemon);
    MHD_UNSIGNED_LONG_LONG wait_ms;
    if (http->run_due)
        uv_timer_start(&http->timer, on_timer, 0, 0);
    else if (MHD_get_timeout(http->daemon, &wait_ms) == MHD_YES)
        uv_timer_start(&http->timer, on_timer, wait_ms, 0);
    else
        uv_timer_stop(&http->timer);
}

static bool client_has_gone(int fd) {
    char byte;
    ssize_t got = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

/* Wakes a sleeping connection for the last time: on_request() closes it. */
static void let_go(struct moult_http_request *request) {
    void (*gone)(void *context) = request->gone;
    request->state = GONE;
    request->gone = NULL;
    if (gone != NULL)
        gone(request->gone_context);
    MHD_resume_connection(request->connection);
    request->http->run_due = true;
}

void moult_http_on_gone(struct moult_http_request *request, void (*gone)(void *context),
                        void *context) {
    request->gone = gone;
    request->gone_context = context;
}

void moult_http_keep(struct moult_http_request *request, bool kept) {
    MOULT_REQUIRE(request->state == HANDLED && request->kept != kept);
    request->kept = kept;
    request->http->kept_requests += kept ? 1 : -1u;
}

bool moult_http_quiet(const struct moult_http *http) {
    return http->kept_requests == 0;
}

/* A large body that stands while others are held for want of room: sixteen of them would
 * hold all the others for a minute and a half. */
static bool is_in_the_way(const struct moult_http_request *request, uint64_t now_ns) {
    const uint64_t patience_ns = SLOW_SECONDS_HOLDING * 1000000000ull;
    uint64_t age_ns = now_ns - request->reading_ns;
    return request->state == READING && request->body_counted > 0 &&
           request->http->held_first != NULL && age_ns > patience_ns &&
           request->body_size < (age_ns - patience_ns) / 1000000 * (SLOW_BYTES_PER_SECOND / 1000);
}

/* libmicrohttpd notices by itself only that a client goes whose connection is idle.
 * A sleeping connection it does not poll; and where the end came together with the
 * last bytes of a part of a body, it has used up the one edge that epoll gives for
 * both. Shutting the socket down makes another one. */
static void look_at(struct moult_http_request *request, uint64_t now_ns) {
    bool late = (request->deadline_ns != 0 && now_ns > request->deadline_ns) ||
                is_in_the_way(request, now_ns);
    if (now_ns - request->begun_ns < MOULT_GONE_LOOK_MS * 1000000ull)
        return;
    switch (request->state) {
    case HANDLED:
        if (request->response == NULL && !request->kept && client_has_gone(request->fd))
            let_go(request);
        return;
    case FRESH:
    case READING:
    case REFUSED:
        late = late || client_has_gone(request->fd);
        break;
    case ANSWERED:
        break;
    case HELD:
    case GONE:
        return;
    }
    if (late) {
        moult_log_debug("A connection was cut: its client has gone or is too slow.");
        shutdown(request->fd, SHUT_RDWR);
        request->deadline_ns = 0;
    }
}

static void look_around(uv_timer_t *timer) {
    struct moult_http *http = timer->data;
    uint64_t now_ns = moult_clock_ns();
    struct moult_http_request *next;
    if (http->requests == NULL)
        uv_timer_stop(timer);
    for (struct moult_http_request *request = http->requests; request != NULL; request = next) {
        next = request->next;
        look_at(request, now_ns);
    }
}

static void log_from_microhttpd(void *context, const char *format, va_list arguments) {
    (void)context;
    char message[512];
    vsnprintf(message, sizeof message, format, arguments);
    message[strcspn(message, "\n")] = '\0';
    moult_log_debug("libmicrohttpd: %s", message);
}

/* -------------------------------------------------------------- open and close */

static void on_connection(void *context, struct MHD_Connection *connection,
                          void **of_connection, enum MHD_ConnectionNotificationCode code) {
    (void)context;
    (void)of_connection;
    if (code != MHD_CONNECTION_NOTIFY_STARTED)
        return;
    int fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* Where descriptors are few, half of them, or all but 512, are for connections:
 * updates need some too. */
static unsigned connections_max(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return MOULT_CONNECTIONS_MAX;
    rlim_t kept = files.rlim_cur < 1024 ? files.rlim_cur / 2 : 512;
    rlim_t left = files.rlim_cur - kept;
    return left < MOULT_CONNECTIONS_MAX ? (unsigned)left : MOULT_CONNECTIONS_MAX;
}

static struct MHD_Daemon *start_daemon(struct moult_http *http) {
    return MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request,
        http, MHD_OPTION_EXTERNAL_LOGGER, log_from_microhttpd, NULL, MHD_OPTION_LISTEN_SOCKET,
        http->server->listener.fd, MHD_OPTION_CONNECTION_LIMIT, connections_max(),
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MOULT_HEADER_BYTES_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)MOULT_IDLE_SECONDS_MAX,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_URI_LOG_CALLBACK, on_line, http, MHD_OPTION_NOTIFY_COMPLETED, on_completed,
        http, MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
}

static void open_handles(struct moult_http *http, int epoll_fd) {
    uv_loop_t *loop = http->server->loop;
    MOULT_REQUIRE(uv_poll_init(loop, &http->poll, epoll_fd) == 0);
    MOULT_REQUIRE(uv_timer_init(loop, &http->timer) == 0);
    MOULT_REQUIRE(uv_timer_init(loop, &http->look) == 0);
    MOULT_REQUIRE(uv_prepare_init(loop, &http->prepare) == 0);
    http->poll.data = http->timer.data = http->look.data = http->prepare.data = http;
    http->handles_open = 4;
    uv_poll_start(&http->poll, UV_READABLE, on_poll);
    uv_prepare_start(&http->prepare, on_prepare);
}

struct moult_http *moult_http_open(struct moult_server *server, struct moult_error *error) {
    struct moult_http *http = moult_allocate(1, sizeof *http);
    http->server = server;
    http->held_end = &http->held_first;
    http->daemon = start_daemon(http);
    if (http->daemon == NULL) {
        moult_fail_errno(error, "The HTTP server cannot be started");
        free(http);
        return NULL;
    }
    open_handles(http, MHD_get_daemon_info(http->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd);
    http->run_due = true;
    return http;
}

unsigned moult_http_open_requests(const struct moult_http *http) {
    if (http->open_requests == 0 && moult_clock_ns() < http->grace_until_ns)
        return connections(http);
    return http->open_requests;
}

static void stop_accepting(struct moult_http *http) {
    if (http->draining)
        return;
    http->draining = true;
    MHD_quiesce_daemon(http->daemon);
    moult_listener_close(&http->server->listener);
    http->run_due = true;
}

/* The kernel keeps a connection until its client has been told, or has been idle for so long
 * that it must expect to be cut. */
void moult_http_hand_over(struct moult_http *http) {
    stop_accepting(http);
    http->grace_until_ns = moult_clock_ns() + HANDED_OVER_GRACE_NS;
}

/* Connections that the kernel has accepted already would be reset with the listening socket, so
 * they are taken first; where somebody keeps it open, they wait for who comes next. */
void moult_http_drain(struct moult_http *http) {
    const struct moult_listener *listener = &http->server->listener;
    if (http->hurried)
        return;
    struct pollfd listening = {.fd = listener->fd, .events = POLLIN};
    for (int i = 0; i < DRAIN_ACCEPT_ROUNDS && !http->draining && !listener->activated &&
                    poll(&listening, 1, 0) > 0; i++)
        MHD_run(http->daemon);
    http->hurried = true;
    http->grace_until_ns = moult_clock_ns() + DRAIN_GRACE_NS;
    for (struct moult_http_request *request = http->requests; request != NULL;
         request = request->next)
        shorten_deadline(request);
    stop_accepting(http);
}

static void on_handle_closed(uv_handle_t *handle) {
    struct moult_http *http = handle->data;
    if (--http->handles_open == 0)
        free(http);
}

void moult_http_close(struct moult_http *http) {
    moult_http_drain(http);
    http->closing = true;
    for (struct moult_http_request *request = http->requests; request != NULL;
         request = request->next) {
        if (request->state != HELD && (request->state != HANDLED || request->response != NULL))
            continue;
        request->state = GONE;
        MHD_resume_connection(request->connection);
    }
    MHD_run(http->daemon);
    MHD_stop_daemon(http->daemon);
    uv_close((uv_handle_t *)&http->poll, on_handle_closed);
    uv_close((uv_handle_t *)&http->timer, on_handle_closed);
    uv_close((uv_handle_t *)&http->look, on_handle_closed);
    uv_close((uv_handle_t *)&http->prepare, on_handle_closed);
}

/* ---------------------------------------------------------------- accessors */

const char *moult_http_method(const struct moult_http_request *request) {
    return request->method;
}

const char *moult_http_path(const struct moult_http_request *request) {
    return request->path;
}

const char *moult_http_rest(const struct moult_http_request *request) {
    return request->part.rest;
}

const char *moult_http_name(const struct moult_http_request *request, size_t *size) {
    *size = request->part.name_size;
    return request->part.name;
}

const struct moult_route *moult_http_route(const struct moult_http_request *request) {
    return request->route;
}

const char *moult_http_header(const struct moult_http_request *request, const char *name) {
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *moult_http_parameter(const struct moult_http_request *request, const char *name,
                                 size_t *size) {
    const char *value = NULL;
    *size = 0;
    if (MHD_lookup_connection_value_n(request->connection, MHD_GET_ARGUMENT_KIND, name,
                                      strlen(name), &value, size) != MHD_YES)
        return NULL;
    return value != NULL ? value : "";
}

const char *moult_http_body(const struct moult_http_request *request, size_t *size) {
    *size = request->body_size;
    return request->body != NULL ? request->body : "";
}

struct moult_server *moult_http_server(const struct moult_http_request *request) {
    return request->http->server;
}

uint64_t moult_http_begun_ns(const struct moult_http_request *request) {
    return request->begun_ns;
}
