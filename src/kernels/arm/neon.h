/* The registers of the ARM64 levels: 32 of them, of 4 floats each, for tiles of 8 rows × 8 outputs.
 *
 * A tile holds 16 sums, which is what four pipes need whose multiplications take four cycles; the
 * values of 8 rows, four of each in a register; and two registers of weights. An instruction takes
 * any one lane of a register for a factor, so that four k cost 16 loads for 64 multiplications. */
#ifndef MOULT_KERNELS_ARM_NEON_H
#define MOULT_KERNELS_ARM_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernels/levels.h"

typedef float32x4_t vector;
/* How many lanes, from the first: there are no masks, and memory is taken lane by lane. */
typedef unsigned lanes;

enum {
    LANES = 4,
    TILE_ROWS = 8,
    TILE_VECTORS = 2,   /* Panels of 8 outputs, or keys. */
    VALUE_VECTORS = 2   /* Panels of 8 channels of a head's values. */
};

static inline vector load(const float *from) {
    return vld1q_f32(from);
}

static inline void store(float *to, vector a) {
    vst1q_f32(to, a);
}

/* The first `count` lanes, all of them from LANES on. */
static inline lanes first_lanes(size_t count) {
    return count >= LANES ? LANES : (lanes)count;
}

static inline vector broadcast(float a) {
    return vdupq_n_f32(a);
}

/* Lanes that are not in `some` read as zero and are not touched in memory. */
static inline vector load_some(const float *from, lanes some) {
    vector a = broadcast(0);

    if (some == LANES)
        return load(from);
    if (some > 0)
        a = vld1q_lane_f32(from, a, 0);
    if (some > 1)
        a = vld1q_lane_f32(from + 1, a, 1);
    if (some > 2)
        a = vld1q_lane_f32(from + 2, a, 2);
    return a;
}

static inline void store_some(float *to, lanes some, vector a) {
    if (some == LANES) {
        store(to, a);
        return;
    }
    if (some > 0)
        vst1q_lane_f32(to, a, 0);
    if (some > 1)
        vst1q_lane_f32(to + 1, a, 1);
    if (some > 2)
        vst1q_lane_f32(to + 2, a, 2);
}

static inline vector select_some(lanes some, vector a, vector otherwise) {
    static const uint32_t numbers[LANES] = {0, 1, 2, 3};

    return vbslq_f32(vcltq_u32(vld1q_u32(numbers), vdupq_n_u32(some)), a, otherwise);
}

static inline vector add(vector a, vector b) {
    return vaddq_f32(a, b);
}

static inline vector sub(vector a, vector b) {
    return vsubq_f32(a, b);
}

static inline vector mul(vector a, vector b) {
    return vmulq_f32(a, b);
}

static inline vector fma_add(vector a, vector b, vector c) {
    return vfmaq_f32(c, a, b);
}

/* Not a number where one of the two is none. */
static inline vector larger(vector a, vector b) {
    return vmaxq_f32(a, b);
}

static inline vector smaller(vector a, vector b) {
    return vminq_f32(a, b);
}

/* a · 2^n, where the low bits of `shifted` hold n: an addition to the exponent. */
static inline vector scale_by_power(vector a, vector shifted) {
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a),
                                           vshlq_n_s32(vreinterpretq_s32_f32(shifted), 23)));
}

static inline float sum_of(vector a) {
    return vaddvq_f32(a);
}

static inline float largest_of(vector a) {
    return vmaxvq_f32(a);
}

/* Integers. */

typedef int32x4_t ints;

static inline ints no_ints(void) {
    return vdupq_n_s32(0);
}

static inline ints all_ints(int32_t a) {
    return vdupq_n_s32(a);
}

static inline ints load_ints(const int32_t *from) {
    return vld1q_s32(from);
}

static inline ints add_ints(ints a, ints b) {
    return vaddq_s32(a, b);
}

/* To the nearest, and to the even one of two. */
static inline ints rounded(vector a) {
    return vcvtnq_s32_f32(a);
}

static inline vector to_floats(ints a) {
    return vcvtq_f32_s32(a);
}

static inline vector absolute(vector a) {
    return vabsq_f32(a);
}

static inline void store_words(int16_t *to, ints a) {
    vst1_s16(to, vqmovn_s32(a));
}

static inline void store_words_of_two(int16_t *to, ints a, ints b) {
    vst1q_s16(to, vcombine_s16(vqmovn_s32(a), vqmovn_s32(b)));
}

/* As assignment, because a store of one lane may want an address that its size divides. */
static inline void store_bytes(uint8_t *to, ints a) {
    int16x4_t words = vqmovn_s32(a);
    uint32_t four =
        vget_lane_u32(vreinterpret_u32_u8(vqmovun_s16(vcombine_s16(words, words))), 0);

    memcpy(to, &four, sizeof(four));
}

static inline ints smaller_ints(ints a, ints b) {
    return vminq_s32(a, b);
}

/* Lanes of 32 and of 64 bits change places in turn: rows of the square become columns. */
static inline void transpose(vector square[LANES]) {
    float64x2_t t[LANES];

    for (unsigned i = 0; i < LANES; i += 2) {
        t[i] = vreinterpretq_f64_f32(vtrn1q_f32(square[i], square[i + 1]));
        t[i + 1] = vreinterpretq_f64_f32(vtrn2q_f32(square[i], square[i + 1]));
    }
    for (unsigned i = 0; i < 2; i++) {
        square[i] = vreinterpretq_f32_f64(vtrn1q_f64(t[i], t[i + 2]));
        square[i + 2] = vreinterpretq_f32_f64(vtrn2q_f64(t[i], t[i + 2]));
    }
}

#define FOR_EACH_ROWS(each) each(1) each(2) each(3) each(4) each(5) each(6) each(7) each(8)

#endif
