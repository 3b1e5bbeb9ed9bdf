/* Which files of a model folder a model needs: the known names, in the folder
 * itself and in those of the modules that its modules.json names, and the
 * shards that an index of weights names; and the vectors of documents that a revision
 * may bring. Nothing else is taken. */
#ifndef MOULT_SOURCE_LIST_H
#define MOULT_SOURCE_LIST_H

#include <stdint.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/limits.h"

struct moult_source_file {
    char *path;                        /* Below the folder, "1_Pooling/config.json". */
    struct stat status;                /* As it was listed; of a listing only the size. */
    char sha256[MOULT_SHA256_HEX];     /* Of the copy. */
};

struct moult_source_list {
    struct moult_source_file files[MOULT_MODEL_FILES_MAX];   /* Sorted by path. */
    unsigned count;
    uint64_t bytes;
};

/* Where the files are looked for. */
struct moult_source_view {
    const char *name;                  /* In messages: "NAME/config.json cannot …" */
    void *context;
    /* 1: it is there, and `status` is filled; 0: it is not; -1: the error says why. */
    int (*look)(void *context, const char *path, struct stat *status, struct moult_error *error);
    /* Reads a small file that is there; the caller frees the bytes. */
    int (*read)(void *context, const char *path, char **bytes, size_t *size,
                struct moult_error *error);
};

/* Both refuse what is not a model with safetensors. On failure, too, the list must be released. */
int moult_source_list_select(const struct moult_source_view *view, struct moult_source_list *list,
                             struct moult_error *error);
int moult_source_list_read(int folder_fd, const char *folder, struct moult_source_list *list,
                           struct moult_error *error);
/* Of a folder's list: a digest of each file's path, size, times and inode. Nobody changes a
 * file and leaves all of them as they were: the kernel itself sets the time of a change. */
void moult_source_list_sign(const struct moult_source_list *list,
                            char signature[MOULT_SHA256_HEX]);
void moult_source_list_release(struct moult_source_list *list);
/* Without the vectors of documents: what a worker reads. */
uint64_t moult_source_list_model_bytes(const struct moult_source_list *list);
/* Whether the file at that path belongs to the vectors of documents. */
bool moult_source_is_of_vectors(const char *path);
/* A relative path of plain components: no "..", no ".", nothing empty, no control characters. */
bool moult_source_path_safe(const char *path);

#endif
