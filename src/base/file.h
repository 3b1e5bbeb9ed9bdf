/* Files, read whole within a limit and written so that a crash leaves either
 * the old or the new one. */
#ifndef MOULT_BASE_FILE_H
#define MOULT_BASE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Reads the regular file `name` below the folder `folder_fd` (AT_FDCWD for a
 * path). The caller frees *bytes, which end in an extra NUL. Does not follow a
 * file that changes size meanwhile: that is an error. */
int moult_file_read(int folder_fd, const char *name, size_t size_max, char **bytes,
                    size_t *size, struct moult_error *error);

/* Writes `name` below `folder_fd`: a temporary file, fsync, rename, fsync of the folder. */
int moult_file_replace(int folder_fd, const char *name, const void *bytes, size_t size,
                       struct moult_error *error);

/* Reads or writes exactly `size` bytes, or fails. `what` names the file in the message. */
int moult_read_exact(int fd, void *bytes, size_t size, uint64_t offset, const char *what,
                     struct moult_error *error);
int moult_write_exact(int fd, const void *bytes, size_t size, const char *what,
                      struct moult_error *error);

/* Makes `path` and its missing parents, mode 0755. */
int moult_folder_make(const char *path, struct moult_error *error);
/* Removes the folder and all below it; absent is not an error. */
int moult_folder_remove(int parent_fd, const char *name, struct moult_error *error);

#endif
