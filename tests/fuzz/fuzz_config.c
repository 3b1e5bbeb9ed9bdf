/* The JSON files of a model folder, of hostile bytes: the first byte says which one. What is
 * accepted must keep to the limits that memory is asked for by. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/limits.h"
#include "base/memory.h"
#include "model/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct moult_config *config) {
    MOULT_REQUIRE(config->width >= 1 && config->width <= MOULT_DIMENSIONS_MAX);
    MOULT_REQUIRE(config->heads >= 1 && config->heads * config->head_width == config->width);
    MOULT_REQUIRE(config->layers >= 1 && config->layers <= MOULT_LAYERS_MAX);
    MOULT_REQUIRE(config->inner_width >= 1 && config->inner_width <= 8 * MOULT_DIMENSIONS_MAX);
    MOULT_REQUIRE(config->positions >= 1 && config->positions <= MOULT_TOKENS_PER_TEXT_MAX);
    MOULT_REQUIRE(config->types >= 1 && config->vocabulary_size >= 1);
    MOULT_REQUIRE(config->vocabulary_size <= MOULT_VOCABULARY_MAX);
    MOULT_REQUIRE(config->epsilon >= 0 && config->epsilon <= 1);
    MOULT_REQUIRE(config->tokens_max >= 1);
    MOULT_REQUIRE(strlen(moult_pooling_name(config->pooling)) >= 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int (*const parsers[])(struct moult_config *, const char *, size_t,
                                  struct moult_error *) = {
        moult_config_parse_bert,          moult_config_parse_modules,
        moult_config_parse_pooling,       moult_config_parse_normalize,
        moult_config_parse_sentence_bert, moult_config_parse_tokenizer,
        moult_config_parse_prompts,
    };
    struct moult_config config;
    struct moult_error error = {0};
    char *json;

    if (size == 0)
        return 0;
    json = moult_copy_bytes((const char *)data + 1, size - 1);
    moult_config_init(&config);
    config.pooling_folder = moult_copy_string("1_Pooling");
    config.normalize_folder = moult_copy_string("2_Normalize");
    if (parsers[data[0] % (sizeof parsers / sizeof *parsers)](&config, json, size - 1, &error) == 0)
        check(&config);
    else
        MOULT_REQUIRE(error.message[0] != '\0');
    moult_config_release(&config);
    free(json);
    return 0;
}
