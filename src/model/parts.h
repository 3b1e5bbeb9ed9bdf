/* What a loaded model consists of, for the files that implement it. */
#ifndef MOULT_MODEL_PARTS_H
#define MOULT_MODEL_PARTS_H

#include <pthread.h>

#include "model/split.h"
#include "model/team.h"
#include "model/weights.h"

/* What one thread needs while it works for moult_model_encode(). */
struct moult_seat {
    struct moult_encoder *encoder;
    struct moult_tokenizer_scratch *scratch;
    char *prompted;             /* A prompt and a text, joined. */
    size_t prompted_capacity;
    struct moult_seat *next;
};

/* Helpers and seats are made when they are first needed: a worker has threads of its
 * own. They change while the model stays as it is, so the model points to them. */
struct moult_crew {
    pthread_mutex_t lock;
    struct moult_team *team;
    struct moult_split *split;          /* Of the last group of a call. */
    struct moult_seat *free_seats;
};

struct moult_model {
    struct moult_model_info info;
    struct moult_config config;
    struct moult_tokenizer *tokenizer;
    struct moult_weights weights;
    const struct moult_kernels *kernels;
    enum moult_precision precision;     /* Never AUTO once it is loaded. */
    double fidelity;
    char fingerprint[MOULT_SHA256_HEX];
    uint32_t threads;
    struct moult_crew *crew;
};

struct moult_crew *moult_crew_open(void);
void moult_crew_close(struct moult_crew *crew);

#endif
