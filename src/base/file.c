#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

/* Folders below folders that moult_folder_remove() follows; each holds a descriptor. */
#define DEPTH_MAX 64

static int read_opened(int fd, const char *name, size_t size_max, char **bytes, size_t *size,
                       struct moult_error *error) {
    struct stat status;
    if (fstat(fd, &status) != 0)
        return moult_fail_errno(error, "%s cannot be looked at", name);
    if (!S_ISREG(status.st_mode))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is not a regular file.", name);
    if ((uint64_t)status.st_size > size_max)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s has %lld bytes; at most %zu are read.",
                          name, (long long)status.st_size, size_max);
    size_t wanted = (size_t)status.st_size;
    char *read_bytes = moult_reallocate(NULL, wanted + 1, 1);
    if (moult_read_exact(fd, read_bytes, wanted, 0, name, error) != 0) {
        free(read_bytes);
        return -1;
    }
    if (pread(fd, read_bytes + wanted, 1, (off_t)wanted) != 0) {
        free(read_bytes);
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%s changed while it was read.", name);
    }
    read_bytes[wanted] = '\0';
    *bytes = read_bytes;
    *size = wanted;
    return 0;
}

int moult_file_read(int folder_fd, const char *name, size_t size_max, char **bytes, size_t *size,
                    struct moult_error *error) {
    /* Not blocking: opening a FIFO must not wait for its writer. */
    int fd = openat(folder_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return moult_fail_errno(error, "%s cannot be opened", name);
    int result = read_opened(fd, name, size_max, bytes, size, error);
    close(fd);
    return result;
}

int moult_read_exact(int fd, void *bytes, size_t size, uint64_t offset, const char *what,
                     struct moult_error *error) {
    char *to = bytes;
    while (size > 0) {
        ssize_t got = pread(fd, to, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return moult_fail_errno(error, "%s cannot be read", what);
        if (got == 0)
            return moult_fail(error, MOULT_ERROR_INVALID, "%s ends early, %zu bytes are missing.",
                              what, size);
        to += got;
        offset += (uint64_t)got;
        size -= (size_t)got;
    }
    return 0;
}

int moult_write_exact(int fd, const void *bytes, size_t size, const char *what,
                      struct moult_error *error) {
    const char *from = bytes;
    while (size > 0) {
        ssize_t put = write(fd, from, size);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return moult_fail_errno(error, "%s cannot be written", what);
        from += put;
        size -= (size_t)put;
    }
    return 0;
}

/* The folder that holds `name` remembers a rename only once it is synced itself. */
static int sync_folder_of(int folder_fd, const char *name, struct moult_error *error) {
    const char *slash = strrchr(name, '/');
    char *folder = slash == NULL    ? moult_copy_string(".")
                   : slash == name  ? moult_copy_string("/")
                                    : moult_copy_bytes(name, (size_t)(slash - name));
    int fd = openat(folder_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = 0;
    if (fd < 0)
        result = moult_fail_errno(error, "The folder of %s cannot be opened", name);
    else if (fsync(fd) != 0 && errno != EINVAL) /* Some file systems have no such thing. */
        result = moult_fail_errno(error, "The folder of %s cannot be synced", name);
    if (fd >= 0)
        close(fd);
    free(folder);
    return result;
}

static int write_synced(int folder_fd, const char *name, const void *bytes, size_t size,
                        struct moult_error *error) {
    /* What a crash left under this name is overwritten. */
    int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (fd < 0)
        return moult_fail_errno(error, "%s cannot be created", name);
    int result = moult_write_exact(fd, bytes, size, name, error);
    if (result == 0 && fsync(fd) != 0)
        result = moult_fail_errno(error, "%s cannot be synced", name);
    if (close(fd) != 0 && result == 0)
        result = moult_fail_errno(error, "%s cannot be closed", name);
    return result;
}

int moult_file_replace(int folder_fd, const char *name, const void *bytes, size_t size,
                       struct moult_error *error) {
    char *new_name = moult_format("%s.new", name);
    int result = write_synced(folder_fd, new_name, bytes, size, error);
    if (result == 0 && renameat(folder_fd, new_name, folder_fd, name) != 0)
        result = moult_fail_errno(error, "%s cannot be replaced", name);
    if (result != 0)
        unlinkat(folder_fd, new_name, 0);
    else
        result = sync_folder_of(folder_fd, name, error);
    free(new_name);
    return result;
}

static int make_one_folder(const char *path, struct moult_error *error) {
    struct stat status;
    if (mkdir(path, 0755) == 0)
        return 0;
    if (errno != EEXIST)
        return moult_fail_errno(error, "The folder %s cannot be made", path);
    if (stat(path, &status) != 0)
        return moult_fail_errno(error, "The folder %s cannot be made", path);
    if (!S_ISDIR(status.st_mode))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s exists and is not a folder.", path);
    return 0;
}

int moult_folder_make(const char *path, struct moult_error *error) {
    char *part = moult_copy_string(path);
    int result = 0;
    for (char *slash = strchr(part + (part[0] == '/'), '/'); slash != NULL && result == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        result = make_one_folder(part, error);
        *slash = '/';
    }
    if (result == 0)
        result = make_one_folder(part, error);
    free(part);
    return result;
}

static int remove_below(int parent_fd, const char *name, unsigned depth,
                        struct moult_error *error);

static bool is_self_or_parent(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Empties the opened folder and closes it. */
static int empty_folder(int fd, const char *name, unsigned depth, struct moult_error *error) {
    /* Installed revisions are read-only; their entries could not be unlinked. */
    fchmod(fd, 0700);
    DIR *folder = fdopendir(fd);
    if (folder == NULL) {
        int result = moult_fail_errno(error, "The folder %s cannot be read", name);
        close(fd);
        return result;
    }
    int result = 0;
    errno = 0;
    for (struct dirent *entry; result == 0 && (entry = readdir(folder)) != NULL; errno = 0)
        if (!is_self_or_parent(entry->d_name))
            result = remove_below(dirfd(folder), entry->d_name, depth + 1, error);
    if (result == 0 && errno != 0)
        result = moult_fail_errno(error, "The folder %s cannot be read", name);
    closedir(folder);
    return result;
}

/* A link is removed, never followed: only what openat() finds to be a folder
 * itself is entered. */
static int remove_below(int parent_fd, const char *name, unsigned depth,
                        struct moult_error *error) {
    if (depth > DEPTH_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s lies more than %d folders deep.", name,
                          DEPTH_MAX);
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int flags = AT_REMOVEDIR;
    if (fd >= 0) {
        if (empty_folder(fd, name, depth, error) != 0)
            return -1;
    } else if (errno == ENOTDIR || errno == ELOOP) {
        flags = 0;
    } else if (errno == ENOENT) {
        return 0;
    } else {
        return moult_fail_errno(error, "The folder %s cannot be opened", name);
    }
    if (unlinkat(parent_fd, name, flags) != 0 && errno != ENOENT)
        return moult_fail_errno(error, "%s cannot be removed", name);
    return 0;
}

int moult_folder_remove(int parent_fd, const char *name, struct moult_error *error) {
    return remove_below(parent_fd, name, 0, error);
}
