/* linear, and the packing of its weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "check.h"

#define ULP 5.97e-8     /* Half a unit in the last place of 1: the error of one rounding. */

static const char *const epilogues[] = {"none", "gelu", "add"};

/* One multiplication: x, weights, bias and what y held before. */
struct product {
    struct grid x;              /* [T][K] */
    struct grid weights;        /* [N][K], its stride being K. */
    struct grid bias;           /* [1][N] */
    struct grid before;         /* [T][N] */
    struct moult_panels panels;
};

static bool open_product(struct product *product, const struct moult_kernels *kernels, uint32_t T,
                         uint32_t N, uint32_t K, bool biased) {
    check_grid_init(&product->x, T, K, 2);
    check_grid_init(&product->weights, 1, N * K, 1);
    check_grid_init(&product->bias, 1, N, 1);
    check_grid_init(&product->before, T, N, 3);
    if (!biased)
        memset(product->bias.floats, 0, N * sizeof(float));
    return moult_panels_pack(&product->panels, kernels, product->weights.floats,
                             biased ? product->bias.floats : NULL, N, K) == 0;
}

static void close_product(struct product *product) {
    check_grid_release(&product->x);
    check_grid_release(&product->weights);
    check_grid_release(&product->bias);
    check_grid_release(&product->before);
    moult_panels_release(&product->panels);
}

/* Rows [first, end) and the given panels of y. */
static void multiply(const struct product *product, const struct moult_kernels *kernels,
                     const struct grid *y, uint32_t first, uint32_t end, uint32_t panel_first,
                     uint32_t panel_end, enum moult_epilogue epilogue) {
    kernels->linear(&product->panels, product->x.floats + first * product->x.stride,
                    product->x.stride, y->floats + first * y->stride, y->stride, end - first,
                    panel_first, panel_end, epilogue);
}

static double exact_gelu(double x) {
    return 0.5 * x * erfc(-x / sqrt(2));
}

/* Eight times the error that roundings add up to on average; a wrong factor is far outside. */
static bool near_exact(const struct product *product, const struct grid *y,
                       enum moult_epilogue epilogue) {
    uint32_t K = product->x.columns;

    for (size_t t = 0; t < y->rows; t++) {
        const float *x = product->x.floats + t * product->x.stride;

        for (size_t n = 0; n < y->columns; n++) {
            const float *w = product->weights.floats + n * K;
            double exact = (double)product->bias.floats[n], size = fabs(exact), error, bound;

            for (uint32_t k = 0; k < K; k++) {
                exact += (double)x[k] * (double)w[k];
                size += fabs((double)x[k] * (double)w[k]);
            }
            bound = 8 * sqrt(K) * ULP * size;
            if (epilogue == MOULT_EPILOGUE_GELU) {
                bound = 1.13 * bound + 2e-7 * fmax(1, fabs(exact));
                exact = exact_gelu(exact);
            } else if (epilogue == MOULT_EPILOGUE_ADD) {
                exact += (double)product->before.floats[t * product->before.stride + n];
                bound += 2 * ULP * fabs(exact) + ULP * 3;
            }
            error = fabs((double)y->floats[t * y->stride + n] - exact);
            if (!(error <= bound))
                return check_because("T=%u N=%u K=%u %s: row %zu, output %zu is %g off (%g)",
                                     y->rows, y->columns, K, epilogues[epilogue], t, n, error,
                                     bound);
        }
    }
    return true;
}

/* However rows and panels are split, and wherever they lie: the same bits. */
static bool same_when_split(const struct product *product, const struct moult_kernels *kernels,
                            const struct grid *whole, enum moult_epilogue epilogue) {
    uint32_t T = whole->rows, panels = product->panels.panels;
    struct product other = *product;
    struct grid y;
    bool same;

    check_grid_init(&other.x, T, product->x.columns, 1);
    check_grid_copy(&other.x, &product->x);
    check_grid_init(&y, T, whole->columns, 1);
    check_grid_copy(&y, &product->before);
    for (uint32_t first = 0, end; first < T; first = end) {
        uint32_t middle = check_random_below(panels + 1);

        end = first + 1 + check_random_below(T - first);
        multiply(&other, kernels, &y, first, end, middle, panels, epilogue);
        multiply(&other, kernels, &y, first, end, 0, middle, epilogue);
    }
    same = check_grid_equal(&y, whole) && check_grid_guarded(&y);
    check_grid_release(&y);
    check_grid_release(&other.x);
    return same;
}

static bool right(const struct moult_kernels *kernels, uint32_t T, uint32_t N, uint32_t K,
                  enum moult_epilogue epilogue) {
    struct product product;
    struct grid y;
    bool passed;

    if (!open_product(&product, kernels, T, N, K, check_random_below(4) != 0))
        return check_because("there is no memory for %u times %u weights", N, K);
    check_grid_init(&y, T, N, 1);
    check_grid_copy(&y, &product.before);
    multiply(&product, kernels, &y, 0, T, 0, product.panels.panels, epilogue);
    passed = near_exact(&product, &y, epilogue) && check_grid_guarded(&y) &&
             same_when_split(&product, kernels, &y, epilogue);
    check_grid_release(&y);
    close_product(&product);
    return passed;
}

