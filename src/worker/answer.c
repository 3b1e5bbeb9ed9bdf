#include "worker/answer.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer/chunks.h"

#define WARM_TOKENS 16

/* Letters as in model.h: B sequences and T tokens of one pass, C dimensions. */
struct moult_answerer {
    const struct moult_model *model;
    const struct moult_kernels *kernels;
    struct moult_vectors *index;
    struct moult_batch *batch;
    struct moult_port *port;
    struct moult_encoder *encoder;
    struct moult_tokenizer_scratch *scratch;
    uint32_t C, tokens_max;             /* Of one text. */
    uint32_t special_before;            /* Special tokens in front of a text. */

    struct moult_split *split;          /* What this one leads, or NULL. */
    uint32_t pass_tokens_max, T, B;     /* The pass that is being gathered. */
    uint32_t *ids;                      /* [pass_tokens_max] */
    uint32_t lengths[MOULT_PORTION_TEXTS_MAX];
    bool truncated[MOULT_PORTION_TEXTS_MAX];
    struct moult_portion_item *texts[MOULT_PORTION_TEXTS_MAX];
    float *vectors;                     /* [MOULT_PORTION_TEXTS_MAX][C] */

    struct moult_index_scratch *index_scratch;   /* NULL: there is no index. */
    float *query;                       /* [C] */
    struct moult_hit hits[MOULT_HITS_MAX];

    char *prompted;                     /* A prompt with its text. */
    size_t prompted_capacity;
};

static void sign_of_life(void *port) {
    moult_port_advance(port);
}

static uint32_t count_special_before(struct moult_answerer *answerer);

struct moult_answerer *moult_answerer_open(const struct moult_model *model,
                                           struct moult_vectors *vectors,
                                           struct moult_batch *batch, struct moult_port *port) {
    const struct moult_model_info *info = moult_model_info(model);
    struct moult_answerer *answerer = moult_allocate(1, sizeof(*answerer));
    answerer->model = model;
    answerer->kernels = moult_kernels_best();
    answerer->index = vectors;
    answerer->batch = batch;
    answerer->port = port;
    answerer->C = info->dimensions;
    answerer->tokens_max = info->tokens_max;
    answerer->pass_tokens_max =
        info->tokens_max > MOULT_PORTION_TOKENS ? info->tokens_max : MOULT_PORTION_TOKENS;
    answerer->encoder = moult_encoder_open(model, answerer->pass_tokens_max);
    if (!answerer->encoder) {
        moult_answerer_close(answerer);
        return NULL;
    }
    moult_encoder_set_advance(answerer->encoder, sign_of_life, port);
    answerer->scratch = moult_tokenizer_scratch_open();
    answerer->ids = moult_allocate(answerer->pass_tokens_max, sizeof(*answerer->ids));
    answerer->vectors =
        moult_allocate((size_t)MOULT_PORTION_TEXTS_MAX * answerer->C, sizeof(float));
    answerer->index_scratch = moult_vectors_scratch(vectors);
    answerer->query = moult_allocate(answerer->C, sizeof(float));
    answerer->special_before = count_special_before(answerer);
    return answerer;
}

void moult_answerer_close(struct moult_answerer *answerer) {
    if (!answerer)
        return;
    moult_encoder_close(answerer->encoder);
    moult_tokenizer_scratch_close(answerer->scratch);
    free(answerer->ids);
    free(answerer->vectors);
    free(answerer->query);
    if (answerer->index_scratch)
        moult_index_scratch_close(answerer->index_scratch);
    free(answerer->prompted);
    free(answerer);
}

static bool gather(struct moult_answerer *answerer, struct moult_portion_item *text);
static void run_pass(struct moult_answerer *answerer);
static void search_given(struct moult_answerer *answerer, struct moult_portion_item *item);
static void cut(struct moult_answerer *answerer, struct moult_portion_item *item);
static void follow(struct moult_answerer *answerer, struct moult_portion_item *item);

