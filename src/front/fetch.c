#include "front/fetch.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/limits.h"
#include "base/memory.h"
#include "front/fetch_line.h"

#define STANDSTILL_MS_MAX 120000   /* A disk may sleep, a network file system may hang. */
#define DYING_MS_MAX 1000          /* In the kernel, not even SIGKILL reaches a process. */
#define HANDLES 3

struct moult_fetch {
    uv_process_t child;
    uv_pipe_t pipe;
    uv_timer_t patience;
    unsigned open_handles;
    bool killed, exited, drained, ended;
    const struct moult_fetch_events *events;
    void *context;
    uint64_t tag;
    struct moult_fetch_result result;
    struct moult_look look;          /* What result.look points to. */
    bool has_result;
    size_t line_size;
    char line[MOULT_PULL_LINE_BYTES_MAX];
};

static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number);
static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *room);
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room);
static void on_patience(uv_timer_t *timer);

static void on_closed(uv_handle_t *handle) {
    struct moult_fetch *fetch = handle->data;
    if (--fetch->open_handles > 0)
        return;
    moult_look_release(&fetch->look);
    free(fetch);
}

static void close_all(struct moult_fetch *fetch) {
    uv_close((uv_handle_t *)&fetch->child, on_closed);
    uv_close((uv_handle_t *)&fetch->pipe, on_closed);
    uv_close((uv_handle_t *)&fetch->patience, on_closed);
}

static int spawn(struct moult_fetch *fetch, uv_loop_t *loop, char **arguments) {
    uv_stdio_container_t descriptors[3] = {{.flags = UV_IGNORE}};
    descriptors[1].flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE;
    descriptors[1].data.stream = (uv_stream_t *)&fetch->pipe;
    descriptors[2].flags = UV_INHERIT_FD;
    descriptors[2].data.fd = STDERR_FILENO;
    uv_process_options_t options = {.file = "/proc/self/exe",
                                    .args = arguments,
                                    .stdio = descriptors,
                                    .stdio_count = 3,
                                    .exit_cb = on_exit_of_child};
    return uv_spawn(loop, &fetch->child, &options);
}

/* `option` says what for, and is freed; `no_links` is source/source.h's. */
static struct moult_fetch *start(uv_loop_t *loop, char *option, bool no_links, const char *source,
                                 const struct moult_fetch_events *events, void *context,
                                 uint64_t tag, struct moult_error *error) {
    char parent[32];
    char *arguments[] = {"moult", "pull", parent, option, "--no-links", "--", (char *)source, NULL};
    if (!no_links)
        memmove(&arguments[4], &arguments[5], 3 * sizeof arguments[0]);
    struct moult_fetch *fetch = moult_allocate(1, sizeof *fetch);
    fetch->events = events;
    fetch->context = context;
    fetch->tag = tag;
    fetch->open_handles = HANDLES;
    fetch->child.data = fetch->pipe.data = fetch->patience.data = fetch;
    uv_pipe_init(loop, &fetch->pipe, 0);
    uv_timer_init(loop, &fetch->patience);
    snprintf(parent, sizeof parent, "--parent=%d", (int)getpid());
    int spawned = spawn(fetch, loop, arguments);
    free(option);
    if (spawned != 0) {
        moult_fail(error, MOULT_ERROR_SYSTEM, "The copying process cannot be started: %s.",
                   uv_strerror(spawned));
        close_all(fetch);
        return NULL;
    }
    uv_read_start((uv_stream_t *)&fetch->pipe, on_allocate, on_read);
    uv_timer_start(&fetch->patience, on_patience, STANDSTILL_MS_MAX, 0);
    return fetch;
}

struct moult_fetch *moult_fetch_start(uv_loop_t *loop, const char *data_folder, const char *source,
                                      bool no_links, const struct moult_fetch_events *events,
                                      void *context, uint64_t tag, struct moult_error *error) {
    return start(loop, moult_format("--data=%s", data_folder), no_links, source, events, context,
                 tag, error);
}

struct moult_fetch *moult_fetch_look(uv_loop_t *loop, const char *source, const char *unless,
                                     const struct moult_fetch_events *events, void *context,
                                     uint64_t tag, struct moult_error *error) {
    return start(loop, moult_format("--unless=%s", unless), false, source, events, context, tag,
                 error);
}

