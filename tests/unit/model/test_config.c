/* The JSON files of a model folder: every layout that is understood, and the refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/config.h"

typedef int parse_function(struct moult_config *config, const char *json, size_t size,
                           struct moult_error *error);

static void prepare(struct moult_config *config) {
    static const char modules[] =
        "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
        "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"},"
        "{\"type\":\"sentence_transformers.models.Normalize\",\"path\":\"2_Normalize\"}]";

    moult_config_init(config);
    config->width = 384;
    assert_int_equal(moult_config_parse_modules(config, modules, strlen(modules), NULL), 0);
}

/* The caller releases the config. */
static void accept(parse_function *parse, const char *json, struct moult_config *config) {
    struct moult_error error = {0};

    prepare(config);
    if (parse(config, json, strlen(json), &error) != 0)
        fail_msg("%s: %s", json, error.message);
}

static void refuse(parse_function *parse, const char *json, const char *why) {
    struct moult_config config;
    struct moult_error error = {0};

    prepare(&config);
    if (parse(&config, json, strlen(json), &error) == 0)
        fail_msg("Accepted: %s", json);
    if (strstr(error.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\".", error.message, why);
    moult_config_release(&config);
}

static void bert_is_understood(void **state) {
    struct moult_config config;

    (void)state;
    accept(moult_config_parse_bert,
           "{\"model_type\":\"bert\",\"hidden_size\":60,\"num_attention_heads\":3,"
           "\"num_hidden_layers\":2,\"intermediate_size\":77,\"vocab_size\":100,"
           "\"max_position_embeddings\":40,\"type_vocab_size\":1,\"layer_norm_eps\":1e-5,"
           "\"hidden_act\":\"gelu\",\"position_embedding_type\":\"absolute\",\"other\":[1e30]}",
           &config);
    assert_int_equal(config.width, 60);
    assert_int_equal(config.heads, 3);
    assert_int_equal(config.head_width, 20);
    assert_int_equal(config.layers, 2);
    assert_int_equal(config.inner_width, 77);
    assert_int_equal(config.vocabulary_size, 100);
    assert_int_equal(config.positions, 40);
    assert_int_equal(config.types, 1);
    assert_true(config.epsilon == 1e-5f);
    moult_config_release(&config);
}

static void what_is_not_bert_is_refused_by_name(void **state) {
    (void)state;
    refuse(moult_config_parse_bert, "{\"model_type\":\"mpnet\"}", "\"mpnet\"");
    refuse(moult_config_parse_bert, "{}", "does not say its model_type");
    refuse(moult_config_parse_bert, "{\"model_type\":7}", "model_type is not a string");
    refuse(moult_config_parse_bert, "[]", "is not a JSON object");
    refuse(moult_config_parse_bert, "{", "is not valid JSON");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_act\":\"relu\"}",
           "hidden_act is \"relu\"");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_act\":\"gelu_new\"}",
           "hidden_act is \"gelu_new\"");
    refuse(moult_config_parse_bert,
           "{\"model_type\":\"bert\",\"position_embedding_type\":\"relative_key\"}",
           "relative_key");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"is_decoder\":true}", "is_decoder");
    refuse(moult_config_parse_bert,
           "{\"model_type\":\"bert\",\"quantization_config\":{\"bits\":8}}", "quantization");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"pruned_heads\":{\"0\":[1]}}",
           "pruned_heads");
}

static void sizes_have_limits(void **state) {
    (void)state;
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_size\":0}",
           "hidden_size is 0");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_size\":1e9}",
           "hidden_size is 1000000000");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_size\":-384}",
           "hidden_size is -384");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_size\":384.5}",
           "hidden_size is 384.5");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"hidden_size\":\"384\"}",
           "hidden_size is not a number");
    refuse(moult_config_parse_bert,
           "{\"model_type\":\"bert\",\"hidden_size\":384,\"num_attention_heads\":5}",
           "not a multiple of num_attention_heads 5");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"num_hidden_layers\":129}",
           "num_hidden_layers is 129");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"max_position_embeddings\":1e6}",
           "max_position_embeddings is 1000000");
    refuse(moult_config_parse_bert, "{\"model_type\":\"bert\",\"layer_norm_eps\":-1}",
           "layer_norm_eps is -1");
}

