/* integers and linear_integers, and the packing of their weights: against exact sums, within what
 * rounding to integers may cost, and bit against bit with plain C. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"

enum { ROWS_MAX = 300 };

static const char *const names[] = {"auto", "f32", "int16", "int8"};
static const char *const epilogues[] = {"none", "gelu", "add"};

/* One multiplication in one rung on one level. */
struct integer_product {
    const struct moult_kernels *kernels;
    enum moult_precision precision;
    struct moult_panels panels;
    struct moult_rows rows;
    void *memory;
    size_t bytes;
    uint32_t T, K;
};

static bool open_product(struct integer_product *product, const struct moult_kernels *kernels,
                         enum moult_precision precision, const struct grid *x,
                         const struct grid *weights, const float *bias, const float *factors) {
    uint32_t T = x->rows, K = x->columns, N = weights->columns / K;

    *product = (struct integer_product){
        .kernels = kernels, .precision = precision, .T = T, .K = K};
    product->bytes = moult_rows_bytes(T, K);
    product->memory = moult_allocate_large(product->bytes);
    product->rows = moult_rows_in(product->memory, T, K);
    if (product->memory == NULL ||
        moult_panels_pack_integers(&product->panels, kernels, precision, weights->floats, bias,
                                   factors, N, K) != 0)
        return check_because("there is no memory for %u times %u weights", N, K);
    kernels->integers(&product->panels, x->floats, x->stride, T, &product->rows);
    return true;
}

static void close_product(struct integer_product *product) {
    moult_panels_release(&product->panels);
    moult_free_large(product->memory, product->bytes);
}

static int value_at(const struct integer_product *product, size_t t, size_t k) {
    size_t at = t * moult_rows_stride(product->K) + k;

    if (product->panels.layout.value_bytes == 1)
        return ((const uint8_t *)product->rows.values)[at];
    return ((const int16_t *)product->rows.values)[at];
}

static int weight_at(const struct moult_panels *panels, size_t n, size_t k) {
    size_t group = panels->layout.group, width = panels->panel;
    size_t steps = (panels->inputs + group - 1) / group;
    size_t at = ((n / width * steps + k / group) * width + n % width) * group + k % group;

    return panels->layout.weight_bytes == 1 ? panels->bytes[at] : panels->words[at];
}

/* What stands for x[k] and for the weight, as near as half a step each. */
static bool rounded_well(const struct integer_product *product, const struct grid *x,
                         const struct grid *weights) {
    const struct moult_panels *w = &product->panels;

    for (size_t t = 0; t < product->T; t++) {
        double step = (double)product->rows.scales[t];

        for (size_t k = 0; k < product->K; k++) {
            double factor = w->factors != NULL ? (double)w->factors[k] : 1;
            double is = step * (value_at(product, t, k) - product->rows.zeros[t]);
            double should = (double)x->floats[t * x->stride + k] * factor;

            if (!(fabs(is - should) <= 1.001 * step + 1e-30))
                return check_because("row %zu, value %zu: %g stands for %g", t, k, is, should);
        }
    }
    for (size_t n = 0; n < w->outputs; n++) {
        for (size_t k = 0; k < product->K; k++) {
            double factor = w->factors != NULL ? (double)w->factors[k] : 1;
            double is = (double)w->scales[n] * weight_at(w, n, k);
            double should = (double)weights->floats[n * product->K + k] / factor;

            if (!(fabs(is - should) <= 0.501 * (double)w->scales[n] + 1e-30))
                return check_because("output %zu, weight %zu: %g stands for %g", n, k, is, should);
        }
    }
    return true;
}

static bool same_integers(const struct integer_product *a, const struct integer_product *b) {
    for (size_t t = 0; t < a->T; t++) {
        if (memcmp(&a->rows.scales[t], &b->rows.scales[t], sizeof(float)) != 0 ||
            a->rows.zeros[t] != b->rows.zeros[t])
            return check_because("row %zu has the scale %.9g and zero %d, not %.9g and %d", t,
                                 (double)a->rows.scales[t], (int)a->rows.zeros[t],
                                 (double)b->rows.scales[t], (int)b->rows.zeros[t]);
        for (size_t k = 0; k < a->K; k++) {
            if (value_at(a, t, k) != value_at(b, t, k))
                return check_because("row %zu, value %zu is %d, not %d", t, k, value_at(a, t, k),
                                     value_at(b, t, k));
        }
    }
    for (size_t n = 0; n < a->panels.outputs; n++) {
        for (size_t k = 0; k < a->K; k++) {
            if (weight_at(&a->panels, n, k) != weight_at(&b->panels, n, k))
                return check_because("the weight of output %zu, input %zu is another", n, k);
        }
    }
    return true;
}

static void multiply(const struct integer_product *product, const struct grid *y, uint32_t first,
                     uint32_t end, uint32_t panel_first, uint32_t panel_end,
                     enum moult_epilogue epilogue) {
    const struct moult_rows *rows = &product->rows;
    size_t bytes = moult_rows_stride(product->K) * product->panels.layout.value_bytes;
    struct moult_rows some = {(char *)rows->values + first * bytes, rows->scales + first,
                              rows->zeros + first};

    product->kernels->linear_integers(&product->panels, &some, y->floats + first * y->stride,
                                      y->stride, end - first, panel_first, panel_end, epilogue);
}

