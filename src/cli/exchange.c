#include "cli/exchange.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"

#define ANSWER_BYTES_MAX (64 * MOULT_MIB)   /* A page of moult export. */
#define CONNECT_SECONDS_MAX 10L
#define PAUSE_MS_FIRST 100u
#define PAUSE_MS_MAX 5000u
#define PAUSE_MS_ASKED_MAX 60000u           /* More than that no server has to say. */
#define NS_PER_MS 1000000u
#define STOP_LOOK_MS 100

enum lane_state { LANE_IDLE, LANE_RUNNING, LANE_PAUSING };

struct lane {
    enum lane_state state;
    CURL *curl;
    char *url, *body;
    struct moult_buffer answer;
    char reason[CURL_ERROR_SIZE];
    unsigned attempts;
    uint64_t began_ns;
    uint64_t due_ns;             /* Pausing: until when. */
};

struct moult_exchange {
    CURLM *multi;
    struct curl_slist *headers;
    char *base;                  /* Without a slash at its end. */
    uint64_t retry_ns;
    uint64_t answered_ns;        /* 0: never. */
    unsigned lane_count;
    struct lane lanes[MOULT_EXCHANGE_LANES_MAX];
    struct moult_error trouble;
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *context) {
    return moult_buffer_append(context, bytes, size * count) ? size * count : 0;
}

