#include "front/process.h"

#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/precision.h"

#define FIRST_CHANNEL_FD 3
#define FOLDER_FD (FIRST_CHANNEL_FD + MOULT_CHANNEL_FDS)
#define FIRST_ROWS_FD (FOLDER_FD + 1)
#define CHILD_FDS_MAX (FIRST_ROWS_FD + MOULT_ROWS_FILES_MAX)
#define ARGUMENTS_MAX 16

struct moult_process {
    uv_process_t child;
    uv_poll_t wake;
    struct moult_channel *channel;
    const struct moult_process_events *events;
    void *owner;                      /* NULL once dropped. */
    unsigned references;              /* The owner, each open handle, each job. */
    bool ended;                       /* The child is gone, or never came to be. */
    bool asked;
    char kill_reason[256];            /* Why the front killed it; "": it did not. */
    enum moult_worker_state state;    /* As last reported. */
    uint32_t dimensions;              /* C of its vectors, once it is ready. */
    uint64_t progress, moved_ns;
    unsigned jobs_count, orphan_count;
    struct moult_job *jobs[MOULT_CHANNEL_SLOTS];
};

/* Stands in jobs[] for one that was taken back. */
static struct moult_job orphan;

static int spawn(struct moult_process *process, uv_loop_t *loop,
                 const struct moult_process_order *order, int folder_fd);
static void close_handles(struct moult_process *process);
static void on_wake(uv_poll_t *handle, int status, int events);
static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number);
static void drain(struct moult_process *process);

static void unreference(struct moult_process *process) {
    MOULT_REQUIRE(process->references > 0);
    if (--process->references > 0)
        return;
    moult_channel_close(process->channel);
    free(process);
}

static void on_closed(uv_handle_t *handle) {
    unreference(handle->data);
}

struct moult_process *moult_process_start(uv_loop_t *loop, const struct moult_process_order *order,
                                          const struct moult_process_events *events, void *owner,
                                          struct moult_error *error) {
    int folder_fd = open(order->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0) {
        moult_fail_errno(error, "The installed model %s cannot be opened", order->folder);
        return NULL;
    }
    struct moult_channel *channel = moult_channel_open(error);
    if (channel == NULL) {
        close(folder_fd);
        return NULL;
    }
    struct moult_process *process = moult_allocate(1, sizeof *process);
    process->channel = channel;
    process->events = events;
    process->owner = owner;
    process->moved_ns = moult_clock_ns();
    process->references = 3;   /* The owner and two handles. */
    process->child.data = process->wake.data = process;
    int polled = uv_poll_init(loop, &process->wake, moult_channel_wake_fd(channel));
    MOULT_REQUIRE(polled == 0);
    int spawned = spawn(process, loop, order, folder_fd);
    close(folder_fd);
    if (spawned != 0) {
        moult_fail(error, MOULT_ERROR_SYSTEM, "A worker cannot be started: %s.",
                   uv_strerror(spawned));
        close_handles(process);
        moult_process_drop(process);
        return NULL;
    }
    uv_poll_start(&process->wake, UV_READABLE, on_wake);
    return process;
}

static void inherit(uv_stdio_container_t *container, int fd) {
    container->flags = UV_INHERIT_FD;
    container->data.fd = fd;
}

/* "--rows=7,8,9" */
static char *rows_argument(const struct moult_process_order *order) {
    struct moult_buffer text;
    moult_buffer_init(&text, 16 + 8 * MOULT_ROWS_FILES_MAX);
    moult_buffer_text(&text, "--rows=");
    for (unsigned i = 0; i < order->rows_count; i++)
        moult_buffer_format(&text, i > 0 ? ",%d" : "%d", FIRST_ROWS_FD + (int)i);
    return text.bytes;
}

/* NULL behind the last; each is freed by free_arguments(). */
static void make_arguments(const struct moult_process_order *order, char **arguments) {
    unsigned n = 0;
    arguments[n++] = moult_copy_string("moult");
    arguments[n++] = moult_copy_string("worker");
    arguments[n++] = moult_format("--channel=%d,%d,%d", FIRST_CHANNEL_FD, FIRST_CHANNEL_FD + 1,
                                  FIRST_CHANNEL_FD + 2);
    arguments[n++] = moult_format("--folder=%d", FOLDER_FD);
    arguments[n++] = moult_format("--parent=%d", (int)getpid());
    arguments[n++] = moult_format("--threads=%u", order->threads);
    arguments[n++] = moult_format("--memory=%" PRIu64, order->memory_bytes);
    arguments[n++] = moult_format("--label=%s", order->label);
    arguments[n++] = moult_format("--haste=%d", (int)order->haste);
    arguments[n++] = moult_format("--precision=%s", moult_precision_name(order->precision));
    arguments[n++] = moult_format("--fidelity=%.9f", order->fidelity);
    if (order->rows_count > 0) {
        arguments[n++] = rows_argument(order);
        arguments[n++] = moult_format("--row-count=%" PRIu64, order->row_count);
        arguments[n++] = moult_format("--follow-nice=%u", order->follow_nice);
    }
    arguments[n] = NULL;
    MOULT_REQUIRE(n < ARGUMENTS_MAX);
}

