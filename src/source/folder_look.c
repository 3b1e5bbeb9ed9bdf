/* Looking at a folder that people and programs write into as they like.
 *
 * Nothing says when they are done. So a folder that is another than before is watched until
 * its signature has stood still for two seconds (a network file system shows changes late: five),
 * and it is taken for whole only if its weights have the length that their own header says,
 * and every JSON file of it can be read. Whoever stops in the middle of a file for longer
 * is found out by that; whoever stops between two files is not, and had better make the
 * new folder beside the old one and rename it, which is one step.
 *
 *     signature is the known one                     UNCHANGED, at once
 *     needed files are missing, or not whole         INCOMPLETE
 *     it has changed within the last two seconds     look again, for half a minute; INCOMPLETE
 *     otherwise                                      CHANGED */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/machine.h"
#include "base/memory.h"
#include "source/list.h"
#include "source/source.h"

#define QUIET_NS (2ull * 1000000000)
#define QUIET_ON_NETWORK_NS (5ull * 1000000000)
#define LOOKING_NS_MAX (30ull * 1000000000)
#define LOOK_EVERY_NS 200000000l
#define HEADER_LENGTH_BYTES 8

struct view {
    const char *folder;
    int fd;
    bool on_network;
    struct moult_source_list list;
    struct moult_look *look;
    struct moult_error *error;
};

static int look_until_quiet(struct view *view, const char *unless);
static int read_signature(struct view *view, char signature[MOULT_SHA256_HEX]);
static bool is_whole(const struct view *view, struct moult_error *reason);
static void name_paths(struct view *view);
static bool is_on_network(int fd);

int moult_look_at_folder(const char *folder, const char *unless, struct moult_look *look,
                         struct moult_error *error) {
    struct view *view = moult_allocate(1, sizeof *view);
    int result = -1;
    view->folder = folder;
    view->look = look;
    view->error = error;
    view->fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (view->fd < 0) {
        moult_fail_errno(error, "The folder %s cannot be opened", folder);
    } else {
        view->on_network = is_on_network(view->fd);
        result = look_until_quiet(view, unless);
    }
    name_paths(view);
    if (view->fd >= 0)
        close(view->fd);
    moult_source_list_release(&view->list);
    free(view);
    return result;
}

static int find_incomplete(struct view *view, const struct moult_error *reason) {
    view->look->result = MOULT_LOOK_INCOMPLETE;
    view->look->reason = *reason;
    return 0;
}

/* What was written long before cannot be in the middle of it. A time from the future says
 * nothing, and neither does that of another machine. */
static bool is_quiet_already(const struct view *view) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    for (unsigned i = 0; i < view->list.count; i++) {
        int64_t age_s = now.tv_sec - view->list.files[i].status.st_ctim.tv_sec;
        if (age_s * 1000000000 <= (int64_t)(QUIET_NS + 1000000000))
            return false;
    }
    return !view->on_network;
}

static int look_until_quiet(struct view *view, const char *unless) {
    const struct timespec pause = {.tv_nsec = LOOK_EVERY_NS};
    const uint64_t quiet_ns = view->on_network ? QUIET_ON_NETWORK_NS : QUIET_NS;
    uint64_t began_ns = moult_clock_ns();
    uint64_t still_since_ns = began_ns;
    char signature[MOULT_SHA256_HEX];
    char before[MOULT_SHA256_HEX] = "";
    struct moult_error reason;
    for (;;) {
        int result = read_signature(view, signature);
        if (result != 0)
            return result < 0 ? -1 : 0;
        if (strcmp(signature, unless) == 0) {
            view->look->result = MOULT_LOOK_UNCHANGED;
            memcpy(view->look->validator, signature, sizeof signature);
            return 0;
        }
        uint64_t now_ns = moult_clock_ns();
        if (strcmp(signature, before) != 0)
            still_since_ns = now_ns;
        memcpy(before, signature, sizeof before);
        if (now_ns - still_since_ns >= quiet_ns || is_quiet_already(view))
            break;
        if (now_ns - began_ns > LOOKING_NS_MAX) {
            moult_fail(&reason, MOULT_ERROR_UNAVAILABLE, "%s is still being written.",
                       view->folder);
            return find_incomplete(view, &reason);
        }
        nanosleep(&pause, NULL);
    }
    if (!is_whole(view, &reason))
        return find_incomplete(view, &reason);
    view->look->result = MOULT_LOOK_CHANGED;
    memcpy(view->look->validator, signature, sizeof signature);
    return 0;
}

/* 0: here it is; 1: the folder is no model, or not yet; -1: it cannot be read. */
static int read_signature(struct view *view, char signature[MOULT_SHA256_HEX]) {
    struct moult_error reason;
    moult_source_list_release(&view->list);
    if (moult_source_list_read(view->fd, view->folder, &view->list, &reason) == 0) {
        moult_source_list_sign(&view->list, signature);
        return 0;
    }
    if (reason.code != MOULT_ERROR_INVALID && reason.code != MOULT_ERROR_MISSING)
        return moult_fail(view->error, reason.code, "%s", reason.message);
    find_incomplete(view, &reason);
    return 1;
}

/* Whether files are whole. */

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);
    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

