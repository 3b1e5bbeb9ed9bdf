#include "model/ladder.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"
#include "model/encoder.h"

enum {
    TOKENS_MAX = 48,                /* Of each text that is measured, */
    CALIBRATION_TOKENS_MAX = 32     /* and of each that calibrates. */
};

static const char *const texts[] = {
    "How many people live in London?",
    "moult replaces the model while it serves.",
    "\xC3\x84\xC3\xB6\xC3\xBC \xE6\x9D\xB1\xE4\xBA\xAC 42!",
    "ok",
    "The minister said on Tuesday that the reform, which parliament had rejected twice, would be "
    "put to a vote again before the summer; the opposition called it an insult to the voters.",
    "error: expected ';' before '}' token in src/main.c, line 212, column 17",
    "Quel est le meilleur moment de l'ann\xC3\xA9" "e pour visiter la Norv\xC3\xA8ge ?",
    "wireless keyboard, quiet, with a number pad",
    "Insulin lowers the concentration of glucose in the blood by letting it enter cells.",
    "\xD0\x9A\xD0\xBE\xD0\xB3\xD0\xB4\xD0\xB0 \xD0\xBD\xD0\xB0\xD1\x87\xD0\xB8\xD0\xBD\xD0\xB0"
    "\xD0\xB5\xD1\x82\xD1\x81\xD1\x8F \xD1\x83\xD1\x80\xD0\xBE\xD0\xBA?",
};
enum { TEXTS = sizeof texts / sizeof *texts };

struct moult_ladder {
    const struct moult_kernels *kernels;
    const struct moult_config *config;
    const struct moult_tokenizer *tokenizer;
    enum moult_precision rung;
    bool measure;
    struct moult_sample sample, calibration;
    /* The texts on their way through the layers: in f32, in the rung, and those that calibrate. */
    struct moult_activations exact, rough, observed;
    float *factors;                 /* [the widest input] */
    float *unpacked;                /* [the largest matrix] */
    size_t unpacked_bytes;
};

static uint32_t widest(const struct moult_config *config) {
    return config->inner_width > config->width ? config->inner_width : config->width;
}

/* In f32: of the query, key and value matrices together, or of those of the feed-forward part. */
static size_t largest_matrix_bytes(const struct moult_config *config) {
    size_t C = config->width, F = config->inner_width;

    return (F > 3 * C ? F : 3 * C) * C * sizeof(float);
}

struct moult_ladder *moult_ladder_open(const struct moult_kernels *kernels,
                                       const struct moult_config *config,
                                       const struct moult_tokenizer *tokenizer,
                                       enum moult_precision rung, bool measure) {
    struct moult_ladder *ladder = moult_allocate(1, sizeof *ladder);

    ladder->kernels = kernels;
    ladder->config = config;
    ladder->tokenizer = tokenizer;
    ladder->rung = rung;
    ladder->measure = measure;
    ladder->factors = moult_allocate(widest(config), sizeof *ladder->factors);
    return ladder;
}

void moult_ladder_close(struct moult_ladder *ladder) {
    if (ladder == NULL)
        return;
    for (unsigned i = 0; i < MOULT_MATRICES; i++)
        free(ladder->observed.largest[i]);
    moult_activations_release(&ladder->exact);
    moult_activations_release(&ladder->rough);
    moult_activations_release(&ladder->observed);
    moult_sample_release(&ladder->sample);
    moult_sample_release(&ladder->calibration);
    moult_free_large(ladder->unpacked, ladder->unpacked_bytes);
    free(ladder->factors);
    free(ladder);
}

/* How many tokens some texts come to: about one in three bytes. */
static uint32_t guess_tokens(const char *const *all, uint32_t count, uint32_t tokens_max) {
    size_t tokens = 0;

    for (uint32_t i = 0; i < count; i++) {
        size_t here = strlen(all[i]) / 3 + 2;

        tokens += here < tokens_max ? here : tokens_max;
    }
    return (uint32_t)tokens;
}

size_t moult_ladder_bytes(const struct moult_config *config, enum moult_precision rung) {
    uint32_t tokens = guess_tokens(texts, TEXTS, TOKENS_MAX);
    size_t bytes = moult_activations_bytes(config, MOULT_PRECISION_F32, tokens) +
                   moult_activations_bytes(config, rung, tokens);

    if (rung == MOULT_PRECISION_INT8)
        bytes += moult_activations_bytes(config, MOULT_PRECISION_F32,
                                         guess_tokens(moult_calibration_texts,
                                                      moult_calibration_count,
                                                      CALIBRATION_TOKENS_MAX));
    return bytes;
}

static int open_texts(const struct moult_ladder *ladder, const struct moult_weights *weights,
                      const struct moult_sample *sample, enum moult_precision precision,
                      struct moult_activations *activations, struct moult_error *error) {
    if (!moult_activations_init(activations, ladder->config, precision, sample->tokens))
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "There is no memory left to find out what %s does to the model.",
                          precision == MOULT_PRECISION_F32 ? "fewer bits" : "rounding");
    moult_span_embed(ladder->kernels, weights, ladder->config, activations, sample->ids,
                     sample->lengths, sample->count, NULL);
    return 0;
}

