#include "model/json.h"

#include <math.h>

#include "base/limits.h"

/* jansson recurses; its own limit of 2,048 is deeper than our threads' stacks are
 * sure to be. Brackets within strings do not count. */
static bool nests_too_deep(const char *bytes, size_t size) {
    unsigned depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > MOULT_JSON_DEPTH_MAX)
                return true;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return false;
}

json_t *moult_model_json_parse(const char *bytes, size_t size, size_t flags, const char *what,
                               struct moult_error *error) {
    json_error_t reason;
    json_t *value;

    if (nests_too_deep(bytes, size)) {
        moult_fail(error, MOULT_ERROR_LIMIT, "%s nests deeper than %d levels.", what,
                   MOULT_JSON_DEPTH_MAX);
        return NULL;
    }
    value = json_loadb(bytes, size, flags | JSON_REJECT_DUPLICATES, &reason);
    if (value == NULL)
        moult_fail(error, MOULT_ERROR_INVALID, "%s is not valid JSON: %s, line %d.", what,
                   reason.text, reason.line);
    return value;
}

int moult_model_json_number(const json_t *object, const char *key, double *value,
                            const char *what, struct moult_error *error) {
    const json_t *found = json_object_get(object, key);

    if (found == NULL || json_is_null(found))
        return 0;
    if (!json_is_number(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is not a number.", what, key);
    *value = json_number_value(found);
    return 0;
}

int moult_model_json_count(const json_t *object, const char *key, uint32_t least, uint32_t most,
                           uint32_t *value, const char *what, struct moult_error *error) {
    double number = *value;

    if (moult_model_json_number(object, key, &number, what, error) != 0)
        return -1;
    if (!(number >= least && number <= most) || floor(number) != number)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: %s is %.17g; moult needs a whole number from %u to %u.", what, key,
                          number, least, most);
    *value = (uint32_t)number;
    return 0;
}

int moult_model_json_bool(const json_t *object, const char *key, bool *value, const char *what,
                          struct moult_error *error) {
    const json_t *found = json_object_get(object, key);

    if (found == NULL || json_is_null(found))
        return 0;
    if (!json_is_boolean(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is neither true nor false.", what,
                          key);
    *value = json_is_true(found);
    return 0;
}

int moult_model_json_string(const json_t *object, const char *key, const char **value,
                            const char *what, struct moult_error *error) {
    const json_t *found = json_object_get(object, key);

    if (found == NULL || json_is_null(found))
        return 0;
    if (!json_is_string(found))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is not a string.", what, key);
    *value = json_string_value(found);
    return 0;
}
