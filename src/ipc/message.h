/* The bytes that the front and a worker exchange in shared memory: one request,
 * one answer. Same machine, same program version, so integers are native; every
 * size and offset of the other side is checked before it is used. This file
 * and its functions are the whole truth about the layout; docs/architecture.md
 * draws it. */
#ifndef MOULT_IPC_MESSAGE_H
#define MOULT_IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "moult.h"

/* How the worker writes a vector into its answer. */
enum moult_vector_format {
    MOULT_VECTOR_NONE,      /* Only the counts are wanted. */
    MOULT_VECTOR_DECIMAL,   /* [0.1,-0.2,…]: the shortest digits that read back as the same f32. */
    MOULT_VECTOR_BASE64,    /* "…" of little-endian f32, quotes included. */
    MOULT_VECTOR_F32        /* Raw little-endian f32. */
};

/* Where an over-long text is cut. */
enum moult_overlong { MOULT_OVERLONG_CUT_RIGHT, MOULT_OVERLONG_CUT_LEFT, MOULT_OVERLONG_ERROR };

struct moult_embed_options {
    enum moult_prompt prompt;
    enum moult_vector_format format;
    enum moult_overlong overlong;
    bool unit;              /* Normalise, even where the model does not. */
    bool raw;               /* Do not, even where the model does (TEI's normalize: false). */
    uint32_t dimensions;    /* Cut to the first so many and renormalise; 0: all. */
};

/* A cell is one text's piece of the answer body: `before`, the vector,
 * `between`, and then, where `numbered`, the text's index in decimal, and
 * `after`. So the worker writes JSON without knowing a dialect, and the front
 * sends cells from shared memory without touching their bytes. Every cell but
 * the first is preceded by a comma where `commas`. */
struct moult_cell_frame {
    const char *before, *between, *after;   /* "" where not needed; each < 256 bytes. */
    bool numbered, commas;
};

/* Writes an embedding request as one malloc'ed message. The texts are copied. */
char *moult_embed_request_write(const struct moult_text *texts, uint32_t count,
                                const struct moult_embed_options *options,
                                const struct moult_cell_frame *frame, size_t *size);

/* Bytes that the answer to such a request may need at most. */
size_t moult_embed_answer_bytes_max(uint32_t count, const struct moult_embed_options *options,
                                    const struct moult_cell_frame *frame, uint32_t C);

/* A request as the worker sees it: all pointers lead into the message, checked. */
struct moult_embed_request_view {
    uint32_t count;
    struct moult_embed_options options;
    struct moult_cell_frame frame;
    const uint32_t *text_sizes;   /* [count] */
    const char *texts;            /* End to end, their sizes add up. */
};
int moult_embed_request_read(const void *message, size_t size,
                             struct moult_embed_request_view *view, struct moult_error *error);

enum moult_answer_status {
    MOULT_ANSWER_OK,
    MOULT_ANSWER_INVALID,    /* The request's own fault: message says why (an over-long text, …). */
    MOULT_ANSWER_FAILED      /* The worker's: a bug or no memory. */
};

struct moult_answer_cell {
    uint32_t offset;         /* From the start of the answer block. */
    uint32_t size;
    uint32_t tokens;
    uint32_t truncated;      /* 0 or 1 */
};

struct moult_answer_times {
    uint64_t queue_ns;       /* From submission to the first text taken. */
    uint64_t tokenize_ns;
    uint64_t compute_ns;
};

/* An answer as the front sees it, every cell checked to lie within the block.
 * Pointers lead into shared memory that the worker can still write: bytes may be
 * sent on, but nothing read from there is trusted a second time. */
struct moult_answer_view {
    enum moult_answer_status status;
    char message[256];                 /* Copied. Empty on MOULT_ANSWER_OK. */
    uint32_t message_text;             /* Which text it is about, or UINT32_MAX. */
    uint32_t count;
    struct moult_answer_cell *cells;   /* [count], copied. Owned: moult_answer_view_release(). */
    const char *block;                 /* The block that cells lie in. */
    uint64_t tokens;                   /* Sums over the cells. */
    uint32_t truncated;
    struct moult_answer_times times;
};
int moult_answer_read(const char *block, size_t capacity, uint32_t count,
                      struct moult_answer_view *view, struct moult_error *error);
void moult_answer_view_release(struct moult_answer_view *view);

#endif
