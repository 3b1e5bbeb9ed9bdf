/* Installing from a folder.
 *
 * Nobody stops a person or another program from writing into the folder while
 * it is read. So the copy is what is hashed and served, never the source; and a copy
 * counts only if, after its last byte, every file is still the one that was
 * listed: same inode, size and times. Otherwise all of it is made again. What
 * remains is a folder that was half written before the first look and left so;
 * the worker finds that, for weights and headers must agree. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "source/installed.h"
#include "source/source.h"

#define CHUNK_BYTES MOULT_MIB
#define ATTEMPTS_MAX 3
#define ATTEMPT_PAUSE_NS 300000000l
#define INCOMING MOULT_LEFTOVER_INCOMING

struct install {
    const char *folder;
    int folder_fd;                   /* The source. */
    const char *models_folder;
    int models_fd;
    char incoming[32];               /* Its name in there. */
    int incoming_fd;
    struct moult_source_list list;
    char *chunk;
    uint64_t bytes_done;
    const struct moult_install_progress *progress;
    struct moult_error *error;
};

static int install(struct install *install, struct moult_installed *installed);
static int copy_all(struct install *install);
static int copy_file(struct install *install, struct moult_source_file *file);
static int finish(struct install *install, struct moult_installed *installed);

static int fail_changed(const struct install *install, const char *path) {
    return moult_fail(install->error, MOULT_ERROR_UNAVAILABLE,
                      "%s/%s changed while it was copied; try again once it is complete.",
                      install->folder, path);
}

int moult_install_from_folder(const char *folder, const char *data_folder,
                              const struct moult_install_progress *progress,
                              struct moult_installed *installed, struct moult_error *error) {
    struct install *state = moult_allocate(1, sizeof *state);
    struct moult_error unwanted;
    char *models_folder = moult_format("%s/models", data_folder);
    int result = -1;
    *installed = (struct moult_installed){.was_there = false};
    state->folder = folder;
    state->models_folder = models_folder;
    state->progress = progress;
    state->error = error != NULL ? error : &unwanted;   /* Its code is looked at. */
    state->incoming_fd = state->models_fd = -1;
    snprintf(state->incoming, sizeof state->incoming, INCOMING "%d", (int)getpid());
    state->folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state->folder_fd < 0)
        moult_fail_errno(state->error, "The folder %s cannot be opened", folder);
    else if (moult_folder_make(models_folder, state->error) == 0)
        state->models_fd = open(models_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (state->models_fd >= 0) {
        state->chunk = moult_allocate(CHUNK_BYTES, 1);
        result = install(state, installed);
        close(state->models_fd);
    }
    if (state->folder_fd >= 0)
        close(state->folder_fd);
    moult_source_list_release(&state->list);
    free(state->chunk);
    free(models_folder);
    free(state);
    return result;
}

static void remove_incoming(struct install *install) {
    struct moult_error ignored;
    if (install->incoming_fd >= 0)
        close(install->incoming_fd);
    install->incoming_fd = -1;
    moult_folder_remove(install->models_fd, install->incoming, &ignored);
}

