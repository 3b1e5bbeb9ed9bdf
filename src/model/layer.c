/* One layer of the encoder, for a span of T rows:
 *
 *   qkv     [T][3C] = hidden · Wqkv + b           query, key, value side by side
 *   context [T][C]  = attention, per sequence and head
 *   hidden         += context · Wo + b, normalised
 *   inner   [.][F]  = gelu(hidden · Wi + b)       in blocks of rows, for inner is
 *   hidden         += inner · Wf + b, normalised  the widest of all
 *
 * In a rung of integers the rows before each product become integers in a scratch of their own.
 *
 * Where several threads share the span (split.h), there are two ways to cut the layer into stages:
 *
 *   by rows    Each thread takes blocks of rows through everything but the attention, which it
 *              takes by heads: three stages. It reads all the weights, and nothing of
 *              what it computes has to go to another core but keys, values and context.
 *   by panels  Each product is a stage whose items are panels of weights, and so is what is done
 *              to rows before it: ten stages. Each thread reads its part of the weights alone, and
 *              half of all activations go from core to core.
 *
 * Few rows wait for weights, so they go by panels, and many go by rows. A thread that works alone
 * takes the rows' way. */
#include <math.h>

#include "base/memory.h"
#include "model/encoder.h"

enum {
    SHARED_ROWS = 32,       /* By rows from so many on for each thread. */
    UNIT_ROWS = 8           /* Of an item of rows by themselves, and what blocks are rounded to: a
                               kernel's tile. */
};

/* What the stages of a layer have in common. */
struct pass {
    const struct moult_kernels *kernels;
    const struct moult_layer *layer;
    const struct moult_config *config;
    struct moult_activations *activations;      /* The leader's. */
    const uint32_t *lengths;
    uint32_t B, T;
    uint32_t block;                             /* Rows of one. */
    struct moult_split *split;
};

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

static uint32_t parts_of(uint32_t whole, uint32_t part) {
    return (whole + part - 1) / part;
}

static void run_stage(const struct pass *pass, uint32_t count, moult_split_work *work,
                      void *context) {
    if (pass->split == NULL)
        work(context, 0, count, pass->activations);
    else
        moult_split_stage(pass->split, count, work, context, pass->activations);
}

static void normalise(const struct pass *pass, const struct moult_norm *norm, float *x,
                      uint32_t T) {
    const struct moult_config *config = pass->config;

    pass->kernels->layer_norm(x, config->width, T, config->width, norm->gamma, norm->beta,
                              config->epsilon);
}

/* Attention: an item is a head of one sequence. */

static void attend_heads(void *context, uint32_t first, uint32_t end, void *own) {
    const struct pass *pass = context;
    const struct moult_config *config = pass->config;
    struct moult_activations *activations = pass->activations;
    bool words = pass->layer->qkv.precision != MOULT_PRECISION_F32 &&
                 pass->kernels->attention_words != NULL;
    size_t C = config->width, row = 0;
    float scale = (float)(1.0 / sqrt((double)config->head_width));

    for (uint32_t i = 0, at = 0; i < pass->B && at < end; i++, at += config->heads) {
        const float *q = activations->qkv + row * 3 * C;
        uint32_t head_first = first > at ? first - at : 0;
        uint32_t head_end = least(end - at, config->heads);

        if (head_first < head_end)
            (words ? pass->kernels->attention_words : pass->kernels->attention)(
                q, q + C, q + 2 * C, 3 * C, activations->context + row * C, C, pass->lengths[i],
                config->head_width, head_first, head_end, scale,
                ((struct moult_activations *)own)->scratch);
        row += pass->lengths[i];
    }
}

static void attend(struct pass *pass) {
    run_stage(pass, pass->B * pass->config->heads, attend_heads, pass);
}

/* By rows: an item is a block. */

/* The inputs x [T][K] of a layer's matrix, where somebody wants to know. */
static void note(struct moult_activations *activations, enum moult_matrix matrix, const float *x,
                 uint32_t K, uint32_t T) {
    float *largest = activations->largest[matrix];

    for (uint32_t t = 0; largest != NULL && t < T; t++) {
        for (uint32_t k = 0; k < K; k++)
            largest[k] = fmaxf(largest[k], fabsf(x[(size_t)t * K + k]));
    }
}

