/* The integer kernels of one x86 level, behind the f32 ones of f32.h and over the same registers
 * of the including file: `ints` is one of 32-bit integers, of which add_words() and add_bytes()
 * add LANES dot products of 4 bytes.
 *
 * A tile is that of f32.h with dot products in the place of multiplications: each step takes 4
 * bytes of each row, two words or four bytes, and the same inputs of PANEL outputs, which lie side
 * by side. Where a level lacks dot products of bytes (BYTE_GROUP is 2), x has words for bytes,
 * and the weights are widened on the way into the register. Sums are exact, so nothing depends
 * on their order; only the last lines of a tile know floats, and say them as plain C does. */

enum { BYTE_STEP = PANEL * BYTE_GROUP };    /* Bytes of a panel for each step of INT8, */
enum { WORD_STEP = PANEL * 4 };             /* and of INT16. */

/* The weights of one tile: its panel and what belongs to its outputs. */
struct tile_weights {
    const char *panel;
    const float *scales;
    const int32_t *sums;
    uint32_t steps;
};

/* And its rows. */
struct tile_rows {
    const char *values;
    size_t stride;          /* In bytes. */
    const float *scales;
    const int32_t *zeros;
};

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

/* sums [rows][PANEL] = the products of rows and panel, as floats. */
ALWAYS_INLINE void multiply_integers_tile(const unsigned rows, const bool bytes,
                                          const struct tile_weights *w, const struct tile_rows *x,
                                          float *sums, const struct ahead *ahead) {
    enum { LINES = (PANEL * 4 + 63) / 64 };
    const unsigned step = bytes ? BYTE_STEP : WORD_STEP, lines = step / 64;
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
        for (unsigned j = 0; j < LINES; j++) {
            if (j < lines) {
                _mm_prefetch(fetched + 64 * j, _MM_HINT_T1);
                _mm_prefetch(panel + L1_AHEAD + 64 * j, _MM_HINT_T0);
            }
        }
        fetched += ahead->step;
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

typedef void multiply_integers_function(const struct tile_weights *w, const struct tile_rows *x,
                                        float *sums, const struct ahead *ahead);

#define MULTIPLY_INTEGERS(rows) \
    static void multiply_words_##rows(const struct tile_weights *w, const struct tile_rows *x, \
                                      float *sums, const struct ahead *ahead) { \
        multiply_integers_tile(rows, false, w, x, sums, ahead); \
    } \
    static void multiply_bytes_##rows(const struct tile_weights *w, const struct tile_rows *x, \
                                      float *sums, const struct ahead *ahead) { \
        multiply_integers_tile(rows, true, w, x, sums, ahead); \
    }
#define MULTIPLY_WORDS_ENTRY(rows) multiply_words_##rows,
#define MULTIPLY_BYTES_ENTRY(rows) multiply_bytes_##rows,

FOR_EACH_ROWS(MULTIPLY_INTEGERS)
static multiply_integers_function *const multiply_words[] = {
    NULL, FOR_EACH_ROWS(MULTIPLY_WORDS_ENTRY)};
static multiply_integers_function *const multiply_bytes[] = {
    NULL, FOR_EACH_ROWS(MULTIPLY_BYTES_ENTRY)};

/* Rows [first, first + T) times one panel, as linear_panel() does it. */
static void linear_integers_panel(const struct moult_panels *w, uint32_t p,
                                  const struct moult_rows *rows, uint32_t first, float *y,
                                  size_t y_stride, uint32_t T, enum moult_epilogue epilogue) {
    bool bytes = w->precision == MOULT_PRECISION_INT8;
    uint32_t column = p * PANEL, columns = w->outputs - column;
    uint32_t tiles = (T + TILE_ROWS - 1) / TILE_ROWS;
    uint32_t steps = (w->inputs + w->layout.group - 1) / w->layout.group;
    size_t step = bytes ? BYTE_STEP : WORD_STEP, panel_bytes = steps * step;
    size_t stride = moult_rows_stride(w->inputs) * w->layout.value_bytes;
    struct tile_weights weights = {(const char *)w->words + p * panel_bytes, w->scales + column,
                                   bytes ? w->sums + column : NULL, steps};
    struct ahead ahead = {weights.panel + (tiles == 1 ? L2_AHEAD : panel_bytes), step / tiles};
    _Alignas(64) float sums[TILE_ROWS * PANEL];

    for (uint32_t t = 0; t < T;) {
        unsigned count = rows_of_tile(T - t);
        struct tile_rows x = {(const char *)rows->values + (first + t) * stride, stride,
                              rows->scales + first + t, rows->zeros + first + t};

        (bytes ? multiply_bytes : multiply_words)[count](&weights, &x, sums, &ahead);
        finish_tile(y + (first + t) * y_stride + column, y_stride, sums, w->bias + column, count,
                    columns, epilogue);
        ahead.at += ahead.step * steps;
        t += count;
    }
}

static void linear_integers(const struct moult_panels *w, const struct moult_rows *rows, float *y,
                            size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                            enum moult_epilogue epilogue) {
    size_t row_bytes = moult_rows_stride(w->inputs) * w->layout.value_bytes;
    uint32_t block = (uint32_t)(BLOCK_FLOATS * sizeof(float) / row_bytes) / TILE_ROWS * TILE_ROWS;

    if (block < TILE_ROWS)
        block = TILE_ROWS;
    for (uint32_t t = 0; t < T; t += block) {
        uint32_t count = T - t < block ? T - t : block;

        for (uint32_t p = panel_first; p < panel_end; p++)
            linear_integers_panel(w, p, rows, t, y, y_stride, count, epilogue);
    }
}

