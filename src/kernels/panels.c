/* Packing weights as panels, as floats or as integers. It is done once per model, in plain C for
 * every level: a weight has the same integer everywhere. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/levels.h"

/* The arrays behind the bias begin at whole cache lines. */
static size_t line(size_t count) {
    return (count + 15) / 16 * 16;
}

static size_t values_bytes(const struct moult_panels *panels) {
    const struct moult_integer_layout *layout = &panels->layout;
    size_t columns = (size_t)panels->panels * panels->panel, K = panels->inputs;

    if (panels->precision == MOULT_PRECISION_F32)
        return columns * K * sizeof(float);
    return columns * ((K + layout->group - 1) / layout->group * layout->group) *
           layout->weight_bytes;
}

/* Bias, scales, sums and factors are all of 4 bytes. */
static size_t bias_bytes(const struct moult_panels *panels) {
    size_t columns = line((size_t)panels->panels * panels->panel), count = columns;

    if (panels->precision != MOULT_PRECISION_F32)
        count += columns;
    if (panels->precision == MOULT_PRECISION_INT8)
        count += columns + line(panels->inputs);
    return count * sizeof(float);
}

static struct moult_panels shape(const struct moult_kernels *kernels,
                                 enum moult_precision precision, uint32_t N, uint32_t K) {
    uint32_t width = kernels->panel;
    struct moult_panels panels = {
        .precision = precision,
        .inputs = K,
        .outputs = N,
        .panel = width,
        .panels = N / width + (N % width != 0),
    };

    if (precision == MOULT_PRECISION_INT16)
        panels.layout = kernels->int16;
    else if (precision == MOULT_PRECISION_INT8)
        panels.layout = kernels->int8;
    return panels;
}

size_t moult_panels_bytes(const struct moult_kernels *kernels, enum moult_precision precision,
                          uint32_t N, uint32_t K) {
    struct moult_panels panels = shape(kernels, precision, N, K);

    return moult_large_bytes(values_bytes(&panels)) + moult_large_bytes(bias_bytes(&panels));
}

static int open_panels(struct moult_panels *panels, const struct moult_kernels *kernels,
                       enum moult_precision precision, const float *bias, uint32_t N,
                       uint32_t K) {
    size_t columns;

    *panels = shape(kernels, precision, N, K);
    panels->values = moult_allocate_large(values_bytes(panels));
    panels->bias = moult_allocate_large(bias_bytes(panels));
    if (panels->values == NULL || panels->bias == NULL) {
        moult_panels_release(panels);
        return -1;
    }
    columns = line((size_t)panels->panels * panels->panel);
    if (precision != MOULT_PRECISION_F32)
        panels->scales = panels->bias + columns;
    if (precision == MOULT_PRECISION_INT8) {
        panels->sums = (int32_t *)(panels->scales + columns);
        panels->factors = panels->scales + 2 * columns;
    }
    if (bias != NULL)
        memcpy(panels->bias, bias, N * sizeof(*bias));
    return 0;
}

void moult_panels_release(struct moult_panels *panels) {
    if (panels->values != NULL)
        moult_free_large(panels->values, values_bytes(panels));
    if (panels->bias != NULL)
        moult_free_large(panels->bias, bias_bytes(panels));
    memset(panels, 0, sizeof(*panels));
}

/* Writes panel p, whose `columns` outputs begin at weights [columns][K]. The rest stays zero. */
static void pack_panel(float *panel, uint32_t width, const float *weights, uint32_t columns,
                       uint32_t K) {
    for (uint32_t j = 0; j < columns; j++) {
        for (uint32_t k = 0; k < K; k++)
            panel[(size_t)k * width + j] = weights[(size_t)j * K + k];
    }
}

int moult_panels_pack(struct moult_panels *panels, const struct moult_kernels *kernels,
                      const float *weights, const float *bias, uint32_t N, uint32_t K) {
    uint32_t width = kernels->panel;

    if (open_panels(panels, kernels, MOULT_PRECISION_F32, bias, N, K) != 0)
        return -1;
    for (uint32_t p = 0; p < panels->panels; p++) {
        uint32_t first = p * width, columns = N - first < width ? N - first : width;

        pack_panel(panels->values + (size_t)first * K, width, weights + (size_t)first * K,
                   columns, K);
    }
    return 0;
}

