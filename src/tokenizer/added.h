/* Added tokens: strings that are found in a text before the model sees it.
 *
 * Those with `normalized` false are searched in the text as it came, the others,
 * themselves normalised, in what remains of the text once it is normalised. Each
 * set is searched from left to right: the first place where one of them begins,
 * and there the longest; the search goes on behind it, also where it is discarded
 * for not being a single word. */
#ifndef MOULT_TOKENIZER_ADDED_H
#define MOULT_TOKENIZER_ADDED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tokenizer/trie.h"

struct moult_added_token {
    char *content;          /* As the file has it. Owned, as is pattern. */
    char *pattern;          /* As it is searched. */
    uint32_t content_size;
    uint32_t pattern_size;  /* At least 1. */
    uint32_t id;
    bool special;           /* Only says what decoding leaves out. */
    bool normalized;
    bool single_word;       /* Not where a word character comes before or behind it. */
    bool lstrip;            /* Takes the white space before it, */
    bool rstrip;            /* and behind it. */
};

struct moult_added_set {
    const struct moult_added_token *tokens;   /* All of them; trie values are places here. */
    struct moult_trie trie;                   /* Owned. Without nodes when nothing is in the set. */
    bool begins[256];                         /* Whether one begins with this byte. */
    unsigned char only_byte;                  /* With which they all begin, */
    bool has_only_byte;                       /* if so. */
    bool any_lstrip;
    uint32_t pattern_size_max;
};

/* Makes the set of those tokens whose `normalized` is as given. Returns NULL, or one
 * of two tokens that have the same pattern; then the set is empty. */
const struct moult_added_token *moult_added_set_build(struct moult_added_set *set,
                                                      const struct moult_added_token *tokens,
                                                      uint32_t count, bool normalized);
void moult_added_set_release(struct moult_added_set *set);

struct moult_added_match {
    const struct moult_added_token *token;
    size_t start, stop;
};

/* The first match in text[0, size) that begins in [from, limit), single words or not. */
bool moult_added_set_find(const struct moult_added_set *set, const char *text, size_t size,
                          size_t from, size_t limit, struct moult_added_match *match);

/* Whether the match may stand where it does, if its token wants to be a single
 * word. text[0, size) is all that the set is searched in. */
bool moult_added_match_stands(const struct moult_added_match *match, const char *text,
                              size_t size);

/* The end of the white space that begins at `at`, and the start of that which ends there;
 * the latter not before `from`. */
size_t moult_space_end(const char *text, size_t size, size_t at);
size_t moult_space_start(const char *text, size_t from, size_t at);

#endif
