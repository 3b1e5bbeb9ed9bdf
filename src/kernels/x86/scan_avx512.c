/* The scan of an index with AVX-512 but without VNNI: as with AVX2, a block to a register. */
#include <immintrin.h>

#include "kernels/levels.h"

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

void moult_scan_avx512(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                       const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                       uint32_t quads, int32_t offset,
                       int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    const __m512i ones = _mm512_set1_epi16(1), weights = _mm512_set1_epi16(128);
    __m512i sums[MOULT_SCAN_BLOCKS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        sums[b] = _mm512_set1_epi32(-offset);
    for (size_t quad = 0; quad < quads; quad++) {
        __m512i high = broadcast(query + quad * 8), low = broadcast(query + quad * 8 + 4);

        for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
            __m512i u = _mm512_loadu_si512(blocks[b] + quad * 64);
            __m512i x = _mm512_madd_epi16(_mm512_maddubs_epi16(u, high), weights);
            __m512i y = _mm512_madd_epi16(_mm512_maddubs_epi16(u, low), ones);

            _mm_prefetch((const char *)ahead[b] + quad * 64, _MM_HINT_T0);
            sums[b] = _mm512_add_epi32(sums[b], _mm512_add_epi32(x, y));
        }
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        _mm512_storeu_si512(products[b], sums[b]);
}
