#include "source/list.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

#define PATH_BYTES_MAX 255
#define INDEX "model.safetensors.index.json"

static const char *const known_names[] = {
    "config.json",        "config_sentence_transformers.json", "model.safetensors", INDEX,
    "modules.json",       "sentence_bert_config.json",         "special_tokens_map.json",
    "tokenizer.json",     "tokenizer_config.json",             "vocab.txt",
};
#define VECTORS_FOLDER "document_vectors"   /* front/brought.h */
static const char *const pickle_names[] = {"pytorch_model.bin", "pytorch_model.bin.index.json",
                                           "model.pt"};

struct reading {
    const struct moult_source_view *view;
    const char *name;                  /* The view's. */
    struct moult_source_list *list;
    struct moult_error *error;
};

static int add_modules(struct reading *reading);
static int add_folder(struct reading *reading, const char *prefix);
static int add_vectors(struct reading *reading);
static int check(struct reading *reading);

static int by_path(const void *a, const void *b) {
    return strcmp(((const struct moult_source_file *)a)->path,
                  ((const struct moult_source_file *)b)->path);
}

int moult_source_list_select(const struct moult_source_view *view, struct moult_source_list *list,
                             struct moult_error *error) {
    struct reading reading = {view, view->name, list, error};
    *list = (struct moult_source_list){.count = 0};
    if (add_folder(&reading, "") != 0 || add_modules(&reading) != 0 ||
        add_vectors(&reading) != 0 || check(&reading) != 0)
        return -1;
    qsort(list->files, list->count, sizeof list->files[0], by_path);
    return 0;
}

void moult_source_list_release(struct moult_source_list *list) {
    for (unsigned i = 0; i < list->count; i++)
        free(list->files[i].path);
    list->count = 0;
}

bool moult_source_is_of_vectors(const char *path) {
    return strncmp(path, VECTORS_FOLDER "/", sizeof VECTORS_FOLDER) == 0;
}

uint64_t moult_source_list_model_bytes(const struct moult_source_list *list) {
    uint64_t bytes = 0;
    for (unsigned i = 0; i < list->count; i++)
        if (!moult_source_is_of_vectors(list->files[i].path))
            bytes += (uint64_t)list->files[i].status.st_size;
    return bytes;
}

void moult_source_list_sign(const struct moult_source_list *list,
                            char signature[MOULT_SHA256_HEX]) {
    struct moult_sha256 *hash = moult_sha256_open();
    for (unsigned i = 0; i < list->count; i++) {
        const struct stat *status = &list->files[i].status;
        char *line = moult_format("%s %lld %lld.%09ld %lld.%09ld %llu\n", list->files[i].path,
                                  (long long)status->st_size, (long long)status->st_mtim.tv_sec,
                                  status->st_mtim.tv_nsec, (long long)status->st_ctim.tv_sec,
                                  status->st_ctim.tv_nsec, (unsigned long long)status->st_ino);
        moult_sha256_add(hash, line, strlen(line));
        free(line);
    }
    moult_sha256_close(hash, signature);
}

static bool has(const struct moult_source_list *list, const char *path) {
    for (unsigned i = 0; i < list->count; i++)
        if (strcmp(list->files[i].path, path) == 0)
            return true;
    return false;
}

bool moult_source_path_safe(const char *path) {
    size_t size = strlen(path);
    if (size == 0 || size > PATH_BYTES_MAX)
        return false;
    for (const char *part = path;; part++) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (part[0] == '.' && length <= strspn(part, ".") && length <= 2))
            return false;
        for (size_t i = 0; i < length; i++)
            if ((unsigned char)part[i] < 0x20 || part[i] == 0x7F || part[i] == '\\')
                return false;
        part += length;
        if (*part == '\0')
            return true;
    }
}

/* Adds the file where it exists; a needed one must. */
static int add_file(struct reading *reading, const char *prefix, const char *name, bool needed) {
    struct moult_source_list *list = reading->list;
    char *path = moult_format("%s%s%s", prefix, prefix[0] != '\0' ? "/" : "", name);
    struct stat status;
    int result = 0;
    if (has(list, path)) {
        free(path);
        return 0;
    }
    int found = reading->view->look(reading->view->context, path, &status, reading->error);
    if (found < 0) {
        result = -1;
    } else if (found == 0) {
        if (needed)
            result = moult_fail(reading->error, MOULT_ERROR_MISSING, "%s has no %s.",
                                reading->name, path);
    } else if ((uint64_t)status.st_size > MOULT_MODEL_FILE_BYTES_MAX) {
        result = moult_fail(reading->error, MOULT_ERROR_LIMIT,
                            "%s/%s has %lld bytes; at most %lu are taken.", reading->name, path,
                            (long long)status.st_size, (unsigned long)MOULT_MODEL_FILE_BYTES_MAX);
    } else if (list->count == MOULT_MODEL_FILES_MAX) {
        result = moult_fail(reading->error, MOULT_ERROR_LIMIT, "%s has more than %d files.",
                            reading->name, MOULT_MODEL_FILES_MAX);
    } else {
        list->files[list->count++] = (struct moult_source_file){.path = path, .status = status};
        list->bytes += (uint64_t)status.st_size;
        return 0;
    }
    free(path);
    return result;
}

/* Reads a small file that is listed already. NULL, with the error, where it is no JSON. */
static json_t *read_json(struct reading *reading, const char *path) {
    char *bytes;
    size_t size;
    json_error_t fault;
    if (reading->view->read(reading->view->context, path, &bytes, &size, reading->error) != 0)
        return NULL;
    json_t *value = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &fault);
    free(bytes);
    if (value == NULL)
        moult_fail(reading->error, MOULT_ERROR_INVALID, "%s/%s is not JSON: line %d: %s.",
                   reading->name, path, fault.line, fault.text);
    return value;
}

