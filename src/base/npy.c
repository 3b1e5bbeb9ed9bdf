#include "base/npy.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"

#define HEAD_BYTES_MAX (64 * MOULT_KIB)
#define WINDOW_BYTES (256 * MOULT_KIB)

/* The head, by NumPy's own description (numpy.lib.format):
 *
 *   0   "\x93NUMPY"
 *   6   major version, 1 to 3, and minor
 *   8   length of what follows: u16, or u32 from version 2 on
 *   …   a Python dictionary of three keys, in any order, blanks, and a line feed
 *
 * Of the dictionary only what NumPy writes is understood: quoted keys, a quoted 'descr', a
 * tuple of two whole numbers. */

struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *cursor) {
    while (cursor->at < cursor->end && (*cursor->at == ' ' || *cursor->at == '\n'))
        cursor->at++;
}

static bool take(struct cursor *cursor, char c) {
    skip_blanks(cursor);
    if (cursor->at == cursor->end || *cursor->at != c)
        return false;
    cursor->at++;
    return true;
}

static bool take_word(struct cursor *cursor, const char *word) {
    size_t size = strlen(word);
    skip_blanks(cursor);
    if ((size_t)(cursor->end - cursor->at) < size || memcmp(cursor->at, word, size) != 0)
        return false;
    cursor->at += size;
    return true;
}

static bool take_string(struct cursor *cursor, char *out, size_t capacity) {
    skip_blanks(cursor);
    char quote = cursor->at < cursor->end ? *cursor->at : '\0';
    if (quote != '\'' && quote != '"')
        return false;
    const char *from = ++cursor->at;
    const char *to = memchr(from, quote, (size_t)(cursor->end - from));
    if (to == NULL || (size_t)(to - from) >= capacity)
        return false;
    memcpy(out, from, (size_t)(to - from));
    out[to - from] = '\0';
    cursor->at = to + 1;
    return true;
}

static bool take_number(struct cursor *cursor, uint64_t *number) {
    bool some = false;
    *number = 0;
    skip_blanks(cursor);
    for (; cursor->at < cursor->end && *cursor->at >= '0' && *cursor->at <= '9'; cursor->at++) {
        if (__builtin_mul_overflow(*number, 10u, number) ||
            __builtin_add_overflow(*number, (uint64_t)(*cursor->at - '0'), number))
            return false;
        some = true;
    }
    return some;
}

struct description {
    char type[16];
    bool fortran;
    uint64_t rows, columns;
    bool has_type, has_order, has_shape;
};

static bool take_entry(struct cursor *cursor, struct description *found) {
    char key[16];
    if (!take_string(cursor, key, sizeof key) || !take(cursor, ':'))
        return false;
    if (strcmp(key, "descr") == 0)
        return found->has_type = take_string(cursor, found->type, sizeof found->type);
    if (strcmp(key, "fortran_order") == 0) {
        found->fortran = take_word(cursor, "True");
        return found->has_order = found->fortran || take_word(cursor, "False");
    }
    if (strcmp(key, "shape") == 0)
        return found->has_shape = take(cursor, '(') && take_number(cursor, &found->rows) &&
                                  take(cursor, ',') && take_number(cursor, &found->columns) &&
                                  (take(cursor, ','), take(cursor, ')'));
    return false;
}

static bool take_dictionary(struct cursor *cursor, struct description *found) {
    if (!take(cursor, '{'))
        return false;
    while (!take(cursor, '}'))
        if (!take_entry(cursor, found) ||
            (!take(cursor, ',') && (cursor->at == cursor->end || *cursor->at != '}')))
            return false;
    return found->has_type && found->has_order && found->has_shape;
}

static int take_description(const struct description *found, struct moult_npy_head *head,
                            struct moult_error *error) {
    static const struct {
        const char *type;
        unsigned width;
    } types[] = {{"<f2", 2}, {"<f4", 4}, {"<f8", 8}};
    head->width = 0;
    for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(found->type, types[i].type) == 0)
            head->width = types[i].width;
    if (head->width == 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "It holds numbers of type \"%s\"; moult takes <f4, <f2 and <f8.",
                          found->type);
    if (found->fortran)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "It lies in Fortran's order; numpy.ascontiguousarray turns it.");
    if (found->columns == 0 || found->columns > MOULT_DIMENSIONS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "Its vectors have %" PRIu64 " dimensions; moult takes 1 to %d.",
                          found->columns, MOULT_DIMENSIONS_MAX);
    uint64_t bytes;
    if (__builtin_mul_overflow(found->rows, found->columns * head->width, &bytes) ||
        bytes > INT64_MAX - HEAD_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "It has %" PRIu64 " rows, more than a file "
                          "holds.", found->rows);
    head->rows = found->rows;
    head->C = (uint32_t)found->columns;
    return 0;
}

