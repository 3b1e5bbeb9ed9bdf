/* What waits for this worker, and who gets which part of it.
 *
 * Requests come out of the port in order and wait in lanes. A compute thread
 * takes a portion: as many texts as are its fair share of what waits, up to a
 * budget of tokens, so that a batch forms while the threads are busy and nobody
 * waits for one to form. Single texts go first; every fourth portion starts with
 * the batch lane, so that neither starves. Requests of the batch lane take turns,
 * so that 8 texts need not wait for 2,048.
 *
 * A third lane is worked off by threads of its own, of low priority, where there are any. They
 * share nothing with the others but the short locks of this file and of the port: no request of
 * the first two lanes is ever in the hands of a thread that the machine may leave aside.
 *
 * A text that is all that there is to do is shared (model/split.h): the thread that takes it wakes
 * those that wait for work, and they help until it is done or something else comes.
 *
 * What is taken is an item: a text; of FOLLOW, whose changes have an order, some changes in a row,
 * and the next ones only once they are made.
 *
 * All functions may be called from any thread. */
#ifndef MOULT_WORKER_BATCH_H
#define MOULT_WORKER_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "ipc/port.h"
#include "model/split.h"

/* Estimated tokens of one portion. It bounds how long a single text waits behind a batch, and
 * how long the sign of life can stay away. */
#define MOULT_PORTION_TOKENS 128
#define MOULT_PORTION_TEXTS_MAX 64
/* Changes of one item: reading and adding them takes about as long as a short text. */
#define MOULT_PORTION_CHANGES 512u

/* A request under way. The table of cells and their bytes are written by the
 * threads that hold its items; the rest belongs to batch.c. */
struct moult_request {
    struct moult_port_request port;
    struct moult_request_view view;
    struct moult_answer_cell *cells;   /* In the answer block. */

    uint32_t items;
    uint32_t next;                     /* The first that nobody has taken. */
    uint64_t next_offset;              /* Where its text begins in view.texts, … */
    size_t next_cell;                  /* … and its cell in the answer block. */
    uint32_t running;                  /* Items taken and not finished. */
    uint32_t scan_tokens;              /* What searching one vector is worth, in tokens. */
    enum moult_answer_status status;
    uint32_t message_text;
    char message[256];
    uint64_t begun_ns, tokenize_ns, search_ns;
    bool waits;                        /* In its lane. */
    struct moult_request *behind;
};

struct moult_portion_item {
    struct moult_request *request;
    uint32_t index;
    const char *bytes;                 /* Of its text; NULL where there is none. */
    size_t size;
    size_t cell;                       /* Where its cell begins in the answer block. */
    uint64_t tokenize_ns, search_ns;   /* Filled by whoever works on it. */
};

struct moult_portion {
    uint32_t count;
    bool shared;                       /* Whoever works on it leads moult_batch_split(), and ends
                                          that. */
    uint32_t led;                      /* What this thread was last asked to help with, … */
    uint32_t bell;                     /* … and until when: until the bell is another one. */
    struct moult_portion_item items[MOULT_PORTION_TEXTS_MAX];
};

struct moult_batch;

/* For a model of C dimensions and at most `tokens_max` tokens per text, which is shared from
 * `share_tokens` on. The port stays the caller's. `background`: there are threads for the third
 * lane; else it is the second. */
struct moult_batch *moult_batch_open(struct moult_port *port, uint32_t threads, uint32_t C,
                                     uint32_t tokens_max, uint32_t share_tokens, bool background);
void moult_batch_close(struct moult_batch *batch);

struct moult_split *moult_batch_split(struct moult_batch *batch);

/* A search of one vector reads so many bytes. */
void moult_batch_set_scan(struct moult_batch *batch, uint64_t bytes);

enum moult_batch_turn {
    MOULT_BATCH_TAKEN,
    MOULT_BATCH_ASKED,                 /* To help with moult_batch_split(). */
    MOULT_BATCH_IDLE,
    MOULT_BATCH_OVER                   /* The front has asked for the exit and nothing is left. */
};

/* Waits for work: TAKEN, ASKED or OVER. Each time with the same portion, zeros at first. */
enum moult_batch_turn moult_batch_take(struct moult_batch *batch, struct moult_portion *portion);

/* The same for the third lane: TAKEN; IDLE when there was nothing for so long; OVER, even where
 * something is left. */
enum moult_batch_turn moult_batch_take_background(struct moult_batch *batch, uint64_t idle_ns,
                                                  struct moult_portion *portion);

/* From now on the third lane is over. */
void moult_batch_end(struct moult_batch *batch);

/* The request cannot be answered; of several reasons the one about the first text stands. */
void moult_batch_refuse(struct moult_batch *batch, struct moult_request *request,
                        enum moult_answer_status status, uint32_t text, const char *message);

/* All items of the portion are done: what is complete goes back to the front. */
void moult_batch_finish(struct moult_batch *batch, const struct moult_portion *portion);

#endif
