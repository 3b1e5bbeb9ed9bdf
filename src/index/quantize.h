/* Vectors in 8 bits a dimension, and how far a score can be from what these say.
 *
 * A row v becomes w·s: w whole numbers from -127 to 127, s one f32 for the row. What is left over
 * is r = v - w·s; of it only the length is kept, as a number ρ that is not below it. A query q
 * becomes z·t + e, with z of 14 bits, so that e is nothing beside r. Before anything is rounded,
 *
 *     v·q  =  w·z·s·t  +  (w·s)·e  +  r·q
 *
 * and by Cauchy and Schwarz |r·q| <= ρ|q| and |(w·s)·e| <= N|e|, where N is not below |v| + ρ of
 * any row of the collection. D = w·z is a whole number, which the kernels compute exactly.
 *
 * The score that a caller sees is not v·q but f, the product of the two that `dot` computes in f32.
 * With u = 2^-24, and in any order and with fused steps or without, f is within γ|v||q| of v·q,
 * γ = C·u / (1 - C·u), as far as nothing underflows; what does adds less than 2^-148 in each of C
 * steps.
 *
 * For each row a search computes, in f32 and in units of t,
 *
 *     upper = float(D)·s + ρ·α         α = |q| / t, rounded up
 *     lower = upper - 2·(ρ·α)
 *
 * Each operation errs by u of its result at most. D·s is never above M = N(|q| + |e|) / t, and ρ·α
 * never above Nα. The first summand has two roundings, the second has one, their sum is one more:
 * 3uM + 2uNα. `lower` has that of 2·(ρ·α) and its own: 4uM + 5uNα. With something left for products
 * of u, 8u(M + Nα) covers both. So
 *
 *     lower - β  <=  f / t  <=  upper + β
 *     β = (N|e| + γN|q| + C·2^-148) / t + 8u(M + Nα)
 *
 * and β is one number for a whole search. A row with upper < L - 2β, where L is the k-th best
 * `lower`, has k others before it, and can be left out. With unit vectors of 384 dimensions ρ is
 * about 0.007 and t·β about 0.0001.
 *
 * Most rows are far from that, and show it with half of their bits. w + 128 = 16·h + l, two
 * nibbles; of h alone, the row is (16·h - 120.5)·s, with a residual ρ' that is 16 times as long.
 * Everything above holds for s/2, the whole numbers 32·h - 241, and ρ' in place of s, w and ρ, if N
 * is not below |v| + ρ' either. So a scan reads the high nibbles of all rows, and the low ones only
 * of rows that these cannot rule out: of one or two in a hundred, with vectors of texts.
 *
 * Norms are computed in double and then raised by a part in a million, which covers all that double
 * rounds. |z| <= Z with 241·C·Z < 2^31, so that every whole number here fits into 32 bits. */
#ifndef MOULT_INDEX_QUANTIZE_H
#define MOULT_INDEX_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* Eight dimensions, the unit of `scan`; the last one is filled up. */
static inline uint32_t moult_octs(uint32_t C) {
    return C / 8 + (C % 8 != 0);
}

/* Low nibbles of a row, as `scan_row` takes them. */
static inline uint32_t moult_row_bytes(uint32_t C) {
    return (C + 2 * MOULT_SCAN_ROW_UNIT - 1) / (2 * MOULT_SCAN_ROW_UNIT) * MOULT_SCAN_ROW_UNIT;
}

/* What a row is filled up to: 8·octs is not more. */
static inline uint32_t moult_row_levels(uint32_t C) {
    return 2 * moult_row_bytes(C);
}

/* Finite, and not so long that products of two such vectors would not be. */
bool moult_vector_usable(const float *v, uint32_t C);

struct moult_quantized_row {
    float scale;            /* s */
    float fine, coarse;     /* ρ, ρ' */
    double reach;           /* Not below |v| + ρ, nor |v| + ρ'. */
};

/* v [C] into levels [moult_row_levels(C)]: w + 128. The vector has to be usable. */
struct moult_quantized_row moult_quantize_row(const float *v, uint32_t C, uint8_t *levels);

struct moult_quantized_query {
    int8_t *scan;       /* z as `scan` takes it, [octs][4][4]; the caller's, as */
    int8_t *row;        /* z as `scan_row` does: [2][moult_row_levels(C)]. */
    int32_t sum;        /* Of z. */
    float width;        /* α */
    double step;        /* t */
    double norm;        /* |q| */
    double residual;    /* |e| */
};

/* Fills what `query` points to, and the rest. The vector has to be usable. */
void moult_quantize_query(struct moult_quantized_query *query, const float *q, uint32_t C);
/* β for rows that reach no farther than N. */
double moult_query_slack(const struct moult_quantized_query *query, double reach, uint32_t C);

/* What the high nibbles say comes from `scan`, in halves of t: float(32·h·z - offset)·s + ρ'·2α. */
static inline int32_t moult_coarse_offset(const struct moult_quantized_query *query) {
    return 241 * query->sum;
}

/* D of both nibbles, modulo 2^32 until the end. */
static inline int32_t moult_fine_product(const struct moult_quantized_query *query, int32_t high,
                                         int32_t low) {
    return (int32_t)(16u * (uint32_t)high + (uint32_t)low - 128u * (uint32_t)query->sum);
}

/* The largest float that is not above x. */
float moult_float_below(double x);

#endif
