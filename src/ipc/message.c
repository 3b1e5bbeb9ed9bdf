/* An embedding request, as it lies in the request area:
 *
 *     0                     struct request_head
 *     32                    before, between, after: each with a NUL
 *     (up to 4)             text sizes [count] u32
 *     …                     texts, end to end
 *
 * and an answer, as it lies in its block:
 *
 *     0                     struct answer_head
 *     304                   cells [count] of 16 bytes
 *     …                     the cells' bytes; cell i begins at a place that depends
 *                           on i alone, so that threads write them side by side
 */
#include "ipc/message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "ipc/port.h"

#define FRAME_BYTES_MAX 255
#define REQUEST_TEXT_BYTES_MAX (2 * MOULT_BODY_BYTES_MAX)

enum { FLAG_UNIT = 1, FLAG_RAW = 2, FLAG_NUMBERED = 4, FLAG_COMMAS = 8, FLAGS_ALL = 15 };

struct request_head {
    uint32_t size;             /* Of the whole message. */
    uint32_t count;
    uint32_t texts_bytes;
    uint32_t dimensions;
    uint8_t prompt, format, overlong, flags;
    uint16_t before_bytes, between_bytes, after_bytes;   /* Without the NUL. */
    uint16_t reserved[3];      /* 0 */
};

struct answer_head {
    uint32_t status;
    uint32_t count;
    uint32_t message_text;
    uint32_t reserved;
    uint64_t queue_ns, tokenize_ns, compute_ns;
    uint64_t reserved_words;
    char message[256];
};

static_assert(sizeof(struct request_head) == 32, "Byte table.");
static_assert(sizeof(struct answer_head) == 304, "Byte table.");
static_assert(sizeof(struct moult_answer_cell) == 16, "Byte table.");

/* Requests. */

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static char *put_string(char *at, const char *text, size_t size) {
    memcpy(at, text, size + 1);
    return at + size + 1;
}

char *moult_embed_request_write(const struct moult_text *texts, uint32_t count,
                                const struct moult_embed_options *options,
                                const struct moult_cell_frame *frame, size_t *size) {
    size_t before = strlen(frame->before), between = strlen(frame->between);
    size_t after = strlen(frame->after), texts_bytes = 0;
    MOULT_REQUIRE(count >= 1 && count <= MOULT_TEXTS_PER_REQUEST_MAX);
    MOULT_REQUIRE(before <= FRAME_BYTES_MAX && between <= FRAME_BYTES_MAX);
    MOULT_REQUIRE(after <= FRAME_BYTES_MAX);
    for (uint32_t i = 0; i < count; i++)
        texts_bytes += texts[i].size;
    MOULT_REQUIRE(texts_bytes <= REQUEST_TEXT_BYTES_MAX);

    size_t strings_end = sizeof(struct request_head) + before + between + after + 3;
    size_t sizes_at = round_up(strings_end, 4);
    size_t texts_at = sizes_at + (size_t)count * 4;
    *size = texts_at + texts_bytes;
    char *message = moult_allocate(1, *size);

    struct request_head head = {
        .size = (uint32_t)*size,
        .count = count,
        .texts_bytes = (uint32_t)texts_bytes,
        .dimensions = options->dimensions,
        .prompt = (uint8_t)options->prompt,
        .format = (uint8_t)options->format,
        .overlong = (uint8_t)options->overlong,
        .flags = (uint8_t)((options->unit ? FLAG_UNIT : 0) | (options->raw ? FLAG_RAW : 0) |
                           (frame->numbered ? FLAG_NUMBERED : 0) |
                           (frame->commas ? FLAG_COMMAS : 0)),
        .before_bytes = (uint16_t)before,
        .between_bytes = (uint16_t)between,
        .after_bytes = (uint16_t)after,
    };
    memcpy(message, &head, sizeof(head));
    char *at = put_string(message + sizeof(head), frame->before, before);
    at = put_string(at, frame->between, between);
    put_string(at, frame->after, after);

    uint32_t *sizes = (uint32_t *)(void *)(message + sizes_at);
    at = message + texts_at;
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = (uint32_t)texts[i].size;
        if (texts[i].size > 0)
            memcpy(at, texts[i].bytes, texts[i].size);
        at += texts[i].size;
    }
    return message;
}