/* The largest end of a tensor in a header; -1 where it cannot be read. */
static json_int_t end_of_tensors(const char *header, size_t size) {
    json_t *object = json_loadb(header, size, 0, NULL);
    json_int_t end = json_is_object(object) ? 0 : -1;
    const char *name;
    json_t *tensor;
    json_object_foreach(object, name, tensor)
    {
        json_int_t last =
            json_integer_value(json_array_get(json_object_get(tensor, "data_offsets"), 1));
        end = last > end ? last : end;
    }
    json_decref(object);
    return end;
}

/* Of weights only the header is read: eight bytes that say its length, and so many of JSON. */
static bool has_its_length(int fd, uint64_t size, const char *path) {
    unsigned char length[HEADER_LENGTH_BYTES];
    struct moult_error ignored;
    uint64_t header_size = 0;
    if (moult_read_exact(fd, length, sizeof length, 0, path, &ignored) != 0)
        return false;
    for (unsigned i = HEADER_LENGTH_BYTES; i-- > 0;)
        header_size = header_size << 8 | length[i];
    if (header_size > MOULT_SAFETENSORS_HEADER_BYTES_MAX || header_size + sizeof length > size)
        return false;
    char *header = moult_allocate(header_size + 1, 1);
    json_int_t end = -1;
    if (moult_read_exact(fd, header, header_size, sizeof length, path, &ignored) == 0)
        end = end_of_tensors(header, header_size);
    free(header);
    return end >= 0 && (uint64_t)end <= size - header_size - sizeof length;
}

static bool is_json(int folder_fd, const char *path) {
    struct moult_error ignored;
    char *bytes;
    size_t size;
    if (moult_file_read(folder_fd, path, MOULT_TOKENIZER_BYTES_MAX, &bytes, &size, &ignored) != 0)
        return false;
    json_t *value = json_loadb(bytes, size, 0, NULL);
    bool good = value != NULL;
    json_decref(value);
    free(bytes);
    return good;
}

static bool is_file_whole(const struct view *view, const struct moult_source_file *file) {
    if (ends_with(file->path, ".json"))
        return is_json(view->fd, file->path);
    if (!ends_with(file->path, ".safetensors"))
        return true;
    int fd = openat(view->fd, file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool whole = fd >= 0 && has_its_length(fd, (uint64_t)file->status.st_size, file->path);
    if (fd >= 0)
        close(fd);
    return whole;
}

static bool is_whole(const struct view *view, struct moult_error *reason) {
    for (unsigned i = 0; i < view->list.count; i++) {
        if (is_file_whole(view, &view->list.files[i]))
            continue;
        moult_fail(reason, MOULT_ERROR_INVALID, "%s/%s is not whole: it is waited for.",
                   view->folder, view->list.files[i].path);
        return false;
    }
    return true;
}

/* Where the kernel tells of changes. */

/* There it tells of this machine's changes alone. */
static bool is_on_network(int fd) {
    static const long kinds[] = {
        0x6969,       /* NFS */
        0xFF534D42,   /* CIFS */
        0xFE534D42,   /* SMB2 */
        0x517B,       /* SMB */
        0x65735546,   /* FUSE, which may be anything */
        0x01021997,   /* 9P */
        0x00C36400,   /* Ceph */
        0x0BD00BD0,   /* Lustre */
        0x5346414F,   /* OpenAFS */
        0x01161970,   /* GFS2 */
        0x7461636F,   /* OCFS2 */
        0x47504653,   /* GPFS */
        0x786F4256,   /* VirtualBox' shared folders */
    };
    struct statfs status;
    if (fstatfs(fd, &status) != 0)
        return true;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if ((unsigned)status.f_type == (unsigned)kinds[i])
            return true;
    return false;
}

static void name_path(struct view *view, const char *path, size_t size, size_t *bytes) {
    struct moult_look *look = view->look;
    for (unsigned i = 0; i < look->path_count; i++)
        if (strncmp(look->paths[i], path, size) == 0 && look->paths[i][size] == '\0')
            return;
    *bytes += size;
    if (look->path_count < MOULT_LOOK_PATHS_MAX && *bytes <= MOULT_LOOK_PATHS_BYTES_MAX)
        look->paths[look->path_count++] = moult_copy_bytes(path, size);
}

/* A folder of a network may be mounted below one of this machine, and the other way round. */
static void name_above(struct view *view) {
    const char *slash = strrchr(view->folder, '/');
    if (slash == NULL || slash[1] == '\0')
        return;
    char *above = moult_copy_bytes(view->folder,
                                   slash == view->folder ? 1 : (size_t)(slash - view->folder));
    int fd = open(above, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && strlen(above) <= MOULT_LOOK_PATHS_BYTES_MAX && !is_on_network(fd))
        view->look->above = above;
    else
        free(above);
    if (fd >= 0)
        close(fd);
}

/* The folder, and those of its modules. */
static void name_paths(struct view *view) {
    size_t bytes = 0;
    name_above(view);
    if (view->fd < 0 || view->on_network)
        return;
    name_path(view, view->folder, strlen(view->folder), &bytes);
    for (unsigned i = 0; i < view->list.count; i++) {
        const char *end = strrchr(view->list.files[i].path, '/');
        if (end == NULL)
            continue;
        char *path = moult_format("%s/%.*s", view->folder, (int)(end - view->list.files[i].path),
                                  view->list.files[i].path);
        name_path(view, path, strlen(path), &bytes);
        free(path);
    }
}
