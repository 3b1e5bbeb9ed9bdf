/* The four requests, as they lie in the request area. All begin with struct request_head; what is
 * said to be "up to" a number is padded with zeros to a multiple of it. The texts are the last part
 * of those that have any: their sizes, [count] u32, and then all of them end to end.
 *
 *     EMBED    0    struct embed_head
 *              32   before, between, after: each with a NUL
 *              (up to 4)  sizes, texts
 *
 *     SEARCH   0    struct search_head
 *              48   allowed [(allowed_bits + 63) / 64] u64
 *              …    vectors [count][C] f32         where C > 0; else
 *              …    sizes, texts
 *
 *     CUT      0    struct cut_head
 *              24   sizes, texts
 *
 *     FOLLOW   0    struct follow_head
 *              24   changes [count] of 24 bytes */
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "ipc/port.h"

#define FRAME_BYTES_MAX 255
#define REQUEST_TEXT_BYTES_MAX (2 * MOULT_BODY_BYTES_MAX)

struct request_head {
    uint32_t size;             /* Of the whole message. */
    uint32_t kind;
    uint32_t count;
    uint32_t texts_bytes;      /* 0 where there are no texts. */
};

struct embed_head {
    struct request_head head;
    uint32_t dimensions;
    uint8_t prompt, format, overlong, flags;
    uint16_t before_bytes, between_bytes, after_bytes;   /* Without the NUL. */
    uint16_t reserved;         /* 0 */
};

struct search_head {
    struct request_head head;
    uint32_t collection, hits_max;
    float score_min;
    uint32_t allowed_bits;
    uint32_t C;
    uint8_t overlong, flags;
    uint8_t reserved[10];      /* 0 */
};

struct cut_head {
    struct request_head head;
    uint32_t tokens, overlap;
};

struct follow_head {
    struct request_head head;
    uint32_t flags;
    uint32_t reserved;         /* 0 */
};

enum { EMBED_UNIT = 1, EMBED_RAW = 2, EMBED_NUMBERED = 4, EMBED_COMMAS = 8, EMBED_FLAGS = 15 };
enum { SEARCH_VECTOR = 1, SEARCH_FILTERED = 2, SEARCH_FLAGS = 3 };
enum { FOLLOW_COMPLETE = 1, FOLLOW_FLAGS = 1 };

static_assert(sizeof(struct request_head) == 16, "Byte table.");
static_assert(sizeof(struct embed_head) == 32, "Byte table.");
static_assert(sizeof(struct search_head) == 48, "Byte table.");
static_assert(sizeof(struct cut_head) == 24, "Byte table.");
static_assert(sizeof(struct follow_head) == 24, "Byte table.");
static_assert(sizeof(struct moult_change) == 24, "Byte table.");

/* Writing. */

static size_t round_up(size_t size, size_t unit) {
    return (size + unit - 1) / unit * unit;
}

static size_t add_sizes(const struct moult_text *texts, uint32_t count) {
    size_t bytes = 0;
    MOULT_REQUIRE(count >= 1 && count <= MOULT_TEXTS_PER_REQUEST_MAX);
    for (uint32_t i = 0; i < count; i++)
        bytes += texts[i].size;
    MOULT_REQUIRE(bytes <= REQUEST_TEXT_BYTES_MAX);
    return bytes;
}

/* Zeroed, with its head filled; `before_texts` is a multiple of 4 where there are texts. */
static char *begin_message(enum moult_request_kind kind, uint32_t count, size_t before_texts,
                           const struct moult_text *texts, size_t *size) {
    size_t texts_bytes = texts ? add_sizes(texts, count) : 0;
    *size = before_texts + (texts ? count * sizeof(uint32_t) : 0) + texts_bytes;
    MOULT_REQUIRE(*size <= UINT32_MAX);
    char *message = moult_allocate(1, *size);
    struct request_head head = {.size = (uint32_t)*size,
                                .kind = kind,
                                .count = count,
                                .texts_bytes = (uint32_t)texts_bytes};
    memcpy(message, &head, sizeof(head));
    if (!texts)
        return message;
    uint32_t *sizes = (uint32_t *)(void *)(message + before_texts);
    char *at = (char *)(sizes + count);
    for (uint32_t i = 0; i < count; i++) {
        sizes[i] = (uint32_t)texts[i].size;
        if (texts[i].size > 0)
            memcpy(at, texts[i].bytes, texts[i].size);
        at += texts[i].size;
    }
    return message;
}

