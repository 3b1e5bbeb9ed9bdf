#include "model/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "model/files.h"
#include "model/json.h"

enum { PROMPT_BYTES_MAX = 8192, TYPES_MAX = 1024 };

typedef int parse_function(struct moult_config *config, const char *json, size_t size,
                           struct moult_error *error);

static int read_file(struct moult_config *config, const struct moult_model_files *files,
                     const char *folder, const char *name, bool needed, parse_function *parse,
                     struct moult_error *error);
static void set_string(char **place, const char *value);

/* The longest that a text may be is decided as in sentence-transformers: it is
 * max_seq_length of sentence_bert_config.json where that says one, otherwise
 * model_max_length of tokenizer_config.json (where releases from 5 on write it);
 * and never more than the model has positions, where theirs would fail. */
static int read_all(struct moult_config *config, const struct moult_model_files *files,
                    struct moult_error *error) {
    const char *folder;

    if (read_file(config, files, "", "modules.json", false, moult_config_parse_modules, error))
        return -1;
    folder = config->transformer_folder;
    if (read_file(config, files, folder, "config.json", true, moult_config_parse_bert, error) ||
        read_file(config, files, folder, "tokenizer_config.json", false,
                  moult_config_parse_tokenizer, error) ||
        read_file(config, files, folder, "sentence_bert_config.json", false,
                  moult_config_parse_sentence_bert, error) ||
        read_file(config, files, "", "config_sentence_transformers.json", false,
                  moult_config_parse_prompts, error))
        return -1;
    if (config->pooling_folder != NULL &&
        read_file(config, files, config->pooling_folder, "config.json", true,
                  moult_config_parse_pooling, error))
        return -1;
    if (config->normalize_folder != NULL &&
        read_file(config, files, config->normalize_folder, "config.json", false,
                  moult_config_parse_normalize, error))
        return -1;
    if (config->tokens_max > config->positions)
        config->tokens_max = config->positions;
    return 0;
}

int moult_config_read(struct moult_config *config, const struct moult_model_files *files,
                      struct moult_error *error) {
    moult_config_init(config);
    if (read_all(config, files, error) == 0)
        return 0;
    moult_config_release(config);
    return -1;
}

/* What transformers takes where config.json says nothing. */
void moult_config_init(struct moult_config *config) {
    *config = (struct moult_config){
        .layers = 12,
        .width = 768,
        .heads = 12,
        .head_width = 64,
        .inner_width = 3072,
        .vocabulary_size = 30522,
        .positions = 512,
        .types = 2,
        .epsilon = 1e-12f,
        .pooling = MOULT_POOLING_MEAN,
        .tokens_max = UINT32_MAX,
        .transformer_folder = moult_copy_string(""),
        .query_prompt = moult_copy_string(""),
        .document_prompt = moult_copy_string(""),
        .default_prompt = moult_copy_string(""),
    };
}

void moult_config_release(struct moult_config *config) {
    free(config->transformer_folder);
    free(config->pooling_folder);
    free(config->normalize_folder);
    free(config->query_prompt);
    free(config->document_prompt);
    free(config->default_prompt);
    *config = (struct moult_config){0};
}

const char *moult_pooling_name(enum moult_pooling pooling) {
    static const char *const names[] = {
        [MOULT_POOLING_MEAN] = "mean",
        [MOULT_POOLING_CLS] = "cls",
        [MOULT_POOLING_MAX] = "max",
    };
    return names[pooling];
}

static int read_file(struct moult_config *config, const struct moult_model_files *files,
                     const char *folder, const char *name, bool needed, parse_function *parse,
                     struct moult_error *error) {
    char *json = NULL;
    size_t size = 0;
    int result = moult_model_files_read(files, folder, name, MOULT_SMALL_FILE_BYTES_MAX, &json,
                                        &size, error);

    if (result == 0 && needed)
        return moult_fail(error, MOULT_ERROR_MISSING, "The model has no %s%s%s.", folder,
                          *folder ? "/" : "", name);
    if (result == 1)
        result = parse(config, json, size, error);
    free(json);
    return result;
}

static json_t *parse_object(const char *json, size_t size, const char *what,
                            struct moult_error *error) {
    json_t *root = moult_model_json_parse(json, size, JSON_DECODE_INT_AS_REAL, what, error);

    if (root == NULL || json_is_object(root))
        return root;
    json_decref(root);
    moult_fail(error, MOULT_ERROR_INVALID, "%s is not a JSON object.", what);
    return NULL;
}

static void set_string(char **place, const char *value) {
    free(*place);
    *place = moult_copy_string(value);
}