static void open_lane(struct moult_exchange *exchange, struct lane *lane) {
    lane->curl = curl_easy_init();
    MOULT_REQUIRE(lane->curl != NULL);
    moult_buffer_init(&lane->answer, ANSWER_BYTES_MAX);
    curl_easy_setopt(lane->curl, CURLOPT_PRIVATE, lane);
    curl_easy_setopt(lane->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(lane->curl, CURLOPT_HTTPHEADER, exchange->headers);
    curl_easy_setopt(lane->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS_MAX);
    curl_easy_setopt(lane->curl, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(lane->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(lane->curl, CURLOPT_ERRORBUFFER, lane->reason);
    curl_easy_setopt(lane->curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(lane->curl, CURLOPT_WRITEDATA, &lane->answer);
}

struct moult_exchange *moult_exchange_open(const struct moult_client *client, unsigned lanes,
                                           uint32_t retry_s, struct moult_error *error) {
    MOULT_REQUIRE(lanes > 0 && lanes <= MOULT_EXCHANGE_LANES_MAX);
    struct curl_slist *headers = moult_client_headers(client, error);
    if (headers == NULL)
        return NULL;
    MOULT_REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct moult_exchange *exchange = moult_allocate(1, sizeof *exchange);
    exchange->base = moult_client_url(client, "");
    /* Without a question whether the body may come: it is sent at once. */
    exchange->headers = curl_slist_append(headers, "Expect:");
    exchange->multi = curl_multi_init();
    MOULT_REQUIRE(exchange->multi != NULL);
    exchange->retry_ns = (uint64_t)retry_s * 1000 * NS_PER_MS;
    exchange->lane_count = lanes;
    for (unsigned i = 0; i < lanes; i++)
        open_lane(exchange, &exchange->lanes[i]);
    return exchange;
}

static void clear_request(struct lane *lane) {
    free(lane->url);
    free(lane->body);
    lane->url = lane->body = NULL;
    moult_buffer_release(&lane->answer);
    lane->state = LANE_IDLE;
}

void moult_exchange_close(struct moult_exchange *exchange) {
    if (exchange == NULL)
        return;
    for (unsigned i = 0; i < exchange->lane_count; i++) {
        struct lane *lane = &exchange->lanes[i];
        if (lane->state == LANE_RUNNING)
            curl_multi_remove_handle(exchange->multi, lane->curl);
        curl_easy_cleanup(lane->curl);
        clear_request(lane);
    }
    curl_multi_cleanup(exchange->multi);
    curl_slist_free_all(exchange->headers);
    curl_global_cleanup();
    free(exchange->base);
    free(exchange);
}

/* Sending. */

static void start(struct moult_exchange *exchange, struct lane *lane) {
    lane->state = LANE_RUNNING;
    lane->reason[0] = '\0';
    moult_buffer_release(&lane->answer);
    MOULT_REQUIRE(curl_multi_add_handle(exchange->multi, lane->curl) == CURLM_OK);
}

void moult_exchange_send(struct moult_exchange *exchange, unsigned lane_number, const char *path,
                         char *body, size_t size) {
    struct lane *lane = &exchange->lanes[lane_number];
    MOULT_REQUIRE(lane_number < exchange->lane_count && lane->state == LANE_IDLE);
    lane->url = moult_format("%s%s", exchange->base, path);
    lane->body = body;
    lane->attempts = 0;
    lane->began_ns = moult_clock_ns();
    curl_easy_setopt(lane->curl, CURLOPT_URL, lane->url);
    if (body != NULL) {
        curl_easy_setopt(lane->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size);
        curl_easy_setopt(lane->curl, CURLOPT_POSTFIELDS, body);
    } else {
        curl_easy_setopt(lane->curl, CURLOPT_HTTPGET, 1L);
    }
    start(exchange, lane);
}

/* Answers. */

static bool passes(long status) {
    return status == 429 || status == 502 || status == 503 || status == 504;
}

/* A client who could not connect gets the reason that is most likely. */
static void fail_transfer(struct moult_exchange *exchange, const struct lane *lane, CURLcode code,
                          struct moult_error *error) {
    if (lane->answer.overflowed)
        moult_fail(error, MOULT_ERROR_LIMIT, "The answer of %s is longer than %lu MiB.", lane->url,
                   ANSWER_BYTES_MAX / MOULT_MIB);
    else if (code == CURLE_COULDNT_CONNECT && exchange->answered_ns == 0)
        moult_client_fail_to_connect(lane->url, error);
    else
        moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Asking %s failed: %s.", lane->url,
                   lane->reason[0] != '\0' ? lane->reason : curl_easy_strerror(code));
}

static void read_answer(const struct lane *lane, struct moult_reply *reply) {
    reply->value = json_loadb(lane->answer.bytes != NULL ? lane->answer.bytes : "",
                              lane->answer.size, JSON_ALLOW_NUL, NULL);
    if (reply->status >= 200 && reply->status < 300 && reply->value != NULL)
        return;
    if (reply->status >= 200 && reply->status < 300)
        moult_fail(&reply->error, MOULT_ERROR_INVALID,
                   "%s answered with something that is not JSON; is it a moult?", lane->url);
    else
        moult_client_fail_refused(reply->value, reply->status, &reply->error);
}

/* There is a server, and the connection to it was lost. */
static bool broke_off(CURLcode code) {
    return code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR || code == CURLE_SEND_ERROR ||
           code == CURLE_PARTIAL_FILE;
}

/* How long to wait before the next attempt: what the server asks for, or ever longer, a
 * little apart from others who wait. */
static uint64_t pause_ms(const struct lane *lane) {
    curl_off_t asked_s = 0;
    unsigned shift = lane->attempts < 6 ? lane->attempts : 6;
    uint64_t ms = (uint64_t)PAUSE_MS_FIRST << shift;
    ms = ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX;
    curl_easy_getinfo(lane->curl, CURLINFO_RETRY_AFTER, &asked_s);
    if (asked_s > 0)
        ms = (uint64_t)asked_s < PAUSE_MS_ASKED_MAX / 1000 ? (uint64_t)asked_s * 1000
                                                           : PAUSE_MS_ASKED_MAX;
    return ms + ms * (moult_clock_ns() / 1000 % 256) / 1024;
}

/* True: the lane's request has ended for good, and the reply is filled. */
static bool finish(struct moult_exchange *exchange, struct lane *lane, CURLcode code,
                   struct moult_reply *reply) {
    uint64_t now_ns = moult_clock_ns();
    *reply = (struct moult_reply){.status = 0};
    if (code == CURLE_OK) {
        curl_easy_getinfo(lane->curl, CURLINFO_RESPONSE_CODE, &reply->status);
        read_answer(lane, reply);
    } else {
        fail_transfer(exchange, lane, code, &reply->error);
    }
    bool again = code == CURLE_OK ? passes(reply->status)
                                  : !lane->answer.overflowed &&
                                        (exchange->answered_ns != 0 || broke_off(code));
    if (code == CURLE_OK && (!again || exchange->answered_ns == 0))
        exchange->answered_ns = now_ns;
    uint64_t since_ns = exchange->answered_ns > lane->began_ns ? exchange->answered_ns
                                                               : lane->began_ns;
    if (!again || now_ns - since_ns > exchange->retry_ns) {
        clear_request(lane);
        return true;
    }
    exchange->trouble = reply->error;
    lane->state = LANE_PAUSING;
    lane->due_ns = now_ns + pause_ms(lane) * NS_PER_MS;
    lane->attempts++;
    moult_reply_release(reply);
    return false;
}

/* Starts what is due; returns how long until the next is, at most `wait_ms`. */
static int start_due(struct moult_exchange *exchange, int wait_ms) {
    uint64_t now_ns = moult_clock_ns();
    for (unsigned i = 0; i < exchange->lane_count; i++) {
        struct lane *lane = &exchange->lanes[i];
        if (lane->state != LANE_PAUSING)
            continue;
        if (lane->due_ns <= now_ns) {
            start(exchange, lane);
            continue;
        }
        uint64_t left_ms = (lane->due_ns - now_ns) / NS_PER_MS + 1;
        if (left_ms < (uint64_t)wait_ms)
            wait_ms = (int)left_ms;
    }
    return wait_ms;
}

static int take_ended(struct moult_exchange *exchange, struct moult_reply *reply) {
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(exchange->multi, &left)) != NULL) {
        if (message->msg != CURLMSG_DONE)
            continue;
        struct lane *lane = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&lane);
        curl_multi_remove_handle(exchange->multi, lane->curl);
        if (finish(exchange, lane, code, reply))
            return (int)(lane - exchange->lanes);
    }
    return -1;
}

