/* The memory that a model will take, computed before any of it is taken: from the
 * configuration, the sizes of the files, and the way in which they are loaded. */
#ifndef MOULT_MODEL_FOOTPRINT_H
#define MOULT_MODEL_FOOTPRINT_H

#include <stdint.h>

#include "model/files.h"

struct moult_footprint {
    uint64_t weights;      /* Packed matrices, tables, vectors. */
    uint64_t tokenizer;
    uint64_t loading;      /* Needed beside them while it is read and checked, then freed. */
    uint64_t thread;       /* Of each thread that encodes. */
    uint32_t dimensions;   /* C of its vectors. */
};

/* Returns 0, or -1 where the files do not say, or where they contradict each other:
 * what loads them then says so better, and finds it out before it takes any memory.
 * For "auto" it is that of the rung that is tried first. */
int moult_footprint_compute(struct moult_footprint *footprint,
                            const struct moult_model_files *files,
                            const struct moult_kernels *kernels,
                            const struct moult_model_options *options);

/* The most that is taken at any time, when `threads` threads encode. */
uint64_t moult_footprint_peak(const struct moult_footprint *footprint, uint32_t threads);
/* What stays, once it is loaded. */
uint64_t moult_footprint_steady(const struct moult_footprint *footprint, uint32_t threads);

#endif
