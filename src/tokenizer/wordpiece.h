/* WordPiece: a word becomes the longest token that it begins with, then the
 * longest continuing token that the rest begins with, and so on; if there is none at
 * some place, or the word is too long, the whole word becomes the unknown token. */
#ifndef MOULT_TOKENIZER_WORDPIECE_H
#define MOULT_TOKENIZER_WORDPIECE_H

#include <stddef.h>
#include <stdint.h>

#include "tokenizer/trie.h"

struct moult_wordpiece {
    struct moult_trie trie;        /* Owned. */
    uint32_t continuing;           /* The node behind the continuing prefix, or MOULT_TRIE_NONE. */
    uint32_t unknown_id;
    uint64_t characters_max;       /* Of a word. */
};

/* Writes the ids of word[0, size), which has `characters` > 0 characters, to `ids`
 * with room for as many as characters, and where each ends in the word to `ends`, unless that is
 * NULL. Returns how many they are. */
size_t moult_wordpiece_encode(const struct moult_wordpiece *wordpiece, const char *word,
                              size_t size, size_t characters, uint32_t *ids, uint32_t *ends);

#endif