static void modules_of_two_releases_are_the_same(void **state) {
    struct moult_config config;

    (void)state;
    accept(moult_config_parse_modules,
           "[{\"path\":\"0_Transformer\","
           "\"type\":\"sentence_transformers.base.modules.transformer.Transformer\"},"
           "{\"path\":\"p\","
           "\"type\":\"sentence_transformers.sentence_transformer.modules.pooling.Pooling\"},"
           "{\"path\":\"n\",\"type\":\"sentence_transformers.base.modules.normalize.Normalize\"}]",
           &config);
    assert_string_equal(config.transformer_folder, "0_Transformer");
    assert_string_equal(config.pooling_folder, "p");
    assert_true(config.normalize);
    moult_config_release(&config);
}

static void other_modules_are_refused_by_name(void **state) {
    (void)state;
#define TRANSFORMER "{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"}"
#define POOLING "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"}"
    refuse(moult_config_parse_modules,
           "[" TRANSFORMER "," POOLING
           ",{\"type\":\"sentence_transformers.models.Dense\",\"path\":\"2_Dense\"}]",
           "module 2 is Dense, which moult does not do");
    refuse(moult_config_parse_modules,
           "[{\"type\":\"custom_st.Transformer\",\"path\":\"\"}," POOLING "]",
           "custom_st.Transformer");
    refuse(moult_config_parse_modules, "[" POOLING "," TRANSFORMER "]", "in this order");
    refuse(moult_config_parse_modules, "[" TRANSFORMER "]", "lists 1 modules");
    refuse(moult_config_parse_modules, "[" TRANSFORMER "," POOLING "," POOLING "]",
           "in this order");
    refuse(moult_config_parse_modules, "[1,2]", "module 0 has no type");
    refuse(moult_config_parse_modules, "{}", "is not a JSON list");
}

static void assert_pooling(const char *json, enum moult_pooling pooling) {
    struct moult_config config;

    accept(moult_config_parse_pooling, json, &config);
    assert_int_equal(config.pooling, pooling);
    moult_config_release(&config);
}

static void pooling_is_read_in_both_forms(void **state) {
    (void)state;
    assert_pooling("{\"word_embedding_dimension\":384,\"pooling_mode_cls_token\":false,"
                   "\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":false}",
                   MOULT_POOLING_MEAN);
    assert_pooling("{\"pooling_mode_cls_token\":true}", MOULT_POOLING_CLS);
    assert_pooling("{\"pooling_mode_max_tokens\":true}", MOULT_POOLING_MAX);
    assert_pooling("{}", MOULT_POOLING_MEAN);
    assert_pooling("{\"embedding_dimension\":384,\"pooling_mode\":\"cls\"}", MOULT_POOLING_CLS);
    assert_pooling("{\"pooling_mode\":[\"max\"],\"include_prompt\":true}", MOULT_POOLING_MAX);
    assert_pooling("{\"pooling_mode\":\"mean\",\"pooling_mode_cls_token\":true}",
                   MOULT_POOLING_MEAN);
}

static void other_pooling_is_refused_by_name(void **state) {
    (void)state;
    refuse(moult_config_parse_pooling, "{\"pooling_mode\":\"lasttoken\"}",
           "1_Pooling/config.json: the pooling is \"lasttoken\"");
    refuse(moult_config_parse_pooling, "{\"pooling_mode_weightedmean_tokens\":true}",
           "weightedmean");
    refuse(moult_config_parse_pooling,
           "{\"pooling_mode_cls_token\":true,\"pooling_mode_mean_tokens\":true}",
           "joins cls and mean");
    refuse(moult_config_parse_pooling, "{\"pooling_mode\":[\"cls\",\"mean\"]}", "is not one name");
    refuse(moult_config_parse_pooling, "{\"pooling_mode_cls_token\":1}", "neither true nor false");
    refuse(moult_config_parse_pooling, "{\"include_prompt\":false}", "include_prompt");
    refuse(moult_config_parse_pooling, "{\"word_embedding_dimension\":32}",
           "1_Pooling/config.json: word_embedding_dimension is 32, but the model's hidden_size is "
           "384.");
    refuse(moult_config_parse_normalize, "{\"module_input_name\":\"token_embeddings\"}",
           "2_Normalize/config.json: module_input_name is \"token_embeddings\"");
}

