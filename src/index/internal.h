/* What the files of src/index/ share of an index. */
#ifndef MOULT_INDEX_INTERNAL_H
#define MOULT_INDEX_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "index/collection.h"
#include "index/index.h"

/* So many rows go in at once. */
#define MOULT_INDEX_PORTION 64

/* Locks are taken in this order: `writing`, `structure`, the tail of a collection. */
struct moult_index {
    uint32_t C;
    const struct moult_kernels *kernels;
    struct moult_index_source source;
    pthread_mutex_t writing;        /* Who adds and removes. */
    pthread_rwlock_t structure;     /* Searches read; what frees or moves memory of theirs, writes.
                                       Who writes goes first, or steady searches would starve it. */
    struct moult_collection **collections;  /* By number. */
    uint32_t collection_count;
    _Atomic uint64_t rows, bytes;
    /* Under `writing`: rows on their way in. */
    struct moult_quantized_row quantized[MOULT_INDEX_PORTION];
    uint8_t *levels;                        /* [MOULT_INDEX_PORTION][moult_row_levels(C)] */
};

/* NULL where there is none. Under `structure` or `writing`. */
struct moult_collection *moult_index_collection(const struct moult_index *index, uint32_t number);

#endif
