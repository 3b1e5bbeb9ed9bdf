#include "worker/answer.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/utf8.h"

#define WARM_TOKENS 16

/* Letters as in model.h: B sequences and T tokens of one pass, C dimensions. */
struct moult_answerer {
    const struct moult_model *model;
    const struct moult_kernels *kernels;
    struct moult_batch *batch;
    struct moult_port *port;
    struct moult_encoder *encoder;
    struct moult_tokenizer_scratch *scratch;
    uint32_t C, tokens_max;             /* Of one text. */
    uint32_t special_before;            /* Special tokens in front of a text. */

    uint32_t pass_tokens_max, T, B;     /* The pass that is being gathered. */
    uint32_t *ids;                      /* [pass_tokens_max] */
    uint32_t lengths[MOULT_PORTION_TEXTS_MAX];
    bool truncated[MOULT_PORTION_TEXTS_MAX];
    struct moult_portion_text *texts[MOULT_PORTION_TEXTS_MAX];
    float *vectors;                     /* [MOULT_PORTION_TEXTS_MAX][C] */

    char *prompted;                     /* A prompt with its text. */
    size_t prompted_capacity;
};

static void sign_of_life(void *port) {
    moult_port_advance(port);
}

static uint32_t count_special_before(struct moult_answerer *answerer);

struct moult_answerer *moult_answerer_open(const struct moult_model *model,
                                           struct moult_batch *batch, struct moult_port *port) {
    const struct moult_model_info *info = moult_model_info(model);
    struct moult_answerer *answerer = moult_allocate(1, sizeof(*answerer));
    answerer->model = model;
    answerer->kernels = moult_kernels_best();
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
    free(answerer->prompted);
    free(answerer);
}

static bool gather(struct moult_answerer *answerer, struct moult_portion_text *text);
static void run_pass(struct moult_answerer *answerer);

void moult_answerer_run(struct moult_answerer *answerer, struct moult_portion *portion) {
    for (uint32_t i = 0; i < portion->count; i++) {
        moult_port_advance(answerer->port);
        if (!gather(answerer, &portion->texts[i])) {
            /* The estimate was too low: what does not fit goes into the next pass. */
            run_pass(answerer);
            MOULT_REQUIRE(gather(answerer, &portion->texts[i]));
        }
    }
    run_pass(answerer);
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

static void refuse(struct moult_answerer *answerer, struct moult_portion_text *text,
                   enum moult_answer_status status, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static void refuse(struct moult_answerer *answerer, struct moult_portion_text *text,
                   enum moult_answer_status status, const char *format, ...) {
    char message[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    moult_batch_refuse(answerer->batch, text->request, status, text->index, message);
}

/* Tokenizes a text and adds it to the pass, or refuses its request. False where the
 * pass has no room for it. */
static bool gather(struct moult_answerer *answerer, struct moult_portion_text *text) {
    const struct moult_embed_options *options = &text->request->view.options;
    const char *bytes = text->bytes;
    size_t size = text->size;
    uint64_t begun_ns = moult_clock_ns();

    moult_fault_text(bytes, size);
    if (!moult_utf8_valid(bytes, size)) {
        refuse(answerer, text, MOULT_ANSWER_INVALID, "The text at index %u is not UTF-8.",
               text->index);
        return true;
    }
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

static void write_cell(struct moult_answerer *answerer, uint32_t b) {
    struct moult_portion_text *text = answerer->texts[b];
    struct moult_request *request = text->request;
    float *vector = answerer->vectors + (size_t)b * answerer->C;

    normalize(answerer, &request->view.options, vector);
    if (!is_finite(vector, answerer->C)) {
        refuse(answerer, text, MOULT_ANSWER_FAILED,
               "The model gave the text at index %u a vector with numbers that are not finite.",
               text->index);
        return;
    }
    size_t offset = request->cells_begin + text->index * request->cell_stride;
    size_t size = moult_cell_write(request->port.block + offset, &request->view.options,
                                   &request->view.frame, text->index, vector, answerer->C);
    request->cells[text->index] = (struct moult_answer_cell){
        .offset = (uint32_t)offset,
        .size = (uint32_t)size,
        .tokens = answerer->lengths[b],
        .truncated = answerer->truncated[b],
    };
}

static void run_pass(struct moult_answerer *answerer) {
    if (answerer->B == 0)
        return;
    moult_encoder_run(answerer->encoder, answerer->ids, answerer->lengths, answerer->B,
                      answerer->vectors);
    for (uint32_t b = 0; b < answerer->B; b++)
        write_cell(answerer, b);
    answerer->B = answerer->T = 0;
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