/* At most MOULT_BLOCK_ROWS rows. */
static void multiply(const struct moult_kernels *kernels, struct moult_activations *own,
                     const struct moult_panels *panels, const float *x, float *y, uint32_t T,
                     enum moult_epilogue epilogue) {
    struct moult_rows rows;

    if (panels->precision == MOULT_PRECISION_F32) {
        kernels->linear(panels, x, panels->inputs, y, panels->outputs, T, 0, panels->panels,
                        epilogue);
        return;
    }
    rows = moult_rows_in(own->integers, T, panels->inputs);
    kernels->integers(panels, x, panels->inputs, T, &rows);
    kernels->linear_integers(panels, &rows, y, panels->outputs, T, 0, panels->panels, epilogue);
}

static void project_blocks(void *context, uint32_t first, uint32_t end, void *own) {
    const struct pass *pass = context;
    size_t C = pass->config->width;

    for (uint32_t t = first * pass->block; t < least(end * pass->block, pass->T);
         t += pass->block) {
        uint32_t rows = least(pass->block, pass->T - t);
        const float *hidden = pass->activations->hidden + t * C;

        note(own, MOULT_MATRIX_QKV, hidden, pass->config->width, rows);
        multiply(pass->kernels, own, &pass->layer->qkv, hidden, pass->activations->qkv + t * 3 * C,
                 rows, MOULT_EPILOGUE_NONE);
    }
}

static void transform_block(const struct pass *pass, struct moult_activations *own, uint32_t t,
                            uint32_t rows) {
    const struct moult_layer *layer = pass->layer;
    uint32_t C = pass->config->width;
    float *hidden = pass->activations->hidden + (size_t)t * C, *inner = own->inner;
    const float *context = pass->activations->context + (size_t)t * C;

    note(own, MOULT_MATRIX_OUTPUT, context, C, rows);
    multiply(pass->kernels, own, &layer->output, context, hidden, rows, MOULT_EPILOGUE_ADD);
    normalise(pass, &layer->output_norm, hidden, rows);
    note(own, MOULT_MATRIX_INNER, hidden, C, rows);
    multiply(pass->kernels, own, &layer->inner, hidden, inner, rows, MOULT_EPILOGUE_GELU);
    note(own, MOULT_MATRIX_OUTER, inner, pass->config->inner_width, rows);
    multiply(pass->kernels, own, &layer->outer, inner, hidden, rows, MOULT_EPILOGUE_ADD);
    normalise(pass, &layer->outer_norm, hidden, rows);
}

static void transform_blocks(void *context, uint32_t first, uint32_t end, void *own) {
    const struct pass *pass = context;

    for (uint32_t t = first * pass->block; t < least(end * pass->block, pass->T);
         t += pass->block)
        transform_block(pass, own, t, least(pass->block, pass->T - t));
}

static void layer_by_rows(struct pass *pass) {
    uint32_t blocks = parts_of(pass->T, pass->block);

    run_stage(pass, blocks, project_blocks, pass);
    attend(pass);
    run_stage(pass, blocks, transform_blocks, pass);
}

/* By panels. */

/* One product of up to MOULT_BLOCK_ROWS rows, and what is done to them before. */
struct product {
    const struct pass *pass;
    const struct moult_norm *norm;          /* NULL: none. */
    const struct moult_panels *panels;      /* NULL: no product. */
    float *x, *y;
    uint32_t T;
    struct moult_rows rows;
    enum moult_epilogue epilogue;
};

/* An item is UNIT_ROWS rows. */
static void prepare_rows(void *context, uint32_t first, uint32_t end, void *own) {
    const struct product *product = context;
    const struct pass *pass = product->pass;
    const struct moult_panels *panels = product->panels;
    uint32_t t = first * UNIT_ROWS, T = least(end * UNIT_ROWS, product->T) - t;

    (void)own;
    if (product->norm != NULL)
        normalise(pass, product->norm, product->x + (size_t)t * pass->config->width, T);
    if (panels != NULL && panels->precision != MOULT_PRECISION_F32) {
        size_t stride = moult_rows_stride(panels->inputs) * panels->layout.value_bytes;
        struct moult_rows rows = {(char *)product->rows.values + t * stride,
                                  product->rows.scales + t, product->rows.zeros + t};

        pass->kernels->integers(panels, product->x + (size_t)t * panels->inputs, panels->inputs, T,
                                &rows);
    }
}

