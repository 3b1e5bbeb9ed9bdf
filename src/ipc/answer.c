/* An answer, as it lies in its block:
 *
 *     0       struct answer_head
 *     304     cells [count] of 16 bytes
 *     (up to 64)  the cells' bytes; cell i begins at a place that depends on the request alone, so
 *             that threads write them side by side
 *
 * The bytes of a cell are, by the kind of the request:
 *
 *     EMBED   a piece of the body of a response (message.h, cell.c)
 *     SEARCH  the query's vector [C] f32, where it was asked for; struct moult_found, [≤ hits_max]
 *     CUT     struct moult_range, [1 to chunks_max()]
 *     FOLLOW  one cell for all: row numbers u32, [≤ count + MOULT_UNREAD_MORE] */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "ipc/port.h"

/* A product of two unit vectors, rounded. */
#define SCORE_MAX 1.01f

struct answer_head {
    uint32_t status;
    uint32_t count;
    uint32_t message_text;
    uint32_t reserved;
    uint64_t queue_ns, tokenize_ns, compute_ns, search_ns;
    char message[256];
};

static_assert(sizeof(struct answer_head) == 304, "Byte table.");
static_assert(sizeof(struct moult_answer_cell) == 16, "Byte table.");
static_assert(sizeof(struct moult_found) == 16, "Byte table.");
static_assert(sizeof(struct moult_range) == 8, "Byte table.");

/* Sizes. */

/* Of a text of `size` bytes. A character becomes three at most when it is taken apart, so no text
 * has more tokens than three times its bytes. Of what a chunk has room for, prompt and special
 * tokens leave half at least (worker/cut.c refuses what does not), and any two chunks after one
 * another get further by an eighth of that at least. */
static size_t chunks_max(size_t size, uint32_t tokens) {
    return 2 + 8 * (3 * size / (tokens / 2) + 1);
}

size_t moult_answer_cell_room(const struct moult_request_view *request, uint32_t index,
                              uint32_t C) {
    const struct moult_search_options *search = &request->search;
    switch (request->kind) {
    case MOULT_REQUEST_EMBED:
        return moult_cell_bytes_max(&request->options, &request->frame, C);
    case MOULT_REQUEST_SEARCH:
        return (search->with_vector ? C * sizeof(float) : 0) +
               search->hits_max * sizeof(struct moult_found);
    case MOULT_REQUEST_CUT:
        return chunks_max(request->text_sizes[index], request->cut.tokens) *
               sizeof(struct moult_range);
    case MOULT_REQUEST_FOLLOW:
        return ((size_t)request->count + MOULT_UNREAD_MORE) * sizeof(uint32_t);
    }
    return 0;
}

uint32_t moult_answer_cells_of(const struct moult_request_view *request) {
    return request->kind == MOULT_REQUEST_FOLLOW ? 1 : request->count;
}

size_t moult_answer_cells_begin(uint32_t count) {
    size_t size = sizeof(struct answer_head) + (size_t)count * sizeof(struct moult_answer_cell);
    return (size + 63) / 64 * 64;
}

size_t moult_answer_room(const struct moult_request_view *request, uint32_t C) {
    uint32_t count = moult_answer_cells_of(request);
    size_t size = moult_answer_cells_begin(count);
    if (request->kind != MOULT_REQUEST_CUT)
        return size + count * moult_answer_cell_room(request, 0, C);
    for (uint32_t i = 0; i < count; i++)
        size += moult_answer_cell_room(request, i, C);
    return size;
}

size_t moult_answer_bytes_max(const void *message, size_t size, uint32_t C) {
    struct moult_request_view request;
    MOULT_REQUIRE(moult_request_read(message, size, &request, NULL) == 0);
    return moult_answer_room(&request, C);
}

/* Writing. */

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
        .search_ns = times->search_ns,
    };
    MOULT_REQUIRE(capacity >= sizeof(head));
    size_t size = strnlen(message, sizeof(head.message) - 1);
    memcpy(head.message, message, size);
    memcpy(block, &head, sizeof(head));
}

/* Reading. */

static int broken(struct moult_error *error, const char *what) {
    return moult_fail(error, MOULT_ERROR_SYSTEM, "A worker's answer is broken: %s.", what);
}

