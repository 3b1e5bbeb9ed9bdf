/* What the parts of the kernel tests share. */
#ifndef MOULT_TESTS_KERNELS_CHECK_H
#define MOULT_TESTS_KERNELS_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* From the printed seed: the same numbers again with MOULT_TEST_SEED. */
uint64_t check_random(void);
uint32_t check_random_below(uint32_t end);
float check_random_float(float most);       /* In [-most, most). */

/* Rows of floats that lie apart, with guards before, behind and between them: whatever a
 * function writes beside its rows is found. Half of the grids have no guard behind but a page
 * that cannot even be read. */
struct grid {
    float *floats;      /* [rows][stride], the first row behind the first guard. */
    uint32_t rows;
    uint32_t columns;
    size_t stride;      /* Some floats more than columns, and odd as often as even. */
    float *memory;      /* The first guard. */
    size_t memory_floats;
    void *mapping;      /* Owned. */
    size_t mapping_bytes;
};

/* A grid of random numbers, most of them below `most`. check_grid_release() frees. */
void check_grid_init(struct grid *grid, uint32_t rows, uint32_t columns, float most);
void check_grid_release(struct grid *grid);
void check_grid_copy(struct grid *to, const struct grid *from);     /* Of one size. */
/* Every guard is as it was. */
bool check_grid_guarded(const struct grid *grid);
/* Every number is finite. */
bool check_grid_finite(const struct grid *grid);
/* The same bits in every row, whatever the strides. */
bool check_grid_equal(const struct grid *a, const struct grid *b);

/* Whether a few sizes of each kind are enough: in an emulator each takes fifty times as long. */
extern bool check_few;

/* One line of TAP. A failure is counted, and explained by what check_because() has said. */
void check_ok(bool passed, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Says why the next check_ok() is going to fail; returns false. */
bool check_because(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* As moult_kernels_at(), and behind them levels that are there for tests alone. */
const struct moult_kernels *check_level_at(unsigned index);
/* Of x86/avxvnni_evex.c: for CPUs with AVX-512 VNNI. */
extern const struct moult_kernels check_avxvnni_evex;

void check_linear(const struct moult_kernels *kernels);
void check_integers(const struct moult_kernels *kernels);
void check_attention(const struct moult_kernels *kernels);
void check_rows(const struct moult_kernels *kernels);
void check_scan(const struct moult_kernels *kernels);
/* Times the kernels of one level (NULL: all); `part` is linear, attention, rows, scan or
 * forward; `precision` that of the products. */
void check_bench(const char *level, const char *part, const char *precision);

#endif
