/* The scan of an index with AVX-512 VNNI: four products of an unsigned and a signed byte, and
 * their sum in 32 bits, are one instruction. The two pieces of the query have sums of their own. */
#include <immintrin.h>

#include "kernels/levels.h"

enum { VECTORS = MOULT_SCAN_ROWS / 16, AHEAD = 2048 };

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

void moult_scan_avx512vnni(const uint8_t *rows, const int8_t *query, uint32_t quads,
                           int32_t offset, int32_t products[MOULT_SCAN_ROWS]) {
    __m512i high[VECTORS], low[VECTORS];

    for (unsigned i = 0; i < VECTORS; i++) {
        high[i] = _mm512_setzero_si512();
        low[i] = _mm512_set1_epi32(-offset);
    }
    for (size_t quad = 0; quad < quads; quad++, rows += VECTORS * 64) {
        __m512i high_piece = broadcast(query + quad * 8);
        __m512i low_piece = broadcast(query + quad * 8 + 4);

        for (unsigned i = 0; i < VECTORS; i++) {
            __m512i u = _mm512_loadu_si512((const __m512i *)(rows + i * 64));

            _mm_prefetch((const char *)rows + AHEAD + i * 64, _MM_HINT_T0);
            high[i] = _mm512_dpbusd_epi32(high[i], u, high_piece);
            low[i] = _mm512_dpbusd_epi32(low[i], u, low_piece);
        }
    }
    for (unsigned i = 0; i < VECTORS; i++)
        _mm512_storeu_si512((__m512i *)(products + i * 16),
                            _mm512_add_epi32(_mm512_slli_epi32(high[i], 7), low[i]));
}
