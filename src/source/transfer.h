/* HTTP(S) for sources: one connection that is used again, patience that ends, and
 * what to do about each kind of trouble. It knows neither hubs nor models.
 *
 *     closes in mid-body                            again, from where it stopped
 *     408, 500, 502, 503, 504                       again, after a growing pause
 *     429, 503 with Retry-After or ratelimit        again, after what it asks, up to a minute
 *     not reachable, or silent for 30 s             once more, from where it stopped
 *     another status, a certificate that is wrong   an error at once
 *
 * Five times without a new byte, then it is an error. Redirects are followed, never from
 * https to http; the token goes to the origin it is for, and to no other host or port. */
#ifndef MOULT_SOURCE_TRANSFER_H
#define MOULT_SOURCE_TRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct moult_transfer;

struct moult_transfer_options {
    const char *base;               /* "https://host": whose the token is. */
    const char *token;              /* NULL: none. */
    /* While it goes on or waits, several times a second: so many bytes of the file are there. */
    void (*advance)(void *context, uint64_t bytes);
    void *context;
    bool once;                      /* Trouble is told at once: whoever asks will ask again. */
};

/* The strings of the options must outlive it. */
struct moult_transfer *moult_transfer_open(const struct moult_transfer_options *options);
void moult_transfer_close(struct moult_transfer *transfer);

/* Reads a body of at most `size_max` bytes, malloc'ed. `next`, which may be NULL, becomes
 * the URL of the following page (malloc'ed, of the same origin) or NULL. */
int moult_transfer_get(struct moult_transfer *transfer, const char *url, size_t size_max,
                       char **bytes, size_t *size, char **next, struct moult_error *error);

/* The same, only where the answer is another than the one that had this ETag, or else this date
 * (either may be NULL): *bytes is NULL where it still is that one. */
int moult_transfer_get_news(struct moult_transfer *transfer, const char *url, size_t size_max,
                            const char *etag, const char *date, char **bytes, size_t *size,
                            struct moult_error *error);

/* Completes the file `fd`, of which the first bytes may be there already, to `size`
 * bytes. *resumed: some of the bytes are from before. `what` names it in messages. */
int moult_transfer_download(struct moult_transfer *transfer, const char *url, int fd,
                            uint64_t size, const char *what, bool *resumed,
                            struct moult_error *error);

/* Of the last answer: its status, 0 where there was none, and its X-Error-Code or "". */
long moult_transfer_status(const struct moult_transfer *transfer);
const char *moult_transfer_error_code(const struct moult_transfer *transfer);
/* A header of it, or NULL; the transfer's own until the next request. */
const char *moult_transfer_header(const struct moult_transfer *transfer, const char *name);
/* How long a 429 or 503 asks to be left alone; 0 where it does not. */
uint64_t moult_transfer_pause_ms(const struct moult_transfer *transfer);

/* "https://host:port" begins `url`, and nothing of the host follows. */
bool moult_transfer_same_origin(const char *base, const char *url);

#endif
