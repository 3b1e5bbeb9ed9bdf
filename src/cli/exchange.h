/* Requests to one server, several under way at once, over connections that stay open. What a
 * server or a network only fails at for a while is tried again: a lost connection, 429, 502, 503,
 * 504. Used by one thread. */
#ifndef MOULT_CLI_EXCHANGE_H
#define MOULT_CLI_EXCHANGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/client.h"

#define MOULT_EXCHANGE_LANES_MAX 4u

struct moult_exchange;

struct moult_reply {
    long status;                /* Of HTTP; 0: no answer came, and `error` says why. */
    json_t *value;              /* NULL: none came, or it was no JSON. moult_reply_release(). */
    struct moult_error error;   /* Of every status but 2xx: the server's sentence, or ours. */
};

/* `retry_s`: how long it is tried again after the last answer. Where no server has ever been
 * reached it is not. NULL with the error. */
struct moult_exchange *moult_exchange_open(const struct moult_client *client, unsigned lanes,
                                           uint32_t retry_s, struct moult_error *error);
void moult_exchange_close(struct moult_exchange *exchange);

/* Begins a request on a lane that has none: a POST of the JSON in `body` (malloc'ed, taken over),
 * or a GET where it is NULL. */
void moult_exchange_send(struct moult_exchange *exchange, unsigned lane, const char *path,
                         char *body, size_t size);
/* Waits until a request has ended, and returns its lane; -1 after `wait_ms`. */
int moult_exchange_wait(struct moult_exchange *exchange, int wait_ms, struct moult_reply *reply);
void moult_reply_release(struct moult_reply *reply);

/* Whether one is under way that has not met with trouble: its answer may be near. */
bool moult_exchange_is_under_way(const struct moult_exchange *exchange);
/* Why requests wait to be tried again, as a sentence; NULL: none does. */
const char *moult_exchange_trouble(const struct moult_exchange *exchange);

/* Both in turn, until `stop` is not 0: then -1. Returns 0 whatever the status is. */
int moult_exchange_ask(struct moult_exchange *exchange, const char *path, char *body, size_t size,
                       const volatile int *stop, struct moult_reply *reply);

#endif
