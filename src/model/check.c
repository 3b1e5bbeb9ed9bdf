/* The self-check of a loaded model. It does not ask whether the model is a good one,
 * but whether this machine computes it: the same texts go through the loaded
 * kernels and, layer by layer from the same packed weights, through the plain C ones. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/encoder.h"
#include "model/parts.h"
#include "model/sample.h"

static const char *const texts[] = {
    "How many people live in London?",
    "moult replaces the model while it serves.",
    "\xC3\x84\xC3\xB6\xC3\xBC \xE6\x9D\xB1\xE4\xBA\xAC 42!",
};

enum { TEXTS = sizeof texts / sizeof *texts, TOKENS_MAX = 24 };

#define DIFFERENCE_MAX 1e-4
#define COSINE_MIN 0.99999
#define NORM_ERROR_MAX 1e-4

static int run_loaded(const struct moult_model *model, const struct moult_sample *sample,
                      float *vectors, struct moult_error *error) {
    uint32_t room = TEXTS * TOKENS_MAX;
    struct moult_encoder *encoder = moult_encoder_open(
        model, model->config.tokens_max > room ? model->config.tokens_max : room);

    if (encoder == NULL)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the self-check.");
    moult_encoder_run(encoder, sample->ids, sample->lengths, sample->count, vectors);
    moult_encoder_close(encoder);
    return 0;
}

static int run_layer_plainly(const struct moult_model *model, const struct moult_layer *layer,
                             const struct moult_kernels *plain, const struct moult_sample *sample,
                             struct moult_activations *activations) {
    struct moult_layer copy = {.output_norm = layer->output_norm, .outer_norm = layer->outer_norm};
    int result = -1;

    if (moult_panels_repack(&copy.qkv, plain, &layer->qkv) == 0 &&
        moult_panels_repack(&copy.output, plain, &layer->output) == 0 &&
        moult_panels_repack(&copy.inner, plain, &layer->inner) == 0 &&
        moult_panels_repack(&copy.outer, plain, &layer->outer) == 0) {
        moult_span_layer(plain, &copy, &model->config, activations, sample->lengths,
                         sample->count, NULL);
        result = 0;
    }
    moult_layer_release_panels(&copy);
    return result;
}

static int run_plainly(const struct moult_model *model, const struct moult_sample *sample,
                       float *vectors, struct moult_error *error) {
    const struct moult_kernels *plain = moult_kernels_find("c");
    struct moult_activations activations;
    int result = 0;

    if (!moult_activations_init(&activations, &model->config, model->precision,
                                sample->tokens))
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the self-check.");
    moult_span_embed(plain, &model->weights, &model->config, &activations, sample->ids,
                     sample->lengths, sample->count, NULL);
    for (uint32_t i = 0; result == 0 && i < model->weights.layer_count; i++)
        result = run_layer_plainly(model, &model->weights.layers[i], plain, sample, &activations);
    if (result == 0)
        moult_span_pool(plain, &model->config, &activations, sample->lengths, sample->count,
                        vectors);
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

/* Integers are the same on every level, but what they are made of differs in the last bits, and
 * where that moves one of them it moves by a whole step. So two levels of a rung may be as far
 * from one another as each is from f32. */
static bool is_near(const struct moult_model *model, double cosine, double difference) {
    if (model->precision == MOULT_PRECISION_F32)
        return cosine >= COSINE_MIN && difference <= DIFFERENCE_MAX;
    return 1 - cosine <= 2 * (1 - model->fidelity) + (1 - COSINE_MIN);
}

static int compare(const struct moult_model *model, const float *vector, const float *reference,
                   const char *text, struct moult_error *error) {
    double cosine = 0, difference = 0;

    for (uint32_t c = 0; c < model->config.width; c++) {
        cosine += (double)vector[c] * (double)reference[c];
        difference = fmax(difference, fabs((double)vector[c] - (double)reference[c]));
    }
    if (is_near(model, cosine, difference))
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "The self-check failed: the %s kernels differ from plain C by %.2g (cosine "
                      "%.7f) for \"%s\". MOULT_CPU=c avoids them.",
                      model->kernels->name, difference, cosine, text);
}

static int check_vectors(const struct moult_model *model, const struct moult_sample *sample,
                         float *vectors, float *references, struct moult_error *error) {
    size_t C = model->config.width;
    bool plain = strcmp(model->kernels->name, "c") == 0;

    if (run_loaded(model, sample, vectors, error) != 0 ||
        (!plain && run_plainly(model, sample, references, error) != 0))
        return -1;
    for (size_t i = 0; i < sample->count; i++) {
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
    struct moult_sample sample;
    int result = moult_sample_make(&sample, &model->config, model->tokenizer, texts, TEXTS,
                                   TOKENS_MAX, error);

    if (result == 0)
        result = check_vectors(model, &sample, vectors, references, error);
    moult_sample_release(&sample);
    free(vectors);
    free(references);
    return result;
}
