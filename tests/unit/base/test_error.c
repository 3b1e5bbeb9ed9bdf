#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void says_what_failed(void **state) {
    (void)state;
    struct moult_error error;
    assert_int_equal(-1, moult_fail(&error, MOULT_ERROR_LIMIT, "%s has %d rows.", "a.bin", 7));
    assert_int_equal(MOULT_ERROR_LIMIT, error.code);
    assert_string_equal("a.bin has 7 rows.", error.message);
}

static void takes_no_error_too(void **state) {
    (void)state;
    assert_int_equal(-1, moult_fail(NULL, MOULT_ERROR_INVALID, "unheard"));
    assert_int_equal(-1, moult_fail_errno(NULL, "unheard"));
    assert_int_equal(-1, moult_fail_within(NULL, "unheard"));
}

static void appends_errno(void **state) {
    (void)state;
    struct moult_error error;
    errno = ENOENT;
    assert_int_equal(-1, moult_fail_errno(&error, "%s cannot be opened", "x"));
    assert_int_equal(MOULT_ERROR_MISSING, error.code);
    assert_string_equal("x cannot be opened: No such file or directory.", error.message);
    assert_int_equal(ENOENT, errno);
    errno = EACCES;
    moult_fail_errno(&error, "x");
    assert_int_equal(MOULT_ERROR_SYSTEM, error.code);
}

static void puts_prefixes_before(void **state) {
    (void)state;
    struct moult_error error;
    moult_fail(&error, MOULT_ERROR_INVALID, "The header is cut.");
    moult_fail_within(&error, "%s/%s", "folder", "model.safetensors");
    moult_fail_within(&error, "slot minilm");
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
    assert_string_equal("slot minilm: folder/model.safetensors: The header is cut.", error.message);
}

/* For every length around the capacity: the message is valid UTF-8 when cut. */
static void cuts_between_code_points(void **state) {
    (void)state;
    for (size_t start = 500; start < 512; start++) {
        char text[600];
        memset(text, 'a', start);
        text[start] = '\0';
        for (size_t size = start; size + 4 < sizeof text; size += 3)
            memcpy(text + size, "\xE2\x82\xAC", 4);
        struct moult_error error;
        moult_fail(&error, MOULT_ERROR_INVALID, "%s", text);
        size_t size = strlen(error.message);
        assert_true(size < sizeof error.message);
        assert_true(size + 4 > sizeof error.message - 1);
        assert_int_equal(0, (size - (start < size ? start : size)) % 3);
    }
}

static void cuts_plain_text_at_the_end(void **state) {
    (void)state;
    char text[600];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    struct moult_error error;
    moult_fail(&error, MOULT_ERROR_INVALID, "%s", text);
    assert_int_equal(sizeof error.message - 1, strlen(error.message));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(says_what_failed),         cmocka_unit_test(takes_no_error_too),
        cmocka_unit_test(appends_errno),            cmocka_unit_test(puts_prefixes_before),
        cmocka_unit_test(cuts_between_code_points), cmocka_unit_test(cuts_plain_text_at_the_end),
    };
    return cmocka_run_group_tests_name("error", tests, NULL, NULL);
}
