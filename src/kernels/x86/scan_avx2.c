/* The scan of an index with AVX2.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates; but
 * 2 · 255 · 64 = 32,640 fits, and no piece of the query is larger than 64. vpmaddwd then weighs
 * the high piece with 128 and adds in 32 bits. */
#include <immintrin.h>

#include "kernels/levels.h"

enum { VECTORS = MOULT_SCAN_ROWS / 8, AHEAD = 2048 };

static inline __m256i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm256_set1_epi32(bits);
}

void moult_scan_avx2(const uint8_t *rows, const int8_t *query, uint32_t quads, int32_t offset,
                     int32_t products[MOULT_SCAN_ROWS]) {
    const __m256i ones = _mm256_set1_epi16(1), weights = _mm256_set1_epi16(128);
    __m256i sums[VECTORS];

    for (unsigned i = 0; i < VECTORS; i++)
        sums[i] = _mm256_set1_epi32(-offset);
    for (size_t quad = 0; quad < quads; quad++, rows += VECTORS * 32) {
        __m256i high = broadcast(query + quad * 8), low = broadcast(query + quad * 8 + 4);

        for (unsigned i = 0; i < VECTORS; i++) {
            __m256i u = _mm256_loadu_si256((const __m256i *)(rows + i * 32));
            __m256i a = _mm256_madd_epi16(_mm256_maddubs_epi16(u, high), weights);
            __m256i b = _mm256_madd_epi16(_mm256_maddubs_epi16(u, low), ones);

            if (i % 2 == 0)
                _mm_prefetch((const char *)rows + AHEAD + i * 32, _MM_HINT_T0);
            sums[i] = _mm256_add_epi32(sums[i], _mm256_add_epi32(a, b));
        }
    }
    for (unsigned i = 0; i < VECTORS; i++)
        _mm256_storeu_si256((__m256i *)(products + i * 8), sums[i]);
}
