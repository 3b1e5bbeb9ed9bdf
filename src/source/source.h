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

#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"

/* What a source had at some moment, told apart cheaply from what it has at another: a hub's
 * commit, a manifest's SHA-256 with its ETag, a folder's times and inodes. Where two are equal
 * nothing was changed; where they differ, the revision's digest is the judge. */
#define MOULT_VALIDATOR_BYTES 256

struct moult_install_progress {
    void (*advance)(void *context, uint64_t bytes_done, uint64_t bytes_all);
    void *context;
};

struct moult_installed {
    char revision[MOULT_SHA256_HEX];
    bool was_there;             /* Nothing was copied: equal revision. */
    uint64_t bytes;             /* Of the model alone. */
    uint64_t fetched;           /* Bytes that were copied or came over the wire for it. */
    char validator[MOULT_VALIDATOR_BYTES];   /* Of the source, when this was taken. */
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

/* The same, where the path is to be what it seems: no link may lead to the folder. */
int moult_install_from_real_folder(const char *folder, const char *data_folder,
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

/* Looking whether a source has something newer, as cheaply as that can be told. */
enum moult_look_result {
    MOULT_LOOK_UNCHANGED,       /* What had the validator `unless` is still there. */
    MOULT_LOOK_CHANGED,
    MOULT_LOOK_INCOMPLETE       /* Something is there that is not whole: it is being written. */
};

#define MOULT_LOOK_PATHS_MAX 16
#define MOULT_LOOK_PATHS_BYTES_MAX 4096

struct moult_look {
    enum moult_look_result result;
    char validator[MOULT_VALIDATOR_BYTES];   /* Not of what is incomplete. */
    /* The folders that it lies in, and the one above, NULL where the kernel does not tell of
     * changes there; malloc'ed, to be released after a failure, too. */
    char *above;
    char *paths[MOULT_LOOK_PATHS_MAX];
    unsigned path_count;
    /* Why it is incomplete; after a failure, how long a busy server wants to be left alone. */
    struct moult_error reason;
    uint64_t pause_s;
};

/* `unless` is "" or the validator of what is known. It asks once, a hub for the commit alone, a
 * model server for a manifest with another ETag, and reads only the names and times of a
 * folder. One that has changed is watched until it has been quiet for two seconds; it is
 * complete when its weights have the length that they say, and its JSON files can be read. */
int moult_look(const char *source, const char *unless, struct moult_look *look,
               struct moult_error *error);
void moult_look_release(struct moult_look *look);

/* Of one kind each; for moult_look(). */
int moult_look_at_folder(const char *folder, const char *unless, struct moult_look *look,
                         struct moult_error *error);
int moult_look_at_hub(const char *source, const char *unless, struct moult_look *look,
                      struct moult_error *error);
int moult_look_at_web(const char *url, const char *unless, struct moult_look *look,
                      struct moult_error *error);

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

/* The size of an installed revision's files, as revision.json has it, without the vectors of
 * documents that it may bring. Fails where that is not
 * there or damaged. */
int moult_installed_bytes(const char *data_folder, const char *revision, uint64_t *bytes);

#endif
