#include "index/collection.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/heads.h"

enum {
    HOLES_SHARE = 16,       /* A sixteenth of the rows may be holes, */
    HOLES_MIN = 64,         /* and so many more. */
    MOVES_MAX = 1024        /* At once: searches wait for one to three milliseconds. */
};

/* Whole huge pages. What is left of the last segment is lost, so it is not larger than it has to
 * be for few of them to hold much. */
#define SEGMENT_BYTES (8 * MOULT_MIB)
#define POSITIONS_MAX (UINT32_MAX - MOULT_SCAN_ROWS)
#define ROW_DETAILS (sizeof(struct moult_index_row) + sizeof(float) + 2 * sizeof(uint32_t))

static size_t segment_bytes(uint32_t blocks, uint32_t C) {
    size_t row = moult_row_bytes(C) + ROW_DETAILS;

    return blocks * (moult_scan_block_bytes(moult_octs(C)) + MOULT_SCAN_ROWS * row +
                     sizeof(uint16_t));
}

static uint32_t full_segment_blocks(uint32_t C) {
    return (uint32_t)(SEGMENT_BYTES / segment_bytes(1, C));
}

struct moult_collection *moult_collection_open(uint32_t number, uint32_t C,
                                               pthread_rwlock_t *structure) {
    struct moult_collection *collection = moult_allocate(1, sizeof *collection);

    collection->number = number;
    collection->C = C;
    collection->octs = moult_octs(C);
    collection->row_bytes = moult_row_bytes(C);
    collection->segment_blocks = full_segment_blocks(C);
    collection->structure = structure;
    MOULT_REQUIRE(pthread_mutex_init(&collection->tail, NULL) == 0);
    return collection;
}

/* Segments. */

static void segment_free(struct moult_segment *segment, uint32_t C) {
    moult_free_large(segment->coarse, segment_bytes(segment->blocks, C));
}

/* One array behind the other; those after the nibbles by the size of their elements. */
static int segment_init(struct moult_segment *segment, uint32_t blocks, uint32_t C,
                        struct moult_error *error) {
    size_t rows = (size_t)blocks * MOULT_SCAN_ROWS;

    segment->blocks = blocks;
    segment->coarse = moult_allocate_large(segment_bytes(blocks, C));
    if (segment->coarse == NULL)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "The machine has no memory for %zu more vectors.", rows);
    segment->fine = segment->coarse + blocks * moult_scan_block_bytes(moult_octs(C));
    segment->rows = (struct moult_index_row *)(segment->fine + rows * moult_row_bytes(C));
    segment->fine_residuals = (float *)(segment->rows + rows);
    segment->next = (uint32_t *)(segment->fine_residuals + rows);
    segment->before = segment->next + rows;
    segment->live = (_Atomic uint16_t *)(segment->before + rows);
    return 0;
}

static void segment_copy(struct moult_segment *to, const struct moult_segment *from, uint32_t C) {
    size_t rows = (size_t)from->blocks * MOULT_SCAN_ROWS;

    memcpy(to->coarse, from->coarse, from->blocks * moult_scan_block_bytes(moult_octs(C)));
    memcpy(to->fine, from->fine, rows * moult_row_bytes(C));
    for (uint32_t i = 0; i < from->blocks; i++)
        atomic_init(&to->live[i], atomic_load_explicit(&from->live[i], memory_order_relaxed));
    memcpy(to->rows, from->rows, rows * sizeof *to->rows);
    memcpy(to->fine_residuals, from->fine_residuals, rows * sizeof *to->fine_residuals);
    memcpy(to->next, from->next, rows * sizeof *to->next);
    memcpy(to->before, from->before, rows * sizeof *to->before);
}

static uint64_t capacity(const struct moult_collection *collection) {
    if (collection->segment_count <= 1)
        return collection->segment_count == 0
                   ? 0
                   : (uint64_t)collection->segments[0].blocks * MOULT_SCAN_ROWS;
    return (uint64_t)collection->segment_count * collection->segment_blocks * MOULT_SCAN_ROWS;
}

/* The first segment doubles until it is a full one. */
static int grow_first(struct moult_collection *collection, uint64_t rows,
                      struct moult_error *error) {
    struct moult_segment grown, old = collection->segments[0];
    uint32_t blocks = old.blocks;

    while (blocks < collection->segment_blocks && (uint64_t)blocks * MOULT_SCAN_ROWS < rows)
        blocks *= 2;
    if (blocks > collection->segment_blocks)
        blocks = collection->segment_blocks;
    if (segment_init(&grown, blocks, collection->C, error) != 0)
        return -1;
    segment_copy(&grown, &old, collection->C);
    pthread_rwlock_wrlock(collection->structure);
    collection->segments[0] = grown;
    pthread_rwlock_unlock(collection->structure);
    segment_free(&old, collection->C);
    return 0;
}

