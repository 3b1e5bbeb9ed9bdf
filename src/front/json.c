#include "front/json.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"

#define REAL_DIGITS 6

/* Walks over the bytes once, minding strings only. It need not know whether
 * they are JSON: that is jansson's part, which refuses what is unbalanced. */
static int check_shape(const char *bytes, size_t size, struct moult_error *error) {
    unsigned depth = 0;
    uint32_t values = 1;
    for (size_t i = 0; i < size; i++) {
        switch (bytes[i]) {
        case '"':
            for (i++; i < size && bytes[i] != '"'; i++)
                if (bytes[i] == '\\')
                    i++;
            break;
        case '[':
        case '{':
            values++;
            if (++depth > MOULT_JSON_DEPTH_MAX)
                return moult_fail(error, MOULT_ERROR_LIMIT,
                                  "The JSON is nested more than %d levels deep.",
                                  MOULT_JSON_DEPTH_MAX);
            break;
        case ']':
        case '}':
            if (depth > 0)
                depth--;
            break;
        case ',':
            values++;
            break;
        default:
            break;
        }
        if (values > MOULT_JSON_VALUES_MAX)
            return moult_fail(error, MOULT_ERROR_LIMIT, "The JSON has more than %u values.",
                              MOULT_JSON_VALUES_MAX);
    }
    return 0;
}

/* `what` it is, for the sentences: "body". */
static json_t *read_value(const char *what, const char *kind, const char *bytes, size_t size,
                          struct moult_error *error) {
    if (size == 0) {
        moult_fail(error, MOULT_ERROR_INVALID, "The %s is empty; it must be %s.", what, kind);
        return NULL;
    }
    if (!moult_utf8_valid(bytes, size)) {
        moult_fail(error, MOULT_ERROR_INVALID, "The %s is not valid UTF-8.", what);
        return NULL;
    }
    if (check_shape(bytes, size, error) != 0)
        return NULL;
    json_error_t fault;
    json_t *value = json_loadb(bytes, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL |
                               JSON_DECODE_ANY, &fault);
    if (value == NULL)
        moult_fail(error, MOULT_ERROR_INVALID,
                   "The %s is not valid JSON: line %d, column %d: %s.", what, fault.line,
                   fault.column, fault.text);
    return value;
}

static json_t *read_object(const char *what, const char *bytes, size_t size,
                           struct moult_error *error) {
    json_t *value = read_value(what, "a JSON object", bytes, size, error);
    if (value == NULL || json_is_object(value))
        return value;
    moult_fail(error, MOULT_ERROR_INVALID, "The %s must be a JSON object, not %s.", what,
               moult_json_type_name(value));
    json_decref(value);
    return NULL;
}

json_t *moult_json_read(const char *bytes, size_t size, struct moult_error *error) {
    return read_value("body", "JSON", bytes, size, error);
}

json_t *moult_json_read_object(const char *bytes, size_t size, struct moult_error *error) {
    return read_object("body", bytes, size, error);
}

json_t *moult_json_read_line(const char *bytes, size_t size, struct moult_error *error) {
    return read_object("line", bytes, size, error);
}

/* NULL where the key is absent or null. */
static const json_t *given(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

int moult_json_string(const json_t *object, const char *key, const char **value,
                      struct moult_error *error) {
    const json_t *found = given(object, key);
    if (found == NULL)
        return 0;
    if (!json_is_string(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" must be a string, not %s.", key,
                          moult_json_type_name(found));
    if (strlen(json_string_value(found)) != json_string_length(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" must not have NUL in it.", key);
    *value = json_string_value(found);
    return 1;
}

int moult_json_boolean(const json_t *object, const char *key, bool *value,
                       struct moult_error *error) {
    const json_t *found = given(object, key);
    if (found == NULL)
        return 0;
    if (!json_is_boolean(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" must be true or false, not %s.", key,
                          moult_json_type_name(found));
    *value = json_is_true(found);
    return 1;
}

int moult_json_count(const json_t *object, const char *key, uint32_t *value,
                     struct moult_error *error) {
    const json_t *found = given(object, key);
    if (found == NULL)
        return 0;
    json_int_t number = json_is_integer(found) ? json_integer_value(found) : -1;
    if (number < 0 || number > UINT32_MAX)
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%s\" must be a whole number.", key);
    *value = (uint32_t)number;
    return 1;
}

const char *moult_json_type_name(const json_t *value) {
    if (value == NULL)
        return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "a list";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "true or false";
    case JSON_NULL: return "null";
    }
    return "something else";
}

char *moult_json_write(const json_t *value, size_t *size) {
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(REAL_DIGITS));
    MOULT_REQUIRE(text != NULL);
    *size = strlen(text);
    return text;
}
