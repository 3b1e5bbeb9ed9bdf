/* .npy files: their heads, and rows of each width. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/npy.h"

static struct moult_error error;

/* A head of version 1 around a dictionary; returns its size. */
static size_t make_head(char *bytes, const char *dictionary) {
    size_t length = strlen(dictionary);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    bytes[8] = (char)(length & 255);
    bytes[9] = (char)(length >> 8);
    memcpy(bytes + 10, dictionary, length);
    return length + 10;
}

static int read_head(const char *dictionary, struct moult_npy_head *head) {
    char bytes[512];
    return moult_npy_read_head(bytes, make_head(bytes, dictionary), head, &error);
}

static void reads_heads(void **state) {
    static const char usual[] =
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 384), }          \n";
    static const char other[] = "{\"shape\":(0,1,),\"descr\":\"<f8\",\"fortran_order\":False}";
    struct moult_npy_head head;
    (void)state;
    assert_int_equal(read_head(usual, &head), 0);
    assert_int_equal(head.rows, 3);
    assert_int_equal(head.C, 384);
    assert_int_equal(head.width, 4);
    assert_int_equal(head.offset, 10 + strlen(usual));
    assert_int_equal(read_head(other, &head), 0);
    assert_int_equal(head.rows, 0);
    assert_int_equal(head.width, 8);
}

static void reads_heads_of_version_2(void **state) {
    char bytes[512];
    struct moult_npy_head head;
    size_t size = make_head(bytes, "{'descr':'<f2','fortran_order':False,'shape':(1,2)}");
    (void)state;
    memmove(bytes + 12, bytes + 10, size - 10);
    bytes[6] = 2;
    bytes[10] = bytes[11] = 0;
    assert_int_equal(moult_npy_read_head(bytes, size + 2, &head, &error), 0);
    assert_int_equal(head.width, 2);
    assert_int_equal(head.offset, size + 2);
    assert_int_equal(moult_npy_read_head(bytes, size + 1, &head, &error), -1);
    bytes[11] = (char)255;
    assert_int_equal(moult_npy_read_head(bytes, size + 2, &head, &error), -1);
}

static void refuses_other_heads(void **state) {
    static const struct {
        const char *dictionary, *message;
    } cases[] = {
        {"{'descr': '>f4', 'fortran_order': False, 'shape': (3, 4)}", "type \">f4\""},
        {"{'descr': '<i4', 'fortran_order': False, 'shape': (3, 4)}", "type \"<i4\""},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (3, 4)}", "Fortran's order"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", "two dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5)}", "two dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 0)}", "0 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 9000)}", "9000 dimensions"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8)}", "rows"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 8)}", "none"},
        {"{'descr': '<f4', 'fortran_order': False}", "none"},
        {"{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (3, 4)}", "none"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4)", "none"},
        {"   ", "none"},
    };
    struct moult_npy_head head;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(read_head(cases[i].dictionary, &head), -1);
        assert_non_null(strstr(error.message, cases[i].message));
    }
    assert_int_equal(moult_npy_read_head("PK\x03\x04 is a zip", 14, &head, &error), -1);
}

static struct moult_npy *open_with(const char *dictionary, const void *numbers, size_t size) {
    char bytes[512], path[] = "/tmp/moult-npy-XXXXXX";
    size_t head_size = make_head(bytes, dictionary);
    FILE *file = fdopen(mkstemp(path), "wb");
    assert_non_null(file);
    fwrite(bytes, 1, head_size, file);
    fwrite(numbers, 1, size, file);
    fclose(file);
    struct moult_npy *npy = moult_npy_open(path, &error);
    unlink(path);
    return npy;
}

static void reads_rows_of_each_width(void **state) {
    static const float singles[] = {1, -2, 0.5f, 65504};
    static const double doubles[] = {1, -2, 0.5, 65504};
    static const uint16_t halves[] = {0x3C00, 0xC000, 0x3800, 0x7BFF};
    static const struct {
        const char *dictionary;
        const void *numbers;
        size_t size;
    } cases[] = {
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}", singles, sizeof singles},
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2)}", doubles, sizeof doubles},
        {"{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2)}", halves, sizeof halves},
    };
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        float row[2];
        struct moult_npy *npy = open_with(cases[i].dictionary, cases[i].numbers, cases[i].size);
        assert_non_null(npy);
        for (uint64_t r = 2; r-- > 0;) {
            assert_int_equal(moult_npy_row(npy, r, row, &error), 0);
            assert_memory_equal(row, singles + 2 * r, sizeof row);
        }
        moult_npy_close(npy);
    }
}

static void reads_odd_halves(void **state) {
    static const uint16_t halves[] = {0x0001, 0x8000, 0x03FF, 0x0400, 0x7C00, 0x7E00};
    static const char dictionary[] = "{'descr': '<f2', 'fortran_order': False, 'shape': (6, 1)}";
    static const float expected[] = {5.9604644775390625e-8f, -0.0f, 6.0975551605224609e-5f,
                                     6.103515625e-5f};
    float number;
    (void)state;
    struct moult_npy *npy = open_with(dictionary, halves, sizeof halves);
    assert_non_null(npy);
    for (uint64_t r = 0; r < 4; r++) {
        assert_int_equal(moult_npy_row(npy, r, &number, &error), 0);
        assert_memory_equal(&number, &expected[r], sizeof number);
    }
    for (uint64_t r = 4; r < 6; r++) {
        assert_int_equal(moult_npy_row(npy, r, &number, &error), -1);
        assert_non_null(strstr(error.message, "not finite"));
    }
    moult_npy_close(npy);
}

static void wants_the_whole_file(void **state) {
    static const char dictionary[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}";
    static const float numbers[5];
    (void)state;
    assert_null(open_with(dictionary, numbers, 12));
    assert_non_null(strstr(error.message, "bytes by its head"));
    assert_null(open_with(dictionary, numbers, 20));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_heads),
        cmocka_unit_test(reads_heads_of_version_2),
        cmocka_unit_test(refuses_other_heads),
        cmocka_unit_test(reads_rows_of_each_width),
        cmocka_unit_test(reads_odd_halves),
        cmocka_unit_test(wants_the_whole_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
