/* The forward pass of the BERT family.
 *
 * Sequences are packed end to end, without padding: T rows, one per token. A pass
 * cuts them into spans of whole sequences and takes each span through all layers
 * before it begins the next. A span is so large that reading a layer's weights
 * again for it is hidden behind the arithmetic, and so small that its activations
 * stay in the L2 cache; a longer sequence is a span of its own.
 *
 * Every kernel writes what depends on one row, or on one sequence, alone
 * (kernels.h). So neither the cut into spans nor that of a layer into blocks and panels can be seen
 * in a single bit of a vector, and both may change freely. */
#include "model/encoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/parts.h"

enum { SPAN_ROWS = 128, EMBED_ROWS = 8 };

/* What makes it worth while to wake somebody up, which takes 50 to 100 µs: so many products of a
 * row with a weight. Reading the weights is worth as many rows. */
#define SHARE_PRODUCTS (100 * 1000000ull)
#define SHARE_ROWS_READ 8u

struct moult_encoder {
    const struct moult_model *model;
    struct moult_activations activations;
    uint32_t tokens_max;
    void (*advance)(void *context);
    void *advance_context;
};

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static size_t align16(size_t floats) {
    return (floats + 15) / 16 * 16;
}

/* Of the longest span: a sequence is never cut. */
static uint32_t span_rows(const struct moult_config *config) {
    return config->tokens_max > SPAN_ROWS ? config->tokens_max : SPAN_ROWS;
}

struct moult_encoder *moult_encoder_open(const struct moult_model *model, uint32_t tokens_max) {
    struct moult_encoder *encoder = moult_allocate(1, sizeof *encoder);

    MOULT_REQUIRE(tokens_max >= model->config.tokens_max);
    encoder->model = model;
    encoder->tokens_max = tokens_max;
    if (moult_activations_init(&encoder->activations, &model->config, model->precision,
                               span_rows(&model->config))) {
        moult_touch_large(encoder->activations.memory, encoder->activations.bytes);
        return encoder;
    }
    free(encoder);
    return NULL;
}

void moult_encoder_close(struct moult_encoder *encoder) {
    if (encoder == NULL)
        return;
    moult_activations_release(&encoder->activations);
    free(encoder);
}

void moult_encoder_set_advance(struct moult_encoder *encoder, void (*advance)(void *context),
                               void *context) {
    encoder->advance = advance;
    encoder->advance_context = context;
}

static void run_span(struct moult_encoder *encoder, struct moult_split *split,
                     const uint32_t *ids, const uint32_t *lengths, uint32_t B, float *vectors) {
    const struct moult_model *model = encoder->model;
    const struct moult_kernels *kernels = model->kernels;
    struct moult_activations *activations = &encoder->activations;

    moult_span_embed(kernels, &model->weights, &model->config, activations, ids, lengths, B,
                     split);
    for (uint32_t i = 0; i < model->weights.layer_count; i++) {
        moult_span_layer(kernels, &model->weights.layers[i], &model->config, activations, lengths,
                         B, split);
        if (encoder->advance != NULL)
            encoder->advance(encoder->advance_context);
    }
    moult_span_pool(kernels, &model->config, activations, lengths, B, vectors);
}

void moult_encoder_run(struct moult_encoder *encoder, const uint32_t *ids,
                       const uint32_t *lengths, uint32_t B, float *vectors) {
    moult_encoder_run_shared(encoder, NULL, ids, lengths, B, vectors);
}

void moult_encoder_run_shared(struct moult_encoder *encoder, struct moult_split *split,
                              const uint32_t *ids, const uint32_t *lengths, uint32_t B,
                              float *vectors) {
    uint32_t first = 0, T = 0;

    while (first < B) {
        uint32_t rows = lengths[first], end = first + 1;

        MOULT_REQUIRE(rows >= 1 && rows <= encoder->activations.rows);
        while (end < B && lengths[end] <= SPAN_ROWS && rows + lengths[end] <= SPAN_ROWS)
            rows += lengths[end++];
        run_span(encoder, split, ids + T, lengths + first, end - first,
                 vectors + (size_t)first * encoder->model->config.width);
        T += rows;
        first = end;
    }
    MOULT_REQUIRE(T <= encoder->tokens_max);
}

void moult_encoder_help(struct moult_encoder *encoder, struct moult_split *split,
                        bool (*leave)(void *context), void *context) {
    moult_split_help(split, &encoder->activations, leave, context);
}

uint32_t moult_encoder_share_tokens(const struct moult_model *model) {
    const struct moult_config *config = &model->config;
    uint64_t C = config->width, F = config->inner_width;
    uint64_t weights = config->layers * (4 * C * C + 2 * C * F);
    uint64_t rows = (SHARE_PRODUCTS + weights - 1) / weights;

    return rows > SHARE_ROWS_READ ? (uint32_t)(rows - SHARE_ROWS_READ) : 1;
}

void moult_vector_unit(const struct moult_model *model, float *vector) {
    model->kernels->unit(vector, model->config.width);
}

/* Floats of each part, in the order in which they lie in the allocation. */
struct parts {
    size_t hidden, qkv, inner, scratch, integers, all;
};

