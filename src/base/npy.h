/* Vectors in a .npy file, as numpy.save writes it: [N][C] of f16, f32 or f64, in C order, little
 * endian. Rows are read where they are needed. */
#ifndef MOULT_BASE_NPY_H
#define MOULT_BASE_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct moult_npy_head {
    uint64_t rows;            /* N */
    uint32_t C;
    unsigned width;           /* Bytes of a number: 2, 4 or 8. */
    size_t offset;            /* Where the first one is. */
};

/* Reads the head of a file from its first `size` bytes. They need not be all of it: 64 KiB hold
 * every head that moult takes. */
int moult_npy_read_head(const char *bytes, size_t size, struct moult_npy_head *head,
                        struct moult_error *error);

struct moult_npy;

struct moult_npy *moult_npy_open(const char *path, struct moult_error *error);
void moult_npy_close(struct moult_npy *npy);
const struct moult_npy_head *moult_npy_head_of(const struct moult_npy *npy);
/* One row, as `vector` [C]; an error where it is not finite. */
int moult_npy_row(struct moult_npy *npy, uint64_t row, float *vector, struct moult_error *error);

#endif
