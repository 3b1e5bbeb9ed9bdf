/* CSV: where a record ends, and what its fields are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/csv.h"

/* Cuts a record; its fields with "|" between them, or the message. */
static const char *cut(const char *text) {
    static char out[512];
    struct moult_csv_fields fields = {0};
    struct moult_error error;
    char *record = moult_copy_string(text);
    size_t used = 0;
    out[0] = '\0';
    if (moult_csv_cut(record, strlen(record), ',', &fields, &error) != 0)
        snprintf(out, sizeof out, "%s", error.message);
    else
        for (size_t i = 0; i < fields.count; i++)
            used += (size_t)snprintf(out + used, sizeof out - used, "%s%.*s", i > 0 ? "|" : "",
                                     (int)fields.items[i].size, fields.items[i].bytes);
    moult_csv_fields_release(&fields);
    free(record);
    return out;
}

static void cuts_fields(void **state) {
    (void)state;
    assert_string_equal(cut("a,b,c"), "a|b|c");
    assert_string_equal(cut(""), "");
    assert_string_equal(cut(",,"), "||");
    assert_string_equal(cut("a,"), "a|");
    assert_string_equal(cut(" a , b"), " a | b");
}

static void takes_quotes_away(void **state) {
    (void)state;
    assert_string_equal(cut("\"a,b\",\"c\r\nd\""), "a,b|c\r\nd");
    assert_string_equal(cut("\"say \"\"so\"\"\",x"), "say \"so\"|x");
    assert_string_equal(cut("\"\",\"\"\"\""), "|\"");
    assert_string_equal(cut("5\" pipe,\"\""), "5\" pipe|");
}

static void refuses_what_is_no_csv(void **state) {
    (void)state;
    assert_string_equal(cut("\"a"), "A quote is opened in it and never closed.");
    assert_string_equal(cut("x,\"a\"b,c"),
                        "Behind the quote that closes field 2, something follows.");
    char *many = moult_allocate(MOULT_CSV_FIELDS_MAX + 1, 1);
    memset(many, ',', MOULT_CSV_FIELDS_MAX);
    assert_string_equal(cut(many), "It has more than 4096 fields.");
    struct moult_csv_fields fields = {0};
    assert_int_equal(moult_csv_cut(many, MOULT_CSV_FIELDS_MAX - 1, ',', &fields, NULL), 0);
    assert_int_equal(fields.count, MOULT_CSV_FIELDS_MAX);
    moult_csv_fields_release(&fields);
    free(many);
}

static size_t scan_in_pieces(const char *text, size_t piece, bool *ended) {
    struct moult_csv_scan scan = {0};
    size_t at = 0, size = strlen(text);
    *ended = false;
    while (!*ended && at < size)
        at += moult_csv_scan(&scan, ',', text + at, size - at < piece ? size - at : piece, ended);
    return at;
}

static void finds_the_end(void **state) {
    static const struct {
        const char *text;
        size_t end;
        bool ended;
    } cases[] = {
        {"a,b\nc", 4, true},        {"a,b\r\nc", 5, true},      {"\"a\nb\",c\nd", 8, true},
        {"\"a\"\"\n\"\nx", 7, true}, {"a\"\n\"\n", 3, true},     {"\"a\"x\"\n\"\n", 6, true},
        {"\"a\nb", 4, false},       {"abc", 3, false},          {"\n", 1, true},
        {"x,\"\"\ny", 5, true},      {"x,\"\"\"\n\"\n", 8, true},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t piece = 1; piece < 9; piece++) {
            bool ended;
            assert_int_equal(scan_in_pieces(cases[i].text, piece, &ended), cases[i].end);
            assert_int_equal(ended, cases[i].ended);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cuts_fields),
        cmocka_unit_test(takes_quotes_away),
        cmocka_unit_test(refuses_what_is_no_csv),
        cmocka_unit_test(finds_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