static int copy_cells(struct moult_answer_view *view, size_t capacity, struct moult_error *error) {
    size_t table_bytes = (size_t)view->count * sizeof(struct moult_answer_cell);
    size_t begin = moult_answer_cells_begin(view->count);
    if (capacity < begin)
        return broken(error, "its table does not fit into its block");
    view->cells = moult_allocate(view->count, sizeof(struct moult_answer_cell));
    memcpy(view->cells, view->block + sizeof(struct answer_head), table_bytes);
    for (uint32_t i = 0; i < view->count; i++) {
        const struct moult_answer_cell *cell = &view->cells[i];
        if (cell->offset < begin || cell->offset > capacity ||
            cell->size > capacity - cell->offset)
            return broken(error, "a cell lies outside of its block");
        if (cell->tokens > MOULT_TOKENS_PER_TEXT_MAX || cell->truncated > 1)
            return broken(error, "a cell counts what cannot be");
        view->tokens += cell->tokens;
        view->truncated += cell->truncated;
    }
    return 0;
}

/* How many items of `size` bytes each cell has behind its first `skipped` bytes, at most so many:
 * fills ends, and returns their sum, or -1. */
static int64_t count_items(struct moult_answer_view *view, size_t skipped, size_t size,
                           const struct moult_request_view *request, uint32_t C) {
    uint64_t sum = 0;
    view->ends = moult_allocate(view->count, sizeof(*view->ends));
    for (uint32_t i = 0; i < view->count; i++) {
        size_t bytes = view->cells[i].size;
        if (bytes < skipped || (bytes - skipped) % size != 0 ||
            bytes > moult_answer_cell_room(request, i, C))
            return -1;
        sum += (bytes - skipped) / size;
        if (sum > UINT32_MAX)
            return -1;
        view->ends[i] = (uint32_t)sum;
    }
    return (int64_t)sum;
}

static uint32_t begin_of(const struct moult_answer_view *view, uint32_t index) {
    return index > 0 ? view->ends[index - 1] : 0;
}

/* Copies what each cell has behind its first `skipped` bytes to `out`, end to end. */
static void copy_items(const struct moult_answer_view *view, size_t skipped, char *out) {
    for (uint32_t i = 0; i < view->count; i++) {
        size_t bytes = view->cells[i].size - skipped;
        memcpy(out, view->block + view->cells[i].offset + skipped, bytes);
        out += bytes;
    }
}

static bool is_finite(const float *values, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(values[i]))
            return false;
    return true;
}

static bool are_hits(const struct moult_found *found, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        if (found[i].seq == 0 || !(fabsf(found[i].score) <= SCORE_MAX) ||
            (i > 0 && found[i].score > found[i - 1].score))
            return false;
    return true;
}

static int read_found(struct moult_answer_view *view, const struct moult_request_view *request,
                      uint32_t C, struct moult_error *error) {
    size_t vector_bytes = request->search.with_vector ? C * sizeof(float) : 0;
    int64_t sum = count_items(view, vector_bytes, sizeof(struct moult_found), request, C);
    if (sum < 0)
        return broken(error, "no list of hits has such a size");
    view->found = moult_allocate((size_t)sum + 1, sizeof(*view->found));
    copy_items(view, vector_bytes, (char *)view->found);
    for (uint32_t i = 0; i < view->count; i++)
        if (!are_hits(view->found + begin_of(view, i), view->ends[i] - begin_of(view, i)))
            return broken(error, "its hits are none");
    if (vector_bytes == 0)
        return 0;
    view->vectors = moult_allocate((size_t)view->count * C, sizeof(float));
    for (uint32_t i = 0; i < view->count; i++)
        memcpy(view->vectors + (size_t)i * C, view->block + view->cells[i].offset, vector_bytes);
    return is_finite(view->vectors, (size_t)view->count * C)
               ? 0 : broken(error, "a vector has numbers that are not finite");
}

static bool is_border(const char *text, uint32_t size, uint32_t at) {
    return at == size || ((unsigned char)text[at] & 0xC0) != 0x80;
}