static void end(struct moult_fetch *fetch) {
    fetch->ended = true;
    fetch->events->ended(fetch->context, fetch->tag, &fetch->result);
    close_all(fetch);
}

static void kill_with(struct moult_fetch *fetch, const char *reason) {
    if (fetch->exited || fetch->killed)
        return;
    if (!fetch->has_result)
        moult_fail(&fetch->result.error, MOULT_ERROR_UNAVAILABLE, "%s", reason);
    fetch->has_result = true;
    fetch->result.revision[0] = '\0';
    fetch->result.looked = false;
    fetch->killed = true;
    if (moult_fault_seconds("UNKILLABLE", 0) == 0)
        uv_process_kill(&fetch->child, SIGKILL);
    uv_timer_start(&fetch->patience, on_patience, DYING_MS_MAX, 0);
}

void moult_fetch_cancel(struct moult_fetch *fetch) {
    kill_with(fetch, "It was cancelled.");
}

/* Once it is killed, it can do nothing more, not even when it comes back from where it hangs:
 * the end need not wait for that. It stays in the list of processes until the front goes. */
static void on_patience(uv_timer_t *timer) {
    struct moult_fetch *fetch = timer->data;
    if (!fetch->killed)
        kill_with(fetch, "The source stood still for two minutes.");
    else if (!fetch->ended)
        end(fetch);
}

/* The end needs both: the child's exit, and all that it had written. */
static void end_if_complete(struct moult_fetch *fetch) {
    if (fetch->exited && fetch->drained && !fetch->ended)
        end(fetch);
}

static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number) {
    struct moult_fetch *fetch = child->data;
    fetch->exited = true;
    if (!fetch->has_result) {
        if (signal_number != 0)
            moult_fail(&fetch->result.error, MOULT_ERROR_UNAVAILABLE,
                       "The copying process was ended by signal %d (%s).", signal_number,
                       strsignal(signal_number));
        else
            moult_fail(&fetch->result.error, MOULT_ERROR_UNAVAILABLE,
                       "The copying process exited with code %d.", (int)code);
    }
    end_if_complete(fetch);
}

/* Lines. */

static void take_line(struct moult_fetch *fetch, const char *bytes, size_t size) {
    struct moult_fetch_line line;
    struct moult_fetch_result *result = &fetch->result;
    if (fetch->has_result)
        return;
    moult_fetch_line_parse(&line, bytes, size);
    if (line.kind == MOULT_FETCH_LINE_ADVANCE)
        fetch->events->advanced(fetch->context, fetch->tag, line.progress);
    if (line.kind == MOULT_FETCH_LINE_NOTHING || line.kind == MOULT_FETCH_LINE_ADVANCE) {
        moult_fetch_line_release(&line);
        return;
    }
    memcpy(result->revision, line.installed.revision, sizeof result->revision);
    memcpy(result->validator, line.installed.validator, sizeof result->validator);
    result->bytes = line.installed.bytes;
    result->fetched = line.installed.fetched;
    result->error = line.error;
    result->looked = line.kind == MOULT_FETCH_LINE_LOOKED;
    fetch->look = line.look;   /* With what it holds. */
    result->look = &fetch->look;
    fetch->has_result = true;
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *room) {
    struct moult_fetch *fetch = handle->data;
    (void)suggested;
    *room = uv_buf_init(fetch->line + fetch->line_size,
                        (unsigned)(sizeof fetch->line - fetch->line_size));
}

static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room) {
    struct moult_fetch *fetch = stream->data;
    (void)room;
    if (size < 0) {   /* The end, or a line that is too long to be one of ours. */
        fetch->drained = true;
        uv_read_stop(stream);
        end_if_complete(fetch);
        return;
    }
    if (!fetch->killed)
        uv_timer_start(&fetch->patience, on_patience, STANDSTILL_MS_MAX, 0);
    size_t filled = fetch->line_size + (size_t)size;
    size_t start = 0;
    for (size_t i = fetch->line_size; i < filled; i++) {
        if (fetch->line[i] != '\n')
            continue;
        take_line(fetch, fetch->line + start, i - start);
        start = i + 1;
    }
    memmove(fetch->line, fetch->line + start, filled - start);
    fetch->line_size = filled - start;
}
