/* Command lines, variables of the environment, and what they name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/options.h"
#include "cli/places.h"

static struct {
    const char *host;
    uint16_t port;
    uint32_t keep_warm, threads;
    size_t body;
    bool strict;
    struct moult_text_list origins;
} got;

static const struct moult_option options[] = {
    {"--host", "ADDRESS", "127.0.0.1", "h", MOULT_OPTION_TEXT, &got.host, 0, 0},
    {"--port", "PORT", "8080", "p", MOULT_OPTION_PORT, &got.port, 1, 65535},
    {"--keep-warm", "TIME", "10m", "k", MOULT_OPTION_SECONDS, &got.keep_warm, 0, 0},
    {"--threads", "N", "0", "t", MOULT_OPTION_NUMBER, &got.threads, 0, 256},
    {"--max-body", "BYTES", "16M", "b", MOULT_OPTION_BYTES, &got.body, 1024, 1 << 30},
    {"--strict", NULL, NULL, "s", MOULT_OPTION_FLAG, &got.strict, 0, 0},
    {"--origin", "ORIGIN", NULL, "o", MOULT_OPTION_LIST, &got.origins, 0, 0},
};
static const struct moult_command_line line = {
    .usage = "moult try [OPTION …] [WORD …]",
    .purpose = "For tests.",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .operands_max = 2,
};

/* What was parsed points into it until the next time. */
static char *words_now;

/* Arguments, separated by spaces; operands come back in argv[1], argv[2]. */
static enum moult_parsed parse(const char *words, unsigned *count, char *argv[16]) {
    moult_text_list_release(&got.origins);
    got.strict = false;
    free(words_now);
    words_now = moult_copy_string(words);
    int argc = 1;
    argv[0] = words_now;
    char *rest = words_now;
    for (char *word; argc < 15 && (word = strsep(&rest, " ")) != NULL;)
        if (*word != '\0')
            argv[argc++] = word;
    return moult_options_parse(&line, argc, argv, count);
}

static void expect(const char *words, enum moult_parsed expected) {
    unsigned count;
    char *argv[16];
    assert_int_equal(parse(words, &count, argv), expected);
}

static void an_operand_that_is_needed(void **unused) {
    (void)unused;
    struct moult_command_line needing = line;
    needing.operand_needed = "a word";
    unsigned count;
    char *without[] = {"try"}, *with[] = {"try", "word"}, *help[] = {"try", "--help"};
    assert_int_equal(moult_options_parse(&needing, 1, without, &count), MOULT_PARSED_WRONG);
    assert_int_equal(moult_options_parse(&needing, 2, with, &count), MOULT_PARSED_OK);
    assert_int_equal(count, 1);
    assert_int_equal(moult_options_parse(&needing, 2, help, &count), MOULT_PARSED_HELP);
}

static void presets(void **unused) {
    (void)unused;
    expect("", MOULT_PARSED_OK);
    assert_int_equal(got.port, 8080);
    assert_int_equal(got.keep_warm, 600);
    assert_int_equal(got.body, 16 << 20);
    assert_false(got.strict);
}

static void values(void **unused) {
    (void)unused;
    unsigned count;
    char *argv[16];
    assert_int_equal(parse("--host=::1 a --port 1 --keep-warm 2h --max-body 2KiB --strict -- --b",
                           &count, argv), MOULT_PARSED_OK);
    assert_string_equal(got.host, "::1");
    assert_int_equal(got.port, 1);
    assert_int_equal(got.keep_warm, 7200);
    assert_int_equal(got.body, 2048);
    assert_true(got.strict);
    assert_int_equal(count, 2);
    assert_string_equal(argv[1], "a");
    assert_string_equal(argv[2], "--b");
}