/* From the beginning of the text to its end, each further than the one before, without a gap. */
static bool are_chunks(const struct moult_range *ranges, uint32_t count, const char *text,
                       uint32_t size) {
    if (count == 0 || ranges[0].begin != 0 || ranges[count - 1].end != size)
        return false;
    for (uint32_t i = 0; i < count; i++) {
        if (ranges[i].end > size || ranges[i].begin > ranges[i].end ||
            !is_border(text, size, ranges[i].begin) || !is_border(text, size, ranges[i].end))
            return false;
        if (i > 0 && (ranges[i].begin <= ranges[i - 1].begin ||
                      ranges[i].begin > ranges[i - 1].end || ranges[i].end <= ranges[i - 1].end))
            return false;
    }
    return true;
}

static int read_ranges(struct moult_answer_view *view, const struct moult_request_view *request,
                       struct moult_error *error) {
    const char *text = request->texts;
    int64_t sum = count_items(view, 0, sizeof(struct moult_range), request, 0);
    if (sum < 0)
        return broken(error, "no list of chunks has such a size");
    view->ranges = moult_allocate((size_t)sum + 1, sizeof(*view->ranges));
    copy_items(view, 0, (char *)view->ranges);
    for (uint32_t i = 0; i < view->count; i++) {
        uint32_t begin = begin_of(view, i), size = request->text_sizes[i];
        if (!are_chunks(view->ranges + begin, view->ends[i] - begin, text, size))
            return broken(error, "its chunks are not the text");
        text += size;
    }
    return 0;
}

static int read_unread(struct moult_answer_view *view, const struct moult_request_view *request,
                       struct moult_error *error) {
    int64_t sum = count_items(view, 0, sizeof(uint32_t), request, 0);
    if (sum < 0)
        return broken(error, "no list of rows has such a size");
    view->unread = moult_allocate((size_t)sum + 1, sizeof(*view->unread));
    view->unread_count = (uint32_t)sum;
    copy_items(view, 0, (char *)view->unread);
    return 0;
}

static int read_cells(struct moult_answer_view *view, const struct moult_request_view *request,
                      size_t capacity, uint32_t C, struct moult_error *error) {
    if (copy_cells(view, capacity, error) != 0)
        return -1;
    switch (request->kind) {
    case MOULT_REQUEST_EMBED:
        return 0;
    case MOULT_REQUEST_SEARCH:
        return read_found(view, request, C, error);
    case MOULT_REQUEST_CUT:
        return read_ranges(view, request, error);
    case MOULT_REQUEST_FOLLOW:
        return read_unread(view, request, error);
    }
    return -1;
}

int moult_answer_read(const char *block, size_t capacity, const void *message,
                      size_t message_size, uint32_t C, struct moult_answer_view *view,
                      struct moult_error *error) {
    struct moult_request_view request;
    struct answer_head head;
    *view = (struct moult_answer_view){.block = block, .message_text = UINT32_MAX};
    MOULT_REQUIRE(moult_request_read(message, message_size, &request, NULL) == 0);
    if (capacity < sizeof(head))
        return broken(error, "it is too short");
    memcpy(&head, block, sizeof(head));
    bool searches = request.kind == MOULT_REQUEST_SEARCH;
    if (head.status > (uint32_t)(searches ? MOULT_ANSWER_NOT_YET : MOULT_ANSWER_FAILED))
        return broken(error, "its status has no meaning");

    view->status = (enum moult_answer_status)head.status;
    view->times = (struct moult_answer_times){.queue_ns = head.queue_ns,
                                              .tokenize_ns = head.tokenize_ns,
                                              .compute_ns = head.compute_ns,
                                              .search_ns = head.search_ns};
    if (view->status != MOULT_ANSWER_OK) {
        memcpy(view->message, head.message, sizeof(view->message));
        view->message[sizeof(view->message) - 1] = '\0';
        if (head.message_text < request.count)
            view->message_text = head.message_text;
        return 0;
    }
    if (head.count != moult_answer_cells_of(&request))
        return broken(error, "it has another number of cells than there were texts");
    view->count = head.count;
    if (read_cells(view, &request, capacity, C, error) != 0) {
        moult_answer_view_release(view);
        return -1;
    }
    return 0;
}

void moult_answer_view_release(struct moult_answer_view *view) {
    free(view->cells);
    free(view->ends);
    free(view->found);
    free(view->ranges);
    free(view->vectors);
    free(view->unread);
    view->cells = NULL;
    view->ends = view->unread = NULL;
    view->found = NULL;
    view->ranges = NULL;
    view->vectors = NULL;
    view->count = view->unread_count = 0;
}
