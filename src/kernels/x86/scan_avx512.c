/* The scan of an index with AVX-512 but without VNNI: as with AVX2, a block to a register. */
#include <immintrin.h>

#include "kernels/levels.h"

struct sums {
    __m512i high, low;      /* Of what the pieces of both kinds give. */
};

/* Adds those of 64 bytes, that is 128 nibbles, with their pieces: high ones of the low nibbles, of
 * the high nibbles, then low ones. */
static inline void add_products(struct sums *sums, __m512i bytes, const __m512i pieces[4]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i first = _mm512_and_si512(bytes, nibble);
    __m512i other = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);
    __m512i high = _mm512_add_epi16(_mm512_maddubs_epi16(first, pieces[0]),
                                    _mm512_maddubs_epi16(other, pieces[1]));
    __m512i low = _mm512_add_epi16(_mm512_maddubs_epi16(first, pieces[2]),
                                   _mm512_maddubs_epi16(other, pieces[3]));

    sums->high = _mm512_add_epi32(sums->high, _mm512_madd_epi16(high, _mm512_set1_epi16(128)));
    sums->low = _mm512_add_epi32(sums->low, _mm512_madd_epi16(low, _mm512_set1_epi16(1)));
}

static inline __m512i total(const struct sums *sums) {
    return _mm512_add_epi32(sums->high, sums->low);
}

#define SCAN moult_scan_avx512
#define SCAN_ROW moult_scan_row_avx512
#include "kernels/x86/scan_avx512.h"
