/* Asking a running server: what all commands have that do. */
#ifndef MOULT_CLI_CLIENT_H
#define MOULT_CLI_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "cli/options.h"

struct moult_client {
    const char *url;           /* "http://127.0.0.1:8080" */
    const char *api_key_file;  /* NULL: no key. */
    const char *model;         /* Of x-moult-model; NULL: whichever the server takes. */
};

/* The options that all of them have; into options[0] and options[1]. */
enum { MOULT_CLIENT_OPTIONS = 2 };
void moult_client_options(struct moult_client *client, struct moult_option *options);

/* Sends `body` (a new reference, taken over; NULL: a GET) and returns what came back, or
 * NULL when no answer came or it was no JSON. *status: of HTTP. */
json_t *moult_client_ask(const struct moult_client *client, const char *path, json_t *body,
                         long *status, struct moult_error *error);

/* The parts of that. A URL is malloc'ed, headers are NULL with the error, and what is called
 * fail returns -1. */
struct curl_slist;
char *moult_client_url(const struct moult_client *client, const char *path);
struct curl_slist *moult_client_headers(const struct moult_client *client,
                                        struct moult_error *error);
int moult_client_fail_to_connect(const char *url, struct moult_error *error);
/* The sentence in an answer that is no success, or else its status. */
int moult_client_fail_refused(const json_t *answer, long status, struct moult_error *error);

/* The path of something that each collection has, as "/documents"; malloc'ed. NULL: the default
 * collection. */
char *moult_client_path(const char *collection, const char *what);
/* As it stands in a path or a query; malloc'ed. */
char *moult_client_escape(const char *text);

/* POSTs an order that begins or ends an update, and prints what came of it: one
 * sentence, or, with `as_json`, the answer itself. Returns the exit code. */
int moult_client_order(const struct moult_client *client, const char *path, json_t *body,
                       bool as_json);

#endif
