/* A search: a scan that bounds every row, then exact scores of the few that may be among the
 * best. The second part holds no lock, and begins with the rows whose bounds are highest: when the
 * k-th best exact score is out of reach for the next one, it is for all that follow. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/internal.h"
#include "index/scan.h"

enum { READ_MIN = 8, READ_OF_K = 8, READ_OF_DONE = 4 };

struct found {
    struct moult_index_row row;
    float upper;
};

struct moult_index_scratch {
    int8_t *pieces;                 /* Of the query: [octs][4][4], [2][moult_row_levels(C)]. */
    float *vectors;                 /* [MOULT_INDEX_READ_MAX][C] */
    struct moult_index_row *rows;   /* [MOULT_INDEX_READ_MAX] */
    struct moult_pool pool;
    struct moult_doubtful *doubtful;    /* [MOULT_DOUBTFUL_MAX] */
    struct found *found;            /* [capacity] */
    struct moult_hit *scored;       /* [capacity] */
    uint32_t found_count, scored_count, capacity;
    struct moult_index_effort effort;
};

struct moult_index_scratch *moult_index_scratch_open(const struct moult_index *index) {
    struct moult_index_scratch *scratch = moult_allocate(1, sizeof *scratch);

    scratch->pieces = moult_allocate(1, 16 * moult_octs(index->C) + 2 * moult_row_levels(index->C));
    scratch->doubtful = moult_allocate(MOULT_DOUBTFUL_MAX, sizeof *scratch->doubtful);
    scratch->vectors = moult_allocate(MOULT_INDEX_READ_MAX, index->C * sizeof(float));
    scratch->rows = moult_allocate(MOULT_INDEX_READ_MAX, sizeof *scratch->rows);
    return scratch;
}

void moult_index_scratch_close(struct moult_index_scratch *scratch) {
    if (scratch == NULL)
        return;
    moult_pool_release(&scratch->pool);
    free(scratch->pieces);
    free(scratch->doubtful);
    free(scratch->vectors);
    free(scratch->rows);
    free(scratch->found);
    free(scratch->scored);
    free(scratch);
}

struct moult_index_effort moult_index_effort(const struct moult_index_scratch *scratch) {
    return scratch->effort;
}

/* Keeps what the pool holds, as rows: positions mean nothing without the lock. */
static void keep_found(struct moult_index_scratch *scratch,
                       const struct moult_collection *collection) {
    const struct moult_pool *pool = &scratch->pool;

    if (scratch->capacity != pool->capacity) {
        scratch->found =
            moult_reallocate(scratch->found, pool->capacity, sizeof *scratch->found);
        scratch->scored =
            moult_reallocate(scratch->scored, pool->capacity, sizeof *scratch->scored);
        scratch->capacity = pool->capacity;
    }
    for (uint32_t i = 0; i < pool->count; i++)
        scratch->found[i] = (struct found){
            .row = *moult_collection_row(collection, pool->candidates[i].position),
            .upper = pool->candidates[i].upper};
    scratch->found_count = pool->count;
}

static void scan_index(struct moult_index *index, struct moult_scan *scan,
                       struct moult_index_scratch *scratch) {
    struct moult_collection *collection;

    pthread_rwlock_rdlock(&index->structure);
    collection = moult_index_collection(index, scan->query->collection);
    if (collection != NULL) {
        moult_scan_run(scan, collection);
        keep_found(scratch, collection);
    }
    pthread_rwlock_unlock(&index->structure);
    scratch->effort.rows_scanned = scan->rows;
    scratch->effort.rows_refined = scan->rows_refined;
}

/* Exact scores. */

static int by_upper(const void *a, const void *b) {
    float x = ((const struct found *)a)->upper, y = ((const struct found *)b)->upper;

    return (x < y) - (x > y);
}

/* Rows [first, first + count) of what was found. A query of zeros needs no rows. */
static int score(const struct moult_index *index, struct moult_index_scratch *scratch,
                 const struct moult_index_query *query, const float *vector, bool is_zero,
                 uint32_t first, uint32_t count, struct moult_error *error) {
    for (uint32_t i = 0; i < count; i++)
        scratch->rows[i] = scratch->found[first + i].row;
    if (!is_zero && index->source.read(index->source.context, scratch->rows, count, index->C,
                                       scratch->vectors, error) != 0)
        return -1;
    scratch->effort.rows_read += is_zero ? 0 : count;
    for (uint32_t i = 0; i < count; i++) {
        float exact = is_zero ? 0
                              : index->kernels->dot(vector, scratch->vectors + (size_t)i * index->C,
                                                    index->C);

        if (exact >= query->min_score)
            scratch->scored[scratch->scored_count++] = (struct moult_hit){
                .seq = scratch->rows[i].seq, .chunk = scratch->rows[i].chunk, .score = exact};
    }
    return 0;
}

