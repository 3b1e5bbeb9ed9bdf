/* Vectors that exist already, made elsewhere: they are taken over where they are what the
 * server's model makes of the same texts. That is tried with some of them. */
#ifndef MOULT_CLI_GIVEN_H
#define MOULT_CLI_GIVEN_H

#include <stdint.h>

#include "cli/client.h"
#include "cli/records.h"

struct moult_given;

struct moult_given_figures {
    unsigned rows;            /* Encoded again. */
    double least, mean;       /* Cosines of the two vectors of a row. */
};

/* Encodes 256 documents of the file again (all, where it has no more), chosen at random, and fails
 * unless each of them has a cosine of 0.999 or more with its row. `collection` NULL: the default.
 * NULL with the error; also when *stop is not 0. */
struct moult_given *moult_given_open(const char *npy_path, const struct moult_client *client,
                                     const char *collection, const char *file,
                                     const struct moult_record_options *reading,
                                     uint32_t retry_s, const volatile int *stop,
                                     struct moult_given_figures *figures,
                                     struct moult_error *error);
void moult_given_close(struct moult_given *given);

uint32_t moult_given_dimensions(const struct moult_given *given);
/* Of the model that they were compared with: 64 hex digits. */
const char *moult_given_fingerprint(const struct moult_given *given);
/* Of a record, counted from 0; `context` is a struct moult_given. */
int moult_given_vector(void *context, uint64_t record, float *vector, struct moult_error *error);

#endif
