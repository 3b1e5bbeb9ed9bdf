#include "source/remote.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "source/incoming.h"
#include "source/installed.h"

#define CHUNK_BYTES MOULT_MIB

struct install {
    const struct moult_remote *remote;
    struct moult_remote_progress *progress;
    struct moult_incoming incoming;
    int partial_fd;                  /* The folder of what is half there. */
    struct moult_source_list list;
    char *chunk;
    uint64_t fetched;
};

/* A file that is being fetched: locked, so that two processes never write into one. */
struct partial {
    char name[MOULT_SHA256_HEX + 16];
    int fd;
};

enum found { FOUND, NOT_FOUND, FOUND_ERROR };

static int install(struct install *install, struct moult_installed *installed,
                   struct moult_error *error);
static int obtain(struct install *install, const struct moult_listed_file *file,
                  char sha256[MOULT_SHA256_HEX], struct moult_error *error);

void moult_remote_advance(void *context, uint64_t bytes) {
    const struct moult_remote_progress *state = context;
    if (state->progress != NULL)
        state->progress->advance(state->progress->context,
                                 state->bytes_all > 0 ? state->bytes_before + bytes : 0,
                                 state->bytes_all);
}

char *moult_remote_escape(const char *path) {
    static const char digits[] = "0123456789ABCDEF";
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/";
    char *escaped = moult_allocate(strlen(path) + 1, 3);
    char *out = escaped;
    for (; *path != '\0'; path++) {
        if (strchr(plain, *path) != NULL) {
            *out++ = *path;
            continue;
        }
        *out++ = '%';
        *out++ = digits[(unsigned char)*path >> 4];
        *out++ = digits[(unsigned char)*path & 15];
    }
    return escaped;
}

int moult_install_from_remote(const struct moult_remote *remote,
                              struct moult_remote_progress *progress,
                              struct moult_installed *installed, struct moult_error *error) {
    struct install *state = moult_allocate(1, sizeof *state);
    int result = -1;
    *installed = (struct moult_installed){.was_there = false};
    state->remote = remote;
    state->progress = progress;
    state->partial_fd = -1;
    state->chunk = moult_allocate(CHUNK_BYTES, 1);
    progress->bytes_before = progress->bytes_all = 0;
    if (moult_incoming_open(&state->incoming, remote->data_folder, error) == 0 &&
        moult_incoming_clear(&state->incoming, error) == 0)
        result = install(state, installed, error);
    moult_incoming_close(&state->incoming);
    if (state->partial_fd >= 0)
        close(state->partial_fd);
    moult_source_list_release(&state->list);
    free(state->chunk);
    free(state);
    return result;
}

/* Which files: those that a model needs, of those that are listed. What says so is
 * itself fetched on the way. */

static int look(void *context, const char *path, struct stat *status, struct moult_error *error) {
    const struct install *install = context;
    const struct moult_listed_file *file = moult_listing_find(install->remote->listing, path);
    (void)error;
    if (file == NULL)
        return 0;
    /* Beyond any limit, for a size that no file has. */
    *status = (struct stat){.st_size = file->size > INT64_MAX ? INT64_MAX : (off_t)file->size};
    return 1;
}

static int read_small(void *context, const char *path, char **bytes, size_t *size,
                      struct moult_error *error) {
    struct install *install = context;
    char sha256[MOULT_SHA256_HEX];
    const struct moult_listed_file *file = moult_listing_find(install->remote->listing, path);
    MOULT_REQUIRE(file != NULL);
    if (file->size > MOULT_SMALL_FILE_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s/%s has more than %lu bytes.",
                          install->remote->name, path, MOULT_SMALL_FILE_BYTES_MAX);
    if (obtain(install, file, sha256, error) != 0)
        return -1;
    return moult_file_read(install->incoming.fd, path, MOULT_SMALL_FILE_BYTES_MAX, bytes, size,
                           error);
}

