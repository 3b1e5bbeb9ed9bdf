/* The forward pass of the BERT family.
 *
 * Sequences are packed end to end, without padding: T rows, one per token. A pass
 * cuts them into spans of whole sequences and takes each span through all layers
 * before it begins the next. A span is so large that reading a layer's weights
 * again for it is hidden behind the arithmetic, and so small that its activations
 * stay in the L2 cache; a longer sequence is a span of its own.
 *
 * Within a layer:
 *
 *   qkv     [T][3C] = hidden · Wqkv + b           query, key, value side by side
 *   context [T][C]  = attention, per sequence and head
 *   hidden         += context · Wo + b, normalised
 *   inner   [.][F]  = gelu(hidden · Wi + b)       in blocks of rows, for inner is
 *   hidden         += inner · Wf + b, normalised  the widest of all
 *
 * In a rung of integers the rows before each product become integers in a scratch of their own.
 *
 * Every kernel writes what depends on one row, or on one sequence, alone
 * (kernels.h). So neither the cut into spans nor that into blocks can be seen in a
 * single bit of a vector, and both may change freely. */
#include "model/encoder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/parts.h"

enum { SPAN_ROWS = 128, BLOCK_ROWS = 128 };

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

static void run_span(struct moult_encoder *encoder, const uint32_t *ids, const uint32_t *lengths,
                     uint32_t B, float *vectors) {
    const struct moult_model *model = encoder->model;
    const struct moult_kernels *kernels = model->kernels;
    struct moult_activations *activations = &encoder->activations;

    moult_span_embed(kernels, &model->weights, &model->config, activations, ids, lengths, B);
    for (uint32_t i = 0; i < model->weights.layer_count; i++) {
        moult_span_layer(kernels, &model->weights.layers[i], &model->config, activations, lengths,
                         B);
        if (encoder->advance != NULL)
            encoder->advance(encoder->advance_context);
    }
    moult_span_pool(kernels, &model->config, activations, lengths, B, vectors);
}

void moult_encoder_run(struct moult_encoder *encoder, const uint32_t *ids,
                       const uint32_t *lengths, uint32_t B, float *vectors) {
    uint32_t first = 0, T = 0;

    while (first < B) {
        uint32_t rows = lengths[first], end = first + 1;

        MOULT_REQUIRE(rows >= 1 && rows <= encoder->activations.rows);
        while (end < B && lengths[end] <= SPAN_ROWS && rows + lengths[end] <= SPAN_ROWS)
            rows += lengths[end++];
        run_span(encoder, ids + T, lengths + first, end - first,
                 vectors + (size_t)first * encoder->model->config.width);
        T += rows;
        first = end;
    }
    MOULT_REQUIRE(T <= encoder->tokens_max);
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
    uint32_t block = least(rows, BLOCK_ROWS);
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

static uint32_t rows_of(const uint32_t *lengths, uint32_t B) {
    uint32_t rows = 0;

    for (uint32_t i = 0; i < B; i++)
        rows += lengths[i];
    return rows;
}

static void normalise(const struct moult_kernels *kernels, const struct moult_norm *norm,
                      const struct moult_config *config, float *x, uint32_t T) {
    kernels->layer_norm(x, config->width, T, config->width, norm->gamma, norm->beta,
                        config->epsilon);
}

void moult_span_embed(const struct moult_kernels *kernels, const struct moult_weights *weights,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *ids, const uint32_t *lengths, uint32_t B) {
    size_t C = config->width;
    float *out = activations->hidden;

    for (uint32_t i = 0; i < B; i++) {
        for (uint32_t position = 0; position < lengths[i]; position++) {
            MOULT_REQUIRE(*ids < config->vocabulary_size);
            kernels->add3(out, weights->words + *ids * C, weights->positions + position * C,
                          weights->types, config->width);
            ids++;
            out += C;
        }
    }
    normalise(kernels, &weights->embedding_norm, config, activations->hidden, rows_of(lengths, B));
}

/* The inputs x [T][K] of a layer's matrix, where somebody wants to know. */
static void note(struct moult_activations *activations, enum moult_matrix matrix, const float *x,
                 uint32_t K, uint32_t T) {
    float *largest = activations->largest[matrix];

    for (uint32_t t = 0; largest != NULL && t < T; t++) {
        for (uint32_t k = 0; k < K; k++)
            largest[k] = fmaxf(largest[k], fabsf(x[(size_t)t * K + k]));
    }
}

/* At most BLOCK_ROWS rows. */
static void linear(const struct moult_kernels *kernels, struct moult_activations *activations,
                   const struct moult_panels *panels, const float *x, float *y, uint32_t T,
                   enum moult_epilogue epilogue) {
    struct moult_rows rows;

    if (panels->precision == MOULT_PRECISION_F32) {
        kernels->linear(panels, x, panels->inputs, y, panels->outputs, T, 0, panels->panels,
                        epilogue);
        return;
    }
    rows = moult_rows_in(activations->integers, T, panels->inputs);
    kernels->integers(panels, x, panels->inputs, T, &rows);
    kernels->linear_integers(panels, &rows, y, panels->outputs, T, 0, panels->panels, epilogue);
}

static void attend(const struct moult_kernels *kernels, const struct moult_config *config,
                   enum moult_precision precision, struct moult_activations *activations,
                   const uint32_t *lengths, uint32_t B) {
    bool words = precision != MOULT_PRECISION_F32 && kernels->attention_words != NULL;
    size_t C = config->width, row = 0;
    float scale = (float)(1.0 / sqrt((double)config->head_width));

    for (uint32_t i = 0; i < B; i++) {
        const float *q = activations->qkv + row * 3 * C;

        (words ? kernels->attention_words : kernels->attention)(
            q, q + C, q + 2 * C, 3 * C, activations->context + row * C, C, lengths[i],
            config->head_width, 0, config->heads, scale, activations->scratch);
        row += lengths[i];
    }
}

void moult_span_layer(const struct moult_kernels *kernels, const struct moult_layer *layer,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *lengths, uint32_t B) {
    size_t C = config->width;
    uint32_t T = rows_of(lengths, B);

    for (uint32_t t = 0; t < T; t += BLOCK_ROWS) {
        uint32_t rows = least(BLOCK_ROWS, T - t);

        note(activations, MOULT_MATRIX_QKV, activations->hidden + t * C, config->width, rows);
        linear(kernels, activations, &layer->qkv, activations->hidden + t * C,
               activations->qkv + t * 3 * C, rows, MOULT_EPILOGUE_NONE);
    }
    attend(kernels, config, layer->qkv.precision, activations, lengths, B);
    for (uint32_t t = 0; t < T; t += BLOCK_ROWS) {
        uint32_t rows = least(BLOCK_ROWS, T - t);
        float *hidden = activations->hidden + t * C, *inner = activations->inner;

        note(activations, MOULT_MATRIX_OUTPUT, activations->context + t * C, config->width,
             rows);
        linear(kernels, activations, &layer->output, activations->context + t * C, hidden, rows,
               MOULT_EPILOGUE_ADD);
        normalise(kernels, &layer->output_norm, config, hidden, rows);
        note(activations, MOULT_MATRIX_INNER, hidden, config->width, rows);
        linear(kernels, activations, &layer->inner, hidden, inner, rows, MOULT_EPILOGUE_GELU);
        note(activations, MOULT_MATRIX_OUTER, inner, config->inner_width, rows);
        linear(kernels, activations, &layer->outer, inner, hidden, rows, MOULT_EPILOGUE_ADD);
        normalise(kernels, &layer->outer_norm, config, hidden, rows);
    }
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
