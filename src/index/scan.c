#include "index/scan.h"

#include <string.h>

enum {
    STREAM_BYTES = 16384,   /* From there on a block is a stream of its own: its memory is asked */
    AHEAD_BYTES = 1024      /* for within it; else that of the blocks that come next. */
};

/* Blocks for one call of the kernel: such as have a row to look at. */
struct batch {
    const uint8_t *bytes[MOULT_SCAN_BLOCKS];
    uint32_t blocks[MOULT_SCAN_BLOCKS];
    uint16_t some[MOULT_SCAN_BLOCKS];       /* Which rows of them. */
    unsigned count;
};

/* Rows that their high nibbles have not ruled out. The low ones have been asked for, and are
 * looked at when another batch has been scanned: by then they are here. */
struct doubtful {
    uint32_t position;
    int32_t high;           /* The product of its high nibbles. */
    float upper;            /* What these say, in halves. */
};

struct walk {
    struct moult_scan *scan;
    const struct moult_collection *collection;
    struct batch batches[2];
    struct doubtful doubtful[2][MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS];
    unsigned doubtful_count[2];
    unsigned now;           /* Which of the two batches is next. */
};

static const struct moult_segment *segment_of(const struct moult_collection *collection,
                                              uint32_t block) {
    return &collection->segments[block / collection->segment_blocks];
}

/* Which of some rows the filter lets pass. */
static uint16_t allowed_of(const struct moult_index_query *query,
                           const struct moult_index_row *rows, uint16_t some) {
    uint16_t allowed = 0;

    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++) {
        uint32_t row = rows[i].row;

        if (some >> i & 1 && row < query->allowed_bits &&
            query->allowed[row / 64] >> row % 64 & 1)
            allowed |= (uint16_t)(1u << i);
    }
    return allowed;
}

/* Takes a block into a batch, if it has rows to look at. */
static void take(struct walk *walk, uint32_t block, struct batch *batch) {
    const struct moult_collection *collection = walk->collection;
    const struct moult_index_query *query = walk->scan->query;
    const struct moult_segment *segment = segment_of(collection, block);
    uint32_t at = block % collection->segment_blocks;
    uint16_t some = atomic_load_explicit(&segment->live[at], memory_order_relaxed);

    if (query->allowed != NULL && some != 0)
        some = allowed_of(query, segment->rows + (size_t)at * MOULT_SCAN_ROWS, some);
    if (some == 0)
        return;
    walk->scan->rows += (unsigned)__builtin_popcount(some);
    batch->bytes[batch->count] = segment->coarse + at * moult_block_bytes(collection->octs);
    batch->blocks[batch->count] = block;
    batch->some[batch->count++] = some;
}

/* Upper bounds of a block in halves, from its high nibbles; false where none reaches the threshold.
 * Compilers find the lanes. */
static bool bound(float *restrict uppers, const struct moult_quantized_query *restrict query,
                  const int32_t *restrict high, const float *restrict scales,
                  const float *restrict residuals, float threshold) {
    float width = 2 * query->width;
    int any = 0;

    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        uppers[i] =
            (float)moult_coarse_product(query, high[i]) * scales[i] + residuals[i] * width;
    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        any |= uppers[i] >= threshold;
    return any != 0;
}

static void ask_for(const uint8_t *memory, uint32_t bytes) {
    for (uint32_t at = 0; at < bytes; at += 64)
        __builtin_prefetch(memory + at);
}

static void bound_block(struct walk *walk, uint32_t block, uint16_t some, const int32_t *high) {
    const struct moult_collection *collection = walk->collection;
    const struct moult_segment *segment = segment_of(collection, block);
    size_t first = (size_t)(block % collection->segment_blocks) * MOULT_SCAN_ROWS;
    float uppers[MOULT_SCAN_ROWS], threshold = 2 * walk->scan->pool->threshold;

    if (!bound(uppers, walk->scan->quantized, high, segment->scales + first,
               segment->coarse_residuals + first, threshold))
        return;
    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++) {
        if (!(some >> i & 1 && uppers[i] >= threshold))
            continue;
        walk->doubtful[walk->now][walk->doubtful_count[walk->now]++] =
            (struct doubtful){.position = block * MOULT_SCAN_ROWS + i,
                              .high = high[i],
                              .upper = uppers[i]};
        ask_for(segment->fine + (first + i) * collection->row_bytes, collection->row_bytes);
    }
}

