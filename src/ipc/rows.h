/* The vectors of a space, at rest: the file DATA/vectors/SLOT-FP16.rows.
 *
 * A contract between two processes. The front makes the file and writes it; a worker inherits a
 * descriptor that can only read, and reads back what it is told to. A row is one chunk's vector, at
 * a place that follows from its number alone; numbers are dense, and in the life of a file none is
 * given twice.
 *
 * Nothing here syncs. A row names its document and chunk and carries a digest of itself, so what is
 * torn, damaged, lost with the power or never written is not the row that the table speaks of, and
 * its chunk is embedded again. The file is read and never mapped: where it has become shorter,
 * a read says so, and a map would end the process.
 *
 * One thread writes. Any number may read at once, in any process, also while it is written.
 *
 * Letter: C, the width of a vector. rows.c has the byte table. */
#ifndef MOULT_IPC_ROWS_H
#define MOULT_IPC_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct moult_rows_file;

/* Opens the file of that model (64 hex digits), or makes it. MOULT_ERROR_INVALID: what lies there
 * is something else, or of another model or width, or its head is damaged; it is not touched, and
 * the caller may remove it and begin anew. */
struct moult_rows_file *moult_rows_file_create(const char *path, const char *fingerprint,
                                               uint32_t C, struct moult_error *error);
/* Makes an empty one for a model that nobody knows yet, whatever was there: a worker can inherit it
 * before it has said which model it is. */
struct moult_rows_file *moult_rows_file_create_blank(const char *path, struct moult_error *error);
/* Gives a blank one to its model; who has inherited it sees that. */
int moult_rows_file_claim(struct moult_rows_file *file, const char *fingerprint, uint32_t C,
                          struct moult_error *error);

/* The worker's side. The descriptor becomes the rows', and is closed where it fails, too.
 * MOULT_ERROR_INVALID: it is no such file. */
struct moult_rows_file *moult_rows_file_adopt(int fd, struct moult_error *error);
/* Whether the file is that model's: reads the head again, for it may have been claimed since. */
bool moult_rows_file_is_of(struct moult_rows_file *file, const char *fingerprint, uint32_t C);

/* The descriptor that a worker may have: it can only read. The rows' own. */
int moult_rows_file_fd(const struct moult_rows_file *file);
/* "" and 0 while it is blank. */
const char *moult_rows_file_fingerprint(const struct moult_rows_file *file);
uint32_t moult_rows_file_dimensions(const struct moult_rows_file *file);
void moult_rows_file_close(struct moult_rows_file *file);

/* Writes rows [first, first + count) with their vectors [count][C]; seqs are never 0. On failure
 * (MOULT_ERROR_SYSTEM: a full disk) some of them may be there; what is there by half is no row. */
int moult_rows_file_write(struct moult_rows_file *file, uint32_t first, uint32_t count,
                          const uint64_t *seqs, const uint32_t *chunks, const float *vectors,
                          struct moult_error *error);
/* Reads the vector [C] of a row that is to be that chunk's. MOULT_ERROR_INVALID: there is no such
 * row, or it is another one, or damaged; MOULT_ERROR_SYSTEM: the disk refuses. */
int moult_rows_file_read(const struct moult_rows_file *file, uint32_t row, uint64_t seq,
                         uint32_t chunk, float *vector, struct moult_error *error);
/* Gives the disk back what these rows take, as far as whole pages of it have nothing else; they are
 * no rows any more. *bytes grows by how much that is; nothing, where the file system cannot. */
int moult_rows_file_punch(struct moult_rows_file *file, uint32_t first, uint32_t count,
                          uint64_t *bytes, struct moult_error *error);
/* Bytes of a file with so many rows. */
uint64_t moult_rows_file_bytes(uint32_t C, uint64_t rows);

#endif
