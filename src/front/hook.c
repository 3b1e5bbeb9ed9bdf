/* Web hooks, delivered.
 *
 *   a message          is                                   then
 *   ────────────────── ──────────────────────────────────── ───────────────────────────────────
 *   pending            behind others of its receiver        under way, once it is the first and
 *                                                           its receiver's pause is over
 *   under way          POSTed, with a new time stamp and    2xx: delivered. 410: it and all of
 *                      so a new signature, under one id     its receiver are given up. Else:
 *                                                           pending, after a pause
 *   tried in vain      and it was told 15 minutes ago       given up
 *                      and the server is stopping           lost, with all of its receiver
 *
 * Two threads. The loop appends to a receiver's list; the thread takes from its head and owns
 * all that is curl's. `lock` guards the lists and what is counted; it is held for a few
 * assignments and a line of the log, never over a transfer. The message under way
 * stays in its list, as its head, and is marked: so the loop, when it makes room, does not
 * take it away.
 *
 * curl_multi_poll() is the only place where the thread waits, and curl_multi_wakeup() ends that
 * from the loop: for a new message, and for the end of the server. Names are resolved in threads
 * of curl's own, for which a broken-off transfer does not wait (QUICK_EXIT). */
#include "front/hook.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <uv.h>

#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"

#define SECOND_NS 1000000000ull
#define PATIENCE_SECONDS 900u            /* From the telling to the last attempt. */
#define PAUSE_FIRST_NS SECOND_NS
#define PAUSE_MAX_NS (60 * SECOND_NS)
#define PAUSE_ASKED_MAX_NS (300 * SECOND_NS)
#define CONNECT_SECONDS_MAX 5l
#define ATTEMPT_SECONDS_MAX 15u
#define ANSWER_BYTES_MAX (64 * MOULT_KIB)   /* Read, and thrown away. */
#define IDLE_MS 3600000
#define STACK_BYTES (512 * MOULT_KIB)
#define ID_BYTES 40

struct message {
    char id[ID_BYTES];
    char *body;
    size_t size;
    const char *type;
    bool important;
    bool under_way;
    unsigned attempts;
    uint64_t told_ns;
    struct message *next;
};

struct receiver {
    struct moult_hooks *hooks;
    char *url, *origin;
    /* Guarded by the lock. */
    struct message *first;
    struct moult_hook_counts counts;
    /* The thread's own. */
    CURL *curl;
    struct curl_slist *headers;          /* Of the message under way. */
    uint64_t not_before_ns;
    size_t thrown_away;
    bool over;                           /* An attempt failed, and the server is stopping. */
    char reason[CURL_ERROR_SIZE];
};

struct moult_hooks {
    struct moult_signing_keys keys;
    uv_mutex_t lock;
    uv_thread_t thread;
    CURLM *multi;
    bool started;
    bool stopping, at_once, ended;       /* Guarded by the lock. */
    unsigned count;
    struct receiver receivers[MOULT_HOOKS_MAX];
};

static void run(void *context);

/* The loop's side. */

