/* One mutex guards the queues and what the threads tell of themselves; it is held for assignments
 * alone. A task under way is in no queue. Tasks that are over lie in `finished` until the loop has
 * called their `done`; one uv_async_t tells it, however many they are. */
#include "front/desk.h"

#include <stdlib.h>
#include <sys/prctl.h>

#include "base/fault.h"
#include "base/limits.h"
#include "base/memory.h"
#include "store/store.h"

/* One transaction takes no more than so many tasks, nor, but for its first, so many bytes: those
 * who wait for its sync wait for all of it. */
#define GROUP_TASKS_MAX 256
#define GROUP_BYTES_MAX (16 * MOULT_MIB)
/* Longer than any read should take: what comes behind it waits as long. */
#define READ_MS_MAX 10000
#define WORDS_MS_MAX 3000

enum { QUEUES = MOULT_DESK_QUEUES, READERS = 2 };

struct queue {
    struct moult_desk_task *first, **end;
};

/* What the threads that read do: their own queues, one before the other. */
static const struct reader_kind {
    const char *name;
    enum moult_desk_queue queue, later;       /* The same: it has one. */
    unsigned ms_max;
} reader_kinds[READERS] = {
    {"moult-reader", MOULT_DESK_READ, MOULT_DESK_READ_LATER, READ_MS_MAX},
    {"moult-words", MOULT_DESK_WORDS, MOULT_DESK_WORDS, WORDS_MS_MAX},
};

struct reader {
    const struct reader_kind *kind;
    struct moult_desk *desk;
    uv_thread_t thread;
    struct moult_store *store;                /* The thread's, once that runs. */
    uv_cond_t to_read;
};

struct moult_desk {
    char *path;
    uv_async_t async;
    uv_thread_t writing;
    struct moult_store *writer;               /* The thread's, once that runs. */
    struct reader readers[READERS];
    unsigned open[QUEUES];                    /* Handed in and not done. The loop's. */
    bool stopping, given_away;                /* The loop's, too. */
    uv_mutex_t lock;
    uv_cond_t to_write;
    struct queue queues[QUEUES], finished;    /* And all that follows: under the lock. */
    bool held, is_writing, ending;
};

/* Queues. */

static void queue_init(struct queue *queue) {
    queue->first = NULL;
    queue->end = &queue->first;
}

static void append(struct queue *queue, struct moult_desk_task *task) {
    task->next = NULL;
    *queue->end = task;
    queue->end = &task->next;
}

static struct moult_desk_task *take_first(struct queue *queue) {
    struct moult_desk_task *task = queue->first;
    if (task == NULL)
        return NULL;
    queue->first = task->next;
    if (queue->first == NULL)
        queue->end = &queue->first;
    return task;
}

static bool take_out(struct queue *queue, const struct moult_desk_task *task) {
    for (struct moult_desk_task **at = &queue->first; *at != NULL; at = &(*at)->next) {
        if (*at != task)
            continue;
        *at = task->next;
        if (queue->end == &task->next)
            queue->end = at;
        return true;
    }
    return false;
}

static void move_all(struct queue *from, struct queue *to) {
    struct moult_desk_task *task;
    while ((task = take_first(from)) != NULL)
        append(to, task);
}

/* A handle that is not there yet: of a guest. */
static int open_writer(struct moult_desk *desk, struct moult_error *error) {
    if (desk->writer == NULL)
        desk->writer = moult_store_open(desk->path, MOULT_STORE_WRITE, error);
    return desk->writer != NULL ? 0 : -1;
}

static int open_reader(struct reader *reader, struct moult_error *error) {
    if (reader->store != NULL)
        return 0;
    reader->store = moult_store_open(reader->desk->path, MOULT_STORE_READ, error);
    if (reader->store == NULL)
        return -1;
    moult_store_time_limit(reader->store, reader->kind->ms_max);
    /* A first look opens the log as well, so that files do not come to be open some time later. */
    struct moult_store_numbers numbers;
    return moult_store_count(reader->store, &numbers, error);
}

/* Writing. */

static void fail_all(struct queue *group, const struct moult_error *error) {
    for (struct moult_desk_task *task = group->first; task != NULL; task = task->next) {
        task->failed = true;
        task->error = *error;
    }
}

/* After any other the transaction is broken (store.h). */
static bool is_own_fault(const struct moult_error *error) {
    return error->code == MOULT_ERROR_INVALID || error->code == MOULT_ERROR_LIMIT ||
           error->code == MOULT_ERROR_MISSING;
}

/* Returns -1 where tasks have run and nothing of it was kept; then all of them have failed. */
static int write_group(struct moult_store *store, struct queue *group) {
    struct moult_error error;
    if (moult_store_begin(store, &error) != 0) {
        fail_all(group, &error);
        return 0;
    }
    for (struct moult_desk_task *task = group->first; task != NULL; task = task->next) {
        task->failed = task->run(task, store, &task->error) != 0;
        if (!task->failed || is_own_fault(&task->error))
            continue;
        moult_store_rollback(store);
        error = task->error;
        fail_all(group, &error);
        return -1;
    }
    moult_fault_point("store-commit");
    if (moult_store_commit(store, &error) != 0) {
        moult_store_rollback(store);
        fail_all(group, &error);
        return -1;
    }
    moult_fault_point("store-committed");
    return 0;
}

