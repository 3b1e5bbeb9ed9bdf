/* Any bytes as the answer to a request of any kind, read by the front, which trusts what it has
 * read from then on. The first two bytes choose the request, the rest is the block. */
#include "ipc/message.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "ipc/port.h"

enum { C = 3, HITS_MAX = 4, TEXTS = 3 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct moult_text texts[TEXTS] = {{"na\xc3\xafve words", 12}, {"", 0}, {"x", 1}};

static char *make_request(unsigned kind, unsigned bits, size_t *size) {
    static const float vectors[TEXTS * C] = {1};
    static const struct moult_change changes[] = {{.kind = MOULT_CHANGE_ADD, .seq = 1},
                                                  {.kind = MOULT_CHANGE_REMOVE, .seq = 2}};
    uint32_t count = 1 + bits / 2 % TEXTS;
    struct moult_embed_options embed = {.format = MOULT_VECTOR_F32};
    struct moult_cell_frame frame = {.before = "", .between = "", .after = ""};
    struct moult_search_options search = {
        .hits_max = HITS_MAX, .score_min = -2, .with_vector = bits % 2, .C = C};
    struct moult_cut_options cut = {.tokens = 8};
    switch (kind % 5) {
    case 0:
        return moult_embed_request_write(texts, count, &embed, &frame, size);
    case 1:
        return moult_search_request_write(texts, count, &search, size);
    case 2:
        search.vectors = vectors;
        return moult_search_request_write(NULL, count, &search, size);
    case 3:
        return moult_cut_request_write(texts, count, &cut, size);
    default:
        return moult_follow_request_write(changes, count % 3, true, size);
    }
}

static void walk_found(const struct moult_answer_view *view, uint32_t from, uint32_t end) {
    MOULT_REQUIRE(end - from <= HITS_MAX);
    for (uint32_t i = from; i < end; i++) {
        MOULT_REQUIRE(view->found[i].seq != 0 && fabsf(view->found[i].score) < 1.1f);
        MOULT_REQUIRE(i == from || view->found[i].score <= view->found[i - 1].score);
    }
}

static void walk_ranges(const struct moult_answer_view *view, const struct moult_text *text,
                        uint32_t from, uint32_t end) {
    uint32_t reached = 0;
    MOULT_REQUIRE(from < end);
    for (uint32_t i = from; i < end; i++) {
        const struct moult_range *range = &view->ranges[i];
        MOULT_REQUIRE(range->begin <= reached && range->end <= text->size);
        MOULT_REQUIRE(range->begin <= range->end);
        reached = range->end;
    }
    MOULT_REQUIRE(reached == text->size);
}

static void walk(const struct moult_answer_view *view) {
    MOULT_REQUIRE(strlen(view->message) < sizeof(view->message));
    for (uint32_t i = 0; i < view->count; i++) {
        uint32_t from = view->ends && i > 0 ? view->ends[i - 1] : 0;
        if (view->found)
            walk_found(view, from, view->ends[i]);
        if (view->ranges)
            walk_ranges(view, &texts[i], from, view->ends[i]);
        for (uint32_t c = 0; view->vectors && c < C; c++)
            MOULT_REQUIRE(isfinite(view->vectors[i * C + c]));
    }
    uint64_t sum = 0;
    for (uint32_t i = 0; i < view->unread_count; i++)
        sum += view->unread[i];
    MOULT_REQUIRE(view->unread_count <= 3 + MOULT_UNREAD_MORE);
    MOULT_REQUIRE(view->unread || sum == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_answer_view view;
    struct moult_error error;
    size_t message_size;
    if (size < 2)
        return 0;
    char *message = make_request(data[0], data[1], &message_size);
    char *block = malloc(size - 2 > 0 ? size - 2 : 1);
    MOULT_REQUIRE(block);
    memcpy(block, data + 2, size - 2);
    if (moult_answer_read(block, size - 2, message, message_size, C, &view, &error) == 0) {
        walk(&view);
        moult_answer_view_release(&view);
    } else {
        MOULT_REQUIRE(!view.cells && !view.found && !view.ranges && !view.unread);
    }
    free(block);
    free(message);
    return 0;
}