/* Rows to integers. Lanes behind the last value are written too: a row has the room. */

static void words_of_row(int16_t *values, float *scale, const float *x, uint32_t K) {
    vector most[2] = {broadcast(0), broadcast(0)};
    float largest, inverse;
    uint32_t k = 0;

    for (; k + 2 * LANES <= K; k += 2 * LANES) {
        most[0] = larger(most[0], absolute(load(x + k)));
        most[1] = larger(most[1], absolute(load(x + k + LANES)));
    }
    for (; k < K; k += LANES)
        most[0] = larger(most[0], absolute(load_some(x + k, first_lanes(K - k))));
    largest = largest_of(larger(most[0], most[1]));
    *scale = largest > MOULT_INTEGERS_LEAST ? largest * (1.0f / MOULT_INT16_VALUE_MOST) : 0;
    inverse = *scale > 0 ? MOULT_INT16_VALUE_MOST / largest : 0;
    for (k = 0; k + LANES <= K; k += LANES)
        store_words(values + k, rounded(mul(load(x + k), broadcast(inverse))));
    if (k < K)
        store_words(values + k,
                    rounded(mul(load_some(x + k, first_lanes(K - k)), broadcast(inverse))));
}

/* One register of them, at k. */
ALWAYS_INLINE void store_bytes_of(void *values, size_t k, vector x, float inverse, int32_t zero) {
    ints a = smaller_ints(add_ints(rounded(mul(x, broadcast(inverse))), all_ints(zero)),
                            all_ints(MOULT_INT8_VALUE_MOST));

    if (BYTE_GROUP == 4)
        store_bytes((uint8_t *)values + k, a);
    else
        store_words((int16_t *)values + k, a);
}

static void bytes_of_row(void *values, float *scale, int32_t *zero, const float *x,
                         const float *factors, uint32_t K) {
    vector low = broadcast(0), high = broadcast(0);
    uint32_t whole_end = K / LANES * LANES;
    lanes some = first_lanes(K - whole_end);
    float least, largest, inverse;

    for (uint32_t k = 0; k < whole_end; k += LANES) {
        vector value = mul(load(x + k), load(factors + k));

        low = smaller(low, value);
        high = larger(high, value);
    }
    if (whole_end < K) {
        vector value = mul(load_some(x + whole_end, some), load_some(factors + whole_end, some));

        low = smaller(low, value);
        high = larger(high, value);
    }
    least = -largest_of(sub(broadcast(0), low));
    largest = largest_of(high);
    *scale = largest - least > MOULT_INTEGERS_LEAST
                 ? (largest - least) * (1.0f / MOULT_INT8_VALUE_MOST)
                 : 0;
    inverse = *scale > 0 ? MOULT_INT8_VALUE_MOST / (largest - least) : 0;
    *zero = (int32_t)lrintf(-least * inverse);
    for (uint32_t k = 0; k < whole_end; k += LANES)
        store_bytes_of(values, k, mul(load(x + k), load(factors + k)), inverse, *zero);
    if (whole_end < K)
        store_bytes_of(values, whole_end,
                       mul(load_some(x + whole_end, some), load_some(factors + whole_end, some)),
                       inverse, *zero);
}

static void integers(const struct moult_panels *w, const float *x, size_t x_stride, uint32_t T,
                     struct moult_rows *rows) {
    size_t stride = moult_rows_stride(w->inputs) * w->layout.value_bytes;

    for (uint32_t t = 0; t < T; t++) {
        char *values = (char *)rows->values + t * stride;

        rows->zeros[t] = 0;
        if (w->precision == MOULT_PRECISION_INT16)
            words_of_row((int16_t *)(void *)values, &rows->scales[t], x + t * x_stride, w->inputs);
        else
            bytes_of_row(values, &rows->scales[t], &rows->zeros[t], x + t * x_stride, w->factors,
                         w->inputs);
    }
}

/* The peak. */

/* So many sums hide what an addition takes, and leave registers for the rest. The empty assembly
 * makes each factor a new one for the compiler, which would else multiply once for all rounds. */
enum { PEAK_SUMS = 12 };

ALWAYS_INLINE void peak_integers(const bool bytes, uint32_t rounds) {
    ints sums[PEAK_SUMS], x = no_ints(), w = no_ints();

    __asm__("" : "+x"(w));

    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        sums[i] = no_ints();
    for (uint32_t round = 0; round < rounds; round++) {
        UNROLL
        for (unsigned i = 0; i < PEAK_SUMS; i++) {
            __asm__("" : "+x"(x));
            sums[i] = bytes ? add_bytes(sums[i], x, w) : add_words(sums[i], x, w);
        }
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        __asm__ volatile("" : : "x"(sums[i]));
}

static uint64_t peak(enum moult_precision precision, uint32_t rounds) {
    vector sums[PEAK_SUMS], x = broadcast(0), w = broadcast(0);
    uint64_t products = (uint64_t)rounds * PEAK_SUMS * LANES;

    if (precision == MOULT_PRECISION_INT8) {
        peak_integers(true, rounds);
        return 2 * products * BYTE_GROUP;
    }
    if (precision == MOULT_PRECISION_INT16) {
        peak_integers(false, rounds);
        return 2 * products * 2;
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        sums[i] = broadcast(0);
    for (uint32_t round = 0; round < rounds; round++) {
        UNROLL
        for (unsigned i = 0; i < PEAK_SUMS; i++) {
            __asm__("" : "+x"(x));
            sums[i] = fma_add(x, w, sums[i]);
        }
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        __asm__ volatile("" : : "x"(sums[i]));
    return 2 * products;
}
