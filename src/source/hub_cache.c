#include "source/hub_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

#define REF_BYTES_MAX 256
#define DEPTH_MAX 4
#define CHUNK_BYTES MOULT_MIB

/* What the environment says, as the ecosystem's own programs read it. */

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

static bool is_true(const char *name) {
    static const char *const words[] = {"1", "ON", "YES", "TRUE"};
    const char *value = environment(name);
    for (size_t i = 0; value != NULL && i < sizeof words / sizeof words[0]; i++)
        if (strcasecmp(value, words[i]) == 0)
            return true;
    return false;
}

char *moult_hub_home(void) {
    const char *cache = environment("XDG_CACHE_HOME");
    if (environment("HF_HOME") != NULL)
        return moult_copy_string(environment("HF_HOME"));
    if (cache != NULL)
        return moult_format("%s/huggingface", cache);
    return environment("HOME") != NULL ? moult_format("%s/.cache/huggingface", getenv("HOME"))
                                       : NULL;
}

void moult_hub_cache_open(struct moult_hub_cache *cache, const char *model) {
    const char *use = environment("MOULT_HUB_CACHE");
    const char *slash = strchr(model, '/');
    char *home = moult_hub_home();
    *cache = (struct moult_hub_cache){.offline = is_true("HF_HUB_OFFLINE")};
    if (environment("HF_HUB_CACHE") != NULL)
        cache->root = moult_copy_string(environment("HF_HUB_CACHE"));
    else if (home != NULL)
        cache->root = moult_format("%s/hub", home);
    free(home);
    if (cache->root == NULL)
        return;
    cache->fill = use != NULL && strcmp(use, "fill") == 0;
    cache->repo = moult_format("%s/models--%.*s--%s", cache->root, (int)(slash - model), model,
                               slash + 1);
}

void moult_hub_cache_release(struct moult_hub_cache *cache) {
    free(cache->root);
    free(cache->repo);
    *cache = (struct moult_hub_cache){0};
}

/* Reading. */

static const char *etag_of(const struct moult_listed_file *file) {
    return file->sha256[0] != '\0' ? file->sha256 : file->blob;
}

char *moult_hub_cache_path(const struct moult_hub_cache *cache, const char *commit,
                           const struct moult_listed_file *file, unsigned n) {
    if (cache->repo == NULL || n > 1)
        return NULL;
    return n == 0 ? moult_format("%s/snapshots/%s/%s", cache->repo, commit, file->path)
                  : moult_format("%s/blobs/%s", cache->repo, etag_of(file));
}

int moult_hub_cache_resolve(const struct moult_hub_cache *cache, const char *branch,
                            char commit[MOULT_SHA1_HEX]) {
    struct moult_error ignored;
    char *bytes;
    size_t size;
    if (cache->repo == NULL)
        return -1;
    char *path = moult_format("%s/refs/%s", cache->repo, branch);
    int result = moult_file_read(AT_FDCWD, path, REF_BYTES_MAX, &bytes, &size, &ignored);
    free(path);
    if (result != 0)
        return -1;
    bytes[strcspn(bytes, " \r\n")] = '\0';
    bool good = strlen(bytes) == MOULT_SHA1_HEX - 1 &&
                strspn(bytes, "0123456789abcdef") == MOULT_SHA1_HEX - 1;
    if (good)
        memcpy(commit, bytes, MOULT_SHA1_HEX);
    free(bytes);
    return good ? 0 : -1;
}

/* A link names the blob, and so the digest; what is no link has none that could be believed. */
static void add_link(int folder_fd, const char *name, const char *path,
                     struct moult_listing *listing) {
    char target[512];
    struct stat status;
    ssize_t size = readlinkat(folder_fd, name, target, sizeof target - 1);
    if (size <= 0 || fstatat(folder_fd, name, &status, 0) != 0 || !S_ISREG(status.st_mode))
        return;
    target[size] = '\0';
    const char *slash = strrchr(target, '/');
    moult_listing_add(listing, path, (uint64_t)status.st_size, slash != NULL ? slash + 1 : target);
}

