/* JSON from outside: jansson behind limits, and getters whose failures are
 * finished sentences. What is checked before jansson sees a byte: that the body is UTF-8,
 * how deep it nests and how many values it has, for a value of two
 * bytes costs jansson sixty. Duplicate keys, lone surrogates and bytes after
 * the value are refused; NUL within a string is allowed, as it is in
 * sentence-transformers, whose tokenizer drops it. */
#ifndef MOULT_FRONT_JSON_H
#define MOULT_FRONT_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Values of one body, keys not counted. */
#define MOULT_JSON_VALUES_MAX (256u * 1024u)

/* Returns a new reference, or NULL. Any thread. */
json_t *moult_json_read(const char *bytes, size_t size, struct moult_error *error);
/* The same where it has to be an object. */
json_t *moult_json_read_object(const char *bytes, size_t size, struct moult_error *error);
/* The same, of one line of a file: the sentences speak of a line, not of a body. */
json_t *moult_json_read_line(const char *bytes, size_t size, struct moult_error *error);

/* Each getter returns 0 where the key is absent or null and leaves *value as it
 * is, 1 where it has filled it, and -1 where it is of another type. Strings are
 * the object's own. */
int moult_json_string(const json_t *object, const char *key, const char **value,
                      struct moult_error *error);
int moult_json_boolean(const json_t *object, const char *key, bool *value,
                       struct moult_error *error);
int moult_json_count(const json_t *object, const char *key, uint32_t *value,
                     struct moult_error *error);

/* What a person calls the type: "a string", "a number", … */
const char *moult_json_type_name(const json_t *value);

/* The value as compact text, malloc'ed. */
char *moult_json_write(const json_t *value, size_t *size);

#endif