int moult_exchange_wait(struct moult_exchange *exchange, int wait_ms, struct moult_reply *reply) {
    uint64_t until_ns = moult_clock_ns() + (uint64_t)wait_ms * NS_PER_MS;
    for (;;) {
        int running;
        int pause = start_due(exchange, wait_ms);
        curl_multi_perform(exchange->multi, &running);
        int lane = take_ended(exchange, reply);
        if (lane >= 0)
            return lane;
        uint64_t now_ns = moult_clock_ns();
        if (now_ns >= until_ns)
            return -1;
        int left_ms = (int)((until_ns - now_ns) / NS_PER_MS) + 1;
        curl_multi_poll(exchange->multi, NULL, 0, left_ms < pause ? left_ms : pause, NULL);
    }
}

void moult_reply_release(struct moult_reply *reply) {
    json_decref(reply->value);
    reply->value = NULL;
}

bool moult_exchange_is_under_way(const struct moult_exchange *exchange) {
    for (unsigned i = 0; i < exchange->lane_count; i++)
        if (exchange->lanes[i].state == LANE_RUNNING && exchange->lanes[i].attempts == 0)
            return true;
    return false;
}

const char *moult_exchange_trouble(const struct moult_exchange *exchange) {
    for (unsigned i = 0; i < exchange->lane_count; i++)
        if (exchange->lanes[i].attempts > 0 && exchange->lanes[i].state != LANE_IDLE)
            return exchange->trouble.message;
    return NULL;
}

int moult_exchange_ask(struct moult_exchange *exchange, const char *path, char *body, size_t size,
                       const volatile int *stop, struct moult_reply *reply) {
    moult_exchange_send(exchange, 0, path, body, size);
    while (*stop == 0)
        if (moult_exchange_wait(exchange, STOP_LOOK_MS, reply) == 0)
            return 0;
    return -1;
}
