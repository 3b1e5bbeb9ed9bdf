#include "index/scan.h"

#include <string.h>

enum {
    STREAM_BYTES = 16384,   /* From there on a block is a stream of its own: its memory is asked */
    AHEAD_BYTES = 1024,     /* for within it; else that of the blocks that come next. */
    SETTLE_AHEAD = 16       /* Rows whose low nibbles are on their way while one is looked at. */
};

/* Blocks for one call of the kernel: such as have a row to look at. */
struct batch {
    const uint8_t *bytes[MOULT_SCAN_BLOCKS];
    uint32_t blocks[MOULT_SCAN_BLOCKS];
    uint16_t some[MOULT_SCAN_BLOCKS];       /* Which rows of them. */
    unsigned count;
};

/* Rows that are in doubt after their high nibbles are of two kinds. Those that look good are looked
 * at with all of their bits as soon as another batch has been scanned, for which time their low
 * nibbles have been asked for: these rows raise the threshold. All others wait until the end, when
 * the threshold is so high that most of them need not be looked at. */
struct walk {
    struct moult_scan *scan;
    const struct moult_collection *collection;
    struct batch batches[2];
    unsigned now;               /* Which of the two batches is next. */
    struct moult_doubtful good[2][MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS];
    unsigned good_count[2];
    unsigned doubtful_count;
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
    walk->scan->rows += some == UINT16_MAX ? 16 : (unsigned)__builtin_popcount(some);
    batch->bytes[batch->count] = segment->coarse + at * moult_scan_block_bytes(collection->octs);
    batch->blocks[batch->count] = block;
    batch->some[batch->count++] = some;
}

static const uint8_t *fine_of(const struct walk *walk, const struct moult_doubtful *row) {
    return row->segment->fine + (size_t)row->slot * walk->collection->row_bytes;
}

static void ask_for_fine(const struct walk *walk, const struct moult_doubtful *row) {
    const uint8_t *fine = fine_of(walk, row);

    for (uint32_t at = 0; at < walk->collection->row_bytes; at += 64)
        __builtin_prefetch(fine + at);
    __builtin_prefetch(&row->segment->fine_residuals[row->slot]);
}

static uint32_t position_of(const struct moult_collection *collection,
                            const struct moult_doubtful *row) {
    return (uint32_t)(row->segment - collection->segments) * collection->segment_blocks *
               MOULT_SCAN_ROWS +
           row->slot;
}

/* What is still in doubt with all of its bits goes into the pool. */
static void settle_row(struct walk *walk, const struct moult_doubtful *row) {
    const struct moult_quantized_query *query = walk->scan->quantized;
    float width = row->segment->fine_residuals[row->slot] * query->width, upper;
    int32_t low = walk->scan->kernels->scan_row(fine_of(walk, row), query->row,
                                                walk->collection->row_bytes);

    walk->scan->rows_refined++;
    upper = (float)moult_fine_product(query, row->high, low) * row->scale + width;
    if (upper >= walk->scan->pool->threshold)
        moult_pool_put(walk->scan->pool, walk->collection,
                       (struct moult_candidate){.upper = upper,
                                                .lower = upper - 2 * width,
                                                .position = position_of(walk->collection, row)});
}

static void settle(struct walk *walk, const struct moult_doubtful *rows, unsigned count) {
    const struct moult_pool *pool = walk->scan->pool;

    for (unsigned i = 0; i < count; i++) {
        if (i + SETTLE_AHEAD < count && rows[i + SETTLE_AHEAD].upper >= 2 * pool->threshold)
            ask_for_fine(walk, &rows[i + SETTLE_AHEAD]);
        if (rows[i].upper >= 2 * pool->threshold)
            settle_row(walk, &rows[i]);
    }
}

static void settle_good(struct walk *walk, unsigned which) {
    settle(walk, walk->good[which], walk->good_count[which]);
    walk->good_count[which] = 0;
}

static void settle_doubtful(struct walk *walk) {
    settle(walk, walk->scan->doubtful, walk->doubtful_count);
    walk->doubtful_count = 0;
}

/* `width`: how much higher the bound is than what the nibbles say, which is much nearer. */
static void doubt(struct walk *walk, struct moult_doubtful row, float width) {
    if (row.upper - width >= 2 * walk->scan->pool->threshold) {
        walk->good[walk->now][walk->good_count[walk->now]++] = row;
        ask_for_fine(walk, &row);
        return;
    }
    if (walk->doubtful_count == MOULT_DOUBTFUL_MAX)
        settle_doubtful(walk);
    walk->scan->doubtful[walk->doubtful_count++] = row;
}

/* Which of the rows that reach the threshold are asked for. */
static void doubt_some(struct walk *walk, const struct batch *batch, unsigned b,
                       const struct moult_scan_result *result) {
    const struct moult_collection *collection = walk->collection;
    const struct moult_segment *segment = segment_of(collection, batch->blocks[b]);
    uint32_t first = batch->blocks[b] % collection->segment_blocks * MOULT_SCAN_ROWS;
    const float *scales = (const float *)batch->bytes[b], *residuals = scales + MOULT_SCAN_ROWS;

    for (unsigned left = batch->some[b] & result->reached[b]; left != 0; left &= left - 1) {
        unsigned i = (unsigned)__builtin_ctz(left);

        doubt(walk,
              (struct moult_doubtful){.segment = segment,
                                      .slot = first + i,
                                      .high = result->products[b][i],
                                      .upper = result->uppers[b][i],
                                      .scale = scales[i]},
              2 * residuals[i] * walk->scan->quantized->width);
    }
}

/* Scans a batch, and empties it; `next` is what will come after it. */
static void scan_batch(struct walk *walk, struct batch *batch, const struct batch *next) {
    const struct moult_quantized_query *quantized = walk->scan->quantized;
    uint32_t octs = walk->collection->octs;
    struct moult_scan_query query = {.pieces = quantized->scan,
                                     .octs = octs,
                                     .offset = moult_coarse_offset(quantized),
                                     .width = 2 * quantized->width,
                                     .threshold = 2 * walk->scan->pool->threshold};
    bool streams = moult_scan_block_bytes(octs) >= STREAM_BYTES;
    const uint8_t *ahead[MOULT_SCAN_BLOCKS];
    struct moult_scan_result result;

    for (unsigned b = 0; b < MOULT_SCAN_BLOCKS; b++) {
        if (b >= batch->count)
            batch->bytes[b] = batch->bytes[0];
        ahead[b] = b < next->count && !streams ? next->bytes[b] : batch->bytes[b] + AHEAD_BYTES;
    }
    walk->scan->kernels->scan(batch->bytes, ahead, &query, &result);
    for (unsigned b = 0; b < batch->count; b++)
        doubt_some(walk, batch, b, &result);
    batch->count = 0;
}

/* One batch is scanned while the memory of the other comes. */
static void step(struct walk *walk) {
    struct batch *batch = &walk->batches[walk->now];

    if (batch->count > 0)
        scan_batch(walk, batch, &walk->batches[!walk->now]);
    settle_good(walk, !walk->now);
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
    settle_good(walk, !walk->now);
    settle_doubtful(walk);
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
