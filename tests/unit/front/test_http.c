/* HTTP over real sockets: framing, bodies, waiting, going away, draining. The
 * loop runs in a thread; slots are the fake ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "front/http.h"

#include "fake_slots.h"

#define BODY_MAX (1024u * 1024u)

static struct {
    uv_loop_t loop;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t done;
    void (*task)(void);
    struct moult_http *http;
    struct moult_server server;
    struct moult_serve_options options;
    uint16_t port;
} host;

/* ------------------------------------------------------------------- the server */

static void on_async(uv_async_t *async) {
    (void)async;
    pthread_mutex_lock(&host.lock);
    if (host.task != NULL)
        host.task();
    host.task = NULL;
    pthread_cond_signal(&host.done);
    pthread_mutex_unlock(&host.lock);
}

/* Runs the function in the loop's thread and waits for it. */
static void in_loop(void (*task)(void)) {
    pthread_mutex_lock(&host.lock);
    host.task = task;
    uv_async_send(&host.async);
    while (host.task != NULL)
        pthread_cond_wait(&host.done, &host.lock);
    pthread_mutex_unlock(&host.lock);
}

static void *run_loop(void *unused) {
    (void)unused;
    uv_run(&host.loop, UV_RUN_DEFAULT);
    return NULL;
}

static int set_up(void **state) {
    (void)state;
    memset(&fake, 0, sizeof fake);
    memset(&host.server, 0, sizeof host.server);
    host.options = (struct moult_serve_options){
        .host = "127.0.0.1", .body_bytes_max = BODY_MAX, .allowed_sources = fake_allowed,
        .allowed_source_count = 2};
    host.server.loop = &host.loop;
    host.server.options = &host.options;
    pthread_mutex_init(&host.lock, NULL);
    pthread_cond_init(&host.done, NULL);
    uv_loop_init(&host.loop);
    uv_async_init(&host.loop, &host.async, on_async);
    struct moult_error error;
    assert_int_equal(moult_listener_bind(&host.server.listener, "127.0.0.1", 0, &error), 0);
    host.port = host.server.listener.port;
    host.http = moult_http_open(&host.server, &error);
    assert_non_null(host.http);
    return pthread_create(&host.thread, NULL, run_loop, NULL);
}

static void close_all(void) {
    fake_answer_all();
    moult_http_close(host.http);
    uv_close((uv_handle_t *)&host.async, NULL);
}

static int tear_down(void **state) {
    (void)state;
    in_loop(close_all);
    pthread_join(host.thread, NULL);
    assert_int_equal(uv_loop_close(&host.loop), 0);
    assert_int_equal(fake.opened, fake.closed);
    pthread_mutex_destroy(&host.lock);
    pthread_cond_destroy(&host.done);
    return 0;
}

static unsigned counted;
static void count_requests(void) {
    counted = moult_http_open_requests(host.http);
}
static void count_kept(void) {
    counted = fake.kept_count;
}
static void count_abandoned(void) {
    counted = fake.abandoned;
}
static void count_forgotten(void) {
    counted = fake.forgotten;
}

static void wait_until(void (*count)(void), unsigned wanted) {
    for (int i = 0; i < 500; i++) {
        in_loop(count);
        if (counted == wanted)
            return;
        usleep(10000);
    }
    fail_msg("waited for %u, have %u", wanted, counted);
}

