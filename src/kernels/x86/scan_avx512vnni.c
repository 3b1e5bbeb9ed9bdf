/* The scan of an index with AVX-512 VNNI: four products of an unsigned and a signed byte, and
 * their sum in 32 bits, are one instruction. The two pieces of the query have sums of their own. */
#include <immintrin.h>

#include "kernels/levels.h"

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

void moult_scan_avx512vnni(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                           const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                           uint32_t quads, int32_t offset,
                           int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    __m512i high[MOULT_SCAN_BLOCKS], low[MOULT_SCAN_BLOCKS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        high[b] = _mm512_setzero_si512();
        low[b] = _mm512_set1_epi32(-offset);
    }
    for (size_t quad = 0; quad < quads; quad++) {
        __m512i high_piece = broadcast(query + quad * 8);
        __m512i low_piece = broadcast(query + quad * 8 + 4);

        for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
            __m512i u = _mm512_loadu_si512(blocks[b] + quad * 64);

            _mm_prefetch((const char *)ahead[b] + quad * 64, _MM_HINT_T0);
            high[b] = _mm512_dpbusd_epi32(high[b], u, high_piece);
            low[b] = _mm512_dpbusd_epi32(low[b], u, low_piece);
        }
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        _mm512_storeu_si512(products[b],
                            _mm512_add_epi32(_mm512_slli_epi32(high[b], 7), low[b]));
}
