/* scan. What lies in the grids are not floats: four bytes each, or an integer. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { PIECE_MOST = 64 };

struct block {
    uint32_t quads;
    struct grid rows;       /* [1][quads · MOULT_SCAN_ROWS] times four bytes */
    struct grid query;      /* [1][quads · 2] times four pieces */
    struct grid products;   /* [1][MOULT_SCAN_ROWS] */
    int32_t offset;
};

static uint8_t *row_bytes(const struct block *block) {
    return (uint8_t *)block->rows.floats;
}

static int8_t *pieces(const struct block *block) {
    return (int8_t *)block->query.floats;
}

/* Of the largest that are allowed where `extreme`; pieces of one sign make sums that leave 32 bits
 * if they can. */
static void open_block(struct block *block, uint32_t quads, bool extreme) {
    int sign = check_random_below(2) ? 1 : -1;

    block->quads = quads;
    check_grid_init(&block->rows, 1, quads * MOULT_SCAN_ROWS, 1);
    check_grid_init(&block->query, 1, quads * 2, 1);
    check_grid_init(&block->products, 1, MOULT_SCAN_ROWS, 1);
    for (size_t i = 0; i < (size_t)quads * MOULT_SCAN_ROWS * 4; i++)
        row_bytes(block)[i] = extreme ? 255 : (uint8_t)check_random();
    for (size_t i = 0; i < (size_t)quads * 8; i++) {
        int piece = (int)check_random_below(2 * PIECE_MOST + 1) - PIECE_MOST;

        pieces(block)[i] = (int8_t)(extreme ? sign * PIECE_MOST : piece);
    }
    block->offset = extreme ? sign * INT32_MAX : (int32_t)check_random() / 4;
}

static void close_block(struct block *block) {
    check_grid_release(&block->rows);
    check_grid_release(&block->query);
    check_grid_release(&block->products);
}

static int64_t exact(const struct block *block, uint32_t i) {
    int64_t sum = -(int64_t)block->offset;

    for (size_t quad = 0; quad < block->quads; quad++) {
        for (size_t c = 0; c < 4; c++)
            sum += row_bytes(block)[(quad * MOULT_SCAN_ROWS + i) * 4 + c] *
                   (pieces(block)[quad * 8 + c] * 128 + pieces(block)[quad * 8 + 4 + c]);
    }
    return sum;
}

static bool scan_right(const struct moult_kernels *kernels, uint32_t quads, bool extreme) {
    struct block block;
    bool passed = true;

    open_block(&block, quads, extreme);
    kernels->scan(row_bytes(&block), pieces(&block), quads, block.offset,
                  (int32_t *)block.products.floats);
    for (uint32_t i = 0; i < MOULT_SCAN_ROWS && passed; i++) {
        int32_t is = ((int32_t *)block.products.floats)[i];

        /* Where the sum itself does not fit, it is that modulo 2^32. */
        if ((uint32_t)is != (uint32_t)exact(&block, i))
            passed = check_because("%u quads: the product of row %u is %d, not %lld", quads, i, is,
                                   (long long)exact(&block, i));
    }
    passed = passed && check_grid_guarded(&block.rows) && check_grid_guarded(&block.query) &&
             check_grid_guarded(&block.products);
    close_block(&block);
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
