#include "index/quantize.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

#define ULP 0x1p-24             /* u: what one rounding to f32 errs, to its result. */
#define UP (1 + 1e-6)           /* Covers the roundings of double, and one to f32. */
#define NORM_MAX 1e15           /* Products of two stay far from what f32 holds. */
#define SCALE_MIN 1e-30f        /* Below, nothing is kept of a row but its residual. */

/* COARSE_MOST: of 32·h - 241, without its sign. */
enum { LEVELS = 127, ZERO = 128, QUERY_LEVELS = 8191, COARSE_MOST = 241 };

/* Sums have eight parts, for a processor to have more than one under way. */
enum { PARTS = 8 };

static double sum_of(const double parts[PARTS]) {
    double sum = 0;

    for (unsigned i = 0; i < PARTS; i++)
        sum += parts[i];
    return sum;
}

static double norm_of(const float *v, uint32_t C) {
    double parts[PARTS] = {0};
    uint32_t c = 0;

    for (; c + PARTS <= C; c += PARTS) {
        for (unsigned i = 0; i < PARTS; i++)
            parts[i] += (double)v[c + i] * (double)v[c + i];
    }
    for (; c < C; c++)
        parts[0] += (double)v[c] * (double)v[c];
    return sqrt(sum_of(parts));
}

static float largest_of(const float *v, uint32_t C) {
    float largest = 0;

    for (uint32_t c = 0; c < C; c++) {
        float size = fabsf(v[c]);

        largest = size > largest ? size : largest;
    }
    return largest;
}

bool moult_vector_usable(const float *v, uint32_t C) {
    return norm_of(v, C) <= NORM_MAX;       /* Of what is not a number, nothing is true. */
}

static int nearest(double x) {
    return (int)(x < 0 ? x - 0.5 : x + 0.5);
}

/* How far v is from what its levels say, or the upper halves of them. */
static double distance(const float *v, const uint8_t *levels, uint32_t C, bool coarse,
                       double scale) {
    double parts[PARTS] = {0}, zero = coarse ? COARSE_MOST / 2.0 : ZERO;
    uint8_t kept = coarse ? 0xf0 : 0xff;
    uint32_t c = 0;

    for (; c + PARTS <= C; c += PARTS) {
        for (unsigned i = 0; i < PARTS; i++) {
            double left = (double)v[c + i] - ((levels[c + i] & kept) - zero) * scale;

            parts[i] += left * left;
        }
    }
    for (; c < C; c++) {
        double left = (double)v[c] - ((levels[c] & kept) - zero) * scale;

        parts[0] += left * left;
    }
    return sqrt(sum_of(parts)) * UP + (double)SCALE_MIN;
}

struct moult_quantized_row moult_quantize_row(const float *v, uint32_t C, uint8_t *levels) {
    float scale = largest_of(v, C) / LEVELS, inverse = scale < SCALE_MIN ? 0 : 1 / scale;
    double fine, coarse;

    if (scale < SCALE_MIN)
        scale = 0;
    /* No level is wrong, but the nearest one is best; nothing is above 127.5. */
    for (uint32_t c = 0; c < C; c++)
        levels[c] = (uint8_t)(int)(v[c] * inverse + (ZERO + 0.5f));
    memset(levels + C, ZERO, moult_row_levels(C) - C);
    fine = distance(v, levels, C, false, (double)scale);
    coarse = distance(v, levels, C, true, (double)scale);
    return (struct moult_quantized_row){
        .scale = scale,
        .fine = (float)(fine * UP),
        .coarse = (float)(coarse * UP),
        .reach = (norm_of(v, C) + (fine > coarse ? fine : coarse) * UP * UP) * UP};
}

/* z = 128·high + low, with high from -64 to 64 and low from -64 to 63. */
static void put_pieces(struct moult_quantized_query *query, uint32_t c, uint32_t C, int z) {
    int high = (z + 64 + 128 * 64) / 128 - 64, low = z - 128 * high;
    int8_t *oct = query->scan + c / 8 * 16 + c % 8;

    if (c < 8 * moult_octs(C)) {
        oct[0] = (int8_t)high;
        oct[8] = (int8_t)low;
    }
    query->row[c] = (int8_t)high;
    query->row[moult_row_levels(C) + c] = (int8_t)low;
}

void moult_quantize_query(struct moult_quantized_query *query, const float *q, uint32_t C) {
    int levels = (int)(INT32_MAX / (COARSE_MOST * (int64_t)C));
    double largest = (double)largest_of(q, C), rest = 0;

    if (levels > QUERY_LEVELS)
        levels = QUERY_LEVELS;
    query->step = largest > 0 ? largest / levels : 1;
    query->sum = 0;
    for (uint32_t c = 0; c < moult_row_levels(C); c++) {
        double value = c < C ? (double)q[c] : 0;
        int z = nearest(value / query->step);

        z = z > levels ? levels : z < -levels ? -levels : z;
        rest += (value - z * query->step) * (value - z * query->step);
        query->sum += z;
        put_pieces(query, c, C, z);
    }
    query->norm = norm_of(q, C) * UP;
    query->residual = sqrt(rest) * UP;
    query->width = (float)(query->norm / query->step * UP);
}

double moult_query_slack(const struct moult_quantized_query *query, double reach, uint32_t C) {
    double gamma = C * ULP / (1 - C * ULP);
    double largest = reach * (query->norm + query->residual) / query->step;
    double apart = reach * query->residual + gamma * reach * query->norm + C * 0x1p-148;

    MOULT_REQUIRE(C * ULP < 0.5);
    return (apart / query->step + 8 * ULP * (largest + reach * (double)query->width)) * UP;
}

float moult_float_below(double x) {
    float rounded;

    if (x > (double)FLT_MAX)
        return FLT_MAX;
    if (x < (double)-FLT_MAX)
        return -INFINITY;
    rounded = (float)x;
    return (double)rounded > x ? nextafterf(rounded, -INFINITY) : rounded;
}
