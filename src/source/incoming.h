/* DATA/models while a revision comes in: files are made in DATA/models/.incoming-PID,
 * and the whole folder gets its name by one rename. What of a download is there
 * already lies in DATA/models/.partial, under the file's digest, and outlives the process. */
#ifndef MOULT_SOURCE_INCOMING_H
#define MOULT_SOURCE_INCOMING_H

#include "source/list.h"
#include "source/source.h"

#define MOULT_PARTIAL_FOLDER ".partial"

struct moult_incoming {
    const char *data_folder;         /* The caller's. */
    char *models_folder;
    int models_fd;
    char name[32];                   /* Below models_fd. */
    int fd;                          /* -1 before the first moult_incoming_clear(). */
};

/* Must be closed in any case, which removes what was not finished. */
int moult_incoming_open(struct moult_incoming *incoming, const char *data_folder,
                        struct moult_error *error);
void moult_incoming_close(struct moult_incoming *incoming);

/* Begins from an empty folder. */
int moult_incoming_clear(struct moult_incoming *incoming, struct moult_error *error);
/* Makes the folders that `path` lies in. */
int moult_incoming_make_parents(struct moult_incoming *incoming, const char *path,
                                struct moult_error *error);
/* A new, empty file, parents included; -1 with the error. */
int moult_incoming_create(struct moult_incoming *incoming, const char *path,
                          struct moult_error *error);
/* A file that is complete: read-only, and on disk. */
int moult_incoming_seal(struct moult_incoming *incoming, int fd, struct moult_error *error);

/* All files of the list are there, with their SHA-256: installs them, unless they are
 * installed already. `source` is for people, in revision.json. */
int moult_incoming_finish(struct moult_incoming *incoming, const struct moult_source_list *list,
                          const char *source, struct moult_installed *installed,
                          struct moult_error *error);

#endif
