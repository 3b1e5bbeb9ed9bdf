/* The scan of an index with AVX-512 but without VNNI: as with AVX2, a block to a register. */
#include <immintrin.h>

#include "kernels/levels.h"

struct sums {
    __m512i high, low;      /* Of what the pieces of both kinds give. */
};

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

static inline __m512i load_some(__mmask64 some, const void *from) {
    return _mm512_maskz_loadu_epi8(some, from);
}

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

void moult_scan_avx512(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                       const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const int8_t *query,
                       uint32_t octs, int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS]) {
    struct sums sums[MOULT_SCAN_BLOCKS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        sums[b].high = sums[b].low = _mm512_setzero_si512();
    for (size_t oct = 0; oct < octs; oct++) {
        const int8_t *four = query + oct * 16;
        __m512i pieces[4] = {broadcast(four), broadcast(four + 4), broadcast(four + 8),
                             broadcast(four + 12)};

        for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
            _mm_prefetch((const char *)ahead[b] + oct * 64, _MM_HINT_T0);
            add_products(&sums[b], _mm512_loadu_si512(blocks[b] + oct * 64), pieces);
        }
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++)
        _mm512_storeu_si512(products[b], total(&sums[b]));
}

int32_t moult_scan_row_avx512(const uint8_t *row, const int8_t *query, uint32_t bytes) {
    const int8_t *low = query + (size_t)2 * bytes;
    struct sums sums = {_mm512_setzero_si512(), _mm512_setzero_si512()};

    for (size_t c = 0; c < bytes; c += 64) {
        __mmask64 some = bytes - c < 64 ? 0xffffffffu : ~(__mmask64)0;
        __m512i pieces[4] = {load_some(some, query + c), load_some(some, query + bytes + c),
                             load_some(some, low + c), load_some(some, low + bytes + c)};

        add_products(&sums, load_some(some, row + c), pieces);
    }
    return _mm512_reduce_add_epi32(total(&sums));
}
