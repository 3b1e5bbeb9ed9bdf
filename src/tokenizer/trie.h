/* A set of byte strings with a number each, made for finding the longest one
 * that a text begins with. */
#ifndef MOULT_TOKENIZER_TRIE_H
#define MOULT_TOKENIZER_TRIE_H

#include <stddef.h>
#include <stdint.h>

#define MOULT_TRIE_ROOT 0u
#define MOULT_TRIE_NONE UINT32_MAX
#define MOULT_TRIE_VALUE_MAX ((1u << 23) - 2)

struct moult_trie_node {
    uint32_t base;
    uint32_t tag;
};

struct moult_trie {
    struct moult_trie_node *nodes;   /* Owned. */
    uint32_t node_count;
};

struct moult_trie_entry {
    const char *bytes;   /* Not owned, and not used once the trie is built. */
    uint32_t size;       /* At least 1. */
    uint32_t value;      /* At most MOULT_TRIE_VALUE_MAX. */
};

/* `entries` must be sorted by moult_trie_entry_compare() and differ in their bytes. */
void moult_trie_build(struct moult_trie *trie, const struct moult_trie_entry *entries,
                      uint32_t count);
void moult_trie_release(struct moult_trie *trie);

/* For qsort: by bytes; a string comes before those that it begins. */
int moult_trie_entry_compare(const void *a, const void *b);

/* The node that `bytes` lead to from `node`, or MOULT_TRIE_NONE. */
uint32_t moult_trie_walk(const struct moult_trie *trie, uint32_t node, const char *bytes,
                         size_t size);

/* Of the strings below `node` the longest that bytes[0, size) begin with: returns
 * its length and stores its number in *value, or returns 0. */
size_t moult_trie_longest(const struct moult_trie *trie, uint32_t node, const char *bytes,
                          size_t size, uint32_t *value);

#endif
