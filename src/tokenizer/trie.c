/* The trie is a double array. All nodes lie in one array; a node's child for byte
 * b lies at (base of the node) ^ b, if that place is a child of this node:
 *
 *   base   where the children are, 0 for a node without any
 *   tag    bits 0 to 8: the byte that leads here, or FREE
 *          bits 9 to 31: the number of the string that ends here plus 1, or 0
 *
 * No two nodes have the same base, except for those without children. So a place s
 * whose byte is b belongs to the one node with base s ^ b, and a step needs no other
 * check than comparing the byte. Base 0 is safe for nodes without children because
 * the first 256 places hold nothing but the root at 0, which no byte leads to.
 * The array is whole blocks of 256 places, and a base and its children lie in the
 * same block, so a step needs no check of bounds either. */
#include "tokenizer/trie.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"

enum {
    BLOCK = 256,
    LABEL_BITS = 9,
    LABEL_MASK = (1 << LABEL_BITS) - 1,
    FREE = 256,          /* As a label: no byte. */
    TRIES_MAX = 1024,    /* Free places looked at for the children of one node. */
    OPEN_BLOCKS = 16     /* Free places of older blocks are given up. */
};

_Static_assert(MOULT_VOCABULARY_MAX - 1 <= MOULT_TRIE_VALUE_MAX, "An id fits into a tag.");

/* A node whose children are still to be placed: entries [first, end) pass through it. */
struct pending {
    uint32_t node;
    uint32_t first, end;
    uint32_t depth;
};

struct builder {
    struct moult_trie_node *nodes;
    uint32_t *next, *previous;   /* The free places as a ring through place 0. */
    unsigned char *base_used;
    uint32_t node_count, capacity;
    struct pending *pending;     /* A stack. */
    size_t pending_count, pending_capacity;
    const struct moult_trie_entry *entries;
};

static void place_children(struct builder *builder, struct pending parent);
static uint32_t choose_base(struct builder *builder, const unsigned char *labels, uint32_t count);
static bool fits(const struct builder *builder, uint32_t base, const unsigned char *labels,
                 uint32_t count);
static void add_block(struct builder *builder);
static void unlink_place(struct builder *builder, uint32_t place);
static void push(struct builder *builder, struct pending pending);

void moult_trie_build(struct moult_trie *trie, const struct moult_trie_entry *entries,
                      uint32_t count) {
    struct builder builder = {.entries = entries};

    add_block(&builder);
    push(&builder, (struct pending){.node = MOULT_TRIE_ROOT, .first = 0, .end = count});
    while (builder.pending_count > 0)
        place_children(&builder, builder.pending[--builder.pending_count]);

    free(builder.next);
    free(builder.previous);
    free(builder.base_used);
    free(builder.pending);
    trie->nodes = moult_reallocate(builder.nodes, builder.node_count, sizeof *builder.nodes);
    trie->node_count = builder.node_count;
}

void moult_trie_release(struct moult_trie *trie) {
    free(trie->nodes);
    *trie = (struct moult_trie){0};
}

static void place_children(struct builder *builder, struct pending parent) {
    const struct moult_trie_entry *entries = builder->entries;
    unsigned char labels[256];
    uint32_t starts[257];
    uint32_t count = 0, at = parent.first;

    if (at < parent.end && entries[at].size == parent.depth) {
        builder->nodes[parent.node].tag |= (entries[at].value + 1) << LABEL_BITS;
        at++;
    }
    for (; at < parent.end; at++) {
        unsigned char label = (unsigned char)entries[at].bytes[parent.depth];
        if (count == 0 || labels[count - 1] != label) {
            labels[count] = label;
            starts[count++] = at;
        }
    }
    if (count == 0)
        return;
    starts[count] = parent.end;

    uint32_t base = choose_base(builder, labels, count);
    builder->base_used[base] = 1;
    builder->nodes[parent.node].base = base;
    for (uint32_t n = 0; n < count; n++) {
        uint32_t child = base ^ labels[n];
        unlink_place(builder, child);
        builder->nodes[child].tag = labels[n];
    }
    for (uint32_t n = count; n-- > 0;)
        push(builder, (struct pending){base ^ labels[n], starts[n], starts[n + 1],
                                       parent.depth + 1});
}

