/* The level of CPUs that multiply matrices of bytes (ARMv8.6, and some of 8.2 on). usmmla takes two
 * rows of eight unsigned bytes and eight signed bytes of two outputs, and adds four sums:
 *
 *     row 0 · output 0    row 0 · output 1    row 1 · output 0    row 1 · output 1
 *
 * twice as many products as a dot product has. So rows go in pairs, and the last of an odd number
 * of them with itself. */
#include "kernels/arm/neon.h"

enum { BYTE_GROUP = 8 };

#include "kernels/arm/tile.h"

enum { PAIRS = PANEL / 2 };     /* Of outputs. */

/* Sums of two rows, pair by pair, as rows of PANEL sums. */
ALWAYS_INLINE void part_rows(ints first[TILE_VECTORS], ints second[TILE_VECTORS],
                             const ints total[PAIRS]) {
    UNROLL
    for (unsigned j = 0; j < TILE_VECTORS; j++) {
        int64x2_t a = vreinterpretq_s64_s32(total[2 * j]);
        int64x2_t b = vreinterpretq_s64_s32(total[2 * j + 1]);

        first[j] = vreinterpretq_s32_s64(vtrn1q_s64(a, b));
        second[j] = vreinterpretq_s32_s64(vtrn2q_s64(a, b));
    }
}

ALWAYS_INLINE void multiply_bytes_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    const int8_t *panel = (const int8_t *)w->panel;
    const uint8_t *values = (const uint8_t *)x->values;
    ints total[TILE_ROWS / 2][PAIRS], parted[TILE_ROWS][TILE_VECTORS];

    (void)ahead;
    UNROLL
    for (unsigned i = 0; i < rows; i += 2) {
        UNROLL
        for (unsigned j = 0; j < PAIRS; j++)
            total[i / 2][j] = no_ints();
    }
    for (uint32_t k = 0; k < w->steps; k++) {
        int8x16_t part[PAIRS];

        UNROLL
        for (unsigned j = 0; j < PAIRS; j++)
            part[j] = vld1q_s8(panel + j * 2 * BYTE_GROUP);
        UNROLL
        for (unsigned i = 0; i < rows; i += 2) {
            uint8x8_t first = vld1_u8(values + i * x->stride);
            uint8x8_t second = i + 1 < rows ? vld1_u8(values + (i + 1) * x->stride) : first;
            uint8x16_t both = vcombine_u8(first, second);

            UNROLL
            for (unsigned j = 0; j < PAIRS; j++)
                total[i / 2][j] = vusmmlaq_s32(total[i / 2][j], both, part[j]);
        }
        panel += PANEL * BYTE_GROUP;
        values += BYTE_GROUP;
    }
    UNROLL
    for (unsigned i = 0; i < rows; i += 2) {
        ints beyond[TILE_VECTORS];

        part_rows(parted[i], i + 1 < rows ? parted[i + 1] : beyond, total[i / 2]);
    }
    finish_integers(rows, true, parted, w, x, 0, sums);
}

static inline ints add_bytes(ints sum, ints x, ints w) {
    return vusmmlaq_s32(sum, vreinterpretq_u8_s32(x), vreinterpretq_s8_s32(w));
}

#define LEVEL moult_kernels_neoni8mm
#define LEVEL_NAME "neoni8mm"
#define LEVEL_SCAN moult_scan_neondot
#define LEVEL_SCAN_ROW moult_scan_row_neondot
#include "kernels/f32.h"
