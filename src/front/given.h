/* Vectors that come with documents: POST /documents {"fingerprint", "documents": [{…, "vector"}]}.
 *
 * They were made by the same model elsewhere, and spare embedding. They are there as long as their
 * request is: a follower of that model which comes to one of the documents meanwhile, and finds
 * that it is one chunk, takes its vector. All else is embedded as ever: a document that is longer,
 * one whose server died in between, and whatever other generations want of it. */
#ifndef MOULT_FRONT_GIVEN_H
#define MOULT_FRONT_GIVEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "front/http_error.h"

struct moult_put;

struct moult_given_vector {
    uint64_t seq;                  /* Of its document, once that is known. */
    uint32_t document;             /* In the request. */
    const float *numbers;          /* [C], a unit vector. */
};

struct moult_given {
    char fingerprint[MOULT_SHA256_HEX];   /* As it came: 16 to 64 digits. "": none came. */
    uint32_t C;
    uint32_t count, taken;
    struct moult_given_vector *vectors;   /* [count] */
    float *numbers;                /* [count][C] */
    struct moult_given *next;      /* In a list, and which one; NULL: in none. */
    struct moult_given **list;
};

/* What is in a body that is an object with "documents"; *documents is that list. Any other
 * body is left alone. 0, or -1 after a refusal. Any thread. */
int moult_given_read(struct moult_given *given, const json_t *body, const json_t **documents,
                     struct moult_refusal *refusal);
/* Takes it out of its list, too. */
void moult_given_release(struct moult_given *given);

/* Of a model by its whole fingerprint. */
bool moult_given_is_of(const struct moult_given *given, const char *fingerprint);

/* The documents have been written: now followers may look. */
void moult_given_offer(struct moult_given *given, struct moult_given **list,
                       const struct moult_put *puts);
/* The vector of that version, for `vector` [C], where one of the list has it. */
bool moult_given_take(struct moult_given *list, const char *fingerprint, uint64_t seq, uint32_t C,
                      float *vector);

#endif
