/* Which level runs here, and what all of them share: the size of the scratch. */
#include "kernels/kernels.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/levels.h"

/* In rising order, each with what the CPU must have. A level is added here, in levels.h and nowhere
 * else. */
static const struct level {
    const struct moult_kernels *kernels;
    unsigned needs;
} levels[] = {
    {&moult_kernels_c, 0},
#if defined(__x86_64__)
    {&moult_kernels_avx2, MOULT_CPU_AVX2},
    {&moult_kernels_avxvnni, MOULT_CPU_AVX2 | MOULT_CPU_AVX_VNNI},
    {&moult_kernels_avx512, MOULT_CPU_AVX2 | MOULT_CPU_AVX512},
    {&moult_kernels_avx512vnni, MOULT_CPU_AVX2 | MOULT_CPU_AVX512 | MOULT_CPU_AVX512_VNNI},
#elif defined(__aarch64__)
    {&moult_kernels_neon, MOULT_CPU_NEON},
    {&moult_kernels_neondot, MOULT_CPU_NEON | MOULT_CPU_DOT},
    {&moult_kernels_neoni8mm, MOULT_CPU_NEON | MOULT_CPU_DOT | MOULT_CPU_I8MM},
#endif
};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

static bool runs_here(const struct level *level) {
#if defined(__x86_64__) || defined(__aarch64__)
    return (level->needs & ~moult_cpu_flags()) == 0;
#else
    return level->needs == 0;
#endif
}

/* How many levels, from the first, MOULT_CPU allows. A name that none has counts as no wish. */
static unsigned levels_allowed(void) {
    const char *wish = getenv("MOULT_CPU");

    for (unsigned i = 0; wish != NULL && i < LEVELS; i++) {
        if (strcmp(levels[i].kernels->name, wish) == 0)
            return i + 1;
    }
    return LEVELS;
}

const struct moult_kernels *moult_kernels_best(void) {
    static _Atomic(const struct moult_kernels *) chosen;
    const struct moult_kernels *best = atomic_load(&chosen);

    /* Two threads may both get here; they find the same. */
    if (best == NULL) {
        unsigned highest = levels_allowed() - 1;

        while (!runs_here(&levels[highest]))
            highest--;
        best = levels[highest].kernels;
        atomic_store(&chosen, best);
    }
    return best;
}

const struct moult_kernels *moult_kernels_at(unsigned index) {
    for (unsigned i = 0; i < LEVELS; i++) {
        if (runs_here(&levels[i]) && index-- == 0)
            return levels[i].kernels;
    }
    return NULL;
}

const struct moult_kernels *moult_kernels_find(const char *name) {
    const struct moult_kernels *level;

    for (unsigned i = 0; (level = moult_kernels_at(i)) != NULL; i++) {
        if (strcmp(level->name, name) == 0)
            return level;
    }
    return NULL;
}

/* Keys [D][L], values [L][D], both rounded up to whole registers, and the scores of a block. In
 * words queries, keys and values take half of the room each, rounded up to two registers; and
 * the values have scales. */
size_t moult_attention_scratch_floats(uint32_t L, uint32_t D) {
    size_t tokens = ((size_t)L + 15) / 16 * 16, width = ((size_t)D + 31) / 32 * 32;

    return 2 * tokens * width + width + MOULT_QUERY_ROWS * moult_score_stride(L);
}
