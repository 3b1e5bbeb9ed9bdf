/* The vectors of a worker's generation: the file that they come from, and the index that finds
 * them. The worker holds no truth: it is told what to add and to remove (ipc/message.h, FOLLOW),
 * and reads the numbers from a file that it cannot write.
 *
 * Any thread may search. Changes are made one message at a time. */
#ifndef MOULT_WORKER_VECTORS_H
#define MOULT_WORKER_VECTORS_H

#include <stdbool.h>
#include <stdint.h>

#include "index/index.h"
#include "ipc/message.h"

struct moult_vectors;

/* Takes the descriptors of files of vectors (ipc/rows.h) while the process still reads nothing of
 * a model. What is no such file is left out, with a warning. Never NULL. */
struct moult_vectors *moult_vectors_open(const int *fds, unsigned count);
void moult_vectors_close(struct moult_vectors *vectors);

/* Once it is known whose vectors they are. */
void moult_vectors_begin(struct moult_vectors *vectors, const char *fingerprint, uint32_t C,
                         const struct moult_kernels *kernels);

/* Memory that so many rows will take; 0 where there are no files, and so no index. */
uint64_t moult_vectors_bytes_for(const struct moult_vectors *vectors, uint32_t C, uint64_t rows);
/* Of the rows that it has. */
uint64_t moult_vectors_bytes(const struct moult_vectors *vectors);

/* Makes the changes in their order. Rows that cannot be read go to unread [count], *unread_count of
 * them; what of their documents could be read is added. Returns 0, or -1 where the index could not
 * do what it should: then it answers no searches until it is told to be complete again. */
int moult_vectors_change(struct moult_vectors *vectors, const struct moult_change *changes,
                         uint32_t count, uint32_t *unread, uint32_t *unread_count,
                         struct moult_error *error);
/* From now on it answers searches. Rows that searches could not read back go to
 * unread [MOULT_UNREAD_MORE]; returns how many they were. */
uint32_t moult_vectors_complete(struct moult_vectors *vectors, uint32_t *unread);

/* What a thread needs for its searches; NULL where there is no index. */
struct moult_index_scratch *moult_vectors_scratch(const struct moult_vectors *vectors);
/* The best documents for a unit vector [C] into hits [hits_max]. Returns how many, or -1:
 * MOULT_ERROR_UNAVAILABLE where the index is not complete, or a row of it cannot be read back;
 * INVALID where the vector is none to search with. */
int moult_vectors_search(struct moult_vectors *vectors, const struct moult_search_options *options,
                         const float *vector, struct moult_index_scratch *scratch,
                         struct moult_hit *hits, struct moult_error *error);

#endif
