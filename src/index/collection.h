/* The rows of one collection in memory.
 *
 * Rows have positions, dense from 0. Blocks of MOULT_SCAN_ROWS positions hold their high nibbles as
 * the scan kernel wants them, so that a scan is one walk through memory; the low ones lie
 * elsewhere, row by row. Segments are runs of blocks that are allocated at once, so that a
 * collection grows without being copied.
 *
 * One thread at a time writes; any number read beside it. Who reads holds the lock `structure`
 * for reading, from the snapshot to the last look at a row. Then:
 *
 *   blocks below rows / MOULT_SCAN_ROWS    do not change, but for bits of `live` that go out
 *   the last block, if it is not full      may be looked at under the lock `tail` only
 *   segments, positions                    stay: what moves them takes `structure` for writing
 *
 * A row that is removed goes out in `live` and stays as a hole. When many are, rows from the end
 * move into the holes, some at a time, because searches wait for it. */
#ifndef MOULT_INDEX_COLLECTION_H
#define MOULT_INDEX_COLLECTION_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "index/index.h"
#include "index/quantize.h"

struct moult_segment {
    uint32_t blocks;                /* Room for so many. */
    uint8_t *coarse;                /* High nibbles, with scales and residuals: [blocks], as `scan`
                                       takes them. What follows lies behind. Owned. */
    uint8_t *fine;                  /* Low nibbles: [blocks · MOULT_SCAN_ROWS][row_bytes] */
    _Atomic uint16_t *live;         /* [blocks]: a bit for each row that can be found. */
    struct moult_index_row *rows;   /* [blocks · MOULT_SCAN_ROWS], as all that follow. */
    float *fine_residuals;
    uint32_t *next, *before;        /* Position + 1 of another row with the same seq; 0: none. */
};

struct moult_collection {
    uint32_t number, C, octs, row_bytes;
    uint32_t segment_blocks;        /* Of all segments, but for a first one that still grows. */
    struct moult_segment *segments;
    uint32_t segment_count, segment_capacity;
    pthread_rwlock_t *structure;    /* The index's. */
    pthread_mutex_t tail;           /* For `rows`, `reach`, `chunked` and the last block. */
    uint32_t rows;                  /* Positions in use, holes included. */
    double reach;                   /* Of all rows: see quantize.h. */
    bool chunked;                   /* Some seq has, or had, several rows. */
    /* The writer's alone. */
    uint32_t holes;
    uint32_t hole_block;            /* No block before it has one. */
    uint32_t *heads;                /* Position + 1 of a row of a seq, by the hash of the seq. */
    uint32_t heads_size;            /* A power of two, or 0. */
    uint32_t heads_taken;
};

struct moult_collection *moult_collection_open(uint32_t number, uint32_t C,
                                               pthread_rwlock_t *structure);
/* When nobody reads any more. */
void moult_collection_close(struct moult_collection *collection);

/* Makes room for so many more rows. Returns 0, or -1 with the error. */
int moult_collection_reserve(struct moult_collection *collection, uint32_t count,
                             struct moult_error *error);
/* Appends rows for which there is room: levels [count][moult_row_levels(C)]. */
void moult_collection_append(struct moult_collection *collection,
                             const struct moult_index_row *rows,
                             const struct moult_quantized_row *quantized, const uint8_t *levels,
                             uint32_t count);
/* Returns how many rows are gone. */
uint32_t moult_collection_remove(struct moult_collection *collection, uint64_t seq);
/* Fills holes, where there are too many. */
void moult_collection_tidy(struct moult_collection *collection);

uint64_t moult_collection_bytes(const struct moult_collection *collection);
uint64_t moult_collection_bytes_for(uint32_t C, uint64_t rows);

/* The block of a slot, whose first floats are scales. */
static inline float *moult_segment_scales(const struct moult_segment *segment, uint32_t slot,
                                          uint32_t octs) {
    return (float *)(segment->coarse + slot / MOULT_SCAN_ROWS * moult_scan_block_bytes(octs));
}

static inline struct moult_segment *
moult_collection_segment(const struct moult_collection *collection, uint32_t position) {
    return &collection->segments[position / MOULT_SCAN_ROWS / collection->segment_blocks];
}

/* Where in its segment's arrays a position stands. */
static inline uint32_t moult_collection_slot(const struct moult_collection *collection,
                                             uint32_t position) {
    return position % (collection->segment_blocks * MOULT_SCAN_ROWS);
}

static inline struct moult_index_row *
moult_collection_row(const struct moult_collection *collection, uint32_t position) {
    return &moult_collection_segment(collection, position)
                ->rows[moult_collection_slot(collection, position)];
}

static inline uint8_t *moult_collection_fine(const struct moult_collection *collection,
                                             uint32_t position) {
    return moult_collection_segment(collection, position)->fine +
           (size_t)moult_collection_slot(collection, position) * collection->row_bytes;
}

#endif
