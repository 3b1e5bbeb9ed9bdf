/* The plain C level: the arithmetic that the others are tested against, and what runs on a
 * CPU that none of them fits. Loops run along outputs, so that neighbours can lie in the lanes
 * of a register and the order of no sum is touched.
 *
 * exp and erf are taken in double and rounded once: the result then does not depend on
 * which libm, or which of its variants for this CPU, computed it. */
#include <math.h>
#include <string.h>

#include "kernels/levels.h"

enum {
    PANEL = 8,      /* Outputs per panel. */
    ROWS = 4        /* Rows of a tile: 4 × 8 sums are 8 SSE registers of 16. */
};

typedef float four __attribute__((vector_size(16)));

static float gelu(float x) {
    return (float)(0.5 * (double)x * erfc(-(double)x * 0.70710678118654752440));
}

static void finish_row(float *y, const float *sums, const float *bias, uint32_t columns,
                       enum moult_epilogue epilogue) {
    for (uint32_t j = 0; j < columns; j++) {
        float sum = sums[j] + bias[j];

        if (epilogue == MOULT_EPILOGUE_GELU)
            y[j] = gelu(sum);
        else if (epilogue == MOULT_EPILOGUE_ADD)
            y[j] += sum;
        else
            y[j] = sum;
    }
}

/* sums [rows][PANEL] = x [rows][K] times one panel [K][PANEL]. Left to themselves, compilers
 * turn four k into lanes and shuffle; so outputs are named as lanes, which gcc and clang
 * translate for any CPU. */
static inline void multiply(const unsigned rows, float sums[ROWS][PANEL], const float *x,
                            size_t x_stride, const float *panel, uint32_t K) {
    four low[ROWS] = {{0}}, high[ROWS] = {{0}};

    for (size_t k = 0; k < K; k++) {
        const four *w = (const four *)(panel + k * PANEL);

        for (unsigned i = 0; i < rows; i++) {
            low[i] += x[i * x_stride + k] * w[0];
            high[i] += x[i * x_stride + k] * w[1];
        }
    }
    for (unsigned i = 0; i < rows; i++) {
        memcpy(sums[i], &low[i], sizeof(four));
        memcpy(sums[i] + 4, &high[i], sizeof(four));
    }
}

static void linear(const struct moult_panels *w, const float *x, size_t x_stride, float *y,
                   size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                   enum moult_epilogue epilogue) {
    for (uint32_t p = panel_first; p < panel_end; p++) {
        const float *panel = w->values + (size_t)p * w->inputs * PANEL;
        const float *bias = w->bias + (size_t)p * PANEL;
        uint32_t column = p * PANEL;
        uint32_t columns = w->outputs - column < PANEL ? w->outputs - column : PANEL;

        for (uint32_t t = 0; t < T;) {
            float sums[ROWS][PANEL];
            uint32_t rows = T - t < ROWS ? 1 : ROWS;

            if (rows == ROWS)
                multiply(ROWS, sums, x + t * x_stride, x_stride, panel, w->inputs);
            else
                multiply(1, sums, x + t * x_stride, x_stride, panel, w->inputs);
            for (uint32_t i = 0; i < rows; i++)
                finish_row(y + (t + i) * y_stride + column, sums[i], bias, columns, epilogue);
            t += rows;
        }
    }
}

/* Integers, in the simplest form: this is what they are. */

static int clamp(long value, int least, int most) {
    return value < least ? least : value > most ? most : (int)value;
}

static void words_of_row(int16_t *values, float *scale, const float *x, uint32_t K) {
    float largest = 0, inverse;

    for (uint32_t k = 0; k < K; k++)
        largest = fabsf(x[k]) > largest ? fabsf(x[k]) : largest;
    *scale = largest > MOULT_INTEGERS_LEAST ? largest * (1.0f / MOULT_INT16_VALUE_MOST) : 0;
    inverse = *scale > 0 ? MOULT_INT16_VALUE_MOST / largest : 0;
    for (uint32_t k = 0; k < K; k++)
        values[k] = (int16_t)clamp(lrintf(x[k] * inverse), -MOULT_INT16_VALUE_MOST,
                                   MOULT_INT16_VALUE_MOST);
}

