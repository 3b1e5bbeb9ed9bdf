/* The level of CPUs with dot products of four bytes: ARMv8.2 with the extension, 8.4 and later.
 *
 * sdot wants two signed bytes, and x is unsigned: so 128 is taken from each x, a flip of its
 * highest bit, and the sum of the weights is added 128 times at the end. A sum stays below
 * 128 · 127 · 32,768 on its way. */
#include "kernels/arm/neon.h"

enum { BYTE_GROUP = 4, SHIFT = 128 };

#include "kernels/arm/tile.h"

/* total [LANES] += for each lane the products of four weights with lane `lane` of x. */
ALWAYS_INLINE ints add_dots(ints total, int8x16_t w, int8x16_t x, const unsigned lane) {
    switch (lane) {
    case 0:
        return vdotq_laneq_s32(total, w, x, 0);
    case 1:
        return vdotq_laneq_s32(total, w, x, 1);
    case 2:
        return vdotq_laneq_s32(total, w, x, 2);
    default:
        return vdotq_laneq_s32(total, w, x, 3);
    }
}

ALWAYS_INLINE int8x16_t shifted(uint8x16_t x) {
    return vreinterpretq_s8_u8(veorq_u8(x, vdupq_n_u8(SHIFT)));
}

ALWAYS_INLINE uint8x16_t four_bytes(const char *from) {
    uint32_t four;

    memcpy(&four, from, sizeof(four));
    return vreinterpretq_u8_u32(vdupq_n_u32(four));
}

/* total [rows][PANEL] += lane `lane` of each row, times the panel's line of it. */
ALWAYS_INLINE void add_byte_line(const unsigned rows, ints total[TILE_ROWS][TILE_VECTORS],
                                 const int8x16_t *x, const unsigned lane, const int8_t *panel) {
    int8x16_t low = vld1q_s8(panel), high = vld1q_s8(panel + 16);

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        total[i][0] = add_dots(total[i][0], low, x[i], lane);
        total[i][1] = add_dots(total[i][1], high, x[i], lane);
    }
}

ALWAYS_INLINE void multiply_bytes_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    enum { LINE = PANEL * BYTE_GROUP };
    const int8_t *panel = (const int8_t *)w->panel;
    const char *values = x->values;
    ints total[TILE_ROWS][TILE_VECTORS];
    int8x16_t value[TILE_ROWS];
    uint32_t k = 0;

    (void)ahead;
    UNROLL
    for (unsigned i = 0; i < rows; i++)
        total[i][0] = total[i][1] = no_ints();
    for (; k + LANES <= w->steps; k += LANES) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            value[i] = shifted(vld1q_u8((const uint8_t *)values + i * x->stride));
        UNROLL
        for (unsigned lane = 0; lane < LANES; lane++)
            add_byte_line(rows, total, value, lane, panel + lane * LINE);
        panel += LANES * LINE;
        values += LANES * BYTE_GROUP;
    }
    for (; k < w->steps; k++) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            value[i] = shifted(four_bytes(values + i * x->stride));
        add_byte_line(rows, total, value, 0, panel);
        panel += LINE;
        values += BYTE_GROUP;
    }
    finish_integers(rows, true, total, w, x, SHIFT, sums);
}

static inline ints add_bytes(ints sum, ints x, ints w) {
    return vdotq_s32(sum, vreinterpretq_s8_s32(x), vreinterpretq_s8_s32(w));
}

#define LEVEL moult_kernels_neondot
#define LEVEL_NAME "neondot"
#define LEVEL_SCAN moult_scan_neondot
#define LEVEL_SCAN_ROW moult_scan_row_neondot
#include "kernels/f32.h"
