/* tokenizer.json to a tokenizer.
 *
 * The file is a description for a library that knows many kinds of tokenizers. What
 * is not of the one kind that is built here is refused, down to single members of an object
 * that the library has not had so far: ids that are nearly right would be worse
 * than no ids. So are files that that library reads, but in which two parts
 * contradict each other. Ignored are `truncation` and `padding` (sentence-transformers
 * has its own), `decoder`, and the template for pairs of texts.
 *
 *   { "version": "1.0",
 *     "added_tokens": [{"id", "content", "special", "normalized", "single_word",
 *                       "lstrip", "rstrip"}, …],
 *     "normalizer": {"type": "BertNormalizer", "clean_text", "handle_chinese_chars",
 *                    "strip_accents": true, false, or null for the same as "lowercase",
 *                    "lowercase"} or null,
 *     "pre_tokenizer": {"type": "BertPreTokenizer"},
 *     "post_processor": null, or {"type": "BertProcessing", "cls": [content, id], "sep": …},
 *                       or {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id"}}
 *                           or {"Sequence": {"id": "A"}}, …], "special_tokens": {id: {"ids"}}},
 *     "model": {"type": "WordPiece", "unk_token", "continuing_subword_prefix",
 *               "max_input_chars_per_word", "vocab": {content: id, …}} } */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

struct parser {
    struct moult_tokenizer *tokenizer;
    struct moult_error *error;
    struct moult_trie_entry *vocabulary;   /* In the order of ids. Owned; bytes are the JSON's. */
    uint32_t vocabulary_count;
    char quoted[64];
};

static int check_depth(const char *json, size_t size, struct moult_error *error);
static int parse_root(struct parser *parser, json_t *root);
static int parse_model(struct parser *parser, json_t *root);
static int parse_vocabulary(struct parser *parser, json_t *vocabulary);
static int build_wordpiece(struct parser *parser, json_t *unknown, json_t *prefix);
static int parse_normalizer(struct parser *parser, json_t *root);
static int parse_pre_tokenizer(struct parser *parser, json_t *root);
static int parse_added(struct parser *parser, json_t *root);
static int parse_added_token(struct parser *parser, json_t *item, uint32_t *next_id);
static int build_added(struct parser *parser);
static int make_pattern(struct parser *parser, struct moult_added_token *token);
static int parse_post_processor(struct parser *parser, json_t *root);
static int parse_bert_processing(struct parser *parser, json_t *processor);
static int parse_template(struct parser *parser, json_t *processor);
static int parse_template_piece(struct parser *parser, json_t *piece, json_t *special_tokens,
                                bool *text_seen);

#define MEMBERS(...) (const char *const[]){__VA_ARGS__, NULL}
#define refuse(parser, ...) moult_fail((parser)->error, MOULT_ERROR_INVALID, __VA_ARGS__)

