/* The child `moult pull`, which fetches and installs a revision, or only looks whether there is
 * another: started, listened to (fetch_line.h has what it says), killed when it stands still or is
 * no longer wanted. One that a hanging file system keeps from dying is not waited for. */
#ifndef MOULT_FRONT_FETCH_H
#define MOULT_FRONT_FETCH_H

#include <stdbool.h>
#include <uv.h>

#include "base/error.h"
#include "base/hash.h"
#include "source/source.h"

struct moult_fetch;

struct moult_fetch_result {
    char revision[MOULT_SHA256_HEX];   /* "" where it failed, and of a look. */
    uint64_t bytes;                    /* Of all its files, … */
    uint64_t fetched;                  /* … and those that were copied or came over the wire. */
    char validator[MOULT_VALIDATOR_BYTES];   /* Of the source that the revision was taken from. */
    const struct moult_look *look;     /* Of a look, after a failure too; NULL: nothing was said. */
    bool looked;                       /* The look has a result. */
    struct moult_error error;          /* Where there is neither. */
};

struct moult_fetch_events {
    void (*advanced)(void *context, uint64_t tag, double progress);
    /* Exactly once, and the last; after a cancellation too. What it points to is the caller's
     * no longer than the call. */
    void (*ended)(void *context, uint64_t tag, const struct moult_fetch_result *result);
};

/* NULL: the child cannot be started, and no event will come. `no_links`: no link may lead to the
 * folder, for its real path is what was allowed. */
struct moult_fetch *moult_fetch_start(uv_loop_t *loop, const char *data_folder, const char *source,
                                      bool no_links, const struct moult_fetch_events *events,
                                      void *context, uint64_t tag, struct moult_error *error);
/* moult_look() in a child; of the events, only `ended` comes. */
struct moult_fetch *moult_fetch_look(uv_loop_t *loop, const char *source, const char *unless,
                                     const struct moult_fetch_events *events, void *context,
                                     uint64_t tag, struct moult_error *error);
void moult_fetch_cancel(struct moult_fetch *fetch);

#endif
