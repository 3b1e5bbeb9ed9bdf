#include "ipc/rows.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"

enum { C = 6, STRIDE = 16 + 4 * C, ROWS_AT = 4096 };

static char folder[] = "/tmp/moult-rows-XXXXXX";
static char path[64];
static const char fingerprint[] =
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const char other[] = "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/minilm-01234567.rows", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static struct moult_rows_file *make(void) {
    struct moult_error error;
    unlink(path);
    struct moult_rows_file *rows = moult_rows_file_create(path, fingerprint, C, &error);
    if (!rows)
        fail_msg("%s", error.message);
    return rows;
}

/* What a worker gets of it. */
static struct moult_rows_file *inherit(const struct moult_rows_file *rows) {
    struct moult_error error;
    int fd = dup(moult_rows_file_fd(rows));
    struct moult_rows_file *inherited = moult_rows_file_adopt(fd, &error);
    if (!inherited)
        fail_msg("%s", error.message);
    return inherited;
}

static void fill(float vector[C], uint32_t row) {
    for (uint32_t i = 0; i < C; i++)
        vector[i] = (float)row + (float)i / 8;
}

/* Rows [first, first + count): row r is chunk r % 3 of document 1000 + r. */
static void write_rows(struct moult_rows_file *rows, uint32_t first, uint32_t count) {
    uint64_t *seqs = calloc(count, sizeof(*seqs));
    uint32_t *chunks = calloc(count, sizeof(*chunks));
    float *vectors = calloc((size_t)count * C, sizeof(*vectors));
    struct moult_error error;
    for (uint32_t i = 0; i < count; i++) {
        seqs[i] = 1000ull + first + i;
        chunks[i] = (first + i) % 3;
        fill(vectors + (size_t)i * C, first + i);
    }
    if (moult_rows_file_write(rows, first, count, seqs, chunks, vectors, &error) != 0)
        fail_msg("%s", error.message);
    free(seqs);
    free(chunks);
    free(vectors);
}

static void expect_row(const struct moult_rows_file *rows, uint32_t row) {
    float vector[C], wanted[C];
    struct moult_error error;
    fill(wanted, row);
    if (moult_rows_file_read(rows, row, 1000ull + row, row % 3, vector, &error) != 0)
        fail_msg("%s", error.message);
    assert_memory_equal(wanted, vector, sizeof(vector));
}

static void expect_none(const struct moult_rows_file *rows, uint32_t row, uint64_t seq,
                        uint32_t chunk) {
    float vector[C];
    struct moult_error error = {.code = MOULT_OK};
    assert_int_equal(-1, moult_rows_file_read(rows, row, seq, chunk, vector, &error));
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
}

static void rows_come_back(void **state) {
    (void)state;
    struct moult_rows_file *rows = make(), *inherited = inherit(rows);
    assert_string_equal(fingerprint, moult_rows_file_fingerprint(inherited));
    assert_int_equal(C, moult_rows_file_dimensions(inherited));
    write_rows(rows, 0, 3);
    write_rows(rows, 3, 20000);   /* More than one write takes. */
    for (uint32_t row = 0; row < 20003; row += row < 10 ? 1 : 777)
        expect_row(inherited, row);
    expect_row(inherited, 20002);
    expect_none(inherited, 20003, 1000 + 20003, 20003 % 3);
    moult_rows_file_close(rows);
    expect_row(inherited, 20002);
    moult_rows_file_close(inherited);

    struct stat status;
    assert_int_equal(0, stat(path, &status));
    assert_int_equal(moult_rows_file_bytes(C, 20003), status.st_size);
    struct moult_error error;
    rows = moult_rows_file_create(path, fingerprint, C, &error);
    assert_non_null(rows);
    expect_row(rows, 20002);
    moult_rows_file_close(rows);
}