struct moult_tokenizer *moult_tokenizer_parse(const char *json, size_t size,
                                              struct moult_error *error) {
    struct parser parser = {.error = error};
    json_error_t where;

    if (size > MOULT_TOKENIZER_BYTES_MAX) {
        moult_fail(error, MOULT_ERROR_LIMIT, "tokenizer.json has %zu bytes, more than %lu.", size,
                   MOULT_TOKENIZER_BYTES_MAX);
        return NULL;
    }
    if (check_depth(json, size, error) != 0)
        return NULL;
    json_t *root = json_loadb(json, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (root == NULL) {
        moult_fail(error, MOULT_ERROR_INVALID, "tokenizer.json, line %d, column %d: %s.",
                   where.line, where.column, where.text);
        return NULL;
    }

    parser.tokenizer = moult_allocate(1, sizeof *parser.tokenizer);
    if (parse_root(&parser, root) != 0) {
        moult_tokenizer_free(parser.tokenizer);
        parser.tokenizer = NULL;
    }
    free(parser.vocabulary);
    json_decref(root);
    return parser.tokenizer;
}

void moult_tokenizer_free(struct moult_tokenizer *tokenizer) {
    if (tokenizer == NULL)
        return;
    for (uint32_t n = 0; n < tokenizer->added_count; n++) {
        free(tokenizer->added[n].content);
        free(tokenizer->added[n].pattern);
    }
    free(tokenizer->added);
    moult_added_set_release(&tokenizer->added_raw);
    moult_added_set_release(&tokenizer->added_normalized);
    moult_trie_release(&tokenizer->wordpiece.trie);
    free(tokenizer->before);
    free(tokenizer->after);
    free(tokenizer);
}

/* jansson recurses, and has no limit of depth that can be set. Whether the brackets fit is its
 * business. */
static int check_depth(const char *json, size_t size, struct moult_error *error) {
    bool in_string = false;
    int depth = 0;

    for (size_t at = 0; at < size; at++) {
        char byte = json[at];
        if (in_string) {
            if (byte == '\\')
                at++;
            else if (byte == '"')
                in_string = false;
        } else if (byte == '"') {
            in_string = true;
        } else if (byte == '[' || byte == '{') {
            if (++depth > MOULT_JSON_DEPTH_MAX)
                return moult_fail(error, MOULT_ERROR_LIMIT,
                                  "tokenizer.json is nested more than %d deep.",
                                  MOULT_JSON_DEPTH_MAX);
        } else if (byte == ']' || byte == '}') {
            depth--;
        }
    }
    return 0;
}

/* Text of the file as a message may show it: short and printable. */
static const char *quote(struct parser *parser, const char *text) {
    size_t size = strlen(text), n = 0;

    for (; n < size && n < sizeof parser->quoted - 4; n++)
        parser->quoted[n] = text[n] >= ' ' && text[n] <= '~' ? text[n] : '?';
    snprintf(parser->quoted + n, sizeof parser->quoted - n, "%s", n < size ? "..." : "");
    return parser->quoted;
}

static const char *type_of(json_t *object) {
    const char *type = json_string_value(json_object_get(object, "type"));
    return type == NULL ? "" : type;
}

/* Refuses members of `object` that are not in `known`, which ends with NULL. */
static int check_members(struct parser *parser, json_t *object, const char *what,
                         const char *const *known) {
    const char *key;
    json_t *value;

    if (!json_is_object(object))
        return refuse(parser, "The %s in tokenizer.json is not an object.", what);
    json_object_foreach(object, key, value) {
        const char *const *at = known;
        while (*at != NULL && strcmp(*at, key) != 0)
            at++;
        if (*at == NULL)
            return refuse(parser,
                          "The %s in tokenizer.json has a member \"%s\", which is not understood.",
                          what, quote(parser, key));
    }
    return 0;
}

static int read_flag(struct parser *parser, json_t *object, const char *what, const char *key,
                     bool *flag) {
    json_t *value = json_object_get(object, key);

    if (!json_is_boolean(value))
        return refuse(parser, "The %s in tokenizer.json needs \"%s\": true or false.", what, key);
    *flag = json_is_true(value);
    return 0;
}

static int read_id(struct parser *parser, json_t *value, const char *content, uint32_t *id) {
    if (!json_is_integer(value))
        return refuse(parser, "The id of \"%s\" in tokenizer.json is not a whole number.",
                      quote(parser, content));
    json_int_t number = json_integer_value(value);
    if (number < 0 || number >= MOULT_VOCABULARY_MAX)
        return refuse(parser, "The id %" JSON_INTEGER_FORMAT " of \"%s\" in tokenizer.json is not "
                      "between 0 and %d.", number, quote(parser, content),
                      MOULT_VOCABULARY_MAX - 1);
    *id = (uint32_t)number;
    return 0;
}

static int parse_root(struct parser *parser, json_t *root) {
    json_t *version;

    if (!json_is_object(root))
        return refuse(parser, "tokenizer.json is not a JSON object.");
    version = json_object_get(root, "version");
    if (version != NULL && (!json_is_string(version) ||
                            strcmp(json_string_value(version), "1.0") != 0))
        return refuse(parser, "tokenizer.json has a version other than \"1.0\".");
    /* The model comes first: of a file that is of another kind, its type says most. */
    if (parse_model(parser, root) != 0 ||
        check_members(parser, root, "top level",
                      MEMBERS("version", "truncation", "padding", "added_tokens", "normalizer",
                              "pre_tokenizer", "post_processor", "decoder", "model")) != 0 ||
        parse_normalizer(parser, root) != 0 || parse_pre_tokenizer(parser, root) != 0 ||
        parse_added(parser, root) != 0 || parse_post_processor(parser, root) != 0)
        return -1;
    json_t *prefix = json_object_get(json_object_get(root, "model"), "continuing_subword_prefix");
    moult_tokenizer_digest(parser->tokenizer, parser->vocabulary, parser->vocabulary_count,
                           json_string_value(prefix), json_string_length(prefix));
    return 0;
}

static int parse_model(struct parser *parser, json_t *root) {
    struct moult_wordpiece *wordpiece = &parser->tokenizer->wordpiece;
    json_t *model = json_object_get(root, "model");

    if (!json_is_object(model))
        return refuse(parser, "tokenizer.json has no model.");
    /* Files of 2020 have no type; then the members below tell. */
    if (json_object_get(model, "type") != NULL && strcmp(type_of(model), "WordPiece") != 0)
        return refuse(parser, "The tokenizer's model is \"%s\"; only \"WordPiece\" is understood.",
                      quote(parser, type_of(model)));
    if (check_members(parser, model, "model",
                      MEMBERS("type", "unk_token", "continuing_subword_prefix",
                              "max_input_chars_per_word", "vocab")) != 0)
        return -1;
    json_t *unknown = json_object_get(model, "unk_token");
    json_t *prefix = json_object_get(model, "continuing_subword_prefix");
    json_t *characters_max = json_object_get(model, "max_input_chars_per_word");
    if (!json_is_string(unknown) || !json_is_string(prefix))
        return refuse(parser, "The model in tokenizer.json needs \"unk_token\" and "
                      "\"continuing_subword_prefix\", both strings.");
    if (!json_is_integer(characters_max) || json_integer_value(characters_max) < 0)
        return refuse(parser, "The model in tokenizer.json needs \"max_input_chars_per_word\", a "
                      "whole number.");
    wordpiece->characters_max = (uint64_t)json_integer_value(characters_max);
    if (parse_vocabulary(parser, json_object_get(model, "vocab")) != 0)
        return -1;
    return build_wordpiece(parser, unknown, prefix);
}

static int compare_values(const void *a, const void *b) {
    const struct moult_trie_entry *x = a, *y = b;
    return (x->value > y->value) - (x->value < y->value);
}

static int parse_vocabulary(struct parser *parser, json_t *vocabulary) {
    const char *content;
    json_t *value;
    size_t bytes = 0;

    if (!json_is_object(vocabulary) || json_object_size(vocabulary) == 0)
        return refuse(parser, "The model in tokenizer.json needs \"vocab\", an object that is not "
                      "empty.");
    if (json_object_size(vocabulary) > MOULT_VOCABULARY_MAX)
        return moult_fail(parser->error, MOULT_ERROR_LIMIT,
                          "The vocabulary has %zu tokens, more than %d.",
                          json_object_size(vocabulary), MOULT_VOCABULARY_MAX);
    parser->vocabulary = moult_allocate(json_object_size(vocabulary), sizeof *parser->vocabulary);
    json_object_foreach(vocabulary, content, value) {
        struct moult_trie_entry *entry = &parser->vocabulary[parser->vocabulary_count];
        size_t size = strlen(content);
        if (read_id(parser, value, content, &entry->value) != 0)
            return -1;
        if (size > MOULT_TOKEN_BYTES_MAX || (bytes += size) > MOULT_VOCABULARY_TEXT_BYTES_MAX)
            return moult_fail(parser->error, MOULT_ERROR_LIMIT,
                              "The token \"%s\" has more than %d bytes, or all tokens together "
                              "more than %lu.", quote(parser, content), MOULT_TOKEN_BYTES_MAX,
                              MOULT_VOCABULARY_TEXT_BYTES_MAX);
        entry->bytes = content;
        entry->size = (uint32_t)size;
        parser->vocabulary_count++;
    }

    qsort(parser->vocabulary, parser->vocabulary_count, sizeof *parser->vocabulary,
          compare_values);
    for (uint32_t n = 1; n < parser->vocabulary_count; n++)
        if (parser->vocabulary[n].value == parser->vocabulary[n - 1].value)
            return refuse(parser, "Two tokens of the vocabulary have the id %" PRIu32 "; one of "
                          "them is \"%s\".", parser->vocabulary[n].value,
                          quote(parser, parser->vocabulary[n].bytes));
    parser->tokenizer->vocabulary_size =
        parser->vocabulary[parser->vocabulary_count - 1].value + 1;
    return 0;
}

static int build_wordpiece(struct parser *parser, json_t *unknown, json_t *prefix) {
    struct moult_wordpiece *wordpiece = &parser->tokenizer->wordpiece;
    uint32_t count = parser->vocabulary_count, used = 0;
    struct moult_trie_entry *entries = moult_allocate(count, sizeof *entries);

    /* The empty token, should there be one, is never looked for. */
    for (uint32_t n = 0; n < count; n++)
        if (parser->vocabulary[n].size > 0)
            entries[used++] = parser->vocabulary[n];
    qsort(entries, used, sizeof *entries, moult_trie_entry_compare);
    moult_trie_build(&wordpiece->trie, entries, used);
    wordpiece->continuing = moult_trie_walk(&wordpiece->trie, MOULT_TRIE_ROOT,
                                            json_string_value(prefix),
                                            json_string_length(prefix));

    struct moult_trie_entry key = {json_string_value(unknown),
                                   (uint32_t)json_string_length(unknown), 0};
    struct moult_trie_entry *found = key.size == 0 ? NULL :
        bsearch(&key, entries, used, sizeof *entries, moult_trie_entry_compare);
    if (found != NULL)
        wordpiece->unknown_id = found->value;
    free(entries);
    if (found == NULL)
        return refuse(parser, "The unknown token \"%s\" is not in the vocabulary.",
                      quote(parser, json_string_value(unknown)));
    return 0;
}

static int parse_normalizer(struct parser *parser, json_t *root) {
    struct moult_normalizer *normalizer = &parser->tokenizer->normalizer;
    json_t *object = json_object_get(root, "normalizer");
    static const char what[] = "normalizer";

    if (object != NULL && !json_is_null(object)) {
        if (strcmp(type_of(object), "BertNormalizer") != 0)
            return refuse(parser, "The tokenizer's normalizer is \"%s\"; only \"BertNormalizer\" "
                          "and none are understood.", quote(parser, type_of(object)));
        if (check_members(parser, object, what,
                          MEMBERS("type", "clean_text", "handle_chinese_chars", "strip_accents",
                                  "lowercase")) != 0 ||
            read_flag(parser, object, what, "clean_text", &normalizer->clean_text) != 0 ||
            read_flag(parser, object, what, "handle_chinese_chars",
                      &normalizer->handle_chinese_chars) != 0 ||
            read_flag(parser, object, what, "lowercase", &normalizer->lowercase) != 0)
            return -1;
        json_t *strip = json_object_get(object, "strip_accents");
        normalizer->strip_accents = normalizer->lowercase;
        if (strip != NULL && !json_is_null(strip) &&
            read_flag(parser, object, what, "strip_accents", &normalizer->strip_accents) != 0)
            return -1;
    }
    moult_normalizer_prepare(normalizer);
    return 0;
}

static int parse_pre_tokenizer(struct parser *parser, json_t *root) {
    json_t *object = json_object_get(root, "pre_tokenizer");

    if (strcmp(type_of(object), "BertPreTokenizer") != 0)
        return refuse(parser, "The tokenizer's pre-tokenizer is \"%s\"; only "
                      "\"BertPreTokenizer\" is understood.", quote(parser, type_of(object)));
    return check_members(parser, object, "pre-tokenizer", MEMBERS("type"));
}

static int parse_added(struct parser *parser, json_t *root) {
    struct moult_tokenizer *tokenizer = parser->tokenizer;
    json_t *list = json_object_get(root, "added_tokens"), *item;
    uint32_t next_id = parser->vocabulary_count;
    size_t n;

    if (list != NULL && !json_is_array(list))
        return refuse(parser, "\"added_tokens\" in tokenizer.json is not a list.");
    if (json_array_size(list) > MOULT_ADDED_TOKENS_MAX)
        return moult_fail(parser->error, MOULT_ERROR_LIMIT,
                          "tokenizer.json adds %zu tokens, more than %d.", json_array_size(list),
                          MOULT_ADDED_TOKENS_MAX);
    tokenizer->added = moult_allocate(json_array_size(list), sizeof *tokenizer->added);
    json_array_foreach(list, n, item) {
        if (parse_added_token(parser, item, &next_id) != 0)
            return -1;
    }
    return build_added(parser);
}

/* Whether the vocabulary has the token, and its id. */
static bool find_token(const struct parser *parser, const char *content, size_t size,
                       uint32_t *id) {
    return moult_trie_longest(&parser->tokenizer->wordpiece.trie, MOULT_TRIE_ROOT, content, size,
                              id) == size;
}

static bool has_id(const struct parser *parser, uint32_t id) {
    struct moult_trie_entry key = {.value = id};
    return bsearch(&key, parser->vocabulary, parser->vocabulary_count, sizeof key,
                   compare_values) != NULL;
}

/* The library does not look at the id in the file: a token of the vocabulary has its
 * id there, any other the next one, counted from the size of the vocabulary. Where
 * the file says anything else, it contradicts itself. */
static int parse_added_token(struct parser *parser, json_t *item, uint32_t *next_id) {
    struct moult_tokenizer *tokenizer = parser->tokenizer;
    struct moult_added_token *token = &tokenizer->added[tokenizer->added_count];
    static const char what[] = "added token";
    uint32_t expected;

    if (check_members(parser, item, what,
                      MEMBERS("id", "content", "special", "normalized", "single_word", "lstrip",
                              "rstrip")) != 0 ||
        read_flag(parser, item, what, "special", &token->special) != 0 ||
        read_flag(parser, item, what, "normalized", &token->normalized) != 0 ||
        read_flag(parser, item, what, "single_word", &token->single_word) != 0 ||
        read_flag(parser, item, what, "lstrip", &token->lstrip) != 0 ||
        read_flag(parser, item, what, "rstrip", &token->rstrip) != 0)
        return -1;
    json_t *value = json_object_get(item, "content");
    if (!json_is_string(value))
        return refuse(parser, "An added token in tokenizer.json has no content.");
    const char *content = json_string_value(value);
    size_t size = json_string_length(value);
    if (size == 0)   /* It can never be found, and the library leaves it out. */
        return 0;
    if (size > MOULT_TOKEN_BYTES_MAX)
        return moult_fail(parser->error, MOULT_ERROR_LIMIT,
                          "The added token \"%s\" has more than %d bytes.",
                          quote(parser, content), MOULT_TOKEN_BYTES_MAX);
    if (read_id(parser, json_object_get(item, "id"), content, &token->id) != 0)
        return -1;

    bool known = find_token(parser, content, size, &expected);
    if (!known)
        expected = (*next_id)++;
    if (token->id != expected || (!known && has_id(parser, token->id)))
        return refuse(parser, "The added token \"%s\" has the id %" PRIu32 " in tokenizer.json, "
                      "but its place in the vocabulary is %" PRIu32 ".",
                      quote(parser, content), token->id, expected);
    if (tokenizer->vocabulary_size <= token->id)
        tokenizer->vocabulary_size = token->id + 1;
    token->content = moult_copy_bytes(content, size);
    token->content_size = (uint32_t)size;
    tokenizer->added_count++;
    return 0;
}

static int compare_contents(const void *a, const void *b) {
    const struct moult_added_token *x = a, *y = b;
    return moult_trie_entry_compare(&(struct moult_trie_entry){x->content, x->content_size, 0},
                                    &(struct moult_trie_entry){y->content, y->content_size, 0});
}

static int build_added(struct parser *parser) {
    struct moult_tokenizer *tokenizer = parser->tokenizer;
    const struct moult_added_token *twin = NULL;

    qsort(tokenizer->added, tokenizer->added_count, sizeof *tokenizer->added, compare_contents);
    for (uint32_t n = 0; n < tokenizer->added_count; n++) {
        struct moult_added_token *token = &tokenizer->added[n];
        if (n > 0 && compare_contents(token, token - 1) == 0)
            return refuse(parser, "tokenizer.json adds the token \"%s\" twice.",
                          quote(parser, token->content));
        if (make_pattern(parser, token) != 0)
            return -1;
    }
    twin = moult_added_set_build(&tokenizer->added_raw, tokenizer->added,
                                 tokenizer->added_count, false);
    if (twin == NULL)
        twin = moult_added_set_build(&tokenizer->added_normalized, tokenizer->added,
                                     tokenizer->added_count, true);
    if (twin != NULL)
        return refuse(parser, "Another added token becomes the same as \"%s\" when it is "
                      "normalized.", quote(parser, twin->content));
    return 0;
}

static int make_pattern(struct parser *parser, struct moult_added_token *token) {
    const struct moult_normalizer *normalizer = &parser->tokenizer->normalizer;
    struct moult_normal normal = {0};

    if (!token->normalized) {
        token->pattern = moult_copy_bytes(token->content, token->content_size);
        token->pattern_size = token->content_size;
        return 0;
    }
    moult_normalize(normalizer, &normal, token->content, token->content_size, 0);
    moult_normalize_end(normalizer, &normal);
    token->pattern = moult_copy_bytes(normal.bytes, normal.size);
    token->pattern_size = (uint32_t)normal.size;
    moult_normal_release(&normal);
    if (token->pattern_size == 0)
        return refuse(parser, "Nothing is left of the added token \"%s\" when it is normalized.",
                      quote(parser, token->content));
    return 0;
}

static int parse_post_processor(struct parser *parser, json_t *root) {
    json_t *object = json_object_get(root, "post_processor");

    /* What stands around a text. Room for the most of it, so that nothing below grows. */
    parser->tokenizer->before = moult_allocate(MOULT_SPECIAL_TOKENS_MAX, sizeof(uint32_t));
    parser->tokenizer->after = moult_allocate(MOULT_SPECIAL_TOKENS_MAX, sizeof(uint32_t));
    if (object == NULL || json_is_null(object))
        return 0;
    if (strcmp(type_of(object), "BertProcessing") == 0)
        return parse_bert_processing(parser, object);
    if (strcmp(type_of(object), "TemplateProcessing") == 0)
        return parse_template(parser, object);
    return refuse(parser, "The tokenizer's post-processor is \"%s\"; only \"TemplateProcessing\", "
                  "\"BertProcessing\" and none are understood.", quote(parser, type_of(object)));
}

static int put_around(struct parser *parser, bool behind, json_t *value, const char *content) {
    struct moult_tokenizer *tokenizer = parser->tokenizer;
    uint32_t id;

    if (read_id(parser, value, content, &id) != 0)
        return -1;
    if (id >= tokenizer->vocabulary_size)
        return refuse(parser, "The post-processor has the id %" PRIu32 " for \"%s\", but the "
                      "vocabulary ends at %" PRIu32 ".", id, quote(parser, content),
                      tokenizer->vocabulary_size - 1);
    if (tokenizer->before_count + tokenizer->after_count == MOULT_SPECIAL_TOKENS_MAX)
        return moult_fail(parser->error, MOULT_ERROR_LIMIT,
                          "The post-processor puts more than %d tokens around a text.",
                          MOULT_SPECIAL_TOKENS_MAX);
    if (behind)
        tokenizer->after[tokenizer->after_count++] = id;
    else
        tokenizer->before[tokenizer->before_count++] = id;
    return 0;
}

static int parse_bert_processing(struct parser *parser, json_t *processor) {
    static const char *const keys[] = {"cls", "sep"};

    if (check_members(parser, processor, "post-processor", MEMBERS("type", "cls", "sep")) != 0)
        return -1;
    for (int n = 0; n < 2; n++) {
        json_t *pair = json_object_get(processor, keys[n]);
        if (json_array_size(pair) != 2 || !json_is_string(json_array_get(pair, 0)))
            return refuse(parser, "The post-processor in tokenizer.json needs \"%s\": [token, "
                          "id].", keys[n]);
        if (put_around(parser, n == 1, json_array_get(pair, 1),
                       json_string_value(json_array_get(pair, 0))) != 0)
            return -1;
    }
    return 0;
}

static int parse_template(struct parser *parser, json_t *processor) {
    json_t *special_tokens, *single, *piece;
    bool text_seen = false;
    size_t n;

    if (check_members(parser, processor, "post-processor",
                      MEMBERS("type", "single", "pair", "special_tokens")) != 0)
        return -1;
    special_tokens = json_object_get(processor, "special_tokens");
    single = json_object_get(processor, "single");
    if (!json_is_array(single) || !json_is_object(special_tokens))
        return refuse(parser, "The post-processor in tokenizer.json needs \"single\", a list, and "
                      "\"special_tokens\", an object.");
    json_array_foreach(single, n, piece) {
        if (parse_template_piece(parser, piece, special_tokens, &text_seen) != 0)
            return -1;
    }
    if (!text_seen)
        return refuse(parser, "The post-processor's template \"single\" has no place for the "
                      "text.");
    return 0;
}

/* Type ids are not looked at: the model gives all tokens of a text the same. */
static int parse_template_piece(struct parser *parser, json_t *piece, json_t *special_tokens,
                                bool *text_seen) {
    json_t *sequence = json_object_get(piece, "Sequence");
    json_t *special = json_object_get(piece, "SpecialToken");
    const char *id = json_string_value(json_object_get(sequence ? sequence : special, "id"));
    json_t *item;
    size_t n;

    if (id == NULL || json_object_size(piece) != 1)
        return refuse(parser, "The post-processor's template \"single\" has a piece that is "
                      "neither a text nor a special token.");
    if (sequence != NULL) {
        if (strcmp(id, "A") != 0 || *text_seen)
            return refuse(parser, "The post-processor's template \"single\" must have the text "
                          "\"A\" once, and no other.");
        *text_seen = true;
        return 0;
    }
    json_t *ids = json_object_get(json_object_get(special_tokens, id), "ids");
    if (!json_is_array(ids))
        return refuse(parser, "The post-processor's special token \"%s\" has no ids.",
                      quote(parser, id));
    json_array_foreach(ids, n, item) {
        if (put_around(parser, *text_seen, item, id) != 0)
            return -1;
    }
    return 0;
}