/* Shards lie beside their index, by plain names. */
static int add_shards(struct reading *reading, const char *prefix, const char *index_path) {
    json_t *index = read_json(reading, index_path);
    if (index == NULL)
        return -1;
    int result = 0;
    const char *tensor;
    json_t *shard;
    json_object_foreach(json_object_get(index, "weight_map"), tensor, shard) {
        const char *name = json_string_value(shard);
        size_t size = name != NULL ? strlen(name) : 0;
        if (size <= 12 || strcmp(name + size - 12, ".safetensors") != 0 ||
            strchr(name, '/') != NULL || !moult_source_path_safe(name)) {
            result = moult_fail(reading->error, MOULT_ERROR_INVALID,
                                "%s/%s names a shard that is not a plain .safetensors file.",
                                reading->name, index_path);
            break;
        }
        if ((result = add_file(reading, prefix, name, true)) != 0)
            break;
    }
    json_decref(index);
    return result;
}

static int add_folder(struct reading *reading, const char *prefix) {
    for (size_t i = 0; i < sizeof known_names / sizeof known_names[0]; i++)
        if (add_file(reading, prefix, known_names[i], false) != 0)
            return -1;
    char *index = moult_format("%s%s" INDEX, prefix, prefix[0] != '\0' ? "/" : "");
    int result = has(reading->list, index) ? add_shards(reading, prefix, index) : 0;
    free(index);
    return result;
}

static int add_module(struct reading *reading, const json_t *module) {
    const json_t *value = json_object_get(module, "path");
    const char *path = json_string_value(value);
    if (path != NULL && path[0] == '\0')
        return 0;
    if (path == NULL || strlen(path) != json_string_length(value) || !moult_source_path_safe(path))
        return moult_fail(reading->error, MOULT_ERROR_INVALID,
                          "%s/modules.json names a folder that does not lie in it.",
                          reading->name);
    return add_folder(reading, path);
}

static int add_modules(struct reading *reading) {
    if (!has(reading->list, "modules.json"))
        return 0;
    json_t *modules = read_json(reading, "modules.json");
    if (modules == NULL)
        return -1;
    int result = 0;
    size_t count = json_array_size(modules);
    if (!json_is_array(modules) || count > MOULT_MODEL_FILES_MAX)
        result = moult_fail(reading->error, MOULT_ERROR_INVALID,
                            "%s/modules.json is not a list of modules.", reading->name);
    for (size_t i = 0; i < count && result == 0; i++)
        result = add_module(reading, json_array_get(modules, i));
    json_decref(modules);
    return result;
}

static int add_vectors(struct reading *reading) {
    if (add_file(reading, VECTORS_FOLDER, "documents.jsonl", false) != 0)
        return -1;
    return has(reading->list, VECTORS_FOLDER "/documents.jsonl")
               ? add_file(reading, VECTORS_FOLDER, "vectors.npy", true)
               : 0;
}

static bool ends_in(const struct moult_source_list *list, const char *suffix) {
    size_t size = strlen(suffix);
    for (unsigned i = 0; i < list->count; i++) {
        size_t length = strlen(list->files[i].path);
        if (length >= size && strcmp(list->files[i].path + length - size, suffix) == 0)
            return true;
    }
    return false;
}

/* What the list itself shows; what is in its files is checked by the worker. */
static int check(struct reading *reading) {
    struct stat status;
    if (!ends_in(reading->list, "config.json"))
        return moult_fail(reading->error, MOULT_ERROR_INVALID,
                          "%s is not a model folder: it has no config.json.", reading->name);
    if (ends_in(reading->list, ".safetensors"))
        return 0;
    for (size_t i = 0; i < sizeof pickle_names / sizeof pickle_names[0]; i++)
        if (reading->view->look(reading->view->context, pickle_names[i], &status,
                                reading->error) == 1)
            return moult_fail(reading->error, MOULT_ERROR_INVALID,
                              "%s has its weights only as a pickle (%s), which is never read: "
                              "save the model as model.safetensors.",
                              reading->name, pickle_names[i]);
    return moult_fail(reading->error, MOULT_ERROR_INVALID, "%s has no model.safetensors.",
                      reading->name);
}

/* A folder. */

struct folder {
    int fd;
    const char *name;
};

static int look_in_folder(void *context, const char *path, struct stat *status,
                          struct moult_error *error) {
    const struct folder *folder = context;
    if (fstatat(folder->fd, path, status, 0) != 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? 0
                   : moult_fail_errno(error, "%s/%s cannot be read", folder->name, path);
    if (!S_ISREG(status->st_mode))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s/%s is not a regular file.",
                          folder->name, path);
    return 1;
}

static int read_in_folder(void *context, const char *path, char **bytes, size_t *size,
                          struct moult_error *error) {
    const struct folder *folder = context;
    if (moult_file_read(folder->fd, path, MOULT_SMALL_FILE_BYTES_MAX, bytes, size, error) == 0)
        return 0;
    return moult_fail_within(error, "%s", folder->name);
}

int moult_source_list_read(int folder_fd, const char *folder, struct moult_source_list *list,
                           struct moult_error *error) {
    struct folder context = {folder_fd, folder};
    const struct moult_source_view view = {folder, &context, look_in_folder, read_in_folder};
    return moult_source_list_select(&view, list, error);
}