static struct parts parts_of(const struct moult_config *config, enum moult_precision precision,
                             uint32_t rows) {
    size_t C = config->width;
    uint32_t block = least(rows, MOULT_BLOCK_ROWS);
    uint32_t widest = config->width > config->inner_width ? config->width : config->inner_width;
    struct parts parts = {
        .hidden = align16(rows * C),
        .qkv = align16(rows * 3 * C),
        .inner = align16(block * config->inner_width),
        .scratch = align16(moult_attention_scratch_floats(rows, config->head_width)),
    };

    if (precision != MOULT_PRECISION_F32)
        parts.integers = align16(moult_rows_bytes(block, widest) / sizeof(float));
    parts.all = 2 * parts.hidden + parts.qkv + parts.inner + parts.scratch + parts.integers;
    return parts;
}

size_t moult_activations_bytes(const struct moult_config *config, enum moult_precision precision,
                               uint32_t rows) {
    return moult_large_bytes(parts_of(config, precision, rows).all * sizeof(float));
}

size_t moult_encoder_bytes(const struct moult_config *config, enum moult_precision precision) {
    return moult_activations_bytes(config, precision, span_rows(config));
}

bool moult_activations_init(struct moult_activations *activations,
                            const struct moult_config *config, enum moult_precision precision,
                            uint32_t rows) {
    struct parts parts = parts_of(config, precision, rows);
    float *at;

    *activations = (struct moult_activations){.rows = rows};
    activations->bytes = parts.all * sizeof(float);
    activations->memory = at = moult_allocate_large(activations->bytes);
    if (at == NULL)
        return false;
    activations->hidden = at;
    activations->context = at += parts.hidden;
    activations->qkv = at += parts.hidden;
    activations->inner = at += parts.qkv;
    activations->scratch = at += parts.inner;
    if (parts.integers > 0)
        activations->integers = at + parts.scratch;
    return true;
}

void moult_activations_release(struct moult_activations *activations) {
    moult_free_large(activations->memory, activations->bytes);
    *activations = (struct moult_activations){0};
}

/* The rows of a span, for the threads that share it. */
struct embedding {
    const struct moult_kernels *kernels;
    const struct moult_weights *weights;
    const struct moult_config *config;
    float *hidden;
    const uint32_t *ids, *lengths;
    uint32_t T;
};

/* An item is EMBED_ROWS rows. */
static void embed_rows(void *context, uint32_t first, uint32_t end, void *own) {
    const struct embedding *embedding = context;
    const struct moult_weights *weights = embedding->weights;
    const struct moult_config *config = embedding->config;
    uint32_t row = first * EMBED_ROWS, row_end = least(end * EMBED_ROWS, embedding->T);
    uint32_t begin = 0, position, i = 0;        /* Of the row's sequence. */
    size_t C = config->width;
    float *out = embedding->hidden + row * C;

    (void)own;
    while (begin + embedding->lengths[i] <= row)
        begin += embedding->lengths[i++];
    position = row - begin;
    for (uint32_t t = row; t < row_end; t++, out += C) {
        uint32_t id = embedding->ids[t];

        MOULT_REQUIRE(id < config->vocabulary_size);
        embedding->kernels->add3(out, weights->words + id * C, weights->positions + position * C,
                                 weights->types, config->width);
        if (++position == embedding->lengths[i]) {
            position = 0;
            i++;
        }
    }
    embedding->kernels->layer_norm(embedding->hidden + row * C, C, row_end - row, config->width,
                                   weights->embedding_norm.gamma, weights->embedding_norm.beta,
                                   config->epsilon);
}

void moult_span_embed(const struct moult_kernels *kernels, const struct moult_weights *weights,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *ids, const uint32_t *lengths, uint32_t B,
                      struct moult_split *split) {
    struct embedding embedding = {kernels, weights, config, activations->hidden, ids, lengths, 0};
    uint32_t items;

    for (uint32_t i = 0; i < B; i++)
        embedding.T += lengths[i];
    items = (embedding.T + EMBED_ROWS - 1) / EMBED_ROWS;
    if (split == NULL)
        embed_rows(&embedding, 0, items, activations);
    else
        moult_split_stage(split, items, embed_rows, &embedding, activations);
}

static void take_greatest(float *out, const float *x, uint32_t L, size_t C) {
    memcpy(out, x, C * sizeof *out);
    for (uint32_t i = 1; i < L; i++) {
        for (size_t c = 0; c < C; c++)
            out[c] = x[i * C + c] > out[c] ? x[i * C + c] : out[c];
    }
}

void moult_span_pool(const struct moult_kernels *kernels, const struct moult_config *config,
                     const struct moult_activations *activations, const uint32_t *lengths,
                     uint32_t B, float *vectors) {
    const float *x = activations->hidden;
    size_t C = config->width;

    for (uint32_t i = 0; i < B; i++) {
        switch (config->pooling) {
        case MOULT_POOLING_MEAN:
            kernels->mean(vectors, x, C, lengths[i], config->width);
            break;
        case MOULT_POOLING_CLS:
            memcpy(vectors, x, C * sizeof *vectors);
            break;
        case MOULT_POOLING_MAX:
            take_greatest(vectors, x, lengths[i], C);
            break;
        }
        x += lengths[i] * C;
        vectors += C;
    }
}
