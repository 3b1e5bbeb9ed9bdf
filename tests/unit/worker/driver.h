/* A worker in a child process, driven through its channel as the front does it: what the tests of
 * this folder share. Included once by each. */
#ifndef MOULT_TESTS_UNIT_WORKER_DRIVER_H
#define MOULT_TESTS_UNIT_WORKER_DRIVER_H

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ipc/message.h"
#include "worker/worker.h"

enum { C = 384, WAIT_MS = 60000 };

static const struct moult_cell_frame bare = {.before = "", .between = "", .after = ""};

struct worker {
    struct moult_channel *channel;
    pid_t pid;
};

/* Descriptors of the options stay the caller's. */
static struct worker start_with(const char *folder, struct moult_worker_options options) {
    struct worker worker;
    struct moult_error error = {.message = ""};
    worker.channel = moult_channel_open(&error);
    if (!worker.channel)
        fail_msg("%s", error.message);
    int fds[MOULT_CHANNEL_FDS];
    moult_channel_worker_fds(worker.channel, fds);
    worker.pid = fork();
    if (worker.pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        options.label = "test 1";
        options.haste = MOULT_HASTE_FULL;
        for (int i = 0; i < MOULT_CHANNEL_FDS; i++)
            options.channel_fds[i] = dup(fds[i]);
        for (unsigned i = 0; i < options.rows_count; i++)
            options.rows_fds[i] = dup(options.rows_fds[i]);
        options.folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _exit(moult_worker_main(&options));
    }
    return worker;
}

static void wait_for_wake(struct worker *worker) {
    struct pollfd poller = {.fd = moult_channel_wake_fd(worker->channel), .events = POLLIN};
    if (poll(&poller, 1, WAIT_MS) != 1)
        fail_msg("The worker has been silent for %d s.", WAIT_MS / 1000);
    moult_channel_wake_clear(worker->channel);
}

static struct moult_worker_report wait_for_state(struct worker *worker,
                                                 enum moult_worker_state state) {
    struct moult_worker_report report;
    for (;;) {
        moult_channel_report(worker->channel, &report);
        if (report.state == state)
            return report;
        if (report.state == MOULT_WORKER_FAILED)
            fail_msg("The worker failed: %s", report.failure);
        wait_for_wake(worker);
    }
}

static int wait_for_exit(struct worker *worker) {
    int status;
    assert_int_equal(worker->pid, waitpid(worker->pid, &status, 0));
    moult_channel_close(worker->channel);
    return status;
}

static void stop(struct worker *worker) {
    moult_channel_ask_exit(worker->channel);
    int status = wait_for_exit(worker);
    assert_true(WIFEXITED(status));
    assert_int_equal(0, WEXITSTATUS(status));
}

/* What was asked in each slot of whichever worker: it says how the answer is to be read. */
static struct {
    char *message;
    size_t size;
} questions[MOULT_CHANNEL_SLOTS];

static void note_question(int slot, char *message, size_t size) {
    if (slot >= 0) {
        free(questions[slot].message);
        questions[slot].message = message;
        questions[slot].size = size;
    } else {
        free(message);
    }
}

/* The message becomes the test's. */
static int submit_message(struct worker *worker, enum moult_lane lane, char *message,
                          size_t size) {
    size_t capacity = moult_answer_bytes_max(message, size, C);
    int slot = moult_channel_submit(worker->channel, lane, message, size, capacity);
    note_question(slot, message, size);
    return slot;
}

static int submit(struct worker *worker, const struct moult_text *list, uint32_t count,
                  const struct moult_embed_options *options) {
    size_t size;
    char *message = moult_embed_request_write(list, count, options, &bare, &size);
    enum moult_lane lane = count == 1 ? MOULT_LANE_SINGLE : MOULT_LANE_BATCH;
    return submit_message(worker, lane, message, size);
}

/* The next finished request, as its answer. */
static int next_answer(struct worker *worker, struct moult_answer_view *view) {
    const char *block;
    size_t capacity;
    bool broken;
    struct moult_error error;
    int slot;
    while ((slot = moult_channel_completed(worker->channel, &block, &capacity, &broken)) < 0) {
        assert_false(broken);
        wait_for_wake(worker);
    }
    if (moult_answer_read(block, capacity, questions[slot].message, questions[slot].size, C, view,
                          &error) != 0)
        fail_msg("%s", error.message);
    return slot;
}

static void finish_answer(struct worker *worker, int slot, struct moult_answer_view *view) {
    moult_answer_view_release(view);
    moult_channel_release(worker->channel, slot);
}

#endif
