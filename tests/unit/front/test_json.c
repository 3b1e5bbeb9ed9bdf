/* JSON from outside: what is taken, what is refused, and in which words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "front/json.h"

static struct moult_error error;

static json_t *read_text(const char *text) {
    memset(&error, 0, sizeof error);
    return moult_json_read_object(text, strlen(text), &error);
}

static void refused(const char *text, const char *because) {
    assert_null(read_text(text));
    if (strstr(error.message, because) == NULL)
        fail_msg("%.60s: %s", text, error.message);
}

static void test_refusals(void **state) {
    (void)state;
    refused("", "empty");
    refused("null", "must be a JSON object, not null");
    refused("\"a\"", "not a string");
    refused("[1]", "not a list");
    refused("{\"a\":1}x", "not valid JSON");
    refused("{\"a\":1", "not valid JSON");
    refused("{\"a\":1,\"a\":2}", "duplicate");
    refused("{\"a\":\"\\ud800\"}", "not valid JSON");
    refused("{\"a\":\"\\udc00\\ud800\"}", "not valid JSON");
    refused("{\"a\":\"\xed\xa0\x80\"}", "UTF-8");
    refused("{\"a\":\"\xc0\xaf\"}", "UTF-8");
    refused("{\"a\":\"\xff\"}", "UTF-8");
    refused("{\"a\":1e999}", "not valid JSON");
    refused("{\"a\":NaN}", "not valid JSON");
    refused("{'a':1}", "not valid JSON");
    refused("\xef\xbb\xbf{}", "not valid JSON");
}

static char *repeated(const char *before, const char *part, size_t count, const char *after) {
    struct moult_buffer text;
    moult_buffer_init(&text, 4 * MOULT_MIB);
    moult_buffer_text(&text, before);
    for (size_t i = 0; i < count; i++)
        moult_buffer_text(&text, part);
    moult_buffer_text(&text, after);
    return moult_buffer_take(&text, NULL);
}

static void test_limits(void **state) {
    (void)state;
    char *text = repeated("{\"a\":", "[", 100000, "");
    refused(text, "nested more than 64");
    free(text);
    text = repeated("{\"a\":", "{\"a\":", 63, "1}");
    refused(text, "not valid JSON");
    free(text);
    text = repeated("{\"a\":[1", ",1", MOULT_JSON_VALUES_MAX, "]}");
    refused(text, "more than 262144 values");
    free(text);
    text = repeated("{\"a\":[[]", ",[]", MOULT_JSON_VALUES_MAX / 2, "]}");
    refused(text, "more than 262144 values");
    free(text);
    /* Within a string nothing nests or counts. */
    text = repeated("{\"a\":\"", "[,{\\\"", 400000, "\"}");
    json_t *value = read_text(text);
    assert_non_null(value);
    assert_int_equal(json_string_length(json_object_get(value, "a")), 4 * 400000);
    json_decref(value);
    free(text);
}

static void test_strings(void **state) {
    (void)state;
    json_t *body = read_text("{\"a\":\"x\\u0000y\",\"b\":\"\\ud83d\\ude00\",\"c\":null,\"d\":5,"
                             "\"e\":true,\"f\":-1,\"g\":1.5,\"h\":4294967296}");
    assert_non_null(body);
    assert_int_equal(json_string_length(json_object_get(body, "a")), 3);
    const char *text = "kept";
    assert_int_equal(moult_json_string(body, "a", &text, &error), -1);
    assert_int_equal(moult_json_string(body, "none", &text, &error), 0);
    assert_int_equal(moult_json_string(body, "c", &text, &error), 0);
    assert_string_equal(text, "kept");
    assert_int_equal(moult_json_string(body, "b", &text, &error), 1);
    assert_string_equal(text, "\xf0\x9f\x98\x80");
    assert_int_equal(moult_json_string(body, "d", &text, &error), -1);
    assert_string_equal(error.message, "\"d\" must be a string, not a number.");
    bool flag = false;
    assert_int_equal(moult_json_boolean(body, "c", &flag, &error), 0);
    assert_int_equal(moult_json_boolean(body, "e", &flag, &error), 1);
    assert_true(flag);
    assert_int_equal(moult_json_boolean(body, "d", &flag, &error), -1);
    uint32_t count = 7;
    assert_int_equal(moult_json_count(body, "c", &count, &error), 0);
    assert_int_equal(moult_json_count(body, "d", &count, &error), 1);
    assert_int_equal(count, 5);
    assert_int_equal(moult_json_count(body, "f", &count, &error), -1);
    assert_int_equal(moult_json_count(body, "g", &count, &error), -1);
    assert_int_equal(moult_json_count(body, "h", &count, &error), -1);
    assert_int_equal(moult_json_count(body, "e", &count, &error), -1);
    json_decref(body);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