static void embed(struct moult_answerer *answerer, struct moult_portion_item *item) {
    if (gather(answerer, item))
        return;
    /* The estimate was too low: what does not fit goes into the next pass. */
    run_pass(answerer);
    MOULT_REQUIRE(gather(answerer, item));
}

static void end_split(struct moult_answerer *answerer) {
    if (answerer->split)
        moult_split_end(answerer->split, moult_split_now());
    answerer->split = NULL;
}

void moult_answerer_run(struct moult_answerer *answerer, struct moult_portion *portion) {
    answerer->split = portion->shared ? moult_batch_split(answerer->batch) : NULL;
    for (uint32_t i = 0; i < portion->count; i++) {
        struct moult_portion_item *item = &portion->items[i];
        const struct moult_request_view *view = &item->request->view;
        moult_port_advance(answerer->port);
        if (view->kind == MOULT_REQUEST_CUT)
            cut(answerer, item);
        else if (view->kind == MOULT_REQUEST_FOLLOW)
            follow(answerer, item);
        else if (view->search.vectors)
            search_given(answerer, item);
        else
            embed(answerer, item);
    }
    run_pass(answerer);
    end_split(answerer);                /* Also where the text was refused. */
}

struct errand {
    const struct moult_port *port;
    uint32_t bell;
};

static bool somebody_rang(void *context) {
    const struct errand *errand = context;
    return moult_port_bell(errand->port) != errand->bell;
}

void moult_answerer_help(struct moult_answerer *answerer, const struct moult_portion *portion) {
    struct errand errand = {.port = answerer->port, .bell = portion->bell};
    moult_encoder_help(answerer->encoder, moult_batch_split(answerer->batch), somebody_rang,
                       &errand);
}

/* Texts to ids. */

/* The text behind its request's prompt; *bytes and *size are changed where there is one. */
static void put_prompt(struct moult_answerer *answerer, enum moult_prompt kind,
                       const char **bytes, size_t *size) {
    const char *prompt =
        kind == MOULT_PROMPT_NONE ? "" : moult_model_prompt(answerer->model, kind);
    size_t prompt_size = prompt ? strlen(prompt) : 0;
    if (prompt_size == 0)
        return;
    size_t needed = prompt_size + *size;
    if (needed > answerer->prompted_capacity) {
        answerer->prompted = moult_reallocate(answerer->prompted, needed, 1);
        answerer->prompted_capacity = needed;
    }
    memcpy(answerer->prompted, prompt, prompt_size);
    memcpy(answerer->prompted + prompt_size, *bytes, *size);
    *bytes = answerer->prompted;
    *size = needed;
}

static int encode(struct moult_answerer *answerer, const char *bytes, size_t size,
                  uint32_t tokens_max, struct moult_token_ids *out, struct moult_error *error) {
    return moult_tokenizer_encode(moult_model_tokenizer(answerer->model), answerer->scratch, bytes,
                                  size, tokens_max, out, error);
}

/* What is in front of "a" and in front of nothing alike is not the text's. */
static uint32_t count_special_before(struct moult_answerer *answerer) {
    uint32_t special = moult_tokenizer_special_count(moult_model_tokenizer(answerer->model));
    uint32_t *empty = moult_allocate(special + 1, sizeof(*empty)), same = 0;
    struct moult_token_ids ids;
    if (encode(answerer, "", 0, answerer->tokens_max, &ids, NULL) == 0 && ids.count <= special) {
        uint32_t count = ids.count;
        memcpy(empty, ids.ids, count * sizeof(*empty));
        if (encode(answerer, "a", 1, answerer->tokens_max, &ids, NULL) == 0)
            while (same < count && same < ids.count && ids.ids[same] == empty[same])
                same++;
    }
    free(empty);
    return same;
}

/* No tokenizer makes more tokens of a text than it has bytes, decomposed. */
static uint32_t tokens_at_most(size_t size) {
    return (uint32_t)(size * 4 + 64);
}

/* Copies the ids to `out` [tokens_max]; where they are too many, those in the middle
 * go that stand between the special tokens in front and the text's end. */
