/* The second half of a scan on ARM64, once the products of a block are known. */
#ifndef MOULT_KERNELS_ARM_SCAN_BOUND_H
#define MOULT_KERNELS_ARM_SCAN_BOUND_H

#include <arm_neon.h>

#include "kernels/levels.h"

enum { HEAD = MOULT_SCAN_ROWS * 2 * sizeof(float) };

/* Bounds of four rows; returns which reach the threshold. */
static inline unsigned bound_four(int32x4_t products, const float *scales,
                                  const struct moult_scan_query *query, float *uppers) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    int32x4_t whole = vsubq_s32(vshlq_n_s32(products, 5), vdupq_n_s32(query->offset));
    float32x4_t scaled = vmulq_f32(vcvtq_f32_s32(whole), vld1q_f32(scales));
    float32x4_t wide = vmulq_n_f32(vld1q_f32(scales + MOULT_SCAN_ROWS), query->width);
    float32x4_t upper = vaddq_f32(scaled, wide);

    vst1q_f32(uppers, upper);
    return vaddvq_u32(vandq_u32(vcgeq_f32(upper, vdupq_n_f32(query->threshold)), vld1q_u32(bits)));
}

/* And of a block. */
static inline void bound(struct moult_scan_result *result, unsigned b, const uint8_t *block,
                         const struct moult_scan_query *query) {
    unsigned reached = 0;

    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i += 4)
        reached |= bound_four(vld1q_s32(result->products[b] + i), (const float *)block + i, query,
                              result->uppers[b] + i)
                   << i;
    result->reached[b] = (uint16_t)reached;
}

/* `ahead` may be anywhere: what cannot be fetched is not. */
static inline void fetch_head(const uint8_t *ahead) {
    __builtin_prefetch(ahead);
    __builtin_prefetch(ahead + 64);
}

#endif
