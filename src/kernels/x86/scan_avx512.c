/* The scan of an index with AVX-512.
 *
 * vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits, and saturates; but
 * 2 · 255 · 64 = 32,640 fits, and no piece of the query is larger than 64. vpmaddwd then weighs
 * the high piece with 128 and adds in 32 bits. */
#include <immintrin.h>

#include "kernels/levels.h"

enum { VECTORS = MOULT_SCAN_ROWS / 16, AHEAD = 2048 };

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

void moult_scan_avx512(const uint8_t *rows, const int8_t *query, uint32_t quads, int32_t offset,
                     int32_t products[MOULT_SCAN_ROWS]) {
    const __m512i ones = _mm512_set1_epi16(1), weights = _mm512_set1_epi16(128);
    __m512i sums[VECTORS];

    for (unsigned i = 0; i < VECTORS; i++)
        sums[i] = _mm512_set1_epi32(-offset);
    for (size_t quad = 0; quad < quads; quad++, rows += VECTORS * 64) {
        __m512i high = broadcast(query + quad * 8), low = broadcast(query + quad * 8 + 4);

        for (unsigned i = 0; i < VECTORS; i++) {
            __m512i u = _mm512_loadu_si512((const __m512i *)(rows + i * 64));
            __m512i a = _mm512_madd_epi16(_mm512_maddubs_epi16(u, high), weights);
            __m512i b = _mm512_madd_epi16(_mm512_maddubs_epi16(u, low), ones);

            _mm_prefetch((const char *)rows + AHEAD + i * 64, _MM_HINT_T0);
            sums[i] = _mm512_add_epi32(sums[i], _mm512_add_epi32(a, b));
        }
    }
    for (unsigned i = 0; i < VECTORS; i++)
        _mm512_storeu_si512((__m512i *)(products + i * 16), sums[i]);
}
