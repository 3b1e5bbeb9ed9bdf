/* The f32 kernels of one level, over the registers that the including file describes:
 * `vector` and `lanes`, LANES floats each, and what can be done with them; and over the tiles of
 * its CPU, <cpu>/tile.h. Everything here is static, down to the last leaf: these functions exist
 * once per level, each compiled for it, and a linker must never have to choose between two of the
 * same name.
 *
 * One routine does nearly all of the work, multiply_tile(): rows of x times a panel, where a
 * panel [K][vectors · LANES] holds for each k in turn what is multiplied with x[k]. `linear`
 * feeds it with packed weights, attention with the keys of a head (K = D) and then with its
 * values (K = L). Each sum has one accumulator and takes k in order, in every variant of
 * the tile: a row's bits do not depend on how many rows share its tile.
 *
 * Outputs beyond the last are padding, zeros in the panel: computed and not stored. */

enum {
    L2_AHEAD = 6 * 1024,                    /* Bytes that a tile asks for in advance from beyond
                                               L2, where it reads them once. */
    SIDE_BY_SIDE = 2 * TILE_VECTORS,        /* Vectors that walk through a polynomial together. */
    BLOCK_FLOATS = 96 * 1024                /* Of x, so that they stay in L2 beside a panel. */
};

/* Every count of rows is a function of its own, in which that and `vectors` are constants. */
typedef void multiply_function(const float *x, size_t x_stride, const float *panel, uint32_t K,
                               unsigned vectors, float *sums, size_t sums_stride,
                               const struct ahead *ahead);

#define MULTIPLY(rows) \
    static void multiply_##rows(const float *x, size_t x_stride, const float *panel, uint32_t K, \
                                unsigned vectors, float *sums, size_t sums_stride, \
                                const struct ahead *ahead) { \
        if (ahead != NULL) \
            multiply_tile(rows, TILE_VECTORS, x, x_stride, panel, K, sums, sums_stride, ahead); \
        else if (vectors == TILE_VECTORS) \
            multiply_tile(rows, TILE_VECTORS, x, x_stride, panel, K, sums, sums_stride, NULL); \
        else if (vectors == 2) \
            multiply_tile(rows, 2, x, x_stride, panel, K, sums, sums_stride, NULL); \
        else \
            multiply_tile(rows, 1, x, x_stride, panel, K, sums, sums_stride, NULL); \
    }
#define MULTIPLY_ENTRY(rows) multiply_##rows,

FOR_EACH_ROWS(MULTIPLY)
static multiply_function *const multiply[] = {NULL, FOR_EACH_ROWS(MULTIPLY_ENTRY)};

/* How many of `left` rows the next tile takes, so that all tiles are about equally high: 9 rows
 * are 5 and 4, since a tile of one waits for its own additions. */
static unsigned rows_of_tile(uint32_t left) {
    uint32_t tiles = (left + TILE_ROWS - 1) / TILE_ROWS;

    return (left + tiles - 1) / tiles;
}

/* Functions of one variable. */

/* x · Φ(x), where Φ(x) = 1/2 + x · h(x²): a polynomial, found by weighted least squares for an
 * error of gelu below 1e-7 · max(1, |x|), in t = 2·x²/c² - 1, which lies in [-1, 1]. Beyond c it
 * stands still. c is the float near 5.25 for which c · h(c²), rounded, is nearest to 1/2:
 * there gelu(x) is x or within 1e-11 of 0, as it should be.
 *
 * Each step waits four cycles for the one before, so several x walk side by side. */
ALWAYS_INLINE void gelu(vector *x, const unsigned count) {
    static const float h[] = {
        0.13464278f,    -0.067118645f,  0.04963922f,     -0.039768595f,  0.032060936f,
        -0.024977654f,  0.018353313f,   -0.013044458f,   0.009022625f,   -0.0049589914f,
        0.0019295295f,  -0.0014818979f, 0.001435418f,    -0.00050724856f};
    const float c = 5.2506485f;
    vector near[SIDE_BY_SIDE], t[SIDE_BY_SIDE], sum[SIDE_BY_SIDE];

    UNROLL
    for (unsigned i = 0; i < count; i++) {
        near[i] = larger(broadcast(-c), smaller(broadcast(c), x[i]));
        t[i] = fma_add(mul(near[i], near[i]), broadcast(2 / (c * c)), broadcast(-1));
        sum[i] = broadcast(h[13]);
    }
    UNROLL
    for (int term = 12; term >= 0; term--) {
        UNROLL
        for (unsigned i = 0; i < count; i++)
            sum[i] = fma_add(sum[i], t[i], broadcast(h[term]));
    }
    UNROLL
    for (unsigned i = 0; i < count; i++)
        x[i] = mul(x[i], fma_add(near[i], sum[i], broadcast(0.5f)));
}

