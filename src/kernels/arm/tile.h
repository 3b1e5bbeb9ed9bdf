/* The tiles of the ARM64 levels, over the registers of neon.h and BYTE_GROUP of the including file:
 * those of floats and of words. Bytes differ by level: multiply_bytes_tile() is in its file.
 *
 * No tile asks for memory in advance. These CPUs see a panel that is read in order by themselves,
 * and whether they gain by being told nobody has measured. */
#include "kernels/tile.h"

#define REGISTER "w"

enum {
    WORD_GROUP = 1,
    PEAK_SUMS = 24
};

/* total + w · x[lane]. The lane is part of the instruction, and a literal for the compiler. */
ALWAYS_INLINE vector add_product(vector total, vector w, vector x, const unsigned lane) {
    switch (lane) {
    case 0:
        return vfmaq_laneq_f32(total, w, x, 0);
    case 1:
        return vfmaq_laneq_f32(total, w, x, 1);
    case 2:
        return vfmaq_laneq_f32(total, w, x, 2);
    default:
        return vfmaq_laneq_f32(total, w, x, 3);
    }
}

/* total [rows][vectors] += one lane of each row of x, times the panel's line of it. */
ALWAYS_INLINE void add_line(const unsigned rows, const unsigned vectors,
                            vector total[TILE_ROWS][TILE_VECTORS], const vector *x,
                            const unsigned lane, const float *panel) {
    vector w[TILE_VECTORS];

    UNROLL
    for (unsigned j = 0; j < vectors; j++)
        w[j] = load(panel + j * LANES);
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            total[i][j] = add_product(total[i][j], w[j], x[i], lane);
    }
}

/* sums [rows][vectors · LANES] = x [rows][K] · panel [K][vectors · LANES]. */
ALWAYS_INLINE void multiply_tile(const unsigned rows, const unsigned vectors, const float *x,
                                 size_t x_stride, const float *panel, uint32_t K, float *sums,
                                 size_t sums_stride, const struct ahead *ahead) {
    vector total[TILE_ROWS][TILE_VECTORS], value[TILE_ROWS];
    size_t line = vectors * LANES;
    uint32_t k = 0;

    (void)ahead;
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            total[i][j] = broadcast(0);
    }
    for (; k + LANES <= K; k += LANES) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            value[i] = load(x + i * x_stride + k);
        UNROLL
        for (unsigned lane = 0; lane < LANES; lane++)
            add_line(rows, vectors, total, value, lane, panel + lane * line);
        panel += LANES * line;
    }
    for (; k < K; k++) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            value[i] = vld1q_dup_f32(x + i * x_stride + k);
        add_line(rows, vectors, total, value, 0, panel);
        panel += line;
    }
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            store(sums + i * sums_stride + j * LANES, total[i][j]);
    }
}

/* Integers. */

/* total [PANEL] += w [PANEL] · x[lane]. */
ALWAYS_INLINE void add_word_products(ints total[TILE_VECTORS], int16x8_t w, int16x8_t x,
                                     const unsigned lane) {
#define ADD_LANE(lane) \
    case lane: \
        total[0] = vmlal_laneq_s16(total[0], vget_low_s16(w), x, lane); \
        total[1] = vmlal_high_laneq_s16(total[1], w, x, lane); \
        break;

    switch (lane) {
        ADD_LANE(0)
        ADD_LANE(1)
        ADD_LANE(2)
        ADD_LANE(3)
        ADD_LANE(4)
        ADD_LANE(5)
        ADD_LANE(6)
        ADD_LANE(7)
    }
#undef ADD_LANE
}

/* Weights of PANEL outputs, of bytes as words. */
ALWAYS_INLINE int16x8_t load_weights(const char *panel, const bool bytes) {
    return bytes ? vmovl_s8(vld1_s8((const int8_t *)panel))
                 : vld1q_s16((const int16_t *)(const void *)panel);
}

/* sums [rows][PANEL] = what the integers `total` stand for. A level whose x was lower by `shift`
 * than it should be adds that again, once for each weight. */
ALWAYS_INLINE void finish_integers(const unsigned rows, const bool bytes,
                                   ints total[TILE_ROWS][TILE_VECTORS],
                                   const struct tile_weights *w, const struct tile_rows *x,
                                   const int32_t shift, float *sums) {
    UNROLL
    for (unsigned j = 0; j < TILE_VECTORS; j++) {
        vector scales = load(w->scales + j * LANES);

        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            ints sum = total[i][j];

            if (bytes)
                sum = vmlsq_n_s32(sum, load_ints(w->sums + j * LANES), x->zeros[i] - shift);
            store(sums + i * PANEL + j * LANES,
                  mul(mul(to_floats(sum), scales), broadcast(x->scales[i])));
        }
    }
}

/* sums [rows][PANEL] = the products of rows of words and a panel, as floats. */
ALWAYS_INLINE void multiply_as_words(const unsigned rows, const bool bytes,
                                     const struct tile_weights *w, const struct tile_rows *x,
                                     float *sums) {
    enum { WORDS = 8 };
    const size_t line = bytes ? PANEL : PANEL * 2;
    const char *panel = w->panel, *values = x->values;
    ints total[TILE_ROWS][TILE_VECTORS];
    int16x8_t value[TILE_ROWS];
    uint32_t k = 0;

    UNROLL
    for (unsigned i = 0; i < rows; i++)
        total[i][0] = total[i][1] = no_ints();
    for (; k + WORDS <= w->steps; k += WORDS) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            value[i] = vld1q_s16((const int16_t *)(const void *)(values + i * x->stride));
        UNROLL
        for (unsigned lane = 0; lane < WORDS; lane++) {
            int16x8_t part = load_weights(panel, bytes);

            UNROLL
            for (unsigned i = 0; i < rows; i++)
                add_word_products(total[i], part, value[i], lane);
            panel += line;
        }
        values += WORDS * 2;
    }
    for (; k < w->steps; k++) {
        int16x8_t part = load_weights(panel, bytes);

        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            value[i] = vld1q_dup_s16((const int16_t *)(const void *)(values + i * x->stride));
            add_word_products(total[i], part, value[i], 0);
        }
        panel += line;
        values += 2;
    }
    finish_integers(rows, bytes, total, w, x, 0, sums);
}

ALWAYS_INLINE void multiply_words_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    (void)ahead;
    multiply_as_words(rows, false, w, x, sums);
}

/* LANES products and sums, for the peak. */
static inline ints add_words(ints sum, ints x, ints w) {
    return vmlal_s16(sum, vget_low_s16(vreinterpretq_s16_s32(x)),
                     vget_low_s16(vreinterpretq_s16_s32(w)));
}