/* Writes what a head has behind its request_head. */
static void put_head(char *message, const void *head, size_t size) {
    memcpy(message + sizeof(struct request_head), (const char *)head + sizeof(struct request_head),
           size - sizeof(struct request_head));
}

static char *put_string(char *at, const char *text, size_t size) {
    memcpy(at, text, size + 1);
    return at + size + 1;
}

char *moult_embed_request_write(const struct moult_text *texts, uint32_t count,
                                const struct moult_embed_options *options,
                                const struct moult_cell_frame *frame, size_t *size) {
    size_t before = strlen(frame->before), between = strlen(frame->between);
    size_t after = strlen(frame->after);
    MOULT_REQUIRE(before <= FRAME_BYTES_MAX && between <= FRAME_BYTES_MAX);
    MOULT_REQUIRE(after <= FRAME_BYTES_MAX);
    struct embed_head head = {
        .dimensions = options->dimensions,
        .prompt = (uint8_t)options->prompt,
        .format = (uint8_t)options->format,
        .overlong = (uint8_t)options->overlong,
        .flags = (uint8_t)((options->unit ? EMBED_UNIT : 0) | (options->raw ? EMBED_RAW : 0) |
                           (frame->numbered ? EMBED_NUMBERED : 0) |
                           (frame->commas ? EMBED_COMMAS : 0)),
        .before_bytes = (uint16_t)before,
        .between_bytes = (uint16_t)between,
        .after_bytes = (uint16_t)after,
    };
    size_t texts_at = round_up(sizeof(head) + before + between + after + 3, 4);
    char *message = begin_message(MOULT_REQUEST_EMBED, count, texts_at, texts, size);
    put_head(message, &head, sizeof(head));
    char *at = put_string(message + sizeof(head), frame->before, before);
    at = put_string(at, frame->between, between);
    put_string(at, frame->after, after);
    return message;
}

static size_t allowed_bytes(uint32_t bits) {
    return ((size_t)bits + 63) / 64 * sizeof(uint64_t);
}

char *moult_search_request_write(const struct moult_text *texts, uint32_t count,
                                 const struct moult_search_options *options, size_t *size) {
    MOULT_REQUIRE((texts == NULL) == (options->vectors != NULL));
    MOULT_REQUIRE(options->hits_max >= 1 && options->hits_max <= MOULT_HITS_MAX);
    MOULT_REQUIRE(isfinite(options->score_min) && count <= MOULT_TEXTS_PER_REQUEST_MAX);
    struct search_head head = {
        .collection = options->collection,
        .hits_max = options->hits_max,
        .score_min = options->score_min,
        .allowed_bits = options->allowed ? options->allowed_bits : 0,
        .C = options->vectors ? options->C : 0,
        .overlong = (uint8_t)options->overlong,
        .flags = (uint8_t)((options->with_vector ? SEARCH_VECTOR : 0) |
                           (options->allowed ? SEARCH_FILTERED : 0)),
    };
    MOULT_REQUIRE(head.allowed_bits <= MOULT_FILTER_ROWS_MAX && head.C <= MOULT_DIMENSIONS_MAX);
    size_t filter_bytes = allowed_bytes(head.allowed_bits);
    size_t vectors_bytes = (size_t)count * head.C * sizeof(float);
    char *message = begin_message(MOULT_REQUEST_SEARCH, count,
                                  sizeof(head) + filter_bytes + vectors_bytes, texts, size);
    put_head(message, &head, sizeof(head));
    if (filter_bytes > 0)
        memcpy(message + sizeof(head), options->allowed, filter_bytes);
    if (vectors_bytes > 0)
        memcpy(message + sizeof(head) + filter_bytes, options->vectors, vectors_bytes);
    return message;
}

char *moult_cut_request_write(const struct moult_text *texts, uint32_t count,
                              const struct moult_cut_options *options, size_t *size) {
    MOULT_REQUIRE(options->tokens >= MOULT_CHUNK_TOKENS_MIN);
    MOULT_REQUIRE(options->tokens <= MOULT_TOKENS_PER_TEXT_MAX);
    struct cut_head head = {.tokens = options->tokens, .overlap = options->overlap};
    char *message = begin_message(MOULT_REQUEST_CUT, count, sizeof(head), texts, size);
    put_head(message, &head, sizeof(head));
    return message;
}

char *moult_follow_request_write(const struct moult_change *changes, uint32_t count, bool complete,
                                 size_t *size) {
    MOULT_REQUIRE(count <= MOULT_CHANGES_MAX && (count > 0 || complete));
    struct follow_head head = {.flags = complete ? FOLLOW_COMPLETE : 0};
    size_t changes_bytes = count * sizeof(*changes);
    char *message =
        begin_message(MOULT_REQUEST_FOLLOW, count, sizeof(head) + changes_bytes, NULL, size);
    put_head(message, &head, sizeof(head));
    if (changes_bytes > 0)
        memcpy(message + sizeof(head), changes, changes_bytes);
    return message;
}

