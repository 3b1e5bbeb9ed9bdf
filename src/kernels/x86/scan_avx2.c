/* The scan of an index with AVX2.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates; but
 * 2 · 255 · 64 = 32,640 fits, and no piece of the query is larger than 64. vpmaddwd then weighs
 * the high piece with 128 and adds in 32 bits. Four blocks at a time: two sums for each, of 16
 * registers. */
#include <immintrin.h>

#include "kernels/levels.h"

enum { BLOCKS = 4 };

static inline __m256i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm256_set1_epi32(bits);
}

static inline __m256i add_products(__m256i sum, const uint8_t *rows, __m256i high, __m256i low) {
    const __m256i ones = _mm256_set1_epi16(1), weights = _mm256_set1_epi16(128);
    __m256i u = _mm256_loadu_si256((const __m256i *)rows);
    __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(u, high), weights);
    __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(u, low), ones);

    return _mm256_add_epi32(sum, _mm256_add_epi32(a, b));
}

static void scan_blocks(const uint8_t *const *blocks, const uint8_t *const *ahead,
                        const int8_t *query, uint32_t quads, int32_t offset,
                        int32_t products[BLOCKS][MOULT_SCAN_ROWS]) {
    __m256i sums[BLOCKS][2];

    for (unsigned b = 0; b < BLOCKS; b++)
        sums[b][0] = sums[b][1] = _mm256_set1_epi32(-offset);
    for (size_t quad = 0; quad < quads; quad++) {
        __m256i high = broadcast(query + quad * 8), low = broadcast(query + quad * 8 + 4);

        for (unsigned b = 0; b < BLOCKS; b++) {
            _mm_prefetch((const char *)ahead[b] + quad * 64, _MM_HINT_T0);
            sums[b][0] = add_products(sums[b][0], blocks[b] + quad * 64, high, low);
            sums[b][1] = add_products(sums[b][1], blocks[b] + quad * 64 + 32, high, low);
        }
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        _mm256_storeu_si256((__m256i *)products[b], sums[b][0]);
        _mm256_storeu_si256((__m256i *)(products[b] + 8), sums[b][1]);
    }
}

void moult_scan_avx2(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                     uint32_t quads, int32_t offset,
                     int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b += BLOCKS)
        scan_blocks(blocks + b, ahead + b, query, quads, offset, products + b);
}
