/* The tiles of the x86 levels, over the registers that the including file describes: `vector` of
 * floats and `ints` of 32-bit integers, of which add_words() and add_bytes() add LANES dot products
 * of 4 bytes. */
#include "kernels/tile.h"

#define REGISTER "x"

enum {
    PANEL_LINES = PANEL * 4 / 64,           /* Cache lines of a panel per k. */
    L1_AHEAD = 2 * 1024,                    /* Bytes that a tile fetches from L2 in advance. */
    WORD_GROUP = 2,
    BYTE_STEP = PANEL * BYTE_GROUP,         /* Bytes of a panel for each step of INT8, */
    WORD_STEP = PANEL * 4,                  /* and of INT16. */
    PEAK_SUMS = 12
};

/* sums [rows][vectors · LANES] = x [rows][K] · panel [K][vectors · LANES]. */
ALWAYS_INLINE void multiply_floats(const unsigned rows, const unsigned vectors,
                                   const unsigned fetches, const float *x, size_t x_stride,
                                   const float *panel, uint32_t K, float *sums,
                                   size_t sums_stride, const struct ahead *ahead) {
    vector total[TILE_ROWS][TILE_VECTORS];
    const char *fetched = ahead == NULL ? NULL : ahead->at;
    size_t step = ahead == NULL ? 0 : ahead->step;

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            total[i][j] = broadcast(0);
    }
    for (uint32_t k = 0; k < K; k++) {
        vector w[TILE_VECTORS];

        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            w[j] = load(panel + j * LANES);
        if (ahead != NULL) {
            UNROLL
            for (unsigned j = 0; j < fetches; j++)
                _mm_prefetch(fetched + 64 * j, _MM_HINT_T1);
            fetched += step;
            UNROLL
            for (unsigned j = 0; j < PANEL_LINES; j++)
                _mm_prefetch((const char *)panel + L1_AHEAD + 64 * j, _MM_HINT_T0);
        }
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            vector value = broadcast(x[i * x_stride + k]);

            UNROLL
            for (unsigned j = 0; j < vectors; j++)
                total[i][j] = fma_add(value, w[j], total[i][j]);
        }
        panel += vectors * LANES;
    }
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            store(sums + i * sums_stride + j * LANES, total[i][j]);
    }
}

/* Where many tiles share what lies ahead, the next line is often the one that was asked for last:
 * a step then asks for one, and not for as many as a panel has. */
ALWAYS_INLINE void multiply_tile(const unsigned rows, const unsigned vectors, const float *x,
                                 size_t x_stride, const float *panel, uint32_t K, float *sums,
                                 size_t sums_stride, const struct ahead *ahead) {
    if (ahead != NULL && ahead->step > 64)
        multiply_floats(rows, vectors, PANEL_LINES, x, x_stride, panel, K, sums, sums_stride,
                        ahead);
    else
        multiply_floats(rows, vectors, 1, x, x_stride, panel, K, sums, sums_stride, ahead);
}

ALWAYS_INLINE ints load_weights(const char *panel, const bool bytes, const unsigned j) {
    if (bytes && BYTE_GROUP == 2)
        return load_widened((const int8_t *)panel + j * LANES * 2);
    return load_ints(panel + j * LANES * 4);
}

ALWAYS_INLINE ints four_bytes(const char *from) {
    int32_t four;

    memcpy(&four, from, sizeof(four));
    return all_ints(four);
}

/* sums [rows][PANEL] = the products of rows and panel, as floats. Of what lies ahead each step asks
 * for `fetches` lines. */
ALWAYS_INLINE void multiply_integers_tile(const unsigned rows, const bool bytes,
                                          const unsigned fetches, const struct tile_weights *w,
                                          const struct tile_rows *x, float *sums,
                                          const struct ahead *ahead) {
    const unsigned step = bytes ? BYTE_STEP : WORD_STEP;
    const char *panel = w->panel, *values = x->values, *fetched = ahead->at;
    size_t stride = x->stride;
    ints total[TILE_ROWS][TILE_VECTORS];

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < TILE_VECTORS; j++)
            total[i][j] = no_ints();
    }
    for (uint32_t k = 0; k < w->steps; k++) {
        ints part[TILE_VECTORS];

        UNROLL
        for (unsigned j = 0; j < TILE_VECTORS; j++)
            part[j] = load_weights(panel, bytes, j);
        UNROLL
        for (unsigned j = 0; j < fetches; j++)
            _mm_prefetch(fetched + 64 * j, _MM_HINT_T1);
        fetched += ahead->step;
        UNROLL
        for (unsigned j = 0; j < step / 64; j++)
            _mm_prefetch(panel + L1_AHEAD + 64 * j, _MM_HINT_T0);
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            ints four = four_bytes(values + i * stride);

            UNROLL
            for (unsigned j = 0; j < TILE_VECTORS; j++)
                total[i][j] = bytes ? add_bytes(total[i][j], four, part[j])
                                    : add_words(total[i][j], four, part[j]);
        }
        panel += step;
        values += 4;
    }
    UNROLL
    for (unsigned j = 0; j < TILE_VECTORS; j++) {
        vector scales = load(w->scales + j * LANES);

        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            ints sum = total[i][j];

            if (bytes)
                sum = sub_ints(sum, mul_ints(load_ints(w->sums + j * LANES),
                                               all_ints(x->zeros[i])));
            store(sums + i * PANEL + j * LANES,
                  mul(mul(to_floats(sum), scales), broadcast(x->scales[i])));
        }
    }
}

ALWAYS_INLINE void multiply_words_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    if (ahead->step <= 64)
        multiply_integers_tile(rows, false, 1, w, x, sums, ahead);
    else
        multiply_integers_tile(rows, false, WORD_STEP / 64, w, x, sums, ahead);
}

ALWAYS_INLINE void multiply_bytes_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    if (ahead->step <= 64)
        multiply_integers_tile(rows, true, 1, w, x, sums, ahead);
    else
        multiply_integers_tile(rows, true, BYTE_STEP / 64, w, x, sums, ahead);
}
