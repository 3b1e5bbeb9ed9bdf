/* Records of files: where they lie, what is in them, and what is wrong with others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"
#include "cli/records.h"

static struct moult_record_options options;
static struct moult_records *records;
static struct moult_record record;
static struct moult_error error;
static char *path;

static int begin(void **state) {
    (void)state;
    options = (struct moult_record_options){.delimiter = ',', .text_field = "text",
                                            .id_field = "id"};
    path = moult_copy_string("/tmp/moult-records-XXXXXX");
    return close(mkstemp(path));
}

static int end(void **state) {
    (void)state;
    moult_records_close(records);
    records = NULL;
    unlink(path);
    free(path);
    return 0;
}

static void write_file(const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    moult_records_close(records);
    records = moult_records_open(path, &options, &error);
}

static void open_text(const char *text) {
    write_file(text, strlen(text));
}

static enum moult_record_found next(void) {
    return moult_records_next(records, true, &record, &error);
}

/* "id|text|metadata" of the next one, or the message. */
static const char *read_next(void) {
    static char out[1024];
    enum moult_record_found found = next();
    if (found != MOULT_RECORD_GOOD)
        return found == MOULT_RECORD_NONE ? "(none)" : error.message;
    char *metadata = record.metadata != NULL ? json_dumps(record.metadata, JSON_COMPACT) : NULL;
    snprintf(out, sizeof out, "%.*s|%.*s|%s", (int)record.id_size, record.id, (int)record.text_size,
             record.text, metadata != NULL ? metadata : "");
    free(metadata);
    return out;
}

static void reads_lines(void **state) {
    (void)state;
    open_text("{\"id\":\"a\",\"text\":\"x\"}\n\n"
              "{\"id\":7,\"text\":\"y\",\"metadata\":{\"k\":[1]}}\r\n"
              "  \n{\"id\":\"c\",\"text\":\"z\",\"metadata\":null}");
    assert_string_equal(read_next(), "a|x|");
    assert_int_equal(record.line, 1);
    assert_int_equal(record.line_end, 2);
    assert_int_equal(record.end, 22);
    assert_string_equal(read_next(), "7|y|{\"k\":[1]}");
    assert_int_equal(record.line, 3);
    assert_string_equal(read_next(), "c|z|");
    assert_int_equal(record.line, 5);
    assert_string_equal(read_next(), "(none)");
    assert_string_equal(read_next(), "(none)");
}

static void says_what_is_wrong_with_a_line(void **state) {
    (void)state;
    open_text("nonsense\n[1]\n{\"id\":\"a\"}\n{\"text\":1}\n{\"text\":\"\"}\n"
              "{\"text\":\"x\",\"id\":\"\"}\n"
              "{\"text\":\"x\",\"id\":1.5}\n{\"text\":\"x\",\"metadata\":3}\n{\"text\":\"\xFF\"}\n"
              "{\"text\":\"x\",\"text\":\"y\"}\n{\"id\":\"good\",\"text\":\"x\"}\n");
    assert_non_null(strstr(read_next(), "It is not valid JSON: column"));
    assert_string_equal(read_next(), "It is no JSON object.");
    assert_string_equal(read_next(), "Its \"text\" is missing.");
    assert_string_equal(read_next(), "Its \"text\" is no string.");
    assert_string_equal(read_next(), "Its text is empty.");
    assert_non_null(strstr(read_next(), "Its \"id\" is neither"));
    assert_non_null(strstr(read_next(), "Its \"id\" is neither"));
    assert_string_equal(read_next(), "Its \"metadata\" is no JSON object.");
    assert_non_null(strstr(read_next(), "It is not valid JSON"));
    assert_non_null(strstr(read_next(), "duplicate object key"));
    assert_string_equal(read_next(), "good|x|");
    assert_int_equal(record.line, 11);
}

static void makes_ids_that_stay(void **state) {
    char first[64], second[64];
    (void)state;
    open_text("{\"text\":\"x\"}\n{\"text\":\"x\"}\n");
    snprintf(first, sizeof first, "%s", read_next());
    snprintf(second, sizeof second, "%s", read_next());
    assert_int_equal(strlen(first), MOULT_RECORD_ID_BYTES - 1 + strlen("|x|"));
    assert_string_not_equal(first, second);
    open_text("{\"text\":\"x\"}\r\n{\"text\":\"x\"}");
    assert_string_equal(read_next(), first);
    assert_string_equal(read_next(), second);
}

static void takes_other_keys_where_it_is_told(void **state) {
    static const char line[] =
        "{\"id\":\"a\",\"text\":\"x\",\"metadata\":{\"k\":1},\"k\":2,\"l\":null,\"m\":[]}";
    (void)state;
    open_text(line);
    assert_string_equal(read_next(), "a|x|{\"k\":1}");
    assert_non_null(record.ignored);
    options.rest = true;
    options.text_field = "body";
    open_text("{\"id\":\"a\",\"text\":\"x\",\"body\":\"b\",\"l\":null}");
    assert_string_equal(read_next(), "a|b|{\"text\":\"x\",\"l\":null}");
    assert_null(record.ignored);
    options.text_field = "text";
    open_text(line);
    assert_string_equal(read_next(), "a|x|{\"k\":1,\"l\":null,\"m\":[]}");
}

