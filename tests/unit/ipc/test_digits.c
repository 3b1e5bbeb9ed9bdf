/* Decimal digits read back as the same float, and are never longer than printf's. */
#include "ipc/digits.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static const char *written(float value) {
    static char text[32];
    size_t size = moult_digits_write(text, value);
    assert_in_range(size, 1, MOULT_DIGITS_BYTES_MAX);
    text[size] = '\0';
    return text;
}

static float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

/* -?(0|[1-9][0-9]*)(\.[0-9]+)?(e-?[0-9]+)? */
static int is_json_number(const char *at) {
    at += *at == '-';
    if (*at == '0')
        at++;
    else if (*at >= '1' && *at <= '9')
        at += strspn(at, "0123456789");
    else
        return 0;
    if (*at == '.') {
        size_t digits = strspn(at + 1, "0123456789");
        if (digits == 0)
            return 0;
        at += 1 + digits;
    }
    if (*at == 'e') {
        at += at[1] == '-' ? 2 : 1;
        size_t digits = strspn(at, "0123456789");
        if (digits == 0)
            return 0;
        at += digits;
    }
    return *at == '\0';
}

static void check(float value) {
    char text[32], printed[40];
    snprintf(text, sizeof(text), "%s", written(value));
    float back = strtof(text, NULL);
    int longest = snprintf(printed, sizeof(printed), "%.9g", (double)value);
    if (memcmp(&back, &value, sizeof(back)) != 0 || strlen(text) > (size_t)longest ||
        !is_json_number(text))
        fail_msg("%a is written as %s, printf has %s", (double)value, text, printed);
}

static void known_ones(void **state) {
    (void)state;
    assert_string_equal("0", written(0.0f));
    assert_string_equal("-0", written(-0.0f));
    assert_string_equal("1", written(1.0f));
    assert_string_equal("-0.1", written(-0.1f));
    assert_string_equal("0.5", written(0.5f));
    assert_string_equal("100000", written(100000.0f));
    assert_string_equal("123456790", written(123456789.0f));
    assert_string_equal("1e9", written(1e9f));
    assert_string_equal("0.0001", written(0.0001f));
    assert_string_equal("1e-5", written(0.00001f));
    assert_string_equal("0.33333334", written(1.0f / 3));
    assert_string_equal("-0.016438028", written(-0.016438028f));
    assert_string_equal("1.1754944e-38", written(0x1p-126f));
    assert_string_equal("1e-45", written(from_bits(1)));
    assert_string_equal("3.4028235e38", written(from_bits(0x7f7fffff)));
}

static void what_is_no_number(void **state) {
    (void)state;
    assert_string_equal("null", written(INFINITY));
    assert_string_equal("null", written(-INFINITY));
    assert_string_equal("null", written(NAN));
}

/* Powers of two have a closer neighbour below; powers of ten sit where the exponent changes. */
static void edges(void **state) {
    (void)state;
    for (uint32_t exponent = 0; exponent < 255; exponent++)
        for (int delta = -3; delta <= 3; delta++) {
            uint32_t bits = (exponent << 23) + (uint32_t)delta;
            if (bits < 0x7f800000u) {
                check(from_bits(bits));
                check(from_bits(bits | 0x80000000u));
            }
        }
    for (int power = -45; power <= 38; power++) {
        char text[16];
        snprintf(text, sizeof(text), "1e%d", power);
        float value = strtof(text, NULL);
        uint32_t bits;
        memcpy(&bits, &value, sizeof(bits));
        for (uint32_t at = bits > 50 ? bits - 50 : 0; at < bits + 50; at++)
            check(from_bits(at));
    }
}

/* Every 1,021st float of all, denormals included, and a dense part of where embeddings lie. */
static void a_sweep(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 1021)
        check(from_bits(bits));
    for (uint32_t bits = 0x3d000000u; bits < 0x3d000000u + 300000; bits++)
        check(from_bits(bits));
}

static void random_ones(void **state) {
    (void)state;
    uint32_t bits = 2463534242u;
    for (int i = 0; i < 1000000; i++) {
        bits ^= bits << 13;
        bits ^= bits >> 17;
        bits ^= bits << 5;
        float value = from_bits(bits);
        if (isfinite(value))
            check(value);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_ones), cmocka_unit_test(what_is_no_number), cmocka_unit_test(edges),
        cmocka_unit_test(a_sweep),    cmocka_unit_test(random_ones),
    };
    return cmocka_run_group_tests_name("digits", tests, NULL, NULL);
}
