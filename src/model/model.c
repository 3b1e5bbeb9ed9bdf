#include "model/model.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/precision.h"
#include "model/fingerprint.h"
#include "model/json.h"
#include "model/ladder.h"
#include "model/parts.h"

static int load(struct moult_model *model, const struct moult_model_files *files,
                const struct moult_model_options *options,
                const struct moult_load_progress *progress, struct moult_error *error);

struct moult_model *moult_model_open(const char *folder, uint32_t threads,
                                     enum moult_precision precision, struct moult_error *error) {
    struct moult_model_options options = {.threads = threads, .precision = precision};
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct moult_model_files *files;
    struct moult_model *model = NULL;

    if (folder_fd < 0) {
        moult_fail_errno(error, "%s cannot be opened", folder);
        return NULL;
    }
    files = moult_model_files_open(folder_fd, error);
    close(folder_fd);
    if (files != NULL)
        model = moult_model_load(files, moult_kernels_best(), &options, NULL, error);
    if (model == NULL)
        moult_fail_within(error, "%s", folder);
    moult_model_files_close(files);
    return model;
}

struct moult_model *moult_model_load(struct moult_model_files *files,
                                     const struct moult_kernels *kernels,
                                     const struct moult_model_options *options,
                                     const struct moult_load_progress *progress,
                                     struct moult_error *error) {
    struct moult_model *model = moult_allocate(1, sizeof *model);

    model->kernels = kernels;
    model->precision = options->precision;
    model->fidelity = options->fidelity;
    model->threads = options->threads == 0 ? moult_machine_threads() : options->threads;
    if (model->threads > MOULT_THREADS_MAX)
        model->threads = MOULT_THREADS_MAX;
    model->crew = moult_crew_open();
    if (load(model, files, options, progress, error) == 0)
        return model;
    moult_model_close(model);
    return NULL;
}

void moult_model_close(struct moult_model *model) {
    if (model == NULL)
        return;
    moult_crew_close(model->crew);
    moult_weights_release(&model->weights);
    moult_tokenizer_free(model->tokenizer);
    moult_config_release(&model->config);
    free(model);
}

const struct moult_model_info *moult_model_info(const struct moult_model *model) {
    return &model->info;
}

const struct moult_tokenizer *moult_model_tokenizer(const struct moult_model *model) {
    return model->tokenizer;
}

const char *moult_model_prompt(const struct moult_model *model, enum moult_prompt prompt) {
    switch (prompt) {
    case MOULT_PROMPT_QUERY:
        return model->config.query_prompt;
    case MOULT_PROMPT_DOCUMENT:
        return model->config.document_prompt;
    case MOULT_PROMPT_NONE:
        break;
    }
    return model->config.default_prompt;
}

/* Whether some step of the normalizer lower-cases, at any depth of "Sequence". */
static bool lower_cases(const json_t *normalizer) {
    const char *type = json_string_value(json_object_get(normalizer, "type"));
    const json_t *steps = json_object_get(normalizer, "normalizers");

    if (type == NULL)
        return false;
    if (strcmp(type, "BertNormalizer") == 0)
        return json_is_true(json_object_get(normalizer, "lowercase"));
    for (size_t i = 0; i < json_array_size(steps); i++) {
        if (lower_cases(json_array_get(steps, i)))
            return true;
    }
    return strcmp(type, "Lowercase") == 0;
}

/* Where sentence_bert_config.json asks for lower case and the tokenizer's own
 * normalizer does not do it, sentence-transformers puts a step before it. */
static int check_lower_case(const char *json, size_t size, struct moult_error *error) {
    json_t *root =
        moult_model_json_parse(json, size, JSON_DECODE_INT_AS_REAL, "tokenizer.json", error);
    bool done = lower_cases(json_object_get(root, "normalizer"));

    if (root == NULL)
        return -1;
    json_decref(root);
    if (done)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "sentence_bert_config.json asks for lower case, which the normalizer of "
                      "tokenizer.json does not do; moult follows tokenizer.json alone.");
}

