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

/* The largest integers. INT16 gives activations 13 bits and a sign, and weights as many as their
 * sums have room for, 10 to 14: activations have far outliers, and gain more by the next bit. Of
 * 11, 12, 13, 14 and 15 bits these have the vectors nearest to f32 (docs/performance.md). */
#define MOULT_INT16_VALUE_MOST 8191
#define MOULT_INT16_WEIGHT_MOST 32767
#define MOULT_INT8_WEIGHT_MOST 127
#define MOULT_INT8_VALUE_MOST 255
/* No sum of products may leave int32_t, in whichever order it is added up: so the integers of
 * one output's weights, without their signs, add up to no more than this. */
#define MOULT_INT16_WEIGHTS_MOST (INT32_MAX / MOULT_INT16_VALUE_MOST)
/* A row without any larger value is taken for zeros: one over its scale would be no number. */
#define MOULT_INTEGERS_LEAST 1e-30f

extern const struct moult_kernels moult_kernels_c;

/* `scan` and `scan_row` of the tables, by the instructions that they take. */
void moult_scan_c(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                  const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                  const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_c(const uint8_t *row, const int8_t *query, uint32_t bytes);

#if defined(__x86_64__)
extern const struct moult_kernels moult_kernels_avx2;
extern const struct moult_kernels moult_kernels_avxvnni;
extern const struct moult_kernels moult_kernels_avx512;
extern const struct moult_kernels moult_kernels_avx512vnni;

void moult_scan_avx2(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                     const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_avx2(const uint8_t *row, const int8_t *query, uint32_t bytes);
void moult_scan_avx512(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                       const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                       const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_avx512(const uint8_t *row, const int8_t *query, uint32_t bytes);
void moult_scan_avx512vnni(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                           const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                           const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_avx512vnni(const uint8_t *row, const int8_t *query, uint32_t bytes);

enum moult_cpu_flags {
    MOULT_CPU_AVX2 = 1,     /* AVX2 and FMA, and the kernel saves their registers. */
    MOULT_CPU_AVX512 = 2,   /* F, DQ, BW and VL on top of that, likewise. */
    MOULT_CPU_AVX512_VNNI = 4,
    MOULT_CPU_AVX_VNNI = 8  /* In registers of 256 bits, with AVX-512 or without. */
};
unsigned moult_cpu_flags(void);

#elif defined(__aarch64__)
extern const struct moult_kernels moult_kernels_neon;
extern const struct moult_kernels moult_kernels_neondot;
extern const struct moult_kernels moult_kernels_neoni8mm;

void moult_scan_neon(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                     const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                     const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_neon(const uint8_t *row, const int8_t *query, uint32_t bytes);
void moult_scan_neondot(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                        const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                        const struct moult_scan_query *query, struct moult_scan_result *result);
int32_t moult_scan_row_neondot(const uint8_t *row, const int8_t *query, uint32_t bytes);

enum moult_cpu_flags {
    MOULT_CPU_NEON = 1,
    MOULT_CPU_DOT = 2,      /* Dot products of four bytes. */
    MOULT_CPU_I8MM = 4      /* Products of 2×8 by 8×2 bytes. */
};
unsigned moult_cpu_flags(void);
#endif

#endif
