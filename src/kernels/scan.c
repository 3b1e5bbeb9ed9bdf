/* The scan of an index in plain C. */
#include <string.h>

#include "kernels/levels.h"

static int32_t value(int8_t high, int8_t low) {
    return 128 * high + low;
}

static void multiply(const uint8_t *nibbles, const struct moult_scan_query *query,
                     int32_t products[MOULT_SCAN_ROWS]) {
    memset(products, 0, MOULT_SCAN_ROWS * sizeof(*products));
    for (size_t oct = 0; oct < query->octs; oct++) {
        const uint8_t *u = nibbles + oct * MOULT_SCAN_ROWS * 4;
        const int8_t *high = query->pieces + oct * 16, *low = high + 8;

        for (unsigned c = 0; c < 4; c++) {
            int32_t first = value(high[c], low[c]), other = value(high[c + 4], low[c + 4]);

            for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
                products[i] += (u[4 * i + c] & 15) * first + (u[4 * i + c] >> 4) * other;
        }
    }
}

void moult_scan_c(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                  const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                  const struct moult_scan_query *query, struct moult_scan_result *result) {
    (void)ahead;
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        const float *scales = (const float *)blocks[b], *residuals = scales + MOULT_SCAN_ROWS;
        int32_t *products = result->products[b];

        multiply((const uint8_t *)(residuals + MOULT_SCAN_ROWS), query, products);
        result->reached[b] = 0;
        for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++) {
            uint32_t whole = 32u * (uint32_t)products[i] - (uint32_t)query->offset;
            float upper = (float)(int32_t)whole * scales[i] + residuals[i] * query->width;

            result->uppers[b][i] = upper;
            result->reached[b] |= (uint16_t)((upper >= query->threshold) << i);
        }
    }
}

int32_t moult_scan_row_c(const uint8_t *row, const int8_t *query, uint32_t bytes) {
    const int8_t *low = query + (size_t)2 * bytes;
    int32_t sum = 0;

    for (size_t c = 0; c < bytes; c++)
        sum += (row[c] & 15) * value(query[c], low[c]) +
               (row[c] >> 4) * value(query[bytes + c], low[bytes + c]);
    return sum;
}
