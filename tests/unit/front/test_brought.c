/* Vectors that a model brings: found by the digest of a text, and refused where they do not fit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "front/brought.h"

#define ROWS 500u

static char *folder;
static struct moult_error error;

static void write_file(const char *name, const void *bytes, size_t size) {
    char *path = moult_format("%s/document_vectors/%s", folder, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    free(path);
}

/* [ROWS][2]: row r is the vector (r + 1, 1). */
static void write_vectors(unsigned columns) {
    char bytes[128 + ROWS * 2 * sizeof(float)];
    float *numbers = (float *)(bytes + 128);
    memset(bytes, ' ', 128);
    memcpy(bytes, "\x93NUMPY\x01\x00\x76\x00", 10);
    int used = snprintf(bytes + 10, 118,
                        "{'descr': '<f4', 'fortran_order': False, 'shape': (%u, %u)}",
                        ROWS * 2 / columns, columns);
    bytes[10 + used] = ' ';
    for (unsigned r = 0; r < ROWS; r++) {
        numbers[2 * r] = (float)(r + 1);
        numbers[2 * r + 1] = 1;
    }
    write_file("vectors.npy", bytes, sizeof bytes);
}

static void write_lines(unsigned count) {
    char *lines = moult_allocate(count, 160), *at = lines;
    for (unsigned r = 0; r < count; r++) {
        char text[32], hex[MOULT_SHA256_HEX];
        snprintf(text, sizeof text, "text %u", r);
        moult_sha256_of(text, strlen(text), hex);
        at += snprintf(at, 160, "{\"id\": \"%u\", \"text_sha256\": \"%s\"}\n", r, hex);
    }
    write_file("documents.jsonl", lines, (size_t)(at - lines));
    free(lines);
}

static int begin(void **state) {
    (void)state;
    char template[] = "/tmp/moult-brought-XXXXXX";
    folder = moult_copy_string(mkdtemp(template));
    char *below = moult_format("%s/document_vectors", folder);
    int result = mkdir(below, 0755);
    free(below);
    return result;
}

static int end(void **state) {
    (void)state;
    int result = moult_folder_remove(AT_FDCWD, folder, &error);
    free(folder);
    return result;
}

static void finds_vectors_by_text(void **state) {
    float vector[2];
    (void)state;
    write_vectors(2);
    write_lines(ROWS);
    struct moult_brought *brought = moult_brought_open(folder, 2, &error);
    assert_non_null(brought);
    assert_int_equal(moult_brought_count(brought), ROWS);
    for (unsigned r = 0; r < ROWS; r++) {
        char text[32];
        int size = snprintf(text, sizeof text, "text %u", r);
        float norm = hypotf((float)(r + 1), 1);
        assert_true(moult_brought_find(brought, text, (size_t)size, vector));
        assert_float_equal(vector[0], (float)(r + 1) / norm, 1e-6);
        assert_float_equal(vector[1], 1 / norm, 1e-6);
    }
    assert_false(moult_brought_find(brought, "text 500", 8, vector));
    assert_false(moult_brought_find(brought, "text 1", 5, vector));
    moult_brought_close(brought);
}

static void refuses_what_does_not_fit(void **state) {
    (void)state;
    assert_null(moult_brought_open(folder, 2, &error));
    assert_int_equal(error.code, MOULT_ERROR_MISSING);
    write_vectors(2);
    assert_null(moult_brought_open(folder, 2, &error));
    assert_non_null(strstr(error.message, "documents.jsonl cannot be opened"));
    write_lines(ROWS - 1);
    assert_null(moult_brought_open(folder, 2, &error));
    assert_non_null(strstr(error.message, "has 499 lines, and there are 500 vectors."));
    write_lines(ROWS + 1);
    assert_null(moult_brought_open(folder, 2, &error));
    assert_non_null(strstr(error.message, "has more lines than there are vectors, 500."));
    assert_null(moult_brought_open(folder, 3, &error));
    assert_non_null(strstr(error.message, "2 dimensions, and the model makes 3."));
    write_file("documents.jsonl", "{}\n", 3);
    assert_null(moult_brought_open(folder, 2, &error));
    assert_non_null(strstr(error.message, "Line 1 of"));
    write_file("vectors.npy", "nonsense", 8);
    assert_null(moult_brought_open(folder, 2, &error));
    assert_non_null(strstr(error.message, "It is no .npy file"));
    assert_int_not_equal(error.code, MOULT_ERROR_MISSING);
}

static void reads_lines(void **state) {
    static const char digits[] =
        "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    static const char *const wrong[] = {"{\"text_sha256\":\"00\"}", "{\"text_sha256\":1}", "[]", "",
                                        "{\"text_sha256\":\"%s0\"}", "{\"text_sha256\":\"G%s\"}"};
    unsigned char digest[MOULT_SHA256_BYTES];
    (void)state;
    char *line = moult_format("{\"text_sha256\": \"%s\", \"id\": 7}", digits);
    assert_int_equal(moult_brought_read_line(line, strlen(line), digest, &error), 0);
    for (unsigned i = 0; i < MOULT_SHA256_BYTES; i++)
        assert_int_equal(digest[i], 0x11 * (i % 16));
    line[20] = 'A';
    assert_int_equal(moult_brought_read_line(line, strlen(line), digest, &error), -1);
    free(line);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(moult_brought_read_line(wrong[i], strlen(wrong[i]), digest, &error), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(finds_vectors_by_text, begin, end),
        cmocka_unit_test_setup_teardown(refuses_what_does_not_fit, begin, end),
        cmocka_unit_test(reads_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