/* An item is a panel. */
static void multiply_panels(void *context, uint32_t first, uint32_t end, void *own) {
    const struct product *product = context;
    const struct moult_panels *panels = product->panels;
    const struct moult_kernels *kernels = product->pass->kernels;

    (void)own;
    if (panels->precision == MOULT_PRECISION_F32)
        kernels->linear(panels, product->x, panels->inputs, product->y, panels->outputs,
                        product->T, first, end, product->epilogue);
    else
        kernels->linear_integers(panels, &product->rows, product->y, panels->outputs, product->T,
                                 first, end, product->epilogue);
}

static void run_product(const struct pass *pass, const struct moult_norm *norm,
                        const struct moult_panels *panels, float *x, float *y, uint32_t T,
                        enum moult_epilogue epilogue) {
    struct product product = {
        .pass = pass, .norm = norm, .panels = panels, .x = x, .y = y, .T = T,
        .epilogue = epilogue};

    if (panels != NULL && panels->precision != MOULT_PRECISION_F32)
        product.rows = moult_rows_in(pass->activations->integers, T, panels->inputs);
    if (norm != NULL || product.rows.values != NULL)
        run_stage(pass, parts_of(T, UNIT_ROWS), prepare_rows, &product);
    if (panels != NULL)
        run_stage(pass, panels->panels, multiply_panels, &product);
}

static void layer_by_panels(struct pass *pass) {
    const struct moult_layer *layer = pass->layer;
    struct moult_activations *activations = pass->activations;
    size_t C = pass->config->width;
    float *inner = activations->inner;

    for (uint32_t t = 0; t < pass->T; t += pass->block)
        run_product(pass, NULL, &layer->qkv, activations->hidden + t * C,
                    activations->qkv + t * 3 * C, least(pass->block, pass->T - t),
                    MOULT_EPILOGUE_NONE);
    attend(pass);
    for (uint32_t t = 0; t < pass->T; t += pass->block) {
        uint32_t rows = least(pass->block, pass->T - t);
        float *hidden = activations->hidden + t * C;

        run_product(pass, NULL, &layer->output, activations->context + t * C, hidden, rows,
                    MOULT_EPILOGUE_ADD);
        run_product(pass, &layer->output_norm, &layer->inner, hidden, inner, rows,
                    MOULT_EPILOGUE_GELU);
        run_product(pass, NULL, &layer->outer, inner, hidden, rows, MOULT_EPILOGUE_ADD);
        run_product(pass, &layer->outer_norm, NULL, hidden, NULL, rows, MOULT_EPILOGUE_NONE);
    }
}

/* All blocks about equally high, and as many for each thread. */
static uint32_t shared_block(uint32_t T, uint32_t threads) {
    uint32_t blocks = parts_of(parts_of(T, MOULT_BLOCK_ROWS), threads) * threads;

    return parts_of(parts_of(T, blocks), UNIT_ROWS) * UNIT_ROWS;
}

void moult_span_layer(const struct moult_kernels *kernels, const struct moult_layer *layer,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *lengths, uint32_t B, struct moult_split *split) {
    struct pass pass = {
        .kernels = kernels, .layer = layer, .config = config, .activations = activations,
        .lengths = lengths, .B = B, .block = MOULT_BLOCK_ROWS, .split = split};
    uint32_t threads = split == NULL ? 1 : moult_split_threads(split);

    for (uint32_t i = 0; i < B; i++)
        pass.T += lengths[i];
    if (threads > 1 && pass.T / threads < SHARED_ROWS) {
        layer_by_panels(&pass);
        return;
    }
    if (threads > 1)
        pass.block = shared_block(pass.T, threads);
    layer_by_rows(&pass);
}