/* The table decides which document a row belongs to; a row that says otherwise is none. */
static void a_row_of_another_document_is_none(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    write_rows(rows, 0, 5);
    expect_none(rows, 4, 1003, 1);
    expect_none(rows, 4, 1004, 0);
    expect_none(rows, 3, 1004, 1);
    expect_none(rows, 4, 0, 1);
    expect_row(rows, 4);
    moult_rows_file_close(rows);
}

/* A far row leaves a hole, which takes no room and has no row in it. */
static void the_file_may_have_holes(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    const uint32_t far = 100000000;
    write_rows(rows, far, 2);
    expect_row(rows, far + 1);
    expect_none(rows, 0, 1000, 0);
    expect_none(rows, 0, 0, 0);
    expect_none(rows, far - 1, 1000ull + far - 1, (far - 1) % 3);
    expect_none(rows, UINT32_MAX, 5, 0);
    struct stat status;
    assert_int_equal(0, stat(path, &status));
    assert_true(status.st_blocks * 512 < 1 << 20);
    write_rows(rows, 1, 1);
    expect_row(rows, 1);
    expect_none(rows, 0, 1000, 0);
    moult_rows_file_close(rows);
}

/* Whole pages go, and nothing beside them. */
static void holes_are_no_rows_and_take_no_disk(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    struct moult_error error;
    struct stat before, after;
    uint64_t bytes = 0;
    write_rows(rows, 0, 5000);
    assert_int_equal(0, stat(path, &before));
    assert_int_equal(0, moult_rows_file_punch(rows, 1000, 3000, &bytes, &error));
    assert_int_equal(0, stat(path, &after));
    if (bytes == 0)
        skip();   /* This file system has no holes. */
    uint64_t all = moult_rows_file_bytes(C, 4000) - moult_rows_file_bytes(C, 1000);
    assert_in_range(bytes, all - 2 * 4096, all);
    assert_in_range(((uint64_t)before.st_blocks - (uint64_t)after.st_blocks) * 512, bytes, bytes);
    assert_int_equal(before.st_size, after.st_size);
    expect_row(rows, 999);
    expect_none(rows, 2500, 3500, 2500 % 3);
    expect_row(rows, 4000);
    assert_int_equal(0, moult_rows_file_punch(rows, 10, 1, &bytes, &error));
    expect_row(rows, 10);   /* Less than a page. */
    moult_rows_file_close(rows);
}

static void change(off_t offset, unsigned char bits) {
    unsigned char byte;
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    assert_int_equal(1, pread(fd, &byte, 1, offset));
    byte ^= bits;
    assert_int_equal(1, pwrite(fd, &byte, 1, offset));
    close(fd);
}

/* Each bit of a row counts. */
static void a_damaged_row_is_none(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    write_rows(rows, 0, 3);
    for (int at = 0; at < STRIDE; at++)
        for (int bit = 0; bit < 8; bit++) {
            change(ROWS_AT + STRIDE + at, (unsigned char)(1 << bit));
            expect_none(rows, 1, 1001, 1);
            expect_row(rows, 0);
            expect_row(rows, 2);
            change(ROWS_AT + STRIDE + at, (unsigned char)(1 << bit));
        }
    expect_row(rows, 1);
    moult_rows_file_close(rows);
}

/* Cut off anywhere, by whomever, at any time: what is left stays, and nothing dies. */
static void a_shorter_file_ends_no_process(void **state) {
    (void)state;
    struct moult_rows_file *rows = make(), *inherited = inherit(rows);
    write_rows(rows, 0, 3);
    for (off_t size = ROWS_AT + 3 * STRIDE - 1; size >= 0; size -= 7) {
        assert_int_equal(0, truncate(path, size));
        for (uint32_t row = 0; row < 3; row++) {
            if (size >= (off_t)moult_rows_file_bytes(C, row + 1))
                expect_row(inherited, row);
            else
                expect_none(inherited, row, 1000 + row, row % 3);
        }
        if (size < ROWS_AT)
            size -= 500;
    }
    moult_rows_file_close(inherited);
    moult_rows_file_close(rows);
}