static uint32_t cut_left(const struct moult_answerer *answerer, const struct moult_token_ids *ids,
                         uint32_t *out) {
    uint32_t max = answerer->tokens_max, before = answerer->special_before;
    if (ids->count <= max) {
        memcpy(out, ids->ids, ids->count * sizeof(*out));
        return ids->count;
    }
    memcpy(out, ids->ids, before * sizeof(*out));
    memcpy(out + before, ids->ids + ids->count - (max - before), (max - before) * sizeof(*out));
    return max;
}

static void refuse(struct moult_answerer *answerer, struct moult_portion_item *text,
                   enum moult_answer_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void refuse(struct moult_answerer *answerer, struct moult_portion_item *text,
                   enum moult_answer_status status, const char *format, ...) {
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    moult_batch_refuse(answerer->batch, text->request, status, text->index, message);
}

static bool check_utf8(struct moult_answerer *answerer, struct moult_portion_item *text) {
    if (moult_utf8_valid(text->bytes, text->size))
        return true;
    refuse(answerer, text, MOULT_ANSWER_INVALID, "The text at index %u is not UTF-8.",
           text->index);
    return false;
}

/* Tokenizes a text and adds it to the pass, or refuses its request. False where the
 * pass has no room for it. */
static bool gather(struct moult_answerer *answerer, struct moult_portion_item *text) {
    const struct moult_embed_options *options = &text->request->view.options;
    const char *bytes = text->bytes;
    size_t size = text->size;
    uint64_t begun_ns = moult_clock_ns();

    moult_fault_text(bytes, size);
    if (!check_utf8(answerer, text))
        return true;
    put_prompt(answerer, options->prompt, &bytes, &size);

    struct moult_token_ids ids;
    struct moult_error error;
    bool left = options->overlong == MOULT_OVERLONG_CUT_LEFT;
    uint32_t max = left ? tokens_at_most(size) : answerer->tokens_max;
    if (max < answerer->tokens_max)
        max = answerer->tokens_max;
    if (encode(answerer, bytes, size, max, &ids, &error) != 0) {
        refuse(answerer, text, MOULT_ANSWER_FAILED, "The text at index %u: %s", text->index,
               error.message);
        return true;
    }
    if (ids.count == 0) {   /* Of a tokenizer that adds no special ones. */
        refuse(answerer, text, MOULT_ANSWER_INVALID,
               "The text at index %u has nothing in it that the model's tokenizer keeps.",
               text->index);
        return true;
    }
    bool truncated = ids.truncated || ids.count > answerer->tokens_max;
    if (truncated && options->overlong == MOULT_OVERLONG_ERROR) {
        refuse(answerer, text, MOULT_ANSWER_INVALID,
               "The text at index %u has more than the %u tokens that the model takes.",
               text->index, answerer->tokens_max);
        return true;
    }
    uint32_t count = ids.count < answerer->tokens_max ? ids.count : answerer->tokens_max;
    if (count > answerer->pass_tokens_max - answerer->T)
        return false;
    cut_left(answerer, &ids, answerer->ids + answerer->T);
    answerer->texts[answerer->B] = text;
    answerer->lengths[answerer->B] = count;
    answerer->truncated[answerer->B] = truncated;
    answerer->B++;
    answerer->T += count;
    text->tokenize_ns = moult_clock_ns() - begun_ns;
    return true;
}

/* Ids to cells. */

static bool is_finite(const float *vector, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        if (!isfinite(vector[i]))
            return false;
    return true;
}

/* The pooled vector [C] as the request wants it. Cutting comes before normalising. */
static void normalize(const struct moult_answerer *answerer,
                      const struct moult_embed_options *options, float *vector) {
    bool cut = options->dimensions > 0 && options->dimensions < answerer->C;
    bool unit = moult_model_info(answerer->model)->normalized || options->unit || cut;
    if (unit && !options->raw)
        answerer->kernels->unit(vector, cut ? options->dimensions : answerer->C);
}

/* One text's cell is there. */
static void finish_cell(struct moult_portion_item *item, size_t size, uint32_t tokens,
                        bool truncated) {
    item->request->cells[item->index] = (struct moult_answer_cell){
        .offset = (uint32_t)item->cell,
        .size = (uint32_t)size,
        .tokens = tokens,
        .truncated = truncated,
    };
}

static void write_vector(struct moult_answerer *answerer, struct moult_portion_item *text,
                         const float *vector, uint32_t tokens, bool truncated) {
    const struct moult_request *request = text->request;
    size_t size = moult_cell_write(request->port.block + text->cell, &request->view.options,
                                   &request->view.frame, text->index, vector, answerer->C);
    finish_cell(text, size, tokens, truncated);
}

static void write_hits(struct moult_answerer *answerer, struct moult_portion_item *text,
                       const float *vector, uint32_t tokens, bool truncated);

static void write_cell(struct moult_answerer *answerer, uint32_t b) {
    struct moult_portion_item *text = answerer->texts[b];
    const struct moult_request_view *view = &text->request->view;
    float *vector = answerer->vectors + (size_t)b * answerer->C;

    normalize(answerer, &view->options, vector);
    if (!is_finite(vector, answerer->C))
        refuse(answerer, text, MOULT_ANSWER_FAILED,
               "The model gave the text at index %u a vector with numbers that are not finite.",
               text->index);
    else if (view->kind == MOULT_REQUEST_SEARCH)
        write_hits(answerer, text, vector, answerer->lengths[b], answerer->truncated[b]);
    else
        write_vector(answerer, text, vector, answerer->lengths[b], answerer->truncated[b]);
}

static void run_pass(struct moult_answerer *answerer) {
    if (answerer->B == 0)
        return;
    moult_encoder_run_shared(answerer->encoder, answerer->split, answerer->ids, answerer->lengths,
                             answerer->B, answerer->vectors);
    end_split(answerer);
    for (uint32_t b = 0; b < answerer->B; b++)
        write_cell(answerer, b);
    answerer->B = answerer->T = 0;
}

/* Vectors to hits. */

static enum moult_answer_status status_of(enum moult_error_code code) {
    return code == MOULT_ERROR_UNAVAILABLE ? MOULT_ANSWER_NOT_YET
           : code == MOULT_ERROR_INVALID   ? MOULT_ANSWER_INVALID
                                           : MOULT_ANSWER_FAILED;
}

static_assert(sizeof(struct moult_found) == sizeof(struct moult_hit) &&
                  offsetof(struct moult_found, seq) == offsetof(struct moult_hit, seq) &&
                  offsetof(struct moult_found, chunk) == offsetof(struct moult_hit, chunk) &&
                  offsetof(struct moult_found, score) == offsetof(struct moult_hit, score),
              "Hits go into an answer as they are.");

static void write_hits(struct moult_answerer *answerer, struct moult_portion_item *text,
                       const float *vector, uint32_t tokens, bool truncated) {
    const struct moult_search_options *options = &text->request->view.search;
    uint64_t begun_ns = moult_clock_ns();
    struct moult_error error;
    moult_port_advance(answerer->port);
    int count = moult_vectors_search(answerer->index, options, vector, answerer->index_scratch,
                                     answerer->hits, &error);
    text->search_ns += moult_clock_ns() - begun_ns;
    if (count < 0) {
        refuse(answerer, text, status_of(error.code), "%s", error.message);
        return;
    }
    char *out = text->request->port.block + text->cell;
    size_t vector_bytes = options->with_vector ? answerer->C * sizeof(float) : 0;
    size_t hits_bytes = (size_t)count * sizeof(struct moult_hit);
    memcpy(out, vector, vector_bytes);
    memcpy(out + vector_bytes, answerer->hits, hits_bytes);
    finish_cell(text, vector_bytes + hits_bytes, tokens, truncated);
}

static void search_given(struct moult_answerer *answerer, struct moult_portion_item *item) {
    const struct moult_search_options *options = &item->request->view.search;
    float *query = answerer->query;
    memcpy(query, options->vectors + (size_t)item->index * answerer->C,
           answerer->C * sizeof(float));
    answerer->kernels->unit(query, answerer->C);
    float length = is_finite(query, answerer->C)
                       ? answerer->kernels->dot(query, query, answerer->C) : 0;
    if (!(length > 0.5f)) {
        refuse(answerer, item, MOULT_ANSWER_INVALID,
               "The vector at index %u has no direction: its numbers are 0, or too large.",
               item->index);
        return;
    }
    write_hits(answerer, item, query, 0, false);
}

/* Texts to chunks. */

static_assert(sizeof(struct moult_chunk) == sizeof(struct moult_range) &&
                  offsetof(struct moult_chunk, begin) == offsetof(struct moult_range, begin) &&
                  offsetof(struct moult_chunk, end) == offsetof(struct moult_range, end),
              "Chunks are cut where their answer lies.");

static void cut(struct moult_answerer *answerer, struct moult_portion_item *item) {
    const struct moult_request_view *view = &item->request->view;
    const char *prompt = moult_model_prompt(answerer->model, MOULT_PROMPT_DOCUMENT);
    struct moult_chunking chunking = {.tokens = view->cut.tokens,
                                      .overlap = view->cut.overlap,
                                      .prompt = prompt ? prompt : "",
                                      .advance = sign_of_life,
                                      .context = answerer->port};
    size_t room = moult_answer_cell_room(view, item->index, answerer->C);
    void *out = item->request->port.block + item->cell;
    uint64_t begun_ns = moult_clock_ns();
    struct moult_error error;

    moult_fault_text(item->bytes, item->size);
    if (!check_utf8(answerer, item))
        return;
    int64_t count = moult_tokenizer_cut(moult_model_tokenizer(answerer->model), answerer->scratch,
                                        &chunking, item->bytes, item->size, out,
                                        room / sizeof(struct moult_chunk), &error);
    item->tokenize_ns = moult_clock_ns() - begun_ns;
    if (count < 0)
        refuse(answerer, item, MOULT_ANSWER_INVALID, "The text at index %u: %s", item->index,
               error.message);
    else
        finish_cell(item, (size_t)count * sizeof(struct moult_chunk), 0, false);
}

/* Changes. */

static void add_unread(struct moult_request *request, const uint32_t *rows, uint32_t count) {
    struct moult_answer_cell *cell = &request->cells[0];
    memcpy(request->port.block + cell->offset + cell->size, rows, count * sizeof(*rows));
    cell->size += count * (uint32_t)sizeof(*rows);
}

/* The items of a request come one after the other, so its cell is this thread's. */
static void follow(struct moult_answerer *answerer, struct moult_portion_item *item) {
    struct moult_request *request = item->request;
    uint32_t unread[MOULT_PORTION_CHANGES], unread_count;
    uint32_t begin = item->index * MOULT_PORTION_CHANGES;
    uint32_t left = request->view.count - begin;
    uint32_t count = left < MOULT_PORTION_CHANGES ? left : MOULT_PORTION_CHANGES;
    struct moult_error error;

    moult_fault_point("follow");
    if (moult_vectors_change(answerer->index, request->view.changes + begin, count, unread,
                             &unread_count, &error) != 0) {
        refuse(answerer, item, MOULT_ANSWER_FAILED, "%s", error.message);
        return;
    }
    add_unread(request, unread, unread_count);
    if (count == left && request->view.complete)
        add_unread(request, unread, moult_vectors_complete(answerer->index, unread));
    moult_batch_set_scan(answerer->batch, moult_vectors_bytes(answerer->index));
}

void moult_answerer_warm(struct moult_answerer *answerer) {
    struct moult_token_ids ids;
    if (encode(answerer, "warm", 4, answerer->tokens_max, &ids, NULL) != 0)
        return;
    uint32_t length = answerer->tokens_max < WARM_TOKENS ? answerer->tokens_max : WARM_TOKENS;
    for (uint32_t i = 0; i < length; i++)
        answerer->ids[i] = ids.ids[i % ids.count];
    moult_encoder_run(answerer->encoder, answerer->ids, &length, 1, answerer->vectors);
}
