/* Which level runs here, and what all of them share: the size of the scratch. */
#include "kernels/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/levels.h"

/* In rising order. A level is added here, in levels.h and nowhere else. */
static const struct moult_kernels *const levels[] = {
    &moult_kernels_c,
#if defined(__x86_64__)
    &moult_kernels_avx2,
    &moult_kernels_avx512,
    &moult_kernels_avx512vnni,
#endif
};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* How many of `levels`, from the first, this CPU runs: each needs all that those before need. */
static unsigned levels_here(void) {
    unsigned count = 1;

#if defined(__x86_64__)
    unsigned flags = moult_cpu_x86_flags();

    while (count < LEVELS && (flags >> (count - 1) & 1))
        count++;
#endif
    return count;
}

/* How many levels MOULT_CPU allows. A name that no level has counts as no wish. */
static unsigned levels_allowed(void) {
    const char *wish = getenv("MOULT_CPU");

    for (unsigned i = 0; wish != NULL && i < LEVELS; i++) {
        if (strcmp(levels[i]->name, wish) == 0)
            return i + 1;
    }
    return LEVELS;
}

const struct moult_kernels *moult_kernels_best(void) {
    static _Atomic(const struct moult_kernels *) chosen;
    const struct moult_kernels *best = atomic_load(&chosen);

    /* Two threads may both get here; they find the same. */
    if (best == NULL) {
        unsigned here = levels_here(), allowed = levels_allowed();

        best = levels[(here < allowed ? here : allowed) - 1];
        atomic_store(&chosen, best);
    }
    return best;
}

const struct moult_kernels *moult_kernels_at(unsigned index) {
    return index < levels_here() ? levels[index] : NULL;
}

const struct moult_kernels *moult_kernels_find(const char *name) {
    const struct moult_kernels *level;

    for (unsigned i = 0; (level = moult_kernels_at(i)) != NULL; i++) {
        if (strcmp(level->name, name) == 0)
            return level;
    }
    return NULL;
}

/* Keys [D][L], values [L][D], both rounded up to whole registers, and the scores of a block. */
size_t moult_attention_scratch_floats(uint32_t L, uint32_t D) {
    size_t tokens = ((size_t)L + 15) / 16 * 16, width = ((size_t)D + 15) / 16 * 16;

    return tokens * D + L * width + MOULT_QUERY_ROWS * moult_score_stride(L);
}
