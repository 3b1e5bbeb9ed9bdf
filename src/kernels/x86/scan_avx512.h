/* The scan of an index in registers of 512 bits: all but how products are made. For that,
 * the including file defines `struct sums` with what it gathers, add_products() and total(); and
 * SCAN and SCAN_ROW, the names of the two functions. */

enum { HEAD = MOULT_SCAN_ROWS * 2 * sizeof(float) };

static inline __m512i broadcast(const int8_t *four) {
    int32_t bits;

    __builtin_memcpy(&bits, four, sizeof(bits));
    return _mm512_set1_epi32(bits);
}

static inline __m512i load_some(__mmask64 some, const void *from) {
    return _mm512_maskz_loadu_epi8(some, from);
}

/* Bounds of the rows of a block; returns which reach the threshold. */
static inline uint16_t bound(__m512i products, const float *scales,
                             const struct moult_scan_query *query, float *uppers) {
    __m512i whole = _mm512_sub_epi32(_mm512_slli_epi32(products, 5),
                                     _mm512_set1_epi32(query->offset));
    __m512 scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), _mm512_loadu_ps(scales));
    __m512 wide = _mm512_mul_ps(_mm512_loadu_ps(scales + MOULT_SCAN_ROWS),
                                _mm512_set1_ps(query->width));
    __m512 upper = _mm512_add_ps(scaled, wide);

    _mm512_storeu_ps(uppers, upper);
    return _mm512_cmp_ps_mask(upper, _mm512_set1_ps(query->threshold), _CMP_GE_OQ);
}

void SCAN(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
          const uint8_t *const ahead[MOULT_SCAN_BLOCKS], const struct moult_scan_query *query,
          struct moult_scan_result *result) {
    struct sums sums[MOULT_SCAN_BLOCKS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        sums[b].high = sums[b].low = _mm512_setzero_si512();
        _mm_prefetch((const char *)ahead[b], _MM_HINT_T0);
        _mm_prefetch((const char *)ahead[b] + 64, _MM_HINT_T0);
    }
    for (size_t oct = 0; oct < query->octs; oct++) {
        const int8_t *four = query->pieces + oct * 16;
        __m512i pieces[4] = {broadcast(four), broadcast(four + 4), broadcast(four + 8),
                             broadcast(four + 12)};

        for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
            _mm_prefetch((const char *)ahead[b] + HEAD + oct * 64, _MM_HINT_T0);
            add_products(&sums[b], _mm512_loadu_si512(blocks[b] + HEAD + oct * 64), pieces);
        }
    }
    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        __m512i products = total(&sums[b]);

        _mm512_storeu_si512(result->products[b], products);
        result->reached[b] =
            bound(products, (const float *)blocks[b], query, result->uppers[b]);
    }
}

int32_t SCAN_ROW(const uint8_t *row, const int8_t *query, uint32_t bytes) {
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
