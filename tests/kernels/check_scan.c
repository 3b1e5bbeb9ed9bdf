/* scan and scan_row. What lies in the grids is four bytes more often than a float. */
#include <stdlib.h>
#include <string.h>

#include "check.h"

enum { PIECE_MOST = 64 };

struct scan {
    uint32_t octs;
    struct grid blocks[MOULT_SCAN_BLOCKS];  /* [1][(2 + octs) · MOULT_SCAN_ROWS] */
    struct grid pieces;                     /* [1][octs · 4] times four pieces */
    struct moult_scan_query query;
    struct grid memory;                     /* Of the result. */
    struct moult_scan_result *result;
};

static uint8_t *bytes_of(const struct grid *grid) {
    return (uint8_t *)grid->floats;
}

/* Pieces of one sign and the largest nibbles, where `extreme`. */
static void fill(struct grid *rows, struct grid *query, bool extreme) {
    int sign = check_random_below(2) ? 1 : -1;

    for (size_t i = 0; rows != NULL && i < (size_t)rows->columns * 4; i++)
        bytes_of(rows)[i] = extreme ? 255 : (uint8_t)(check_random() >> 20);
    for (size_t i = 0; query != NULL && i < (size_t)query->columns * 4; i++) {
        int piece = (int)check_random_below(2 * PIECE_MOST + 1) - PIECE_MOST;

        bytes_of(query)[i] = (uint8_t)(extreme ? sign * PIECE_MOST : piece);
    }
}

/* Bounds are near the threshold: about half of them reach it. */
static void open_scan(struct scan *scan, uint32_t octs, bool extreme) {
    scan->octs = octs;
    check_grid_init(&scan->pieces, 1, octs * 4, 1);
    fill(NULL, &scan->pieces, extreme);
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        float heads[2 * MOULT_SCAN_ROWS];

        check_grid_init(&scan->blocks[b], 1, (2 + octs) * MOULT_SCAN_ROWS, 1);
        memcpy(heads, scan->blocks[b].floats, sizeof(heads));
        fill(&scan->blocks[b], NULL, extreme);
        memcpy(scan->blocks[b].floats, heads, sizeof(heads));
    }
    check_grid_init(&scan->memory, 1, sizeof(*scan->result) / sizeof(float), 1);
    scan->result = (struct moult_scan_result *)scan->memory.floats;
    scan->query = (struct moult_scan_query){.pieces = (const int8_t *)scan->pieces.floats,
                                            .octs = octs,
                                            .offset = (int32_t)check_random() / 8,
                                            .width = check_random_float(1000),
                                            .threshold = check_random_float(1000)};
}

static void close_scan(struct scan *scan) {
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        check_grid_release(&scan->blocks[b]);
    check_grid_release(&scan->pieces);
    check_grid_release(&scan->memory);
}

static int64_t product(int nibble, const int8_t *high, const int8_t *low) {
    return nibble * (128 * *high + *low);
}

static int64_t exact(const struct scan *scan, unsigned block, unsigned row) {
    const uint8_t *rows = bytes_of(&scan->blocks[block]) + 2 * MOULT_SCAN_ROWS * 4 + row * 4;
    const int8_t *pieces = scan->query.pieces;
    int64_t sum = 0;

    for (uint32_t oct = 0; oct < scan->octs; oct++, rows += MOULT_SCAN_ROWS * 4, pieces += 16) {
        for (unsigned c = 0; c < 4; c++)
            sum += product(rows[c] & 15, pieces + c, pieces + c + 8) +
                   product(rows[c] >> 4, pieces + c + 4, pieces + c + 12);
    }
    return sum;
}

/* What is asked for ahead may be anywhere. */
static void run(const struct scan *scan, const struct moult_kernels *kernels) {
    const uint8_t *blocks[MOULT_SCAN_BLOCKS], *ahead[MOULT_SCAN_BLOCKS] = {NULL};

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        blocks[b] = bytes_of(&scan->blocks[b]);
    ahead[1] = blocks[0];
    kernels->scan(blocks, ahead, &scan->query, scan->result);
}

