#include "store/ulid.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static const unsigned char zeros[10] = {0};
static const unsigned char ones[10] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255};

/* The example of the specification, and the ends of the range. */
static void writes_known_ones(void **state) {
    (void)state;
    char text[MOULT_ULID_BYTES];
    struct moult_ulid last = {0};
    moult_ulid_next(&last, 1469918176385ull, zeros, text);
    assert_string_equal("01ARYZ6S410000000000000000", text);
    last = (struct moult_ulid){0};
    moult_ulid_next(&last, 281474976710655ull, ones, text);
    assert_string_equal("7ZZZZZZZZZZZZZZZZZZZZZZZZZ", text);
    last = (struct moult_ulid){0};
    moult_ulid_next(&last, 1, zeros, text);
    assert_string_equal("00000000010000000000000000", text);
}

static void grows_within_a_millisecond(void **state) {
    (void)state;
    char before[MOULT_ULID_BYTES], text[MOULT_ULID_BYTES];
    struct moult_ulid last = {0};
    moult_ulid_next(&last, 1000, zeros, before);
    for (unsigned i = 0; i < 2000; i++) {
        moult_ulid_next(&last, 1000, ones, text);
        assert_true(strcmp(before, text) < 0);
        memcpy(before, text, sizeof text);
    }
    assert_string_equal("00000000Z800000000000001YG", text);
}

static void grows_when_the_clock_goes_back(void **state) {
    (void)state;
    char before[MOULT_ULID_BYTES], text[MOULT_ULID_BYTES];
    struct moult_ulid last = {0};
    moult_ulid_next(&last, 1000, zeros, before);
    moult_ulid_next(&last, 10, ones, text);
    assert_true(strcmp(before, text) < 0);
    moult_ulid_next(&last, 1001, zeros, before);
    assert_true(strcmp(text, before) < 0);
}

static void grows_beyond_the_last_random(void **state) {
    (void)state;
    char before[MOULT_ULID_BYTES], text[MOULT_ULID_BYTES];
    struct moult_ulid last = {0};
    moult_ulid_next(&last, 1000, ones, before);
    moult_ulid_next(&last, 1000, ones, text);
    assert_true(strcmp(before, text) < 0);
    assert_string_equal("0000000000000000", text + 10);
    moult_ulid_next(&last, 1001, ones, before);
    assert_true(strcmp(text, before) < 0);
}

static void makes_many(void **state) {
    (void)state;
    char before[MOULT_ULID_BYTES] = "", text[MOULT_ULID_BYTES];
    struct moult_ulid last = {0};
    for (unsigned i = 0; i < 100000; i++) {
        moult_ulid_make(&last, text);
        assert_int_equal(26, strlen(text));
        assert_int_equal(26, strspn(text, "0123456789ABCDEFGHJKMNPQRSTVWXYZ"));
        assert_true(strcmp(before, text) < 0);
        memcpy(before, text, sizeof text);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_known_ones),
        cmocka_unit_test(grows_within_a_millisecond),
        cmocka_unit_test(grows_when_the_clock_goes_back),
        cmocka_unit_test(grows_beyond_the_last_random),
        cmocka_unit_test(makes_many),
    };
    return cmocka_run_group_tests_name("ulid", tests, NULL, NULL);
}
