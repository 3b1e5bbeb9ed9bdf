#include "model/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"

/* What moult reads, and the pickle and the index that it refuses with a sentence
 * of their own. */
static const char *const known_names[] = {
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "modules.json",
    "pytorch_model.bin",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
};

struct moult_model_files {
    struct moult_model_file *list;
    size_t count;
};

static int open_known(struct moult_model_files *files, int folder_fd, const char *folder,
                      struct moult_error *error);
static int open_folders(struct moult_model_files *files, int folder_fd, struct moult_error *error);

struct moult_model_files *moult_model_files_open(int folder_fd, struct moult_error *error) {
    struct moult_model_files *files = moult_allocate(1, sizeof *files);

    if (open_known(files, folder_fd, "", error) == 0 &&
        open_folders(files, folder_fd, error) == 0)
        return files;
    moult_model_files_close(files);
    return NULL;
}

void moult_model_files_close(struct moult_model_files *files) {
    if (files == NULL)
        return;
    for (size_t i = 0; i < files->count; i++) {
        close(files->list[i].fd);
        free(files->list[i].path);
    }
    free(files->list);
    free(files);
}

/* O_NONBLOCK: a FIFO in the place of a file must not hold us up. */
static int open_one(struct moult_model_files *files, int folder_fd, const char *folder,
                    const char *name, struct moult_error *error) {
    char *path = moult_format("%s%s%s", folder, *folder ? "/" : "", name);
    struct stat status;
    int fd = openat(folder_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        free(path);
        return 0;
    }
    if (fd < 0 || fstat(fd, &status) != 0) {
        moult_fail_errno(error, "%s cannot be read", path);
    } else if (!S_ISREG(status.st_mode)) {
        moult_fail(error, MOULT_ERROR_INVALID, "%s is not a regular file.", path);
    } else if ((uint64_t)status.st_size > MOULT_MODEL_FILE_BYTES_MAX) {
        moult_fail(error, MOULT_ERROR_LIMIT, "%s is larger than the %lu GiB that moult loads.",
                   path, MOULT_MODEL_FILE_BYTES_MAX / MOULT_GIB);
    } else {
        files->list = moult_reallocate(files->list, files->count + 1, sizeof *files->list);
        files->list[files->count++] =
            (struct moult_model_file){.path = path, .fd = fd, .size = (uint64_t)status.st_size};
        return 0;
    }
    if (fd >= 0)
        close(fd);
    free(path);
    return -1;
}

static int open_known(struct moult_model_files *files, int folder_fd, const char *folder,
                      struct moult_error *error) {
    for (size_t i = 0; i < sizeof known_names / sizeof *known_names; i++) {
        if (open_one(files, folder_fd, folder, known_names[i], error) != 0)
            return -1;
    }
    return 0;
}

/* Modules lie in folders such as "1_Pooling"; others ("onnx", ".git") are left alone. */
static bool is_module_folder(const char *name) {
    return name[0] >= '0' && name[0] <= '9' && strchr(name, '_') != NULL;
}

static int open_folders(struct moult_model_files *files, int folder_fd,
                        struct moult_error *error) {
    int fd = openat(folder_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int result = 0;

    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return moult_fail_errno(error, "The model's folder cannot be listed");
    }
    while (result == 0 && (entry = readdir(folder)) != NULL) {
        if (!is_module_folder(entry->d_name))
            continue;
        result = open_known(files, folder_fd, entry->d_name, error);
        if (result == 0 && files->count > MOULT_MODEL_FILES_MAX)
            result = moult_fail(error, MOULT_ERROR_LIMIT,
                                "The model's folder has more than %d files.",
                                MOULT_MODEL_FILES_MAX);
    }
    closedir(folder);
    return result;
}

const struct moult_model_file *moult_model_files_find(const struct moult_model_files *files,
                                                      const char *folder, const char *name) {
    size_t folder_size = strlen(folder);

    for (size_t i = 0; i < files->count; i++) {
        const char *path = files->list[i].path;

        if (folder_size > 0) {
            if (strncmp(path, folder, folder_size) != 0 || path[folder_size] != '/')
                continue;
            path += folder_size + 1;
        }
        if (strcmp(path, name) == 0)
            return &files->list[i];
    }
    return NULL;
}

int moult_model_files_read(const struct moult_model_files *files, const char *folder,
                           const char *name, size_t size_max, char **bytes, size_t *size,
                           struct moult_error *error) {
    const struct moult_model_file *file = moult_model_files_find(files, folder, name);

    if (file == NULL)
        return 0;
    if (file->size > size_max)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s has %lu bytes; moult reads %zu at most.",
                          file->path, (unsigned long)file->size, size_max);
    *bytes = moult_allocate(file->size + 1, 1);
    *size = file->size;
    if (moult_read_exact(file->fd, *bytes, file->size, 0, file->path, error) != 0) {
        free(*bytes);
        *bytes = NULL;
        return -1;
    }
    return 1;
}
