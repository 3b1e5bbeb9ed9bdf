/* From a listing to an installed revision: shared by hub.c and web.c. A file is taken
 * from where it costs least: an installed revision that has it, a cache on this
 * machine, a download that was broken off, the network. Wherever it comes from,
 * its bytes are read again from the disk and must have the listed digest. */
#ifndef MOULT_SOURCE_REMOTE_H
#define MOULT_SOURCE_REMOTE_H

#include "source/listing.h"
#include "source/source.h"
#include "source/transfer.h"

struct moult_remote {
    const char *name;               /* In messages: "org/name", "http://host/model". */
    const char *source;             /* In revision.json: exactly what it is. */
    const char *data_folder;
    const struct moult_listing *listing;   /* Sorted. */
    struct moult_transfer *transfer;       /* NULL: nothing may be fetched. */
    const void *context;
    char *(*url)(const void *context, const char *path);   /* malloc'ed */
    /* The path of the n-th place where a cache may have the file, malloc'ed, or NULL after
     * the last; the function itself may be NULL. */
    char *(*cached)(const void *context, const struct moult_listed_file *file, unsigned n);
};

/* A struct moult_transfer_options' `advance` and its context, while something is installed. */
struct moult_remote_progress {
    const struct moult_install_progress *progress;   /* May be NULL. */
    uint64_t bytes_before;                           /* Of the files that are complete. */
    uint64_t bytes_all;                              /* 0 while nobody knows. */
};
void moult_remote_advance(void *context, uint64_t bytes);

int moult_install_from_remote(const struct moult_remote *remote,
                              struct moult_remote_progress *progress,
                              struct moult_installed *installed, struct moult_error *error);

/* As a part of a URL: everything that is not plain is escaped, but for "/"; malloc'ed. */
char *moult_remote_escape(const char *path);

#endif
