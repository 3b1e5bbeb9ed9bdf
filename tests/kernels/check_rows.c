/* The kernels that walk along one row: layer_norm, add3, mean, unit, dot. */
#include <math.h>
#include <string.h>

#include "check.h"

/* Above `centre`, so that a variance by way of the sum of squares would be wrong. */
static bool layer_norm_right(const struct moult_kernels *kernels, uint32_t T, uint32_t C,
                             float centre) {
    struct grid x, y, alone, gamma, beta;
    bool passed = true;

    check_grid_init(&x, T, C, 1);
    check_grid_init(&y, T, C, 1);
    check_grid_init(&alone, T, C, 1);
    check_grid_init(&gamma, 1, C, 2);
    check_grid_init(&beta, 1, C, 2);
    for (size_t t = 0; t < T; t++) {
        for (uint32_t c = 0; c < C; c++)
            x.floats[t * x.stride + c] += centre;
    }
    check_grid_copy(&y, &x);
    check_grid_copy(&alone, &x);
    kernels->layer_norm(y.floats, y.stride, T, C, gamma.floats, beta.floats, 1e-12f);
    for (size_t t = T; t-- > 0;)
        kernels->layer_norm(alone.floats + t * alone.stride, 1, 1, C, gamma.floats, beta.floats,
                            1e-12f);
    for (size_t t = 0; t < T && passed; t++) {
        const float *row = x.floats + t * x.stride;
        double mean = 0, variance = 0, factor, bound;

        for (uint32_t c = 0; c < C; c++)
            mean += (double)row[c] / C;
        for (uint32_t c = 0; c < C; c++)
            variance += ((double)row[c] - mean) * ((double)row[c] - mean) / C;
        factor = 1 / sqrt(variance + 1e-12);
        bound = 2e-6;
        for (uint32_t c = 0; c < C && passed; c++) {
            double normal = ((double)row[c] - mean) * factor;
            double exact = normal * (double)gamma.floats[c] + (double)beta.floats[c];
            double error = fabs((double)y.floats[t * y.stride + c] - exact);

            if (!(error <= bound * (1 + fabs(normal))) && C > 1)
                passed = check_because("T=%u C=%u: row %zu, channel %u is %g off", T, C, t, c,
                                       error);
        }
    }
    passed = passed && check_grid_guarded(&y) && check_grid_finite(&y) &&
             check_grid_equal(&alone, &y);
    check_grid_release(&x);
    check_grid_release(&y);
    check_grid_release(&alone);
    check_grid_release(&gamma);
    check_grid_release(&beta);
    return passed;
}

/* Equal numbers have no variance: beta comes out. */
static bool layer_norm_of_equals(const struct moult_kernels *kernels, float all) {
    struct grid x, gamma, beta;
    bool passed;

    check_grid_init(&x, 1, 77, 1);
    check_grid_init(&gamma, 1, 77, 1);
    check_grid_init(&beta, 1, 77, 1);
    for (uint32_t c = 0; c < 77; c++)
        x.floats[c] = all;
    kernels->layer_norm(x.floats, x.stride, 1, 77, gamma.floats, beta.floats, 1e-5f);
    passed = check_grid_finite(&x);
    for (uint32_t c = 0; c < 77 && passed; c++) {
        if (!(fabsf(x.floats[c] - beta.floats[c]) <= 1e-4f))
            passed = check_because("channel %u is %g, not beta", c, (double)x.floats[c]);
    }
    check_grid_release(&x);
    check_grid_release(&gamma);
    check_grid_release(&beta);
    return passed;
}

static bool add3_right(const struct moult_kernels *kernels, uint32_t C) {
    struct grid in, out;
    const float *a, *b, *c;
    bool passed;

    check_grid_init(&in, 3, C, 1);
    check_grid_init(&out, 1, C, 1);
    a = in.floats;
    b = a + in.stride;
    c = b + in.stride;
    kernels->add3(out.floats, a, b, c, C);
    passed = check_grid_guarded(&out);
    for (uint32_t i = 0; i < C && passed; i++) {
        if (out.floats[i] != a[i] + b[i] + c[i])
            passed = check_because("C=%u: channel %u is wrong", C, i);
    }
    check_grid_release(&in);
    check_grid_release(&out);
    return passed;
}