static void grow_list(struct moult_collection *collection) {
    uint32_t bigger = collection->segment_capacity == 0 ? 1 : 2 * collection->segment_capacity;

    pthread_rwlock_wrlock(collection->structure);
    collection->segments =
        moult_reallocate(collection->segments, bigger, sizeof *collection->segments);
    collection->segment_capacity = bigger;
    pthread_rwlock_unlock(collection->structure);
}

/* No reader looks at a segment behind those that it has rows of. */
static int add_segment(struct moult_collection *collection, struct moult_error *error) {
    uint32_t blocks = collection->segment_count == 0 ? 1 : collection->segment_blocks;

    if (collection->segment_count == collection->segment_capacity)
        grow_list(collection);
    if (segment_init(&collection->segments[collection->segment_count], blocks, collection->C,
                     error) != 0)
        return -1;
    collection->segment_count++;
    return 0;
}

int moult_collection_reserve(struct moult_collection *collection, uint32_t count,
                             struct moult_error *error) {
    uint64_t rows = (uint64_t)collection->rows + count;

    if (rows > POSITIONS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "A collection holds at most %u vectors.",
                          (unsigned)POSITIONS_MAX);
    while (capacity(collection) < rows) {
        bool grows = collection->segment_count == 1 &&
                     collection->segments[0].blocks < collection->segment_blocks;

        if ((grows ? grow_first(collection, rows, error) : add_segment(collection, error)) != 0)
            return -1;
    }
    moult_heads_reserve(collection, count);
    return 0;
}

/* Rows. */

/* The scale of a row; its residual is the next float of that row, its first high nibbles are the
 * one after that, and so on. */
static float *coarse_at(const struct moult_collection *collection, uint32_t position) {
    return moult_segment_scales(moult_collection_segment(collection, position),
                                moult_collection_slot(collection, position), collection->octs) +
           position % MOULT_SCAN_ROWS;
}

static _Atomic uint16_t *live_at(const struct moult_collection *collection, uint32_t position) {
    return &moult_collection_segment(collection, position)
                ->live[moult_collection_slot(collection, position) / MOULT_SCAN_ROWS];
}

static uint16_t bit_of(uint32_t position) {
    return (uint16_t)(1u << position % MOULT_SCAN_ROWS);
}

static bool is_live(const struct moult_collection *collection, uint32_t position) {
    return (atomic_load_explicit(live_at(collection, position), memory_order_relaxed) &
            bit_of(position)) != 0;
}

static void set_live(const struct moult_collection *collection, uint32_t position) {
    atomic_fetch_or_explicit(live_at(collection, position), bit_of(position),
                             memory_order_relaxed);
}

static void set_hole(const struct moult_collection *collection, uint32_t position) {
    atomic_fetch_and_explicit(live_at(collection, position), (uint16_t)~bit_of(position),
                              memory_order_relaxed);
}

static void place(const struct moult_collection *collection, uint32_t position,
                  const struct moult_quantized_row *quantized, const uint8_t *levels) {
    float *coarse = coarse_at(collection, position);
    uint8_t *fine = moult_collection_fine(collection, position);

    coarse[0] = quantized->scale;
    coarse[MOULT_SCAN_ROWS] = quantized->coarse;
    for (uint32_t oct = 0; oct < collection->octs; oct++) {
        const uint8_t *first = levels + (size_t)oct * 8, *other = first + 4;
        uint8_t four[4];

        for (unsigned c = 0; c < 4; c++)
            four[c] = (uint8_t)(first[c] >> 4 | (other[c] & 0xf0));
        memcpy(coarse + (2 + oct) * MOULT_SCAN_ROWS, four, 4);
    }
    for (uint32_t c = 0; c < collection->row_bytes; c++)
        fine[c] = (uint8_t)((levels[c] & 15) | levels[collection->row_bytes + c] << 4);
}

static void append_row(const struct moult_collection *collection, uint32_t position,
                       const struct moult_index_row *row,
                       const struct moult_quantized_row *quantized, const uint8_t *levels) {
    struct moult_segment *segment = moult_collection_segment(collection, position);
    uint32_t slot = moult_collection_slot(collection, position);

    place(collection, position, quantized, levels);
    segment->rows[slot] = *row;
    segment->fine_residuals[slot] = quantized->fine;
    set_live(collection, position);
}

void moult_collection_append(struct moult_collection *collection,
                             const struct moult_index_row *rows,
                             const struct moult_quantized_row *quantized, const uint8_t *levels,
                             uint32_t count) {
    uint32_t first = collection->rows, taken = collection->heads_taken;

    pthread_mutex_lock(&collection->tail);
    for (uint32_t i = 0; i < count; i++) {
        append_row(collection, first + i, &rows[i], &quantized[i],
                   levels + (size_t)i * moult_row_levels(collection->C));
        moult_heads_link(collection, first + i);
        if (quantized[i].reach > collection->reach)
            collection->reach = quantized[i].reach;
    }
    if (collection->heads_taken - taken < count)
        collection->chunked = true;
    collection->rows += count;
    pthread_mutex_unlock(&collection->tail);
}