/* Tries the free places in turn for the first child. */
static uint32_t choose_base(struct builder *builder, const unsigned char *labels, uint32_t count) {
    uint32_t place = builder->next[0];

    for (unsigned tries = 0; place != 0 && tries < TRIES_MAX; tries++) {
        if (fits(builder, place ^ labels[0], labels, count))
            return place ^ labels[0];
        place = builder->next[place];
    }
    place = builder->node_count;
    add_block(builder);
    return place;
}

static bool fits(const struct builder *builder, uint32_t base, const unsigned char *labels,
                 uint32_t count) {
    if (builder->base_used[base])
        return false;
    for (uint32_t n = 1; n < count; n++)
        if (builder->nodes[base ^ labels[n]].tag != FREE)
            return false;
    return true;
}

/* Appends a block of free places, and gives up those of the oldest open block.
 * Nothing of block 0 is ever handed out. */
static void add_block(struct builder *builder) {
    uint32_t begin = builder->node_count, end = begin + BLOCK;

    if (end > builder->capacity) {
        builder->capacity = 2 * end;
        builder->nodes = moult_reallocate(builder->nodes, builder->capacity,
                                          sizeof *builder->nodes);
        builder->next = moult_reallocate(builder->next, builder->capacity, sizeof(uint32_t));
        builder->previous = moult_reallocate(builder->previous, builder->capacity,
                                             sizeof(uint32_t));
        builder->base_used = moult_reallocate(builder->base_used, builder->capacity, 1);
    }
    builder->node_count = end;
    memset(builder->base_used + begin, 0, BLOCK);
    for (uint32_t place = begin; place < end; place++)
        builder->nodes[place] = (struct moult_trie_node){.base = 0, .tag = FREE};
    if (begin == 0) {
        builder->next[0] = builder->previous[0] = 0;
        return;
    }

    for (uint32_t place = begin; place < end; place++) {
        uint32_t last = builder->previous[0];
        builder->next[last] = place;
        builder->previous[place] = last;
        builder->next[place] = 0;
        builder->previous[0] = place;
    }
    if (begin / BLOCK > OPEN_BLOCKS)
        while (builder->next[0] / BLOCK <= begin / BLOCK - OPEN_BLOCKS)
            unlink_place(builder, builder->next[0]);
}

static void unlink_place(struct builder *builder, uint32_t place) {
    builder->next[builder->previous[place]] = builder->next[place];
    builder->previous[builder->next[place]] = builder->previous[place];
}

static void push(struct builder *builder, struct pending pending) {
    if (builder->pending_count == builder->pending_capacity) {
        builder->pending_capacity = 2 * builder->pending_capacity + 256;
        builder->pending = moult_reallocate(builder->pending, builder->pending_capacity,
                                            sizeof *builder->pending);
    }
    builder->pending[builder->pending_count++] = pending;
}

int moult_trie_entry_compare(const void *a, const void *b) {
    const struct moult_trie_entry *x = a, *y = b;
    int order = memcmp(x->bytes, y->bytes, x->size < y->size ? x->size : y->size);
    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static inline uint32_t step(const struct moult_trie *trie, uint32_t node, unsigned char byte) {
    uint32_t child = trie->nodes[node].base ^ byte;
    return (trie->nodes[child].tag & LABEL_MASK) == byte ? child : MOULT_TRIE_NONE;
}

uint32_t moult_trie_walk(const struct moult_trie *trie, uint32_t node, const char *bytes,
                         size_t size) {
    for (size_t at = 0; at < size && node != MOULT_TRIE_NONE; at++)
        node = step(trie, node, (unsigned char)bytes[at]);
    return node;
}

size_t moult_trie_longest(const struct moult_trie *trie, uint32_t node, const char *bytes,
                          size_t size, uint32_t *value) {
    size_t longest = 0;

    for (size_t at = 0; at < size; at++) {
        node = step(trie, node, (unsigned char)bytes[at]);
        if (node == MOULT_TRIE_NONE)
            break;
        uint32_t ends = trie->nodes[node].tag >> LABEL_BITS;
        if (ends != 0) {
            *value = ends - 1;
            longest = at + 1;
        }
    }
    return longest;
}