/* Absent or `expected`; anything else is refused by name. */
static int require_string(const json_t *root, const char *key, const char *expected,
                          const char *what, struct moult_error *error) {
    const char *value = expected;

    if (moult_model_json_string(root, key, &value, what, error) != 0)
        return -1;
    if (strcmp(value, expected) == 0)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is \"%.100s\"; moult does \"%s\" alone.",
                      what, key, value, expected);
}

static int require_bool(const json_t *root, const char *key, bool expected, const char *what,
                        struct moult_error *error) {
    bool value = expected;

    if (moult_model_json_bool(root, key, &value, what, error) != 0)
        return -1;
    if (value == expected)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is %s, which moult does not do.", what,
                      key, value ? "true" : "false");
}

/* config.json */

static int check_architecture(const json_t *root, const char *what, struct moult_error *error) {
    const char *type = NULL;

    if (moult_model_json_string(root, "model_type", &type, what, error) != 0)
        return -1;
    if (type == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s does not say its model_type; moult serves \"bert\".", what);
    if (strcmp(type, "bert") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: model_type is \"%.100s\"; moult serves \"bert\" alone so far.",
                          what, type);
    if (json_object_size(json_object_get(root, "quantization_config")) > 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: quantization_config is set; moult reads F32, F16 and BF16 weights.",
                          what);
    if (json_object_size(json_object_get(root, "pruned_heads")) > 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: pruned_heads is set, which moult does not do.", what);
    if (require_string(root, "hidden_act", "gelu", what, error) ||
        require_string(root, "position_embedding_type", "absolute", what, error) ||
        require_bool(root, "is_decoder", false, what, error) ||
        require_bool(root, "add_cross_attention", false, what, error))
        return -1;
    return 0;
}

static int read_sizes(struct moult_config *config, const json_t *root, const char *what,
                      struct moult_error *error) {
    const struct {
        const char *key;
        uint32_t most;
        uint32_t *value;
    } sizes[] = {
        {"num_hidden_layers", MOULT_LAYERS_MAX, &config->layers},
        {"hidden_size", MOULT_DIMENSIONS_MAX, &config->width},
        {"num_attention_heads", MOULT_DIMENSIONS_MAX, &config->heads},
        {"intermediate_size", 8 * MOULT_DIMENSIONS_MAX, &config->inner_width},
        {"vocab_size", MOULT_VOCABULARY_MAX, &config->vocabulary_size},
        {"max_position_embeddings", MOULT_TOKENS_PER_TEXT_MAX, &config->positions},
        {"type_vocab_size", TYPES_MAX, &config->types},
    };

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (moult_model_json_count(root, sizes[i].key, 1, sizes[i].most, sizes[i].value, what,
                                   error) != 0)
            return -1;
    }
    if (config->width % config->heads != 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: hidden_size %u is not a multiple of num_attention_heads %u.", what,
                          config->width, config->heads);
    config->head_width = config->width / config->heads;
    return 0;
}

int moult_config_parse_bert(struct moult_config *config, const char *json, size_t size,
                            struct moult_error *error) {
    static const char what[] = "config.json";
    json_t *root = parse_object(json, size, what, error);
    double epsilon = (double)config->epsilon;
    int result = -1;

    if (root == NULL)
        return -1;
    if (check_architecture(root, what, error) == 0 &&
        read_sizes(config, root, what, error) == 0 &&
        moult_model_json_number(root, "layer_norm_eps", &epsilon, what, error) == 0)
        result = 0;
    if (result == 0 && !(epsilon >= 0 && epsilon <= 1))
        result = moult_fail(error, MOULT_ERROR_INVALID,
                            "%s: layer_norm_eps is %g; moult needs 0 to 1.", what, epsilon);
    config->epsilon = (float)epsilon;
    json_decref(root);
    return result;
}

/* modules.json */

/* "sentence_transformers.models.Pooling" and, since release 6,
 * "sentence_transformers.sentence_transformer.modules.pooling.Pooling" are the
 * same; a class from elsewhere is code that we do not have. */
static const char *module_name(const char *type) {
    const char *dot = strrchr(type, '.');

    if (strncmp(type, "sentence_transformers.", 22) != 0)
        return type;
    return dot + 1;
}

static int take_module(struct moult_config *config, const json_t *module, size_t at,
                       const char *what, struct moult_error *error) {
    static const char *const order[] = {"Transformer", "Pooling", "Normalize"};
    char **const folders[] = {&config->transformer_folder, &config->pooling_folder,
                              &config->normalize_folder};
    const char *type = NULL, *path = "";

    if (moult_model_json_string(module, "type", &type, what, error) != 0 ||
        moult_model_json_string(module, "path", &path, what, error) != 0)
        return -1;
    if (type == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: module %zu has no type.", what, at);
    type = module_name(type);
    if (at < 3 && strcmp(type, order[at]) == 0) {
        set_string(folders[at], path);
        return 0;
    }
    for (size_t i = 0; i < 3; i++) {
        if (strcmp(type, order[i]) == 0)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "%s: module %zu is %s; moult does Transformer, Pooling and, "
                              "possibly, Normalize, in this order.",
                              what, at, type);
    }
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%s: module %zu is %.100s, which moult does not do; it does Transformer, "
                      "Pooling and Normalize.",
                      what, at, type);
}