/* What the next row has to reach, in units of the step. */
static float still_wanted(struct moult_index_scratch *scratch,
                          const struct moult_index_query *query, double step, double slack) {
    for (uint32_t i = 0; i < scratch->scored_count; i++)
        scratch->pool.marks[i] = (struct moult_mark){.seq = scratch->scored[i].seq,
                                                     .value = scratch->scored[i].score};
    return moult_float_below(
        (double)moult_pool_kth(&scratch->pool, scratch->scored_count, query->k) / step - slack);
}

/* How many rows are read before it is asked again whether that was enough. To ask looks at all
 * that have been read; so where they are many, they are a share of them. */
static uint32_t portion_of(uint32_t k, uint32_t done) {
    uint32_t portion = k / READ_OF_K > done / READ_OF_DONE ? k / READ_OF_K : done / READ_OF_DONE;

    if (done < k)
        return k - done;
    return portion < READ_MIN ? READ_MIN : portion;
}

static int score_found(const struct moult_index *index, struct moult_index_scratch *scratch,
                       const struct moult_index_query *query, const float *vector,
                       const struct moult_quantized_query *quantized, double slack,
                       struct moult_error *error) {
    bool is_zero = quantized->norm <= 0;
    float wanted = -INFINITY;
    uint32_t done = 0, ask = 0, end = scratch->found_count;

    if (end > 1)
        qsort(scratch->found, end, sizeof *scratch->found, by_upper);
    while (done < end && scratch->found[done].upper >= wanted) {
        uint32_t count = 0, most;

        if (done == ask)
            ask += portion_of(query->k, done);
        most = ask - done < MOULT_INDEX_READ_MAX ? ask - done : MOULT_INDEX_READ_MAX;
        while (count < most && done + count < end && scratch->found[done + count].upper >= wanted)
            count++;
        if (score(index, scratch, query, vector, is_zero, done, count, error) != 0)
            return -1;
        done += count;
        if (done == ask && !is_zero)
            wanted = still_wanted(scratch, query, quantized->step, slack);
    }
    return 0;
}

static int by_seq(const void *a, const void *b) {
    const struct moult_hit *x = a, *y = b;

    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    return (x->chunk > y->chunk) - (x->chunk < y->chunk);
}

static int by_score(const void *a, const void *b) {
    const struct moult_hit *x = a, *y = b;

    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

/* The best chunk of each document, then the best documents. */
static uint32_t best_hits(struct moult_index_scratch *scratch, uint32_t k, struct moult_hit *hits) {
    struct moult_hit *scored = scratch->scored;
    uint32_t count = 0;

    if (scratch->scored_count > 1)
        qsort(scored, scratch->scored_count, sizeof *scored, by_seq);
    for (uint32_t i = 0; i < scratch->scored_count; i++) {
        if (count == 0 || scored[count - 1].seq != scored[i].seq)
            scored[count++] = scored[i];
    }
    if (count > 1)
        qsort(scored, count, sizeof *scored, by_score);
    count = count < k ? count : k;
    if (count > 0)
        memcpy(hits, scored, count * sizeof *hits);
    return count;
}

int moult_index_search(struct moult_index *index, const struct moult_index_query *query,
                       const float *vector, struct moult_index_scratch *scratch,
                       struct moult_hit *hits, struct moult_error *error) {
    struct moult_quantized_query quantized = {.scan = scratch->pieces,
                                              .row = scratch->pieces + 16 * moult_octs(index->C)};
    struct moult_scan scan = {.kernels = index->kernels,
                              .query = query,
                              .quantized = &quantized,
                              .pool = &scratch->pool,
                              .doubtful = scratch->doubtful};

    MOULT_REQUIRE(query->k >= 1 && query->k <= MOULT_HITS_MAX);
    if (!moult_vector_usable(vector, index->C))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The query's vector has a number that is not finite, or far too large.");
    moult_quantize_query(&quantized, vector, index->C);
    scratch->found_count = scratch->scored_count = 0;
    memset(&scratch->effort, 0, sizeof scratch->effort);
    scan_index(index, &scan, scratch);
    if (score_found(index, scratch, query, vector, &quantized, scan.slack, error) != 0)
        return -1;
    return (int)best_hits(scratch, query->k, hits);
}
