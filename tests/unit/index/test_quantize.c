/* The bounds of scores: they hold, also where a vector is made to break them, and are tight. */
#include "index/quantize.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/memory.h"

static uint64_t random_state = 88172645463325252u;

static float draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (float)(random_state >> 40) / 8388608.0f - 1;
}

/* A row and a query, and what is made of them. */
struct pair {
    uint32_t C;
    float *v, *q;
    uint8_t *levels;
    int *z;
    struct moult_quantized_row row;
    struct moult_quantized_query query;
    double slack;
};

static void pair_open(struct pair *pair, uint32_t C) {
    memset(pair, 0, sizeof *pair);
    pair->C = C;
    pair->v = moult_allocate(C, sizeof(float));
    pair->q = moult_allocate(C, sizeof(float));
    pair->levels = moult_allocate(1, moult_row_levels(C));
    pair->z = moult_allocate(C, sizeof(int));
    pair->query.scan = moult_allocate(moult_octs(C), 16);
    pair->query.row = moult_allocate(2, moult_row_levels(C));
}

static void pair_close(struct pair *pair) {
    free(pair->v);
    free(pair->q);
    free(pair->levels);
    free(pair->z);
    free(pair->query.scan);
    free(pair->query.row);
}

static void quantize(struct pair *pair) {
    uint32_t C = pair->C;

    pair->row = moult_quantize_row(pair->v, C, pair->levels);
    moult_quantize_query(&pair->query, pair->q, C);
    pair->slack = moult_query_slack(&pair->query, pair->row.reach, C);
    for (uint32_t c = 0; c < moult_row_levels(C); c++) {
        int z = 128 * pair->query.row[c] + pair->query.row[moult_row_levels(C) + c];
        const int8_t *oct = pair->query.scan + c / 8 * 16 + c % 8;

        assert_in_range(pair->query.row[c] + 64, 0, 128);
        assert_in_range(pair->query.row[moult_row_levels(C) + c] + 64, 0, 128);
        if (c < 8 * moult_octs(C))
            assert_int_equal(z, 128 * oct[0] + oct[8]);
        if (c < C)
            pair->z[c] = z;
        else
            assert_int_equal(0, z);
    }
}

/* upper and lower as a search computes them, of all bits or of the upper half. */
static void bounds_of(const struct pair *pair, bool coarse, double *lower, double *upper) {
    int32_t high = 0, low = 0;
    float width = coarse ? 2 * pair->query.width : pair->query.width;
    float wide = (coarse ? pair->row.coarse : pair->row.fine) * width, bound;

    for (uint32_t c = 0; c < pair->C; c++) {
        high += (pair->levels[c] >> 4) * pair->z[c];
        low += (pair->levels[c] & 15) * pair->z[c];
    }
    if (coarse)
        bound = (float)(int32_t)(32u * (uint32_t)high -
                                 (uint32_t)moult_coarse_offset(&pair->query)) *
                    pair->row.scale +
                wide;
    else
        bound = (float)moult_fine_product(&pair->query, high, low) * pair->row.scale + wide;
    *upper = (double)bound / (coarse ? 2 : 1);
    *lower = (double)(bound - 2 * wide) / (coarse ? 2 : 1);
}

/* The score may be any that f32 products and sums give: in order, and backwards. */
static void check_bounds(const struct pair *pair) {
    float forward = 0, backward = 0;
    double lower, upper, t = pair->query.step;

    for (uint32_t c = 0; c < pair->C; c++) {
        forward += pair->v[c] * pair->q[c];
        backward += pair->v[pair->C - 1 - c] * pair->q[pair->C - 1 - c];
    }
    for (unsigned coarse = 0; coarse < 2; coarse++) {
        bounds_of(pair, coarse, &lower, &upper);
        assert_true((double)forward / t <= upper + pair->slack);
        assert_true((double)backward / t <= upper + pair->slack);
        assert_true((double)forward / t >= lower - pair->slack);
        assert_true((double)backward / t >= lower - pair->slack);
    }
}