/* From the least value, or 0, to the largest, or 0, in 255 steps; 0 is one of them. */
static void bytes_of_row(uint8_t *values, float *scale, int32_t *zero, const float *x,
                         const float *factors, uint32_t K) {
    float least = 0, largest = 0, inverse;

    for (uint32_t k = 0; k < K; k++) {
        float value = x[k] * factors[k];

        least = value < least ? value : least;
        largest = value > largest ? value : largest;
    }
    *scale = largest - least > MOULT_INTEGERS_LEAST
                 ? (largest - least) * (1.0f / MOULT_INT8_VALUE_MOST)
                 : 0;
    inverse = *scale > 0 ? MOULT_INT8_VALUE_MOST / (largest - least) : 0;
    *zero = clamp(lrintf(-least * inverse), 0, MOULT_INT8_VALUE_MOST);
    for (uint32_t k = 0; k < K; k++)
        values[k] = (uint8_t)clamp(lrintf(x[k] * factors[k] * inverse) + *zero, 0,
                                   MOULT_INT8_VALUE_MOST);
}

static void integers(const struct moult_panels *w, const float *x, size_t x_stride, uint32_t T,
                     struct moult_rows *rows) {
    size_t stride = moult_rows_stride(w->inputs);

    for (uint32_t t = 0; t < T; t++) {
        const float *row = x + t * x_stride;

        rows->zeros[t] = 0;
        if (w->precision == MOULT_PRECISION_INT16)
            words_of_row((int16_t *)rows->values + t * stride, &rows->scales[t], row, w->inputs);
        else
            bytes_of_row((uint8_t *)rows->values + t * stride, &rows->scales[t], &rows->zeros[t],
                         row, w->factors, w->inputs);
    }
}

static void multiply_words(int32_t sums[PANEL], const int16_t *x, const int16_t *panel,
                           uint32_t K) {
    for (size_t k = 0; k < K; k++) {
        for (unsigned j = 0; j < PANEL; j++)
            sums[j] += x[k] * panel[k * PANEL + j];
    }
}

static void multiply_bytes(int32_t sums[PANEL], const uint8_t *x, const int8_t *panel,
                           uint32_t K) {
    for (size_t k = 0; k < K; k++) {
        for (unsigned j = 0; j < PANEL; j++)
            sums[j] += x[k] * panel[k * PANEL + j];
    }
}

/* One row times one panel, as floats. */
static void multiply_integers(const struct moult_panels *w, uint32_t p,
                              const struct moult_rows *rows, uint32_t t, float values[PANEL]) {
    size_t at = t * moult_rows_stride(w->inputs), panel_at = (size_t)p * w->inputs * PANEL;
    int32_t sums[PANEL] = {0};

    if (w->precision == MOULT_PRECISION_INT16)
        multiply_words(sums, (const int16_t *)rows->values + at, w->words + panel_at, w->inputs);
    else
        multiply_bytes(sums, (const uint8_t *)rows->values + at, w->bytes + panel_at, w->inputs);
    for (unsigned j = 0; j < PANEL; j++) {
        uint32_t n = p * PANEL + j;

        if (w->precision == MOULT_PRECISION_INT8)
            sums[j] -= rows->zeros[t] * w->sums[n];
        values[j] = (float)sums[j] * w->scales[n] * rows->scales[t];
    }
}

static void linear_integers(const struct moult_panels *w, const struct moult_rows *rows, float *y,
                            size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                            enum moult_epilogue epilogue) {
    for (uint32_t p = panel_first; p < panel_end; p++) {
        uint32_t column = p * PANEL;
        uint32_t columns = w->outputs - column < PANEL ? w->outputs - column : PANEL;

        for (uint32_t t = 0; t < T; t++) {
            float values[PANEL];

            multiply_integers(w, p, rows, t, values);
            finish_row(y + t * y_stride + column, values, w->bias + column, columns, epilogue);
        }
    }
}

/* scores [L] in, exp(score - highest) out; returns one over their sum. */
static float softmax(float *scores, uint32_t L) {
    float highest = scores[0];
    double sum = 0;

    for (uint32_t j = 1; j < L; j++)
        highest = scores[j] > highest ? scores[j] : highest;
    for (uint32_t j = 0; j < L; j++) {
        scores[j] = (float)exp((double)(scores[j] - highest));
        sum += (double)scores[j];
    }
    return (float)(1.0 / sum);
}

/* One query: scores [L] = q [D] · keys [D][L], then out [D] = softmax(scores) · v [L][D]. */
static void attend(const float *restrict q, const float *restrict keys, const float *restrict v,
                   size_t stride, float *restrict out, float *restrict scores, uint32_t L,
                   uint32_t D) {
    float factor;

    memset(scores, 0, L * sizeof(*scores));
    for (uint32_t d = 0; d < D; d++) {
        for (uint32_t j = 0; j < L; j++)
            scores[j] += q[d] * keys[(size_t)d * L + j];
    }
    factor = softmax(scores, L);
    memset(out, 0, D * sizeof(*out));
    for (uint32_t j = 0; j < L; j++) {
        for (uint32_t d = 0; d < D; d++)
            out[d] += scores[j] * v[j * stride + d];
    }
    for (uint32_t d = 0; d < D; d++)
        out[d] *= factor;
}