static void wrong_ones(void **unused) {
    (void)unused;
    static const char *const lines[] = {
        "--port 0",        "--port 65536",     "--port -1",     "--port 80x",  "--port",
        "--port=",         "--keep-warm 1y",   "--keep-warm s", "--threads 257",
        "--threads 1s",    "--max-body 1",     "--max-body 2G", "--strict=1",  "--unknown",
        "--hos 127.0.0.1", "--max-body 99999999999999999999999", "a b c",      "-x",
        "--keep-warm 5000000000",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
        expect(lines[i], MOULT_PARSED_WRONG);
    expect("--help", MOULT_PARSED_HELP);
    expect("--port 0 -h", MOULT_PARSED_HELP);
}

static void the_environment_comes_before_the_command_line(void **unused) {
    (void)unused;
    setenv("MOULT_PORT", "81", 1);
    setenv("MOULT_STRICT", "1", 1);
    setenv("MOULT_ORIGIN", "http://a,,http://b", 1);
    expect("", MOULT_PARSED_OK);
    assert_int_equal(got.port, 81);
    assert_true(got.strict);
    assert_int_equal(got.origins.count, 2);
    assert_string_equal(got.origins.items[1], "http://b");
    expect("--port 82", MOULT_PARSED_OK);
    assert_int_equal(got.port, 82);
    setenv("MOULT_PORT", "x", 1);
    expect("", MOULT_PARSED_WRONG);
    setenv("MOULT_PORT", "tcp://10.0.0.1:80", 1);   /* Of Kubernetes, for a service "moult". */
    expect("", MOULT_PARSED_OK);
    assert_int_equal(got.port, 8080);
    setenv("MOULT_PORT", "", 1);
    expect("", MOULT_PARSED_OK);
    assert_int_equal(got.port, 8080);
    unsetenv("MOULT_PORT");
    unsetenv("MOULT_STRICT");
    unsetenv("MOULT_ORIGIN");
    moult_text_list_release(&got.origins);
}

static void check_place(const char *operand, const char *name, const char *path) {
    char *got_name, *got_path;
    struct moult_error error;
    if (moult_place_parse(operand, &got_name, &got_path, &error) != 0)
        fail_msg("%s: %s", operand, error.message);
    assert_string_equal(got_name, name);
    assert_string_equal(got_path, path);
    free(got_name);
    free(got_path);
}

static void refuse_place(const char *operand, enum moult_error_code code) {
    char *name, *path;
    struct moult_error error;
    assert_int_equal(moult_place_parse(operand, &name, &path, &error), -1);
    assert_int_equal(error.code, code);
}

static void places(void **unused) {
    (void)unused;
    char root[] = "/tmp/moult-places-XXXXXX";
    char before[4096];
    assert_non_null(mkdtemp(root));
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(root), 0);
    char *model = moult_format("%s/model", root);
    assert_int_equal(mkdir(model, 0755), 0);
    check_place("/models/minilm", "minilm", "/models/minilm");
    check_place("/models//minilm/./", "minilm", "/models/minilm");
    check_place("small=/models/minilm", "small", "/models/minilm");
    check_place("model", "model", model);
    check_place("./model", "model", model);
    check_place("x=model", "x", model);
    check_place("./gone", "gone", (free(model), model = moult_format("%s/gone", root)));
    check_place("org/name", "name", "org/name");
    check_place("org/name@v1/x", "name", "org/name@v1/x");
    check_place("small=org/name", "small", "org/name");
    check_place("http://host:1/models/minilm/", "minilm", "http://host:1/models/minilm");
    check_place("m=https://host", "m", "https://host");
    refuse_place("m=/models/\xe9t\xe9", MOULT_ERROR_INVALID);
    refuse_place("name", MOULT_ERROR_MISSING);
    refuse_place("https://host/", MOULT_ERROR_INVALID);
    refuse_place("https://me:secret@host/minilm", MOULT_ERROR_INVALID);
    refuse_place("https://host/minilm?token=x", MOULT_ERROR_INVALID);
    refuse_place("org/name/more", MOULT_ERROR_INVALID);
    refuse_place("org/name@", MOULT_ERROR_INVALID);
    refuse_place("org/name@../x", MOULT_ERROR_INVALID);
    refuse_place("x=", MOULT_ERROR_INVALID);
    refuse_place("/models/mini lm", MOULT_ERROR_INVALID);
    refuse_place("a@b=/models/minilm", MOULT_ERROR_INVALID);
    assert_int_equal(chdir(before), 0);
    free(model);
    model = moult_format("%s/model", root);
    rmdir(model);
    rmdir(root);
    free(model);
}

static void keys(void **unused) {
    (void)unused;
    static const struct {
        const char *text, *key;
    } files[] = {{"secret\n", "secret"}, {"secret", "secret"}, {"a\r\nb", "a"}, {"", NULL},
                 {"\n", NULL},           {"a b\n", NULL},      {"\xC3\xA4\n", NULL}};
    char path[] = "/tmp/moult-key-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        size_t size = strlen(files[i].text);
        assert_int_equal(ftruncate(fd, 0), 0);
        assert_int_equal(pwrite(fd, files[i].text, size, 0), (ssize_t)size);
        char *key = moult_key_read(path, NULL);
        if (files[i].key == NULL)
            assert_null(key);
        else
            assert_string_equal(key, files[i].key);
        free(key);
    }
    close(fd);
    unlink(path);
    assert_null(moult_key_read(path, NULL));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_operand_that_is_needed),
        cmocka_unit_test(presets),
        cmocka_unit_test(values),
        cmocka_unit_test(wrong_ones),
        cmocka_unit_test(the_environment_comes_before_the_command_line),
        cmocka_unit_test(places),
        cmocka_unit_test(keys),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(words_now);
    return failed;
}
