/* Web hooks: what happens is told to other programs by POST, as docs/hooks.md says.
 *
 * One thread delivers to all receivers, over libcurl. To each of them messages go
 * one at a time and in order; one that fails is tried again after growing pauses until
 * it is too old. A receiver that answers 410 is left alone for good. What waits for a receiver
 * is bounded: where it has no room, the oldest message that is not important goes first.
 *
 * All functions are the loop's. None of them waits: not for a receiver, nor for the thread. */
#ifndef MOULT_FRONT_HOOK_H
#define MOULT_FRONT_HOOK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "front/signature.h"

struct moult_hooks;

/* Whether such a URL can be told anything: http or https, with a host. */
int moult_hook_url_check(const char *url, struct moult_error *error);

/* The URLs are copied. `keys` may be without any: then nothing is signed. */
struct moult_hooks *moult_hooks_open(const char *const *urls, unsigned count,
                                     const struct moult_signing_keys *keys,
                                     struct moult_error *error);

/* Tells all receivers: {"type": type, "timestamp": now, "data": data}. The reference to `data`
 * is taken over. What is `important` (the end of an update, …) is not given up for lack of room
 * as long as there is anything else. */
void moult_hooks_tell(struct moult_hooks *hooks, const char *type, bool important, json_t *data);

/* From the first call on nothing new is taken, and what waits is told without a pause until an
 * attempt fails. True when the thread has ended; with `at_once` it breaks off what it is doing. */
bool moult_hooks_stop(struct moult_hooks *hooks, bool at_once);
/* After it has ended. */
void moult_hooks_close(struct moult_hooks *hooks);

struct moult_hook_counts {
    const char *receiver;         /* Scheme, host and port: the rest of a URL may be a secret. */
    unsigned pending;
    uint64_t delivered, failed_attempts;
    uint64_t given_up, dropped;   /* After the last attempt; for lack of room. */
    uint64_t delivered_at;        /* Seconds since the epoch; 0: never. */
    bool gone;                    /* It answered 410. */
    char error[160];              /* Of the last attempt; "" where that went well. */
};
unsigned moult_hooks_count(const struct moult_hooks *hooks);
void moult_hooks_counts(struct moult_hooks *hooks, unsigned index,
                        struct moult_hook_counts *counts);
/* All of it, as an array; a new reference. */
json_t *moult_hooks_json(struct moult_hooks *hooks);

#endif
