/* What the files of src/kernels/ share: the table of each level, and the CPU's answer to
 * which of them it can run. Callers outside this folder use kernels.h alone. */
#ifndef MOULT_KERNELS_LEVELS_H
#define MOULT_KERNELS_LEVELS_H

#include "kernels/kernels.h"

/* Attention walks over a head in blocks of so many queries; the scratch holds their scores. */
#define MOULT_QUERY_ROWS 8

/* Floats between the scores of two queries of a block: room for L rounded up to 16, and
 * never a multiple of 64, so that the rows of a block do not fall into one cache set. */
static inline size_t moult_score_stride(size_t L) {
    size_t rounded = (L + 15) / 16 * 16;

    return rounded % 64 == 0 ? rounded + 16 : rounded;
}

extern const struct moult_kernels moult_kernels_c;

#if defined(__x86_64__)
extern const struct moult_kernels moult_kernels_avx2;
extern const struct moult_kernels moult_kernels_avx512;

enum moult_cpu_flags {
    MOULT_CPU_AVX2 = 1,     /* AVX2 and FMA, and the kernel saves their registers. */
    MOULT_CPU_AVX512 = 2    /* F, DQ, BW and VL on top of that, likewise. */
};
unsigned moult_cpu_x86_flags(void);
#endif

#endif
