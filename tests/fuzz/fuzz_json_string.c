/* Any bytes become a JSON string that another reader of JSON takes, and valid
 * UTF-8 comes back as it was; a buffer too small holds a prefix made of whole
 * appends. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/error.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_reader(const char *bytes, size_t size) {
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 6 * size + 2);
    MOULT_REQUIRE(moult_buffer_json_string(&buffer, bytes, size));
    json_t *string = json_loadb(buffer.bytes, buffer.size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    MOULT_REQUIRE(json_is_string(string));
    const char *value = json_string_value(string);
    MOULT_REQUIRE(moult_utf8_valid(value, json_string_length(string)));
    if (moult_utf8_valid(bytes, size)) {
        MOULT_REQUIRE(json_string_length(string) == size);
        MOULT_REQUIRE(size == 0 || memcmp(value, bytes, size) == 0);
    }
    json_decref(string);
    moult_buffer_release(&buffer);
}

static void check_bound(const char *bytes, size_t size, size_t size_max) {
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, size_max);
    bool first = moult_buffer_json_string(&buffer, bytes, size);
    size_t size_of_first = buffer.size;
    bool second = moult_buffer_json_string(&buffer, bytes, size);
    MOULT_REQUIRE(buffer.size <= size_max);
    MOULT_REQUIRE(first || size_of_first == 0);
    MOULT_REQUIRE(buffer.size == (second ? 2 * size_of_first : size_of_first));
    MOULT_REQUIRE(buffer.overflowed == !second);
    moult_buffer_release(&buffer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data;
    check_reader(bytes, size);
    if (size > 0)
        check_bound(bytes + 1, size - 1, data[0]);
    return 0;
}