static void draw_numbers(float *v, uint32_t C, float most) {
    for (uint32_t c = 0; c < C; c++)
        v[c] = draw() * most;
}

static void bounds_hold(void **state) {
    static const uint32_t widths[] = {1, 2, 7, 8, 9, 63, 64, 65, 384, 1087, 1088,
                                      MOULT_DIMENSIONS_MAX};
    static const float sizes[] = {1, 0.05f, 1e10f, 1e-20f, 1e-38f, 1e-44f, 0};

    (void)state;
    for (unsigned i = 0; i < sizeof widths / sizeof *widths; i++) {
        struct pair pair;

        pair_open(&pair, widths[i]);
        for (unsigned j = 0; j < 49; j++) {
            draw_numbers(pair.v, pair.C, sizes[j % 7]);
            draw_numbers(pair.q, pair.C, sizes[j / 7]);
            quantize(&pair);
            check_bounds(&pair);
            /* All of one sign and size: the largest products. */
            for (uint32_t c = 0; c < pair.C; c++)
                pair.v[c] = pair.q[c] = sizes[j % 7];
            quantize(&pair);
            check_bounds(&pair);
        }
        pair_close(&pair);
    }
}

/* A query along what is left over of a row is what the bound is made for: it is met, within a
 * thousandth of its width. */
static void bounds_are_met(void **state) {
    (void)state;
    for (unsigned turn = 0; turn < 40; turn++) {
        bool coarse = turn % 2, below = turn / 2 % 2;
        double lower, upper, exact = 0, width, missed;
        struct pair pair;

        pair_open(&pair, 384);
        draw_numbers(pair.v, pair.C, 1);
        pair.row = moult_quantize_row(pair.v, pair.C, pair.levels);
        for (uint32_t c = 0; c < pair.C; c++) {
            double level = coarse ? (pair.levels[c] & 0xf0) - 120.5 : pair.levels[c] - 128.0;
            double left = (double)pair.v[c] - level * (double)pair.row.scale;

            pair.q[c] = (float)(below ? -left : left);
        }
        quantize(&pair);
        check_bounds(&pair);
        bounds_of(&pair, coarse, &lower, &upper);
        for (uint32_t c = 0; c < pair.C; c++)
            exact += (double)pair.v[c] * (double)pair.q[c];
        width = (upper - lower) / 2;
        missed = below ? exact / pair.query.step - lower : upper - exact / pair.query.step;
        assert_true(fabs(missed) <= width / 1000 + pair.slack);
        assert_true(pair.slack < width / 10);
        pair_close(&pair);
    }
}

/* What the essay says of vectors of 384 dimensions. */
static void bounds_are_tight(void **state) {
    struct pair pair;
    double length;

    (void)state;
    pair_open(&pair, 384);
    for (unsigned turn = 0; turn < 20; turn++) {
        for (uint32_t c = 0; c < pair.C; c++) {
            pair.v[c] = draw() + draw() + draw() + draw();
            pair.q[c] = draw() + draw() + draw() + draw();
        }
        quantize(&pair);
        length = pair.row.reach;
        assert_true((double)pair.row.fine < 0.01 * length);
        assert_true((double)pair.row.coarse < 0.16 * length);
        assert_true(pair.slack * pair.query.step < 0.0003 * length * pair.query.norm);
    }
    pair_close(&pair);
}

static void rounds_down(void **state) {
    (void)state;
    assert_true(moult_float_below(0.1) <= 0.1f && (double)moult_float_below(0.1) <= 0.1);
    assert_true((double)moult_float_below(-0.1) <= -0.1);
    assert_true((double)moult_float_below(1 - 1e-12) < 1);
    assert_true(moult_float_below(1e300) == FLT_MAX);
    assert_true(moult_float_below(-1e300) == -INFINITY);
    assert_true(moult_float_below(-INFINITY) == -INFINITY);
    assert_true(moult_float_below(5) == 5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(bounds_are_met),
        cmocka_unit_test(bounds_are_tight),
        cmocka_unit_test(rounds_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
