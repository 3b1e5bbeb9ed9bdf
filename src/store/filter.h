/* Filters over the metadata of documents, as docs/http-api.md ("Filters") describes them: parsed
 * once from JSON into a form that is evaluated for each document. Nothing of a filter ever
 * becomes SQL; SQLite is handed the compiled form as a bound pointer. */
#ifndef MOULT_STORE_FILTER_H
#define MOULT_STORE_FILTER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct moult_filter;

/* Any thread. Copies what it needs of `json`, which must be an object; {} matches everything.
 * NULL with INVALID or LIMIT. The caller frees it. */
struct moult_filter *moult_filter_parse(const json_t *json, struct moult_error *error);
void moult_filter_free(struct moult_filter *filter);   /* NULL is allowed. */

/* Whether metadata match it. Any thread. A NUL lies behind the `size` bytes. What is no JSON
 * matches nothing. */
bool moult_filter_matches(const struct moult_filter *filter, const char *metadata, size_t size);

#endif