static void reads_csv(void **state) {
    (void)state;
    options.format = MOULT_RECORDS_CSV;
    open_text("\xEF\xBB\xBF" "id,text,n,\"a \"\"b\"\"\"\r\n"
              "1,\"two\nlines\",07,\r\n\r\n2,y,-1.5e3,z\n,w,,");
    assert_string_equal(read_next(), "1|two\nlines|{\"n\":\"07\"}");
    assert_int_equal(record.line, 2);
    assert_int_equal(record.line_end, 4);
    assert_string_equal(read_next(), "2|y|{\"n\":\"-1.5e3\",\"a \\\"b\\\"\":\"z\"}");
    assert_int_equal(record.line, 5);
    assert_non_null(strstr(read_next(), "|w|"));
    assert_int_equal(record.id_size, MOULT_RECORD_ID_BYTES - 1);
    assert_string_equal(read_next(), "(none)");
    options.numbers = true;
    open_text("id,text,n\n1,x,07\n2,x,-1.5e3\n3,x,12\n4,x,nan\n5,x,1 2\n");
    assert_string_equal(read_next(), "1|x|{\"n\":\"07\"}");
    assert_string_equal(read_next(), "2|x|{\"n\":-1500.0}");
    assert_string_equal(read_next(), "3|x|{\"n\":12}");
    assert_string_equal(read_next(), "4|x|{\"n\":\"nan\"}");
    assert_string_equal(read_next(), "5|x|{\"n\":\"1 2\"}");
}

static void says_what_is_wrong_with_csv(void **state) {
    (void)state;
    options.format = MOULT_RECORDS_CSV;
    open_text("id,text\n1\n2,x,y\n3,\"x\"y\n4,\n5,\xC3\n6,x\n7,\"open\n8,x\n");
    assert_string_equal(read_next(), "Its number of fields is 1, the header's is 2.");
    assert_string_equal(read_next(), "Its number of fields is 3, the header's is 2.");
    assert_non_null(strstr(read_next(), "something follows."));
    assert_string_equal(read_next(), "Its text is empty.");
    assert_string_equal(read_next(), "It is not valid UTF-8.");
    assert_string_equal(read_next(), "6|x|");
    assert_int_equal(next(), MOULT_RECORD_FAILED);
    assert_non_null(strstr(error.message, "The record that begins on line 8 of"));
}

static void wants_a_header(void **state) {
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "has no header"},
        {"id;text\n1;x\n", "names no column \"text\"; its first is \"id;text\""},
        {"text,a,a\n", "names two columns \"a\""},
        {"text,\"a\n", "opens a quote that is never closed"},
        {"text,\"a\"b\n", "something follows"},
        {"text,\xFF\n", "not valid UTF-8"},
    };
    (void)state;
    options.format = MOULT_RECORDS_CSV;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_text(cases[i].text);
        assert_null(records);
        assert_non_null(strstr(error.message, cases[i].message));
    }
}

static void goes_on_where_it_was(void **state) {
    char expected[64];
    (void)state;
    options.format = MOULT_RECORDS_CSV;
    open_text("text,n\n\"a\nb\",1\nc,2\nd,3\n");
    assert_non_null(strstr(read_next(), "|a\nb|"));
    struct moult_record first = record;
    snprintf(expected, sizeof expected, "%s", read_next());
    read_next();
    assert_int_equal(moult_records_seek(records, first.end, first.line_end, &error), 0);
    assert_string_equal(read_next(), expected);   /* Its id, too, so its line is the same. */
    assert_int_equal(record.line, 4);
    assert_non_null(strstr(read_next(), "|d|{\"n\":\"3\"}"));
    assert_string_equal(read_next(), "(none)");
}

/* Longer than what is kept of a line: it is wrong, and the next one is found all the same. */
static void leaves_out_what_is_too_long(void **state) {
    const size_t size = 3 * MOULT_BODY_BYTES_MAX;
    char *bytes = moult_allocate(size + 64, 1);
    (void)state;
    memset(bytes, 'x', size);
    memcpy(bytes + size, "\n{\"id\":\"a\",\"text\":\"y\"}\n", 24);
    write_file(bytes, size + 23);
    assert_string_equal(read_next(), "It is longer than 16 MiB.");
    assert_int_equal(record.end, size + 1);
    assert_string_equal(read_next(), "a|y|");
    assert_int_equal(record.line, 2);
    assert_string_equal(read_next(), "(none)");
    free(bytes);
}

static void takes_a_nul(void **state) {
    static const char text[] = "id,text\na,x\0y\n";
    (void)state;
    open_text("{\"id\":\"a\",\"text\":\"x\\u0000y\"}\n");
    assert_int_equal(next(), MOULT_RECORD_GOOD);
    assert_int_equal(record.text_size, 3);
    options.format = MOULT_RECORDS_CSV;
    write_file(text, sizeof text - 1);
    assert_int_equal(next(), MOULT_RECORD_GOOD);
    assert_memory_equal(record.text, "x\0y", 3);
    write_file("\0,text\n", 7);
    assert_null(records);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(reads_lines, begin, end),
        cmocka_unit_test_setup_teardown(says_what_is_wrong_with_a_line, begin, end),
        cmocka_unit_test_setup_teardown(makes_ids_that_stay, begin, end),
        cmocka_unit_test_setup_teardown(takes_other_keys_where_it_is_told, begin, end),
        cmocka_unit_test_setup_teardown(reads_csv, begin, end),
        cmocka_unit_test_setup_teardown(says_what_is_wrong_with_csv, begin, end),
        cmocka_unit_test_setup_teardown(wants_a_header, begin, end),
        cmocka_unit_test_setup_teardown(goes_on_where_it_was, begin, end),
        cmocka_unit_test_setup_teardown(leaves_out_what_is_too_long, begin, end),
        cmocka_unit_test_setup_teardown(takes_a_nul, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
