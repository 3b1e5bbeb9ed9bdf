/* One compute thread's way from requests to answers: tokenize, pack end to end, run
 * the encoder, write the cells where the front will send them from; or search for what the encoder
 * made, cut a text, change the index. */
#ifndef MOULT_WORKER_ANSWER_H
#define MOULT_WORKER_ANSWER_H

#include "model/model.h"
#include "worker/batch.h"
#include "worker/vectors.h"

struct moult_answerer;

/* All four stay the caller's. NULL when the machine has not the memory for another encoder. */
struct moult_answerer *moult_answerer_open(const struct moult_model *model,
                                           struct moult_vectors *vectors,
                                           struct moult_batch *batch, struct moult_port *port);
void moult_answerer_close(struct moult_answerer *answerer);

/* A short pass whose result nobody wants. The self-check has warmed the weights, at low
 * priority; this is the thread's own part, and beside a server under load. */
void moult_answerer_warm(struct moult_answerer *answerer);

/* Writes the cells of all items of the portion, or refuses their requests. */
void moult_answerer_run(struct moult_answerer *answerer, struct moult_portion *portion);

/* Helps with what another answerer works on, until that is done or a request comes: `portion` is
 * as moult_batch_take() left it. */
void moult_answerer_help(struct moult_answerer *answerer, const struct moult_portion *portion);

#endif
