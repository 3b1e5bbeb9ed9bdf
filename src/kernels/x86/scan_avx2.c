/* The scan of an index with AVX2.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits. It would saturate
 * with bytes of 8 bits; with nibbles and pieces up to 64 a sum of four is at most 3,840. vpmaddwd
 * then weighs the high pieces with 128 and adds in 32 bits. */
#include <immintrin.h>

#include "kernels/levels.h"

enum {
    BLOCKS = 4,             /* At a time: two sums for each, of 16 registers. */
    HEAD = MOULT_SCAN_ROWS * 2 * sizeof(float)
};

static inline __m256i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm256_set1_epi32(bits);
}

static inline __m256i load(const void *from) {
    return _mm256_loadu_si256(from);
}

/* Of 32 bytes, that is 64 nibbles, with their pieces: high ones of the low nibbles, of the high
 * nibbles, then low ones. */
static inline __m256i products_of(__m256i bytes, const __m256i pieces[4]) {
    const __m256i ones = _mm256_set1_epi16(1), weights = _mm256_set1_epi16(128);
    const __m256i nibble = _mm256_set1_epi8(15);
    __m256i first = _mm256_and_si256(bytes, nibble);
    __m256i other = _mm256_and_si256(_mm256_srli_epi16(bytes, 4), nibble);
    __m256i high = _mm256_add_epi16(_mm256_maddubs_epi16(first, pieces[0]),
                                    _mm256_maddubs_epi16(other, pieces[1]));
    __m256i low = _mm256_add_epi16(_mm256_maddubs_epi16(first, pieces[2]),
                                   _mm256_maddubs_epi16(other, pieces[3]));

    return _mm256_add_epi32(_mm256_madd_epi16(high, weights), _mm256_madd_epi16(low, ones));
}

/* Bounds of eight rows; returns which reach the threshold. */
static inline unsigned bound(__m256i products, const float *scales,
                             const struct moult_scan_query *query, float *uppers) {
    __m256i whole = _mm256_sub_epi32(_mm256_slli_epi32(products, 5),
                                     _mm256_set1_epi32(query->offset));
    __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(whole), _mm256_loadu_ps(scales));
    __m256 wide = _mm256_mul_ps(_mm256_loadu_ps(scales + MOULT_SCAN_ROWS),
                                _mm256_set1_ps(query->width));
    __m256 upper = _mm256_add_ps(scaled, wide);

    _mm256_storeu_ps(uppers, upper);
    return (unsigned)_mm256_movemask_ps(
        _mm256_cmp_ps(upper, _mm256_set1_ps(query->threshold), _CMP_GE_OQ));
}

static void scan_blocks(const uint8_t *const *blocks, const uint8_t *const *ahead,
                        const struct moult_scan_query *query, struct moult_scan_result *result,
                        unsigned first) {
    __m256i sums[BLOCKS][2];

    for (unsigned b = 0; b < BLOCKS; b++) {
        sums[b][0] = sums[b][1] = _mm256_setzero_si256();
        _mm_prefetch((const char *)ahead[first + b], _MM_HINT_T0);
        _mm_prefetch((const char *)ahead[first + b] + 64, _MM_HINT_T0);
    }
    for (size_t oct = 0; oct < query->octs; oct++) {
        const int8_t *four = query->pieces + oct * 16;
        __m256i pieces[4] = {broadcast(four), broadcast(four + 4), broadcast(four + 8),
                             broadcast(four + 12)};

        for (unsigned b = 0; b < BLOCKS; b++) {
            const uint8_t *rows = blocks[first + b] + HEAD + oct * 64;

            _mm_prefetch((const char *)ahead[first + b] + HEAD + oct * 64, _MM_HINT_T0);
            sums[b][0] = _mm256_add_epi32(sums[b][0], products_of(load(rows), pieces));
            sums[b][1] = _mm256_add_epi32(sums[b][1], products_of(load(rows + 32), pieces));
        }
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        const float *scales = (const float *)blocks[first + b];
        int32_t *products = result->products[first + b];
        float *uppers = result->uppers[first + b];

        _mm256_storeu_si256((__m256i *)products, sums[b][0]);
        _mm256_storeu_si256((__m256i *)(products + 8), sums[b][1]);
        result->reached[first + b] =
            (uint16_t)(bound(sums[b][0], scales, query, uppers) |
                       bound(sums[b][1], scales + 8, query, uppers + 8) << 8);
    }
}

void moult_scan_avx2(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                     const struct moult_scan_query *query, struct moult_scan_result *result) {
    for (unsigned first = 0; first < MOULT_SCAN_BLOCKS; first += BLOCKS)
        scan_blocks(blocks, ahead, query, result, first);
}

int32_t moult_scan_row_avx2(const uint8_t *row, const int8_t *query, uint32_t bytes) {
    const int8_t *low = query + (size_t)2 * bytes;
    __m256i sums = _mm256_setzero_si256();
    __m128i four;

    for (size_t c = 0; c < bytes; c += 32) {
        __m256i pieces[4] = {load(query + c), load(query + bytes + c), load(low + c),
                             load(low + bytes + c)};

        sums = _mm256_add_epi32(sums, products_of(load(row + c), pieces));
    }
    four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
}
