/* The AVX-512 level: registers of 16 floats, tiles of 8 rows × 48 outputs.
 *
 * A tile holds 24 sums in 24 of the 32 registers, three of weights and one of x: each loaded
 * weight serves 8 multiplications and each x three, so that the two FMA ports are the limit and
 * neither the loads (11 in 12 cycles) nor L2 (16 bytes a cycle). */
#include <immintrin.h>
#include <math.h>

#include "kernels/levels.h"

typedef __m512 vector;
typedef __mmask16 lanes;

enum {
    LANES = 16,
    TILE_ROWS = 8,
    TILE_VECTORS = 3,   /* Panels of 48 outputs, or keys. */
    VALUE_VECTORS = 2   /* Panels of 32 channels of a head's values. */
};

static inline vector load(const float *from) {
    return _mm512_loadu_ps(from);
}

static inline void store(float *to, vector a) {
    _mm512_storeu_ps(to, a);
}

/* The first `count` lanes, all of them from LANES on. */
static inline lanes first_lanes(size_t count) {
    return count >= LANES ? (lanes)0xffff : (lanes)((1u << count) - 1);
}

/* Lanes that are not in `some` read as zero and are not touched in memory. */
static inline vector load_some(const float *from, lanes some) {
    return _mm512_maskz_loadu_ps(some, from);
}

static inline void store_some(float *to, lanes some, vector a) {
    _mm512_mask_storeu_ps(to, some, a);
}

static inline vector select_some(lanes some, vector a, vector otherwise) {
    return _mm512_mask_mov_ps(otherwise, some, a);
}

static inline vector broadcast(float a) {
    return _mm512_set1_ps(a);
}

static inline vector add(vector a, vector b) {
    return _mm512_add_ps(a, b);
}

static inline vector sub(vector a, vector b) {
    return _mm512_sub_ps(a, b);
}

static inline vector mul(vector a, vector b) {
    return _mm512_mul_ps(a, b);
}

static inline vector fma_add(vector a, vector b, vector c) {
    return _mm512_fmadd_ps(a, b, c);
}

/* b where one of the two is not a number. */
static inline vector larger(vector a, vector b) {
    return _mm512_max_ps(a, b);
}

static inline vector smaller(vector a, vector b) {
    return _mm512_min_ps(a, b);
}

/* a · 2^n, where the low bits of `shifted` hold n: an addition to the exponent. */
static inline vector scale_by_power(vector a, vector shifted) {
    return _mm512_castsi512_ps(_mm512_add_epi32(
        _mm512_castps_si512(a), _mm512_slli_epi32(_mm512_castps_si512(shifted), 23)));
}

static inline float sum_of(vector a) {
    return _mm512_reduce_add_ps(a);
}

static inline float largest_of(vector a) {
    return _mm512_reduce_max_ps(a);
}

/* Lanes of 32, 64 and 128 bits change places in turn: rows of the square become columns. */
static inline void transpose(vector square[LANES]) {
    vector t[LANES];

    for (unsigned i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(square[i], square[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(square[i], square[i + 1]);
    }
    for (unsigned i = 0; i < 16; i += 4) {
        __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
        __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);

        square[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        square[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        square[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        square[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    for (unsigned i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(square[i], square[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(square[i], square[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(square[i + 8], square[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(square[i + 8], square[i + 12], 0xdd);
    }
    for (unsigned i = 0; i < 4; i++) {
        square[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        square[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        square[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        square[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#define FOR_EACH_ROWS(each) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8)
#define LEVEL moult_kernels_avx512
#define LEVEL_NAME "avx512"
#include "kernels/x86/f32.h"
