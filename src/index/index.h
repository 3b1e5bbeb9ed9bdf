/* The index of one generation: its vectors in memory, 8 bits a dimension, found by an exact scan.
 *
 * A search looks at all rows of one collection, bounds the score of each from both sides, and reads
 * back in f32 only the few that could be among the best; so its hits are those of a scan of all
 * rows in f32, to the last bit of a score (quantize.h has the proof). Scores are dot products; for
 * unit vectors, cosines.
 *
 * A document is a `seq`: its version in the store. It has one row, or one for each of its chunks,
 * and counts by its best one.
 *
 * Any number of threads may search while others add and remove. A search sees a row that was
 * there before it began and stays; what comes or goes meanwhile it may see or not, each row for
 * itself. It waits for no add longer than that takes to write a few rows; and for a removal only
 * while rows move together, a thousand at a time, when a sixteenth of a collection has gone.
 *
 * Letter: C, the width of a vector. */
#ifndef MOULT_INDEX_INDEX_H
#define MOULT_INDEX_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"

struct moult_index;
struct moult_index_scratch;

struct moult_index_row {
    uint64_t seq;
    uint32_t row;       /* Its number in the rows file. */
    uint32_t chunk;
};

/* As it lies in an answer. */
struct moult_hit {
    uint64_t seq;
    uint32_t chunk;     /* The best one of that document. */
    float score;
};
_Static_assert(sizeof(struct moult_hit) == 16, "Hits have no holes.");

/* Reads the vectors of rows that were added back into out [count][C], bit for bit. Returns 0, or
 * -1 with the error. Called by any thread that searches, for 1 to MOULT_INDEX_READ_MAX rows. */
#define MOULT_INDEX_READ_MAX 64
struct moult_index_source {
    int (*read)(void *context, const struct moult_index_row *rows, uint32_t count, uint32_t C,
                float *out, struct moult_error *error);
    void *context;
};

/* C: 1 to MOULT_DIMENSIONS_MAX. The source is copied, its context is the caller's. Never NULL. */
struct moult_index *moult_index_open(uint32_t C, const struct moult_kernels *kernels,
                                     const struct moult_index_source *source);
/* The last call. */
void moult_index_close(struct moult_index *index);

/* Adds rows with their vectors [count][C] to a collection, which begins to exist with its first.
 * Returns 0, or -1 and adds nothing: INVALID where a number is not finite (or a vector so long
 * that its products would not be), SYSTEM where the machine has no memory left. */
int moult_index_add(struct moult_index *index, uint32_t collection,
                    const struct moult_index_row *rows, uint32_t count, const float *vectors,
                    struct moult_error *error);
/* All chunks of that version of a document; one that is not there is nothing. */
void moult_index_remove(struct moult_index *index, uint32_t collection, uint64_t seq);
void moult_index_drop(struct moult_index *index, uint32_t collection);
/* Waits until every scan has ended that may not have seen what was added before this call. So who
 * replaces a version adds the new one, settles, and removes the old one: each search finds one of
 * them, or both, and never none. */
void moult_index_settle(struct moult_index *index);

struct moult_index_query {
    uint32_t collection;
    uint32_t k;                 /* At most so many hits: 1 to MOULT_HITS_MAX. */
    float min_score;            /* -INFINITY: none. */
    const uint64_t *allowed;    /* Bit r is row r of the rows file; NULL: all rows. */
    uint32_t allowed_bits;      /* Rows from there on are not allowed. */
};

/* The k best documents of a collection into hits [k], by score descending, equal ones by seq
 * ascending; of equal chunks the first. Returns how many, or -1 with the error: INVALID where the
 * query [C] is no vector to search with, or that of the source. */
int moult_index_search(struct moult_index *index, const struct moult_index_query *query,
                       const float *vector, struct moult_index_scratch *scratch,
                       struct moult_hit *hits, struct moult_error *error);

/* What a search works in; one search at a time. */
struct moult_index_scratch *moult_index_scratch_open(const struct moult_index *index);
void moult_index_scratch_close(struct moult_index_scratch *scratch);

/* What the last search of a scratch did. */
struct moult_index_effort {
    uint64_t rows_scanned;  /* With the upper half of their bits, */
    uint64_t rows_refined;  /* with all of them, */
    uint64_t rows_read;     /* in f32. */
};
struct moult_index_effort moult_index_effort(const struct moult_index_scratch *scratch);

/* Rows that can be found, and the memory that all take. */
uint64_t moult_index_rows(const struct moult_index *index);
uint64_t moult_index_bytes(const struct moult_index *index);
/* What one collection of so many rows takes at most: for the estimate of a candidate's memory. */
uint64_t moult_index_bytes_for(uint32_t C, uint64_t rows);

#endif