int moult_config_parse_modules(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error) {
    static const char what[] = "modules.json";
    json_t *root = moult_model_json_parse(json, size, JSON_DECODE_INT_AS_REAL, what, error);
    int result = 0;

    if (root == NULL)
        return -1;
    if (!json_is_array(root))
        result = moult_fail(error, MOULT_ERROR_INVALID, "%s is not a JSON list.", what);
    for (size_t i = 0; result == 0 && i < json_array_size(root); i++)
        result = take_module(config, json_array_get(root, i), i, what, error);
    if (result == 0 && json_array_size(root) < 2)
        result = moult_fail(error, MOULT_ERROR_INVALID,
                            "%s lists %zu modules; moult needs Transformer and Pooling.", what,
                            json_array_size(root));
    config->normalize = config->normalize_folder != NULL;
    json_decref(root);
    return result;
}

/* 1_Pooling/config.json */

static int set_pooling(struct moult_config *config, const char *mode, const char *what,
                       struct moult_error *error) {
    for (int i = MOULT_POOLING_MEAN; i <= MOULT_POOLING_MAX; i++) {
        if (strcmp(mode, moult_pooling_name((enum moult_pooling)i)) == 0) {
            config->pooling = (enum moult_pooling)i;
            return 0;
        }
    }
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%s: the pooling is \"%.100s\"; moult does mean, cls and max.", what, mode);
}

/* Up to release 5 there is one flag per mode, and no flag at all means mean. */
static int read_pooling_flags(struct moult_config *config, const json_t *root, const char *what,
                              struct moult_error *error) {
    static const char *const flags[][2] = {
        {"pooling_mode_cls_token", "cls"},
        {"pooling_mode_max_tokens", "max"},
        {"pooling_mode_mean_tokens", "mean"},
        {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"},
        {"pooling_mode_weightedmean_tokens", "weightedmean"},
        {"pooling_mode_lasttoken", "lasttoken"},
    };
    const char *mode = NULL;

    for (size_t i = 0; i < sizeof flags / sizeof *flags; i++) {
        bool on = false;

        if (moult_model_json_bool(root, flags[i][0], &on, what, error) != 0)
            return -1;
        if (on && mode != NULL)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "%s joins %s and %s pooling; moult does one of mean, cls and max.",
                              what, mode, flags[i][1]);
        if (on)
            mode = flags[i][1];
    }
    return set_pooling(config, mode ? mode : "mean", what, error);
}

/* Since release 6 there is one string, or a list of them. */
static int read_pooling_mode(struct moult_config *config, const json_t *root, const char *what,
                             struct moult_error *error) {
    const json_t *mode = json_object_get(root, "pooling_mode");

    if (mode == NULL)
        return read_pooling_flags(config, root, what, error);
    if (json_is_array(mode) && json_array_size(mode) == 1)
        mode = json_array_get(mode, 0);
    if (!json_is_string(mode))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: pooling_mode is not one name; moult does one of mean, cls and max.",
                          what);
    return set_pooling(config, json_string_value(mode), what, error);
}

static int check_pooling_width(const struct moult_config *config, const json_t *root,
                               const char *what, struct moult_error *error) {
    static const char *const keys[] = {"word_embedding_dimension", "embedding_dimension"};

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        double width = (double)config->width;

        if (moult_model_json_number(root, keys[i], &width, what, error) != 0)
            return -1;
        if (width != (double)config->width)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "%s: %s is %.17g, but the model's hidden_size is %u.", what, keys[i],
                              width, config->width);
    }
    return 0;
}

int moult_config_parse_pooling(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error) {
    char *what = moult_format("%s/config.json", config->pooling_folder);
    json_t *root = parse_object(json, size, what, error);
    int result = -1;

    if (root != NULL && read_pooling_mode(config, root, what, error) == 0 &&
        require_bool(root, "include_prompt", true, what, error) == 0 &&
        check_pooling_width(config, root, what, error) == 0)
        result = 0;
    json_decref(root);
    free(what);
    return result;
}

