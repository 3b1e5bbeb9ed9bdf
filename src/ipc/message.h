/* The bytes that the front and a worker exchange in shared memory: a request and its answer, of
 * four kinds. Same machine, same program version, so integers are native; every size and offset
 * of the other side is checked before it is used. This header, request.c and answer.c are the
 * whole truth about the layout; docs/architecture.md draws it.
 *
 *     kind      the request has                      the answer has, for each text
 *     ───────── ──────────────────────────────────── ────────────────────────────────────────
 *     EMBED     texts, how their vectors are written a piece of the body of a response
 *     SEARCH    texts, or vectors of them; where and the documents whose vectors are nearest
 *               how many to find
 *     CUT       texts, how long a chunk is           the byte ranges of its chunks
 *     FOLLOW    changes to the worker's index        (once:) the rows that could not be read
 */
#ifndef MOULT_IPC_MESSAGE_H
#define MOULT_IPC_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "moult.h"

enum moult_request_kind {
    MOULT_REQUEST_EMBED,
    MOULT_REQUEST_SEARCH,
    MOULT_REQUEST_CUT,
    MOULT_REQUEST_FOLLOW
};

/* ------------------------------------------------------------------------------ EMBED */

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

/* ----------------------------------------------------------------------------- SEARCH */

/* Each text is embedded as a query (with the query prompt, as a unit vector) and searched in the
 * worker's index, within one message: so no query meets vectors of another model. */
struct moult_search_options {
    uint32_t collection;        /* The store's number. */
    uint32_t hits_max;          /* Of each query: 1 to MOULT_HITS_MAX. */
    float score_min;            /* Finite; -2: any. */
    const uint64_t *allowed;    /* Bit r is row r of the rows file; NULL: all rows. */
    uint32_t allowed_bits;      /* Rows from there on are not allowed. */
    enum moult_overlong overlong;
    bool with_vector;           /* The vectors of the queries come back as well. */
    const float *vectors;       /* [count][C], finite, of any length: in place of texts, or NULL. */
    uint32_t C;
};

/* `texts` is NULL where there are vectors. An index that the follower has not completed yet gives
 * MOULT_ANSWER_NOT_YET. */
char *moult_search_request_write(const struct moult_text *texts, uint32_t count,
                                 const struct moult_search_options *options, size_t *size);

struct moult_found {
    uint64_t seq;
    uint32_t chunk;             /* The document's best one. */
    float score;                /* The cosine. */
};

/* -------------------------------------------------------------------------------- CUT */

/* Where the model's tokenizer cuts a text into chunks of at most so many tokens, special ones and
 * those of the document prompt counted. Chunks begin and end between words, better between
 * sentences, and within a word only where it is longer than a chunk. Each begins where the one
 * before ends, or up to `overlap` tokens before that; together they are the whole text. There is
 * at least one, also of an empty text. */
struct moult_cut_options {
    uint32_t tokens;            /* MOULT_CHUNK_TOKENS_MIN to the model's tokens_max. */
    uint32_t overlap;           /* At most half of what a chunk has for its text counts. */
};
char *moult_cut_request_write(const struct moult_text *texts, uint32_t count,
                              const struct moult_cut_options *options, size_t *size);

struct moult_range {
    uint32_t begin, end;        /* Bytes of the text. */
};

/* ----------------------------------------------------------------------------- FOLLOW */

enum moult_change_kind {
    MOULT_CHANGE_ADD,           /* A chunk's vector, from that row of the rows file. */
    MOULT_CHANGE_REMOVE,        /* All chunks of that version of a document. */
    MOULT_CHANGE_DROP           /* A whole collection. */
};
struct moult_change {
    uint32_t kind;
    uint32_t collection;
    uint64_t seq;               /* 0 with DROP. */
    uint32_t row, chunk;        /* 0 but with ADD. */
};

/* 1 to MOULT_CHANGES_MAX changes, which the worker makes in this order; 0 with `complete` alone.
 * From the first message with `complete` on its index answers searches. What it says of rows that
 * it could not read is about their chunks alone; all else was done. At most one such request may be
 * under way in a worker. */
char *moult_follow_request_write(const struct moult_change *changes, uint32_t count, bool complete,
                                 size_t *size);

/* ---------------------------------------------------------------- requests, all kinds */

/* Bytes that the answer to a message (which its own process wrote) may need at most, of a worker
 * whose vectors have C dimensions. */
size_t moult_answer_bytes_max(const void *message, size_t size, uint32_t C);

/* A request as the worker sees it: all pointers lead into the message, checked. */
struct moult_request_view {
    enum moult_request_kind kind;
    uint32_t count;               /* Texts, or vectors that stand for them; changes. */
    const uint32_t *text_sizes;   /* [count]; NULL: there are no texts. */
    const char *texts;            /* End to end, their sizes add up. */
    struct moult_embed_options options;    /* EMBED; SEARCH: what follows from it. */
    struct moult_cell_frame frame;         /* EMBED */
    struct moult_search_options search;    /* SEARCH */
    struct moult_cut_options cut;          /* CUT */
    const struct moult_change *changes;    /* FOLLOW: [count] */
    bool complete;                         /* FOLLOW */
};
/* `message` lies at a multiple of 8. */
int moult_request_read(const void *message, size_t size, struct moult_request_view *view,
                       struct moult_error *error);

/* ---------------------------------------------------------------------------- answers */

enum moult_answer_status {
    MOULT_ANSWER_OK,
    MOULT_ANSWER_INVALID,    /* The request's own fault: message says why (an over-long text, …). */
    MOULT_ANSWER_FAILED,     /* The worker's: a bug or no memory. */
    MOULT_ANSWER_NOT_YET     /* A search met an index that is not complete, or a row of it that
                                cannot be read any more: once the follower has been there, it may
                                be asked again. */
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
    uint64_t search_ns;
};

/* An answer as the front sees it, every cell checked to lie within the block.
 * Pointers lead into shared memory that the worker can still write: bytes may be
 * sent on, but nothing read from there is trusted a second time. What the front itself reads
 * (`found` and all below it) is copied and checked. */
struct moult_answer_view {
    enum moult_answer_status status;
    char message[256];                 /* Copied. Empty on MOULT_ANSWER_OK. */
    uint32_t message_text;             /* Which text it is about, or UINT32_MAX. */
    uint32_t count;                    /* Of cells: one for each text; with FOLLOW one. */
    struct moult_answer_cell *cells;   /* [count], copied. Owned, as all below; NULL where the
                                          request was of another kind. */
    const char *block;                 /* The block that cells lie in. */
    uint64_t tokens;                   /* Sums over the cells. */
    uint32_t truncated;
    struct moult_answer_times times;

    uint32_t *ends;                    /* [count] Of text i: from ends[i - 1] to ends[i] of … */
    struct moult_found *found;         /* SEARCH: scores finite and falling, at most hits_max. */
    struct moult_range *ranges;        /* CUT: as promised above, at least one. */
    float *vectors;                    /* SEARCH, with_vector: [count][C], finite. */
    uint32_t *unread;                  /* FOLLOW: [unread_count] rows to be embedded again, of this
                                          request or, where a search met them, of earlier ones. */
    uint32_t unread_count;
};
/* The answer to that message, of a worker whose vectors have C dimensions. On failure, which is the
 * worker's fault, there is nothing to release. */
int moult_answer_read(const char *block, size_t capacity, const void *message,
                      size_t message_size, uint32_t C, struct moult_answer_view *view,
                      struct moult_error *error);
void moult_answer_view_release(struct moult_answer_view *view);

#endif
