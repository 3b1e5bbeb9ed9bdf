/* Where `moult embed` puts vectors: lines of JSON, or an array of NumPy. */
#ifndef MOULT_CLI_VECTORS_H
#define MOULT_CLI_VECTORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct moult_vector_writer;

/* `path` NULL: JSON lines on standard output. A path that ends in ".npy": an
 * array of float32; any other: JSON lines. The file appears when all is written. */
struct moult_vector_writer *moult_vector_writer_open(const char *path, uint32_t dimensions,
                                                     struct moult_error *error);
/* vectors [count][dimensions], the next ones in the order of the texts. */
int moult_vector_writer_add(struct moult_vector_writer *writer, const float *vectors,
                            size_t count, struct moult_error *error);
/* Frees the writer in either case. `keep` false: nothing is left of a file. */
int moult_vector_writer_close(struct moult_vector_writer *writer, bool keep,
                              struct moult_error *error);

#endif
