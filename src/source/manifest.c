#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "source/installed.h"
#include "source/listing.h"
#include "source/source.h"

#define CHUNK_BYTES MOULT_MIB

static int hash_file(int folder_fd, struct moult_source_file *file, char *chunk,
                     struct moult_error *error) {
    int fd = openat(folder_fd, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return moult_fail_errno(error, "%s cannot be read", file->path);
    struct moult_sha256 *hash = moult_sha256_open();
    uint64_t size = (uint64_t)file->status.st_size;
    int result = 0;
    for (uint64_t at = 0; at < size && result == 0; at += CHUNK_BYTES) {
        size_t part = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        result = moult_read_exact(fd, chunk, part, at, file->path, error);
        if (result == 0)
            moult_sha256_add(hash, chunk, part);
    }
    moult_sha256_close(hash, file->sha256);
    close(fd);
    return result;
}

static int write_manifest(int folder_fd, const char *folder, struct moult_source_list *list,
                          const char *version, char revision[MOULT_SHA256_HEX],
                          struct moult_error *error) {
    char *chunk = moult_allocate(CHUNK_BYTES, 1);
    int result = moult_source_list_read(folder_fd, folder, list, error);
    for (unsigned i = 0; i < list->count && result == 0; i++)
        result = hash_file(folder_fd, &list->files[i], chunk, error);
    free(chunk);
    if (result != 0)
        return -1;
    size_t size;
    moult_revision_of(list, revision);
    char *bytes = moult_manifest_format(list, version != NULL ? version : revision, &size);
    result = moult_file_replace(folder_fd, "manifest.json", bytes, size, error);
    free(bytes);
    return result;
}

int moult_manifest_write(const char *folder, const char *version,
                         char revision[MOULT_SHA256_HEX], struct moult_error *error) {
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0)
        return moult_fail_errno(error, "The folder %s cannot be opened", folder);
    struct moult_source_list *list = moult_allocate(1, sizeof *list);
    int result = write_manifest(folder_fd, folder, list, version, revision, error);
    moult_source_list_release(list);
    free(list);
    close(folder_fd);
    return result;
}