static int load_tokenizer(struct moult_model *model, const struct moult_model_files *files,
                          struct moult_error *error) {
    struct moult_config *config = &model->config;
    const char *folder = config->transformer_folder;
    char *json = NULL;
    size_t size = 0;
    int found = moult_model_files_read(files, folder, "tokenizer.json", MOULT_TOKENIZER_BYTES_MAX,
                                       &json, &size, error);

    if (found < 0)
        return -1;
    if (found == 0 && moult_model_files_find(files, folder, "vocab.txt") != NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The model has vocab.txt but no tokenizer.json, which moult needs: save "
                          "its tokenizer once with AutoTokenizer.from_pretrained(…)"
                          ".save_pretrained(…).");
    if (found == 0)
        return moult_fail(error, MOULT_ERROR_MISSING, "The model has no tokenizer.json.");
    model->tokenizer = moult_tokenizer_parse(json, size, error);
    found = model->tokenizer == NULL ? -1 : 0;
    if (found == 0 && config->lower_case)
        found = check_lower_case(json, size, error);
    free(json);
    return found;
}

static int check_tokenizer(const struct moult_model *model, struct moult_error *error) {
    const struct moult_config *config = &model->config;
    uint32_t ids = moult_tokenizer_vocabulary_size(model->tokenizer);
    uint32_t special = moult_tokenizer_special_count(model->tokenizer);

    if (ids > config->vocabulary_size)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "tokenizer.json has %u token ids, but the model has embeddings for %u.",
                          ids, config->vocabulary_size);
    if (config->tokens_max <= special)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The model takes %u tokens at most, and its tokenizer adds %u to every "
                          "text.",
                          config->tokens_max, special);
    return 0;
}

static void fill_info(struct moult_model *model) {
    const struct moult_config *config = &model->config;

    model->info = (struct moult_model_info){
        .architecture = "bert",
        .pooling = moult_pooling_name(config->pooling),
        .kernels = model->kernels->name,
        .precision = moult_precision_name(model->precision),
        .fidelity = model->fidelity,
        .fingerprint = model->fingerprint,
        .query_prompt = config->query_prompt,
        .document_prompt = config->document_prompt,
        .dimensions = config->width,
        .tokens_max = config->tokens_max,
        .vocabulary_size = moult_tokenizer_vocabulary_size(model->tokenizer),
        .layers = config->layers,
        .normalized = config->normalize,
    };
}

/* The weights in model->precision; with a ladder that makes the rung, and says how near it is to
 * f32 where nobody knows yet. */
static int load_rung(struct moult_model *model, const struct moult_model_files *files,
                     const struct moult_load_progress *progress, struct moult_error *error) {
    struct moult_ladder *ladder = NULL;
    int result;

    if (model->precision != MOULT_PRECISION_F32)
        ladder = moult_ladder_open(model->kernels, &model->config, model->tokenizer,
                                   model->precision, model->fidelity == 0);
    else
        model->fidelity = 1;
    result = moult_weights_read(&model->weights, &model->config, files, model->kernels, ladder,
                                progress, error);
    if (result == 0 && model->fidelity == 0)
        model->fidelity = moult_ladder_fidelity(ladder);
    moult_ladder_close(ladder);
    return result;
}

/* The weights of "auto" are those of int16 already where that is the answer, as it nearly always
 * is; else they are read once more. int8 is never the answer: decision 0016 has the figures. */
static int load_weights(struct moult_model *model, const struct moult_model_files *files,
                        const struct moult_model_options *options,
                        const struct moult_load_progress *progress, struct moult_error *error) {
    bool automatic = model->precision == MOULT_PRECISION_AUTO;

    if (automatic)
        model->precision = moult_ladder_first(model->kernels);
    if (load_rung(model, files, progress, error) != 0)
        return -1;
    if (!automatic || model->fidelity >= MOULT_FIDELITY_LEAST)
        return 0;
    moult_weights_release(&model->weights);
    model->precision = MOULT_PRECISION_F32;
    if (options->reconsider != NULL &&
        options->reconsider(options->context, model->precision, error) != 0)
        return -1;
    return load_rung(model, files, progress, error);
}

static int load(struct moult_model *model, const struct moult_model_files *files,
                const struct moult_model_options *options,
                const struct moult_load_progress *progress, struct moult_error *error) {
    if (moult_config_read(&model->config, files, error) != 0 ||
        load_tokenizer(model, files, error) != 0 || check_tokenizer(model, error) != 0 ||
        load_weights(model, files, options, progress, error) != 0)
        return -1;
    moult_fingerprint_compute(&model->config, model->tokenizer, &model->weights,
                              model->fingerprint);
    fill_info(model);
    return 0;
}
