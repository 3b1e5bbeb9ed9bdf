/* Where a text is cut into chunks that a model can take whole. */
#ifndef MOULT_TOKENIZER_CHUNKS_H
#define MOULT_TOKENIZER_CHUNKS_H

#include "tokenizer/tokenizer.h"

struct moult_chunking {
    uint32_t tokens;      /* Of a chunk at most: prompt and special tokens counted. */
    uint32_t overlap;     /* Tokens of a chunk that the next one repeats, at most. */
    const char *prompt;   /* Stands before each chunk; "" for none. */
    /* Called after each chunk, or NULL: a long text takes its time. */
    void (*advance)(void *context);
    void *context;
};

struct moult_chunk {
    uint32_t begin, end;  /* Bytes of the text, between two characters. */
};

/* Cuts `text` (UTF-8, less than 4 GiB) into `chunks`, of which there is room for `chunks_max`.
 * Returns how many they are, at least 1, or -1: MOULT_ERROR_INVALID where prompt and special tokens
 * leave less than half of a chunk to the text, LIMIT where there is no room for more chunks.
 *
 * The first begins where the text does, the last ends where it does, and each of the others begins
 * where the one before it ends, or before that where they overlap. Each both begins and ends
 * further than the one before. Tokenized alone, a chunk has the tokens that it has in the text, but
 * for a word that is longer than a chunk and so cut within. */
int64_t moult_tokenizer_cut(const struct moult_tokenizer *tokenizer,
                            struct moult_tokenizer_scratch *scratch,
                            const struct moult_chunking *chunking, const char *text,
                            size_t text_size, struct moult_chunk *chunks, size_t chunks_max,
                            struct moult_error *error);

#endif
