#include "source/installed.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "source/source.h"

#define CHUNK_BYTES MOULT_MIB

void moult_revision_of(const struct moult_source_list *list, char revision[MOULT_SHA256_HEX]) {
    struct moult_sha256 *hash = moult_sha256_open();
    for (unsigned i = 0; i < list->count; i++) {
        moult_sha256_add(hash, list->files[i].sha256, MOULT_SHA256_HEX - 1);
        moult_sha256_add(hash, "  ", 2);
        moult_sha256_add(hash, list->files[i].path, strlen(list->files[i].path));
        moult_sha256_add(hash, "\n", 1);
    }
    moult_sha256_close(hash, revision);
}

char *moult_revision_format(const struct moult_source_list *list, const char *revision,
                            const char *source, uint64_t installed_at, size_t *size) {
    struct moult_buffer out;
    moult_buffer_init(&out, MOULT_SMALL_FILE_BYTES_MAX);
    moult_buffer_format(&out, "{\"revision\": \"%s\",\n \"installed_at\": %" PRIu64 ",\n"
                        " \"source\": ", revision, installed_at);
    moult_buffer_json_string(&out, source, strlen(source));
    moult_buffer_text(&out, ",\n \"files\": [");
    for (unsigned i = 0; i < list->count; i++) {
        const struct moult_source_file *file = &list->files[i];
        moult_buffer_format(&out, "%s\n  {\"path\": ", i == 0 ? "" : ",");
        moult_buffer_json_string(&out, file->path, strlen(file->path));
        moult_buffer_format(&out, ", \"size\": %lld, \"sha256\": \"%s\"}",
                            (long long)file->status.st_size, file->sha256);
    }
    moult_buffer_text(&out, "]}\n");
    MOULT_REQUIRE(!out.overflowed);
    return moult_buffer_take(&out, size);
}

static bool read_digest(const json_t *object, const char *key, char digest[MOULT_SHA256_HEX]) {
    const char *text = json_string_value(json_object_get(object, key));
    if (text == NULL || strlen(text) != MOULT_SHA256_HEX - 1 ||
        strspn(text, "0123456789abcdef") != MOULT_SHA256_HEX - 1)
        return false;
    memcpy(digest, text, MOULT_SHA256_HEX);
    return true;
}

/* The list is sorted, and no path stands in it twice. */
static bool read_file(const json_t *object, struct moult_source_list *list) {
    const json_t *path = json_object_get(object, "path");
    const json_t *size = json_object_get(object, "size");
    const char *text = json_string_value(path);
    struct moult_source_file *file = &list->files[list->count];
    if (text == NULL || strlen(text) != json_string_length(path) ||
        !moult_source_path_safe(text) || !json_is_integer(size) ||
        json_integer_value(size) < 0 ||
        (uint64_t)json_integer_value(size) > MOULT_MODEL_FILE_BYTES_MAX ||
        (list->count > 0 && strcmp(list->files[list->count - 1].path, text) >= 0) ||
        !read_digest(object, "sha256", file->sha256))
        return false;
    file->status.st_size = (off_t)json_integer_value(size);
    file->path = moult_copy_string(text);
    list->bytes += (uint64_t)file->status.st_size;
    list->count++;
    return true;
}

static bool read_revision(const json_t *object, struct moult_source_list *list,
                          char revision[MOULT_SHA256_HEX]) {
    const json_t *files = json_object_get(object, "files");
    size_t count = json_array_size(files);
    if (!read_digest(object, "revision", revision) || count == 0 || count > MOULT_MODEL_FILES_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!read_file(json_array_get(files, i), list))
            return false;
    return true;
}

int moult_revision_parse(const char *bytes, size_t size, struct moult_source_list *list,
                         char revision[MOULT_SHA256_HEX], struct moult_error *error) {
    *list = (struct moult_source_list){.count = 0};
    json_error_t fault;
    json_t *object = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &fault);
    bool good = object != NULL && read_revision(object, list, revision);
    json_decref(object);
    if (good)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID, MOULT_REVISION_FILE " is damaged.");
}

