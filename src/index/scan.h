/* One walk over a collection, from which a pool of candidates is left. */
#ifndef MOULT_INDEX_SCAN_H
#define MOULT_INDEX_SCAN_H

#include "index/pool.h"

/* A row that its high nibbles have not ruled out. */
struct moult_doubtful {
    const struct moult_segment *segment;
    uint32_t slot;          /* Of its arrays. */
    int32_t high;           /* The product of its high nibbles, */
    float upper;            /* and the bound that they give, in halves of the step. */
    float scale;
};
#define MOULT_DOUBTFUL_MAX 16384

struct moult_scan {
    const struct moult_kernels *kernels;
    const struct moult_index_query *query;
    const struct moult_quantized_query *quantized;
    struct moult_pool *pool;
    struct moult_doubtful *doubtful;    /* [MOULT_DOUBTFUL_MAX], to work in. */
    double slack;           /* β of quantize.h. The scan says this, and what follows. */
    uint64_t rows;          /* That were looked at, */
    uint64_t rows_refined;  /* and those of which all bits were. */
};

/* Leaves in the pool every row that may be among the best k documents. The caller has the
 * collection's `structure`. */
void moult_scan_run(struct moult_scan *scan, struct moult_collection *collection);

#endif
