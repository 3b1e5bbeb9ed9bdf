#include "source/incoming.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "source/installed.h"

#define INCOMING MOULT_LEFTOVER_INCOMING
#define PARTIAL_SECONDS_MAX (7 * 86400)   /* After a week, nobody goes on with it. */

static int fail_to_write(const struct moult_incoming *incoming, struct moult_error *error) {
    return moult_fail_errno(error, "%s cannot be written to", incoming->models_folder);
}

int moult_incoming_open(struct moult_incoming *incoming, const char *data_folder,
                        struct moult_error *error) {
    *incoming = (struct moult_incoming){
        .data_folder = data_folder,
        .models_folder = moult_format("%s/models", data_folder),
        .models_fd = -1,
        .fd = -1,
    };
    snprintf(incoming->name, sizeof incoming->name, INCOMING "%d", (int)getpid());
    if (moult_folder_make(incoming->models_folder, error) != 0)
        return -1;
    incoming->models_fd = open(incoming->models_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (incoming->models_fd < 0)
        return moult_fail_errno(error, "%s cannot be opened", incoming->models_folder);
    return 0;
}

static void remove_folder(struct moult_incoming *incoming) {
    struct moult_error ignored;
    if (incoming->fd >= 0)
        close(incoming->fd);
    incoming->fd = -1;
    moult_folder_remove(incoming->models_fd, incoming->name, &ignored);
}

void moult_incoming_close(struct moult_incoming *incoming) {
    if (incoming->models_fd >= 0) {
        remove_folder(incoming);
        close(incoming->models_fd);
    }
    free(incoming->models_folder);
}

int moult_incoming_clear(struct moult_incoming *incoming, struct moult_error *error) {
    remove_folder(incoming);
    if (mkdirat(incoming->models_fd, incoming->name, 0755) == 0)
        incoming->fd =
            openat(incoming->models_fd, incoming->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return incoming->fd < 0 ? fail_to_write(incoming, error) : 0;
}

int moult_incoming_make_parents(struct moult_incoming *incoming, const char *path,
                                struct moult_error *error) {
    char *part = moult_copy_string(path);
    int result = 0;
    for (char *slash = strchr(part, '/'); slash != NULL && result == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdirat(incoming->fd, part, 0755) != 0 && errno != EEXIST)
            result = fail_to_write(incoming, error);
        *slash = '/';
    }
    free(part);
    return result;
}

int moult_incoming_create(struct moult_incoming *incoming, const char *path,
                          struct moult_error *error) {
    if (moult_incoming_make_parents(incoming, path, error) != 0)
        return -1;
    int fd = openat(incoming->fd, path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd < 0 ? fail_to_write(incoming, error) : fd;
}

int moult_incoming_seal(struct moult_incoming *incoming, int fd, struct moult_error *error) {
    return fchmod(fd, 0444) != 0 || fsync(fd) != 0 ? fail_to_write(incoming, error) : 0;
}

/* The end: revision.json, folders synced, one rename. */

static int sync_folders(struct moult_incoming *incoming, const struct moult_source_list *list,
                        struct moult_error *error) {
    for (unsigned i = 0; i < list->count; i++) {
        char *path = moult_copy_string(list->files[i].path);
        for (char *slash; (slash = strrchr(path, '/')) != NULL;) {
            *slash = '\0';
            int fd = openat(incoming->fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (fd >= 0) {
                fsync(fd);
                close(fd);
            }
        }
        free(path);
    }
    if (fsync(incoming->fd) != 0 && errno != EINVAL)
        return moult_fail_errno(error, "%s cannot be synced", incoming->models_folder);
    return 0;
}

static int write_revision(struct moult_incoming *incoming, const struct moult_source_list *list,
                          const char *source, const char *revision, struct moult_error *error) {
    size_t size;
    char *bytes = moult_revision_format(list, revision, source, (uint64_t)time(NULL), &size);
    int result = moult_file_replace(incoming->fd, MOULT_REVISION_FILE, bytes, size, error);
    if (result == 0 && fchmodat(incoming->fd, MOULT_REVISION_FILE, 0444, 0) != 0)
        result = fail_to_write(incoming, error);
    free(bytes);
    return result;
}

/* A folder of that name which does not hold what its name says is in the way. */
static bool is_installed(struct moult_incoming *incoming, const char *revision) {
    struct moult_error error;
    if (faccessat(incoming->models_fd, revision, F_OK, 0) != 0)
        return false;
    if (moult_installed_verify(incoming->data_folder, revision, &error) == 0)
        return true;
    moult_log_warning("%s It is installed anew.", error.message);
    moult_folder_remove(incoming->models_fd, revision, &error);
    return false;
}

/* An install of another slot may have been quicker with the same files. */
static int put_in_place(struct moult_incoming *incoming, struct moult_installed *installed,
                        struct moult_error *error) {
    if (renameat(incoming->models_fd, incoming->name, incoming->models_fd,
                 installed->revision) == 0)
        return 0;
    int number = errno;
    installed->was_there = (number == ENOTEMPTY || number == EEXIST) &&
                           is_installed(incoming, installed->revision);
    errno = number;
    return installed->was_there ? 0
                                : moult_fail_errno(error, "The revision cannot be put into %s",
                                                   incoming->models_folder);
}

int moult_incoming_finish(struct moult_incoming *incoming, const struct moult_source_list *list,
                          const char *source, struct moult_installed *installed,
                          struct moult_error *error) {
    moult_revision_of(list, installed->revision);
    installed->bytes = moult_source_list_model_bytes(list);
    installed->was_there = is_installed(incoming, installed->revision);
    if (installed->was_there)
        return 0;
    if (write_revision(incoming, list, source, installed->revision, error) != 0 ||
        sync_folders(incoming, list, error) != 0)
        return -1;
    moult_fault_point("rename");
    if (put_in_place(incoming, installed, error) != 0)
        return -1;
    if (fsync(incoming->models_fd) != 0 && errno != EINVAL)
        return moult_fail_errno(error, "%s cannot be synced", incoming->models_folder);
    return 0;
}

/* Leftovers. */

static void remove_old_partials(int models_fd) {
    int fd = openat(models_fd, MOULT_PARTIAL_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    struct stat status;
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISREG(status.st_mode) && time(NULL) - status.st_mtime > PARTIAL_SECONDS_MAX)
            unlinkat(fd, entry->d_name, 0);
    closedir(folder);
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
    remove_old_partials(dirfd(folder));
    closedir(folder);
}
