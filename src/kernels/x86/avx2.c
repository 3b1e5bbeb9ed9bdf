/* The AVX2 level. Without dot products of its own it multiplies integers as words, and adds. */
#include "kernels/x86/avx2.h"

enum { BYTE_GROUP = 2 };

/* As assembly because gcc 12 takes all products of a tile first, for which there are no registers:
 * with intrinsics it moves the sums to the stack and back, and int16 is no faster than f32. */
static inline ints add_words(ints sum, ints x, ints w) {
    ints product;

    __asm__("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0"
            : "+x"(sum), "=&x"(product)
            : "x"(x), "x"(w));
    return sum;
}

/* Bytes have been widened: vpmaddubsw would saturate. */
static inline ints add_bytes(ints sum, ints x, ints w) {
    return add_words(sum, x, w);
}

#define LEVEL moult_kernels_avx2
#define LEVEL_NAME "avx2"
#define LEVEL_SCAN moult_scan_avx2
#define LEVEL_SCAN_ROW moult_scan_row_avx2
#include "kernels/x86/tile.h"

#include "kernels/f32.h"
