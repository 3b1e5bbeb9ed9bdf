/* From a seq to its rows: a table of positions by the hash of the seq, open addressing with steps
 * of one. The seq itself stands in the row. The rest of its rows hang on the first one, its head,
 * by `next` and `before` of their segments. Only the writer of a collection comes here. */
#ifndef MOULT_INDEX_HEADS_H
#define MOULT_INDEX_HEADS_H

#include "index/collection.h"

/* Makes room for so many more heads. */
void moult_heads_reserve(struct moult_collection *collection, uint32_t count);
/* Links a row, which has been placed, to the others of its seq. */
void moult_heads_link(struct moult_collection *collection, uint32_t position);
/* Calls the table's copy of the head of `seq` into *position and forgets it; false: none. */
bool moult_heads_take(struct moult_collection *collection, uint64_t seq, uint32_t *position);
/* The row at `from` stands at `to` now: those that name it follow. */
void moult_heads_move(struct moult_collection *collection, uint32_t from, uint32_t to);
static inline uint64_t moult_heads_bytes(const struct moult_collection *collection) {
    return (uint64_t)collection->heads_size * sizeof *collection->heads;
}
/* The size of the table with so many heads. */
uint64_t moult_heads_size_for(uint64_t count);

#endif
