/* Which level runs here, and what all of them share: packed weights, the size of the scratch. */
#include "kernels/kernels.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/levels.h"

/* In rising order. A level is added here, in levels.h and nowhere else. */
static const struct moult_kernels *const levels[] = {
    &moult_kernels_c,
#if defined(__x86_64__)
    &moult_kernels_avx2,
    &moult_kernels_avx512,
#endif
};
enum { LEVELS = sizeof(levels) / sizeof(levels[0]) };

/* How many of `levels`, from the first, this CPU runs: each needs all that those before need. */
static unsigned levels_here(void) {
    unsigned count = 1;

#if defined(__x86_64__)
    unsigned flags = moult_cpu_x86_flags();

    if (flags & MOULT_CPU_AVX2)
        count = flags & MOULT_CPU_AVX512 ? 3 : 2;
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

static size_t values_bytes(const struct moult_panels *panels) {
    return (size_t)panels->panels * panels->inputs * panels->panel * sizeof(float);
}

static size_t bias_bytes(const struct moult_panels *panels) {
    return (size_t)panels->panels * panels->panel * sizeof(float);
}

/* Writes panel p, whose `columns` outputs begin at weights [columns][K]. The rest stays zero. */
static void pack_panel(float *panel, uint32_t width, const float *weights, uint32_t columns,
                       uint32_t K) {
    for (uint32_t j = 0; j < columns; j++) {
        for (uint32_t k = 0; k < K; k++)
            panel[(size_t)k * width + j] = weights[(size_t)j * K + k];
    }
}

int moult_panels_pack(struct moult_panels *panels, const struct moult_kernels *kernels,
                      const float *weights, const float *bias, uint32_t N, uint32_t K) {
    uint32_t width = kernels->panel;

    memset(panels, 0, sizeof(*panels));
    panels->inputs = K;
    panels->outputs = N;
    panels->panel = width;
    panels->panels = N / width + (N % width != 0);
    panels->values = moult_allocate_large(values_bytes(panels));
    panels->bias = moult_allocate_large(bias_bytes(panels));
    if (panels->values == NULL || panels->bias == NULL) {
        moult_panels_release(panels);
        return -1;
    }
    for (uint32_t p = 0; p < panels->panels; p++) {
        uint32_t first = p * width, columns = N - first < width ? N - first : width;

        pack_panel(panels->values + (size_t)first * K, width, weights + (size_t)first * K,
                   columns, K);
    }
    if (bias != NULL)
        memcpy(panels->bias, bias, N * sizeof(*bias));
    return 0;
}

void moult_panels_release(struct moult_panels *panels) {
    if (panels->values != NULL)
        moult_free_large(panels->values, values_bytes(panels));
    if (panels->bias != NULL)
        moult_free_large(panels->bias, bias_bytes(panels));
    memset(panels, 0, sizeof(*panels));
}

/* Keys [D][L], values [L][D], both rounded up to whole registers, and the scores of a block. */
size_t moult_attention_scratch_floats(uint32_t L, uint32_t D) {
    size_t tokens = ((size_t)L + 15) / 16 * 16, width = ((size_t)D + 15) / 16 * 16;

    return tokens * D + L * width + MOULT_QUERY_ROWS * moult_score_stride(L);
}