static char *origin_of(const char *url) {
    char *scheme = NULL, *host = NULL, *port = NULL, *origin = NULL;
    CURLU *parts = curl_url();
    MOULT_REQUIRE(parts != NULL);
    if (curl_url_set(parts, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
        curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK) {
        bool has_port = curl_url_get(parts, CURLUPART_PORT, &port, 0) == CURLUE_OK;
        if (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0)
            origin = moult_format("%s://%s%s%s", scheme, host, has_port ? ":" : "",
                                  has_port ? port : "");
    }
    curl_free(scheme);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return origin;
}

int moult_hook_url_check(const char *url, struct moult_error *error) {
    char *origin = strstr(url, "://") != NULL ? origin_of(url) : NULL;
    if (origin == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"%.200s\" is no URL that can be told anything; one begins with "
                          "http:// or https://.",
                          url);
    free(origin);
    return 0;
}

struct moult_hooks *moult_hooks_open(const char *const *urls, unsigned count,
                                     const struct moult_signing_keys *keys,
                                     struct moult_error *error) {
    const uv_thread_options_t options = {.flags = UV_THREAD_HAS_STACK_SIZE,
                                         .stack_size = STACK_BYTES};
    MOULT_REQUIRE(count <= MOULT_HOOKS_MAX);
    MOULT_REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    struct moult_hooks *hooks = moult_allocate(1, sizeof *hooks);
    hooks->keys = *keys;
    hooks->multi = curl_multi_init();
    MOULT_REQUIRE(hooks->multi != NULL && uv_mutex_init(&hooks->lock) == 0);
    for (unsigned i = 0; i < count; i++) {
        struct receiver *receiver = &hooks->receivers[hooks->count++];
        receiver->hooks = hooks;
        receiver->url = moult_copy_string(urls[i]);
        receiver->origin = origin_of(urls[i]);
        MOULT_REQUIRE(receiver->origin != NULL);
        receiver->counts.receiver = receiver->origin;
    }
    int started = uv_thread_create_ex(&hooks->thread, &options, run, hooks);
    hooks->started = started == 0;
    if (hooks->started)
        return hooks;
    moult_fail(error, MOULT_ERROR_SYSTEM, "The thread of the web hooks cannot be started: %s.",
               uv_strerror(started));
    hooks->ended = true;
    moult_hooks_close(hooks);
    return NULL;
}

static void free_message(struct message *message) {
    free(message->body);
    free(message);
}

/* Takes one message away where there is no room for another. */
static void make_room(struct receiver *receiver) {
    struct message **victim = NULL;
    if (receiver->counts.pending < MOULT_HOOK_MESSAGES_MAX)
        return;
    for (struct message **at = &receiver->first; *at != NULL; at = &(*at)->next) {
        if ((*at)->under_way)
            continue;
        if (victim == NULL)
            victim = at;
        if (!(*at)->important) {
            victim = at;
            break;
        }
    }
    struct message *gone = *victim;
    *victim = gone->next;
    free_message(gone);
    receiver->counts.pending--;
    receiver->counts.dropped++;
}

static void append(struct receiver *receiver, const struct message *pattern) {
    struct message *message = moult_allocate(1, sizeof *message);
    *message = *pattern;
    message->body = moult_copy_bytes(pattern->body, pattern->size);
    struct message **end = &receiver->first;
    while (*end != NULL)
        end = &(*end)->next;
    *end = message;
    receiver->counts.pending++;
}

/* Who stores ids to know what came twice needs them to be unlike those of other servers. */
static void make_id(char id[ID_BYTES]) {
    static const char hex[] = "0123456789abcdef";
    unsigned char random[16];
    MOULT_REQUIRE(getrandom(random, sizeof random, 0) == (ssize_t)sizeof random);
    size_t size = (size_t)snprintf(id, ID_BYTES, "msg_");
    for (size_t i = 0; i < sizeof random; i++) {
        id[size++] = hex[random[i] >> 4];
        id[size++] = hex[random[i] & 15];
    }
    id[size] = '\0';
}

static void format_now(char *text, size_t capacity) {
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(text, capacity, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text + size, capacity - size, ".%03ldZ", now.tv_nsec / 1000000);
}

void moult_hooks_tell(struct moult_hooks *hooks, const char *type, bool important, json_t *data) {
    char now[40];
    format_now(now, sizeof now);
    json_t *content = json_pack("{s:s, s:s, s:o}", "type", type, "timestamp", now, "data", data);
    MOULT_REQUIRE(content != NULL);
    struct message message = {.type = type, .important = important, .told_ns = moult_clock_ns()};
    message.body = json_dumps(content, JSON_COMPACT);
    MOULT_REQUIRE(message.body != NULL);
    message.size = strlen(message.body);
    json_decref(content);
    make_id(message.id);
    uv_mutex_lock(&hooks->lock);
    for (unsigned i = 0; i < hooks->count && !hooks->stopping; i++) {
        struct receiver *receiver = &hooks->receivers[i];
        if (receiver->counts.gone)
            continue;
        make_room(receiver);
        append(receiver, &message);
    }
    uv_mutex_unlock(&hooks->lock);
    free(message.body);
    curl_multi_wakeup(hooks->multi);
}

bool moult_hooks_stop(struct moult_hooks *hooks, bool at_once) {
    uv_mutex_lock(&hooks->lock);
    bool news = !hooks->stopping || (at_once && !hooks->at_once);
    hooks->stopping = true;
    hooks->at_once = hooks->at_once || at_once;
    bool ended = hooks->ended;
    uv_mutex_unlock(&hooks->lock);
    if (news && !ended)
        curl_multi_wakeup(hooks->multi);
    return ended;
}

void moult_hooks_close(struct moult_hooks *hooks) {
    MOULT_REQUIRE(hooks->ended);
    if (hooks->started)
        uv_thread_join(&hooks->thread);
    for (unsigned i = 0; i < hooks->count; i++) {
        struct receiver *receiver = &hooks->receivers[i];
        for (struct message *message; (message = receiver->first) != NULL;) {
            receiver->first = message->next;
            free_message(message);
        }
        free(receiver->url);
        free(receiver->origin);
    }
    curl_multi_cleanup(hooks->multi);
    uv_mutex_destroy(&hooks->lock);
    free(hooks);
    curl_global_cleanup();
}

unsigned moult_hooks_count(const struct moult_hooks *hooks) {
    return hooks != NULL ? hooks->count : 0;
}

void moult_hooks_counts(struct moult_hooks *hooks, unsigned index,
                        struct moult_hook_counts *counts) {
    uv_mutex_lock(&hooks->lock);
    *counts = hooks->receivers[index].counts;
    uv_mutex_unlock(&hooks->lock);
}

json_t *moult_hooks_json(struct moult_hooks *hooks) {
    json_t *list = json_array();
    for (unsigned i = 0; i < moult_hooks_count(hooks); i++) {
        struct moult_hook_counts counts;
        moult_hooks_counts(hooks, i, &counts);
        json_array_append_new(
            list, json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:b, s:s}", "receiver",
                            counts.receiver, "pending", (int)counts.pending, "delivered",
                            (json_int_t)counts.delivered, "failed_attempts",
                            (json_int_t)counts.failed_attempts, "given_up",
                            (json_int_t)counts.given_up, "dropped", (json_int_t)counts.dropped,
                            "delivered_at", (json_int_t)counts.delivered_at, "gone", counts.gone,
                            "error", counts.error));
    }
    return list;
}

