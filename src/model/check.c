/* The self-check of a loaded model. It does not ask whether the model is a good one,
 * but whether this machine computes it: the same texts go through the loaded
 * kernels and, layer by layer from the same packed weights, through the plain C ones. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/encoder.h"
#include "model/parts.h"

static const char *const texts[] = {
    "How many people live in London?",
    "moult replaces the model while it serves.",
    "\xC3\x84\xC3\xB6\xC3\xBC \xE6\x9D\xB1\xE4\xBA\xAC 42!",
};

enum { TEXTS = sizeof texts / sizeof *texts, TOKENS_MAX = 24 };

#define DIFFERENCE_MAX 1e-4
#define COSINE_MIN 0.99999
#define NORM_ERROR_MAX 1e-4

struct sample {
    uint32_t ids[TEXTS * TOKENS_MAX];
    uint32_t lengths[TEXTS];
    uint32_t tokens;
};

static int make_sample(const struct moult_model *model, struct sample *sample,
                       struct moult_error *error) {
    uint32_t tokens_max =
        model->config.tokens_max < TOKENS_MAX ? model->config.tokens_max : TOKENS_MAX;
    struct moult_tokenizer_scratch *scratch = moult_tokenizer_scratch_open();
    int result = 0;

    sample->tokens = 0;
    for (size_t i = 0; result == 0 && i < TEXTS; i++) {
        struct moult_token_ids ids;

        result = moult_tokenizer_encode(model->tokenizer, scratch, texts[i], strlen(texts[i]),
                                        tokens_max, &ids, error);
        if (result != 0)
            break;
        memcpy(sample->ids + sample->tokens, ids.ids, ids.count * sizeof *ids.ids);
        sample->lengths[i] = ids.count;
        sample->tokens += ids.count;
    }
    moult_tokenizer_scratch_close(scratch);
    return result;
}

static int run_loaded(const struct moult_model *model, const struct sample *sample,
                      float *vectors, struct moult_error *error) {
    uint32_t room = TEXTS * TOKENS_MAX;
    struct moult_encoder *encoder = moult_encoder_open(
        model, model->config.tokens_max > room ? model->config.tokens_max : room);

    if (encoder == NULL)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the self-check.");
    moult_encoder_run(encoder, sample->ids, sample->lengths, TEXTS, vectors);
    moult_encoder_close(encoder);
    return 0;
}

/* From one level's panels to the weights [N][K], and to another level's panels. */
static int repack(const struct moult_panels *from, const struct moult_kernels *kernels,
                  struct moult_panels *to) {
    size_t N = from->outputs, K = from->inputs, P = from->panel;
    float *weights = moult_allocate(N * K, sizeof *weights);
    int result;

    for (size_t n = 0; n < N; n++) {
        const float *column = from->values + n / P * K * P + n % P;

        for (size_t k = 0; k < K; k++)
            weights[n * K + k] = column[k * P];
    }
    result = moult_panels_pack(to, kernels, weights, from->bias, from->outputs, from->inputs);
    free(weights);
    return result;
}

static int run_layer_plainly(const struct moult_model *model, const struct moult_layer *layer,
                             const struct moult_kernels *plain, const struct sample *sample,
                             struct moult_activations *activations) {
    struct moult_layer copy = {.output_norm = layer->output_norm, .outer_norm = layer->outer_norm};
    int result = -1;

    if (repack(&layer->qkv, plain, &copy.qkv) == 0 &&
        repack(&layer->output, plain, &copy.output) == 0 &&
        repack(&layer->inner, plain, &copy.inner) == 0 &&
        repack(&layer->outer, plain, &copy.outer) == 0) {
        moult_span_layer(plain, &copy, &model->config, activations, sample->lengths, TEXTS);
        result = 0;
    }
    moult_panels_release(&copy.qkv);
    moult_panels_release(&copy.output);
    moult_panels_release(&copy.inner);
    moult_panels_release(&copy.outer);
    return result;
}

static int run_plainly(const struct moult_model *model, const struct sample *sample,
                       float *vectors, struct moult_error *error) {
    const struct moult_kernels *plain = moult_kernels_find("c");
    struct moult_activations activations;
    int result = 0;

    if (!moult_activations_init(&activations, &model->config, sample->tokens))
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the self-check.");
    moult_span_embed(plain, &model->weights, &model->config, &activations, sample->ids,
                     sample->lengths, TEXTS);
    for (uint32_t i = 0; result == 0 && i < model->weights.layer_count; i++)
        result = run_layer_plainly(model, &model->weights.layers[i], plain, sample, &activations);
    if (result == 0)
        moult_span_pool(plain, &model->config, &activations, sample->lengths, TEXTS, vectors);
    else
        moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the self-check.");
    moult_activations_release(&activations);
    return result;
}

static int check_vector(const struct moult_model *model, float *vector, const char *text,
                        struct moult_error *error) {
    double square = 0;

    for (uint32_t c = 0; c < model->config.width; c++)
        square += (double)vector[c] * (double)vector[c];
    if (!isfinite(square) || square == 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The self-check failed: the vector of \"%s\" has the length %g.", text,
                          sqrt(square));
    moult_vector_unit(model, vector);
    square = 0;
    for (uint32_t c = 0; c < model->config.width; c++)
        square += (double)vector[c] * (double)vector[c];
    if (fabs(sqrt(square) - 1) > NORM_ERROR_MAX)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The self-check failed: the unit vector of \"%s\" has the length %.6f.",
                          text, sqrt(square));
    return 0;
}

static int compare(const struct moult_model *model, const float *vector, const float *reference,
                   const char *text, struct moult_error *error) {
    double cosine = 0, difference = 0;

    for (uint32_t c = 0; c < model->config.width; c++) {
        cosine += (double)vector[c] * (double)reference[c];
        difference = fmax(difference, fabs((double)vector[c] - (double)reference[c]));
    }
    if (cosine >= COSINE_MIN && difference <= DIFFERENCE_MAX)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "The self-check failed: the %s kernels differ from plain C by %.2g (cosine "
                      "%.7f) for \"%s\". MOULT_CPU=c avoids them.",
                      model->kernels->name, difference, cosine, text);
}

static int check_vectors(const struct moult_model *model, const struct sample *sample,
                         float *vectors, float *references, struct moult_error *error) {
    size_t C = model->config.width;
    bool plain = strcmp(model->kernels->name, "c") == 0;

    if (run_loaded(model, sample, vectors, error) != 0 ||
        (!plain && run_plainly(model, sample, references, error) != 0))
        return -1;
    for (size_t i = 0; i < TEXTS; i++) {
        if (check_vector(model, vectors + i * C, texts[i], error) != 0)
            return -1;
        if (plain)
            continue;
        if (check_vector(model, references + i * C, texts[i], error) != 0 ||
            compare(model, vectors + i * C, references + i * C, texts[i], error) != 0)
            return -1;
    }
    return 0;
}

int moult_model_check(const struct moult_model *model, struct moult_error *error) {
    size_t values = TEXTS * (size_t)model->config.width;
    float *vectors = moult_allocate(values, sizeof *vectors);
    float *references = moult_allocate(values, sizeof *references);
    struct sample sample;
    int result = make_sample(model, &sample, error);

    if (result == 0)
        result = check_vectors(model, &sample, vectors, references, error);
    free(vectors);
    free(references);
    return result;
}