/* Half an old row and half a new one, as a lost write leaves them. */
static void a_torn_row_is_none(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    char old[STRIDE];
    write_rows(rows, 0, 1);
    int fd = open(path, O_RDWR);
    assert_int_equal(STRIDE, pread(fd, old, STRIDE, ROWS_AT));
    for (size_t torn = 1; torn < STRIDE; torn++) {
        const float vector[C] = {9, 8, 7, 6, 5, 4};
        const uint64_t seq = 1000;
        const uint32_t chunk = 0;
        assert_int_equal(0, moult_rows_file_write(rows, 0, 1, &seq, &chunk, vector, NULL));
        assert_int_equal(torn, pwrite(fd, old, torn, ROWS_AT));
        /* Seq and chunk are the same of both. */
        if (torn > 12)
            expect_none(rows, 0, 1000, 0);
    }
    close(fd);
    moult_rows_file_close(rows);
}

static void expect_refused(const char *wanted, uint32_t width, const char *part) {
    struct moult_error error = {.code = MOULT_OK};
    struct stat before, after;
    assert_int_equal(0, stat(path, &before));
    assert_null(moult_rows_file_create(path, wanted, width, &error));
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
    if (!strstr(error.message, part))
        fail_msg("\"%s\" does not say \"%s\".", error.message, part);
    assert_int_equal(0, stat(path, &after));
    assert_int_equal(before.st_size, after.st_size);
}

static void what_is_no_such_file_is_refused(void **state) {
    (void)state;
    struct moult_error error;
    struct moult_rows_file *rows = make();
    write_rows(rows, 0, 2);
    moult_rows_file_close(rows);
    expect_refused(other, C, "of another model");
    expect_refused(fingerprint, C + 1, "of another model");
    for (off_t at = 0; at < 128; at++) {
        change(at, 0x10);
        expect_refused(fingerprint, C, path);
        int fd = open(path, O_RDONLY);
        assert_null(moult_rows_file_adopt(fd, &error));
        assert_int_equal(MOULT_ERROR_INVALID, error.code);
        change(at, 0x10);
    }
    assert_int_equal(0, truncate(path, 100));
    expect_refused(fingerprint, C, "is not a file of vectors");
    assert_null(moult_rows_file_create("/nowhere/x.rows", fingerprint, C, &error));
    assert_int_equal(MOULT_ERROR_MISSING, error.code);
    assert_null(moult_rows_file_adopt(-1, &error));
}

/* A worker may inherit a file before anybody knows its model. */
static void a_blank_file_is_claimed(void **state) {
    (void)state;
    struct moult_error error;
    struct moult_rows_file *rows = moult_rows_file_create_blank(path, &error);
    assert_non_null(rows);
    struct moult_rows_file *inherited = inherit(rows);
    assert_string_equal("", moult_rows_file_fingerprint(inherited));
    assert_false(moult_rows_file_is_of(inherited, fingerprint, C));
    expect_refused(fingerprint, C, "of another model");
    assert_int_equal(0, moult_rows_file_claim(rows, fingerprint, C, &error));
    assert_true(moult_rows_file_is_of(inherited, fingerprint, C));
    assert_false(moult_rows_file_is_of(inherited, other, C));
    assert_false(moult_rows_file_is_of(inherited, fingerprint, C + 1));
    write_rows(rows, 0, 2);
    expect_row(inherited, 1);
    moult_rows_file_close(rows);
    moult_rows_file_close(inherited);
    rows = moult_rows_file_create(path, fingerprint, C, &error);
    assert_non_null(rows);
    expect_row(rows, 1);
    moult_rows_file_close(rows);
    rows = moult_rows_file_create_blank(path, &error);   /* What was there is gone. */
    assert_non_null(rows);
    moult_rows_file_close(rows);
    expect_refused(fingerprint, C, "of another model");
}