/* 2^x for x <= 0, relative error below 2e-7; below -125 it stays at 2^-125, far from the
 * denormal numbers. Adding 1.5·2^23 rounds x to a whole number n, left in the low bits; the
 * rest, in [-1/2, 1/2] and exact, goes through a polynomial of degree 5. */
static vector power_of_two(vector x) {
    const vector shift = broadcast(12582912.0f);
    vector y = larger(broadcast(-125), x);
    vector shifted = add(y, shift);
    vector rest = sub(y, sub(shifted, shift));
    vector sum = broadcast(0.0013264735f);

    sum = fma_add(sum, rest, broadcast(0.009671513f));
    sum = fma_add(sum, rest, broadcast(0.055507336f));
    sum = fma_add(sum, rest, broadcast(0.24022242f));
    sum = fma_add(sum, rest, broadcast(0.693147f));
    sum = fma_add(sum, rest, broadcast(1));
    return scale_by_power(sum, shifted);
}

/* Linear. */

/* Finishes one or two rows of sums [rows][PANEL] into y. */
ALWAYS_INLINE void finish_rows(const unsigned rows, float *y, size_t y_stride, const float *sums,
                               const float *bias, const lanes *some,
                               enum moult_epilogue epilogue) {
    vector sum[SIDE_BY_SIDE];

    UNROLL
    for (unsigned i = 0; i < rows * TILE_VECTORS; i++)
        sum[i] = add(load(sums + i * LANES), load(bias + i % TILE_VECTORS * LANES));
    if (epilogue == MOULT_EPILOGUE_GELU)
        gelu(sum, rows * TILE_VECTORS);
    UNROLL
    for (unsigned i = 0; i < rows * TILE_VECTORS; i++) {
        unsigned j = i % TILE_VECTORS;
        float *to = y + i / TILE_VECTORS * y_stride + j * LANES;

        if (epilogue == MOULT_EPILOGUE_ADD)
            sum[i] = add(load_some(to, some[j]), sum[i]);
        store_some(to, some[j], sum[i]);
    }
}

/* The same for a tile, into its `columns` columns of y. */
static void finish_tile(float *y, size_t y_stride, const float *sums, const float *bias,
                        unsigned rows, uint32_t columns, enum moult_epilogue epilogue) {
    lanes some[TILE_VECTORS];
    unsigned i = 0;

    for (unsigned j = 0; j < TILE_VECTORS; j++)
        some[j] = first_lanes(columns > j * LANES ? columns - j * LANES : 0);
    for (; i + 2 <= rows; i += 2)
        finish_rows(2, y + i * y_stride, y_stride, sums + i * PANEL, bias, some, epilogue);
    if (i < rows)
        finish_rows(1, y + i * y_stride, y_stride, sums + i * PANEL, bias, some, epilogue);
}

/* Rows [0, T) times one panel; T is small enough that x stays in L2. Meanwhile the next panel is
 * fetched from wherever it lies, each tile asking for its share of it. */
static void linear_panel(const struct moult_panels *w, uint32_t p, const float *x, size_t x_stride,
                         float *y, size_t y_stride, uint32_t T, enum moult_epilogue epilogue) {
    const float *panel = w->values + (size_t)p * w->inputs * PANEL;
    uint32_t column = p * PANEL, columns = w->outputs - column;
    uint32_t tiles = (T + TILE_ROWS - 1) / TILE_ROWS;
    size_t panel_bytes = (size_t)w->inputs * PANEL * sizeof(float);
    _Alignas(64) float sums[TILE_ROWS * PANEL];
    struct ahead ahead = {(const char *)panel + (tiles == 1 ? L2_AHEAD : panel_bytes),
                          PANEL * sizeof(float) / tiles};

    for (uint32_t t = 0; t < T;) {
        unsigned rows = rows_of_tile(T - t);

        multiply[rows](x + t * x_stride, x_stride, panel, w->inputs, TILE_VECTORS, sums, PANEL,
                       &ahead);
        finish_tile(y + t * y_stride + column, y_stride, sums, w->bias + column, rows, columns,
                    epilogue);
        ahead.at += ahead.step * w->inputs;
        t += rows;
    }
}

static void linear(const struct moult_panels *w, const float *x, size_t x_stride, float *y,
                   size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                   enum moult_epilogue epilogue) {
    uint32_t block = BLOCK_FLOATS / w->inputs / TILE_ROWS * TILE_ROWS;

    if (block < TILE_ROWS)
        block = TILE_ROWS;
    for (uint32_t t = 0; t < T; t += block) {
        uint32_t rows = T - t < block ? T - t : block;

        for (uint32_t p = panel_first; p < panel_end; p++)
            linear_panel(w, p, x + t * x_stride, x_stride, y + t * y_stride, y_stride, rows,
                         epilogue);
    }
}

#include "kernels/attention.h"

/* Rows. */

