/* The registers of the AVX-512 levels, of 16 floats, for tiles of 8 rows × 48 outputs.
 *
 * A tile holds 24 sums in 24 of the 32 registers, three of weights and one of x: each loaded
 * weight serves 8 multiplications and each x three, so that the two FMA ports are the limit and
 * neither the loads (11 in 12 cycles) nor L2 (16 bytes a cycle). It is so for floats and for
 * integers. */
#ifndef MOULT_KERNELS_X86_AVX512_H
#define MOULT_KERNELS_X86_AVX512_H

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

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

static inline vector quotient(vector a, vector b) {
    return _mm512_div_ps(a, b);
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

/* Integers. */

typedef __m512i ints;

static inline ints no_ints(void) {
    return _mm512_setzero_si512();
}

static inline ints all_ints(int32_t a) {
    return _mm512_set1_epi32(a);
}

static inline ints load_ints(const void *from) {
    return _mm512_loadu_si512(from);
}

static inline void store_ints(void *to, ints a) {
    _mm512_storeu_si512(to, a);
}

/* As many bytes, each as a word. */
static inline ints load_widened(const int8_t *from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
}

static inline ints sub_ints(ints a, ints b) {
    return _mm512_sub_epi32(a, b);
}

static inline ints add_ints(ints a, ints b) {
    return _mm512_add_epi32(a, b);
}

static inline ints mul_ints(ints a, ints b) {
    return _mm512_mullo_epi32(a, b);
}

/* To the nearest, and to the even one of two. */
static inline ints rounded(vector a) {
    return _mm512_cvtps_epi32(a);
}

static inline vector to_floats(ints a) {
    return _mm512_cvtepi32_ps(a);
}

static inline vector absolute(vector a) {
    return _mm512_abs_ps(a);
}

/* The same bits. */
static inline vector as_floats(ints a) {
    return _mm512_castsi512_ps(a);
}

static inline ints as_ints(vector a) {
    return _mm512_castps_si512(a);
}

/* The lanes of a and b as words: four of a, four of b, the next four of a, and so on. */
static inline ints join_words(ints a, ints b) {
    return _mm512_packs_epi32(a, b);
}

/* The lower words of a, each with that of b above it. */
static inline ints pair_words(ints a, ints b) {
    return _mm512_mask_blend_epi16(0xaaaaaaaau, a, _mm512_slli_epi32(b, 16));
}

/* For four registers at once, in half of the steps: each lane of the i-th register becomes the
 * largest of the i-th. */
static inline void largest_of_each(vector a[4]) {
    vector low = _mm512_max_ps(_mm512_shuffle_f32x4(a[0], a[1], 0x44),
                               _mm512_shuffle_f32x4(a[0], a[1], 0xee));
    vector high = _mm512_max_ps(_mm512_shuffle_f32x4(a[2], a[3], 0x44),
                                _mm512_shuffle_f32x4(a[2], a[3], 0xee));
    vector all = _mm512_max_ps(_mm512_shuffle_f32x4(low, high, 0x88),
                               _mm512_shuffle_f32x4(low, high, 0xdd));

    all = _mm512_max_ps(all, _mm512_permute_ps(all, 0xb1));
    all = _mm512_max_ps(all, _mm512_permute_ps(all, 0x4e));
    a[0] = _mm512_shuffle_f32x4(all, all, 0x00);
    a[1] = _mm512_shuffle_f32x4(all, all, 0x55);
    a[2] = _mm512_shuffle_f32x4(all, all, 0xaa);
    a[3] = _mm512_shuffle_f32x4(all, all, 0xff);
}

/* The sum of the i-th register in lanes 4 · i and on. */
static inline ints sums_of_four(const ints a[4]) {
    ints low = _mm512_add_epi32(_mm512_shuffle_i32x4(a[0], a[1], 0x44),
                                _mm512_shuffle_i32x4(a[0], a[1], 0xee));
    ints high = _mm512_add_epi32(_mm512_shuffle_i32x4(a[2], a[3], 0x44),
                                 _mm512_shuffle_i32x4(a[2], a[3], 0xee));
    ints all = _mm512_add_epi32(_mm512_shuffle_i32x4(low, high, 0x88),
                                _mm512_shuffle_i32x4(low, high, 0xdd));

    all = _mm512_add_epi32(all, _mm512_shuffle_epi32(all, (_MM_PERM_ENUM)0xb1));
    return _mm512_add_epi32(all, _mm512_shuffle_epi32(all, (_MM_PERM_ENUM)0x4e));
}

/* The larger of |a| and |b|. */
static inline vector larger_size(vector a, vector b) {
    return _mm512_range_ps(a, b, 0x0b);
}

static inline void store_words(int16_t *to, ints a) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtsepi32_epi16(a));
}

/* The words of two registers: half of the shuffles of two times one. */
static inline void store_words_of_two(int16_t *to, ints a, ints b) {
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);

    _mm512_storeu_si512(to, _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b)));
}

static inline void store_bytes(uint8_t *to, ints a) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(a));
}

static inline ints smaller_ints(ints a, ints b) {
    return _mm512_min_epi32(a, b);
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

#endif