int moult_config_parse_normalize(struct moult_config *config, const char *json, size_t size,
                                 struct moult_error *error) {
    char *what = moult_format("%s/config.json", config->normalize_folder);
    json_t *root = parse_object(json, size, what, error);
    int result = -1;

    if (root != NULL &&
        require_string(root, "module_input_name", "sentence_embedding", what, error) == 0 &&
        require_string(root, "module_output_name", "sentence_embedding", what, error) == 0)
        result = 0;
    json_decref(root);
    free(what);
    return result;
}

/* tokenizer_config.json and sentence_bert_config.json */

/* The number may be 1e30 for "no limit". */
static int read_tokens_max(struct moult_config *config, const json_t *root, const char *key,
                           const char *what, struct moult_error *error) {
    double most = (double)config->tokens_max;

    if (moult_model_json_number(root, key, &most, what, error) != 0)
        return -1;
    if (most < 1)
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s is %g.", what, key, most);
    config->tokens_max = most < (double)UINT32_MAX ? (uint32_t)most : UINT32_MAX;
    return 0;
}

int moult_config_parse_tokenizer(struct moult_config *config, const char *json, size_t size,
                                 struct moult_error *error) {
    static const char what[] = "tokenizer_config.json";
    json_t *root = parse_object(json, size, what, error);
    int result = -1;

    if (root == NULL)
        return -1;
    if (read_tokens_max(config, root, "model_max_length", what, error) == 0 &&
        require_string(root, "truncation_side", "right", what, error) == 0)
        result = 0;
    json_decref(root);
    return result;
}

int moult_config_parse_sentence_bert(struct moult_config *config, const char *json, size_t size,
                                     struct moult_error *error) {
    static const char what[] = "sentence_bert_config.json";
    json_t *root = parse_object(json, size, what, error);
    const json_t *old_arguments, *arguments;
    int result = -1;

    if (root == NULL)
        return -1;
    old_arguments = json_object_get(root, "tokenizer_args");
    arguments = json_object_get(root, "processor_kwargs");
    if (require_string(root, "transformer_task", "feature-extraction", what, error) == 0 &&
        require_string(root, "module_output_name", "token_embeddings", what, error) == 0 &&
        moult_model_json_bool(root, "do_lower_case", &config->lower_case, what, error) == 0 &&
        read_tokens_max(config, root, "max_seq_length", what, error) == 0 &&
        read_tokens_max(config, old_arguments, "model_max_length", what, error) == 0 &&
        read_tokens_max(config, arguments, "model_max_length", what, error) == 0)
        result = 0;
    json_decref(root);
    return result;
}

/* config_sentence_transformers.json */

static int take_prompt(const json_t *prompts, const char *name, char **prompt, const char *what,
                       struct moult_error *error) {
    const char *value = "";

    if (moult_model_json_string(prompts, name, &value, what, error) != 0)
        return -1;
    if (strlen(value) > PROMPT_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s: the prompt %.64s has more than %d bytes.",
                          what, name, PROMPT_BYTES_MAX);
    if (*value != '\0')
        set_string(prompt, value);
    return 0;
}

/* The names that stand for a document are tried in the order of
 * SentenceTransformer.encode_document(); an empty one counts as absent, since
 * releases from 5 on write an empty "document" into every model. */
int moult_config_parse_prompts(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error) {
    static const char what[] = "config_sentence_transformers.json";
    static const char *const documents[] = {"corpus", "passage", "document"};
    json_t *root = parse_object(json, size, what, error);
    const char *default_name = NULL;
    const json_t *prompts;
    int result = -1;

    if (root == NULL)
        return -1;
    prompts = json_object_get(root, "prompts");
    if (prompts != NULL && !json_is_null(prompts) && !json_is_object(prompts)) {
        moult_fail(error, MOULT_ERROR_INVALID, "%s: prompts is not an object.", what);
        goto done;
    }
    if (require_string(root, "model_type", "SentenceTransformer", what, error) != 0 ||
        take_prompt(prompts, "query", &config->query_prompt, what, error) != 0 ||
        moult_model_json_string(root, "default_prompt_name", &default_name, what, error) != 0)
        goto done;
    for (size_t i = 0; i < sizeof documents / sizeof *documents; i++) {
        if (take_prompt(prompts, documents[i], &config->document_prompt, what, error) != 0)
            goto done;
    }
    if (default_name != NULL && json_object_get(prompts, default_name) == NULL) {
        moult_fail(error, MOULT_ERROR_INVALID,
                   "%s: default_prompt_name is \"%.100s\", and prompts has no such name.", what,
                   default_name);
        goto done;
    }
    if (default_name != NULL &&
        take_prompt(prompts, default_name, &config->default_prompt, what, error) != 0)
        goto done;
    result = 0;

done:
    json_decref(root);
    return result;
}