/* Four sums at a time, since one would wait for itself; then the rest; then all lanes. */
static float sum_row(const float *x, uint32_t C) {
    vector total[4] = {broadcast(0), broadcast(0), broadcast(0), broadcast(0)};
    uint32_t c = 0;

    for (; c + 4 * LANES <= C; c += 4 * LANES) {
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            total[i] = add(total[i], load(x + c + i * LANES));
    }
    for (; c < C; c += LANES)
        total[0] = add(total[0], load_some(x + c, first_lanes(C - c)));
    return sum_of(add(add(total[0], total[1]), add(total[2], total[3])));
}

static float dot(const float *a, const float *b, uint32_t C) {
    vector total[4] = {broadcast(0), broadcast(0), broadcast(0), broadcast(0)};
    uint32_t c = 0;

    for (; c + 4 * LANES <= C; c += 4 * LANES) {
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            total[i] = fma_add(load(a + c + i * LANES), load(b + c + i * LANES), total[i]);
    }
    for (; c < C; c += LANES) {
        lanes some = first_lanes(C - c);

        total[0] = fma_add(load_some(a + c, some), load_some(b + c, some), total[0]);
    }
    return sum_of(add(add(total[0], total[1]), add(total[2], total[3])));
}

/* Subtracts the mean, and later what its rounding has left over, since a row may lie far from
 * zero. To the variance that rest would add its square, which is nothing. */
static void layer_norm_row(float *row, uint32_t C, const float *gamma, const float *beta,
                           float epsilon) {
    vector mean = broadcast(sum_row(row, C) / (float)C), factor;

    for (uint32_t c = 0; c < C; c += LANES) {
        lanes some = first_lanes(C - c);

        store_some(row + c, some, sub(load_some(row + c, some), mean));
    }
    mean = broadcast(sum_row(row, C) / (float)C);
    factor = broadcast(1 / sqrtf(dot(row, row, C) / (float)C + epsilon));
    for (uint32_t c = 0; c < C; c += LANES) {
        lanes some = first_lanes(C - c);
        vector normal = mul(sub(load_some(row + c, some), mean), factor);

        store_some(row + c, some,
                   fma_add(normal, load_some(gamma + c, some), load_some(beta + c, some)));
    }
}

static void layer_norm(float *x, size_t stride, uint32_t T, uint32_t C, const float *gamma,
                       const float *beta, float epsilon) {
    for (uint32_t t = 0; t < T; t++)
        layer_norm_row(x + t * stride, C, gamma, beta, epsilon);
}

static void add3(float *out, const float *a, const float *b, const float *c, uint32_t C) {
    for (uint32_t i = 0; i < C; i += LANES) {
        lanes some = first_lanes(C - i);

        store_some(out + i, some, add(add(load_some(a + i, some), load_some(b + i, some)),
                                      load_some(c + i, some)));
    }
}

ALWAYS_INLINE void mean_of_columns(float *out, const float *x, size_t stride, uint32_t L,
                                   const uint32_t count) {
    double sums[LANES] = {0};

    for (uint32_t i = 0; i < L; i++) {
        for (uint32_t c = 0; c < count; c++)
            sums[c] += (double)x[i * stride + c];
    }
    for (uint32_t c = 0; c < count; c++)
        out[c] = (float)(sums[c] / L);
}

/* In double, since L may be long; the compiler finds the registers. */
static void mean(float *out, const float *x, size_t stride, uint32_t L, uint32_t C) {
    uint32_t c = 0;

    for (; c + LANES <= C; c += LANES)
        mean_of_columns(out + c, x + c, stride, L, LANES);
    for (; c < C; c++)
        mean_of_columns(out + c, x + c, stride, L, 1);
}

static void unit(float *x, uint32_t C) {
    float norm = sqrtf(dot(x, x, C));
    vector factor = broadcast(1 / (norm < 1e-12f ? 1e-12f : norm));

    for (uint32_t c = 0; c < C; c += LANES) {
        lanes some = first_lanes(C - c);

        store_some(x + c, some, mul(load_some(x + c, some), factor));
    }
}

#include "kernels/integers.h"
#ifdef LEVEL_ATTENTION_WORDS
#include "kernels/x86/attention_words.h"
#endif

const struct moult_kernels LEVEL = {
    .name = LEVEL_NAME,
    .panel = PANEL,
    .rows_block = 64,
    .linear = linear,
    .int16 = {.group = WORD_GROUP, .weight_bytes = 2, .value_bytes = 2},
    .int8 = {.group = BYTE_GROUP, .weight_bytes = 1, .value_bytes = VALUE_BYTES},
    .integers = integers,
    .linear_integers = linear_integers,
    .attention = attention,
#ifdef LEVEL_ATTENTION_WORDS
    .attention_words = LEVEL_ATTENTION_WORDS,
#endif
    .layer_norm = layer_norm,
    .add3 = add3,
    .mean = mean,
    .unit = unit,
    .dot = dot,
    .peak = peak,
    .scan = LEVEL_SCAN,
    .scan_row = LEVEL_SCAN_ROW,
};