static void write_one_by_one(struct moult_store *store, struct queue *group) {
    struct queue all = *group, alone;
    struct moult_desk_task *task;
    if (all.first->next == NULL)
        return;
    queue_init(group);
    while ((task = all.first) != NULL) {
        all.first = task->next;
        queue_init(&alone);
        append(&alone, task);
        write_group(store, &alone);
        append(group, task);
    }
}

static void write_all(struct moult_desk *desk, struct queue *group) {
    struct moult_error error;
    if (open_writer(desk, &error) != 0)
        fail_all(group, &error);
    else if (write_group(desk->writer, group) != 0)
        write_one_by_one(desk->writer, group);
}

/* As many as go into one transaction. Under the lock. */
static void take_group(struct moult_desk *desk, struct queue *group) {
    struct queue *waiting = &desk->queues[MOULT_DESK_WRITE];
    size_t bytes = 0;
    queue_init(group);
    for (unsigned count = 0; count < GROUP_TASKS_MAX && waiting->first != NULL; count++) {
        bytes += waiting->first->bytes;
        if (count > 0 && bytes > GROUP_BYTES_MAX)
            break;
        append(group, take_first(waiting));
    }
}

/* Hands back what a thread has done. Under the lock. */
static void finish(struct moult_desk *desk, struct queue *done) {
    move_all(done, &desk->finished);
    uv_async_send(&desk->async);
}

static void write_for_ever(void *context) {
    struct moult_desk *desk = context;
    struct queue *waiting = &desk->queues[MOULT_DESK_WRITE];
    struct queue group;
    prctl(PR_SET_NAME, "moult-writer");
    uv_mutex_lock(&desk->lock);
    for (;;) {
        while ((waiting->first == NULL || desk->held) && !desk->ending)
            uv_cond_wait(&desk->to_write, &desk->lock);
        if (desk->ending)
            break;   /* Only then nothing waits any more. */
        take_group(desk, &group);
        desk->is_writing = true;
        uv_mutex_unlock(&desk->lock);
        write_all(desk, &group);
        uv_mutex_lock(&desk->lock);
        desk->is_writing = false;
        finish(desk, &group);
    }
    uv_mutex_unlock(&desk->lock);
}

/* Reading. */

static void read_for_ever(void *context) {
    struct reader *reader = context;
    struct moult_desk *desk = reader->desk;
    struct moult_desk_task *task;
    struct queue done;
    prctl(PR_SET_NAME, reader->kind->name);
    queue_init(&done);
    uv_mutex_lock(&desk->lock);
    for (;;) {
        task = take_first(&desk->queues[reader->kind->queue]);
        if (task == NULL)
            task = take_first(&desk->queues[reader->kind->later]);
        if (task == NULL && desk->ending)
            break;
        if (task == NULL) {
            uv_cond_wait(&reader->to_read, &desk->lock);
            continue;
        }
        uv_mutex_unlock(&desk->lock);
        task->failed = open_reader(reader, &task->error) != 0 ||
                       task->run(task, reader->store, &task->error) != 0;
        uv_mutex_lock(&desk->lock);
        append(&done, task);
        finish(desk, &done);
    }
    uv_mutex_unlock(&desk->lock);
}

/* The loop's side. */

static void on_finished(uv_async_t *async) {
    struct moult_desk *desk = async->data;
    struct moult_desk_task *task;
    struct queue finished;
    queue_init(&finished);
    uv_mutex_lock(&desk->lock);
    move_all(&desk->finished, &finished);
    uv_mutex_unlock(&desk->lock);
    while ((task = take_first(&finished)) != NULL) {
        struct moult_error error = task->error;
        desk->open[task->queue]--;
        task->done(task, task->failed ? &error : NULL);
    }
}

static void start(struct moult_desk *desk, uv_loop_t *loop) {
    MOULT_REQUIRE(uv_async_init(loop, &desk->async, on_finished) == 0);
    MOULT_REQUIRE(uv_thread_create(&desk->writing, write_for_ever, desk) == 0);
    for (unsigned i = 0; i < READERS; i++)
        MOULT_REQUIRE(uv_thread_create(&desk->readers[i].thread, read_for_ever,
                                       &desk->readers[i]) == 0);
}

static int open_handles(struct moult_desk *desk, struct moult_error *error) {
    int result = open_writer(desk, error);
    for (unsigned i = 0; i < READERS && result == 0; i++)
        result = open_reader(&desk->readers[i], error);
    return result;
}