static void attention(const float *q, const float *k, const float *v, size_t stride, float *out,
                      size_t out_stride, uint32_t L, uint32_t D, uint32_t head_first,
                      uint32_t head_end, float scale, float *scratch) {
    float *keys = scratch, *scores = scratch + (size_t)D * L;

    for (uint32_t head = head_first; head < head_end; head++) {
        size_t at = (size_t)head * D;

        for (uint32_t j = 0; j < L; j++) {
            for (uint32_t d = 0; d < D; d++)
                keys[(size_t)d * L + j] = k[at + j * stride + d] * scale;
        }
        for (uint32_t i = 0; i < L; i++)
            attend(q + at + i * stride, keys, v + at, stride, out + at + i * out_stride, scores,
                   L, D);
    }
}

static void layer_norm(float *x, size_t stride, uint32_t T, uint32_t C, const float *gamma,
                       const float *beta, float epsilon) {
    for (uint32_t t = 0; t < T; t++) {
        float *row = x + t * stride;
        double mean = 0, variance = 0, factor;

        for (uint32_t c = 0; c < C; c++)
            mean += (double)row[c];
        mean /= C;
        for (uint32_t c = 0; c < C; c++)
            variance += ((double)row[c] - mean) * ((double)row[c] - mean);
        variance /= C;
        factor = 1 / sqrt(variance + (double)epsilon);
        for (uint32_t c = 0; c < C; c++)
            row[c] = (float)(((double)row[c] - mean) * factor) * gamma[c] + beta[c];
    }
}

static void add3(float *out, const float *a, const float *b, const float *c, uint32_t C) {
    for (uint32_t i = 0; i < C; i++)
        out[i] = a[i] + b[i] + c[i];
}

static void mean(float *out, const float *x, size_t stride, uint32_t L, uint32_t C) {
    for (uint32_t c = 0; c < C; c++) {
        double sum = 0;

        for (uint32_t i = 0; i < L; i++)
            sum += (double)x[i * stride + c];
        out[c] = (float)(sum / L);
    }
}

static float dot(const float *a, const float *b, uint32_t C) {
    double sum = 0;

    for (uint32_t c = 0; c < C; c++)
        sum += (double)a[c] * (double)b[c];
    return (float)sum;
}

static void unit(float *x, uint32_t C) {
    float norm = sqrtf(dot(x, x, C));
    float factor = 1 / (norm < 1e-12f ? 1e-12f : norm);

    for (uint32_t c = 0; c < C; c++)
        x[c] *= factor;
}

/* As `multiply` has it for floats; one row of `multiply_words` and `multiply_bytes`. */
static uint64_t peak(enum moult_precision precision, uint32_t rounds) {
    four sums[2 * ROWS] = {{0}}, w = {0};
    int32_t words[PANEL] = {0};
    int16_t x[PANEL] = {0}, panel[PANEL * PANEL] = {0};

    for (uint32_t round = 0; round < rounds && precision == MOULT_PRECISION_F32; round++) {
        for (unsigned i = 0; i < 2 * ROWS; i++) {
            __asm__("" : "+m"(w));
            sums[i] += w * w;
        }
    }
    for (uint32_t round = 0; round < rounds && precision != MOULT_PRECISION_F32; round++) {
        __asm__("" : "+m"(x));
        multiply_words(words, x, panel, PANEL);
    }
    __asm__ volatile("" : : "m"(sums), "m"(words));
    return (uint64_t)rounds * 2 * (precision == MOULT_PRECISION_F32 ? 8 * ROWS : PANEL * PANEL);
}

const struct moult_kernels moult_kernels_c = {
    .name = "c",
    .panel = PANEL,
    .rows_block = 64,
    .linear = linear,
    .int16 = {.group = 1, .weight_bytes = 2, .value_bytes = 2},
    .int8 = {.group = 1, .weight_bytes = 1, .value_bytes = 1},
    .integers = integers,
    .linear_integers = linear_integers,
    .attention = attention,
    .layer_norm = layer_norm,
    .add3 = add3,
    .mean = mean,
    .unit = unit,
    .dot = dot,
    .peak = peak,
    .scan = moult_scan_c,
    .scan_row = moult_scan_row_c,
};