/* The thread: one attempt. */

static size_t throw_away(char *bytes, size_t one, size_t count, void *context) {
    struct receiver *receiver = context;
    (void)bytes;
    receiver->thrown_away += one * count;
    return receiver->thrown_away <= ANSWER_BYTES_MAX ? one * count : 0;
}

/* Workers and pulls are started meanwhile: none of them may inherit it. */
static curl_socket_t open_socket(void *context, curlsocktype purpose,
                                 struct curl_sockaddr *address) {
    (void)context;
    (void)purpose;
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static CURL *open_curl(struct receiver *receiver) {
    CURL *curl = curl_easy_init();
    MOULT_REQUIRE(curl != NULL);
    curl_easy_setopt(curl, CURLOPT_URL, receiver->url);
    curl_easy_setopt(curl, CURLOPT_PRIVATE, receiver);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "moult/" MOULT_VERSION);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0l);
    curl_easy_setopt(curl, CURLOPT_FORBID_REUSE, 1l);   /* Minutes lie between two updates. */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1l);
    curl_easy_setopt(curl, CURLOPT_QUICK_EXIT, 1l);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, CONNECT_SECONDS_MAX);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT,
                     (long)moult_fault_seconds("HOOK_ATTEMPT", ATTEMPT_SECONDS_MAX));
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, throw_away);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, receiver);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, receiver->reason);
    if (getenv("SSL_CERT_FILE") != NULL)   /* As other programs find a company's own. */
        curl_easy_setopt(curl, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
    return curl;
}

static struct curl_slist *add(struct curl_slist *headers, const char *line) {
    headers = curl_slist_append(headers, line);
    MOULT_REQUIRE(headers != NULL);
    return headers;
}

