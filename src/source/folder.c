/* Installing from a folder.
 *
 * Nobody stops a person or another program from writing into the folder while
 * it is read. So the copy is what is hashed and served, never the source; and a copy
 * counts only if, after its last byte, every file is still the one that was
 * listed: same inode, size and times. Otherwise all of it is made again. What
 * remains is a folder that was half written before the first look and left so;
 * the worker finds that, for weights and headers must agree. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "source/incoming.h"
#include "source/source.h"

#define CHUNK_BYTES MOULT_MIB
#define ATTEMPTS_MAX 3
#define ATTEMPT_PAUSE_NS 300000000l

struct install {
    const char *folder;
    int folder_fd;                   /* The source. */
    struct moult_incoming incoming;
    struct moult_source_list list;
    char *chunk;
    uint64_t bytes_done;
    const struct moult_install_progress *progress;
    struct moult_error *error;
};

static int install(struct install *install, struct moult_installed *installed);
static int copy_all(struct install *install);
static int copy_file(struct install *install, struct moult_source_file *file);

static int fail_changed(const struct install *install, const char *path) {
    return moult_fail(install->error, MOULT_ERROR_UNAVAILABLE,
                      "%s/%s changed while it was copied; try again once it is complete.",
                      install->folder, path);
}

/* The descriptor, taken over; -1: errno says why there is none. */
static int install_opened(int folder_fd, const char *folder, const char *data_folder,
                          const struct moult_install_progress *progress,
                          struct moult_installed *installed, struct moult_error *error) {
    struct install *state = moult_allocate(1, sizeof *state);
    struct moult_error unwanted;
    int result = -1;
    *installed = (struct moult_installed){.was_there = false};
    state->folder = folder;
    state->progress = progress;
    state->error = error != NULL ? error : &unwanted;   /* Its code is looked at. */
    state->folder_fd = folder_fd;
    if (folder_fd < 0) {
        moult_fail_errno(state->error, "The folder %s cannot be opened", folder);
    } else {
        state->chunk = moult_allocate(CHUNK_BYTES, 1);
        if (moult_incoming_open(&state->incoming, data_folder, state->error) == 0)
            result = install(state, installed);
        moult_incoming_close(&state->incoming);
        close(state->folder_fd);
    }
    moult_source_list_release(&state->list);
    free(state->chunk);
    free(state);
    return result;
}

int moult_install_from_folder(const char *folder, const char *data_folder,
                              const struct moult_install_progress *progress,
                              struct moult_installed *installed, struct moult_error *error) {
    return install_opened(open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC), folder, data_folder,
                          progress, installed, error);
}

int moult_install_from_real_folder(const char *folder, const char *data_folder,
                                   const struct moult_install_progress *progress,
                                   struct moult_installed *installed, struct moult_error *error) {
    const struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                                 .resolve = RESOLVE_NO_SYMLINKS};
    int folder_fd = (int)syscall(SYS_openat2, AT_FDCWD, folder, &how, sizeof how);
    /* Kernels before 5.6 have no openat2. */
    if (folder_fd < 0 && errno == ENOSYS)
        folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    return install_opened(folder_fd, folder, data_folder, progress, installed, error);
}

static int attempt(struct install *install) {
    moult_source_list_release(&install->list);
    install->bytes_done = 0;
    if (moult_source_list_read(install->folder_fd, install->folder, &install->list,
                               install->error) != 0 ||
        moult_incoming_clear(&install->incoming, install->error) != 0)
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
    if (result != 0)
        return -1;
    moult_source_list_sign(&install->list, installed->validator);
    installed->fetched = install->list.bytes;
    return moult_incoming_finish(&install->incoming, &install->list, install->folder, installed,
                                 install->error);
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
    return moult_incoming_seal(&install->incoming, to, install->error);
}

static int copy_file(struct install *install, struct moult_source_file *file) {
    int from = openat(install->folder_fd, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (from < 0)
        return moult_fail_errno(install->error, "%s/%s cannot be read", install->folder,
                                file->path);
    int to = moult_incoming_create(&install->incoming, file->path, install->error);
    int result = to < 0 ? -1 : copy_opened(install, from, to, file);
    close(from);
    if (to >= 0)
        close(to);
    return result;
}