static int open_incoming(struct install *install) {
    remove_incoming(install);
    if (mkdirat(install->models_fd, install->incoming, 0755) == 0)
        install->incoming_fd =
            openat(install->models_fd, install->incoming, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (install->incoming_fd < 0)
        return moult_fail_errno(install->error, "%s cannot be written to", install->models_folder);
    return 0;
}

static int attempt(struct install *install) {
    moult_source_list_release(&install->list);
    install->bytes_done = 0;
    if (moult_source_list_read(install->folder_fd, install->folder, &install->list,
                               install->error) != 0 ||
        open_incoming(install) != 0)
        return -1;
    return copy_all(install);
}

static int install(struct install *install, struct moult_installed *installed) {
    const struct timespec pause = {.tv_nsec = ATTEMPT_PAUSE_NS};
    int result = attempt(install);
    for (unsigned i = 1; i < ATTEMPTS_MAX && result != 0; i++) {
        if (install->error->code != MOULT_ERROR_UNAVAILABLE)
            break;
        nanosleep(&pause, NULL);
        result = attempt(install);
    }
    if (result == 0)
        result = finish(install, installed);
    remove_incoming(install);
    return result;
}

/* The copy. */

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* The list is read again, too: a file that has come meanwhile belongs to it. */
static int check_unchanged(struct install *install) {
    struct moult_source_list *now = moult_allocate(1, sizeof *now);
    const struct moult_source_list *then = &install->list;
    int result = moult_source_list_read(install->folder_fd, install->folder, now, install->error);
    for (unsigned i = 0; result == 0 && i < then->count; i++)
        if (i >= now->count || strcmp(now->files[i].path, then->files[i].path) != 0 ||
            !same_file(&now->files[i].status, &then->files[i].status))
            result = fail_changed(install, then->files[i].path);
    if (result == 0 && now->count > then->count)
        result = fail_changed(install, now->files[then->count].path);
    moult_source_list_release(now);
    free(now);
    return result;
}

static int copy_all(struct install *install) {
    for (unsigned i = 0; i < install->list.count; i++)
        if (copy_file(install, &install->list.files[i]) != 0)
            return -1;
    return check_unchanged(install);
}

static int make_parents(struct install *install, const char *path) {
    char *part = moult_copy_string(path);
    int result = 0;
    for (char *slash = strchr(part, '/'); slash != NULL && result == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(install->incoming_fd, part, 0755) != 0 && errno != EEXIST)
            result = moult_fail_errno(install->error, "%s cannot be written to",
                                      install->models_folder);
        *slash = '/';
    }
    free(part);
    return result;
}

static void advance(struct install *install, size_t bytes) {
    install->bytes_done += bytes;
    if (install->progress != NULL)
        install->progress->advance(install->progress->context, install->bytes_done,
                                   install->list.bytes);
}

/* Copies what read() gives, up to the listed size; where the blocks are shared
 * already, it only reads the copy and hashes it. */
