#include "base/utf8.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static bool is_scalar(uint32_t code_point) {
    return code_point <= 0x10FFFF && (code_point < 0xD800 || code_point > 0xDFFF);
}

static void every_code_point_returns(void **state) {
    (void)state;
    uint32_t sum = 0;
    for (uint32_t code_point = 0; code_point <= 0x10FFFF; code_point++) {
        char bytes[4];
        unsigned length = moult_utf8_put(code_point, bytes);
        if (moult_utf8_valid(bytes, length) != is_scalar(code_point))
            fail_msg("U+%04X is judged wrongly.", code_point);
        if (!is_scalar(code_point))
            continue;
        const char *at = bytes;
        if (moult_utf8_next(&at) != code_point || at != bytes + length)
            fail_msg("U+%04X does not return.", code_point);
        for (unsigned cut = 1; cut < length; cut++)
            if (moult_utf8_valid(bytes, cut) || moult_utf8_sequence(bytes, cut) != 0)
                fail_msg("U+%04X cut to %u bytes is taken.", code_point, cut);
        sum++;
    }
    assert_int_equal(1112064, sum);
}

/* Decodes leniently, then asks whether that is the shortest form of a scalar:
 * another way to the answer than the table's. */
static bool is_valid_pair_or_triple(const unsigned char *b, unsigned length) {
    uint32_t value = length == 2 ? b[0] & 0x1Fu : b[0] & 0x0Fu;
    if (length == 2 ? (b[0] & 0xE0) != 0xC0 : (b[0] & 0xF0) != 0xE0)
        return false;
    for (unsigned i = 1; i < length; i++) {
        if ((b[i] & 0xC0) != 0x80)
            return false;
        value = value << 6 | (b[i] & 0x3Fu);
    }
    return value >= (length == 2 ? 0x80u : 0x800u) && is_scalar(value);
}

static void every_pair_and_triple_is_judged(void **state) {
    (void)state;
    for (unsigned all = 0x800000; all <= 0xFFFFFF; all++) {
        unsigned char b[3] = {(unsigned char)(all >> 16), (unsigned char)(all >> 8),
                              (unsigned char)all};
        unsigned length = moult_utf8_sequence((const char *)b, 3);
        unsigned expected = is_valid_pair_or_triple(b, 2)   ? 2
                            : is_valid_pair_or_triple(b, 3) ? 3
                                                            : 0;
        if (length != expected)
            fail_msg("%02X %02X %02X gives %u.", b[0], b[1], b[2], length);
    }
}

static void refuses_malformed(void **state) {
    (void)state;
    static const char *const malformed[] = {
        "\x80",             "\xBF",             "\xC0\x80",         "\xC1\xBF",
        "\xE0\x80\x80",     "\xE0\x9F\xBF",     "\xED\xA0\x80",     "\xED\xBF\xBF",
        "\xF0\x80\x80\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80", "\xF5\x80\x80\x80",
        "\xF8\x88\x80\x80", "\xFE",             "\xFF",             "ok\xC3",
    };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        assert_false(moult_utf8_valid(malformed[i], strlen(malformed[i])));
    assert_true(moult_utf8_valid("", 0));
    assert_true(moult_utf8_valid("\0", 1));
    assert_true(moult_utf8_valid("\xF4\x8F\xBF\xBF", 4));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_returns),
        cmocka_unit_test(every_pair_and_triple_is_judged),
        cmocka_unit_test(refuses_malformed),
    };
    return cmocka_run_group_tests_name("utf8", tests, NULL, NULL);
}