struct moult_desk *moult_desk_open(uv_loop_t *loop, const char *folder, bool as_guest,
                                   struct moult_error *error) {
    struct moult_desk *desk = moult_allocate(1, sizeof *desk);
    desk->path = moult_format("%s/documents.db", folder);
    desk->held = as_guest;
    desk->async.data = desk;
    queue_init(&desk->finished);
    for (unsigned i = 0; i < QUEUES; i++)
        queue_init(&desk->queues[i]);
    MOULT_REQUIRE(uv_mutex_init(&desk->lock) == 0 && uv_cond_init(&desk->to_write) == 0);
    for (unsigned i = 0; i < READERS; i++) {
        desk->readers[i] = (struct reader){.kind = &reader_kinds[i], .desk = desk};
        MOULT_REQUIRE(uv_cond_init(&desk->readers[i].to_read) == 0);
    }
    if (as_guest || open_handles(desk, error) == 0) {
        start(desk, loop);
        return desk;
    }
    moult_desk_free(desk);
    return NULL;
}

static void fail_later(struct moult_desk *desk, struct moult_desk_task *task) {
    if (desk->given_away && !desk->stopping)
        moult_fail(&task->error, MOULT_ERROR_UNAVAILABLE,
                   "A newer program has just taken over from this one. Send it again.");
    else
        moult_fail(&task->error, MOULT_ERROR_UNAVAILABLE, "The server is shutting down.");
    task->failed = true;
    append(&desk->finished, task);
    uv_async_send(&desk->async);
}

/* Whoever works that queue off. */
static uv_cond_t *worker_of(struct moult_desk *desk, enum moult_desk_queue queue) {
    for (unsigned i = 0; i < READERS; i++)
        if (reader_kinds[i].queue == queue || reader_kinds[i].later == queue)
            return &desk->readers[i].to_read;
    return &desk->to_write;
}

void moult_desk_hand_in(struct moult_desk *desk, enum moult_desk_queue queue,
                        struct moult_desk_task *task) {
    task->queue = queue;
    task->failed = false;
    desk->open[queue]++;
    uv_mutex_lock(&desk->lock);
    if (desk->stopping || (desk->given_away && queue == MOULT_DESK_WRITE)) {
        fail_later(desk, task);
    } else {
        append(&desk->queues[queue], task);
        uv_cond_signal(worker_of(desk, queue));
    }
    uv_mutex_unlock(&desk->lock);
}

bool moult_desk_withdraw(struct moult_desk *desk, struct moult_desk_task *task) {
    uv_mutex_lock(&desk->lock);
    bool waited = take_out(&desk->queues[task->queue], task);
    uv_mutex_unlock(&desk->lock);
    if (waited)
        desk->open[task->queue]--;
    return waited;
}

unsigned moult_desk_waiting(const struct moult_desk *desk, enum moult_desk_queue queue) {
    return desk->open[queue];
}

bool moult_desk_hold(struct moult_desk *desk) {
    uv_mutex_lock(&desk->lock);
    desk->held = true;
    bool still = !desk->is_writing;
    uv_mutex_unlock(&desk->lock);
    return still;
}

void moult_desk_release(struct moult_desk *desk) {
    uv_mutex_lock(&desk->lock);
    desk->held = false;
    uv_cond_signal(&desk->to_write);
    uv_mutex_unlock(&desk->lock);
}

void moult_desk_give_away(struct moult_desk *desk) {
    struct moult_desk_task *task;
    desk->given_away = true;
    uv_mutex_lock(&desk->lock);
    while ((task = take_first(&desk->queues[MOULT_DESK_WRITE])) != NULL)
        fail_later(desk, task);
    uv_mutex_unlock(&desk->lock);
}

/* The end. */

bool moult_desk_stop(struct moult_desk *desk, bool at_once) {
    struct moult_desk_task *task;
    desk->stopping = true;
    uv_mutex_lock(&desk->lock);
    for (unsigned i = 0; at_once && i < QUEUES; i++)
        while ((task = take_first(&desk->queues[i])) != NULL)
            fail_later(desk, task);
    uv_mutex_unlock(&desk->lock);
    for (unsigned i = 0; i < QUEUES; i++)
        if (desk->open[i] > 0)
            return false;
    return true;
}

void moult_desk_close_handles(struct moult_desk *desk) {
    uv_mutex_lock(&desk->lock);
    desk->ending = true;
    uv_cond_signal(&desk->to_write);
    for (unsigned i = 0; i < READERS; i++)
        uv_cond_signal(&desk->readers[i].to_read);
    uv_mutex_unlock(&desk->lock);
    uv_thread_join(&desk->writing);
    for (unsigned i = 0; i < READERS; i++)
        uv_thread_join(&desk->readers[i].thread);
    uv_close((uv_handle_t *)&desk->async, NULL);
}

void moult_desk_free(struct moult_desk *desk) {
    moult_store_close(desk->writer);
    for (unsigned i = 0; i < READERS; i++) {
        moult_store_close(desk->readers[i].store);
        uv_cond_destroy(&desk->readers[i].to_read);
    }
    uv_mutex_destroy(&desk->lock);
    uv_cond_destroy(&desk->to_write);
    free(desk->path);
    free(desk);
}
