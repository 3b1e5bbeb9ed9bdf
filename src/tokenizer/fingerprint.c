/* What decides the ids, as bytes in one order: docs/fingerprint.md has the table. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

static void add_number(struct moult_sha256 *hash, uint64_t number, unsigned size) {
    unsigned char bytes[8];

    for (unsigned n = 0; n < size; n++)
        bytes[n] = (unsigned char)(number >> 8 * n);
    moult_sha256_add(hash, bytes, size);
}

static void add_string(struct moult_sha256 *hash, const char *bytes, size_t size) {
    add_number(hash, size, 4);
    moult_sha256_add(hash, bytes, size);
}

static void add_ids(struct moult_sha256 *hash, const uint32_t *ids, uint32_t count) {
    add_number(hash, count, 4);
    for (uint32_t n = 0; n < count; n++)
        add_number(hash, ids[n], 4);
}

static int compare_ids(const void *a, const void *b) {
    const struct moult_added_token *const *x = a, *const *y = b;
    return ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

static void add_added(struct moult_sha256 *hash, const struct moult_tokenizer *tokenizer) {
    const struct moult_added_token **tokens =
        moult_allocate(tokenizer->added_count, sizeof *tokens);

    for (uint32_t n = 0; n < tokenizer->added_count; n++)
        tokens[n] = &tokenizer->added[n];
    qsort(tokens, tokenizer->added_count, sizeof *tokens, compare_ids);
    add_number(hash, tokenizer->added_count, 4);
    for (uint32_t n = 0; n < tokenizer->added_count; n++) {
        const struct moult_added_token *token = tokens[n];
        add_number(hash, token->id, 4);
        add_number(hash, token->single_word | (unsigned)token->lstrip << 1 |
                   (unsigned)token->rstrip << 2 | (unsigned)token->normalized << 3, 1);
        add_string(hash, token->content, token->content_size);
    }
    free(tokens);
}

void moult_tokenizer_digest(struct moult_tokenizer *tokenizer,
                            const struct moult_trie_entry *vocabulary, uint32_t vocabulary_count,
                            const char *prefix, size_t prefix_size) {
    const struct moult_normalizer *normalizer = &tokenizer->normalizer;
    struct moult_sha256 *hash = moult_sha256_open();

    moult_sha256_add(hash, "moult wordpiece 1", 17);
    moult_sha256_add(hash, moult_unicode_digest, 64);
    add_number(hash, normalizer->clean_text, 1);
    add_number(hash, normalizer->handle_chinese_chars, 1);
    add_number(hash, normalizer->strip_accents, 1);
    add_number(hash, normalizer->lowercase, 1);
    add_string(hash, prefix, prefix_size);
    add_number(hash, tokenizer->wordpiece.unknown_id, 4);
    add_number(hash, tokenizer->wordpiece.characters_max, 8);
    add_number(hash, vocabulary_count, 4);
    for (uint32_t n = 0; n < vocabulary_count; n++) {
        add_number(hash, vocabulary[n].value, 4);
        add_string(hash, vocabulary[n].bytes, vocabulary[n].size);
    }
    add_added(hash, tokenizer);
    add_ids(hash, tokenizer->before, tokenizer->before_count);
    add_ids(hash, tokenizer->after, tokenizer->after_count);
    moult_sha256_close(hash, tokenizer->digest);
}

void moult_tokenizer_fingerprint(const struct moult_tokenizer *tokenizer,
                                 struct moult_sha256 *hash) {
    moult_sha256_add(hash, tokenizer->digest, strlen(tokenizer->digest));
}

uint32_t moult_tokenizer_vocabulary_size(const struct moult_tokenizer *tokenizer) {
    return tokenizer->vocabulary_size;
}

uint32_t moult_tokenizer_special_count(const struct moult_tokenizer *tokenizer) {
    return tokenizer->before_count + tokenizer->after_count;
}
