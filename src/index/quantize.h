/* Vectors in 8 bits a dimension, and how far a score can be from what these say.
 *
 * A row v becomes w·s: w whole numbers from -127 to 127, s one f32 for the row. What is left over
 * is r = v - w·s; of it only the length is kept, as a number ρ that is not below it. A query q
 * becomes z·t + e, with z of 14 bits, so that e is nothing beside r. Before anything is rounded,
 *
 *     v·q  =  w·z·s·t  +  (w·s)·e  +  r·q
 *
 * and by Cauchy and Schwarz |r·q| <= ρ|q| and |(w·s)·e| <= N|e|, where N is not below |v| + ρ of
 * any row of the collection. D = w·z is a whole number and fits into 32 bits, since |z| <= Z with
 * 128·C·Z < 2^31; the kernels compute it exactly, in whatever order.
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
 * Norms are computed in double and then raised by a part in a million, which covers all that double
 * rounds. */
#ifndef MOULT_INDEX_QUANTIZE_H
#define MOULT_INDEX_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

/* Four dimensions, the unit of the kernels; the last one is filled up. */
static inline uint32_t moult_quads(uint32_t C) {
    return C / 4 + (C % 4 != 0);
}

/* Finite, and not so long that products of two such vectors would not be. */
bool moult_vector_usable(const float *v, uint32_t C);

struct moult_quantized_row {
    float scale;        /* s */
    float residual;     /* ρ */
    double reach;       /* Not below |v| + ρ. */
};

/* v [C] into bytes [4·quads]: w + 128. The vector has to be usable. */
struct moult_quantized_row moult_quantize_row(const float *v, uint32_t C, uint8_t *bytes);

struct moult_quantized_query {
    int8_t *pieces;     /* z as the kernels take it, [quads][2][4]. The caller's. */
    int32_t offset;     /* 128 · the sum of z: what the 128 of w + 128 adds to each product. */
    float width;        /* α */
    double step;        /* t */
    double norm;        /* |q| */
    double residual;    /* |e| */
};

/* Fills `query`, whose pieces have room for 8·quads. The vector has to be usable. */
void moult_quantize_query(struct moult_quantized_query *query, const float *q, uint32_t C);
/* β for rows that reach no farther than N. */
double moult_query_slack(const struct moult_quantized_query *query, double reach, uint32_t C);

/* The largest float that is not above x. */
float moult_float_below(double x);

#endif
