#include "index/heads.h"

#include <stdlib.h>

#include "base/memory.h"

#define SIZE_MIN 64u

/* Fibonacci hashing: seqs come one after the other, and so land apart. */
static uint32_t home_of(const struct moult_collection *collection, uint64_t seq) {
    return (uint32_t)((seq * 0x9e3779b97f4a7c15u) >> 32) & (collection->heads_size - 1);
}

static uint64_t seq_at(const struct moult_collection *collection, uint32_t slot) {
    return moult_collection_row(collection, collection->heads[slot] - 1)->seq;
}

/* The slot of a seq, or the free one where it would stand. */
static uint32_t find(const struct moult_collection *collection, uint64_t seq) {
    uint32_t slot = home_of(collection, seq);

    while (collection->heads[slot] != 0 && seq_at(collection, slot) != seq)
        slot = (slot + 1) & (collection->heads_size - 1);
    return slot;
}

/* At most three quarters are taken. */
uint64_t moult_heads_size_for(uint64_t count) {
    uint64_t size = SIZE_MIN;

    while (size / 4 * 3 < count)
        size *= 2;
    return size;
}

static void resize(struct moult_collection *collection, uint32_t size) {
    uint32_t *old = collection->heads, old_size = collection->heads_size;

    collection->heads = moult_allocate(size, sizeof *collection->heads);
    collection->heads_size = size;
    for (uint32_t i = 0; i < old_size; i++) {
        if (old[i] != 0)
            collection->heads[find(collection,
                                   moult_collection_row(collection, old[i] - 1)->seq)] = old[i];
    }
    free(old);
}

void moult_heads_reserve(struct moult_collection *collection, uint32_t count) {
    uint64_t size = moult_heads_size_for((uint64_t)collection->heads_taken + count);

    MOULT_REQUIRE(size <= UINT32_MAX);
    if (size > collection->heads_size)
        resize(collection, (uint32_t)size);
}

static uint32_t *link_of(const struct moult_collection *collection, uint32_t position, bool next) {
    struct moult_segment *segment = moult_collection_segment(collection, position);
    uint32_t slot = moult_collection_slot(collection, position);

    return next ? &segment->next[slot] : &segment->before[slot];
}

void moult_heads_link(struct moult_collection *collection, uint32_t position) {
    uint32_t *head = &collection->heads[find(collection,
                                             moult_collection_row(collection, position)->seq)];

    *link_of(collection, position, true) = *head;
    *link_of(collection, position, false) = 0;
    if (*head == 0)
        collection->heads_taken++;
    else
        *link_of(collection, *head - 1, false) = position + 1;
    *head = position + 1;
}

/* What stands behind a freed slot, and could stand there or before, moves up. */
static void close_gap(struct moult_collection *collection, uint32_t gap) {
    uint32_t mask = collection->heads_size - 1, slot = gap;

    for (;;) {
        slot = (slot + 1) & mask;
        if (collection->heads[slot] == 0)
            break;
        if (((slot - home_of(collection, seq_at(collection, slot))) & mask) >=
            ((slot - gap) & mask)) {
            collection->heads[gap] = collection->heads[slot];
            gap = slot;
        }
    }
    collection->heads[gap] = 0;
}

bool moult_heads_take(struct moult_collection *collection, uint64_t seq, uint32_t *position) {
    uint32_t slot;

    if (collection->heads_taken == 0)
        return false;
    slot = find(collection, seq);
    if (collection->heads[slot] == 0)
        return false;
    *position = collection->heads[slot] - 1;
    close_gap(collection, slot);
    collection->heads_taken--;
    return true;
}

void moult_heads_move(struct moult_collection *collection, uint32_t from, uint32_t to) {
    uint32_t next = *link_of(collection, from, true);
    uint32_t before = *link_of(collection, from, false);

    if (before != 0)
        *link_of(collection, before - 1, true) = to + 1;
    else
        collection->heads[find(collection, moult_collection_row(collection, from)->seq)] = to + 1;
    if (next != 0)
        *link_of(collection, next - 1, false) = to + 1;
    *link_of(collection, to, true) = next;
    *link_of(collection, to, false) = before;
}
