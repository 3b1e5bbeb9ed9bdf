/* Shared memory as a hostile worker writes it, read by the front. The input is a
 * script: the front's calls and the worker's writes, in any order. */
#include "ipc/channel.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/limits.h"
#include "ipc/layout.h"
#include "ipc/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Enough of the answer area to reach the first blocks behind its head. */
#define REACH (MOULT_ANSWER_DATA + 64 * 1024)

struct script {
    const uint8_t *at, *end;
    struct moult_channel *channel;
    char *answers;          /* The worker's mapping. */
    bool broken;
};

static uint32_t next(struct script *script, unsigned bytes) {
    uint32_t value = 0;
    for (unsigned i = 0; i < bytes && script->at < script->end; i++)
        value = value << 8 | *script->at++;
    return value;
}

static void submit(struct script *script) {
    static const char message[4096];
    size_t size = next(script, 2) % sizeof(message);
    size_t capacity = next(script, 2) + 1;
    moult_channel_submit(script->channel, size % 2 ? MOULT_LANE_BATCH : MOULT_LANE_SINGLE, message,
                         size, capacity);
}

static void write_word(struct script *script) {
    struct moult_answer_head *head = (struct moult_answer_head *)(void *)script->answers;
    uint32_t where = next(script, 1), value = next(script, 2);
    if (where == 0)
        atomic_store(&head->tail, value);
    else if (where == 1)
        atomic_fetch_add(&head->tail, 1);
    else if (where == 2)
        atomic_store(&head->report_turn, value);
    else if (where == 3)
        atomic_store(&head->started[value % MOULT_CHANNEL_SLOTS], next(script, 1));
    else
        atomic_store(&head->ring[where % 16], value);
}

static void write_bytes(struct script *script) {
    size_t offset = next(script, 3) % REACH;
    size_t count = next(script, 1);
    for (size_t i = 0; i < count && offset + i < REACH && script->at < script->end; i++)
        script->answers[offset + i] = (char)*script->at++;
}

static void write_report(struct script *script) {
    struct moult_answer_head *head = (struct moult_answer_head *)(void *)script->answers;
    size_t offset = next(script, 2) % sizeof(struct moult_worker_report);
    size_t count = next(script, 1);
    char *report = (char *)head->report;
    for (size_t i = 0; i < count && offset + i < sizeof(struct moult_worker_report); i++)
        report[offset + i] = (char)next(script, 1);
}

static void read_answer(const char *block, size_t capacity, uint32_t count) {
    struct moult_text texts[64] = {{.bytes = NULL}};
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    struct moult_cell_frame frame = {.before = "", .between = "", .after = ""};
    struct moult_answer_view view;
    struct moult_error error;
    size_t size;
    char *message = moult_embed_request_write(texts, count, &options, &frame, &size);
    int result = moult_answer_read(block, capacity, message, size, 4, &view, &error);
    free(message);
    if (result != 0) {
        MOULT_REQUIRE(!view.cells);
        return;
    }
    volatile char sink = 0;
    uint64_t tokens = 0;
    for (uint32_t i = 0; i < view.count; i++) {
        const struct moult_answer_cell *cell = &view.cells[i];
        MOULT_REQUIRE(cell->offset <= capacity && cell->size <= capacity - cell->offset);
        if (cell->size > 0)
            sink += view.block[cell->offset] + view.block[cell->offset + cell->size - 1];
        tokens += cell->tokens;
    }
    (void)sink;
    MOULT_REQUIRE(tokens == view.tokens && view.truncated <= view.count);
    MOULT_REQUIRE(strlen(view.message) < sizeof(view.message));
    MOULT_REQUIRE(view.message_text == UINT32_MAX || view.message_text < count);
    moult_answer_view_release(&view);
}

static void drain(struct script *script) {
    uint32_t count = 1 + next(script, 1) % 64;
    const char *block;
    size_t capacity;
    int slot;
    moult_channel_wake_clear(script->channel);
    while ((slot = moult_channel_completed(script->channel, &block, &capacity,
                                           &script->broken)) >= 0) {
        MOULT_REQUIRE(slot < MOULT_CHANNEL_SLOTS);
        moult_channel_started(script->channel, slot);
        read_answer(block, capacity, count);
        moult_channel_release(script->channel, slot);
    }
}

static void read_report(struct script *script) {
    struct moult_worker_report report;
    moult_channel_report(script->channel, &report);
    MOULT_REQUIRE(strnlen(report.failure, sizeof(report.failure)) < sizeof(report.failure));
    MOULT_REQUIRE(strnlen(report.fingerprint, sizeof(report.fingerprint)) <
                  sizeof(report.fingerprint));
    MOULT_REQUIRE(strnlen(report.kernels, sizeof(report.kernels)) < sizeof(report.kernels));
    MOULT_REQUIRE(report.load_progress >= 0 && report.load_progress <= 1);
    MOULT_REQUIRE(report.state != MOULT_WORKER_READY || report.dimensions <= MOULT_DIMENSIONS_MAX);
    moult_channel_progress(script->channel);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static void (*const steps[])(struct script *) = {submit,       write_word, write_bytes,
                                                     write_report, drain,      read_report};
    struct moult_error error;
    struct script script = {.at = data, .end = data + size};
    script.channel = moult_channel_open(&error);
    MOULT_REQUIRE(script.channel);
    int fds[MOULT_CHANNEL_FDS];
    moult_channel_worker_fds(script.channel, fds);
    script.answers = mmap(NULL, REACH, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    MOULT_REQUIRE(script.answers != MAP_FAILED);

    while (script.at < script.end && !script.broken)
        steps[next(&script, 1) % (sizeof(steps) / sizeof(steps[0]))](&script);
    read_report(&script);
    munmap(script.answers, REACH);
    moult_channel_close(script.channel);
    return 0;
}
