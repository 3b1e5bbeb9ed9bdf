/* Any bytes as an embedding request, read by the worker; what it accepts is walked
 * to its ends, and survives being written again. */
#include "ipc/message.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "ipc/port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect_same(const struct moult_embed_request_view *a,
                        const struct moult_embed_request_view *b, size_t texts_bytes) {
    MOULT_REQUIRE(a->count == b->count);
    MOULT_REQUIRE(a->options.prompt == b->options.prompt && a->options.format == b->options.format);
    MOULT_REQUIRE(a->options.overlong == b->options.overlong);
    MOULT_REQUIRE(a->options.unit == b->options.unit && a->options.raw == b->options.raw);
    MOULT_REQUIRE(a->options.dimensions == b->options.dimensions);
    MOULT_REQUIRE(strcmp(a->frame.before, b->frame.before) == 0);
    MOULT_REQUIRE(strcmp(a->frame.between, b->frame.between) == 0);
    MOULT_REQUIRE(strcmp(a->frame.after, b->frame.after) == 0);
    MOULT_REQUIRE(a->frame.numbered == b->frame.numbered && a->frame.commas == b->frame.commas);
    MOULT_REQUIRE(memcmp(a->text_sizes, b->text_sizes, a->count * sizeof(uint32_t)) == 0);
    MOULT_REQUIRE(memcmp(a->texts, b->texts, texts_bytes) == 0);
}

static void walk(const struct moult_embed_request_view *view) {
    struct moult_text *texts = calloc(view->count, sizeof(*texts));
    MOULT_REQUIRE(texts);
    const char *at = view->texts;
    for (uint32_t i = 0; i < view->count; i++) {
        texts[i] = (struct moult_text){.bytes = at, .size = view->text_sizes[i]};
        at += view->text_sizes[i];
    }
    size_t size;
    char *again =
        moult_embed_request_write(texts, view->count, &view->options, &view->frame, &size);
    struct moult_embed_request_view reread;
    MOULT_REQUIRE(moult_embed_request_read(again, size, &reread, NULL) == 0);
    expect_same(view, &reread, (size_t)(at - view->texts));

    /* A cell of it keeps the bound that its block is sized by. */
    const float vector[3] = {-1.17549435e-38f, 0.1f, -3.4028235e38f};
    size_t most = moult_cell_bytes_max(&view->options, &view->frame, 3);
    char *cell = malloc(most + 1);
    MOULT_REQUIRE(cell);
    MOULT_REQUIRE(moult_cell_write(cell, &view->options, &view->frame, view->count - 1, vector,
                                   3) <= most);
    free(cell);
    free(again);
    free(texts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of exactly this size, so that one byte too far is seen. */
    char *message = malloc(size > 0 ? size : 1);
    MOULT_REQUIRE(message);
    if (size > 0)
        memcpy(message, data, size);
    struct moult_embed_request_view view;
    struct moult_error error;
    if (moult_embed_request_read(message, size, &view, &error) == 0)
        walk(&view);
    free(message);
    return 0;
}
