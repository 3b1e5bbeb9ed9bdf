/* What waits for this worker, and who gets which part of it.
 *
 * Requests come out of the port in order and wait in two lanes. A compute thread
 * takes a portion: as many texts as are its fair share of what waits, up to a
 * budget of tokens, so that a batch forms while the threads are busy and nobody
 * waits for one to form. Single texts go first; every fourth portion starts with
 * the batch lane, so that neither starves. Requests of the batch lane take turns,
 * so that 8 texts need not wait for 2,048.
 *
 * All functions may be called from any thread. */
#ifndef MOULT_WORKER_BATCH_H
#define MOULT_WORKER_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "ipc/port.h"

/* Estimated tokens of one portion. It bounds how long a single text waits behind a batch, and
 * how long the sign of life can stay away. */
#define MOULT_PORTION_TOKENS 128
#define MOULT_PORTION_TEXTS_MAX 64

/* A request under way. The table of cells and their bytes are written by the
 * threads that hold its texts; the rest belongs to batch.c. */
struct moult_request {
    struct moult_port_request port;
    struct moult_request_view view;
    struct moult_answer_cell *cells;   /* [count], in the answer block. */
    size_t cells_begin, cell_stride;   /* Cell i begins at cells_begin + i · cell_stride. */

    uint32_t next;                     /* The first text that nobody has taken. */
    uint64_t next_offset;              /* Where it begins in view.texts. */
    uint32_t running;                  /* Texts taken and not finished. */
    enum moult_answer_status status;
    uint32_t message_text;
    char message[256];
    uint64_t begun_ns, tokenize_ns;
    struct moult_request *behind;      /* In its lane. */
};

struct moult_portion_text {
    struct moult_request *request;
    uint32_t index;
    const char *bytes;
    size_t size;
    uint64_t tokenize_ns;              /* Filled by whoever works on it. */
};

struct moult_portion {
    uint32_t count;
    struct moult_portion_text texts[MOULT_PORTION_TEXTS_MAX];
};

struct moult_batch;

/* For a model of C dimensions and at most `tokens_max` tokens per text. The port
 * stays the caller's. */
struct moult_batch *moult_batch_open(struct moult_port *port, uint32_t threads, uint32_t C,
                                     uint32_t tokens_max);
void moult_batch_close(struct moult_batch *batch);

/* Waits for work. False when the front has asked for the exit and nothing is left. */
bool moult_batch_take(struct moult_batch *batch, struct moult_portion *portion);

/* The request cannot be answered; of several reasons the one about the first text stands. */
void moult_batch_refuse(struct moult_batch *batch, struct moult_request *request,
                        enum moult_answer_status status, uint32_t text, const char *message);

/* All texts of the portion are done: what is complete goes back to the front. */
void moult_batch_finish(struct moult_batch *batch, const struct moult_portion *portion);

#endif