/* The exact sum of what the integers stand for, in 64 bits. */
static bool exact_sums(const struct integer_product *product, const struct grid *y,
                       const float *bias) {
    for (size_t t = 0; t < product->T; t++) {
        for (size_t n = 0; n < y->columns; n++) {
            int64_t sum = 0;
            double should, is = (double)y->floats[t * y->stride + n];

            for (size_t k = 0; k < product->K; k++)
                sum += (int64_t)(value_at(product, t, k) - product->rows.zeros[t]) *
                       weight_at(&product->panels, n, k);
            should = (double)sum * (double)product->panels.scales[n] *
                     (double)product->rows.scales[t];
            if (!(fabs(is - (should + (double)bias[n])) <=
                  3e-7 * (fabs(should) + fabs((double)bias[n])) + 1e-30))
                return check_because("row %zu, output %zu is %.9g, not %.9g", t, n, is,
                                     should + (double)bias[n]);
        }
    }
    return true;
}

/* However rows and panels are split: the same bits. */
static bool same_when_split(const struct integer_product *product, const struct grid *whole,
                            const struct grid *before, enum moult_epilogue epilogue) {
    uint32_t T = whole->rows, panels = product->panels.panels;
    struct grid y;
    bool same;

    check_grid_init(&y, T, whole->columns, 1);
    check_grid_copy(&y, before);
    for (uint32_t first = 0, end; first < T; first = end) {
        uint32_t middle = check_random_below(panels + 1);

        end = first + 1 + check_random_below(T - first);
        multiply(product, &y, first, end, middle, panels, epilogue);
        multiply(product, &y, first, end, 0, middle, epilogue);
    }
    same = check_grid_equal(&y, whole) && check_grid_guarded(&y);
    check_grid_release(&y);
    return same;
}

/* y = gelu(x), to what gelu may be off. */
static bool near_gelu(const struct grid *y, const struct grid *x) {
    for (size_t t = 0; t < y->rows; t++) {
        for (size_t n = 0; n < y->columns; n++) {
            double at = (double)x->floats[t * x->stride + n];
            double is = (double)y->floats[t * y->stride + n];
            double should = 0.5 * at * erfc(-at / sqrt(2));

            if (!(fabs(is - should) <= 2e-7 * fmax(1, fabs(at))))
                return check_because("row %zu, output %zu is %.9g, not %.9g", t, n, is, should);
        }
    }
    return true;
}

/* Rows as a model has them: some values far out, some rows of one sign, some of nothing. */
static void roughen(struct grid *x) {
    for (size_t t = 0; t < x->rows; t++) {
        float *row = x->floats + t * x->stride;

        switch (check_random_below(8)) {
        case 0:
            for (size_t k = 0; k < x->columns; k++)
                row[k] = fabsf(row[k]);
            break;
        case 1:
            for (size_t k = 0; k < x->columns; k++)
                row[k] = -fabsf(row[k]);
            break;
        case 2:
            row[check_random_below(x->columns)] *= 40;
            break;
        case 3:
            memset(row, 0, x->columns * sizeof(*row));
            break;
        case 4:
            for (size_t k = 0; k < x->columns; k++)
                row[k] *= 1e-32f;
            break;
        default:
            break;
        }
    }
}

static void choose_factors(float *factors, uint32_t K) {
    for (uint32_t k = 0; k < K; k++)
        factors[k] = ldexpf(1, (int)check_random_below(7) - 3);
}

static bool compare(const struct integer_product *product, const struct integer_product *plain,
                    const struct grid *x, const struct grid *weights, const float *bias,
                    enum moult_epilogue epilogue) {
    uint32_t T = product->T, N = product->panels.outputs;
    struct grid before, y, should;
    bool passed;

    check_grid_init(&before, T, N, 3);
    check_grid_init(&y, T, N, 1);
    check_grid_init(&should, T, N, 1);
    check_grid_copy(&y, &before);
    check_grid_copy(&should, &before);
    multiply(product, &y, 0, T, 0, product->panels.panels, epilogue);
    multiply(plain, &should, 0, T, 0, plain->panels.panels,
             epilogue == MOULT_EPILOGUE_GELU ? MOULT_EPILOGUE_NONE : epilogue);
    passed = rounded_well(product, x, weights) && same_integers(product, plain) &&
             check_grid_guarded(&y) &&
             (epilogue == MOULT_EPILOGUE_GELU ? near_gelu(&y, &should)
                                              : check_grid_equal(&y, &should)) &&
             same_when_split(product, &y, &before, epilogue) &&
             (epilogue != MOULT_EPILOGUE_NONE || exact_sums(product, &y, bias));
    check_grid_release(&before);
    check_grid_release(&y);
    check_grid_release(&should);
    return passed;
}