static int open_calibration(struct moult_ladder *ladder, const struct moult_weights *weights,
                            struct moult_error *error) {
    const struct moult_config *config = ladder->config;

    if (moult_sample_make(&ladder->calibration, config, ladder->tokenizer,
                          moult_calibration_texts, moult_calibration_count,
                          CALIBRATION_TOKENS_MAX, error) != 0 ||
        open_texts(ladder, weights, &ladder->calibration, MOULT_PRECISION_F32, &ladder->observed,
                   error) != 0)
        return -1;
    for (unsigned i = 0; i < MOULT_MATRICES; i++)
        ladder->observed.largest[i] = moult_allocate(widest(config), sizeof(float));
    return 0;
}

int moult_ladder_begin(struct moult_ladder *ladder, const struct moult_weights *weights,
                       struct moult_error *error) {
    ladder->unpacked_bytes = largest_matrix_bytes(ladder->config);
    ladder->unpacked = moult_allocate_large(ladder->unpacked_bytes);
    if (ladder->unpacked == NULL)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left to round weights.");
    if (ladder->rung == MOULT_PRECISION_INT8 && open_calibration(ladder, weights, error) != 0)
        return -1;
    if (!ladder->measure)
        return 0;
    if (moult_sample_make(&ladder->sample, ladder->config, ladder->tokenizer, texts, TEXTS,
                          TOKENS_MAX, error) != 0 ||
        open_texts(ladder, weights, &ladder->sample, MOULT_PRECISION_F32, &ladder->exact,
                   error) != 0 ||
        open_texts(ladder, weights, &ladder->sample, ladder->rung, &ladder->rough, error) != 0)
        return -1;
    return 0;
}

/* Smoothing. One step must do for the whole row of x, and one for all weights of an output; so an
 * input that is far larger than the others costs all of them their bits. Its size can be moved to
 * its weights: x·f and w/f give the same product. With f = sqrt(most |w| / most |x|) input and
 * weights end up alike. Taken as a power of two, it costs no rounding of its own, and hardly any
 * of the gain. */
static void find_factors(const struct moult_ladder *ladder, const float *largest, uint32_t N,
                         uint32_t K) {
    for (uint32_t k = 0; k < K; k++) {
        float weight = 0;

        for (uint32_t n = 0; n < N; n++)
            weight = fmaxf(weight, fabsf(ladder->unpacked[(size_t)n * K + k]));
        ladder->factors[k] = 1;
        if (weight > 0 && largest[k] > 0)
            ladder->factors[k] = ldexpf(1, (int)lrintf(0.5f * log2f(weight / largest[k])));
    }
}

static int round_matrix(const struct moult_ladder *ladder, struct moult_panels *panels,
                        enum moult_matrix matrix, struct moult_error *error) {
    uint32_t N = panels->outputs, K = panels->inputs;
    struct moult_panels rounded;
    enum moult_precision precision = moult_matrix_precision(ladder->rung, matrix);
    const float *factors = NULL;

    moult_panels_unpack(panels, ladder->unpacked);
    if (precision == MOULT_PRECISION_INT8) {
        find_factors(ladder, ladder->observed.largest[matrix], N, K);
        factors = ladder->factors;
    }
    if (moult_panels_pack_integers(&rounded, ladder->kernels, precision, ladder->unpacked,
                                   panels->bias, factors, N, K) != 0)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for the weights.");
    moult_panels_release(panels);
    *panels = rounded;
    return 0;
}

static void run_layer(const struct moult_ladder *ladder, const struct moult_layer *layer,
                      const struct moult_sample *sample, struct moult_activations *activations) {
    moult_span_layer(ladder->kernels, layer, ladder->config, activations, sample->lengths,
                     sample->count, NULL);
}

int moult_ladder_layer(struct moult_ladder *ladder, struct moult_layer *layer,
                       struct moult_error *error) {
    if (ladder->measure)
        run_layer(ladder, layer, &ladder->sample, &ladder->exact);
    if (ladder->rung == MOULT_PRECISION_INT8) {
        for (unsigned i = 0; i < MOULT_MATRICES; i++)
            memset(ladder->observed.largest[i], 0, widest(ladder->config) * sizeof(float));
        run_layer(ladder, layer, &ladder->calibration, &ladder->observed);
    }
    if (round_matrix(ladder, &layer->qkv, MOULT_MATRIX_QKV, error) != 0 ||
        round_matrix(ladder, &layer->output, MOULT_MATRIX_OUTPUT, error) != 0 ||
        round_matrix(ladder, &layer->inner, MOULT_MATRIX_INNER, error) != 0 ||
        round_matrix(ladder, &layer->outer, MOULT_MATRIX_OUTER, error) != 0)
        return -1;
    if (ladder->measure)
        run_layer(ladder, layer, &ladder->sample, &ladder->rough);
    return 0;
}

