/* Headers as servers send them, and as they should not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "source/header.h"

#define NOON "Sun, 06 Nov 1994 12:00:00 GMT"
#define NOON_S 784123200

static void dates(void **state) {
    (void)state;
    assert_int_equal(moult_header_date_s(NOON), NOON_S);
    assert_int_equal(moult_header_date_s(NULL), -1);
    assert_int_equal(moult_header_date_s(""), -1);
    assert_int_equal(moult_header_date_s("5"), -1);
    assert_int_equal(moult_header_date_s("yesterday"), -1);
    assert_int_equal(moult_header_date_s("Sun, 06 Nov 1994\t12:00:00 GMT"), -1);
}

static void pauses(void **state) {
    (void)state;
    assert_int_equal(moult_header_pause_ms("5", NULL, 0), 5000);
    assert_int_equal(moult_header_pause_ms("0", NULL, 0), 0);
    assert_int_equal(moult_header_pause_ms("-5", NULL, 0), 0);
    assert_int_equal(moult_header_pause_ms("99999999999999999999", NULL, 0), 0);
    assert_int_equal(moult_header_pause_ms("999999", NULL, 0), 86400000);
    assert_int_equal(moult_header_pause_ms(NOON, NULL, NOON_S - 7), 7000);
    assert_int_equal(moult_header_pause_ms(NOON, NULL, NOON_S + 7), 0);
    assert_int_equal(moult_header_pause_ms(NULL, "\"api\";r=0;t=55", 0), 55000);
    assert_int_equal(moult_header_pause_ms(NULL, "\"api\";r=0", 0), 0);
    assert_int_equal(moult_header_pause_ms("3", "\"api\";r=0;t=55", 0), 3000);
    assert_int_equal(moult_header_pause_ms(NULL, NULL, 0), 0);
}

static void ranges(void **state) {
    (void)state;
    assert_int_equal(moult_header_range_first("bytes 5000-9999/10000"), 5000);
    assert_int_equal(moult_header_range_first("bytes 0-0/*"), 0);
    static const char *const none[] = {NULL, "", "bytes", "bytes -5/7", "bytes */7", "lines 1-2/3",
                                       "bytes 7", "bytes 123456789012345678901-2/3"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_true(moult_header_range_first(none[i]) == UINT64_MAX);
}

static void check_page(const char *link, const char *url, const char *wanted) {
    char *next = moult_header_next_page(link, url);
    if (wanted == NULL)
        assert_null(next);
    else
        assert_string_equal(next, wanted);
    free(next);
}

static void pages(void **state) {
    (void)state;
    check_page("<https://h/b>; rel=\"next\"", "https://h/a", "https://h/b");
    check_page("</b?c=2>; rel=\"next\"", "https://h:8/a?x=/y", "https://h:8/b?c=2");
    check_page("</b>; rel=\"next\"", "https://h", "https://h/b");
    check_page("<x>; rel=\"prev\", <https://h/b>; rel=\"next\"", "https://h/a", "https://h/b");
    check_page("<//other/b>; rel=\"next\"", "https://h/a", "//other/b");
    check_page("<https://h/b>; rel=\"last\"", "https://h/a", NULL);
    check_page("<https://h/b", "https://h/a", NULL);
    check_page("", "https://h/a", NULL);
    check_page(NULL, "https://h/a", NULL);
}

static void tags(void **state) {
    (void)state;
    static const char *const usable[] = {"\"abc\"", "W/\"abc\"", "\"6745a1-1f0\""};
    static const char *const none[] = {NULL, "", "abc", "\"", "\"\"", "W/\"", "\"a b\"", "\"a\"b\"",
                                       "\"a\r\nX: y\"", "w/\"abc\"", "\"abc\" "};
    for (size_t i = 0; i < sizeof usable / sizeof usable[0]; i++)
        assert_true(moult_header_etag_usable(usable[i]));
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        assert_false(moult_header_etag_usable(none[i]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dates),  cmocka_unit_test(pauses), cmocka_unit_test(ranges),
        cmocka_unit_test(pages),  cmocka_unit_test(tags),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
