/* The open files of a model folder. Their names are all known beforehand, except
 * those of the folders of modules ("1_Pooling"): every folder directly below with
 * a file of a known name in it is looked into, so that nothing needs to be
 * parsed before the last file is open. */
#ifndef MOULT_MODEL_FILES_H
#define MOULT_MODEL_FILES_H

#include <stdbool.h>

#include "model/model.h"

struct moult_model_file {
    char *path;         /* Below the model's folder: "1_Pooling/config.json". */
    int fd;
    uint64_t size;
};

/* `folder` is "" or a name that modules.json gives. NULL where there is no such file. */
const struct moult_model_file *moult_model_files_find(const struct moult_model_files *files,
                                                      const char *folder, const char *name);

/* The whole of a small file. Returns 1 with *bytes the caller's to free, 0 where
 * it does not exist, or -1. */
int moult_model_files_read(const struct moult_model_files *files, const char *folder,
                           const char *name, size_t size_max, char **bytes, size_t *size,
                           struct moult_error *error);

#endif