/* -------------------------------------------------------------------- the client */

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(host.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void say(int fd, const char *text) {
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static void say_post(int fd, const char *path, const char *body) {
    char head[256];
    snprintf(head, sizeof head,
             "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n", path,
             strlen(body));
    say(fd, head);
    say(fd, body);
}

/* One answer: the status, its head and body as text. */
static char head_text[8192], *body_text;
static unsigned hear_some(int fd, bool without_body) {
    size_t size = 0;
    free(body_text);
    body_text = NULL;
    do {
        if (recv(fd, head_text + size, 1, 0) != 1)
            return 0;
        size++;
        head_text[size] = '\0';
    } while (strstr(head_text, "\r\n\r\n") == NULL);
    const char *length = strstr(head_text, "Content-Length: ");
    size_t body_size = length != NULL && !without_body ? strtoul(length + 16, NULL, 10) : 0;
    body_text = calloc(body_size + 1, 1);
    for (size_t at = 0; at < body_size;) {
        ssize_t got = recv(fd, body_text + at, body_size - at, 0);
        if (got <= 0)
            return 0;
        at += (size_t)got;
    }
    return (unsigned)strtoul(head_text + 9, NULL, 10);
}

static unsigned hear(int fd) {
    return hear_some(fd, false);
}

static bool is_closed(int fd) {
    char byte;
    return recv(fd, &byte, 1, 0) <= 0;
}

static unsigned ask(const char *text) {
    int fd = dial();
    say(fd, text);
    unsigned status = hear(fd);
    close(fd);
    return status;
}

#define HOST "Host: localhost\r\n"

/* --------------------------------------------------------------------- the tests */

static void test_answers(void **state) {
    (void)state;
    int fd = dial();
    say_post(fd, "/embed", "{\"inputs\": [\"a\", \"b\"]}");
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text, "[77]");
    assert_non_null(strstr(head_text, "x-moult-generation: 4\r\n"));
    assert_non_null(strstr(head_text, "x-moult-fingerprint: 0123456789abcdef\r\n"));
    assert_non_null(strstr(head_text, "x-moult-truncated: 0\r\n"));
    assert_non_null(strstr(head_text, "x-compute-tokens: 6\r\n"));
    say_post(fd, "/v1/embeddings", "{\"input\": \"a\", \"encoding_format\": null, \"user\": null}");
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text, "{\"object\":\"list\",\"data\":[7],\"model\":\"tiny@01234567\","
                                   "\"usage\":{\"prompt_tokens\":3,\"total_tokens\":3}}");
    say(fd, "GET /?q=How+big+is%20London%3F HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 200);
    assert_non_null(strstr(body_text, "\"query\":\"How big is London?\""));
    close(fd);
}

static void test_routes(void **state) {
    (void)state;
    assert_int_equal(ask("GET /nowhere HTTP/1.1\r\n" HOST "\r\n"), 404);
    assert_non_null(strstr(body_text, "{\"error\":{\"code\":\"not_found\",\"message\":"));
    assert_int_equal(ask("GET /embed HTTP/1.1\r\n" HOST "\r\n"), 405);
    assert_non_null(strstr(head_text, "Allow: POST\r\n"));
    assert_non_null(strstr(body_text, "\"error_type\":\"MethodNotAllowed\""));
    assert_int_equal(ask("PUT /update_model HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n"), 405);
    assert_non_null(strstr(head_text, "Allow: GET, HEAD, POST\r\n"));
    assert_int_equal(ask("GET /v1/nothing HTTP/1.1\r\n" HOST "\r\n"), 404);
    assert_non_null(strstr(body_text, "\"type\":\"invalid_request_error\""));
    assert_int_equal(ask("GET /health%00x HTTP/1.1\r\n" HOST "\r\n"), 400);
    assert_int_equal(ask("GET /v1/models/tiny HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(ask("GET /v1/models/other HTTP/1.1\r\n" HOST "\r\n"), 404);
    int fd = dial();
    say(fd, "HEAD /info HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear_some(fd, true), 200);
    say(fd, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text, "");
    close(fd);
}

/* What one program takes for the end of a request must be what the next one does. */
static void test_framing(void **state) {
    (void)state;
    static const char *const refused[] = {
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        "0\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n"
        "0\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length:\r\n 5\r\n\r\nhello",
        "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n"
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length: -5\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 5, 5\r\n\r\nhello",
        "GET /health HTTP/1.1\r\n" HOST HOST "\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "POST /embed HTTP/1.1\r\n" HOST "Content-Length : 5\r\n\r\nhello",
    };
    for (unsigned i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        int fd = dial();
        say(fd, refused[i]);
        assert_int_equal(hear(fd), 400);
        close(fd);
    }
    int fd = dial();
    say(fd, refused[2]);
    assert_int_equal(hear(fd), 400);
    assert_true(is_closed(fd));
    close(fd);
}

static void test_chunked(void **state) {
    (void)state;
    int fd = dial();
    say(fd, "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    say(fd, "a\r\n{\"inputs\":\r\n");
    usleep(20000);
    say(fd, "4;x=y\r\n\"ab\"\r\n");
    say(fd, "1\r\n}\r\n0\r\n\r\n");
    assert_int_equal(hear(fd), 200);
    say(fd, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 200);
    close(fd);
}

static void test_pipelining(void **state) {
    (void)state;
    int fd = dial();
    say(fd, "GET /?q=wait HTTP/1.1\r\n" HOST "\r\nGET /health HTTP/1.1\r\n" HOST "\r\n"
            "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 14\r\n\r\n{\"inputs\":\"a\"}"
            "GET /ping HTTP/1.1\r\n" HOST "\r\n");
    wait_until(count_kept, 1);
    in_loop(fake_answer_all);
    assert_int_equal(hear(fd), 200);
    assert_non_null(strstr(body_text, "\"query\":\"wait\""));
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text, "");
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text, "[7]");
    assert_int_equal(hear(fd), 200);
    close(fd);
}

static char *long_request(size_t body_bytes, const char *more) {
    char *text = calloc(body_bytes + 512, 1);
    int size = snprintf(text, 512, "POST /embed HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n%s\r\n",
                        body_bytes, more);
    memset(text + size, ' ', body_bytes);
    return text;
}

static void test_large_bodies(void **state) {
    (void)state;
    char *text = long_request(BODY_MAX, "");
    memcpy(strstr(text, "\r\n\r\n") + 4, "{\"inputs\":\"a\"}", 14);
    assert_int_equal(ask(text), 200);
    free(text);
    text = long_request(BODY_MAX + 1, "");
    int fd = dial();
    say(fd, text);
    assert_int_equal(hear(fd), 413);
    assert_non_null(strstr(body_text, "\"error_type\":\"Validation\""));
    say(fd, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 200);
    close(fd);
    free(text);
    fd = dial();
    say(fd, "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 999999999999\r\n\r\n");
    assert_int_equal(hear(fd), 413);
    assert_true(is_closed(fd));
    close(fd);
    assert_int_equal(ask("POST /embed HTTP/1.1\r\n" HOST "Content-Length: 9999999\r\n"
                         "Expect: 100-continue\r\n\r\n"), 413);
    fd = dial();
    say(fd, "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 14\r\nExpect: 100-continue\r\n\r\n");
    assert_int_equal(hear(fd), 100);
    say(fd, "{\"inputs\":\"a\"}");
    assert_int_equal(hear(fd), 200);
    close(fd);
}

static void test_long_chunked_body(void **state) {
    (void)state;
    static char chunk[65536 + 16];
    int size = snprintf(chunk, sizeof chunk, "10000\r\n");
    memset(chunk + size, ' ', 65536);
    memcpy(chunk + size + 65536, "\r\n", 3);
    int fd = dial();
    say(fd, "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < BODY_MAX / 65536 + 1; i++)
        say(fd, chunk);
    say(fd, "0\r\n\r\n");
    assert_int_equal(hear(fd), 413);
    close(fd);
    fd = dial();
    say(fd, "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 8 * BODY_MAX / 65536; i++)
        if (send(fd, chunk, strlen(chunk), MSG_NOSIGNAL) < 0)
            break;
    assert_true(is_closed(fd));
    close(fd);
}

/* Bodies beyond the budget wait for others to go, and all are answered. */
static void test_held_bodies(void **state) {
    (void)state;
    enum { CLIENTS = 24 };
    host.options.body_bytes_max = 16 * MOULT_MIB;
    int fds[CLIENTS];
    for (unsigned i = 0; i < CLIENTS; i++) {
        fds[i] = dial();
        say(fds[i], "POST /embed HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                    "8000\r\n");
        char *blanks = moult_allocate(0x8000 + 1, 1);
        memset(blanks, ' ', 0x8000);
        say(fds[i], blanks);
        free(blanks);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        say(fds[i], "\r\ne\r\n{\"inputs\":\"a\"}\r\n0\r\n\r\n");
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        assert_int_equal(hear(fds[i]), 200);
        close(fds[i]);
    }
}

static void test_gone_client(void **state) {
    (void)state;
    int fd = dial();
    say_post(fd, "/embed", "{\"inputs\":\"wait\"}");
    wait_until(count_kept, 1);
    close(fd);
    wait_until(count_abandoned, 1);
    wait_until(count_requests, 0);
    fd = dial();
    say(fd, "POST /update_model HTTP/1.1\r\n" HOST "Content-Type: application/json\r\n"
            "Content-Length: 34\r\n\r\n{\"model\":\"slow/model\",\"wait\":true}");
    wait_until(count_requests, 1);
    close(fd);
    wait_until(count_forgotten, 1);
    wait_until(count_requests, 0);
}

/* The end of the connection comes in one edge with a part of the body. */
static void test_gone_in_mid_body(void **state) {
    (void)state;
    char *text = long_request(34000, "");
    for (unsigned i = 0; i < 50; i++) {
        int fd = dial();
        assert_int_equal(send(fd, text, 17000, MSG_NOSIGNAL), 17000);
        close(fd);
    }
    free(text);
    wait_until(count_requests, 0);
}

static void test_slow_reader(void **state) {
    (void)state;
    int fd = dial();
    struct moult_buffer body;
    moult_buffer_init(&body, 100000);
    moult_buffer_text(&body, "{\"inputs\":[\"long\"");
    for (int i = 0; i < 2047; i++)
        moult_buffer_text(&body, ",\"x\"");
    moult_buffer_text(&body, "]}");
    say_post(fd, "/embed", body.bytes);
    moult_buffer_release(&body);
    usleep(100000);
    assert_int_equal(ask("GET /health HTTP/1.1\r\n" HOST "\r\n"), 200);
    assert_int_equal(hear(fd), 200);
    assert_int_equal(strlen(body_text), 2048 * FAKE_LONG_CELL + 2);
    assert_int_equal(strspn(body_text + 1, "7"), 2048 * FAKE_LONG_CELL);
    close(fd);
}

static void test_errors(void **state) {
    (void)state;
    static const struct {
        const char *path, *body;
        unsigned status;
        const char *part;
    } cases[] = {
        {"/embed", "", 400, "\"error_type\":\"Validation\""},
        {"/embed", "{", 400, "not valid JSON"},
        {"/embed", "[]", 400, "must be a JSON object, not a list"},
        {"/embed", "{\"inputs\":\"\"}", 400, "\"error_type\":\"Empty\""},
        {"/embed", "{\"inputs\":[\"a\",\"\"]}", 400, "\\\"inputs\\\"[1] is empty"},
        {"/embed", "{\"inputs\":[]}", 400, "empty list"},
        {"/embed", "{}", 422, "missing"},
        {"/embed", "{\"inputs\":null}", 422, "a list of strings, not null"},
        {"/embed", "{\"inputs\":[[1,2]]}", 422, "token ids"},
        {"/embed", "{\"inputs\":\"a\",\"dimensions\":0}", 422, "at least 1"},
        {"/embed", "{\"inputs\":\"a\",\"dimensions\":385}", 422, "have 384"},
        {"/embed", "{\"inputs\":\"a\",\"prompt_name\":\"x\"}", 422, "prompt_name"},
        {"/embed", "{\"inputs\":\"a\",\"truncation_direction\":\"Up\"}", 422, "Left"},
        {"/embed", "{\"inputs\":\"a\",\"inputs\":\"b\"}", 400, "duplicate"},
        {"/embed", "{\"inputs\":\"\\ud800\"}", 400, "not valid JSON"},
        {"/embed", "{\"inputs\":\"\xff\"}", 400, "UTF-8"},
        {"/embed", "{\"inputs\":\"busy\"}", 429, "\"error_type\":\"Overloaded\""},
        {"/embed", "{\"inputs\":\"kill\"}", 424, "\"error_type\":\"Backend\""},
        {"/embed", "{\"inputs\":\"fail\"}", 424, "Said by the worker"},
        {"/embed", "{\"inputs\":\"down\"}", 503, "\"error_type\":\"Unhealthy\""},
        {"/embed", "{\"inputs\":[\"bad\",\"a\"]}", 422, "\\\"inputs\\\"[0]: Said by"},
        {"/v1/embeddings", "{\"input\":\"kill\"}", 500, "\"type\":\"server_error\""},
        {"/v1/embeddings", "{\"input\":\"\"}", 400, "\"param\":\"input\""},
        {"/v1/embeddings", "{\"input\":[1,2,3]}", 400, "check_embedding_ctx_length"},
        {"/v1/embeddings", "{\"input\":\"a\",\"model\":\"x@1\"}", 404, "\"model_not_found\""},
        {"/v1/embeddings", "{\"input\":\"a\",\"encoding_format\":\"f16\"}", 400, "base64"},
        {"/v1/embeddings", "{\"input\":\"busy\"}", 429, "\"rate_limit_exceeded\""},
    };
    int fd = dial();
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        say_post(fd, cases[i].path, cases[i].body);
        assert_int_equal(hear(fd), cases[i].status);
        if (strstr(body_text, cases[i].part) == NULL)
            fail_msg("%s %s: %s", cases[i].path, cases[i].body, body_text);
    }
    say_post(fd, "/embed", "{\"inputs\":\"busy\"}");
    assert_int_equal(hear(fd), 429);
    assert_non_null(strstr(head_text, "Retry-After: 7\r\n"));
    close(fd);
}

static void test_updates(void **state) {
    (void)state;
    int fd = dial();
    say(fd, "POST /update_model HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}");
    assert_int_equal(hear(fd), 415);
#define JSON_HEADERS HOST "Content-Type: application/json\r\n"
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS "Content-Length: 2\r\n\r\n{}");
    assert_int_equal(hear(fd), 202);
    assert_string_equal(body_text, "{\"id\":9,\"slot\":\"tiny\",\"status\":\"running\"}");
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 13\r\n\r\n{\"wait\":true}");
    assert_int_equal(hear(fd), 200);
    assert_string_equal(body_text,
                        "{\"id\":9,\"slot\":\"tiny\",\"status\":\"live\",\"generation\":5}");
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 21\r\n\r\n{\"model\":\"forbidden\"}");
    assert_int_equal(hear(fd), 403);
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 22\r\n\r\n{\"model\":\"/elsewhere\"}");
    assert_int_equal(hear(fd), 403);
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 22\r\n\r\n{\"model\":\"/nowhere/a\"}");
    assert_int_equal(hear(fd), 202);
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 18\r\n\r\n{\"revision\":\"v1\"} ");
    assert_int_equal(hear(fd), 400);   /* Its source is a folder. */
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 20\r\n\r\n{\"if_busy\":\"reject\"}");
    assert_int_equal(hear(fd), 409);
    say(fd, "POST /update_model HTTP/1.1\r\n" JSON_HEADERS
            "Content-Length: 13\r\n\r\n{\"cutover\":5}");
    assert_int_equal(hear(fd), 400);
    say(fd, "POST /rollback HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n");
    assert_int_equal(hear(fd), 202);
    assert_true(fake.last_order.rollback);
    say(fd, "DELETE /update_model/9 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 200);
    say(fd, "DELETE /update_model/9x HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 404);
    say(fd, "GET /update_model/18446744073709551616 HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(fd), 404);
    close(fd);
}

/* A model named in the body replaces that of the header, and its prompt with it. */
static void test_prompts(void **state) {
    (void)state;
    static const struct {
        const char *header, *body;
        enum moult_prompt prompt;
    } cases[] = {
        {"", "{\"input\":\"a\"}", MOULT_PROMPT_NONE},
        {"x-moult-model: tiny:query\r\n", "{\"input\":\"a\"}", MOULT_PROMPT_QUERY},
        {"x-moult-model: tiny:query\r\n", "{\"input\":\"a\",\"model\":null}", MOULT_PROMPT_QUERY},
        {"x-moult-model: tiny:query\r\n", "{\"input\":\"a\",\"model\":\"tiny\"}",
         MOULT_PROMPT_NONE},
        {"x-moult-model: tiny:query\r\n", "{\"input\":\"a\",\"model\":\"tiny:document\"}",
         MOULT_PROMPT_DOCUMENT},
    };
    int fd = dial();
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[256];
        snprintf(head, sizeof head,
                 "POST /v1/embeddings HTTP/1.1\r\n" HOST "%sContent-Length: %zu\r\n\r\n",
                 cases[i].header, strlen(cases[i].body));
        say(fd, head);
        say(fd, cases[i].body);
        assert_int_equal(hear(fd), 200);
        assert_int_equal(fake.last_prompt, cases[i].prompt);
    }
    close(fd);
}

static void test_leases(void **state) {
    (void)state;
    static const struct {
        const char *line, *body;
        unsigned status;
        const char *part;
    } cases[] = {
        {"POST /leases", "{\"model\":\"tiny\",\"ttl\":\"1h\"}", 400, "one exact model"},
        {"POST /leases", "{\"model\":5,\"ttl\":\"1h\"}", 400, "model"},
        {"POST /leases", "{\"ttl\":\"1h\"}", 400, "one exact model"},
        {"POST /leases", "{\"model\":\"tiny@76543210\",\"ttl\":\"1h\"}", 404, "There is no model"},
        {"POST /leases", "{\"model\":\"tiny@01234567\"}", 400, "\\\"ttl\\\" must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"1y\"}", 400, "must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"h\"}", 400, "must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"1hh\"}", 400, "must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"7\"}", 400, "must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":0}", 400, "must be a time"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"999999999d\"}", 400, "31 days"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"1h\",\"x\":1}", 400, "\\\"x\\\""},
        {"POST /leases", "[]", 400, "must be a JSON object"},
        /* The fake keeper cannot save this one, so that there is none. */
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":13}", 500, "No space is left"},
        {"GET /leases", "", 200, "{\"leases\":[]}"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"6h\"}", 201,
         "\"model\":\"tiny@01234567\""},
        {"GET /leases/0123456789abcdef", "", 200, "\"expires_at\":1700021600"},
        {"POST /leases", "{\"model\":\"tiny@01234567\",\"ttl\":\"6h\"}", 409, "no more are given"},
        {"POST /leases/0123456789abcdef", "{\"ttl\":\"13s\"}", 500, "is as it was before"},
        {"POST /leases/0123456789abcdef", "{\"ttl\":\"2d\"}", 200, "\"expires_at\":1700172800"},
        {"POST /leases/0123456789abcdef", "{\"ttl\":\"2d\",\"model\":\"a\"}", 400, "model"},
        {"POST /leases/0", "{\"ttl\":\"2d\"}", 404, "There is no lease"},
        {"GET /leases", "", 200, "{\"leases\":[{\"id\":\"0123456789abcdef\""},
        {"DELETE /leases/0", "", 404, "There is no lease"},
        {"DELETE /leases/0123456789abcdef", "", 200, "\"id\":\"0123456789abcdef\""},
        {"DELETE /leases/0123456789abcdef", "", 404, "There is no lease"},
        {"PUT /leases", "{}", 405, ""},
    };
    int fd = dial();
    fake_lease.expires = 0;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char head[256];
        snprintf(head, sizeof head, "%s HTTP/1.1\r\n" JSON_HEADERS "Content-Length: %zu\r\n\r\n",
                 cases[i].line, strlen(cases[i].body));
        say(fd, head);
        say(fd, cases[i].body);
        unsigned status = hear(fd);
        if (status != cases[i].status || strstr(body_text, cases[i].part) == NULL)
            fail_msg("%s %s: %u %s", cases[i].line, cases[i].body, status, body_text);
    }
    say(fd, "POST /leases HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\n{}");
    assert_int_equal(hear(fd), 415);
    close(fd);
}

static void drain(void) {
    moult_http_drain(host.http);
}

static void test_drain(void **state) {
    (void)state;
    int waiting = dial(), idle = dial();
    say(idle, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(idle), 200);
    assert_null(strstr(head_text, "Connection: close"));
    say_post(waiting, "/embed", "{\"inputs\":\"wait\"}");
    wait_until(count_kept, 1);
    in_loop(drain);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(host.port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), -1);
    close(fd);
    in_loop(fake_answer_all);
    assert_int_equal(hear(waiting), 200);
    assert_non_null(strstr(head_text, "Connection: close"));
    assert_true(is_closed(waiting));
    say(idle, "GET /health HTTP/1.1\r\n" HOST "\r\n");
    assert_int_equal(hear(idle), 200);
    assert_non_null(strstr(head_text, "Connection: close"));
    close(idle);
    close(waiting);
    wait_until(count_requests, 0);
}

/* Requests of every kind are open when the server closes; nothing is left over. */
static void test_close_with_open_requests(void **state) {
    (void)state;
    int fds[3] = {dial(), dial(), dial()};
    say_post(fds[0], "/embed", "{\"inputs\":\"wait\"}");
    say(fds[1], "POST /embed HTTP/1.1\r\n" HOST "Content-Length: 20\r\n\r\n{");
    say(fds[2], "POST /embed HTT");
    wait_until(count_kept, 1);
    wait_until(count_requests, 2);
    in_loop(fake_answer_all);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

int main(void) {
#define SERVED(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SERVED(test_answers),
        SERVED(test_routes),
        SERVED(test_framing),
        SERVED(test_chunked),
        SERVED(test_pipelining),
        SERVED(test_large_bodies),
        SERVED(test_long_chunked_body),
        SERVED(test_held_bodies),
        SERVED(test_gone_client),
        SERVED(test_gone_in_mid_body),
        SERVED(test_slow_reader),
        SERVED(test_errors),
        SERVED(test_updates),
        SERVED(test_prompts),
        SERVED(test_leases),
        SERVED(test_drain),
        SERVED(test_close_with_open_requests),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(body_text);
    return failed;
}
