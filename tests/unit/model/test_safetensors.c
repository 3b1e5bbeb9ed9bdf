/* What a header may say, and each way in which one may lie. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/limits.h"
#include "base/memory.h"
#include "model/safetensors.h"

static int parse(const char *header, uint64_t data_bytes, struct moult_safetensors *contents,
                 struct moult_error *error) {
    return moult_safetensors_parse(contents, header, strlen(header), 1000, data_bytes, "x", error);
}

static void assert_refused(const char *header, uint64_t data_bytes, const char *why) {
    struct moult_safetensors contents;
    struct moult_error error = {0};

    if (parse(header, data_bytes, &contents, &error) == 0)
        fail_msg("Accepted: %s", header);
    if (strstr(error.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\".", error.message, why);
}

static void a_good_header_is_understood(void **state) {
    struct moult_safetensors contents;
    struct moult_error error = {0};
    const struct moult_tensor *tensor;

    (void)state;
    assert_int_equal(parse("{\"__metadata__\":{\"format\":\"pt\"},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[4,28]},"
                           "\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]},"
                           "\"empty\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[4,4]},"
                           "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[28,29]}}",
                           29, &contents, &error),
                     0);
    assert_int_equal(contents.count, 4);
    tensor = moult_safetensors_find(&contents, "b");
    assert_non_null(tensor);
    assert_int_equal(tensor->offset, 1004);
    assert_int_equal(tensor->bytes, 24);
    assert_int_equal(tensor->values, 6);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->shape[1], 3);
    assert_string_equal(tensor->dtype, "F32");
    assert_int_equal(moult_safetensors_find(&contents, "one")->values, 1);
    assert_null(moult_safetensors_find(&contents, "c"));
    assert_null(moult_safetensors_find(&contents, "__metadata__"));
    moult_safetensors_release(&contents);
    assert_null(moult_safetensors_find(&contents, "b"));
}

static void no_tensors_are_no_error(void **state) {
    struct moult_safetensors contents;

    (void)state;
    assert_int_equal(parse("{}", 0, &contents, NULL), 0);
    assert_int_equal(contents.count, 0);
    moult_safetensors_release(&contents);
    assert_refused("{}", 1, "1 bytes behind its last tensor");
}

static void lies_about_places_are_found(void **state) {
    (void)state;
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}",
                   12, "b overlaps another tensor");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
                   8, "overlaps another tensor");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[12,20]}}",
                   20, "a gap of 4 bytes before b");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16,
                   "a gap of 8 bytes before a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7,
                   "is cut off: a ends at byte 8");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9,
                   "1 bytes behind its last tensor");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
                   "data_offsets of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]}}", 8,
                   "data_offsets of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8,
                   "data_offsets of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0.0,8.0]}}", 8,
                   "data_offsets of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "data_offsets of a");
}

static void lies_about_sizes_are_found(void **state) {
    (void)state;
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8,
                   "a has 8 bytes, not what");
    assert_refused("{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
                   "a has 8 bytes, not what");
    assert_refused("{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1,
                   "dtype F4");
    assert_refused("{\"a\":{\"shape\":[2],\"data_offsets\":[0,1]}}", 1, "dtype (none)");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
                   "shape of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":2,\"data_offsets\":[0,8]}}", 8,
                   "shape of a");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,2],"
                   "\"data_offsets\":[0,8]}}",
                   8, "shape of a");
    /* Products that come around to 2 values, or to 8 bytes. */
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,2],"
                   "\"data_offsets\":[0,8]}}",
                   8, "shape of a is too large");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387906],"
                   "\"data_offsets\":[0,8]}}",
                   8, "a has 8 bytes, not what");
}

static void what_is_no_header_is_refused(void **state) {
    char deep[200];

    (void)state;
    assert_refused("[]", 0, "not an object");
    assert_refused("", 0, "not valid JSON");
    assert_refused("{\"a\":", 0, "not valid JSON");
    assert_refused("{\"a\":1}", 0, "dtype (none)");
    assert_refused("{\"a\":{},\"a\":{}}", 0, "not valid JSON");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],"
                   "\"data_offsets\":[0,8]}}",
                   8, "not valid JSON");
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    assert_refused(deep, 0, "nests deeper");
}

/* A file in memory: its first bytes, then zeros up to `size`. */
static int make_file(const void *bytes, size_t count, size_t size) {
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, count), count);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    return fd;
}

static void assert_file_refused(const void *bytes, size_t count, size_t size, const char *why) {
    int fd = make_file(bytes, count, size);
    struct moult_safetensors contents;
    struct moult_error error = {0};

    assert_int_equal(moult_safetensors_read(&contents, fd, size, "x", &error), -1);
    if (strstr(error.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\".", error.message, why);
    close(fd);
}

static void files_are_read_within_their_size(void **state) {
    static const char good[] =
        "\x39\0\0\0\0\0\0\0"
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}    ";
    struct moult_safetensors contents;
    struct moult_error error = {0};
    int fd = make_file(good, 8 + 0x39, 8 + 0x39 + 8);

    (void)state;
    if (moult_safetensors_read(&contents, fd, 8 + 0x39 + 8, "x", &error) != 0)
        fail_msg("%s", error.message);
    assert_int_equal(moult_safetensors_find(&contents, "a")->offset, 8 + 0x39);
    moult_safetensors_release(&contents);
    close(fd);
    assert_file_refused(good, 0, 0, "cut off");
    assert_file_refused(good, 7, 7, "cut off");
    assert_file_refused(good, 8, 8, "cut off within its header");
    assert_file_refused(good, 40, 40, "cut off within its header");
    assert_file_refused(good, 8 + 0x39, 8 + 0x39 + 7, "cut off: a ends");
    assert_file_refused("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, 10, "header is too large");
    assert_file_refused("\0\0\0\0\0\0\0\0{}", 10, 10, "not valid JSON");
    assert_file_refused("PK\x03\x04pickle", 10, 10, "not a safetensors file");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_header_is_understood),
        cmocka_unit_test(no_tensors_are_no_error),
        cmocka_unit_test(lies_about_places_are_found),
        cmocka_unit_test(lies_about_sizes_are_found),
        cmocka_unit_test(what_is_no_header_is_refused),
        cmocka_unit_test(files_are_read_within_their_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
