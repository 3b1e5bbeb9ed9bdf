/* The scan of an index with the instructions that every ARM64 CPU has.
 *
 * smlal adds products of bytes in 16 bits. A nibble times a piece is at most 960, and each oct adds
 * two of them to a lane: 16 octs, 30,720, fit in. So the blocks are read 16 octs at a time, in
 * turns, and then the sums go on in 32 bits. */
#include "kernels/arm/scan_bound.h"

enum {
    OCTS = 16,
    FOURS = MOULT_SCAN_ROWS / 4     /* Registers of four rows. */
};

/* Sums of 16 bits: of what the pieces of both kinds give, for 16 bytes in two registers. */
struct sums {
    int16x8_t high[2], low[2];
};

static inline struct sums no_sums(void) {
    int16x8_t none = vdupq_n_s16(0);

    return (struct sums){{none, none}, {none, none}};
}

/* Adds those of 16 bytes, that is 32 nibbles, with their pieces: high ones of the low nibbles, of
 * the high nibbles, then low ones. */
static inline void add_products(struct sums *sums, uint8x16_t bytes, const int8x16_t pieces[4]) {
    int8x16_t first = vreinterpretq_s8_u8(vandq_u8(bytes, vdupq_n_u8(15)));
    int8x16_t other = vreinterpretq_s8_u8(vshrq_n_u8(bytes, 4));

    sums->high[0] = vmlal_s8(sums->high[0], vget_low_s8(first), vget_low_s8(pieces[0]));
    sums->high[1] = vmlal_high_s8(sums->high[1], first, pieces[0]);
    sums->low[0] = vmlal_s8(sums->low[0], vget_low_s8(first), vget_low_s8(pieces[2]));
    sums->low[1] = vmlal_high_s8(sums->low[1], first, pieces[2]);
    sums->high[0] = vmlal_s8(sums->high[0], vget_low_s8(other), vget_low_s8(pieces[1]));
    sums->high[1] = vmlal_high_s8(sums->high[1], other, pieces[1]);
    sums->low[0] = vmlal_s8(sums->low[0], vget_low_s8(other), vget_low_s8(pieces[3]));
    sums->low[1] = vmlal_high_s8(sums->low[1], other, pieces[3]);
}

/* 128 · high + low, of four neighbouring lanes each. */
static inline int32x4_t total(const struct sums *sums) {
    int32x4_t two[2];

    for (unsigned i = 0; i < 2; i++)
        two[i] = vaddq_s32(vshlq_n_s32(vpaddlq_s16(sums->high[i]), 7), vpaddlq_s16(sums->low[i]));
    return vpaddq_s32(two[0], two[1]);
}

/* Adds the products of up to 16 octs of a block. */
static void scan_part(const uint8_t *rows, const uint8_t *ahead, const int8_t *pieces, size_t octs,
                      int32_t products[MOULT_SCAN_ROWS]) {
    struct sums sums[FOURS];

    for (unsigned i = 0; i < FOURS; i++)
        sums[i] = no_sums();
    for (size_t oct = 0; oct < octs; oct++) {
        int32x4_t all = vreinterpretq_s32_s8(vld1q_s8(pieces + oct * 16));
        int8x16_t each[4] = {vreinterpretq_s8_s32(vdupq_laneq_s32(all, 0)),
                             vreinterpretq_s8_s32(vdupq_laneq_s32(all, 1)),
                             vreinterpretq_s8_s32(vdupq_laneq_s32(all, 2)),
                             vreinterpretq_s8_s32(vdupq_laneq_s32(all, 3))};

        __builtin_prefetch(ahead + oct * 64);
        for (unsigned i = 0; i < FOURS; i++)
            add_products(&sums[i], vld1q_u8(rows + oct * 64 + i * 16), each);
    }
    for (unsigned i = 0; i < FOURS; i++)
        vst1q_s32(products + 4 * i, vaddq_s32(vld1q_s32(products + 4 * i), total(&sums[i])));
}

void moult_scan_neon(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                     const struct moult_scan_query *query, struct moult_scan_result *result) {
    __builtin_memset(result->products, 0, sizeof(result->products));
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        fetch_head(ahead[b]);
    for (size_t oct = 0; oct < query->octs; oct += OCTS) {
        size_t here = query->octs - oct < OCTS ? query->octs - oct : OCTS, at = HEAD + oct * 64;

        for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
            scan_part(blocks[b] + at, ahead[b] + at, query->pieces + oct * 16, here,
                      result->products[b]);
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        bound(result, b, blocks[b], query);
}

int32_t moult_scan_row_neon(const uint8_t *row, const int8_t *query, uint32_t bytes) {
    const int8_t *low = query + (size_t)2 * bytes;
    int32x4_t products = vdupq_n_s32(0);

    for (size_t first = 0; first < bytes; first += OCTS * 16) {
        size_t end = bytes - first < OCTS * 16 ? bytes : first + OCTS * 16;
        struct sums sums = no_sums();

        for (size_t c = first; c < end; c += 16) {
            int8x16_t pieces[4] = {vld1q_s8(query + c), vld1q_s8(query + bytes + c),
                                   vld1q_s8(low + c), vld1q_s8(low + bytes + c)};

            add_products(&sums, vld1q_u8(row + c), pieces);
        }
        products = vaddq_s32(products, total(&sums));
    }
    return vaddvq_s32(products);
}
