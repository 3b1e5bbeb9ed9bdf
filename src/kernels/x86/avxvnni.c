/* The AVX2 level with VNNI: one instruction for four products of bytes, or two of words, and their
 * sum, in registers of 256 bits. CPUs have it that lack AVX-512.
 *
 * There are two encodings of these instructions, {vex} of AVX-VNNI and {evex} of AVX-512 VNNI with
 * VL, which do the same. The tests build this file a second time with the other one, since the CPUs
 * they run on may have either alone. */
#include "kernels/x86/avx2.h"

enum { BYTE_GROUP = 4 };

#ifndef VNNI_ENCODING
#define VNNI_ENCODING "%{vex%} "
#define LEVEL moult_kernels_avxvnni
#define LEVEL_NAME "avxvnni"
#endif

/* As assembly, as in avx2.c and avx512vnni.c: compilers move the sums about. */
static inline ints add_words(ints sum, ints x, ints w) {
    __asm__(VNNI_ENCODING "vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
}

static inline ints add_bytes(ints sum, ints x, ints w) {
    __asm__(VNNI_ENCODING "vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(w));
    return sum;
}

/* Where memory decides, these instructions gain nothing: docs/decisions/0018-an-exact-scan.md. */
#define LEVEL_SCAN moult_scan_avx2
#define LEVEL_SCAN_ROW moult_scan_row_avx2
#include "kernels/x86/tile.h"

#include "kernels/f32.h"
