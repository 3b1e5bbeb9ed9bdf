/* Any bytes are refused with a sentence or become an object within the limits. */
#include <string.h>

#include "base/limits.h"
#include "front/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned depth_of(const json_t *value) {
    unsigned deepest = 0;
    if (json_is_array(value)) {
        for (size_t i = 0; i < json_array_size(value); i++) {
            unsigned depth = depth_of(json_array_get(value, i));
            deepest = depth > deepest ? depth : deepest;
        }
        return deepest + 1;
    }
    if (!json_is_object(value))
        return 0;
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)(uintptr_t)value, key, item)
    {
        unsigned depth = depth_of(item);
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest + 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_error error = {0};
    json_t *object = moult_json_read_object((const char *)data, size, &error);
    if (object == NULL) {
        MOULT_REQUIRE(error.message[0] != '\0');
        return 0;
    }
    MOULT_REQUIRE(json_is_object(object));
    MOULT_REQUIRE(depth_of(object) <= MOULT_JSON_DEPTH_MAX);
    const char *text = "";
    bool flag = false;
    uint32_t count = 0;
    if (moult_json_string(object, "a", &text, &error) > 0)
        MOULT_REQUIRE(strlen(text) == json_string_length(json_object_get(object, "a")));
    moult_json_boolean(object, "a", &flag, &error);
    if (moult_json_count(object, "a", &count, &error) > 0)
        MOULT_REQUIRE(json_integer_value(json_object_get(object, "a")) == count);
    json_decref(object);
    return 0;
}