/* The bound is the one that the contract says, bit for bit. */
static bool row_right(const struct scan *scan, unsigned block, unsigned row) {
    const float *scales = scan->blocks[block].floats, *residuals = scales + MOULT_SCAN_ROWS;
    int64_t should = exact(scan, block, row);
    volatile float scaled = (float)(int32_t)(32 * should - scan->query.offset) * scales[row];
    volatile float wide = residuals[row] * scan->query.width, upper = scaled + wide;
    bool reached = upper >= scan->query.threshold;

    if (scan->result->products[block][row] != should)
        return check_because("%u octs: the product of row %u of block %u is %d, not %lld",
                             scan->octs, row, block, scan->result->products[block][row],
                             (long long)should);
    if (memcmp(&scan->result->uppers[block][row], (const void *)&upper, sizeof(upper)) != 0)
        return check_because("%u octs: the bound of row %u of block %u is %g, not %g", scan->octs,
                             row, block, (double)scan->result->uppers[block][row], (double)upper);
    if ((scan->result->reached[block] >> row & 1) != reached)
        return check_because("%u octs: row %u of block %u is said to reach the threshold, or not",
                             scan->octs, row, block);
    return true;
}

static bool scan_right(const struct moult_kernels *kernels, uint32_t octs, bool extreme) {
    struct scan scan;
    bool passed = true;

    open_scan(&scan, octs, extreme);
    run(&scan, kernels);
    for (unsigned i = 0; i < MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS && passed; i++)
        passed = row_right(&scan, i / MOULT_SCAN_ROWS, i % MOULT_SCAN_ROWS);
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        passed = passed && check_grid_guarded(&scan.blocks[b]);
    passed = passed && check_grid_guarded(&scan.pieces) && check_grid_guarded(&scan.memory);
    close_scan(&scan);
    return passed;
}

static bool scan_row_right(const struct moult_kernels *kernels, uint32_t units, bool extreme) {
    uint32_t bytes = units * MOULT_SCAN_ROW_UNIT;
    struct grid row, query;
    const int8_t *pieces;
    int64_t should = 0;
    int32_t is;
    bool passed;

    check_grid_init(&row, 1, bytes / 4, 1);
    check_grid_init(&query, 1, bytes, 1);
    fill(&row, &query, extreme);
    pieces = (const int8_t *)query.floats;
    for (uint32_t c = 0; c < bytes; c++)
        should += product(bytes_of(&row)[c] & 15, pieces + c, pieces + 2 * bytes + c) +
                  product(bytes_of(&row)[c] >> 4, pieces + bytes + c, pieces + 3 * bytes + c);
    is = kernels->scan_row(bytes_of(&row), pieces, bytes);
    passed = is == should ||
             check_because("%u bytes: the product is %d, not %lld", bytes, is, (long long)should);
    passed = passed && check_grid_guarded(&row) && check_grid_guarded(&query);
    check_grid_release(&row);
    check_grid_release(&query);
    return passed;
}

void check_scan(const struct moult_kernels *kernels) {
    bool passed = true;

    for (uint32_t octs = 1; octs <= 70 && passed; octs++)
        passed = scan_right(kernels, octs, false);
    check_ok(passed && scan_right(kernels, 1024, false), "%s: scan of 8 to 8,192 dimensions",
             kernels->name);
    passed = true;
    for (uint32_t octs = 1; octs <= 32 && passed; octs = 2 * octs + 1)
        passed = scan_right(kernels, octs, true) && scan_right(kernels, octs, true);
    check_ok(passed, "%s: scan of the largest nibbles and pieces", kernels->name);
    passed = true;
    for (uint32_t units = 1; units <= 70 && passed; units++)
        passed = scan_row_right(kernels, units, false);
    check_ok(passed && scan_row_right(kernels, 128, false),
             "%s: scan_row of 64 to 8,192 dimensions", kernels->name);
    passed = true;
    for (uint32_t units = 1; units <= 128 && passed; units = 2 * units + 1)
        passed = scan_row_right(kernels, units, true) && scan_row_right(kernels, units, true);
    check_ok(passed, "%s: scan_row of the largest nibbles and pieces", kernels->name);
}
