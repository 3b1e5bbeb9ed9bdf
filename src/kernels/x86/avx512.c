/* The AVX-512 level. Without dot products of its own it multiplies integers as words, and adds. */
#include "kernels/x86/avx512.h"

enum { BYTE_GROUP = 2 };

static inline ints add_words(ints sum, ints x, ints w) {
    return _mm512_add_epi32(sum, _mm512_madd_epi16(x, w));
}

/* Bytes have been widened. */
static inline ints add_bytes(ints sum, ints x, ints w) {
    return add_words(sum, x, w);
}

#define LEVEL moult_kernels_avx512
#define LEVEL_NAME "avx512"
#define LEVEL_SCAN moult_scan_avx512
#define LEVEL_SCAN_ROW moult_scan_row_avx512
#include "kernels/x86/f32.h"
