/* Lines of `moult pull`, right and wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "front/fetch_line.h"

#define REVISION "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void parse(struct moult_fetch_line *line, const char *text) {
    moult_fetch_line_parse(line, text, strlen(text));
}

static void progress_and_what_was_installed(void **state) {
    struct moult_fetch_line line;
    (void)state;
    parse(&line, "{\"done\": 1, \"all\": 4}");
    assert_int_equal(line.kind, MOULT_FETCH_LINE_ADVANCE);
    assert_true(line.progress > 0.24 && line.progress < 0.26);
    parse(&line, "{\"done\": 9, \"all\": 4}");
    assert_true(line.progress <= 1);
    parse(&line, "{\"revision\": \"" REVISION "\", \"bytes\": 7, \"fetched\": 5, "
                 "\"was_there\": true, \"validator\": \"commit 1\"}");
    assert_int_equal(line.kind, MOULT_FETCH_LINE_INSTALLED);
    assert_string_equal(line.installed.revision, REVISION);
    assert_string_equal(line.installed.validator, "commit 1");
    assert_int_equal(line.installed.bytes, 7);
    assert_int_equal(line.installed.fetched, 5);
    assert_true(line.installed.was_there);
}

static void failures(void **state) {
    struct moult_fetch_line line;
    (void)state;
    parse(&line, "{\"code\": 1, \"error\": \"Why.\", \"pause_s\": 60}");
    assert_int_equal(line.kind, MOULT_FETCH_LINE_FAILED);
    assert_int_equal(line.error.code, MOULT_ERROR_INVALID);
    assert_string_equal(line.error.message, "Why.");
    assert_int_equal(line.look.pause_s, 60);
    parse(&line, "{\"code\": 99, \"error\": \"Why.\", \"pause_s\": 99999999}");
    assert_int_equal(line.error.code, MOULT_ERROR_SYSTEM);
    assert_int_equal(line.look.pause_s, 86400);
}

static void looks(void **state) {
    struct moult_fetch_line line;
    (void)state;
    parse(&line, "{\"look\": \"incomplete\", \"validator\": \"v\", \"reason\": \"Not whole.\", "
                 "\"above\": \"/m\", \"paths\": [\"/m/a\", \"b\", 7, \"/m/a/c\"]}");
    assert_int_equal(line.kind, MOULT_FETCH_LINE_LOOKED);
    assert_int_equal(line.look.result, MOULT_LOOK_INCOMPLETE);
    assert_string_equal(line.look.reason.message, "Not whole.");
    assert_string_equal(line.look.above, "/m");
    assert_int_equal(line.look.path_count, 2);
    assert_string_equal(line.look.paths[1], "/m/a/c");
    moult_fetch_line_release(&line);
    assert_int_equal(line.look.path_count, 0);
}

static void what_is_not_understood(void **state) {
    static const char *const lines[] = {
        "", "{", "[]", "{}", "{\"revision\": \"12\"}", "{\"look\": \"elsewhere\"}", "{\"all\": 0}",
        "{\"revision\": \"" REVISION "\", \"bytes\": -1}", "{\"all\": \"4\"}"};
    struct moult_fetch_line line;
    (void)state;
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        parse(&line, lines[i]);
        assert_int_equal(line.kind, MOULT_FETCH_LINE_NOTHING);
        moult_fetch_line_release(&line);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(progress_and_what_was_installed),
        cmocka_unit_test(failures),
        cmocka_unit_test(looks),
        cmocka_unit_test(what_is_not_understood),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
