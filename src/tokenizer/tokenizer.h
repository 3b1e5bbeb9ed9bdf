/* Texts to token ids, exactly as a tokenizer.json says.
 *
 * A tokenizer is parsed once and then only read: any number of threads may
 * encode with it, each with a scratch of its own. WordPiece models with the
 * normalizer, pre-tokenizer and post-processor of BERT are understood; anything
 * else in the file is refused by name, never ignored. The file's own truncation
 * and padding are ignored, as sentence-transformers does. */
#ifndef MOULT_TOKENIZER_TOKENIZER_H
#define MOULT_TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

struct moult_tokenizer;
struct moult_tokenizer_scratch;

/* Parses the bytes of a tokenizer.json. NULL with `error` filled on failure. */
struct moult_tokenizer *moult_tokenizer_parse(const char *json, size_t size,
                                              struct moult_error *error);
void moult_tokenizer_free(struct moult_tokenizer *tokenizer);

/* Ids lie in [0, size). */
uint32_t moult_tokenizer_vocabulary_size(const struct moult_tokenizer *tokenizer);
/* How many special tokens the post-processor puts around one text. */
uint32_t moult_tokenizer_special_count(const struct moult_tokenizer *tokenizer);
/* Adds all that decides ids to `hash`, in the canonical form of docs/fingerprint.md. */
void moult_tokenizer_fingerprint(const struct moult_tokenizer *tokenizer,
                                 struct moult_sha256 *hash);

struct moult_tokenizer_scratch *moult_tokenizer_scratch_open(void);
void moult_tokenizer_scratch_close(struct moult_tokenizer_scratch *scratch);

/* Where a token comes from: bytes of the text, whole characters. What the normalizer removes is
 * part of a token where it stands within it, and of none else. Empty where an added token is
 * white space that another has taken. */
struct moult_token_span {
    uint32_t begin, end;
    bool special;          /* Around the text: it comes from nowhere. */
    bool begins_word;      /* The first token of a word, or an added token. */
};

struct moult_token_ids {
    const uint32_t *ids;   /* Special tokens included. Valid until the scratch's next use. */
    const struct moult_token_span *spans;   /* [count]; NULL unless they were asked for. */
    uint32_t count;
    bool truncated;        /* The text had more tokens than fitted. */
};

/* `text` is UTF-8, checked by the caller (moult_utf8_valid). At most
 * `tokens_max` ids come out, the last places kept for the special tokens behind
 * the text; work stops soon after they are full. Time is linear in the text. */
int moult_tokenizer_encode(const struct moult_tokenizer *tokenizer,
                           struct moult_tokenizer_scratch *scratch, const char *text,
                           size_t text_size, uint32_t tokens_max, struct moult_token_ids *out,
                           struct moult_error *error);

/* The same, with spans. The text has less than 4 GiB. */
int moult_tokenizer_encode_spans(const struct moult_tokenizer *tokenizer,
                                 struct moult_tokenizer_scratch *scratch, const char *text,
                                 size_t text_size, uint32_t tokens_max,
                                 struct moult_token_ids *out, struct moult_error *error);

/* The same without spans, for the end of the text: where it has too many tokens, the last ones are
 * kept. All of the text is read. */
int moult_tokenizer_encode_tail(const struct moult_tokenizer *tokenizer,
                                struct moult_tokenizer_scratch *scratch, const char *text,
                                size_t text_size, uint32_t tokens_max,
                                struct moult_token_ids *out, struct moult_error *error);

#endif