static void free_arguments(char **arguments) {
    for (unsigned n = 0; arguments[n] != NULL; n++)
        free(arguments[n]);
}

/* The child gets the channel, the folder and the files of vectors under the numbers that
 * ipc/channel.h names, standard error, and nothing else. */
static int spawn(struct moult_process *process, uv_loop_t *loop,
                 const struct moult_process_order *order, int folder_fd) {
    char *arguments[ARGUMENTS_MAX];
    uv_stdio_container_t descriptors[CHILD_FDS_MAX] = {{.flags = UV_IGNORE}};
    int channel_fds[MOULT_CHANNEL_FDS];
    MOULT_REQUIRE(order->rows_count <= MOULT_ROWS_FILES_MAX);
    moult_channel_worker_fds(process->channel, channel_fds);
    inherit(&descriptors[1], STDERR_FILENO);
    inherit(&descriptors[2], STDERR_FILENO);
    for (int i = 0; i < MOULT_CHANNEL_FDS; i++)
        inherit(&descriptors[FIRST_CHANNEL_FD + i], channel_fds[i]);
    inherit(&descriptors[FOLDER_FD], folder_fd);
    for (unsigned i = 0; i < order->rows_count; i++)
        inherit(&descriptors[FIRST_ROWS_FD + i], order->rows_fds[i]);
    make_arguments(order, arguments);
    uv_process_options_t options = {.file = "/proc/self/exe",
                                    .args = arguments,
                                    .stdio = descriptors,
                                    .stdio_count = FIRST_ROWS_FD + (int)order->rows_count,
                                    .exit_cb = on_exit_of_child};
    int spawned = uv_spawn(loop, &process->child, &options);
    free_arguments(arguments);
    return spawned;
}

static void close_handles(struct moult_process *process) {
    process->ended = true;
    uv_close((uv_handle_t *)&process->child, on_closed);
    uv_close((uv_handle_t *)&process->wake, on_closed);
}

void moult_process_drop(struct moult_process *process) {
    process->owner = NULL;
    if (!process->ended)
        moult_process_kill(process, "It was no longer wanted.");
    unreference(process);
}

/* Jobs. */

bool moult_process_submit(struct moult_process *process, struct moult_job *job,
                          size_t answer_capacity) {
    if (process->ended || process->asked)
        return false;
    int slot = moult_channel_submit(process->channel, job->lane, job->message, job->message_size,
                                    answer_capacity);
    if (slot < 0)
        return false;
    if (process->jobs_count == 0) {
        process->progress = moult_channel_progress(process->channel);
        process->moved_ns = moult_clock_ns();
    }
    process->jobs[slot] = job;
    process->jobs_count++;
    process->references++;
    job->process = process;
    job->channel_slot = slot;
    return true;
}

void moult_process_take_back(struct moult_process *process, struct moult_job *job) {
    MOULT_REQUIRE(job->process == process && process->jobs[job->channel_slot] == job);
    /* The slot stays the worker's until it is done with it. */
    process->jobs[job->channel_slot] = &orphan;
    process->orphan_count++;
    job->process = NULL;
    job->channel_slot = -1;
    unreference(process);
}

void moult_process_release_answer(struct moult_job *job) {
    struct moult_process *process = job->process;
    moult_channel_release(process->channel, job->channel_slot);
    job->process = NULL;
    job->channel_slot = -1;
    unreference(process);
}

void *moult_process_owner(const struct moult_process *process) {
    return process->owner;
}

bool moult_process_began(const struct moult_process *process, const struct moult_job *job) {
    return moult_channel_started(process->channel, job->channel_slot);
}

unsigned moult_process_orphans(const struct moult_process *process) {
    return process->orphan_count;
}

/* What the worker says. */