static int verify_file(int folder_fd, const struct moult_source_file *file, char *chunk,
                       struct moult_error *error) {
    int fd = openat(folder_fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return moult_fail_errno(error, "%s cannot be opened", file->path);
    struct moult_sha256 *hash = moult_sha256_open();
    char digest[MOULT_SHA256_HEX];
    uint64_t size = (uint64_t)file->status.st_size;
    int result = 0;
    for (uint64_t at = 0; at < size && result == 0;) {
        size_t part = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        result = moult_read_exact(fd, chunk, part, at, file->path, error);
        if (result == 0)
            moult_sha256_add(hash, chunk, part);
        at += part;
    }
    bool longer = result == 0 && pread(fd, chunk, 1, (off_t)size) != 0;
    moult_sha256_close(hash, digest);
    close(fd);
    if (result == 0 && (longer || strcmp(digest, file->sha256) != 0))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is not what was installed.", file->path);
    return result;
}

static int verify_all(int folder_fd, const struct moult_source_list *list,
                      struct moult_error *error) {
    char *chunk = moult_allocate(CHUNK_BYTES, 1);
    int result = 0;
    for (unsigned i = 0; i < list->count && result == 0; i++)
        result = verify_file(folder_fd, &list->files[i], chunk, error);
    free(chunk);
    return result;
}

static int verify_opened(int folder_fd, const char *revision, struct moult_error *error) {
    char *bytes;
    size_t size;
    if (moult_file_read(folder_fd, MOULT_REVISION_FILE, MOULT_SMALL_FILE_BYTES_MAX, &bytes, &size,
                        error) != 0)
        return -1;
    struct moult_source_list *list = moult_allocate(1, sizeof *list);
    char noted[MOULT_SHA256_HEX], computed[MOULT_SHA256_HEX];
    int result = moult_revision_parse(bytes, size, list, noted, error);
    if (result == 0) {
        moult_revision_of(list, computed);
        if (strcmp(noted, revision) != 0 || strcmp(computed, revision) != 0)
            result = moult_fail(error, MOULT_ERROR_INVALID,
                                MOULT_REVISION_FILE " belongs to another revision.");
        else
            result = verify_all(folder_fd, list, error);
    }
    moult_source_list_release(list);
    free(list);
    free(bytes);
    return result;
}

int moult_installed_verify(const char *data_folder, const char *revision,
                           struct moult_error *error) {
    char *path = moult_format("%s/models/%s", data_folder, revision);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 ? moult_fail_errno(error, "It cannot be opened")
                        : verify_opened(fd, revision, error);
    if (fd >= 0)
        close(fd);
    if (result != 0)
        moult_fail_within(error, "The installed revision %.12s is damaged", revision);
    free(path);
    return result;
}

static const char *path_in(const json_t *file) {
    const char *path = json_string_value(json_object_get(file, "path"));
    return path != NULL ? path : "";
}

/* Whether the note beside a revision names that source; and the bytes of its model. */
static bool is_from(int models_fd, const char *revision, const char *source, uint64_t *bytes_all) {
    struct moult_error ignored;
    char *bytes;
    size_t size, i;
    json_t *file;
    char *path = moult_format("%s/" MOULT_REVISION_FILE, revision);
    int read = moult_file_read(models_fd, path, MOULT_SMALL_FILE_BYTES_MAX, &bytes, &size,
                               &ignored);
    free(path);
    if (read != 0)
        return false;
    json_t *object = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    const char *noted = json_string_value(json_object_get(object, "source"));
    bool same = noted != NULL && strcmp(noted, source) == 0;
    *bytes_all = 0;
    json_array_foreach(json_object_get(object, "files"), i, file)
        if (!moult_source_is_of_vectors(path_in(file)))
            *bytes_all += (uint64_t)json_integer_value(json_object_get(file, "size"));
    json_decref(object);
    free(bytes);
    return same;
}

bool moult_installed_find(const char *data_folder, const char *source,
                          char revision[MOULT_SHA256_HEX], uint64_t *bytes) {
    char *path = moult_format("%s/models", data_folder);
    DIR *folder = opendir(path);
    bool found = false;
    free(path);
    if (folder == NULL)
        return false;
    for (struct dirent *entry; !found && (entry = readdir(folder)) != NULL;) {
        if (strlen(entry->d_name) != MOULT_SHA256_HEX - 1)
            continue;
        found = is_from(dirfd(folder), entry->d_name, source, bytes);
        memcpy(revision, entry->d_name, MOULT_SHA256_HEX);
    }
    closedir(folder);
    return found;
}

int moult_installed_bytes(const char *data_folder, const char *revision, uint64_t *bytes) {
    char *path = moult_format("%s/models/%s", data_folder, revision);
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct moult_source_list *list = moult_allocate(1, sizeof *list);
    struct moult_error ignored;
    char *text = NULL;
    char noted[MOULT_SHA256_HEX];
    size_t size;
    int result = -1;
    if (fd >= 0 && moult_file_read(fd, MOULT_REVISION_FILE, MOULT_SMALL_FILE_BYTES_MAX, &text,
                                   &size, &ignored) == 0)
        result = moult_revision_parse(text, size, list, noted, &ignored);
    *bytes = moult_source_list_model_bytes(list);
    if (fd >= 0)
        close(fd);
    moult_source_list_release(list);
    free(list);
    free(text);
    free(path);
    return result;
}
