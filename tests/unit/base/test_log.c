#include "base/log.h"

#include <errno.h>
#include <regex.h>
#include <string.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* Sends standard error through a pipe while `text` is logged, and returns what came. */
static const char *logged(enum moult_log_level level, const char *text) {
    static char line[4096];
    int ends[2];
    assert_int_equal(0, pipe(ends));
    int terminal = dup(STDERR_FILENO);
    dup2(ends[1], STDERR_FILENO);
    moult_log(level, "%s", text);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    close(ends[1]);
    ssize_t size = read(ends[0], line, sizeof line - 1);
    close(ends[0]);
    assert_true(size >= 0);
    line[size] = '\0';
    return line;
}

static void writes_time_level_process_message(void **state) {
    (void)state;
    moult_log_setup("worker minilm 7", MOULT_LOG_INFO);
    regex_t shape;
    const char *pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z "
                          "warning worker minilm 7: ready\n$";
    assert_int_equal(0, regcomp(&shape, pattern, REG_EXTENDED));
    assert_int_equal(0, regexec(&shape, logged(MOULT_LOG_WARNING, "ready"), 0, NULL, 0));
    regfree(&shape);
}

static void leaves_out_what_is_below_the_level(void **state) {
    (void)state;
    moult_log_setup("front", MOULT_LOG_WARNING);
    assert_string_equal("", logged(MOULT_LOG_INFO, "quiet"));
    assert_non_null(strstr(logged(MOULT_LOG_ERROR, "loud"), "error   front: loud\n"));
}

static void is_one_line_whatever_it_quotes(void **state) {
    (void)state;
    moult_log_setup("front", MOULT_LOG_INFO);
    const char *line = logged(MOULT_LOG_INFO, "a\nb\rc\x1B[2Jd");
    assert_non_null(strstr(line, "front: a b c [2Jd\n"));
    assert_ptr_equal(line + strlen(line) - 1, strchr(line, '\n'));
}

static void cuts_long_messages_and_keeps_errno(void **state) {
    (void)state;
    char text[3000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    errno = EBADF;
    const char *line = logged(MOULT_LOG_INFO, text);
    assert_in_range(strlen(line), 900, 1024);
    assert_int_equal('\n', line[strlen(line) - 1]);
    errno = EBADF;
    moult_log_debug("%s", text);
    assert_int_equal(EBADF, errno);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_time_level_process_message),
        cmocka_unit_test(leaves_out_what_is_below_the_level),
        cmocka_unit_test(is_one_line_whatever_it_quotes),
        cmocka_unit_test(cuts_long_messages_and_keeps_errno),
    };
    return cmocka_run_group_tests_name("log", tests, NULL, NULL);
}