int moult_npy_read_head(const char *bytes, size_t size, struct moult_npy_head *head,
                        struct moult_error *error) {
    const unsigned char *raw = (const unsigned char *)bytes;
    struct description found = {.fortran = false};
    if (size < 12 || memcmp(bytes, "\x93NUMPY", 6) != 0 || raw[6] < 1 || raw[6] > 3)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "It is no .npy file; numpy.save writes one.");
    size_t begin = raw[6] == 1 ? 10 : 12;
    size_t length = raw[8] | (size_t)raw[9] << 8;
    if (raw[6] > 1)
        length |= (size_t)raw[10] << 16 | (size_t)raw[11] << 24;
    if (length > size - begin)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Its head is cut off, or longer than %lu KiB.",
                          HEAD_BYTES_MAX / MOULT_KIB);
    struct cursor cursor = {bytes + begin, bytes + begin + length};
    if (!take_dictionary(&cursor, &found))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Its head is none of an array of two dimensions.");
    head->offset = begin + length;
    return take_description(&found, head, error);
}

/* Rows, through a window over the file: they are mostly asked for in order. */
struct moult_npy {
    struct moult_npy_head head;
    char *path;
    int fd;
    size_t row_bytes;
    uint64_t first, count;    /* Rows that lie in the window. */
    char *window;
};

static int open_npy(struct moult_npy *npy, struct moult_error *error) {
    char *bytes = NULL;
    struct stat status;
    npy->fd = open(npy->path, O_RDONLY | O_CLOEXEC);
    if (npy->fd < 0 || fstat(npy->fd, &status) != 0)
        return moult_fail_errno(error, "%s cannot be opened", npy->path);
    uint64_t file_size = (uint64_t)status.st_size;
    size_t size = file_size < HEAD_BYTES_MAX ? (size_t)file_size : HEAD_BYTES_MAX;
    bytes = moult_allocate(size + 1, 1);
    int result = moult_read_exact(npy->fd, bytes, size, 0, npy->path, error);
    if (result == 0 && (result = moult_npy_read_head(bytes, size, &npy->head, error)) != 0)
        moult_fail_within(error, "%s", npy->path);
    free(bytes);
    if (result != 0)
        return -1;
    npy->row_bytes = (size_t)npy->head.C * npy->head.width;
    if (file_size != npy->head.offset + npy->head.rows * npy->row_bytes)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s should have %" PRIu64 " bytes by its head, and has %" PRIu64 ".",
                          npy->path, npy->head.offset + npy->head.rows * npy->row_bytes, file_size);
    return 0;
}

struct moult_npy *moult_npy_open(const char *path, struct moult_error *error) {
    struct moult_npy *npy = moult_allocate(1, sizeof *npy);
    npy->path = moult_copy_string(path);
    if (open_npy(npy, error) == 0)
        return npy;
    moult_npy_close(npy);
    return NULL;
}

void moult_npy_close(struct moult_npy *npy) {
    if (npy == NULL)
        return;
    if (npy->fd >= 0)
        close(npy->fd);
    free(npy->window);
    free(npy->path);
    free(npy);
}

const struct moult_npy_head *moult_npy_head_of(const struct moult_npy *npy) {
    return &npy->head;
}

static int fill_window(struct moult_npy *npy, uint64_t row, struct moult_error *error) {
    uint64_t rows = WINDOW_BYTES / npy->row_bytes;
    uint64_t left = npy->head.rows - row;
    if (npy->window == NULL)
        npy->window = moult_allocate(rows, npy->row_bytes);
    npy->count = 0;
    if (moult_read_exact(npy->fd, npy->window, (size_t)(rows < left ? rows : left) * npy->row_bytes,
                         npy->head.offset + row * npy->row_bytes, npy->path, error) != 0)
        return -1;
    npy->first = row;
    npy->count = rows < left ? rows : left;
    return 0;
}

static float read_half(const char *bytes) {
    uint16_t half;
    memcpy(&half, bytes, sizeof half);
    int exponent = half >> 10 & 31;
    float fraction = (float)(half & 1023);
    float value = exponent == 0    ? ldexpf(fraction, -24)
                  : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                   : ldexpf(fraction + 1024, exponent - 25);
    return half >> 15 ? -value : value;
}

static float read_number(const char *bytes, unsigned width) {
    float single;
    double number;
    if (width == 2)
        return read_half(bytes);
    if (width == 4) {
        memcpy(&single, bytes, sizeof single);
        return single;
    }
    memcpy(&number, bytes, sizeof number);
    return (float)number;
}

int moult_npy_row(struct moult_npy *npy, uint64_t row, float *vector, struct moult_error *error) {
    MOULT_REQUIRE(row < npy->head.rows);
    if ((row < npy->first || row - npy->first >= npy->count) &&
        fill_window(npy, row, error) != 0)
        return -1;
    const char *bytes = npy->window + (row - npy->first) * npy->row_bytes;
    bool finite = true;
    for (uint32_t c = 0; c < npy->head.C; c++) {
        vector[c] = read_number(bytes + (size_t)c * npy->head.width, npy->head.width);
        finite = finite && isfinite(vector[c]);
    }
    return finite ? 0
                  : moult_fail(error, MOULT_ERROR_INVALID,
                               "Row %" PRIu64 " of %s has numbers that are not finite.", row,
                               npy->path);
}