/* Reading. */

static int broken(struct moult_error *error, const char *what) {
    return moult_fail(error, MOULT_ERROR_INVALID, "A request is broken: %s.", what);
}

/* The sizes at `at` and the texts behind them, which fill the message. */
static int read_texts(const char *message, size_t size, size_t at,
                      const struct request_head *head, struct moult_request_view *view,
                      struct moult_error *error) {
    size_t texts_at = at + (size_t)head->count * sizeof(uint32_t);
    if (texts_at > size || head->texts_bytes != size - texts_at)
        return broken(error, "its parts do not fill it");
    const uint32_t *sizes = (const uint32_t *)(const void *)(message + at);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < head->count; i++)
        sum += sizes[i];
    if (sum != head->texts_bytes)
        return broken(error, "the sizes of its texts do not add up");
    view->text_sizes = sizes;
    view->texts = message + texts_at;
    return 0;
}

/* The string of `bytes` at `at`, or NULL where it does not end there and only there. */
static const char *get_string(const char *at, size_t bytes) {
    return memchr(at, '\0', bytes + 1) == at + bytes ? at : NULL;
}

static int read_frame(const char *message, size_t size, const struct embed_head *head,
                      struct moult_cell_frame *frame, size_t *end, struct moult_error *error) {
    if (head->before_bytes > FRAME_BYTES_MAX || head->between_bytes > FRAME_BYTES_MAX ||
        head->after_bytes > FRAME_BYTES_MAX)
        return broken(error, "its frame is too long");
    size_t bytes = (size_t)head->before_bytes + head->between_bytes + head->after_bytes + 3;
    *end = round_up(sizeof(*head) + bytes, 4);
    if (*end > size)
        return broken(error, "its parts do not fill it");
    const char *before = get_string(message + sizeof(*head), head->before_bytes);
    const char *between = before ? get_string(before + head->before_bytes + 1, head->between_bytes)
                                 : NULL;
    const char *after = between ? get_string(between + head->between_bytes + 1, head->after_bytes)
                                : NULL;
    if (!after)
        return broken(error, "a string of its frame does not end where it should");
    *frame = (struct moult_cell_frame){.before = before,
                                       .between = between,
                                       .after = after,
                                       .numbered = head->flags & EMBED_NUMBERED,
                                       .commas = head->flags & EMBED_COMMAS};
    return 0;
}