static int open_partials(struct install *install, struct moult_error *error) {
    int models_fd = install->incoming.models_fd;
    if (mkdirat(models_fd, MOULT_PARTIAL_FOLDER, 0755) == 0 || errno == EEXIST)
        install->partial_fd = openat(models_fd, MOULT_PARTIAL_FOLDER,
                                     O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (install->partial_fd < 0)
        return moult_fail_errno(error, "%s cannot be written to",
                                install->incoming.models_folder);
    return 0;
}

static int install(struct install *install, struct moult_installed *installed,
                   struct moult_error *error) {
    const struct moult_remote *remote = install->remote;
    struct moult_source_list *list = &install->list;
    const struct moult_source_view view = {remote->name, install, look, read_small};
    if (open_partials(install, error) != 0 || moult_source_list_select(&view, list, error) != 0)
        return -1;
    install->progress->bytes_all = list->bytes;
    for (unsigned i = 0; i < list->count; i++) {
        const struct moult_listed_file *file =
            moult_listing_find(remote->listing, list->files[i].path);
        if (obtain(install, file, list->files[i].sha256, error) != 0)
            return -1;
        install->progress->bytes_before += file->size;
        moult_remote_advance(install->progress, 0);
    }
    installed->fetched = install->fetched;
    return moult_incoming_finish(&install->incoming, list, remote->source, installed, error);
}

/* One file. */

/* Hashes the file and compares it with what is listed. */
static enum found check(struct install *install, int fd, const struct moult_listed_file *file,
                        char sha256[MOULT_SHA256_HEX], struct moult_error *error) {
    char blob_name[MOULT_SHA1_HEX];
    struct moult_sha256 *hash = moult_sha256_open();
    struct moult_git_blob *blob = moult_git_blob_open(file->size);
    uint64_t at = 0;
    ssize_t got;
    while ((got = pread(fd, install->chunk, CHUNK_BYTES, (off_t)at)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            break;
        moult_sha256_add(hash, install->chunk, (size_t)got);
        moult_git_blob_add(blob, install->chunk, (size_t)got);
        at += (uint64_t)got;
        moult_remote_advance(install->progress, file->size);
    }
    int read_errno = errno;
    moult_sha256_close(hash, sha256);
    moult_git_blob_close(blob, blob_name);
    if (got < 0) {
        errno = read_errno;
        moult_fail_errno(error, "%s/%s cannot be read", install->remote->name, file->path);
        return FOUND_ERROR;
    }
    bool same = file->sha256[0] != '\0' ? strcmp(file->sha256, sha256) == 0
                                        : strcmp(file->blob, blob_name) == 0;
    return at == file->size && same ? FOUND : NOT_FOUND;
}

/* A file of ours under the name it shall have; it goes again where it is another. */
static enum found keep_if_right(struct install *install, const struct moult_listed_file *file,
                                char sha256[MOULT_SHA256_HEX]) {
    struct moult_error ignored;
    int fd = openat(install->incoming.fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    enum found found = fd < 0 ? NOT_FOUND : check(install, fd, file, sha256, &ignored);
    if (fd >= 0)
        close(fd);
    if (found != FOUND)
        unlinkat(install->incoming.fd, file->path, 0);
    return found;
}

static bool link_from(struct install *install, const char *revision,
                      const struct moult_listed_file *file) {
    struct moult_error ignored;
    char *bytes;
    size_t size;
    bool linked = false;
    char *note = moult_format("%s/" MOULT_REVISION_FILE, revision);
    struct moult_source_list *list = moult_allocate(1, sizeof *list);
    char noted[MOULT_SHA256_HEX];
    if (moult_file_read(install->incoming.models_fd, note, MOULT_SMALL_FILE_BYTES_MAX, &bytes,
                        &size, &ignored) == 0) {
        if (moult_revision_parse(bytes, size, list, noted, &ignored) == 0)
            for (unsigned i = 0; i < list->count && !linked; i++) {
                if (strcmp(list->files[i].sha256, file->sha256) != 0)
                    continue;
                char *path = moult_format("%s/%s", revision, list->files[i].path);
                linked = linkat(install->incoming.models_fd, path, install->incoming.fd,
                                file->path, 0) == 0;
                free(path);
            }
        free(bytes);
    }
    moult_source_list_release(list);
    free(list);
    free(note);
    return linked;
}

/* Installed files never change, so that two revisions may share one. */
static enum found find_installed(struct install *install, const struct moult_listed_file *file,
                                 char sha256[MOULT_SHA256_HEX]) {
    enum found found = NOT_FOUND;
    DIR *folder = opendir(install->incoming.models_folder);
    if (folder == NULL || file->sha256[0] == '\0') {
        if (folder != NULL)
            closedir(folder);
        return NOT_FOUND;
    }
    for (struct dirent *entry; found == NOT_FOUND && (entry = readdir(folder)) != NULL;)
        if (strlen(entry->d_name) == MOULT_SHA256_HEX - 1 &&
            link_from(install, entry->d_name, file))
            found = keep_if_right(install, file, sha256);
    closedir(folder);
    return found;
}

static int copy(struct install *install, int from, int to, const struct moult_listed_file *file,
                struct moult_error *error) {
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (uint64_t at = 0; at < file->size;) {
        ssize_t got = pread(from, install->chunk, CHUNK_BYTES, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return 0;   /* It shows when the copy is hashed. */
        if (moult_write_exact(to, install->chunk, (size_t)got, file->path, error) != 0)
            return -1;
        at += (uint64_t)got;
        moult_remote_advance(install->progress, at);
    }
    return 0;
}

static enum found copy_from(struct install *install, const char *path,
                            const struct moult_listed_file *file, char sha256[MOULT_SHA256_HEX],
                            struct moult_error *error) {
    struct stat status;
    int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (from < 0)
        return NOT_FOUND;
    if (fstat(from, &status) != 0 || !S_ISREG(status.st_mode) ||
        (uint64_t)status.st_size != file->size) {
        close(from);
        return NOT_FOUND;
    }
    int to = moult_incoming_create(&install->incoming, file->path, error);
    bool copied = to >= 0 && copy(install, from, to, file, error) == 0 &&
                  moult_incoming_seal(&install->incoming, to, error) == 0;
    close(from);
    if (to >= 0)
        close(to);
    if (copied)
        install->fetched += file->size;
    return copied ? keep_if_right(install, file, sha256) : FOUND_ERROR;
}

static enum found find_cached(struct install *install, const struct moult_listed_file *file,
                              char sha256[MOULT_SHA256_HEX], struct moult_error *error) {
    const struct moult_remote *remote = install->remote;
    enum found found = NOT_FOUND;
    char *path;
    for (unsigned n = 0; remote->cached != NULL && found == NOT_FOUND &&
                         (path = remote->cached(remote->context, file, n)) != NULL;
         n++) {
        found = copy_from(install, path, file, sha256, error);
        free(path);
    }
    return found;
}

/* Whoever held the lock before may have moved the file to where it is installed: then
 * the name is free again, and what is open must not be written to. */
static bool lock(struct install *install, struct partial *partial) {
    struct stat opened, named;
    partial->fd = openat(install->partial_fd, partial->name,
                         O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (partial->fd < 0)
        return false;
    if (flock(partial->fd, LOCK_EX | LOCK_NB) == 0 && fstat(partial->fd, &opened) == 0 &&
        fstatat(install->partial_fd, partial->name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
        opened.st_ino == named.st_ino)
        return true;
    close(partial->fd);
    return false;
}

/* Where another process is at the same file, this one fetches its own. */
static int open_partial(struct install *install, const struct moult_listed_file *file,
                        struct partial *partial, struct moult_error *error) {
    const char *digest = file->sha256[0] != '\0' ? file->sha256 : file->blob;
    snprintf(partial->name, sizeof partial->name, "%s", digest);
    if (lock(install, partial))
        return 0;
    snprintf(partial->name, sizeof partial->name, "%s-%d", digest, (int)getpid());
    if (lock(install, partial))
        return 0;
    return moult_fail_errno(error, "%s/%s cannot be written", install->incoming.models_folder,
                            partial->name);
}

static int fail_bytes(struct install *install, const struct moult_listed_file *file,
                      const char *sha256, struct moult_error *error) {
    if (file->sha256[0] == '\0')
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s/%s arrived with other bytes than its listing says.",
                          install->remote->name, file->path);
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%s/%s arrived with other bytes than its listing says: SHA-256 %.12s… "
                      "instead of %.12s….",
                      install->remote->name, file->path, sha256, file->sha256);
}

/* What was begun by another process may have been begun from other bytes: once more, then. */
static int fetch(struct install *install, const struct moult_listed_file *file, int fd,
                 char sha256[MOULT_SHA256_HEX], struct moult_error *error) {
    char *url = install->remote->url(install->remote->context, file->path);
    char *what = moult_format("%s/%s", install->remote->name, file->path);
    enum found found = NOT_FOUND;
    bool resumed = true;
    int result = 0;
    for (unsigned i = 0; i < 2 && result == 0 && found == NOT_FOUND && resumed; i++) {
        result = moult_transfer_download(install->remote->transfer, url, fd, file->size, what,
                                         &resumed, error);
        if (result == 0)
            found = check(install, fd, file, sha256, error);
        if (found == NOT_FOUND && result == 0 && ftruncate(fd, 0) != 0)
            result = moult_fail_errno(error, "%s cannot be written", what);
    }
    free(what);
    free(url);
    if (result != 0 || found == FOUND_ERROR)
        return -1;
    return found == FOUND ? 0 : fail_bytes(install, file, sha256, error);
}

static int download(struct install *install, const struct moult_listed_file *file,
                    char sha256[MOULT_SHA256_HEX], struct moult_error *error) {
    struct partial partial;
    if (install->remote->transfer == NULL)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "HF_HUB_OFFLINE is set, and %s of %s is not in the hub's cache.",
                          file->path, install->remote->name);
    if (moult_incoming_make_parents(&install->incoming, file->path, error) != 0 ||
        open_partial(install, file, &partial, error) != 0)
        return -1;
    struct stat status;
    bool is_begun = fstat(partial.fd, &status) == 0 && (uint64_t)status.st_size <= file->size;
    int result = fetch(install, file, partial.fd, sha256, error);
    if (result == 0)
        install->fetched += file->size - (is_begun ? (uint64_t)status.st_size : 0);
    if (result == 0)
        result = moult_incoming_seal(&install->incoming, partial.fd, error);
    if (result == 0 && renameat(install->partial_fd, partial.name, install->incoming.fd,
                                file->path) != 0)
        result = moult_fail_errno(error, "%s cannot be written to",
                                  install->incoming.models_folder);
    /* Only what waits for the network to come back is worth its room. */
    if (result != 0 && error->code != MOULT_ERROR_UNAVAILABLE)
        unlinkat(install->partial_fd, partial.name, 0);
    close(partial.fd);
    return result;
}

static int obtain(struct install *install, const struct moult_listed_file *file,
                  char sha256[MOULT_SHA256_HEX], struct moult_error *error) {
    if (moult_incoming_make_parents(&install->incoming, file->path, error) != 0)
        return -1;
    enum found found = keep_if_right(install, file, sha256);
    if (found == NOT_FOUND)
        found = find_installed(install, file, sha256);
    if (found == NOT_FOUND)
        found = find_cached(install, file, sha256, error);
    if (found == NOT_FOUND)
        return download(install, file, sha256, error);
    return found == FOUND ? 0 : -1;
}