static int broken_request(struct moult_error *error, const char *what) {
    return moult_fail(error, MOULT_ERROR_INVALID, "An embedding request is broken: %s.", what);
}

static int check_head(const struct request_head *head, size_t size, struct moult_error *error) {
    if (head->size != size)
        return broken_request(error, "its size is not that of its message");
    if (head->count < 1 || head->count > MOULT_TEXTS_PER_REQUEST_MAX)
        return broken_request(error, "it has no texts or too many");
    if (head->prompt > MOULT_PROMPT_DOCUMENT || head->format > MOULT_VECTOR_F32 ||
        head->overlong > MOULT_OVERLONG_ERROR || (head->flags & ~FLAGS_ALL) != 0)
        return broken_request(error, "an option has no meaning");
    if (head->dimensions > MOULT_DIMENSIONS_MAX)
        return broken_request(error, "no vector has so many dimensions");
    if (head->before_bytes > FRAME_BYTES_MAX || head->between_bytes > FRAME_BYTES_MAX ||
        head->after_bytes > FRAME_BYTES_MAX)
        return broken_request(error, "its frame is too long");
    return 0;
}

/* The string of `bytes` at `at`, or NULL where it does not end there and only there. */
static const char *get_string(const char *at, size_t bytes) {
    return memchr(at, '\0', bytes + 1) == at + bytes ? at : NULL;
}

int moult_embed_request_read(const void *message, size_t size,
                             struct moult_embed_request_view *view, struct moult_error *error) {
    const char *bytes = message;
    struct request_head head;
    if (size < sizeof(head) || (uintptr_t)message % 4 != 0)
        return broken_request(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if (check_head(&head, size, error) != 0)
        return -1;

    size_t strings_bytes = (size_t)head.before_bytes + head.between_bytes + head.after_bytes + 3;
    size_t sizes_at = round_up(sizeof(head) + strings_bytes, 4);
    size_t texts_at = sizes_at + (size_t)head.count * 4;
    if (texts_at > size || head.texts_bytes != size - texts_at)
        return broken_request(error, "its parts do not fill it");
    const char *before = get_string(bytes + sizeof(head), head.before_bytes);
    const char *between =
        before ? get_string(before + head.before_bytes + 1, head.between_bytes) : NULL;
    const char *after =
        between ? get_string(between + head.between_bytes + 1, head.after_bytes) : NULL;
    if (!after)
        return broken_request(error, "a string of its frame does not end where it should");

    const uint32_t *sizes = (const uint32_t *)(const void *)(bytes + sizes_at);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < head.count; i++)
        sum += sizes[i];
    if (sum != head.texts_bytes)
        return broken_request(error, "the sizes of its texts do not add up");

    *view = (struct moult_embed_request_view){
        .count = head.count,
        .options = {.prompt = head.prompt,
                    .format = head.format,
                    .overlong = head.overlong,
                    .unit = head.flags & FLAG_UNIT,
                    .raw = head.flags & FLAG_RAW,
                    .dimensions = head.dimensions},
        .frame = {.before = before,
                  .between = between,
                  .after = after,
                  .numbered = head.flags & FLAG_NUMBERED,
                  .commas = head.flags & FLAG_COMMAS},
        .text_sizes = sizes,
        .texts = bytes + texts_at,
    };
    return 0;
}

/* Answers. */

size_t moult_answer_cells_begin(uint32_t count) {
    return round_up(sizeof(struct answer_head) + (size_t)count * sizeof(struct moult_answer_cell),
                    64);
}

