/* What is counted, beside the weights themselves, and where it is taken:
 *
 *     when                  what                                           function
 *     ───────────────────── ────────────────────────────────────────────── ─────────────────────
 *     tokenizer is parsed   its JSON as a tree; before the weights          load_tokenizer()
 *     weights are read      staging: the largest matrix, unpacked           weights.c
 *     and made integers     one layer in f32, its largest matrix unpacked   ladder.c
 *                           once more, and texts that go through it
 *     self-check            one pass of an encoder; then one layer packed   check.c
 *                           for plain C
 *     serving               activations, of each thread                     encoder.c
 *
 * The first come one after the other. Whatever is of a huge page's size or
 * more takes whole huge pages (base/memory.h), and that is counted, too: for
 * MiniLM it is 20 MB of 137. */
#include "model/footprint.h"

#include <stddef.h>

#include "base/limits.h"
#include "base/memory.h"
#include "model/config.h"
#include "model/encoder.h"
#include "model/ladder.h"
#include "model/safetensors.h"

/* Of vocabularies of 30,522 and 250,002 tokens, per byte of tokenizer.json. */
#define TOKENIZER_BYTES_PER_JSON_BYTE 6
#define PARSING_BYTES_PER_JSON_BYTE 20
#define TEXT_BYTES_PER_THREAD (512 * MOULT_KIB)

static uint64_t floats(uint64_t count) {
    return moult_large_bytes(count * sizeof(float));
}

static uint64_t layer(const struct moult_config *config, const struct moult_kernels *kernels,
                      enum moult_precision precision) {
    uint32_t C = config->width, F = config->inner_width;
    return moult_panels_bytes(kernels, precision, 3 * C, C) +
           moult_panels_bytes(kernels, precision, C, C) +
           moult_panels_bytes(kernels, precision, F, C) +
           moult_panels_bytes(kernels, moult_matrix_precision(precision, MOULT_MATRIX_OUTER), C,
                              F) +
           4 * floats(C);
}

/* Of the file's values, how many the encoder needs. */
static uint64_t values_of(const struct moult_config *config) {
    uint64_t C = config->width, F = config->inner_width;
    uint64_t rows = (uint64_t)config->vocabulary_size + config->positions + config->types;
    return rows * C + config->layers * (4 * C * C + 2 * C * F);
}

static int count_values(const struct moult_model_file *file, uint64_t *values) {
    struct moult_safetensors contents;

    *values = 0;
    if (moult_safetensors_read(&contents, file->fd, file->size, file->path, NULL) != 0)
        return -1;
    for (size_t i = 0; i < contents.count; i++)
        *values += contents.tensors[i].values;
    moult_safetensors_release(&contents);
    return 0;
}

static uint64_t greatest(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

static void compute(struct moult_footprint *footprint, const struct moult_config *config,
                    const struct moult_kernels *kernels, enum moult_precision precision,
                    uint64_t json_bytes) {
    uint64_t C = config->width, F = config->inner_width;
    uint64_t widest = greatest(3 * C, F) * C;
    uint64_t pass = moult_encoder_bytes(config, precision);
    uint64_t reading = floats(widest + greatest(3 * C, F));
    uint64_t checking = greatest(pass, layer(config, moult_kernels_find("c"), precision));
    uint64_t parsing = json_bytes * PARSING_BYTES_PER_JSON_BYTE;

    /* The last layer exists twice: less and less in f32, more and more in integers. */
    if (precision != MOULT_PRECISION_F32)
        reading += layer(config, kernels, MOULT_PRECISION_F32) -
                   layer(config, kernels, precision) +
                   moult_panels_bytes(kernels, precision, config->width * 3, config->width) +
                   floats(widest) + moult_ladder_bytes(config, precision);
    footprint->weights = floats(config->vocabulary_size * C) + floats(config->positions * C) +
                         floats(config->types * C) + 2 * floats(C) +
                         config->layers * layer(config, kernels, precision);
    footprint->tokenizer = json_bytes * TOKENIZER_BYTES_PER_JSON_BYTE;
    footprint->loading = greatest(reading, checking);
    if (parsing > footprint->weights + footprint->loading)
        footprint->loading = parsing - footprint->weights;
    footprint->thread = pass + TEXT_BYTES_PER_THREAD;
    footprint->dimensions = config->width;
}

int moult_footprint_compute(struct moult_footprint *footprint,
                            const struct moult_model_files *files,
                            const struct moult_kernels *kernels,
                            const struct moult_model_options *options) {
    enum moult_precision precision = options->precision == MOULT_PRECISION_AUTO
                                         ? moult_ladder_first(kernels)
                                         : options->precision;
    struct moult_config config;
    uint64_t values;
    int result = -1;

    if (moult_config_read(&config, files, NULL) != 0)
        return -1;
    const struct moult_model_file *weights =
        moult_model_files_find(files, config.transformer_folder, "model.safetensors");
    const struct moult_model_file *tokenizer =
        moult_model_files_find(files, config.transformer_folder, "tokenizer.json");
    if (weights != NULL && tokenizer != NULL && count_values(weights, &values) == 0 &&
        values >= values_of(&config)) {
        compute(footprint, &config, kernels, precision, tokenizer->size);
        result = 0;
    }
    moult_config_release(&config);
    return result;
}

uint64_t moult_footprint_steady(const struct moult_footprint *footprint, uint32_t threads) {
    return footprint->weights + footprint->tokenizer + threads * footprint->thread;
}

uint64_t moult_footprint_peak(const struct moult_footprint *footprint, uint32_t threads) {
    return greatest(footprint->weights + footprint->tokenizer + footprint->loading,
                    moult_footprint_steady(footprint, threads));
}
