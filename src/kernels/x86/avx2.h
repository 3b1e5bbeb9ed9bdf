/* The registers of the AVX2 levels, of 8 floats, for tiles of 6 rows × 16 outputs.
 *
 * Of the 16 registers a tile holds 12 sums, two of weights and one of x: 12 multiplications for
 * 8 loads, which two load ports keep up with. The last is for a product on its way to its sum. */
#ifndef MOULT_KERNELS_X86_AVX2_H
#define MOULT_KERNELS_X86_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/levels.h"

typedef __m256 vector;
typedef __m256i lanes;

enum {
    LANES = 8,
    TILE_ROWS = 6,
    TILE_VECTORS = 2,   /* Panels of 16 outputs, or keys. */
    VALUE_VECTORS = 2   /* Panels of 16 channels of a head's values. */
};

static inline vector load(const float *from) {
    return _mm256_loadu_ps(from);
}

static inline void store(float *to, vector a) {
    _mm256_storeu_ps(to, a);
}

/* The first `count` lanes, all of them from LANES on. */
static inline lanes first_lanes(size_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count >= LANES ? LANES : (int)count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Lanes that are not in `some` read as zero and are not touched in memory. */
static inline vector load_some(const float *from, lanes some) {
    return _mm256_maskload_ps(from, some);
}

static inline void store_some(float *to, lanes some, vector a) {
    _mm256_maskstore_ps(to, some, a);
}

static inline vector select_some(lanes some, vector a, vector otherwise) {
    return _mm256_blendv_ps(otherwise, a, _mm256_castsi256_ps(some));
}

static inline vector broadcast(float a) {
    return _mm256_set1_ps(a);
}

static inline vector add(vector a, vector b) {
    return _mm256_add_ps(a, b);
}

static inline vector sub(vector a, vector b) {
    return _mm256_sub_ps(a, b);
}

static inline vector mul(vector a, vector b) {
    return _mm256_mul_ps(a, b);
}

static inline vector fma_add(vector a, vector b, vector c) {
    return _mm256_fmadd_ps(a, b, c);
}

/* b where one of the two is not a number. */
static inline vector larger(vector a, vector b) {
    return _mm256_max_ps(a, b);
}

static inline vector smaller(vector a, vector b) {
    return _mm256_min_ps(a, b);
}

/* a · 2^n, where the low bits of `shifted` hold n: an addition to the exponent. */
static inline vector scale_by_power(vector a, vector shifted) {
    return _mm256_castsi256_ps(_mm256_add_epi32(
        _mm256_castps_si256(a), _mm256_slli_epi32(_mm256_castps_si256(shifted), 23)));
}

static inline float sum_of(vector a) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

static inline float largest_of(vector a) {
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Integers. */

typedef __m256i ints;

static inline ints no_ints(void) {
    return _mm256_setzero_si256();
}

static inline ints all_ints(int32_t a) {
    return _mm256_set1_epi32(a);
}

static inline ints load_ints(const void *from) {
    return _mm256_loadu_si256(from);
}

/* As many bytes, each as a word. */
static inline ints load_widened(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)from));
}

static inline ints sub_ints(ints a, ints b) {
    return _mm256_sub_epi32(a, b);
}

static inline ints add_ints(ints a, ints b) {
    return _mm256_add_epi32(a, b);
}

static inline ints mul_ints(ints a, ints b) {
    return _mm256_mullo_epi32(a, b);
}

/* To the nearest, and to the even one of two. */
static inline ints rounded(vector a) {
    return _mm256_cvtps_epi32(a);
}

static inline vector to_floats(ints a) {
    return _mm256_cvtepi32_ps(a);
}

static inline vector absolute(vector a) {
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}

static inline __m128i words_of(ints a) {
    return _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
}

static inline void store_words(int16_t *to, ints a) {
    _mm_storeu_si128((__m128i *)to, words_of(a));
}

static inline void store_words_of_two(int16_t *to, ints a, ints b) {
    _mm256_storeu_si256((__m256i *)to,
                        _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
}

static inline void store_bytes(uint8_t *to, ints a) {
    __m128i words = words_of(a);

    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}

static inline ints smaller_ints(ints a, ints b) {
    return _mm256_min_epi32(a, b);
}

/* Lanes of 32, 64 and 128 bits change places in turn: rows of the square become columns. */
static inline void transpose(vector square[LANES]) {
    vector t[LANES];

    for (unsigned i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(square[i], square[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(square[i], square[i + 1]);
    }
    for (unsigned i = 0; i < 8; i += 4) {
        __m256d a = _mm256_castps_pd(t[i]), b = _mm256_castps_pd(t[i + 1]);
        __m256d c = _mm256_castps_pd(t[i + 2]), d = _mm256_castps_pd(t[i + 3]);

        square[i] = _mm256_castpd_ps(_mm256_unpacklo_pd(a, c));
        square[i + 1] = _mm256_castpd_ps(_mm256_unpackhi_pd(a, c));
        square[i + 2] = _mm256_castpd_ps(_mm256_unpacklo_pd(b, d));
        square[i + 3] = _mm256_castpd_ps(_mm256_unpackhi_pd(b, d));
    }
    for (unsigned i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(square[i], square[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(square[i], square[i + 4], 0x31);
    }
    for (unsigned i = 0; i < 8; i++)
        square[i] = t[i];
}

#define FOR_EACH_ROWS(each) each(1) each(2) each(3) each(4) each(5) each(6)

#endif