size_t moult_embed_answer_bytes_max(uint32_t count, const struct moult_embed_options *options,
                                    const struct moult_cell_frame *frame, uint32_t C) {
    return moult_answer_cells_begin(count) +
           (size_t)count * moult_cell_bytes_max(options, frame, C);
}

struct moult_answer_cell *moult_answer_cells(char *block, size_t capacity, uint32_t count) {
    MOULT_REQUIRE(capacity >= moult_answer_cells_begin(count));
    return (struct moult_answer_cell *)(void *)(block + sizeof(struct answer_head));
}

void moult_answer_write(char *block, size_t capacity, enum moult_answer_status status,
                        uint32_t count, const struct moult_answer_times *times,
                        const char *message, uint32_t message_text) {
    struct answer_head head = {
        .status = status,
        .count = status == MOULT_ANSWER_OK ? count : 0,
        .message_text = message_text,
        .queue_ns = times->queue_ns,
        .tokenize_ns = times->tokenize_ns,
        .compute_ns = times->compute_ns,
    };
    MOULT_REQUIRE(capacity >= sizeof(head));
    size_t size = strnlen(message, sizeof(head.message) - 1);
    memcpy(head.message, message, size);
    memcpy(block, &head, sizeof(head));
}

static int broken_answer(struct moult_error *error, const char *what) {
    return moult_fail(error, MOULT_ERROR_SYSTEM, "A worker's answer is broken: %s.", what);
}

static int copy_cells(struct moult_answer_view *view, size_t capacity, struct moult_error *error) {
    size_t table_bytes = (size_t)view->count * sizeof(struct moult_answer_cell);
    size_t begin = moult_answer_cells_begin(view->count);
    if (capacity < begin)
        return broken_answer(error, "its table does not fit into its block");
    view->cells = moult_allocate(view->count, sizeof(struct moult_answer_cell));
    memcpy(view->cells, view->block + sizeof(struct answer_head), table_bytes);
    for (uint32_t i = 0; i < view->count; i++) {
        const struct moult_answer_cell *cell = &view->cells[i];
        if (cell->offset < begin || cell->offset > capacity ||
            cell->size > capacity - cell->offset)
            return broken_answer(error, "a cell lies outside of its block");
        if (cell->tokens > MOULT_TOKENS_PER_TEXT_MAX || cell->truncated > 1)
            return broken_answer(error, "a cell counts what cannot be");
        view->tokens += cell->tokens;
        view->truncated += cell->truncated;
    }
    return 0;
}

int moult_answer_read(const char *block, size_t capacity, uint32_t count,
                      struct moult_answer_view *view, struct moult_error *error) {
    struct answer_head head;
    *view = (struct moult_answer_view){.block = block, .message_text = UINT32_MAX};
    if (capacity < sizeof(head))
        return broken_answer(error, "it is too short");
    memcpy(&head, block, sizeof(head));
    if (head.status > MOULT_ANSWER_FAILED)
        return broken_answer(error, "its status has no meaning");

    view->status = (enum moult_answer_status)head.status;
    view->times = (struct moult_answer_times){.queue_ns = head.queue_ns,
                                              .tokenize_ns = head.tokenize_ns,
                                              .compute_ns = head.compute_ns};
    if (view->status != MOULT_ANSWER_OK) {
        memcpy(view->message, head.message, sizeof(view->message));
        view->message[sizeof(view->message) - 1] = '\0';
        if (head.message_text < count)
            view->message_text = head.message_text;
        return 0;
    }
    if (head.count != count)
        return broken_answer(error, "it has another number of vectors than there were texts");
    view->count = count;
    if (copy_cells(view, capacity, error) != 0) {
        moult_answer_view_release(view);
        return -1;
    }
    return 0;
}

void moult_answer_view_release(struct moult_answer_view *view) {
    free(view->cells);
    view->cells = NULL;
    view->count = 0;
}
