/* Vectors of documents that a revision of a model brings, made elsewhere, as on a GPU:
 *
 *     document_vectors/vectors.npy       [N][C], one row for each line of
 *     document_vectors/documents.jsonl   {"id": …, "text_sha256": 64 hex digits, of its UTF-8}
 *
 * A vector depends on the text alone, so that is what a document is found by. */
#ifndef MOULT_FRONT_BROUGHT_H
#define MOULT_FRONT_BROUGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

struct moult_brought;

/* Of the revision that is installed in that folder, for a model of C dimensions. Reads the lines;
 * rows are read when they are asked for. NULL: it brings none (the error's code is MISSING), or
 * they cannot be used. Takes a while for many. */
struct moult_brought *moult_brought_open(const char *folder, uint32_t C,
                                         struct moult_error *error);
void moult_brought_close(struct moult_brought *brought);
uint64_t moult_brought_count(const struct moult_brought *brought);

/* Whether there is a vector of that text; then it is in `vector` [C], as a unit vector. One
 * thread at a time. */
bool moult_brought_find(struct moult_brought *brought, const char *text, size_t size,
                        float *vector);

/* Reads a line without its line feed. */
int moult_brought_read_line(const char *line, size_t size,
                            unsigned char digest[MOULT_SHA256_BYTES], struct moult_error *error);

#endif
