#include "index/pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* The smaller a pool, the sooner its threshold rises. */
enum { CAPACITY_MIN = 16 };

static uint32_t capacity_for(uint32_t k) {
    return 2 * k + CAPACITY_MIN;
}

static void resize(struct moult_pool *pool, uint32_t capacity) {
    pool->candidates = moult_reallocate(pool->candidates, capacity, sizeof *pool->candidates);
    pool->marks = moult_reallocate(pool->marks, capacity, sizeof *pool->marks);
    pool->values = moult_reallocate(pool->values, capacity, sizeof *pool->values);
    pool->document_of = moult_reallocate(pool->document_of, capacity, sizeof *pool->document_of);
    pool->capacity = capacity;
    for (pool->table_size = 2; pool->table_size / 2 < capacity;)
        pool->table_size *= 2;
    pool->table = moult_reallocate(pool->table, pool->table_size, sizeof *pool->table);
}

void moult_pool_begin(struct moult_pool *pool, uint32_t k, float threshold, double slack,
                       bool chunked) {
    if (pool->capacity != capacity_for(k))
        resize(pool, capacity_for(k));
    pool->count = 0;
    pool->k = k;
    pool->threshold = threshold;
    pool->slack = slack;
    pool->chunked = chunked;
}

void moult_pool_release(struct moult_pool *pool) {
    free(pool->candidates);
    free(pool->marks);
    free(pool->values);
    free(pool->document_of);
    free(pool->table);
    memset(pool, 0, sizeof *pool);
}

/* The k-th greatest of `values`, which change places (Hoare's selection). */
static float kth_greatest(float *values, uint32_t count, uint32_t k) {
    uint32_t first = 0, last = count - 1, at = k - 1;

    while (first < last) {
        float pivot = values[first + (last - first) / 2];
        uint32_t i = first, j = last;

        for (;;) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i >= j)
                break;
            float kept = values[i];

            values[i++] = values[j];
            values[j--] = kept;
        }
        if (at <= j)
            last = j;
        else
            first = j + 1;
    }
    return values[at];
}

/* The mark of the document that has this seq: the one at hand, where it is the first. */
static uint32_t document_mark(struct moult_pool *pool, uint32_t mark) {
    uint64_t seq = pool->marks[mark].seq;
    uint32_t slot = (uint32_t)((seq * 0x9e3779b97f4a7c15u) >> 32) & (pool->table_size - 1);

    while (pool->table[slot] != 0 && pool->marks[pool->table[slot] - 1].seq != seq)
        slot = (slot + 1) & (pool->table_size - 1);
    if (pool->table[slot] == 0)
        pool->table[slot] = mark + 1;
    return pool->table[slot] - 1;
}

/* Gives the first mark of each document the greatest value of all; the others stay. Returns how
 * many documents there are, their values being in `values`. */
static uint32_t join_documents(struct moult_pool *pool, uint32_t count) {
    uint32_t documents = 0;

    memset(pool->table, 0, pool->table_size * sizeof *pool->table);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t document = document_mark(pool, i);

        pool->document_of[i] = document;
        if (pool->marks[i].value > pool->marks[document].value)
            pool->marks[document].value = pool->marks[i].value;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (pool->document_of[i] == i)
            pool->values[documents++] = pool->marks[i].value;
    }
    return documents;
}

float moult_pool_kth(struct moult_pool *pool, uint32_t count, uint32_t k) {
    uint32_t documents = count;

    if (pool->chunked) {
        documents = join_documents(pool, count);
    } else {
        for (uint32_t i = 0; i < count; i++)
            pool->values[i] = pool->marks[i].value;
    }
    return documents < k ? -INFINITY : kth_greatest(pool->values, documents, k);
}

/* A candidate stays where it reaches the threshold, and where another chunk of its document is not
 * certainly better. */
static void drop_the_rest(struct moult_pool *pool) {
    uint32_t kept = 0;

    for (uint32_t i = 0; i < pool->count; i++) {
        struct moult_candidate candidate = pool->candidates[i];
        bool stays = candidate.upper >= pool->threshold;

        if (pool->chunked)
            stays = stays && (double)candidate.upper >=
                                 (double)pool->marks[pool->document_of[i]].value - 2 * pool->slack;
        if (stays)
            pool->candidates[kept++] = candidate;
    }
    pool->count = kept;
}

void moult_pool_tighten(struct moult_pool *pool, const struct moult_collection *collection) {
    float reached;

    for (uint32_t i = 0; i < pool->count; i++) {
        pool->marks[i].value = pool->candidates[i].lower;
        if (pool->chunked)
            pool->marks[i].seq =
                moult_collection_row(collection, pool->candidates[i].position)->seq;
    }
    reached = moult_float_below((double)moult_pool_kth(pool, pool->count, pool->k) -
                                2 * pool->slack);
    if (reached > pool->threshold)
        pool->threshold = reached;
    drop_the_rest(pool);
    if (pool->count > pool->capacity / 4 * 3)
        resize(pool, 2 * pool->capacity);
}