/* Integers. */

/* The largest weight and the sum of all, without their signs. */
static float size_up(const float *w, uint32_t K, float *sum) {
    float largest = 0;

    *sum = 0;
    for (uint32_t k = 0; k < K; k++) {
        largest = fabsf(w[k]) > largest ? fabsf(w[k]) : largest;
        *sum += fabsf(w[k]);
    }
    return largest;
}

/* integers [K] = w / scale, rounded; returns their sum without signs, which has room for
 * MOULT_DIMENSIONS_MAX of them. Adding 1.5·2^23 rounds to a whole number, as lrintf() would, and
 * lets compilers take several at once. */
static uint32_t round_output(int16_t *integers, const float *w, uint32_t K, float scale) {
    const float shift = 12582912.0f;
    uint32_t sum = 0;

    for (uint32_t k = 0; k < K; k++) {
        int32_t integer = (int32_t)((w[k] / scale + shift) - shift);

        integers[k] = (int16_t)integer;
        sum += (uint32_t)(integer < 0 ? -integer : integer);
    }
    return sum;
}

/* The integers of one output, as many bits as its sums have room for; returns their scale. */
static float round_words(int16_t *integers, const float *w, uint32_t K) {
    float all, scale = size_up(w, K, &all) / MOULT_INT16_WEIGHT_MOST;
    uint32_t sum;

    if (scale < all / MOULT_INT16_WEIGHTS_MOST)
        scale = all / MOULT_INT16_WEIGHTS_MOST;
    if (!(scale >= MOULT_INTEGERS_LEAST)) {
        memset(integers, 0, K * sizeof(*integers));
        return 0;
    }
    /* What rounds up may need a second trial, and hardly ever a third. */
    while ((sum = round_output(integers, w, K, scale)) > MOULT_INT16_WEIGHTS_MOST)
        scale *= 1.0001f * (float)sum / MOULT_INT16_WEIGHTS_MOST;
    return scale;
}

static float round_bytes(int16_t *integers, const float *w, uint32_t K) {
    float all, scale = size_up(w, K, &all) / MOULT_INT8_WEIGHT_MOST;

    if (!(scale >= MOULT_INTEGERS_LEAST)) {
        memset(integers, 0, K * sizeof(*integers));
        return 0;
    }
    round_output(integers, w, K, scale);
    return scale;
}

/* Where the integer of output n and input k lies; and floats, as groups of one. */
static size_t place_of(const struct moult_panels *panels, size_t n, size_t k) {
    size_t K = panels->inputs, width = panels->panel;
    size_t group = panels->precision == MOULT_PRECISION_F32 ? 1 : panels->layout.group;
    size_t steps = (K + group - 1) / group;

    return ((n / width * steps + k / group) * width + n % width) * group + k % group;
}

/* The integers [K] of output n to their places. */
static void place(struct moult_panels *panels, uint32_t n, const int16_t *integers) {
    uint32_t K = panels->inputs, group = panels->layout.group;
    size_t at = place_of(panels, n, 0), step = (size_t)panels->panel * group;

    for (uint32_t k = 0; k < K; k += group, at += step) {
        for (uint32_t i = 0; i < group && k + i < K; i++) {
            if (panels->layout.weight_bytes == 1)
                panels->bytes[at + i] = (int8_t)integers[k + i];
            else
                panels->words[at + i] = integers[k + i];
        }
    }
}

static void pack_output(struct moult_panels *panels, uint32_t n, const float *w, float *divided,
                        int16_t *integers) {
    uint32_t K = panels->inputs;
    int32_t sum = 0;

    if (panels->precision == MOULT_PRECISION_INT16) {
        panels->scales[n] = round_words(integers, w, K);
    } else {
        for (uint32_t k = 0; k < K; k++)
            divided[k] = w[k] / panels->factors[k];
        panels->scales[n] = round_bytes(integers, divided, K);
        for (uint32_t k = 0; k < K; k++)
            sum += integers[k];
        panels->sums[n] = sum;
    }
    place(panels, n, integers);
}

