/* The AVX-512 level. Without dot products of its own it multiplies integers as words, and adds;
 * in assembly, as in avx2.c. */
#include "kernels/x86/avx512.h"

enum { BYTE_GROUP = 2 };

static inline ints add_words(ints sum, ints x, ints w) {
    ints product;

    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
            : "+v"(sum), "=&v"(product)
            : "v"(x), "v"(w));
    return sum;
}

/* Bytes have been widened. */
static inline ints add_bytes(ints sum, ints x, ints w) {
    return add_words(sum, x, w);
}

#define LEVEL moult_kernels_avx512
#define LEVEL_NAME "avx512"
#define LEVEL_SCAN moult_scan_avx512
#define LEVEL_SCAN_ROW moult_scan_row_avx512
#include "kernels/x86/tile.h"

#include "kernels/f32.h"