static bool mean_right(const struct moult_kernels *kernels, uint32_t L, uint32_t C) {
    struct grid x, out;
    bool passed;

    check_grid_init(&x, L, C, 1);
    check_grid_init(&out, 1, C, 1);
    kernels->mean(out.floats, x.floats, x.stride, L, C);
    passed = check_grid_guarded(&out);
    for (uint32_t c = 0; c < C && passed; c++) {
        double exact = 0;

        for (size_t i = 0; i < L; i++)
            exact += (double)x.floats[i * x.stride + c] / L;
        if (!(fabs((double)out.floats[c] - exact) <= 1e-7))
            passed = check_because("L=%u C=%u: channel %u is %g, not %g", L, C, c,
                                   (double)out.floats[c], exact);
    }
    check_grid_release(&x);
    check_grid_release(&out);
    return passed;
}

static bool dot_and_unit_right(const struct moult_kernels *kernels, uint32_t C, float most) {
    struct grid a, b;
    double exact = 0, size = 0, norm = 0, length = 0, is;
    bool passed = true;

    check_grid_init(&a, 1, C, most);
    check_grid_init(&b, 1, C, 1);
    for (uint32_t c = 0; c < C; c++) {
        exact += (double)a.floats[c] * (double)b.floats[c];
        size += fabs((double)a.floats[c] * (double)b.floats[c]);
        norm += (double)a.floats[c] * (double)a.floats[c];
    }
    norm = sqrt(norm);
    is = (double)kernels->dot(a.floats, b.floats, C);
    if (!(fabs(is - exact) <= 2e-6 * size))
        passed = check_because("C=%u: the product is %g, not %g", C, is, exact);
    kernels->unit(a.floats, C);
    for (uint32_t c = 0; c < C; c++)
        length += (double)a.floats[c] * (double)a.floats[c];
    if (!(fabs(sqrt(length) - 1) <= 1e-6) && norm > 1e-12)
        passed = check_because("C=%u: the length is %.9g", C, sqrt(length));
    passed = passed && check_grid_guarded(&a) && check_grid_finite(&a);
    check_grid_release(&a);
    check_grid_release(&b);
    return passed;
}

void check_rows(const struct moult_kernels *kernels) {
    bool passed = true;

    for (uint32_t C = 1; C <= 150 && passed; C++)
        passed = layer_norm_right(kernels, 1 + C % 5, C, 0) && layer_norm_right(kernels, 2, C, 30);
    check_ok(passed && layer_norm_right(kernels, 7, 384, -5) &&
                 layer_norm_right(kernels, 3, 1024, 100),
             "%s: layer_norm of 1 to 1,024 channels", kernels->name);
    check_ok(layer_norm_of_equals(kernels, 0) && layer_norm_of_equals(kernels, 0.1f) &&
                 layer_norm_of_equals(kernels, -3) && layer_norm_of_equals(kernels, 1e-40f) &&
                 layer_norm_of_equals(kernels, 1234567.8f),
             "%s: layer_norm without a variance", kernels->name);
    passed = true;
    for (uint32_t C = 1; C <= 150 && passed; C++)
        passed = add3_right(kernels, C);
    check_ok(passed, "%s: add3 of 1 to 150 channels", kernels->name);
    passed = true;
    for (uint32_t C = 1; C <= 150 && passed; C++)
        passed = mean_right(kernels, 1 + check_random_below(70), C);
    check_ok(passed && mean_right(kernels, 20000, 33), "%s: mean of up to 20,000 rows",
             kernels->name);
    passed = true;
    for (uint32_t C = 1; C <= 150 && passed; C++)
        passed = dot_and_unit_right(kernels, C, 1);
    check_ok(passed && dot_and_unit_right(kernels, 384, 1e-6f) &&
                 dot_and_unit_right(kernels, 8192, 1) && dot_and_unit_right(kernels, 9, 0),
             "%s: dot and unit of 1 to 8,192 channels", kernels->name);
}
