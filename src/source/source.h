/* Where a slot's revisions come from, and how one is installed.
 *
 * Installing copies the files that a model needs from its source into
 * DATA/models/.incoming-…, hashing as it copies, checks them, writes
 * revision.json beside them, fsyncs, and renames the folder to DATA/models/<revision>. It
 * never leaves half a revision under its name. It runs in a child process
 * (`moult pull`, cli/pull.c), so that neither the disk nor a broken source can
 * stall the front. A revision is the SHA-256 over the sorted lines
 * "<sha256>  <path>\n" of its files. */
#ifndef MOULT_SOURCE_SOURCE_H
#define MOULT_SOURCE_SOURCE_H

#include "base/error.h"
#include "base/hash.h"

struct moult_install_progress {
    void (*advance)(void *context, uint64_t bytes_done, uint64_t bytes_all);
    void *context;
};

struct moult_installed {
    char revision[MOULT_SHA256_HEX];
    bool was_there;             /* Nothing was copied: equal revision. */
    uint64_t bytes;
};

/* Installs from a folder. A folder that is not a model (a missing file, a pickle
 * and no safetensors, names that lead out of it, files over the limits) is
 * refused with the reason; links are followed to regular files, for so are the
 * snapshots of a hub's cache made. One that changes while it is copied is
 * copied again, and after three times refused as MOULT_ERROR_UNAVAILABLE. */
int moult_install_from_folder(const char *folder, const char *data_folder,
                              const struct moult_install_progress *progress,
                              struct moult_installed *installed, struct moult_error *error);

/* Names in DATA/models that are nothing, or not any more: what is being installed,
 * and what is being cleared away. */
#define MOULT_LEFTOVER_INCOMING ".incoming-"
#define MOULT_LEFTOVER_REMOVED ".removed-"
bool moult_install_is_leftover(const char *name);
/* Removes what a killed server left under such names. Only while no install runs. */
void moult_install_leftovers_remove(const char *models_folder);

/* Reads every file of an installed revision again and compares it with revision.json. */
int moult_installed_verify(const char *data_folder, const char *revision,
                           struct moult_error *error);

#endif
