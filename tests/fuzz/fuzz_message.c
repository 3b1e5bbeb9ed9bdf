/* Any bytes as a request, read by the worker; what it accepts is walked to its ends, and survives
 * being written again. */
#include "ipc/message.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "ipc/port.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct moult_text *texts_of(const struct moult_request_view *view) {
    struct moult_text *texts = calloc(view->count, sizeof(*texts));
    MOULT_REQUIRE(texts);
    const char *at = view->texts;
    for (uint32_t i = 0; i < view->count; i++) {
        texts[i] = (struct moult_text){.bytes = at, .size = view->text_sizes[i]};
        at += view->text_sizes[i];
    }
    return texts;
}

static char *write_again(const struct moult_request_view *view, size_t *size) {
    struct moult_text *texts = view->texts ? texts_of(view) : NULL;
    char *again = NULL;
    switch (view->kind) {
    case MOULT_REQUEST_EMBED:
        again = moult_embed_request_write(texts, view->count, &view->options, &view->frame, size);
        break;
    case MOULT_REQUEST_SEARCH:
        again = moult_search_request_write(texts, view->count, &view->search, size);
        break;
    case MOULT_REQUEST_CUT:
        again = moult_cut_request_write(texts, view->count, &view->cut, size);
        break;
    case MOULT_REQUEST_FOLLOW:
        again = moult_follow_request_write(view->changes, view->count, view->complete, size);
        break;
    }
    free(texts);
    return again;
}

/* A cell of it keeps the bound that its block is sized by. */
static void write_cell(const struct moult_request_view *view) {
    const float vector[3] = {-1.17549435e-38f, 0.1f, -3.4028235e38f};
    size_t most = moult_cell_bytes_max(&view->options, &view->frame, 3);
    char *cell = malloc(most + 1);
    MOULT_REQUIRE(cell);
    MOULT_REQUIRE(moult_cell_write(cell, &view->options, &view->frame, view->count - 1, vector,
                                   3) <= most);
    free(cell);
}

/* All but what is padded comes back byte by byte, so the second writing gives the same. */
static void walk(const struct moult_request_view *view) {
    size_t size, size_again;
    char *once = write_again(view, &size);
    struct moult_request_view reread;
    MOULT_REQUIRE(moult_request_read(once, size, &reread, NULL) == 0);
    char *twice = write_again(&reread, &size_again);
    MOULT_REQUIRE(size == size_again && memcmp(once, twice, size) == 0);
    MOULT_REQUIRE(moult_answer_bytes_max(once, size, 384) >= moult_answer_cells_begin(1));
    free(once);
    free(twice);
    if (view->kind == MOULT_REQUEST_EMBED)
        write_cell(view);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* A copy of exactly this size, so that one byte too far is seen. */
    char *message = malloc(size > 0 ? size : 1);
    MOULT_REQUIRE(message);
    if (size > 0)
        memcpy(message, data, size);
    struct moult_request_view view;
    struct moult_error error;
    if (moult_request_read(message, size, &view, &error) == 0)
        walk(&view);
    free(message);
    return 0;
}
