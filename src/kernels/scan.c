/* The scan of an index in plain C. */
#include "kernels/levels.h"

/* Modulo 2^32, as in the other levels: the sum itself fits. */
static void scan_block(const uint8_t *block, const int8_t *query, uint32_t quads, int32_t offset,
                       int32_t products[MOULT_SCAN_ROWS]) {
    uint32_t sums[MOULT_SCAN_ROWS];

    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        sums[i] = 0u - (uint32_t)offset;
    for (size_t quad = 0; quad < quads; quad++) {
        const uint8_t *u = block + quad * MOULT_SCAN_ROWS * 4;
        const int8_t *high = query + quad * 8, *low = high + 4;
        int32_t z[4];

        for (unsigned c = 0; c < 4; c++)
            z[c] = 128 * high[c] + low[c];
        for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
            sums[i] += (uint32_t)(u[4 * i] * z[0] + u[4 * i + 1] * z[1] + u[4 * i + 2] * z[2] +
                                  u[4 * i + 3] * z[3]);
    }
    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        products[i] = (int32_t)sums[i];
}

void moult_scan_c(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                  const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                  uint32_t quads, int32_t offset,
                  int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    (void)ahead;
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        scan_block(blocks[b], query, quads, offset, products[b]);
}