static void assert_tokens_max(parse_function *parse, const char *json, uint32_t tokens_max) {
    struct moult_config config;

    accept(parse, json, &config);
    assert_int_equal(config.tokens_max, tokens_max);
    moult_config_release(&config);
}

static void lengths_are_found_where_each_release_puts_them(void **state) {
    (void)state;
    assert_tokens_max(moult_config_parse_sentence_bert,
                      "{\"max_seq_length\":256,\"do_lower_case\":false}", 256);
    assert_tokens_max(moult_config_parse_sentence_bert, "{\"max_seq_length\":null}", UINT32_MAX);
    assert_tokens_max(moult_config_parse_sentence_bert,
                      "{\"tokenizer_args\":{\"model_max_length\":77}}", 77);
    assert_tokens_max(moult_config_parse_tokenizer, "{\"model_max_length\":512}", 512);
    assert_tokens_max(moult_config_parse_tokenizer,
                      "{\"model_max_length\":1000000000000000019884624838656}", UINT32_MAX);
    refuse(moult_config_parse_sentence_bert, "{\"max_seq_length\":0}", "max_seq_length is 0");
    refuse(moult_config_parse_sentence_bert, "{\"max_seq_length\":\"long\"}",
           "max_seq_length is not a number");
    refuse(moult_config_parse_sentence_bert, "{\"transformer_task\":\"text-generation\"}",
           "text-generation");
    refuse(moult_config_parse_tokenizer, "{\"truncation_side\":\"left\"}", "truncation_side");
}

static void prompts_have_roles(void **state) {
    struct moult_config config;

    (void)state;
    accept(moult_config_parse_prompts,
           "{\"prompts\":{\"query\":\"q: \",\"document\":\"\",\"passage\":\"p: \"},"
           "\"default_prompt_name\":\"query\"}",
           &config);
    assert_string_equal(config.query_prompt, "q: ");
    assert_string_equal(config.document_prompt, "p: ");
    assert_string_equal(config.default_prompt, "q: ");
    moult_config_release(&config);

    accept(moult_config_parse_prompts,
           "{\"prompts\":{\"document\":\"d: \",\"passage\":\"p: \",\"corpus\":\"c: \"},"
           "\"default_prompt_name\":null}",
           &config);
    assert_string_equal(config.query_prompt, "");
    assert_string_equal(config.document_prompt, "d: ");
    assert_string_equal(config.default_prompt, "");
    moult_config_release(&config);

    refuse(moult_config_parse_prompts, "{\"default_prompt_name\":\"query\"}", "no such name");
    refuse(moult_config_parse_prompts, "{\"prompts\":{\"query\":7}}", "query is not a string");
    refuse(moult_config_parse_prompts, "{\"prompts\":[]}", "prompts is not an object");
    refuse(moult_config_parse_prompts, "{\"model_type\":\"SparseEncoder\"}", "SparseEncoder");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bert_is_understood),
        cmocka_unit_test(what_is_not_bert_is_refused_by_name),
        cmocka_unit_test(sizes_have_limits),
        cmocka_unit_test(modules_of_two_releases_are_the_same),
        cmocka_unit_test(other_modules_are_refused_by_name),
        cmocka_unit_test(pooling_is_read_in_both_forms),
        cmocka_unit_test(other_pooling_is_refused_by_name),
        cmocka_unit_test(lengths_are_found_where_each_release_puts_them),
        cmocka_unit_test(prompts_have_roles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
