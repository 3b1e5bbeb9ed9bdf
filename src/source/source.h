/* Where a slot's revisions come from, and how one is installed.
 *
 *     /models/minilm                      a folder                        folder.c
 *     org/name, org/name@revision         a model on a Hugging Face hub   hub.c
 *     http://host/minilm, https://…       a plain HTTP model server       web.c
 *
 * Installing takes the files that a model needs from its source into
 * DATA/models/.incoming-…, checks and hashes them, writes revision.json beside
 * them, fsyncs, and renames the folder to DATA/models/<revision>. It
 * never leaves half a revision under its name. It runs in a child process
 * (`moult pull`, cli/pull.c), so that neither the disk nor a broken source can
 * stall the front. A revision is the SHA-256 over the sorted lines
 * "<sha256>  <path>\n" of its files: the same model has the same revision wherever it comes
 * from. */
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

enum moult_source_kind { MOULT_SOURCE_FOLDER, MOULT_SOURCE_HUB, MOULT_SOURCE_WEB };

enum moult_source_kind moult_source_kind_of(const char *source);
/* Refuses what cannot be the name of a model on a hub, or the URL of a model server; a
 * folder need not exist. A URL must have no password in it, for sources are shown. */
int moult_source_check(const char *source, struct moult_error *error);
/* The name that a model has without its place: "name" of "org/name@revision", the last
 * component of a URL or a folder; malloc'ed, and "" where there is none. */
char *moult_source_last_name(const char *source);

/* From whichever of the three it is. */
int moult_install(const char *source, const char *data_folder,
                  const struct moult_install_progress *progress,
                  struct moult_installed *installed, struct moult_error *error);

/* Installs from a folder. A folder that is not a model (a missing file, a pickle
 * and no safetensors, names that lead out of it, files over the limits) is
 * refused with the reason; links are followed to regular files, for so are the
 * snapshots of a hub's cache made. One that changes while it is copied is
 * copied again, and after three times refused as MOULT_ERROR_UNAVAILABLE. */
int moult_install_from_folder(const char *folder, const char *data_folder,
                              const struct moult_install_progress *progress,
                              struct moult_installed *installed, struct moult_error *error);

/* Installs org/name[@revision] from HF_ENDPOINT, with HF_TOKEN. The branch is resolved to a
 * commit once, and everything is asked for by that; where it is gone meanwhile, it is
 * resolved anew. Files that HF_HOME's cache has are not downloaded. */
int moult_install_from_hub(const char *source, const char *data_folder,
                           const struct moult_install_progress *progress,
                           struct moult_installed *installed, struct moult_error *error);

/* Installs what URL/manifest.json lists; one that changes meanwhile is read again. */
int moult_install_from_web(const char *url, const char *data_folder,
                           const struct moult_install_progress *progress,
                           struct moult_installed *installed, struct moult_error *error);

/* Writes manifest.json into a model folder, for a model server to serve. `version` may be
 * NULL: the revision. */
int moult_manifest_write(const char *folder, const char *version,
                         char revision[MOULT_SHA256_HEX], struct moult_error *error);

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
