#include "source/transfer.h"

#include <curl/curl.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "source/header.h"

#define FRUITLESS_MAX 5             /* Attempts in a row that brought nothing. */
#define SILENT_FRUITLESS_MAX 2      /* Who is not there is seldom there a second later. */
#define PAUSE_MS_FIRST 250u
#define PAUSE_MS_MAX 60000u
#define CONNECT_SECONDS_MAX 10
#define STALL_SECONDS_MAX 30
#define STALL_BYTES_PER_SECOND 1000l
#define REDIRECTS_MAX 10
#define ERROR_BODY_BYTES_MAX 65536  /* Of an answer that is an error: read, and thrown away. */
#define TICK_NS 200000000l

struct moult_transfer {
    CURL *curl;
    struct moult_transfer_options options;
    struct curl_slist *authorization;
    struct curl_slist *condition;   /* Headers of a request that asks for news alone, or NULL. */
    const char *url;
    char reason[CURL_ERROR_SIZE];
    long status;
    char error_code[40];
    /* The request under way. */
    struct moult_buffer *buffer;    /* Either this, … */
    int fd;                         /* … or a file, */
    uint64_t at, size;              /* of which this much is there, of so many bytes. */
    bool begun;                     /* The first byte of this answer has come. */
    bool resumed, over, misplaced;
    uint64_t thrown_away;
    int write_error;
};

enum verdict { DONE, AGAIN, FAILED };

static size_t take(char *bytes, size_t one, size_t size, void *context);
static int on_progress(void *context, curl_off_t all, curl_off_t done, curl_off_t up_all,
                       curl_off_t up_done);

struct moult_transfer *moult_transfer_open(const struct moult_transfer_options *options) {
    struct moult_transfer *transfer = moult_allocate(1, sizeof *transfer);
    MOULT_REQUIRE(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    CURL *curl = transfer->curl = curl_easy_init();
    MOULT_REQUIRE(curl != NULL);
    transfer->options = *options;
    if (options->token != NULL) {
        char *header = moult_format("Authorization: Bearer %s", options->token);
        transfer->authorization = curl_slist_append(NULL, header);
        MOULT_REQUIRE(transfer->authorization != NULL);
        free(header);
    }
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "moult/" MOULT_VERSION);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1l);
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1l);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS_MAX);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, STALL_BYTES_PER_SECOND);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME,
                     (long)moult_fault_seconds("STALL", STALL_SECONDS_MAX));
    if (getenv("SSL_CERT_FILE") != NULL)   /* As other programs find a company's own. */
        curl_easy_setopt(curl, CURLOPT_CAINFO, getenv("SSL_CERT_FILE"));
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, transfer->reason);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, transfer);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0l);
    return transfer;
}

void moult_transfer_close(struct moult_transfer *transfer) {
    curl_easy_cleanup(transfer->curl);
    curl_slist_free_all(transfer->authorization);
    free(transfer);
}

long moult_transfer_status(const struct moult_transfer *transfer) {
    return transfer->status;
}

const char *moult_transfer_error_code(const struct moult_transfer *transfer) {
    return transfer->error_code;
}

bool moult_transfer_same_origin(const char *base, const char *url) {
    const char *slashes = strstr(base, "://");
    size_t size = slashes != NULL ? (size_t)(slashes + 3 - base) : 0;
    size += strcspn(base + size, "/?#");
    return strncmp(base, url, size) == 0 &&
           (url[size] == '\0' || strchr("/?#", url[size]) != NULL);
}

const char *moult_transfer_header(const struct moult_transfer *transfer, const char *name) {
    struct curl_header *found;
    if (curl_easy_header(transfer->curl, name, 0, CURLH_HEADER, -1, &found) != CURLHE_OK)
        return NULL;
    return found->value;
}

/* The body. */

/* Where this answer's bytes belong: 206 goes on, 200 starts over. */
static bool place(struct moult_transfer *transfer) {
    transfer->begun = true;
    if (transfer->buffer != NULL || transfer->at == 0)
        return true;
    uint64_t first = 0;
    if (transfer->status == 206)
        first = moult_header_range_first(moult_transfer_header(transfer, "Content-Range"));
    if (first == transfer->at) {
        transfer->resumed = true;
        return true;
    }
    transfer->misplaced = transfer->status == 206;
    transfer->at = 0;
    if (ftruncate(transfer->fd, 0) != 0)
        transfer->write_error = errno;
    return !transfer->misplaced && transfer->write_error == 0;
}

static bool write_at(struct moult_transfer *transfer, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t wrote = pwrite(transfer->fd, bytes, size, (off_t)transfer->at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            transfer->write_error = wrote < 0 ? errno : ENOSPC;
            return false;
        }
        bytes += wrote;
        size -= (size_t)wrote;
        transfer->at += (uint64_t)wrote;
    }
    return true;
}