/* One row alone has the bits that it has among up to 40, in every place. */
static bool same_alone(const struct moult_kernels *kernels) {
    struct product product;
    struct grid alone, among;
    bool same = true;

    if (!open_product(&product, kernels, 40, 3 * kernels->panel - 5, 131, true))
        return check_because("there is no memory for the weights");
    check_grid_init(&alone, 40, product.bias.columns, 1);
    check_grid_init(&among, 40, product.bias.columns, 1);
    for (uint32_t t = 0; t < 40; t++)
        multiply(&product, kernels, &alone, t, t + 1, 0, 3, MOULT_EPILOGUE_GELU);
    for (uint32_t T = 1; T <= 40 && same; T++) {
        for (uint32_t t = 0; t < 40 && same; t += T) {
            uint32_t end = t + T < 40 ? t + T : 40;

            multiply(&product, kernels, &among, t, end, 0, 3, MOULT_EPILOGUE_GELU);
        }
        same = check_grid_equal(&among, &alone);
    }
    check_grid_release(&alone);
    check_grid_release(&among);
    close_product(&product);
    return same;
}

/* gelu(x) for x of y [T][1], through a weight of 1. */
static bool gelu_is_exact(const struct moult_kernels *kernels) {
    static const float special[] = {0,      -0.0f,  1e-8f,  -1e-8f, 6,     -6,     30,
                                    -30,    1e-40f, -1e-40f, 5.25f, -5.25f, 1e4f,  -1e4f,
                                    1e30f,  -1e30f, 0.5f,    -0.5f, 3e-3f, -3e-3f, 1};
    enum { SPECIAL = sizeof(special) / sizeof(special[0]) };
    const uint32_t steps = check_few ? 3000 : 60000;
    const float one = 1;
    struct moult_panels panels;
    struct grid x, y;
    bool passed = true;
    double worst = 0;

    check_grid_init(&x, steps + SPECIAL, 1, 10);
    check_grid_init(&y, steps + SPECIAL, 1, 1);
    for (size_t t = 0; t < SPECIAL; t++)
        x.floats[t * x.stride] = special[t];
    if (moult_panels_pack(&panels, kernels, &one, NULL, 1, 1) != 0)
        return check_because("there is no memory for one weight");
    kernels->linear(&panels, x.floats, x.stride, y.floats, y.stride, x.rows, 0, 1,
                    MOULT_EPILOGUE_GELU);
    for (size_t t = 0; t < x.rows && passed; t++) {
        double at = (double)x.floats[t * x.stride], is = (double)y.floats[t * y.stride];
        double error = fabs(is - exact_gelu(at)) / fmax(1, fabs(at));

        worst = error > worst ? error : worst;
        if (!(error <= 2e-7) || (at <= -6 && fabs(is / at) > 2e-9) || (at >= 6 && is != at))
            passed = check_because("gelu(%.9g) is %.9g, not %.9g", at, is, exact_gelu(at));
    }
    printf("# %s: gelu is within %.2g · max(1, |x|)\n", kernels->name, worst);
    moult_panels_release(&panels);
    check_grid_release(&x);
    check_grid_release(&y);
    return passed;
}

/* Packed weights lie where the header says, and zeros elsewhere. */
static bool packed(const struct moult_kernels *kernels, uint32_t N) {
    uint32_t width = kernels->panel, panels = (N + width - 1) / width, K = 37;
    struct product product;
    bool passed;

    if (!open_product(&product, kernels, 1, N, K, true))
        return check_because("there is no memory for the weights");
    passed = product.panels.panels == panels && product.panels.panel == width &&
             (uintptr_t)product.panels.values % 64 == 0 && (uintptr_t)product.panels.bias % 64 == 0;
    check_because("the panels have another size, or lie badly");
    for (size_t n = 0; n < panels * width && passed; n++) {
        for (size_t k = 0; k < K && passed; k++) {
            float is = product.panels.values[(n / width * K + k) * width + n % width];
            float should = n < N ? product.weights.floats[n * K + k] : 0;

            if (is != should)
                passed = check_because("the weight of output %zu, input %zu is elsewhere", n, k);
        }
        if (product.panels.bias[n] != (n < N ? product.bias.floats[n] : 0))
            passed = check_because("the bias of output %zu is elsewhere", n);
    }
    close_product(&product);
    return passed;
}

void check_linear(const struct moult_kernels *kernels) {
    bool passed = true;

    check_ok(packed(kernels, 2 * kernels->panel + 3) && packed(kernels, kernels->panel) &&
                 packed(kernels, 1),
             "%s: weights are packed as panels", kernels->name);
    for (unsigned epilogue = 0; epilogue < 3; epilogue++) {
        passed = true;
        for (uint32_t T = 1; T <= 40 && passed; T += check_few ? 3 : 1)
            passed = right(kernels, T, 1 + check_random_below(210), 1 + check_random_below(210),
                           (enum moult_epilogue)epilogue);
        check_ok(passed, "%s: linear with 1 to 40 rows of odd sizes, %s", kernels->name,
                 epilogues[epilogue]);
    }
    check_ok(right(kernels, check_few ? 3 : 19, 384, 1536, MOULT_EPILOGUE_ADD) &&
                 right(kernels, check_few ? 2 : 16, 1536, 384, MOULT_EPILOGUE_GELU) &&
                 right(kernels, 3, 1, 1, MOULT_EPILOGUE_NONE) &&
                 right(kernels, 1, 1, 4096, MOULT_EPILOGUE_NONE) &&
                 right(kernels, check_few ? 30 : 300, 50, 385, MOULT_EPILOGUE_NONE),
             "%s: linear with the sizes of a model", kernels->name);
    check_ok(same_alone(kernels), "%s: a row has the same bits among 1 to 40", kernels->name);
    check_ok(gelu_is_exact(kernels), "%s: gelu is exact to 2e-7", kernels->name);
}
