/* The scan of an index with AVX2.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits. It would saturate
 * with bytes of 8 bits; with nibbles and pieces up to 64 a sum of four is at most 3,840. vpmaddwd
 * then weighs the high pieces with 128 and adds in 32 bits. */
#include <immintrin.h>

#include "kernels/levels.h"

enum { BLOCKS = 4 };        /* At a time: two sums for each, of 16 registers. */

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

static void scan_blocks(const uint8_t *const *blocks, const uint8_t *const *ahead,
                        const int8_t *query, uint32_t octs,
                        int32_t products[BLOCKS][MOULT_SCAN_ROWS]) {
    __m256i sums[BLOCKS][2];

    for (unsigned b = 0; b < BLOCKS; b++)
        sums[b][0] = sums[b][1] = _mm256_setzero_si256();
    for (size_t oct = 0; oct < octs; oct++) {
        const int8_t *four = query + oct * 16;
        __m256i pieces[4] = {broadcast(four), broadcast(four + 4), broadcast(four + 8),
                             broadcast(four + 12)};

        for (unsigned b = 0; b < BLOCKS; b++) {
            const uint8_t *rows = blocks[b] + oct * 64;

            _mm_prefetch((const char *)ahead[b] + oct * 64, _MM_HINT_T0);
            sums[b][0] = _mm256_add_epi32(sums[b][0], products_of(load(rows), pieces));
            sums[b][1] = _mm256_add_epi32(sums[b][1], products_of(load(rows + 32), pieces));
        }
    }
    for (unsigned b = 0; b < BLOCKS; b++) {
        _mm256_storeu_si256((__m256i *)products[b], sums[b][0]);
        _mm256_storeu_si256((__m256i *)(products[b] + 8), sums[b][1]);
    }
}

void moult_scan_avx2(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                     uint32_t octs, int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b += BLOCKS)
        scan_blocks(blocks + b, ahead + b, query, octs, products + b);
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