static size_t take(char *bytes, size_t one, size_t size, void *context) {
    struct moult_transfer *transfer = context;
    size *= one;
    curl_easy_getinfo(transfer->curl, CURLINFO_RESPONSE_CODE, &transfer->status);
    if (transfer->status != 200 && transfer->status != 206) {
        transfer->thrown_away += size;
        return transfer->thrown_away <= ERROR_BODY_BYTES_MAX ? size : 0;
    }
    if (!transfer->begun && !place(transfer))
        return 0;
    if (transfer->buffer != NULL) {
        transfer->over = !moult_buffer_append(transfer->buffer, bytes, size);
        return transfer->over ? 0 : size;
    }
    transfer->over = size > transfer->size - transfer->at;
    return transfer->over || !write_at(transfer, bytes, size) ? 0 : size;
}

static void tick(struct moult_transfer *transfer) {
    if (transfer->options.advance != NULL)
        transfer->options.advance(transfer->options.context, transfer->at);
}

static int on_progress(void *context, curl_off_t all, curl_off_t done, curl_off_t up_all,
                       curl_off_t up_done) {
    (void)all, (void)done, (void)up_all, (void)up_done;
    tick(context);
    return 0;
}

/* One request. */

static CURLcode perform(struct moult_transfer *transfer) {
    char range[32];
    CURL *curl = transfer->curl;
    bool ours = moult_transfer_same_origin(transfer->options.base, transfer->url);
    bool secure = strncmp(transfer->url, "https:", 6) == 0;
    transfer->reason[0] = transfer->error_code[0] = '\0';
    transfer->status = 0;
    transfer->begun = transfer->over = transfer->misplaced = false;
    transfer->thrown_away = 0;
    snprintf(range, sizeof range, "%" PRIu64 "-", transfer->at);
    curl_easy_setopt(curl, CURLOPT_URL, transfer->url);
    struct curl_slist *headers = transfer->condition;
    if (headers == NULL && ours)
        headers = transfer->authorization;
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, secure ? "https" : "http,https");
    curl_easy_setopt(curl, CURLOPT_RANGE,
                     transfer->buffer == NULL && transfer->at > 0 ? range : NULL);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &transfer->status);
    const char *error_code = moult_transfer_header(transfer, "X-Error-Code");
    if (error_code != NULL)
        snprintf(transfer->error_code, sizeof transfer->error_code, "%s", error_code);
    return code;
}

static bool is_silent(CURLcode code) {
    return code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
           code == CURLE_COULDNT_RESOLVE_PROXY || code == CURLE_OPERATION_TIMEDOUT;
}

/* Trouble of the way, not of the thing. */
static bool is_passing(CURLcode code) {
    switch (code) {
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
        return true;
    default:
        return is_silent(code);
    }
}

static enum verdict fail_for_code(struct moult_transfer *transfer, CURLcode code,
                                  struct moult_error *error) {
    const char *reason =
        transfer->reason[0] != '\0' ? transfer->reason : curl_easy_strerror(code);
    int size = (int)strcspn(reason, "\r\n");
    while (size > 0 && reason[size - 1] == '.')
        size--;
    moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%.200s cannot be read: %.*s.", transfer->url, size,
               reason);
    return is_passing(code) ? AGAIN : FAILED;
}

static enum verdict fail_for_status(struct moult_transfer *transfer, struct moult_error *error) {
    long status = transfer->status;
    bool passing = status == 408 || status == 429 || status == 500 ||
                   (status >= 502 && status <= 504);
    bool absent = status == 404 || status == 410;
    moult_fail(error,
               passing  ? MOULT_ERROR_UNAVAILABLE
               : absent ? MOULT_ERROR_MISSING
                        : MOULT_ERROR_INVALID,
               "%.200s answers %ld.", transfer->url, status);
    return passing ? AGAIN : FAILED;
}

static enum verdict judge(struct moult_transfer *transfer, CURLcode code, const char *what,
                          struct moult_error *error) {
    if (transfer->write_error != 0) {
        errno = transfer->write_error;
        moult_fail_errno(error, "%s cannot be written", what);
        return FAILED;
    }
    if (transfer->over) {
        moult_fail(error, transfer->buffer != NULL ? MOULT_ERROR_LIMIT : MOULT_ERROR_INVALID,
                   "%s is larger than %s.", what,
                   transfer->buffer != NULL ? "its limit" : "its listing says");
        return FAILED;
    }
    if (transfer->misplaced || transfer->status == 416) {
        transfer->at = 0;
        if (ftruncate(transfer->fd, 0) != 0)
            transfer->write_error = errno;
        moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%s comes in other parts than were asked for.",
                   what);
        return AGAIN;
    }
    if (transfer->status == 304 && transfer->condition != NULL && code == CURLE_OK)
        return DONE;
    if (transfer->status >= 400 || (transfer->status >= 300 && code == CURLE_OK))
        return fail_for_status(transfer, error);
    if (code != CURLE_OK)
        return fail_for_code(transfer, code, error);
    if (transfer->buffer != NULL || transfer->at == transfer->size)
        return DONE;
    moult_fail(error, MOULT_ERROR_UNAVAILABLE,
               "%s ends after %" PRIu64 " of %" PRIu64 " bytes.", what, transfer->at,
               transfer->size);
    return AGAIN;
}

