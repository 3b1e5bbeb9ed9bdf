/* JSON of model files, by jansson, behind a check of its depth. Such
 * files may hold 1e30 written out as an integer (transformers' "no limit"), which
 * jansson's integers cannot, so the getters read every number as a real one. */
#ifndef MOULT_MODEL_JSON_H
#define MOULT_MODEL_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* `flags` are jansson's; JSON_DECODE_INT_AS_REAL lets such numbers pass. `what`
 * names the text in the message. NULL on failure. */
json_t *moult_model_json_parse(const char *bytes, size_t size, size_t flags, const char *what,
                               struct moult_error *error);

/* Each leaves *value as it is where the key is absent or null, and fails where it
 * has another type or lies outside of [least, most]. */
int moult_model_json_count(const json_t *object, const char *key, uint32_t least, uint32_t most,
                           uint32_t *value, const char *what, struct moult_error *error);
int moult_model_json_number(const json_t *object, const char *key, double *value,
                            const char *what, struct moult_error *error);
int moult_model_json_bool(const json_t *object, const char *key, bool *value, const char *what,
                          struct moult_error *error);
/* The string is the object's own. */
int moult_model_json_string(const json_t *object, const char *key, const char **value,
                            const char *what, struct moult_error *error);

#endif
