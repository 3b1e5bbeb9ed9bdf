/* The integer kernels of one level, behind the f32 ones of f32.h and over the same registers
 * of the including file: `ints` is one of 32-bit integers.
 *
 * A tile is that of f32.h with dot products in the place of multiplications: each step takes
 * WORD_GROUP words of each row, or BYTE_GROUP bytes, and the same inputs of PANEL outputs, which
 * lie side by side. Where a level lacks dot products of bytes (BYTE_GROUP is below 4), x has words
 * for bytes, and the weights are widened on the way into the register. Sums are exact, so nothing
 * depends on their order; only the last lines of a tile know floats, and say them as plain C
 * does. */

typedef void multiply_integers_function(const struct tile_weights *w, const struct tile_rows *x,
                                        float *sums, const struct ahead *ahead);

#define MULTIPLY_INTEGERS(rows) \
    static void multiply_words_##rows(const struct tile_weights *w, const struct tile_rows *x, \
                                      float *sums, const struct ahead *ahead) { \
        multiply_words_tile(rows, w, x, sums, ahead); \
    } \
    static void multiply_bytes_##rows(const struct tile_weights *w, const struct tile_rows *x, \
                                      float *sums, const struct ahead *ahead) { \
        multiply_bytes_tile(rows, w, x, sums, ahead); \
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
    size_t step = (size_t)PANEL * w->layout.group * w->layout.weight_bytes;
    size_t panel_bytes = steps * step;
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
    vector most[4] = {broadcast(0), broadcast(0), broadcast(0), broadcast(0)};
    float largest, inverse;
    uint32_t k = 0;

    for (; k + 4 * LANES <= K; k += 4 * LANES) {
        UNROLL
        for (unsigned i = 0; i < 4; i++)
            most[i] = larger(most[i], absolute(load(x + k + i * LANES)));
    }
    for (; k < K; k += LANES)
        most[0] = larger(most[0], absolute(load_some(x + k, first_lanes(K - k))));
    largest = largest_of(larger(larger(most[0], most[1]), larger(most[2], most[3])));
    *scale = largest > MOULT_INTEGERS_LEAST ? largest * (1.0f / MOULT_INT16_VALUE_MOST) : 0;
    inverse = *scale > 0 ? MOULT_INT16_VALUE_MOST / largest : 0;
    for (k = 0; k + 2 * LANES <= K; k += 2 * LANES)
        store_words_of_two(values + k, rounded(mul(load(x + k), broadcast(inverse))),
                           rounded(mul(load(x + k + LANES), broadcast(inverse))));
    for (; k < K; k += LANES)
        store_words(values + k,
                    rounded(mul(load_some(x + k, first_lanes(K - k)), broadcast(inverse))));
}

/* One register of them, at k. */
ALWAYS_INLINE void store_bytes_of(void *values, size_t k, vector x, float inverse, int32_t zero) {
    ints a = smaller_ints(add_ints(rounded(mul(x, broadcast(inverse))), all_ints(zero)),
                            all_ints(MOULT_INT8_VALUE_MOST));

    if (VALUE_BYTES == 1)
        store_bytes((uint8_t *)values + k, a);
    else
        store_words((int16_t *)values + k, a);
}

static void bytes_of_row(void *values, float *scale, int32_t *zero, const float *x,
                         const float *factors, uint32_t K) {
    vector low = broadcast(0), high = broadcast(0), next_low = low, next_high = high;
    uint32_t whole_end = K / LANES * LANES, k = 0;
    lanes some = first_lanes(K - whole_end);
    float least, largest, inverse;

    for (; k + 2 * LANES <= whole_end; k += 2 * LANES) {
        vector value = mul(load(x + k), load(factors + k));
        vector next = mul(load(x + k + LANES), load(factors + k + LANES));

        low = smaller(low, value);
        high = larger(high, value);
        next_low = smaller(next_low, next);
        next_high = larger(next_high, next);
    }
    for (; k < whole_end; k += LANES) {
        vector value = mul(load(x + k), load(factors + k));

        low = smaller(low, value);
        high = larger(high, value);
    }
    low = smaller(low, next_low);
    high = larger(high, next_high);
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
    for (k = 0; k < whole_end; k += LANES)
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

/* So many sums as PEAK_SUMS hide what an addition takes, and leave registers for the rest. The
 * empty assembly makes each factor a new one for the compiler, which would else multiply once for
 * all rounds. */
ALWAYS_INLINE void peak_integers(const bool bytes, uint32_t rounds) {
    ints sums[PEAK_SUMS], x = no_ints(), w = no_ints();

    __asm__("" : "+" REGISTER(w));

    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        sums[i] = no_ints();
    for (uint32_t round = 0; round < rounds; round++) {
        UNROLL
        for (unsigned i = 0; i < PEAK_SUMS; i++) {
            __asm__("" : "+" REGISTER(x));
            sums[i] = bytes ? add_bytes(sums[i], x, w) : add_words(sums[i], x, w);
        }
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        __asm__ volatile("" : : REGISTER(sums[i]));
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
        return 2 * products * WORD_GROUP;
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        sums[i] = broadcast(0);
    for (uint32_t round = 0; round < rounds; round++) {
        UNROLL
        for (unsigned i = 0; i < PEAK_SUMS; i++) {
            __asm__("" : "+" REGISTER(x));
            sums[i] = fma_add(x, w, sums[i]);
        }
    }
    UNROLL
    for (unsigned i = 0; i < PEAK_SUMS; i++)
        __asm__ volatile("" : : REGISTER(sums[i]));
    return 2 * products;
}