/* Again and again. */

uint64_t moult_transfer_pause_ms(const struct moult_transfer *transfer) {
    if (transfer->status != 429 && transfer->status != 503)
        return 0;
    return moult_header_pause_ms(moult_transfer_header(transfer, "Retry-After"),
                                 moult_transfer_header(transfer, "ratelimit"),
                                 (int64_t)time(NULL));
}

static void sleep_ms(struct moult_transfer *transfer, uint64_t ms) {
    const struct timespec pause = {.tv_nsec = TICK_NS};
    for (uint64_t slept_ms = 0; slept_ms < ms; slept_ms += TICK_NS / 1000000) {
        tick(transfer);
        nanosleep(&pause, NULL);
    }
}

/* Waits before the next attempt; false where that would take too long. */
static bool wait_a_little(struct moult_transfer *transfer, unsigned fruitless,
                          struct moult_error *error) {
    uint64_t pause_ms = (uint64_t)PAUSE_MS_FIRST << fruitless;
    uint64_t asked_ms = moult_transfer_pause_ms(transfer);
    if (asked_ms > PAUSE_MS_MAX) {
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "%.200s is busy (status %ld), and asks to be left alone for %" PRIu64 " s.",
                   transfer->url, transfer->status, asked_ms / 1000);
        return false;
    }
    sleep_ms(transfer, asked_ms > pause_ms ? asked_ms : pause_ms);
    return true;
}

static int request(struct moult_transfer *transfer, const char *url, const char *what,
                   struct moult_error *error) {
    struct moult_error reason;
    unsigned fruitless = 0;
    transfer->url = url;
    transfer->write_error = 0;
    for (;;) {
        uint64_t before = transfer->at;
        CURLcode code = perform(transfer);
        enum verdict verdict = judge(transfer, code, what, &reason);
        if (verdict == DONE)
            return 0;
        fruitless = transfer->buffer == NULL && transfer->at > before ? 0 : fruitless + 1;
        if (verdict == FAILED || transfer->options.once || fruitless == FRUITLESS_MAX ||
            (is_silent(code) && fruitless == SILENT_FRUITLESS_MAX) ||
            !wait_a_little(transfer, fruitless, &reason))
            return moult_fail(error, reason.code, "%s", reason.message);
        if (transfer->buffer != NULL)
            moult_buffer_release(transfer->buffer);
    }
}

/* Pages of another origin are not asked. */
static int take_next(struct moult_transfer *transfer, const char *url, char **next,
                     struct moult_error *error) {
    *next = moult_header_next_page(moult_transfer_header(transfer, "Link"), url);
    if (*next == NULL || moult_transfer_same_origin(url, *next))
        return 0;
    free(*next);
    *next = NULL;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%.200s goes on at another host, which is not asked.", url);
}

int moult_transfer_get(struct moult_transfer *transfer, const char *url, size_t size_max,
                       char **bytes, size_t *size, char **next, struct moult_error *error) {
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, size_max);
    transfer->buffer = &buffer;
    transfer->at = 0;
    int result = request(transfer, url, url, error);
    transfer->buffer = NULL;
    if (result == 0 && next != NULL)
        result = take_next(transfer, url, next, error);
    if (result == 0)
        *bytes = moult_buffer_take(&buffer, size);
    moult_buffer_release(&buffer);
    return result;
}

/* The token is not sent along: only plain model servers are asked so, and they have none. */
int moult_transfer_get_news(struct moult_transfer *transfer, const char *url, size_t size_max,
                            const char *etag, const char *date, char **bytes, size_t *size,
                            struct moult_error *error) {
    *bytes = NULL;
    *size = 0;
    if (etag == NULL && date == NULL)
        return moult_transfer_get(transfer, url, size_max, bytes, size, NULL, error);
    char *header = moult_format("%s: %s", etag != NULL ? "If-None-Match" : "If-Modified-Since",
                                etag != NULL ? etag : date);
    transfer->condition = curl_slist_append(NULL, header);
    MOULT_REQUIRE(transfer->condition != NULL);
    free(header);
    int result = moult_transfer_get(transfer, url, size_max, bytes, size, NULL, error);
    curl_slist_free_all(transfer->condition);
    transfer->condition = NULL;
    if (result == 0 && transfer->status == 304) {
        free(*bytes);
        *bytes = NULL;
    }
    return result;
}

int moult_transfer_download(struct moult_transfer *transfer, const char *url, int fd,
                            uint64_t size, const char *what, bool *resumed,
                            struct moult_error *error) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return moult_fail_errno(error, "%s cannot be read", what);
    transfer->fd = fd;
    transfer->size = size;
    transfer->at = (uint64_t)status.st_size;
    transfer->resumed = false;
    if (transfer->at > size) {
        transfer->at = 0;
        if (ftruncate(fd, 0) != 0)
            return moult_fail_errno(error, "%s cannot be written", what);
    }
    transfer->resumed = transfer->at == size;
    int result = transfer->at == size ? 0 : request(transfer, url, what, error);
    *resumed = transfer->resumed;
    return result;
}
