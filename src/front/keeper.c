#include "front/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "source/source.h"

#define STATE_FILE "state.json"
#define LOCK_PAUSE_NS 20000000l
#define LOCK_TRIES 50

struct waiter {
    moult_keeper_listener listener;
    void *context;
    uint64_t tag;
};

struct waiters {
    struct waiter *all;
    unsigned count;
};

struct moult_keeper {
    uv_loop_t *loop;
    struct moult_state state;
    char *data_folder, *models_folder;
    int folder_fd, lock_fd;
    /* The save under way: what it writes, who waits for it, what came of it. */
    uv_work_t work;
    bool busy;
    char *bytes;
    size_t size;
    struct waiters served;
    int result;
    struct moult_error error;
    /* What the next one will serve. */
    bool again;
    struct waiters waiting;
    bool held;                 /* Nothing is written: the folder is, or may become, another's. */
};

static int open_folders(struct moult_keeper *keeper, struct moult_error *error);
/* A server that was killed may leave a child between fork and exec, which holds a
 * copy of the lock for some milliseconds: one refusal is not yet another server. */
static bool try_lock(int fd) {
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_NS};
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        nanosleep(&pause, NULL);
    }
    errno = EWOULDBLOCK;
    return false;
}

static int lock(struct moult_keeper *keeper, struct moult_error *error);
static int read_state(struct moult_keeper *keeper, struct moult_error *error);

static struct moult_keeper *make_keeper(uv_loop_t *loop, const char *data_folder, bool as_guest,
                                        struct moult_error *error) {
    struct moult_keeper *keeper = moult_allocate(1, sizeof *keeper);
    keeper->loop = loop;
    keeper->folder_fd = keeper->lock_fd = -1;
    keeper->data_folder = moult_copy_string(data_folder);
    keeper->models_folder = moult_format("%s/models", data_folder);
    keeper->work.data = keeper;
    moult_state_init(&keeper->state);
    keeper->held = as_guest;
    if (open_folders(keeper, error) == 0 && (as_guest || lock(keeper, error) == 0) &&
        read_state(keeper, error) == 0) {
        if (!as_guest)
            moult_install_leftovers_remove(keeper->models_folder);
        return keeper;
    }
    moult_keeper_close(keeper);
    return NULL;
}

struct moult_keeper *moult_keeper_open(uv_loop_t *loop, const char *data_folder,
                                       struct moult_error *error) {
    return make_keeper(loop, data_folder, false, error);
}

struct moult_keeper *moult_keeper_visit(uv_loop_t *loop, const char *data_folder,
                                        struct moult_error *error) {
    return make_keeper(loop, data_folder, true, error);
}

static int open_folders(struct moult_keeper *keeper, struct moult_error *error) {
    if (moult_folder_make(keeper->models_folder, error) != 0)
        return -1;
    keeper->folder_fd = open(keeper->data_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (keeper->folder_fd < 0)
        return moult_fail_errno(error, "The data folder %s cannot be opened", keeper->data_folder);
    return 0;
}

static int lock(struct moult_keeper *keeper, struct moult_error *error) {
    keeper->lock_fd = openat(keeper->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                             0644);
    if (keeper->lock_fd < 0)
        return moult_fail_errno(error, "The data folder %s cannot be locked", keeper->data_folder);
    if (try_lock(keeper->lock_fd))
        return 0;
    if (errno != EWOULDBLOCK)
        return moult_fail_errno(error, "The data folder %s cannot be locked", keeper->data_folder);
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "Another moult serves from the data folder %s: stop it, give this one "
                      "another folder with --data, or have it take over with --take-over.",
                      keeper->data_folder);
}

static int read_state(struct moult_keeper *keeper, struct moult_error *error) {
    char *bytes;
    size_t size;
    struct moult_error missing;
    if (faccessat(keeper->folder_fd, STATE_FILE, F_OK, 0) != 0 && errno == ENOENT)
        return 0;
    if (moult_file_read(keeper->folder_fd, STATE_FILE, MOULT_STATE_BYTES_MAX, &bytes, &size,
                        &missing) != 0) {
        *error = missing;
        return moult_fail_within(error, "%s", keeper->data_folder);
    }
    int result = moult_state_parse(&keeper->state, bytes, size, error);
    free(bytes);
    return result == 0 ? 0
                       : moult_fail_within(error, "%s/" STATE_FILE " cannot be used",
                                           keeper->data_folder);
}