static bool right(const struct moult_kernels *kernels, enum moult_precision precision, uint32_t T,
                  uint32_t N, uint32_t K, enum moult_epilogue epilogue) {
    struct integer_product product, plain;
    struct grid x, weights, bias, factors;
    const float *divisors = NULL;
    bool passed;

    check_grid_init(&x, T, K, 2);
    check_grid_init(&weights, 1, N * K, 1);
    check_grid_init(&bias, 1, N, 1);
    check_grid_init(&factors, 1, K, 1);
    roughen(&x);
    if (precision == MOULT_PRECISION_INT8 && check_random_below(3) != 0) {
        choose_factors(factors.floats, K);
        divisors = factors.floats;
    }
    passed = open_product(&product, kernels, precision, &x, &weights, bias.floats, divisors) &&
             open_product(&plain, moult_kernels_find("c"), precision, &x, &weights, bias.floats,
                          divisors) &&
             compare(&product, &plain, &x, &weights, bias.floats, epilogue);
    close_product(&product);
    close_product(&plain);
    check_grid_release(&x);
    check_grid_release(&weights);
    check_grid_release(&bias);
    check_grid_release(&factors);
    return passed;
}

/* All weights of an output alike, or but for a few: then its integers must have fewer than 12 bits,
 * and with every value of x at its largest the sum comes as near to 2^31 as any does. */
static bool at_the_edge(const struct moult_kernels *kernels, enum moult_precision precision,
                        uint32_t K) {
    enum { T = 3, N = 5 };
    struct integer_product product;
    struct grid x, weights, y;
    float bias[N] = {0};
    bool passed;

    check_grid_init(&x, T, K, 1);
    check_grid_init(&weights, 1, N * K, 1);
    check_grid_init(&y, T, N, 1);
    for (size_t k = 0; k < K; k++) {
        x.floats[k] = 7.25f;
        x.floats[x.stride + k] = -3;
        x.floats[2 * x.stride + k] = k % 2 ? 5 : -5;
        for (size_t n = 0; n < N; n++) {
            float sign = n == 1 || (n == 2 && k % 2) ? -1 : 1;

            weights.floats[n * K + k] = sign * (n == 3 && k % 9 == 0 ? 1 : n == 4 ? 0.9f : 0.7f);
        }
    }
    passed = open_product(&product, kernels, precision, &x, &weights, bias, NULL);
    if (passed) {
        multiply(&product, &y, 0, T, 0, product.panels.panels, MOULT_EPILOGUE_NONE);
        passed = exact_sums(&product, &y, bias);
    }
    for (size_t n = 0; n < N && passed && precision == MOULT_PRECISION_INT16; n++) {
        int64_t sum = 0;

        for (size_t k = 0; k < K; k++)
            sum += abs(weight_at(&product.panels, n, k));
        if (sum * 8191 > INT32_MAX)
            passed = check_because("K=%u: the integers of output %zu add up to %lld", K, n,
                                   (long long)sum);
        else if (K >= 1536 && sum * 8191 < INT32_MAX / 4 * 3)
            passed = check_because("K=%u: output %zu could have had more bits: %lld", K, n,
                                   (long long)sum);
    }
    close_product(&product);
    check_grid_release(&x);
    check_grid_release(&weights);
    check_grid_release(&y);
    return passed;
}

static void check_rung(const struct moult_kernels *kernels, enum moult_precision precision) {
    const char *rung = names[precision];
    bool passed = true;

    for (unsigned epilogue = 0; epilogue < 3; epilogue++) {
        passed = true;
        for (uint32_t T = 1; T <= 40 && passed; T += check_few ? 3 : 1)
            passed = right(kernels, precision, T, 1 + check_random_below(210),
                           1 + check_random_below(210), (enum moult_epilogue)epilogue);
        check_ok(passed, "%s, %s: as plain C with 1 to 40 rows of odd sizes, %s", kernels->name,
                 rung, epilogues[epilogue]);
    }
    check_ok(right(kernels, precision, check_few ? 3 : 19, 384, 1536, MOULT_EPILOGUE_ADD) &&
                 right(kernels, precision, check_few ? 2 : 16, 1536, 384, MOULT_EPILOGUE_GELU) &&
                 right(kernels, precision, 3, 1, 1, MOULT_EPILOGUE_NONE) &&
                 right(kernels, precision, 1, 1, 4096, MOULT_EPILOGUE_NONE) &&
                 right(kernels, precision, check_few ? 30 : ROWS_MAX, 50, 385, MOULT_EPILOGUE_NONE),
             "%s, %s: as plain C with the sizes of a model", kernels->name, rung);
    check_ok(at_the_edge(kernels, precision, 384) && at_the_edge(kernels, precision, 513) &&
                 at_the_edge(kernels, precision, 1536) && at_the_edge(kernels, precision, 3072) &&
                 at_the_edge(kernels, precision, 32768),
             "%s, %s: no sum overflows", kernels->name, rung);
}

void check_integers(const struct moult_kernels *kernels) {
    check_rung(kernels, MOULT_PRECISION_INT16);
    check_rung(kernels, MOULT_PRECISION_INT8);
}