static int read_embed(const char *message, size_t size, struct moult_request_view *view,
                      struct moult_error *error) {
    struct embed_head head;
    size_t texts_at = 0;
    if (size < sizeof(head))
        return broken(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if (head.prompt > MOULT_PROMPT_DOCUMENT || head.format > MOULT_VECTOR_F32 ||
        head.overlong > MOULT_OVERLONG_ERROR || (head.flags & ~EMBED_FLAGS) != 0)
        return broken(error, "an option has no meaning");
    if (head.dimensions > MOULT_DIMENSIONS_MAX)
        return broken(error, "no vector has so many dimensions");
    if (read_frame(message, size, &head, &view->frame, &texts_at, error) != 0)
        return -1;
    view->options = (struct moult_embed_options){.prompt = head.prompt,
                                                 .format = head.format,
                                                 .overlong = head.overlong,
                                                 .unit = head.flags & EMBED_UNIT,
                                                 .raw = head.flags & EMBED_RAW,
                                                 .dimensions = head.dimensions};
    return read_texts(message, size, texts_at, &head.head, view, error);
}

static int check_search(const struct search_head *head, struct moult_error *error) {
    if (head->hits_max < 1 || head->hits_max > MOULT_HITS_MAX || !isfinite(head->score_min) ||
        head->overlong > MOULT_OVERLONG_ERROR || (head->flags & ~SEARCH_FLAGS) != 0)
        return broken(error, "an option has no meaning");
    if (head->allowed_bits > MOULT_FILTER_ROWS_MAX ||
        (head->allowed_bits > 0 && !(head->flags & SEARCH_FILTERED)))
        return broken(error, "its filter has too many rows");
    if (head->C > MOULT_DIMENSIONS_MAX)
        return broken(error, "no vector has so many dimensions");
    return 0;
}

static int read_search(const char *message, size_t size, struct moult_request_view *view,
                       struct moult_error *error) {
    struct search_head head;
    if (size < sizeof(head))
        return broken(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if (check_search(&head, error) != 0)
        return -1;
    size_t vectors_at = sizeof(head) + allowed_bytes(head.allowed_bits);
    size_t vectors_end = vectors_at + (size_t)head.head.count * head.C * sizeof(float);
    if (vectors_end > size)
        return broken(error, "its parts do not fill it");
    view->options = (struct moult_embed_options){.prompt = MOULT_PROMPT_QUERY,
                                                 .format = MOULT_VECTOR_F32,
                                                 .overlong = head.overlong,
                                                 .unit = true};
    view->search = (struct moult_search_options){
        .collection = head.collection,
        .hits_max = head.hits_max,
        .score_min = head.score_min,
        .allowed_bits = head.allowed_bits,
        .overlong = head.overlong,
        .with_vector = head.flags & SEARCH_VECTOR,
        .C = head.C,
    };
    if (head.flags & SEARCH_FILTERED)
        view->search.allowed = (const uint64_t *)(const void *)(message + sizeof(head));
    if (head.C == 0)
        return read_texts(message, size, vectors_at, &head.head, view, error);
    view->search.vectors = (const float *)(const void *)(message + vectors_at);
    return vectors_end == size && head.head.texts_bytes == 0
               ? 0 : broken(error, "its parts do not fill it");
}

static int read_cut(const char *message, size_t size, struct moult_request_view *view,
                    struct moult_error *error) {
    struct cut_head head;
    if (size < sizeof(head))
        return broken(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if (head.tokens < MOULT_CHUNK_TOKENS_MIN || head.tokens > MOULT_TOKENS_PER_TEXT_MAX)
        return broken(error, "no chunk has so many tokens");
    view->cut = (struct moult_cut_options){.tokens = head.tokens, .overlap = head.overlap};
    return read_texts(message, size, sizeof(head), &head.head, view, error);
}

static bool is_change(const struct moult_change *change) {
    bool drop = change->kind == MOULT_CHANGE_DROP, add = change->kind == MOULT_CHANGE_ADD;
    return change->kind <= MOULT_CHANGE_DROP && (change->seq == 0) == drop &&
           (add || (change->row == 0 && change->chunk == 0));
}

static int read_follow(const char *message, size_t size, struct moult_request_view *view,
                       struct moult_error *error) {
    struct follow_head head;
    if (size < sizeof(head))
        return broken(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if ((head.flags & ~FOLLOW_FLAGS) != 0 || (head.head.count == 0 && head.flags == 0))
        return broken(error, "an option has no meaning");
    if (size != sizeof(head) + (size_t)head.head.count * sizeof(struct moult_change) ||
        head.head.texts_bytes != 0)
        return broken(error, "its parts do not fill it");
    view->changes = (const struct moult_change *)(const void *)(message + sizeof(head));
    view->complete = head.flags & FOLLOW_COMPLETE;
    for (uint32_t i = 0; i < head.head.count; i++)
        if (!is_change(&view->changes[i]))
            return broken(error, "a change has no meaning");
    return 0;
}

static uint32_t count_min(uint32_t kind) {
    return kind == MOULT_REQUEST_FOLLOW ? 0 : 1;
}

static uint32_t count_max(uint32_t kind) {
    return kind == MOULT_REQUEST_FOLLOW ? MOULT_CHANGES_MAX : MOULT_TEXTS_PER_REQUEST_MAX;
}

int moult_request_read(const void *message, size_t size, struct moult_request_view *view,
                       struct moult_error *error) {
    static int (*const readers[])(const char *, size_t, struct moult_request_view *,
                                  struct moult_error *) = {
        [MOULT_REQUEST_EMBED] = read_embed,
        [MOULT_REQUEST_SEARCH] = read_search,
        [MOULT_REQUEST_CUT] = read_cut,
        [MOULT_REQUEST_FOLLOW] = read_follow,
    };
    struct request_head head;
    if (size < sizeof(head) || (uintptr_t)message % 8 != 0)
        return broken(error, "it is too short");
    memcpy(&head, message, sizeof(head));
    if (head.size != size)
        return broken(error, "its size is not that of its message");
    if (head.kind > MOULT_REQUEST_FOLLOW)
        return broken(error, "there is no such kind");
    if (head.count < count_min(head.kind) || head.count > count_max(head.kind))
        return broken(error, "it has no texts or too many");
    *view = (struct moult_request_view){.kind = head.kind,
                                        .count = head.count,
                                        .frame = {.before = "", .between = "", .after = ""}};
    return readers[head.kind](message, size, view, error);
}