static void read_report(struct moult_process *process) {
    if (process->state == MOULT_WORKER_READY || process->owner == NULL)
        return;
    struct moult_worker_report report;
    moult_channel_report(process->channel, &report);
    process->state = report.state;
    process->dimensions = report.dimensions;
    process->events->reported(process->owner, &report);
}

static void on_wake(uv_poll_t *handle, int status, int events) {
    struct moult_process *process = handle->data;
    (void)status;
    (void)events;
    process->references++;   /* What it calls may drop it. */
    moult_channel_wake_clear(process->channel);
    read_report(process);
    drain(process);
    if (process->owner != NULL && !process->ended)
        process->events->drained(process->owner);
    unreference(process);
}

/* Returns false where the answer is not one. */
static bool take_answer(struct moult_process *process, int slot, const char *block,
                        size_t capacity) {
    struct moult_job *job = process->jobs[slot];
    struct moult_error error;
    if (job == &orphan) {
        process->jobs[slot] = NULL;
        process->jobs_count--;
        process->orphan_count--;
        moult_channel_release(process->channel, slot);
        return true;
    }
    if (job == NULL || moult_answer_read(block, capacity, job->message, job->message_size,
                                         process->dimensions, &job->answer, &error) != 0)
        return false;
    process->jobs[slot] = NULL;
    process->jobs_count--;
    process->events->answered(process->owner, job);
    return true;
}

static void drain(struct moult_process *process) {
    const char *block;
    size_t capacity;
    bool broken = false;
    int slot;
    while (process->owner != NULL &&
           (slot = moult_channel_completed(process->channel, &block, &capacity, &broken)) >= 0)
        if (!take_answer(process, slot, block, capacity)) {
            broken = true;
            break;
        }
    if (broken)
        moult_process_kill(process, "Its answers were malformed.");
}

/* The end of it. */

static void describe_end(struct moult_process *process, int64_t code, int signal_number,
                         struct moult_process_end *end) {
    struct moult_worker_report report;
    moult_channel_report(process->channel, &report);
    end->asked = process->asked && code == 0 && signal_number == 0;
    if (process->kill_reason[0] != '\0')
        snprintf(end->reason, sizeof end->reason, "%s", process->kill_reason);
    else if (report.state == MOULT_WORKER_FAILED && report.failure[0] != '\0')
        snprintf(end->reason, sizeof end->reason, "%s", report.failure);
    else if (signal_number != 0)
        snprintf(end->reason, sizeof end->reason, "Its worker was ended by signal %d (%s).",
                 signal_number, strsignal(signal_number));
    else
        snprintf(end->reason, sizeof end->reason, "Its worker exited with code %d.", (int)code);
    end->killed_from_outside = signal_number == SIGKILL && process->kill_reason[0] == '\0';
}

static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number) {
    struct moult_process *process = child->data;
    process->references++;
    close_handles(process);
    /* What it finished before its end is an answer like any other. */
    drain(process);
    if (process->owner != NULL) {
        struct moult_process_end end = {0};
        describe_end(process, code, signal_number, &end);
        process->events->ended(process->owner, &end);
    }
    unreference(process);
}

bool moult_process_orphan_began(const struct moult_process *process) {
    for (int slot = 0; slot < MOULT_CHANNEL_SLOTS && process->orphan_count > 0; slot++)
        if (process->jobs[slot] == &orphan && moult_channel_started(process->channel, slot))
            return true;
    return false;
}

void moult_process_ask_exit(struct moult_process *process) {
    if (process->ended || process->asked)
        return;
    process->asked = true;
    moult_channel_ask_exit(process->channel);
}

void moult_process_kill(struct moult_process *process, const char *reason) {
    if (process->ended || process->kill_reason[0] != '\0')
        return;
    snprintf(process->kill_reason, sizeof process->kill_reason, "%s", reason);
    uv_process_kill(&process->child, SIGKILL);
}

uint64_t moult_process_still_ns(struct moult_process *process, uint64_t now_ns) {
    uint64_t progress = moult_channel_progress(process->channel);
    bool busy = process->state != MOULT_WORKER_READY || process->jobs_count > 0;
    if (!busy || progress != process->progress) {
        process->progress = progress;
        process->moved_ns = now_ns;
    }
    return now_ns > process->moved_ns ? now_ns - process->moved_ns : 0;
}

void moult_process_report(const struct moult_process *process, struct moult_worker_report *report) {
    moult_channel_report(process->channel, report);
}

int moult_process_pid(const struct moult_process *process) {
    return process->ended ? 0 : uv_process_get_pid(&process->child);
}
