/* The rows that may still be among the best, while a scan goes on.
 *
 * Whatever reaches `threshold` comes in; when the pool is full, the threshold rises to what the
 * k-th best document has for certain, and what does not reach it goes. So the pool stays small,
 * but where very many rows are equally good: then it grows. */
#ifndef MOULT_INDEX_POOL_H
#define MOULT_INDEX_POOL_H

#include "index/collection.h"

/* Bounds of a score, in units of the query's step: see quantize.h. */
struct moult_candidate {
    float upper, lower;
    uint32_t position;
};

/* A value of a document. */
struct moult_mark {
    uint64_t seq;
    float value;
};

struct moult_pool {
    struct moult_candidate *candidates;
    uint32_t count, capacity;
    uint32_t k;
    float threshold;
    double slack;               /* β */
    bool chunked;               /* Documents may have several rows; else no seq is looked at. */
    struct moult_mark *marks;   /* [capacity] */
    float *values;              /* [capacity] */
    uint32_t *document_of;      /* [capacity]: the mark that stands for a candidate's document. */
    uint32_t *table;            /* [table_size]: mark + 1, by the hash of its seq. */
    uint32_t table_size;
};

/* Empties it, for a search of k documents whose rows have an upper bound of `threshold` at
 * least. A pool of zeros is a new one. */
void moult_pool_begin(struct moult_pool *pool, uint32_t k, float threshold, double slack,
                       bool chunked);
void moult_pool_release(struct moult_pool *pool);

/* Raises the threshold and drops what does not reach it; there is room afterwards. The pool
 * holds rows of `collection`. */
void moult_pool_tighten(struct moult_pool *pool, const struct moult_collection *collection);

static inline void moult_pool_put(struct moult_pool *pool,
                                  const struct moult_collection *collection,
                                  struct moult_candidate candidate) {
    if (pool->count == pool->capacity)
        moult_pool_tighten(pool, collection);
    pool->candidates[pool->count++] = candidate;
}

/* The k-th greatest of the values that documents have, each being the greatest of its marks, of
 * which there are `count`, at most `capacity`; -INFINITY where there are fewer. */
float moult_pool_kth(struct moult_pool *pool, uint32_t count, uint32_t k);

#endif
