/* The scan of an index with dot products: four products of bytes, and their sum in 32 bits, are one
 * instruction. A nibble is a small number to sdot, with a sign or without. */
#include "kernels/arm/scan_bound.h"

enum {
    BLOCKS = 2,                     /* At a time: 16 sums of 32 registers. */
    FOURS = MOULT_SCAN_ROWS / 4     /* Registers of four rows. */
};

struct sums {
    int32x4_t high, low;    /* Of what the pieces of both kinds give; high ones count 128 times. */
};

static inline int8x16_t low_nibbles(uint8x16_t bytes) {
    return vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
}

static inline int8x16_t high_nibbles(uint8x16_t bytes) {
    return vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));
}

static inline int32x4_t total(const struct sums *sums) {
    return vaddq_s32(vshlq_n_s32(sums->high, 7), sums->low);
}

/* Adds the products of four rows; each lane of `pieces` is for all of them. */
static inline void add_products(struct sums *sums, uint8x16_t bytes, int8x16_t pieces) {
    int8x16_t first = low_nibbles(bytes), other = high_nibbles(bytes);

    sums->high = vdotq_laneq_s32(sums->high, first, pieces, 0);
    sums->low = vdotq_laneq_s32(sums->low, first, pieces, 2);
    sums->high = vdotq_laneq_s32(sums->high, other, pieces, 1);
    sums->low = vdotq_laneq_s32(sums->low, other, pieces, 3);
}

static void scan_blocks(const uint8_t *const *blocks, const uint8_t *const *ahead,
                        const struct moult_scan_query *query, struct moult_scan_result *result,
                        unsigned first) {
    struct sums sums[BLOCKS][FOURS];

    for (unsigned b = 0; b < BLOCKS; b++) {
        for (unsigned i = 0; i < FOURS; i++)
            sums[b][i].high = sums[b][i].low = vdupq_n_s32(0);
        fetch_head(ahead[first + b]);
    }
    for (size_t oct = 0; oct < query->octs; oct++) {
        int8x16_t pieces = vld1q_s8(query->pieces + oct * 16);

        for (unsigned b = 0; b < BLOCKS; b++) {
            const uint8_t *rows = blocks[first + b] + HEAD + oct * 64;

            __builtin_prefetch(ahead[first + b] + HEAD + oct * 64);
            for (unsigned i = 0; i < FOURS; i++)
                add_products(&sums[b][i], vld1q_u8(rows + i * 16), pieces);
        }
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        for (unsigned i = 0; i < FOURS; i++)
            vst1q_s32(result->products[first + b] + i * 4, total(&sums[b][i]));
        bound(result, first + b, blocks[first + b], query);
    }
}

void moult_scan_neondot(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                        const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                        const struct moult_scan_query *query, struct moult_scan_result *result) {
    for (unsigned first = 0; first < MOULT_SCAN_BLOCKS; first += BLOCKS)
        scan_blocks(blocks, ahead, query, result, first);
}

int32_t moult_scan_row_neondot(const uint8_t *row, const int8_t *query, uint32_t bytes) {
    const int8_t *low = query + (size_t)2 * bytes;
    struct sums sums = {vdupq_n_s32(0), vdupq_n_s32(0)};

    for (size_t c = 0; c < bytes; c += 16) {
        uint8x16_t sixteen = vld1q_u8(row + c);
        int8x16_t first = low_nibbles(sixteen), other = high_nibbles(sixteen);

        sums.high = vdotq_s32(sums.high, first, vld1q_s8(query + c));
        sums.low = vdotq_s32(sums.low, first, vld1q_s8(low + c));
        sums.high = vdotq_s32(sums.high, other, vld1q_s8(query + bytes + c));
        sums.low = vdotq_s32(sums.low, other, vld1q_s8(low + bytes + c));
    }
    return vaddvq_s32(total(&sums));
}