struct moult_state *moult_keeper_state(struct moult_keeper *keeper) {
    return &keeper->state;
}

const char *moult_keeper_models_folder(const struct moult_keeper *keeper) {
    return keeper->models_folder;
}

const char *moult_keeper_data_folder(const struct moult_keeper *keeper) {
    return keeper->data_folder;
}

/* Saving. */

static void write_on_pool(uv_work_t *work) {
    struct moult_keeper *keeper = work->data;
    moult_fault_point("state-before");
    keeper->result = moult_file_replace(keeper->folder_fd, STATE_FILE, keeper->bytes, keeper->size,
                                        &keeper->error);
}

static void on_written(uv_work_t *work, int status);

static void start_save(struct moult_keeper *keeper) {
    if (keeper->held)
        return;
    keeper->busy = true;
    keeper->again = false;
    keeper->bytes = moult_state_format(&keeper->state, &keeper->size);
    keeper->served = keeper->waiting;
    keeper->waiting = (struct waiters){0};
    int queued = uv_queue_work(keeper->loop, &keeper->work, write_on_pool, on_written);
    MOULT_REQUIRE(queued == 0);
}

static void on_written(uv_work_t *work, int status) {
    struct moult_keeper *keeper = work->data;
    (void)status;
    struct waiters served = keeper->served;
    struct moult_error error = keeper->error;
    bool failed = keeper->result != 0;
    if (failed)
        moult_log_error("The state cannot be saved: %s", error.message);
    free(keeper->bytes);
    keeper->bytes = NULL;
    keeper->served = (struct waiters){0};
    keeper->busy = false;
    for (unsigned i = 0; i < served.count; i++)
        served.all[i].listener(served.all[i].context, served.all[i].tag, failed ? &error : NULL);
    free(served.all);
    if (keeper->again && !keeper->busy)
        start_save(keeper);
}

void moult_keeper_save(struct moult_keeper *keeper, moult_keeper_listener listener, void *context,
                       uint64_t tag) {
    if (listener != NULL) {
        struct waiters *waiting = &keeper->waiting;
        waiting->all = moult_reallocate(waiting->all, waiting->count + 1, sizeof *waiting->all);
        waiting->all[waiting->count++] = (struct waiter){listener, context, tag};
    }
    keeper->again = true;
    if (!keeper->busy)
        start_save(keeper);
}

bool moult_keeper_quiet(const struct moult_keeper *keeper) {
    return !keeper->busy;
}

/* Two owners, one after the other. */

bool moult_keeper_hold(struct moult_keeper *keeper) {
    if (keeper->busy)
        return false;
    keeper->held = true;
    return true;
}

void moult_keeper_release(struct moult_keeper *keeper) {
    keeper->held = false;
    if (keeper->again && !keeper->busy)
        start_save(keeper);
}

int moult_keeper_folder_fd(const struct moult_keeper *keeper) {
    return keeper->folder_fd;
}

int moult_keeper_lock_fd(const struct moult_keeper *keeper) {
    return keeper->lock_fd;
}

int moult_keeper_own(struct moult_keeper *keeper, int lock_fd, struct moult_error *error) {
    if (keeper->lock_fd >= 0)
        return 0;
    keeper->lock_fd = lock_fd;
    return lock_fd >= 0 ? 0 : lock(keeper, error);
}

/* Closed, and not unlocked: the new owner's descriptor is of the same opening, and the lock
 * belongs to that. */
void moult_keeper_give_away(struct moult_keeper *keeper) {
    struct waiters waiting = keeper->waiting;
    struct moult_error error;
    MOULT_REQUIRE(keeper->held && !keeper->busy);
    moult_fail(&error, MOULT_ERROR_UNAVAILABLE, "Another process serves from the data folder now.");
    keeper->waiting = (struct waiters){0};
    keeper->again = false;
    close(keeper->lock_fd);
    keeper->lock_fd = -1;
    for (unsigned i = 0; i < waiting.count; i++)
        waiting.all[i].listener(waiting.all[i].context, waiting.all[i].tag, &error);
    free(waiting.all);
}

void moult_keeper_close(struct moult_keeper *keeper) {
    MOULT_REQUIRE(!keeper->busy);
    moult_state_release(&keeper->state);
    if (keeper->lock_fd >= 0)
        close(keeper->lock_fd);
    if (keeper->folder_fd >= 0)
        close(keeper->folder_fd);
    free(keeper->data_folder);
    free(keeper->models_folder);
    free(keeper->waiting.all);
    free(keeper);
}
