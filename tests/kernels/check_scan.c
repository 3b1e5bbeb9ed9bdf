/* scan. What lies in the grids are not floats: four bytes each, or an integer. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { PIECE_MOST = 64 };

struct scan {
    uint32_t quads;
    struct grid rows[MOULT_SCAN_BLOCKS];    /* [1][quads · MOULT_SCAN_ROWS] times four bytes */
    struct grid query;                      /* [1][quads · 2] times four pieces */
    struct grid products;                   /* [1][MOULT_SCAN_BLOCKS · MOULT_SCAN_ROWS] */
    int32_t offset;
};

static uint8_t *row_bytes(const struct scan *scan, unsigned block) {
    return (uint8_t *)scan->rows[block].floats;
}

static int8_t *pieces(const struct scan *scan) {
    return (int8_t *)scan->query.floats;
}

/* Of the largest that are allowed where `extreme`; pieces of one sign make sums that leave 32 bits
 * if they can. */
static void open_scan(struct scan *scan, uint32_t quads, bool extreme) {
    int sign = check_random_below(2) ? 1 : -1;

    scan->quads = quads;
    check_grid_init(&scan->query, 1, quads * 2, 1);
    check_grid_init(&scan->products, 1, MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS, 1);
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        check_grid_init(&scan->rows[b], 1, quads * MOULT_SCAN_ROWS, 1);
        for (size_t i = 0; i < (size_t)quads * MOULT_SCAN_ROWS * 4; i++)
            row_bytes(scan, b)[i] = extreme ? 255 : (uint8_t)check_random();
    }
    for (size_t i = 0; i < (size_t)quads * 8; i++) {
        int piece = (int)check_random_below(2 * PIECE_MOST + 1) - PIECE_MOST;

        pieces(scan)[i] = (int8_t)(extreme ? sign * PIECE_MOST : piece);
    }
    scan->offset = extreme ? sign * INT32_MAX : (int32_t)check_random() / 4;
}

static void close_scan(struct scan *scan) {
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        check_grid_release(&scan->rows[b]);
    check_grid_release(&scan->query);
    check_grid_release(&scan->products);
}

static int64_t exact(const struct scan *scan, uint32_t i) {
    const uint8_t *rows = row_bytes(scan, i / MOULT_SCAN_ROWS) + i % MOULT_SCAN_ROWS * 4;
    int64_t sum = -(int64_t)scan->offset;

    for (size_t quad = 0; quad < scan->quads; quad++) {
        for (size_t c = 0; c < 4; c++)
            sum += rows[quad * MOULT_SCAN_ROWS * 4 + c] *
                   (pieces(scan)[quad * 8 + c] * 128 + pieces(scan)[quad * 8 + 4 + c]);
    }
    return sum;
}

/* What is asked for ahead may be anywhere. */
static void run(const struct scan *scan, const struct moult_kernels *kernels) {
    const uint8_t *blocks[MOULT_SCAN_BLOCKS], *ahead[MOULT_SCAN_BLOCKS] = {NULL};

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        blocks[b] = row_bytes(scan, b);
    ahead[1] = blocks[0];
    kernels->scan(blocks, ahead, pieces(scan), scan->quads, scan->offset,
                  (int32_t(*)[MOULT_SCAN_ROWS])scan->products.floats);
}

static bool scan_right(const struct moult_kernels *kernels, uint32_t quads, bool extreme) {
    struct scan scan;
    bool passed = true;

    open_scan(&scan, quads, extreme);
    run(&scan, kernels);
    for (uint32_t i = 0; i < MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS && passed; i++) {
        int32_t is = ((int32_t *)scan.products.floats)[i];

        /* Where the sum itself does not fit, it is that modulo 2^32. */
        if ((uint32_t)is != (uint32_t)exact(&scan, i))
            passed = check_because("%u quads: the product of row %u is %d, not %lld", quads, i, is,
                                   (long long)exact(&scan, i));
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        passed = passed && check_grid_guarded(&scan.rows[b]);
    passed = passed && check_grid_guarded(&scan.query) && check_grid_guarded(&scan.products);
    close_scan(&scan);
    return passed;
}

void check_scan(const struct moult_kernels *kernels) {
    bool passed = true;

    for (uint32_t quads = 1; quads <= 70 && passed; quads++)
        passed = scan_right(kernels, quads, false);
    check_ok(passed && scan_right(kernels, 96, false) && scan_right(kernels, 2048, false),
             "%s: scan of 4 to 8,192 dimensions", kernels->name);
    passed = true;
    for (uint32_t quads = 1; quads <= 2048 && passed; quads = 2 * quads + 1)
        passed = scan_right(kernels, quads, true) && scan_right(kernels, quads, true);
    check_ok(passed, "%s: scan of the largest bytes and pieces", kernels->name);
}
