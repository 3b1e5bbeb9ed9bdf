#include "front/fetch.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "front/json.h"

#define LINE_BYTES_MAX 4096
#define STANDSTILL_MS_MAX 120000   /* A disk may sleep, a network file system may hang. */
#define HANDLES 3

struct moult_fetch {
    uv_process_t child;
    uv_pipe_t pipe;
    uv_timer_t patience;
    unsigned open_handles;
    bool exited, drained, ended;
    const struct moult_fetch_events *events;
    void *context;
    uint64_t tag;
    struct moult_fetch_result result;
    bool has_result;
    size_t line_size;
    char line[LINE_BYTES_MAX];
};

static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number);
static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *room);
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *room);
static void on_patience(uv_timer_t *timer);

static void on_closed(uv_handle_t *handle) {
    struct moult_fetch *fetch = handle->data;
    if (--fetch->open_handles == 0)
        free(fetch);
}

static void close_all(struct moult_fetch *fetch) {
    uv_close((uv_handle_t *)&fetch->child, on_closed);
    uv_close((uv_handle_t *)&fetch->pipe, on_closed);
    uv_close((uv_handle_t *)&fetch->patience, on_closed);
}

static int spawn(struct moult_fetch *fetch, uv_loop_t *loop, const char *data_folder,
                 const char *source) {
    char parent_argument[32];
    char *data_argument = moult_format("--data=%s", data_folder);
    snprintf(parent_argument, sizeof parent_argument, "--parent=%d", (int)getpid());
    char *arguments[] = {"moult", "pull", parent_argument, data_argument, "--", (char *)source,
                         NULL};
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
    int spawned = uv_spawn(loop, &fetch->child, &options);
    free(data_argument);
    return spawned;
}

struct moult_fetch *moult_fetch_start(uv_loop_t *loop, const char *data_folder, const char *source,
                                      const struct moult_fetch_events *events, void *context,
                                      uint64_t tag, struct moult_error *error) {
    struct moult_fetch *fetch = moult_allocate(1, sizeof *fetch);
    fetch->events = events;
    fetch->context = context;
    fetch->tag = tag;
    fetch->open_handles = HANDLES;
    fetch->child.data = fetch->pipe.data = fetch->patience.data = fetch;
    uv_pipe_init(loop, &fetch->pipe, 0);
    uv_timer_init(loop, &fetch->patience);
    int spawned = spawn(fetch, loop, data_folder, source);
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

static void kill_with(struct moult_fetch *fetch, const char *reason) {
    if (fetch->exited)
        return;
    if (!fetch->has_result)
        moult_fail(&fetch->result.error, MOULT_ERROR_UNAVAILABLE, "%s", reason);
    fetch->has_result = true;
    fetch->result.revision[0] = '\0';
    uv_process_kill(&fetch->child, SIGKILL);
}

void moult_fetch_cancel(struct moult_fetch *fetch) {
    kill_with(fetch, "It was cancelled.");
}

static void on_patience(uv_timer_t *timer) {
    kill_with(timer->data, "The source stood still for two minutes.");
}

/* The end needs both: the child's exit, and all that it had written. */
static void end_if_complete(struct moult_fetch *fetch) {
    if (!fetch->exited || !fetch->drained || fetch->ended)
        return;
    fetch->ended = true;
    fetch->events->ended(fetch->context, fetch->tag, &fetch->result);
    close_all(fetch);
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

static void take_failure(struct moult_fetch *fetch, const json_t *object, const char *sentence) {
    json_int_t code = json_integer_value(json_object_get(object, "code"));
    bool known = code > MOULT_OK && code <= MOULT_ERROR_UNAVAILABLE;
    moult_fail(&fetch->result.error, known ? (enum moult_error_code)code : MOULT_ERROR_SYSTEM, "%s",
               sentence);
    fetch->has_result = true;
}

static void take_success(struct moult_fetch *fetch, const json_t *object, const char *revision) {
    if (strspn(revision, "0123456789abcdef") != MOULT_SHA256_HEX - 1 ||
        strlen(revision) != MOULT_SHA256_HEX - 1)
        return;
    memcpy(fetch->result.revision, revision, MOULT_SHA256_HEX);
    fetch->result.bytes = (uint64_t)json_integer_value(json_object_get(object, "bytes"));
    fetch->has_result = true;
}

static void take_line(struct moult_fetch *fetch, const char *line, size_t size) {
    json_t *object = fetch->has_result ? NULL : moult_json_read_object(line, size, NULL);
    const char *revision = json_string_value(json_object_get(object, "revision"));
    const char *sentence = json_string_value(json_object_get(object, "error"));
    double all = json_number_value(json_object_get(object, "all"));
    if (revision != NULL)
        take_success(fetch, object, revision);
    else if (sentence != NULL)
        take_failure(fetch, object, sentence);
    else if (all > 0)
        fetch->events->advanced(fetch->context, fetch->tag,
                                json_number_value(json_object_get(object, "done")) / all);
    json_decref(object);
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