static void start(struct receiver *receiver, const struct message *message) {
    const struct moult_signing_keys *keys = &receiver->hooks->keys;
    char line[MOULT_SIGNATURE_BYTES_MAX + 64];
    int64_t seconds = (int64_t)time(NULL);
    struct curl_slist *headers = add(NULL, "Content-Type: application/json");
    headers = add(headers, "Expect:");
    snprintf(line, sizeof line, "webhook-id: %s", message->id);
    headers = add(headers, line);
    snprintf(line, sizeof line, "webhook-timestamp: %lld", (long long)seconds);
    headers = add(headers, line);
    if (keys->count > 0) {
        size_t size = (size_t)snprintf(line, sizeof line, "webhook-signature: ");
        moult_signature_write(keys, message->id, seconds, message->body, message->size,
                              line + size);
        headers = add(headers, line);
    }
    receiver->headers = headers;
    receiver->thrown_away = 0;
    receiver->reason[0] = '\0';
    curl_easy_setopt(receiver->curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(receiver->curl, CURLOPT_POSTFIELDSIZE, (long)message->size);
    curl_easy_setopt(receiver->curl, CURLOPT_POSTFIELDS, message->body);
    MOULT_REQUIRE(curl_multi_add_handle(receiver->hooks->multi, receiver->curl) == CURLM_OK);
}

/* 0 where it was delivered; otherwise what came, 1 where nothing did, and the reason. */
static long read_outcome(struct receiver *receiver, CURLcode code, char *reason, size_t capacity) {
    long status = 0;
    curl_easy_getinfo(receiver->curl, CURLINFO_RESPONSE_CODE, &status);
    /* Too long an answer is an answer all the same. */
    if (code == CURLE_WRITE_ERROR && receiver->thrown_away > ANSWER_BYTES_MAX)
        code = CURLE_OK;
    if (code == CURLE_OK && status >= 200 && status < 300)
        return 0;
    if (code == CURLE_OK) {
        snprintf(reason, capacity, "It answers %ld.", status);
        return status > 1 ? status : 1;
    }
    const char *said = receiver->reason[0] != '\0' ? receiver->reason : curl_easy_strerror(code);
    int size = (int)strcspn(said, "\r\n");
    while (size > 0 && said[size - 1] == '.')
        size--;
    snprintf(reason, capacity, "%.*s.", size, said);
    return 1;
}

/* Doubled with each attempt, and nobody's clock: receivers that come back are not met
 * by all servers at once. */
static uint64_t pause_ns(struct receiver *receiver, unsigned attempts) {
    uint64_t base_ns = PAUSE_FIRST_NS;
    uint32_t random = 0;
    curl_off_t asked_s = 0;
    for (unsigned i = 1; i < attempts && base_ns < PAUSE_MAX_NS; i++)
        base_ns *= 2;
    base_ns = base_ns < PAUSE_MAX_NS ? base_ns : PAUSE_MAX_NS;
    MOULT_REQUIRE(getrandom(&random, sizeof random, 0) == (ssize_t)sizeof random);
    uint64_t ns = base_ns / 2 + (uint64_t)((double)base_ns * random / UINT32_MAX);
    curl_easy_getinfo(receiver->curl, CURLINFO_RETRY_AFTER, &asked_s);
    uint64_t asked_ns = asked_s > 0 ? (uint64_t)asked_s * SECOND_NS : 0;
    asked_ns = asked_ns < PAUSE_ASKED_MAX_NS ? asked_ns : PAUSE_ASKED_MAX_NS;
    return asked_ns > ns ? asked_ns : ns;
}

/* The thread: what becomes of messages. */

/* The lock is held. */
static void take_first(struct receiver *receiver) {
    struct message *message = receiver->first;
    receiver->first = message->next;
    receiver->counts.pending--;
    free_message(message);
}

static void give_up(struct receiver *receiver) {
    receiver->counts.given_up++;
    take_first(receiver);
}

/* The lock is held. Logged is what changes: the first failure of a message, and its end. */
static void after_failure(struct receiver *receiver, long outcome, const char *reason) {
    struct message *message = receiver->first;
    struct moult_hook_counts *counts = &receiver->counts;
    unsigned patience = moult_fault_seconds("HOOK_PATIENCE", PATIENCE_SECONDS);
    uint64_t now_ns = moult_clock_ns();
    counts->failed_attempts++;
    snprintf(counts->error, sizeof counts->error, "%s", reason);
    if (outcome == 410) {
        moult_log_warning("The web hook %s is gone (it answers 410): it is told nothing more.",
                          receiver->origin);
        counts->gone = true;
        while (receiver->first != NULL)
            give_up(receiver);
    } else if (receiver->hooks->stopping) {
        receiver->over = true;
    } else if (now_ns - message->told_ns >= patience * SECOND_NS) {
        moult_log_warning("The web hook %s was never told of %s: %s", receiver->origin,
                          message->type, reason);
        give_up(receiver);
    } else {
        if (message->attempts == 1)
            moult_log_warning("The web hook %s cannot be told of %s yet: %s", receiver->origin,
                              message->type, reason);
        receiver->not_before_ns = now_ns + pause_ns(receiver, message->attempts);
    }
}

static void finish(struct receiver *receiver, CURLcode code) {
    char reason[sizeof receiver->counts.error];
    long outcome = read_outcome(receiver, code, reason, sizeof reason);
    curl_multi_remove_handle(receiver->hooks->multi, receiver->curl);
    curl_slist_free_all(receiver->headers);
    receiver->headers = NULL;
    uv_mutex_lock(&receiver->hooks->lock);
    struct message *message = receiver->first;
    message->under_way = false;
    message->attempts++;
    if (outcome == 0) {
        if (message->attempts > 1)
            moult_log_info("The web hook %s was told of %s, at attempt %u.", receiver->origin,
                           message->type, message->attempts);
        receiver->counts.error[0] = '\0';
        receiver->counts.delivered++;
        receiver->counts.delivered_at = (uint64_t)time(NULL);
        receiver->not_before_ns = 0;
        take_first(receiver);
    } else {
        after_failure(receiver, outcome, reason);
    }
    uv_mutex_unlock(&receiver->hooks->lock);
}

/* Begins what can be begun. Returns when to look again; UINT64_MAX: when something happens. */
static uint64_t start_next(struct receiver *receiver, bool stopping) {
    if (receiver->headers != NULL || receiver->over)
        return UINT64_MAX;
    if (!stopping && receiver->not_before_ns > moult_clock_ns())
        return receiver->not_before_ns;
    uv_mutex_lock(&receiver->hooks->lock);
    struct message *message = receiver->first;
    if (message != NULL)
        message->under_way = true;
    uv_mutex_unlock(&receiver->hooks->lock);
    if (message != NULL)
        start(receiver, message);
    return UINT64_MAX;
}

/* Whether there was one. */
static bool finish_ended(struct moult_hooks *hooks) {
    int left;
    bool any = false;
    CURLMsg *ended;
    while ((ended = curl_multi_info_read(hooks->multi, &left)) != NULL) {
        char *receiver = NULL;
        CURLcode code = ended->data.result;
        curl_easy_getinfo(ended->easy_handle, CURLINFO_PRIVATE, &receiver);
        finish((struct receiver *)(void *)receiver, code);
        any = true;
    }
    return any;
}

static void wait(struct moult_hooks *hooks, uint64_t due_ns) {
    uint64_t now_ns = moult_clock_ns();
    int ms = IDLE_MS;
    if (due_ns < now_ns + IDLE_MS * 1000000ull)
        ms = due_ns > now_ns ? (int)((due_ns - now_ns) / 1000000) + 1 : 0;
    curl_multi_poll(hooks->multi, NULL, 0, ms, NULL);
}

static void close_receiver(struct receiver *receiver) {
    if (receiver->headers != NULL)
        curl_multi_remove_handle(receiver->hooks->multi, receiver->curl);
    curl_easy_cleanup(receiver->curl);
    curl_slist_free_all(receiver->headers);
    uv_mutex_lock(&receiver->hooks->lock);
    if (receiver->counts.pending > 0)
        moult_log_warning("The web hook %s was not told of %u events: the server stops.",
                          receiver->origin, receiver->counts.pending);
    uv_mutex_unlock(&receiver->hooks->lock);
}

/* What there is to do, until there is nothing but to wait. Returns false at the end. */
static bool work(struct moult_hooks *hooks, uint64_t *due_ns) {
    for (;;) {
        int running = 0;
        bool idle = true;
        *due_ns = UINT64_MAX;
        uv_mutex_lock(&hooks->lock);
        bool stopping = hooks->stopping, at_once = hooks->at_once;
        for (unsigned i = 0; i < hooks->count; i++)
            idle = idle && (hooks->receivers[i].first == NULL || hooks->receivers[i].over);
        uv_mutex_unlock(&hooks->lock);
        if (at_once || (stopping && idle))
            return false;
        for (unsigned i = 0; i < hooks->count; i++) {
            uint64_t ns = start_next(&hooks->receivers[i], stopping);
            *due_ns = ns < *due_ns ? ns : *due_ns;
        }
        curl_multi_perform(hooks->multi, &running);
        if (!finish_ended(hooks))
            return true;
    }
}

static void run(void *context) {
    struct moult_hooks *hooks = context;
    uint64_t due_ns;
    for (unsigned i = 0; i < hooks->count; i++)
        hooks->receivers[i].curl = open_curl(&hooks->receivers[i]);
    while (work(hooks, &due_ns))
        wait(hooks, due_ns);
    for (unsigned i = 0; i < hooks->count; i++)
        close_receiver(&hooks->receivers[i]);
    uv_mutex_lock(&hooks->lock);
    hooks->ended = true;
    uv_mutex_unlock(&hooks->lock);
}
