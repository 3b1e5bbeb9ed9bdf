/* The child `moult pull`, which fetches and installs a revision: started,
 * listened to, killed when it stands still or is no longer wanted. It writes one JSON
 * object a line on its standard output:
 *
 *     {"done": bytes, "all": bytes}
 *     {"revision": 64 hex digits, "bytes": N, "was_there": false}       the last one, or
 *     {"error": sentence, "code": number of enum moult_error_code} */
#ifndef MOULT_FRONT_FETCH_H
#define MOULT_FRONT_FETCH_H

#include <uv.h>

#include "base/error.h"
#include "base/hash.h"

struct moult_fetch;

struct moult_fetch_result {
    char revision[MOULT_SHA256_HEX];   /* "" where it failed. */
    uint64_t bytes;
    struct moult_error error;
};

struct moult_fetch_events {
    void (*advanced)(void *context, uint64_t tag, double progress);
    /* Exactly once, and the last; after a cancellation too. */
    void (*ended)(void *context, uint64_t tag, const struct moult_fetch_result *result);
};

/* NULL: the child cannot be started, and no event will come. */
struct moult_fetch *moult_fetch_start(uv_loop_t *loop, const char *data_folder, const char *source,
                                      const struct moult_fetch_events *events, void *context,
                                      uint64_t tag, struct moult_error *error);
void moult_fetch_cancel(struct moult_fetch *fetch);

#endif
