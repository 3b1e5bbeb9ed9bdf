/* A request for vectors, as far as the dialects share it.
 *
 *   dialect->read()       body to texts and options     a pool thread where the body is large
 *   resolve and submit    slots.h                       the loop
 *   dialect->frame()      head and tail of the answer   the loop
 *
 * What stands between head and tail the worker has written, cell by cell, and
 * it is sent from where it lies. */
#ifndef MOULT_FRONT_EMBEDDING_H
#define MOULT_FRONT_EMBEDDING_H

#include "base/buffer.h"
#include "front/body.h"
#include "front/http_error.h"
#include "front/job.h"
#include "front/json.h"

struct moult_embedding;

struct moult_embedding_dialect {
    const char *texts_name;    /* "input": what errors call the texts. */
    bool timing_headers;       /* TEI's x-compute-time and its like. */

    /* Fills model, options, frame and texts from a body; returns 0, or -1 after
     * moult_embedding_refuse(). Touches the embedding and nothing else, for it may
     * run in a pool thread. */
    int (*read)(struct moult_embedding *embedding, const json_t *body);

    /* One of the two. The first writes what stands before and behind the cells; the
     * second writes a whole body, for answers without vectors. */
    void (*frame)(const struct moult_embedding *embedding, struct moult_buffer *head,
                  struct moult_buffer *tail);
    void (*body)(const struct moult_embedding *embedding, struct moult_buffer *body);
};

struct moult_embedding {
    const struct moult_embedding_dialect *dialect;
    struct moult_http_request *request;

    /* What is asked. Set up with the server's defaults, then filled by read(). */
    char *model;                          /* Owned; NULL: none named. */
    struct moult_embed_options options;
    struct moult_cell_frame frame;
    struct moult_text *texts;             /* [count], owned; they lead into the body's JSON. */
    uint32_t count;
    uint64_t characters;

    /* What came of it: valid in frame() and body(). */
    struct moult_job *job;

    struct moult_refusal refusal;

    /* embedding.c's own. */
    struct moult_body_reader reader;
    char *message;                        /* For the worker; handed to the job. */
    size_t message_size;
    struct moult_buffer head, tail;
};

/* From the handler of a request with a JSON body: reads it, and does all that follows. */
void moult_embedding_from_body(struct moult_http_request *request,
                               const struct moult_embedding_dialect *dialect);
/* The same for one text that the request itself holds; read() is not called. */
void moult_embedding_from_text(struct moult_http_request *request,
                               const struct moult_embedding_dialect *dialect, const char *text,
                               size_t size);

/* For read(): says why not. `param` is a constant. Returns -1. */
int moult_embedding_refuse(struct moult_embedding *embedding, enum moult_http_error kind,
                           const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* For read(): texts and count from a string or a list of strings. */
int moult_embedding_read_texts(struct moult_embedding *embedding, const json_t *value);
/* For read(): "dimensions", where 0 is refused. */
int moult_embedding_read_dimensions(struct moult_embedding *embedding, const json_t *body);
/* For read(): "model", whose ":query" or ":document" chooses the prompt. */
int moult_embedding_read_model(struct moult_embedding *embedding, const json_t *body);

#endif