static void add_links(int folder_fd, const char *prefix, unsigned depth,
                      struct moult_listing *listing) {
    DIR *folder = fdopendir(folder_fd);
    struct dirent *entry;
    if (folder == NULL) {
        close(folder_fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        char *path = moult_format("%s%s", prefix, entry->d_name);
        int inner_fd = depth < DEPTH_MAX ? openat(dirfd(folder), entry->d_name,
                                                  O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                                         : -1;
        if (inner_fd >= 0) {
            char *inner = moult_format("%s/", path);
            add_links(inner_fd, inner, depth + 1, listing);
            free(inner);
        } else {
            add_link(dirfd(folder), entry->d_name, path, listing);
        }
        free(path);
    }
    closedir(folder);
}

int moult_hub_cache_list(const struct moult_hub_cache *cache, const char *commit,
                         struct moult_listing *listing) {
    struct moult_error ignored;
    char *bytes;
    size_t size;
    if (cache->repo == NULL)
        return -1;
    char *tree = moult_format("%s/trees/%s.json", cache->repo, commit);
    char *snapshot = moult_format("%s/snapshots/%s", cache->repo, commit);
    int result = -1;
    if (moult_file_read(AT_FDCWD, tree, MOULT_LISTING_BYTES_MAX, &bytes, &size, &ignored) == 0) {
        result = moult_listing_add_cached_tree(listing, bytes, size, &ignored);
        free(bytes);
    }
    if (result != 0) {
        moult_listing_release(listing);
        int folder_fd = open(snapshot, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (folder_fd >= 0)
            add_links(folder_fd, "", 0, listing);
        result = listing->count > 0 ? 0 : -1;
    }
    free(snapshot);
    free(tree);
    return result == 0 ? moult_listing_sort(listing, &ignored) : -1;
}

/* Writing. */

static int fail_to_write(const struct moult_hub_cache *cache, struct moult_error *error) {
    return moult_fail_errno(error, "The hub's cache %s cannot be written to", cache->root);
}

static int make_parents(const struct moult_hub_cache *cache, const char *path,
                        struct moult_error *error) {
    char *parent = moult_copy_bytes(path, (size_t)(strrchr(path, '/') - path));
    int result = moult_folder_make(parent, error);
    free(parent);
    return result == 0 ? 0 : moult_fail_within(error, "The hub's cache %s", cache->root);
}

static int copy_bytes(int from, int to, uint64_t size) {
    if (ioctl(to, FICLONE, from) == 0)
        return 0;
    for (uint64_t at = 0; at < size;) {
        ssize_t sent = sendfile(to, from, NULL, CHUNK_BYTES);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent == 0)
            errno = EIO;
        if (sent <= 0)
            return -1;
        at += (uint64_t)sent;
    }
    return 0;
}

/* Under a name of this process, for others may write the same blob; they replace it by the same. */
static int write_blob(const struct moult_hub_cache *cache, int from, const char *blob,
                      uint64_t size, struct moult_error *error) {
    char *incomplete = moult_format("%s.%d.incomplete", blob, (int)getpid());
    int to = open(incomplete, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    bool good = to >= 0 && copy_bytes(from, to, size) == 0 && fsync(to) == 0 &&
                rename(incomplete, blob) == 0;
    int result = good ? 0 : fail_to_write(cache, error);
    if (to >= 0)
        close(to);
    if (!good)
        unlink(incomplete);
    free(incomplete);
    return result;
}

static bool has_blob(const char *blob, uint64_t size) {
    struct stat status;
    return stat(blob, &status) == 0 && S_ISREG(status.st_mode) && (uint64_t)status.st_size == size;
}

/* The lock keeps others from downloading at the same time; nothing rests on it, so a busy one is
 * not waited for. */
static int fill_blob(const struct moult_hub_cache *cache, int from,
                     const struct moult_listed_file *file, struct moult_error *error) {
    char *blob = moult_format("%s/blobs/%s", cache->repo, etag_of(file));
    char *lock = moult_format("%s/.locks/%s/%s.lock", cache->root, strrchr(cache->repo, '/') + 1,
                              etag_of(file));
    int result = 0;
    if (!has_blob(blob, file->size)) {
        result = make_parents(cache, blob, error) == 0 ? make_parents(cache, lock, error) : -1;
        int lock_fd = result == 0 ? open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0664) : -1;
        if (lock_fd >= 0)
            flock(lock_fd, LOCK_EX | LOCK_NB);
        if (result == 0)
            result = write_blob(cache, from, blob, file->size, error);
        if (lock_fd >= 0)
            close(lock_fd);
    }
    free(lock);
    free(blob);
    return result;
}

/* "../../blobs/ETAG", and one step up more for each folder of the path. */
static char *target_of(const struct moult_listed_file *file) {
    char *target = moult_format("../../blobs/%s", etag_of(file));
    for (const char *at = file->path; (at = strchr(at, '/')) != NULL; at++) {
        char *longer = moult_format("../%s", target);
        free(target);
        target = longer;
    }
    return target;
}

static int fill_link(const struct moult_hub_cache *cache, const char *commit,
                     const struct moult_listed_file *file, struct moult_error *error) {
    char *path = moult_format("%s/snapshots/%s/%s", cache->repo, commit, file->path);
    char *temporary = moult_format("%s.%d.incomplete", path, (int)getpid());
    char *target = target_of(file);
    int result = 0;
    if (!has_blob(path, file->size)) {
        result = make_parents(cache, path, error);
        if (result == 0 && (symlink(target, temporary) != 0 || rename(temporary, path) != 0)) {
            result = fail_to_write(cache, error);
            unlink(temporary);
        }
    }
    free(target);
    free(temporary);
    free(path);
    return result;
}

static int fill_file(const struct moult_hub_cache *cache, int folder_fd, const char *commit,
                     const struct moult_listed_file *file, struct moult_error *error) {
    int from = openat(folder_fd, file->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (from < 0)
        return 0;   /* Of what is listed, a model needs little. */
    int result = fill_blob(cache, from, file, error) == 0 ? fill_link(cache, commit, file, error)
                                                          : -1;
    close(from);
    return result;
}

static int fill_ref(const struct moult_hub_cache *cache, const char *branch, const char *commit,
                    struct moult_error *error) {
    char *path = moult_format("%s/refs/%s", cache->repo, branch);
    char *temporary = moult_format("%s.%d.incomplete", path, (int)getpid());
    int result = make_parents(cache, path, error);
    int fd = result == 0 ? open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644) : -1;
    if (result == 0 && (fd < 0 || write(fd, commit, strlen(commit)) != MOULT_SHA1_HEX - 1 ||
                        rename(temporary, path) != 0))
        result = fail_to_write(cache, error);
    if (fd >= 0)
        close(fd);
    if (result != 0)
        unlink(temporary);
    free(temporary);
    free(path);
    return result;
}

int moult_hub_cache_fill(const struct moult_hub_cache *cache, const char *folder,
                         const char *branch, const char *commit,
                         const struct moult_listing *listing, struct moult_error *error) {
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0)
        return moult_fail_errno(error, "%s cannot be opened", folder);
    int result = 0;
    for (unsigned i = 0; i < listing->count && result == 0; i++)
        result = fill_file(cache, folder_fd, commit, &listing->files[i], error);
    close(folder_fd);
    if (result == 0 && branch[0] != '\0')
        result = fill_ref(cache, branch, commit, error);
    return result;
}
