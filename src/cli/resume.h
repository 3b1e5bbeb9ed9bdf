/* How far an import or an export has come, in a small file beside the large one: a repeat of the
 * command goes on from there. It is written new and renamed, so that it is whole or the one
 * before, and removed when all is done. */
#ifndef MOULT_CLI_RESUME_H
#define MOULT_CLI_RESUME_H

#include <jansson.h>
#include <stdint.h>

#include "base/error.h"

/* "FILE.moult-progress", malloc'ed. */
char *moult_resume_path(const char *file);

/* What was written last: a new reference to an object; NULL with error->code MOULT_OK: there is
 * none. It is an error where it is of another `task`: a sentence of what, from and to where. */
json_t *moult_resume_read(const char *path, const char *task, struct moult_error *error);
/* `state`: a new reference to an object, taken over. */
int moult_resume_write(const char *path, const char *task, json_t *state,
                       struct moult_error *error);
/* Absent is not an error. */
int moult_resume_remove(const char *path, struct moult_error *error);

/* A digest that tells whether the bytes before `offset` are still the same: of the first 64 KiB
 * and of the last 4 KiB of them. */
#define MOULT_RESUME_DIGEST_HEX 65
int moult_resume_digest(int fd, uint64_t offset, const char *name,
                        char digest[MOULT_RESUME_DIGEST_HEX], struct moult_error *error);

#endif
