/* What a tokenizer consists of. Only files of this folder may know. */
#ifndef MOULT_TOKENIZER_INTERNAL_H
#define MOULT_TOKENIZER_INTERNAL_H

#include "base/hash.h"
#include "tokenizer/added.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/wordpiece.h"

struct moult_tokenizer {
    struct moult_added_token *added;         /* [added_count], owned. */
    uint32_t added_count;
    struct moult_added_set added_raw;        /* Searched in the text as it came. */
    struct moult_added_set added_normalized; /* Searched in normalised text. */
    struct moult_normalizer normalizer;
    struct moult_wordpiece wordpiece;
    uint32_t *before, *after;                /* The ids around a text. Owned. */
    uint32_t before_count, after_count;
    uint32_t vocabulary_size;
    char digest[MOULT_SHA256_HEX];           /* Of the canonical form in docs/fingerprint.md. */
};

/* Fills tokenizer->digest. All else must be there; `vocabulary` is in the order of ids. */
void moult_tokenizer_digest(struct moult_tokenizer *tokenizer,
                            const struct moult_trie_entry *vocabulary, uint32_t vocabulary_count,
                            const char *prefix, size_t prefix_size);

#endif
