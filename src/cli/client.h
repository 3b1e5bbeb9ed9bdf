/* Asking a running server, for update, rollback and status. */
#ifndef MOULT_CLI_CLIENT_H
#define MOULT_CLI_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "cli/options.h"

struct moult_client {
    const char *url;           /* "http://127.0.0.1:8080" */
    const char *api_key_file;  /* NULL: no key. */
};

/* The options that all of them have; into options[0] and options[1]. */
enum { MOULT_CLIENT_OPTIONS = 2 };
void moult_client_options(struct moult_client *client, struct moult_option *options);

/* Sends `body` (a new reference, taken over; NULL: a GET) and returns what came back, or
 * NULL when no answer came or it was no JSON. *status: of HTTP. */
json_t *moult_client_ask(const struct moult_client *client, const char *path, json_t *body,
                         long *status, struct moult_error *error);

/* POSTs an order that begins or ends an update, and prints what came of it: one
 * sentence, or, with `as_json`, the answer itself. Returns the exit code. */
int moult_client_order(const struct moult_client *client, const char *path, json_t *body,
                       bool as_json);

#endif
