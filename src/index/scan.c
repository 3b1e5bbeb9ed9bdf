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

/* Takes a block into the batch, if it has rows to look at. */
static void take(struct moult_scan *scan, const struct moult_collection *collection,
                 uint32_t block, struct batch *batch) {
    const struct moult_segment *segment = segment_of(collection, block);
    uint32_t at = block % collection->segment_blocks;
    uint16_t some = atomic_load_explicit(&segment->live[at], memory_order_relaxed);

    if (scan->query->allowed != NULL && some != 0)
        some = allowed_of(scan->query, segment->rows + (size_t)at * MOULT_SCAN_ROWS, some);
    if (some == 0)
        return;
    scan->rows += (unsigned)__builtin_popcount(some);
    batch->bytes[batch->count] = segment->bytes + at * moult_block_bytes(collection->quads);
    batch->blocks[batch->count] = block;
    batch->some[batch->count++] = some;
}

/* Upper bounds of a block; false where none reaches the threshold. Compilers find the lanes. */
static bool bound(float *restrict uppers, const int32_t *restrict products,
                  const float *restrict scales, const float *restrict residuals, float width,
                  float threshold) {
    int any = 0;

    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        uppers[i] = (float)products[i] * scales[i] + residuals[i] * width;
    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++)
        any |= uppers[i] >= threshold;
    return any != 0;
}

static void bound_block(struct moult_scan *scan, const struct moult_collection *collection,
                        uint32_t block, uint16_t some, const int32_t *products) {
    const struct moult_segment *segment = segment_of(collection, block);
    uint32_t first = block % collection->segment_blocks * MOULT_SCAN_ROWS;
    float uppers[MOULT_SCAN_ROWS], width = scan->quantized->width;

    if (!bound(uppers, products, segment->scales + first, segment->residuals + first, width,
               scan->pool->threshold))
        return;
    for (unsigned i = 0; i < MOULT_SCAN_ROWS; i++) {
        float lower = uppers[i] - 2 * (segment->residuals[first + i] * width);

        if (some >> i & 1 && uppers[i] >= scan->pool->threshold)
            moult_pool_put(scan->pool, collection,
                           (struct moult_candidate){.upper = uppers[i],
                                                    .lower = lower,
                                                    .position = block * MOULT_SCAN_ROWS + i});
    }
}

/* Bounds the rows of a batch, and empties it. `next` is what will come after it. */
static void scan_batch(struct moult_scan *scan, const struct moult_collection *collection,
                       struct batch *batch, const struct batch *next) {
    bool streams = moult_block_bytes(collection->quads) >= STREAM_BYTES;
    const uint8_t *ahead[MOULT_SCAN_BLOCKS];
    int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS];

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        if (b >= batch->count)
            batch->bytes[b] = batch->bytes[0];
        ahead[b] = b < next->count && !streams ? next->bytes[b] : batch->bytes[b] + AHEAD_BYTES;
    }
    scan->kernels->scan(batch->bytes, ahead, scan->quantized->pieces, collection->quads,
                        scan->quantized->offset, products);
    for (unsigned b = 0; b < batch->count; b++)
        bound_block(scan, collection, batch->blocks[b], batch->some[b], products[b]);
    batch->count = 0;
}

static void scan_blocks(struct moult_scan *scan, const struct moult_collection *collection,
                        uint32_t blocks) {
    struct batch batches[2] = {{.count = 0}};
    unsigned now = 0;

    for (uint32_t block = 0; block < blocks; block++) {
        take(scan, collection, block, &batches[!now]);
        if (batches[!now].count < MOULT_SCAN_BLOCKS)
            continue;
        if (batches[now].count > 0)
            scan_batch(scan, collection, &batches[now], &batches[!now]);
        now = !now;
    }
    for (unsigned i = 0; i < 2; i++, now = !now) {
        if (batches[now].count > 0)
            scan_batch(scan, collection, &batches[now], &batches[!now]);
    }
}

/* The last block of all, where it is not full and may be written to. */
static void scan_tail(struct moult_scan *scan, const struct moult_collection *collection) {
    struct batch batch = {.count = 0};
    const struct batch none = {.count = 0};

    if (collection->rows % MOULT_SCAN_ROWS != 0)
        take(scan, collection, collection->rows / MOULT_SCAN_ROWS, &batch);
    if (batch.count > 0)
        scan_batch(scan, collection, &batch, &none);
}

/* What is written when the scan begins decides which bounds hold, and how far it goes. */
void moult_scan_run(struct moult_scan *scan, struct moult_collection *collection) {
    float threshold;
    uint32_t blocks;

    pthread_mutex_lock(&collection->tail);
    blocks = collection->rows / MOULT_SCAN_ROWS;
    scan->slack = moult_query_slack(scan->quantized, collection->reach, collection->C);
    threshold =
        moult_float_below((double)scan->query->min_score / scan->quantized->step - scan->slack);
    moult_pool_begin(scan->pool, scan->query->k, threshold, scan->slack, collection->chunked);
    scan_tail(scan, collection);
    pthread_mutex_unlock(&collection->tail);
    scan_blocks(scan, collection, blocks);
    moult_pool_tighten(scan->pool, collection);
}