static double cosine(const float *a, const float *b, uint32_t C) {
    double dot = 0, a_square = 0, b_square = 0;

    for (uint32_t c = 0; c < C; c++) {
        dot += (double)a[c] * (double)b[c];
        a_square += (double)a[c] * (double)a[c];
        b_square += (double)b[c] * (double)b[c];
    }
    return dot / sqrt(a_square * b_square);
}

double moult_ladder_fidelity(const struct moult_ladder *ladder) {
    const struct moult_sample *sample = &ladder->sample;
    uint32_t C = ladder->config->width;
    float *exact = moult_allocate((size_t)sample->count * C, sizeof *exact);
    float *rough = moult_allocate((size_t)sample->count * C, sizeof *rough);
    double least = 1;

    moult_span_pool(ladder->kernels, ladder->config, &ladder->exact, sample->lengths,
                    sample->count, exact);
    moult_span_pool(ladder->kernels, ladder->config, &ladder->rough, sample->lengths,
                    sample->count, rough);
    for (uint32_t i = 0; i < sample->count; i++) {
        double found = cosine(exact + (size_t)i * C, rough + (size_t)i * C, C);

        if (!(found >= least))
            least = isfinite(found) && found > 0 ? found : 0;
    }
    free(exact);
    free(rough);
    return least;
}

/* Speed. */

enum { GAIN_ROWS = 32, GAIN_WIDTH = 384, GAIN_ROUNDS = 96 };

struct trial {
    const struct moult_kernels *kernels;
    struct moult_panels panels;
    struct moult_rows rows;
    const float *x;
    float *y;
    uint64_t ns;                    /* The least of all rounds. */
};

static void run_trial(struct trial *trial) {
    const struct moult_panels *panels = &trial->panels;
    uint64_t begun_ns = moult_clock_ns(), ns;

    if (panels->precision == MOULT_PRECISION_F32) {
        trial->kernels->linear(panels, trial->x, GAIN_WIDTH, trial->y, GAIN_WIDTH, GAIN_ROWS, 0,
                               panels->panels, MOULT_EPILOGUE_NONE);
    } else {
        trial->kernels->integers(panels, trial->x, GAIN_WIDTH, GAIN_ROWS, &trial->rows);
        trial->kernels->linear_integers(panels, &trial->rows, trial->y, GAIN_WIDTH, GAIN_ROWS, 0,
                                        panels->panels, MOULT_EPILOGUE_NONE);
    }
    ns = moult_clock_ns() - begun_ns;
    trial->ns = ns < trial->ns ? ns : trial->ns;
}

/* In turns, and the best of many: whatever else the machine does then meets both alike. */
static double compare_trials(struct trial *f32, struct trial *rung) {
    f32->ns = rung->ns = UINT64_MAX;
    for (unsigned round = 0; round < GAIN_ROUNDS; round++) {
        run_trial(f32);
        run_trial(rung);
    }
    return (double)f32->ns / (double)rung->ns;
}

double moult_ladder_gain(const struct moult_kernels *kernels, enum moult_precision rung) {
    size_t values = (size_t)GAIN_ROWS * GAIN_WIDTH, weights = (size_t)GAIN_WIDTH * GAIN_WIDTH;
    size_t bytes = (2 * values + weights) * sizeof(float) +
                   moult_rows_bytes(GAIN_ROWS, GAIN_WIDTH);
    float *memory = moult_allocate_large(bytes), *w = memory + 2 * values;
    struct trial f32 = {.kernels = kernels, .x = memory, .y = memory + values}, other;
    double gain = 0;

    if (memory == NULL)
        return 0;
    for (size_t i = 0; i < values; i++)
        memory[i] = (float)(i * 7 % 31) - 15;
    for (size_t i = 0; i < weights; i++)
        w[i] = (float)(i * 5 % 29) - 14;
    other = f32;
    other.rows = moult_rows_in(w + weights, GAIN_ROWS, GAIN_WIDTH);
    if (moult_panels_pack(&f32.panels, kernels, w, NULL, GAIN_WIDTH, GAIN_WIDTH) == 0 &&
        moult_panels_pack_integers(&other.panels, kernels, rung, w, NULL, NULL, GAIN_WIDTH,
                                   GAIN_WIDTH) == 0)
        gain = compare_trials(&f32, &other);
    moult_panels_release(&f32.panels);
    moult_panels_release(&other.panels);
    moult_free_large(memory, bytes);
    return gain;
}

enum moult_precision moult_ladder_first(const struct moult_kernels *kernels) {
    bool gains = moult_ladder_gain(kernels, MOULT_PRECISION_INT16) >= MOULT_GAIN_LEAST;

    return gains ? MOULT_PRECISION_INT16 : MOULT_PRECISION_F32;
}