static int copy_bytes(struct install *install, int from, int to, bool shared,
                      struct moult_source_file *file) {
    struct moult_sha256 *hash = moult_sha256_open();
    uint64_t size = (uint64_t)file->status.st_size;
    int result = 0;
    for (uint64_t at = 0; at < size && result == 0;) {
        size_t wanted = size - at < CHUNK_BYTES ? (size_t)(size - at) : CHUNK_BYTES;
        ssize_t got = pread(shared ? to : from, install->chunk, wanted, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            result = moult_fail_errno(install->error, "%s/%s cannot be read", install->folder,
                                      file->path);
        else if (got == 0)
            result = fail_changed(install, file->path);
        else if (!shared)
            result = moult_write_exact(to, install->chunk, (size_t)got, file->path, install->error);
        if (result != 0)
            break;
        moult_sha256_add(hash, install->chunk, (size_t)got);
        at += (uint64_t)got;
        advance(install, (size_t)got);
        moult_fault_point("copy");
    }
    moult_sha256_close(hash, file->sha256);
    return result;
}

static int copy_opened(struct install *install, int from, int to, struct moult_source_file *file) {
    struct stat status;
    if (fstat(from, &status) != 0)
        return moult_fail_errno(install->error, "%s/%s cannot be read", install->folder,
                                file->path);
    if (!same_file(&status, &file->status))
        return fail_changed(install, file->path);
    bool shared = ioctl(to, FICLONE, from) == 0;
    if (shared && (fstat(to, &status) != 0 || status.st_size != file->status.st_size))
        return fail_changed(install, file->path);
    if (copy_bytes(install, from, to, shared, file) != 0)
        return -1;
    if (fchmod(to, 0444) != 0 || fsync(to) != 0)
        return moult_fail_errno(install->error, "%s cannot be written to", install->models_folder);
    return 0;
}

static int copy_file(struct install *install, struct moult_source_file *file) {
    if (make_parents(install, file->path) != 0)
        return -1;
    int from = openat(install->folder_fd, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (from < 0)
        return moult_fail_errno(install->error, "%s/%s cannot be read", install->folder,
                                file->path);
    int to = openat(install->incoming_fd, file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    int result = to < 0 ? moult_fail_errno(install->error, "%s cannot be written to",
                                           install->models_folder)
                        : copy_opened(install, from, to, file);
    close(from);
    if (to >= 0)
        close(to);
    return result;
}

/* The end: revision.json, folders synced, one rename. */

static int sync_folders(struct install *install) {
    for (unsigned i = 0; i < install->list.count; i++) {
        char *path = moult_copy_string(install->list.files[i].path);
        for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
            *slash = '\0';
            int fd = openat(install->incoming_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (fd >= 0) {
                fsync(fd);
                close(fd);
            }
        }
        free(path);
    }
    if (fsync(install->incoming_fd) != 0 && errno != EINVAL)
        return moult_fail_errno(install->error, "%s cannot be synced", install->models_folder);
    return 0;
}

static int write_revision(struct install *install, const char *revision) {
    size_t size;
    char *bytes = moult_revision_format(&install->list, revision, install->folder,
                                        (uint64_t)time(NULL), &size);
    int result = moult_file_replace(install->incoming_fd, MOULT_REVISION_FILE, bytes, size,
                                    install->error);
    if (result == 0 && fchmodat(install->incoming_fd, MOULT_REVISION_FILE, 0444, 0) != 0)
        result = moult_fail_errno(install->error, "%s cannot be written to",
                                  install->models_folder);
    free(bytes);
    return result;
}

/* A folder of that name which does not hold what its name says is in the way. */
static bool is_installed(struct install *install, const char *revision) {
    struct moult_error error;
    if (faccessat(install->models_fd, revision, F_OK, 0) != 0)
        return false;
    char *data_folder = moult_format("%s/..", install->models_folder);
    bool good = moult_installed_verify(data_folder, revision, &error) == 0;
    free(data_folder);
    if (!good) {
        moult_log_warning("%s It is installed anew.", error.message);
        moult_folder_remove(install->models_fd, revision, &error);
    }
    return good;
}

/* An install of another slot may have been quicker with the same files. */
static int put_in_place(struct install *install, struct moult_installed *installed) {
    if (renameat(install->models_fd, install->incoming, install->models_fd,
                 installed->revision) == 0)
        return 0;
    int number = errno;
    installed->was_there = (number == ENOTEMPTY || number == EEXIST) &&
                           is_installed(install, installed->revision);
    errno = number;
    return installed->was_there ? 0
                                : moult_fail_errno(install->error,
                                                   "The revision cannot be put into %s",
                                                   install->models_folder);
}

static int finish(struct install *install, struct moult_installed *installed) {
    moult_revision_of(&install->list, installed->revision);
    installed->bytes = install->list.bytes;
    installed->was_there = is_installed(install, installed->revision);
    if (installed->was_there)
        return 0;
    if (write_revision(install, installed->revision) != 0 || sync_folders(install) != 0)
        return -1;
    moult_fault_point("rename");
    if (put_in_place(install, installed) != 0)
        return -1;
    if (fsync(install->models_fd) != 0 && errno != EINVAL)
        return moult_fail_errno(install->error, "%s cannot be synced", install->models_folder);
    return 0;
}

bool moult_install_is_leftover(const char *name) {
    return strncmp(name, MOULT_LEFTOVER_INCOMING, strlen(MOULT_LEFTOVER_INCOMING)) == 0 ||
           strncmp(name, MOULT_LEFTOVER_REMOVED, strlen(MOULT_LEFTOVER_REMOVED)) == 0;
}

void moult_install_leftovers_remove(const char *models_folder) {
    DIR *folder = opendir(models_folder);
    struct moult_error error;
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (moult_install_is_leftover(entry->d_name) &&
            moult_folder_remove(dirfd(folder), entry->d_name, &error) != 0)
            moult_log_warning("A leftover stays: %s", error.message);
    closedir(folder);
}
