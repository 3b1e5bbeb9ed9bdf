/* The scan of an index with AVX-512 VNNI: four products of an unsigned and a signed byte, and their
 * sum in 32 bits, are one instruction. */
#include <immintrin.h>

#include "kernels/levels.h"

struct sums {
    __m512i high, low;      /* Of what the pieces of both kinds give; high ones count 128 times. */
};

/* Adds those of 64 bytes, that is 128 nibbles, with their pieces: high ones of the low nibbles, of
 * the high nibbles, then low ones. */
static inline void add_products(struct sums *sums, __m512i bytes, const __m512i pieces[4]) {
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i first = _mm512_and_si512(bytes, nibble);
    __m512i other = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), nibble);

    sums->high = _mm512_dpbusd_epi32(sums->high, first, pieces[0]);
    sums->low = _mm512_dpbusd_epi32(sums->low, first, pieces[2]);
    sums->high = _mm512_dpbusd_epi32(sums->high, other, pieces[1]);
    sums->low = _mm512_dpbusd_epi32(sums->low, other, pieces[3]);
}

static inline __m512i total(const struct sums *sums) {
    return _mm512_add_epi32(_mm512_slli_epi32(sums->high, 7), sums->low);
}

#define SCAN moult_scan_avx512vnni
#define SCAN_ROW moult_scan_row_avx512vnni
#include "kernels/x86/scan_avx512.h"