static void who_inherits_it_cannot_write(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    int fd = dup(moult_rows_file_fd(rows));
    assert_int_equal(-1, pwrite(fd, "x", 1, 0));
    assert_int_equal(-1, ftruncate(fd, 0));
    close(fd);
    moult_rows_file_close(rows);
}

static void a_full_disk_is_said(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    struct moult_error error = {.code = MOULT_OK};
    float vector[C];
    fill(vector, 0);
    const uint64_t seq = 5;
    const uint32_t chunk = 0;
    struct rlimit before, low = {.rlim_cur = ROWS_AT + 2 * STRIDE + 10};
    assert_int_equal(0, getrlimit(RLIMIT_FSIZE, &before));
    low.rlim_max = before.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &low));
    write_rows(rows, 0, 2);
    assert_int_equal(-1, moult_rows_file_write(rows, 2, 1, &seq, &chunk, vector, &error));
    assert_int_equal(0, setrlimit(RLIMIT_FSIZE, &before));
    assert_int_equal(MOULT_ERROR_SYSTEM, error.code);
    expect_row(rows, 1);
    expect_none(rows, 2, 5, 0);
    assert_int_equal(0, moult_rows_file_write(rows, 2, 1, &seq, &chunk, vector, &error));
    assert_int_equal(0, moult_rows_file_read(rows, 2, 5, 0, vector, &error));
    moult_rows_file_close(rows);
}

/* A reader beside the writer sees a row or none, and never another's numbers. */
enum { ROUNDS = 300, TOGETHER = 64 };

struct reading {
    const struct moult_rows_file *rows;
    atomic_bool stop;
    unsigned long found, missing;
};

static void *read_all_the_time(void *context) {
    struct reading *reading = context;
    for (uint32_t row = 0; !atomic_load(&reading->stop); row = (row + 7) % (ROUNDS * TOGETHER)) {
        float vector[C], wanted[C];
        fill(wanted, row);
        if (moult_rows_file_read(reading->rows, row, 1000ull + row, row % 3, vector, NULL) != 0)
            reading->missing++;
        else if (memcmp(wanted, vector, sizeof(vector)) == 0)
            reading->found++;
        else
            return "A row has other numbers than were written.";
    }
    return NULL;
}

static void one_writes_and_another_reads(void **state) {
    (void)state;
    struct moult_rows_file *rows = make();
    struct reading reading = {.rows = inherit(rows)};
    pthread_t thread;
    void *complaint = NULL;
    assert_int_equal(0, pthread_create(&thread, NULL, read_all_the_time, &reading));
    for (uint32_t round = 0; round < ROUNDS; round++)
        write_rows(rows, round * TOGETHER, TOGETHER);
    atomic_store(&reading.stop, true);
    pthread_join(thread, &complaint);
    if (complaint)
        fail_msg("%s", (const char *)complaint);
    for (uint32_t row = 0; row < ROUNDS * TOGETHER; row++)
        expect_row(reading.rows, row);
    moult_rows_file_close((struct moult_rows_file *)(uintptr_t)reading.rows);
    moult_rows_file_close(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_come_back),
        cmocka_unit_test(a_row_of_another_document_is_none),
        cmocka_unit_test(the_file_may_have_holes),
        cmocka_unit_test(holes_are_no_rows_and_take_no_disk),
        cmocka_unit_test(a_damaged_row_is_none),
        cmocka_unit_test(a_shorter_file_ends_no_process),
        cmocka_unit_test(a_torn_row_is_none),
        cmocka_unit_test(what_is_no_such_file_is_refused),
        cmocka_unit_test(a_blank_file_is_claimed),
        cmocka_unit_test(who_inherits_it_cannot_write),
        cmocka_unit_test(a_full_disk_is_said),
        cmocka_unit_test(one_writes_and_another_reads),
    };
    return cmocka_run_group_tests_name("rows", tests, set_up, tear_down);
}