int moult_panels_pack_integers(struct moult_panels *panels, const struct moult_kernels *kernels,
                               enum moult_precision precision, const float *weights,
                               const float *bias, const float *factors, uint32_t N, uint32_t K) {
    float *divided;
    int16_t *integers;

    if (open_panels(panels, kernels, precision, bias, N, K) != 0)
        return -1;
    for (uint32_t k = 0; panels->factors != NULL && k < K; k++)
        panels->factors[k] = factors == NULL ? 1 : factors[k];
    divided = moult_allocate(K, sizeof(*divided));
    integers = moult_allocate(K, sizeof(*integers));
    for (uint32_t n = 0; n < N; n++)
        pack_output(panels, n, weights + (size_t)n * K, divided, integers);
    free(divided);
    free(integers);
    return 0;
}

/* From panels to panels. */

/* The reverse of place(). */
static void take(const struct moult_panels *panels, uint32_t n, int16_t *integers) {
    uint32_t K = panels->inputs, group = panels->layout.group;
    size_t at = place_of(panels, n, 0), step = (size_t)panels->panel * group;

    for (uint32_t k = 0; k < K; k += group, at += step) {
        for (uint32_t i = 0; i < group && k + i < K; i++)
            integers[k + i] =
                panels->layout.weight_bytes == 1 ? panels->bytes[at + i] : panels->words[at + i];
    }
}

static void copy_output(struct moult_panels *to, const struct moult_panels *from, uint32_t n,
                        int16_t *integers) {
    size_t K = from->inputs, at = place_of(to, n, 0), from_at = place_of(from, n, 0);

    if (from->precision != MOULT_PRECISION_F32) {
        take(from, n, integers);
        place(to, n, integers);
        return;
    }
    for (size_t k = 0; k < K; k++)
        to->values[at + k * to->panel] = from->values[from_at + k * from->panel];
}

int moult_panels_repack(struct moult_panels *panels, const struct moult_kernels *kernels,
                        const struct moult_panels *from) {
    uint32_t N = from->outputs, K = from->inputs;
    int16_t *integers;

    if (open_panels(panels, kernels, from->precision, from->bias, from->outputs,
                    from->inputs) != 0)
        return -1;
    if (panels->scales != NULL)
        memcpy(panels->scales, from->scales, N * sizeof(*panels->scales));
    if (panels->sums != NULL)
        memcpy(panels->sums, from->sums, N * sizeof(*panels->sums));
    if (panels->factors != NULL)
        memcpy(panels->factors, from->factors, K * sizeof(*panels->factors));
    integers = moult_allocate(K, sizeof(*integers));
    for (uint32_t n = 0; n < N; n++)
        copy_output(panels, from, n, integers);
    free(integers);
    return 0;
}

void moult_panels_unpack(const struct moult_panels *panels, float *weights) {
    size_t N = panels->outputs, K = panels->inputs, width = panels->panel;

    for (size_t n = 0; n < N; n++) {
        const float *column = panels->values + n / width * K * width + n % width;

        for (size_t k = 0; k < K; k++)
            weights[n * K + k] = column[k * width];
    }
}

/* Rows. */

size_t moult_rows_stride(uint32_t K) {
    return ((size_t)K + 63) / 64 * 64;
}

size_t moult_rows_bytes(uint32_t T, uint32_t K) {
    return T * moult_rows_stride(K) * sizeof(int16_t) + 2 * line(T) * sizeof(float);
}

struct moult_rows moult_rows_in(void *memory, uint32_t T, uint32_t K) {
    struct moult_rows rows = {.values = memory};

    rows.scales = (float *)((int16_t *)memory + T * moult_rows_stride(K));
    rows.zeros = (int32_t *)(rows.scales + line(T));
    return rows;
}
