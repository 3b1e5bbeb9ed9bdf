#include "base/buffer.h"

#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void grows_and_ends_in_nul(void **state) {
    (void)state;
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 100000);
    for (unsigned i = 0; i < 10000; i++)
        assert_true(moult_buffer_format(&buffer, "%u,", i));
    assert_int_equal(48890, buffer.size);
    assert_int_equal(buffer.size, strlen(buffer.bytes));
    assert_memory_equal("0,1,2,", buffer.bytes, 6);
    assert_string_equal("9999,", buffer.bytes + buffer.size - 5);
    moult_buffer_release(&buffer);
    assert_int_equal(0, buffer.size);
    assert_int_equal(100000, buffer.size_max);
    assert_null(buffer.bytes);
}

static void holds_exactly_its_bound(void **state) {
    (void)state;
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 8);
    assert_true(moult_buffer_text(&buffer, "12345678"));
    assert_false(buffer.overflowed);
    assert_true(moult_buffer_append(&buffer, NULL, 0));
    assert_false(moult_buffer_append(&buffer, "9", 1));
    assert_true(buffer.overflowed);
    assert_string_equal("12345678", buffer.bytes);
    moult_buffer_release(&buffer);
    assert_false(buffer.overflowed);
}

/* After an overflow even what would fit is dropped: a prefix, not a text with holes. */
static void keeps_a_prefix(void **state) {
    (void)state;
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 8);
    assert_true(moult_buffer_text(&buffer, "1234"));
    assert_false(moult_buffer_format(&buffer, "%s", "56789"));
    assert_false(moult_buffer_text(&buffer, "5"));
    assert_string_equal("1234", buffer.bytes);
    moult_buffer_release(&buffer);
}

static void is_handed_over(void **state) {
    (void)state;
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 8);
    size_t size = 99;
    char *bytes = moult_buffer_take(&buffer, &size);
    assert_int_equal(0, size);
    assert_string_equal("", bytes);
    free(bytes);
    moult_buffer_text(&buffer, "abc");
    bytes = moult_buffer_take(&buffer, &size);
    assert_int_equal(3, size);
    assert_string_equal("abc", bytes);
    assert_int_equal(0, buffer.size);
    free(bytes);
    assert_true(moult_buffer_text(&buffer, "de"));
    moult_buffer_release(&buffer);
}

static void expect_json(const char *expected, const char *bytes, size_t size) {
    struct moult_buffer buffer;
    moult_buffer_init(&buffer, 256);
    assert_true(moult_buffer_json_string(&buffer, bytes, size));
    assert_string_equal(expected, buffer.bytes);
    moult_buffer_release(&buffer);
}

static void escapes_json(void **state) {
    (void)state;
    expect_json("\"\"", "", 0);
    expect_json("\"plain\"", "plain", 5);
    expect_json("\"\\\"\\\\/\"", "\"\\/", 3);
    expect_json("\"\\b\\f\\n\\r\\t\"", "\b\f\n\r\t", 5);
    expect_json("\"\\u0000\\u0001\\u001f\\u007f\"", "\x00\x01\x1F\x7F", 4);
    expect_json("\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\xA6\x8B\"",
                "\xC3\xA9\xE2\x82\xAC\xF0\x9F\xA6\x8B", 9);
}

static void replaces_invalid_utf8(void **state) {
    (void)state;
    expect_json("\"a\xEF\xBF\xBD" "b\"", "a\xFF" "b", 3);
    expect_json("\"\xEF\xBF\xBD\xEF\xBF\xBD\"", "\xE2\x82", 2);
    expect_json("\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"", "\xED\xA0\x80", 3);
    expect_json("\"\xEF\xBF\xBD\\\"\"", "\xC3\"", 2);
}

/* Whatever the bound, a string is there whole or not at all. */
static void drops_half_strings(void **state) {
    (void)state;
    const char *expected = "\"a\\n\xEF\xBF\xBD\xC3\xA9\"";
    for (size_t size_max = 1; size_max < 16; size_max++) {
        struct moult_buffer buffer;
        moult_buffer_init(&buffer, size_max);
        moult_buffer_text(&buffer, "[");
        bool fits = moult_buffer_json_string(&buffer, "a\n\xFF\xC3\xA9", 5);
        assert_int_equal(size_max >= 1 + strlen(expected), fits);
        assert_int_equal(!fits, buffer.overflowed);
        assert_int_equal(fits ? 1 + strlen(expected) : 1, buffer.size);
        assert_int_equal(buffer.size, strlen(buffer.bytes));
        moult_buffer_release(&buffer);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_ends_in_nul), cmocka_unit_test(holds_exactly_its_bound),
        cmocka_unit_test(keeps_a_prefix),        cmocka_unit_test(is_handed_over),
        cmocka_unit_test(escapes_json),          cmocka_unit_test(replaces_invalid_utf8),
        cmocka_unit_test(drops_half_strings),
    };
    return cmocka_run_group_tests_name("buffer", tests, NULL, NULL);
}