uint32_t moult_collection_remove(struct moult_collection *collection, uint64_t seq) {
    uint32_t position, link, gone = 0;

    if (!moult_heads_take(collection, seq, &position))
        return 0;
    for (link = position + 1; link != 0; gone++) {
        position = link - 1;
        set_hole(collection, position);
        if (position / MOULT_SCAN_ROWS < collection->hole_block)
            collection->hole_block = position / MOULT_SCAN_ROWS;
        link = moult_collection_segment(collection, position)
                   ->next[moult_collection_slot(collection, position)];
    }
    collection->holes += gone;
    return gone;
}

/* Holes. */

/* The first position that is one; there is one. */
static uint32_t first_hole(struct moult_collection *collection) {
    for (;; collection->hole_block++) {
        uint32_t position = collection->hole_block * MOULT_SCAN_ROWS;
        uint32_t live = atomic_load_explicit(live_at(collection, position), memory_order_relaxed);

        MOULT_REQUIRE(position < collection->rows);
        if (live != UINT16_MAX)
            return position + (uint32_t)__builtin_ctz(~live);
    }
}

static void move(struct moult_collection *collection, uint32_t from, uint32_t to) {
    struct moult_segment *old = moult_collection_segment(collection, from);
    struct moult_segment *new = moult_collection_segment(collection, to);
    uint32_t old_slot = moult_collection_slot(collection, from);
    uint32_t new_slot = moult_collection_slot(collection, to);
    const float *coarse = coarse_at(collection, from);
    float *coarse_to = coarse_at(collection, to);

    for (size_t i = 0; i < 2 + collection->octs; i++)
        memcpy(coarse_to + i * MOULT_SCAN_ROWS, coarse + i * MOULT_SCAN_ROWS, 4);
    memcpy(moult_collection_fine(collection, to), moult_collection_fine(collection, from),
           collection->row_bytes);
    moult_heads_move(collection, from, to);
    new->rows[new_slot] = old->rows[old_slot];
    new->fine_residuals[new_slot] = old->fine_residuals[old_slot];
    set_live(collection, to);
    set_hole(collection, from);
}

/* Takes the last row away: into a hole, unless it is one. */
static void shorten(struct moult_collection *collection) {
    uint32_t last = collection->rows - 1;

    if (is_live(collection, last))
        move(collection, last, first_hole(collection));
    collection->rows = last;
    collection->holes--;
}

/* Whole segments without a row, but for one that is kept for the next. */
static uint32_t segments_wanted(const struct moult_collection *collection) {
    uint32_t rows = collection->segment_blocks * MOULT_SCAN_ROWS;

    if (collection->rows == 0)
        return 0;
    return (collection->rows - 1) / rows + 2;
}

void moult_collection_tidy(struct moult_collection *collection) {
    bool all = collection->holes == collection->rows;

    if (collection->holes == 0 ||
        (!all && collection->holes < collection->rows / HOLES_SHARE + HOLES_MIN))
        return;
    pthread_rwlock_wrlock(collection->structure);
    if (all) {
        free(collection->heads);
        collection->heads = NULL;
        collection->heads_size = 0;
        collection->rows = collection->holes = collection->hole_block = 0;
        collection->reach = 0;
        collection->chunked = false;
    }
    for (unsigned i = 0; i < MOVES_MAX && collection->holes > 0; i++)
        shorten(collection);
    while (collection->segment_count > segments_wanted(collection))
        segment_free(&collection->segments[--collection->segment_count], collection->C);
    pthread_rwlock_unlock(collection->structure);
}

/* Memory. */

void moult_collection_close(struct moult_collection *collection) {
    for (uint32_t i = 0; i < collection->segment_count; i++)
        segment_free(&collection->segments[i], collection->C);
    free(collection->segments);
    free(collection->heads);
    pthread_mutex_destroy(&collection->tail);
    free(collection);
}

uint64_t moult_collection_bytes(const struct moult_collection *collection) {
    uint64_t bytes = moult_heads_bytes(collection) +
                     collection->segment_capacity * sizeof *collection->segments;

    for (uint32_t i = 0; i < collection->segment_count; i++)
        bytes += moult_large_bytes(segment_bytes(collection->segments[i].blocks, collection->C));
    return bytes;
}

/* With the table of heads while it doubles, and one first segment while it does. */
uint64_t moult_collection_bytes_for(uint32_t C, uint64_t rows) {
    uint32_t blocks = full_segment_blocks(C);
    uint64_t segments = rows / ((uint64_t)blocks * MOULT_SCAN_ROWS) + 1;

    if (rows == 0)
        return 0;
    return segments * (moult_large_bytes(segment_bytes(blocks, C)) +
                       sizeof(struct moult_segment) * 2) +
           moult_heads_size_for(rows) * sizeof(uint32_t) * 3 / 2 + sizeof(struct moult_collection);
}