/* What is still in doubt with all of its bits goes into the pool. */
static void settle(struct walk *walk, unsigned which) {
    const struct moult_quantized_query *query = walk->scan->quantized;
    const struct moult_collection *collection = walk->collection;
    struct moult_pool *pool = walk->scan->pool;

    for (unsigned i = 0; i < walk->doubtful_count[which]; i++) {
        const struct doubtful *row = &walk->doubtful[which][i];
        const struct moult_segment *segment = moult_collection_segment(collection, row->position);
        uint32_t slot = moult_collection_slot(collection, row->position);
        float width = segment->fine_residuals[slot] * query->width, upper;

        if (!(row->upper >= 2 * pool->threshold))
            continue;
        upper = (float)moult_fine_product(
                    query, row->high,
                    walk->scan->kernels->scan_row(moult_collection_fine(collection, row->position),
                                                  query->row, collection->row_bytes)) *
                    segment->scales[slot] + width;
        walk->scan->rows_refined++;
        if (upper >= pool->threshold)
            moult_pool_put(pool, collection,
                           (struct moult_candidate){.upper = upper,
                                                    .lower = upper - 2 * width,
                                                    .position = row->position});
    }
    walk->doubtful_count[which] = 0;
}

/* Scans a batch, and empties it; `next` is what will come after it. */
static void scan_batch(struct walk *walk, struct batch *batch, const struct batch *next) {
    const struct moult_collection *collection = walk->collection;
    bool streams = moult_block_bytes(collection->octs) >= STREAM_BYTES;
    const uint8_t *ahead[MOULT_SCAN_BLOCKS];
    int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        if (b >= batch->count)
            batch->bytes[b] = batch->bytes[0];
        ahead[b] = b < next->count && !streams ? next->bytes[b] : batch->bytes[b] + AHEAD_BYTES;
    }
    walk->scan->kernels->scan(batch->bytes, ahead, walk->scan->quantized->scan, collection->octs,
                              products);
    for (unsigned b = 0; b < batch->count; b++)
        bound_block(walk, batch->blocks[b], batch->some[b], products[b]);
    batch->count = 0;
}

/* One batch is scanned while the memory of the other comes. */
static void step(struct walk *walk) {
    struct batch *batch = &walk->batches[walk->now];

    if (batch->count > 0)
        scan_batch(walk, batch, &walk->batches[!walk->now]);
    settle(walk, !walk->now);
    walk->now = !walk->now;
}

static void scan_blocks(struct walk *walk, uint32_t first, uint32_t end) {
    for (uint32_t block = first; block < end; block++) {
        struct batch *batch = &walk->batches[!walk->now];

        take(walk, block, batch);
        if (batch->count == MOULT_SCAN_BLOCKS)
            step(walk);
    }
    step(walk);
    step(walk);
    settle(walk, !walk->now);
}

/* What is written when the scan begins decides which bounds hold, and how far it goes. The last
 * block, where it is not full, may be written to: it comes first. */
void moult_scan_run(struct moult_scan *scan, struct moult_collection *collection) {
    struct walk walk = {.scan = scan, .collection = collection};
    uint32_t blocks;

    pthread_mutex_lock(&collection->tail);
    blocks = collection->rows / MOULT_SCAN_ROWS;
    scan->slack = moult_query_slack(scan->quantized, collection->reach, collection->C);
    moult_pool_begin(scan->pool, scan->query->k,
                     moult_float_below((double)scan->query->min_score / scan->quantized->step -
                                       scan->slack),
                     scan->slack, collection->chunked);
    if (collection->rows % MOULT_SCAN_ROWS != 0)
        scan_blocks(&walk, blocks, blocks + 1);
    pthread_mutex_unlock(&collection->tail);
    scan_blocks(&walk, 0, blocks);
    moult_pool_tighten(scan->pool, collection);
}
