/* What a tokenizer.json must not be, and what is said then. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"
#include "description.h"

static void refuses(struct description parts, const char *said) {
    struct moult_error error = {0};
    struct moult_tokenizer *tokenizer = parse(parts, &error);

    if (tokenizer != NULL) {
        moult_tokenizer_free(tokenizer);
        fail_msg("It is taken, not refused with: %s", said);
    }
    if (strstr(error.message, said) == NULL)
        fail_msg("\"%s\" does not say \"%s\".", error.message, said);
    assert_true(error.code == MOULT_ERROR_INVALID || error.code == MOULT_ERROR_LIMIT);
    assert_int_equal(error.message[strlen(error.message) - 1], '.');
    /* Nobody has to want the reason. */
    assert_null(parse(parts, NULL));
}

static void takes(struct description parts) {
    struct moult_error error = {0};
    struct moult_tokenizer *tokenizer = parse(parts, &error);

    if (tokenizer == NULL)
        fail_msg("%s", error.message);
    moult_tokenizer_free(tokenizer);
}

#define WITH(member, value) (struct description){.member = value}

#define MODEL(type, unknown, prefix, characters_max, vocabulary) \
    "{" type "\"unk_token\":" unknown ",\"continuing_subword_prefix\":" prefix \
    ",\"max_input_chars_per_word\":" characters_max ",\"vocab\":" vocabulary "}"
#define WORDPIECE(vocabulary) \
    MODEL("\"type\":\"WordPiece\",", "\"[UNK]\"", "\"##\"", "100", vocabulary)
#define ADDED(id, content, normalized) \
    "{\"id\":" id ",\"content\":\"" content "\",\"special\":false,\"normalized\":" normalized \
    ",\"single_word\":false,\"lstrip\":false,\"rstrip\":false}"
#define TEMPLATE(single, special) \
    "{\"type\":\"TemplateProcessing\",\"single\":" single ",\"pair\":[],\"special_tokens\":" \
    special "}"
#define TEXT_A "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}"
#define CLS "{\"SpecialToken\":{\"id\":\"[CLS]\",\"type_id\":0}}"
#define CLS_IDS(ids) "{\"[CLS]\":{\"id\":\"[CLS]\",\"ids\":" ids ",\"tokens\":[\"[CLS]\"]}}"

static void broken_json(void **state) {
    (void)state;
    static const struct {
        const char *json, *said;
    } cases[] = {
        {"", "line 1"}, {"{", "line 1"}, {"[]", "not a JSON object"}, {"null", "line 1"},
        {"{}", "has no model"}, {"{\"a\":1,\"a\":2}", "duplicate"}, {"{\"a\":\"\xff\"}", "line 1"},
        {"{\"model\":{}} x", "line 1"}, {"\"", "line 1"}, {"\"\\", "line 1"},
        {"{\"model\":{\"vocab\":{\"\\u0000\":1}}}", "NUL"},
        {"{\"model\":{\"vocab\":{\"\\ud800\":1}}}", "line 1"},
    };
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        struct moult_error error = {0};
        assert_null(moult_tokenizer_parse(cases[n].json, strlen(cases[n].json), &error));
        if (strstr(error.message, cases[n].said) == NULL)
            fail_msg("\"%s\" does not say \"%s\".", error.message, cases[n].said);
    }
}

static void too_deep_or_too_large(void **state) {
    (void)state;
    struct moult_error error = {0};
    char *deep = moult_allocate(1, 1000001);

    memset(deep, '[', 1000000);
    assert_null(moult_tokenizer_parse(deep, 1000000, &error));
    assert_non_null(strstr(error.message, "deep"));
    free(deep);
    /* Its bytes are not looked at. */
    assert_null(moult_tokenizer_parse("", MOULT_TOKENIZER_BYTES_MAX + 1, &error));
    assert_int_equal(error.code, MOULT_ERROR_LIMIT);
    refuses(WITH(more, ",\"version\":\"1.0\""), "duplicate");
}

static void brackets_in_strings_are_not_depth(void **state) {
    (void)state;
    char brackets[201], *vocabulary;

    memset(brackets, '[', 200);
    brackets[200] = '\0';
    vocabulary = moult_format(WORDPIECE("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"\\\"%s\":3}"),
                              brackets);
    takes(WITH(model, vocabulary));
    free(vocabulary);
}

static void other_kinds(void **state) {
    (void)state;
    refuses(WITH(model, "{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}"), "model is \"BPE\"");
    refuses(WITH(model, "{\"type\":7}"), "model is \"\"");
    refuses(WITH(model, "{\"type\":\"W\\u0000\\u001b\\n\"}"), "model is \"W\"");
    refuses(WITH(model, "{\"type\":\"W\\u001b\\n\\u00e9\"}"), "model is \"W????\"");
    refuses(WITH(normalizer, "{\"type\":\"NFKC\"}"), "normalizer is \"NFKC\"");
    refuses(WITH(normalizer, "{\"type\":\"Sequence\",\"normalizers\":[]}"), "\"Sequence\"");
    refuses(WITH(normalizer, "[]"), "normalizer is \"\"");
    refuses(WITH(pre_tokenizer, "null"), "pre-tokenizer is \"\"");
    refuses(WITH(pre_tokenizer, "{\"type\":\"ByteLevel\"}"), "pre-tokenizer is \"ByteLevel\"");
    refuses(WITH(post_processor, "{\"type\":\"RobertaProcessing\"}"), "\"RobertaProcessing\"");
    refuses(WITH(more, ",\"unheard\":0"), "a member \"unheard\"");
    refuses(WITH(more, ",\"\":0"), "a member \"\"");
    refuses(WITH(more, ",\"decoder model\":0"), "a member \"decoder model\"");
    refuses(WITH(pre_tokenizer, "{\"type\":\"BertPreTokenizer\",\"x\":1}"), "a member \"x\"");
}

static void broken_normalizers(void **state) {
    (void)state;
#define NORMALIZER(clean, chinese, strip, more) \
    "{\"type\":\"BertNormalizer\",\"clean_text\":" clean ",\"handle_chinese_chars\":" chinese \
    ",\"strip_accents\":" strip more "}"
    takes(WITH(normalizer, "null"));
    takes(WITH(normalizer, NORMALIZER("true", "false", "true", ",\"lowercase\":false")));
    refuses(WITH(normalizer, NORMALIZER("1", "true", "null", ",\"lowercase\":true")), "clean_text");
    refuses(WITH(normalizer, NORMALIZER("true", "null", "null", ",\"lowercase\":true")),
            "handle_chinese_chars");
    refuses(WITH(normalizer, NORMALIZER("true", "true", "0", ",\"lowercase\":true")),
            "strip_accents");
    refuses(WITH(normalizer, NORMALIZER("true", "true", "null", "")), "lowercase");
    refuses(WITH(normalizer, NORMALIZER("true", "true", "null", ",\"lowercase\":true,\"x\":0")),
            "a member \"x\"");
}

static void broken_models(void **state) {
    (void)state;
#define FEW "{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2}"
    takes(WITH(model, MODEL("", "\"[UNK]\"", "\"##\"", "100", FEW)));
    takes(WITH(model, MODEL("", "\"[UNK]\"", "\"\"", "0", FEW)));
    refuses(WITH(model, MODEL("", "null", "\"##\"", "100", FEW)), "unk_token");
    refuses(WITH(model, MODEL("", "\"[UNK]\"", "2", "100", FEW)), "continuing_subword_prefix");
    refuses(WITH(model, MODEL("", "\"[UNK]\"", "\"##\"", "-1", FEW)), "max_input_chars_per_word");
    refuses(WITH(model, MODEL("", "\"[UNK]\"", "\"##\"", "1.5", FEW)), "max_input_chars_per_word");
    refuses(WITH(model, MODEL("", "\"[UNK]\"", "\"##\"", "99999999999999999999", FEW)), "line 1");
    refuses(WITH(model, MODEL("", "\"unk\"", "\"##\"", "100", FEW)), "\"unk\" is not in");
    refuses(WITH(model, MODEL("", "\"\"", "\"##\"", "100", FEW)), "is not in");
    refuses(WITH(model, MODEL("\"merges\":[],", "\"[UNK]\"", "\"##\"", "100", FEW)), "\"merges\"");
    refuses(WITH(model, WORDPIECE("{}")), "vocab");
    refuses(WITH(model, WORDPIECE("[\"[UNK]\"]")), "vocab");
    refuses(WITH(model, "null"), "has no model");
}

static void broken_ids(void **state) {
    (void)state;
#define VOCABULARY(id) "{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"a\":" id "}"
    takes(WITH(model, WORDPIECE(VOCABULARY("4194303"))));
    refuses(WITH(model, WORDPIECE(VOCABULARY("4194304"))), "id 4194304 of \"a\"");
    refuses(WITH(model, WORDPIECE(VOCABULARY("9223372036854775807"))), "of \"a\"");
    refuses(WITH(model, WORDPIECE(VOCABULARY("-1"))), "id -1 of \"a\"");
    refuses(WITH(model, WORDPIECE(VOCABULARY("2"))), "have the id 2");
    refuses(WITH(model, WORDPIECE(VOCABULARY("\"3\""))), "not a whole number");
    refuses(WITH(model, WORDPIECE(VOCABULARY("3.0"))), "not a whole number");
    refuses(WITH(model, WORDPIECE("{\"[UNK]\":0,\"[UNK]\":1}")), "duplicate");
    refuses(WITH(post_processor, "{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],"
                                 "\"sep\":[\"[SEP]\",9]}"), "the vocabulary ends at 8");
}

static void long_tokens(void **state) {
    (void)state;
    char *content = moult_allocate(1, MOULT_TOKEN_BYTES_MAX + 2);

    for (int more = 0; more < 2; more++) {
        memset(content, 'x', MOULT_TOKEN_BYTES_MAX + (size_t)more);
        char *model = moult_format(
            WORDPIECE("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,\"%s\":3}"), content);
        char *added = moult_format("[" ADDED("9", "%s", "false") "]", content);
        if (more) {
            refuses(WITH(model, model), "more than 1024 bytes");
            refuses(WITH(added, added), "more than 1024 bytes");
        } else {
            takes(WITH(model, model));
            takes(WITH(added, added));
        }
        free(model);
        free(added);
    }
    free(content);
}

static void broken_added_tokens(void **state) {
    (void)state;
    takes(WITH(added, "[]"));
    takes(WITH(added, "[" ADDED("9", "new", "true") "," ADDED("10", "other", "false") "]"));
    takes(WITH(added, "[" ADDED("9", "a\\u0000b", "false") "]"));
    takes(WITH(added, "[" ADDED("0", "", "false") "]"));
    refuses(WITH(added, "{}"), "not a list");
    refuses(WITH(added, "[7]"), "not an object");
    refuses(WITH(added, "[{\"id\":9,\"content\":\"new\"}]"), "special");
    refuses(WITH(added, "[" ADDED("9", "new", "null") "]"), "normalized");
    refuses(WITH(added, "[" ADDED("-9", "new", "true") "]"), "id -9 of \"new\"");
    refuses(WITH(added, "[" ADDED("\"9\"", "new", "true") "]"), "not a whole number");
    refuses(WITH(added, "[" ADDED("10", "new", "true") "]"), "its place in the vocabulary is 9");
    refuses(WITH(added, "[" ADDED("9", "a", "true") "]"), "its place in the vocabulary is 3");
    refuses(WITH(added, "[" ADDED("9", "new", "true") "," ADDED("10", "new", "true") "]"), "twice");
    refuses(WITH(added, "[" ADDED("9", "A", "true") "," ADDED("10", "\xc3\x81", "true") "]"),
            "becomes the same");
    refuses(WITH(added, "[" ADDED("9", "\xcc\x81", "true") "]"), "Nothing is left");
    /* The vocabulary has a hole, and so the next id, 3, is another token's. */
    struct description holes = WITH(added, "[" ADDED("3", "new", "true") "]");
    holes.model = WORDPIECE("{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":3}");
    refuses(holes, "id 3");
}

static void broken_post_processors(void **state) {
    (void)state;
    takes(WITH(post_processor, "null"));
    takes(WITH(post_processor, TEMPLATE("[" TEXT_A "]", "{}")));
    takes(WITH(post_processor, TEMPLATE("[" CLS "," TEXT_A "," CLS "]", CLS_IDS("[1,2]"))));
    refuses(WITH(post_processor, TEMPLATE("[" CLS "]", CLS_IDS("[1]"))), "no place for the text");
    refuses(WITH(post_processor, TEMPLATE("[" TEXT_A "," TEXT_A "]", "{}")), "once");
    refuses(WITH(post_processor, TEMPLATE("[{\"Sequence\":{\"id\":\"B\"}}]", "{}")), "once");
    refuses(WITH(post_processor, TEMPLATE("[" CLS "," TEXT_A "]", "{}")), "has no ids");
    refuses(WITH(post_processor, TEMPLATE("[" CLS "," TEXT_A "]", CLS_IDS("[-1]"))), "id -1");
    refuses(WITH(post_processor, TEMPLATE("[" CLS "," TEXT_A "]", CLS_IDS("[9]"))), "ends at 8");
    refuses(WITH(post_processor, TEMPLATE("[{\"Other\":{\"id\":\"A\"}}]", "{}")), "neither");
    refuses(WITH(post_processor, TEMPLATE("[{}]", "{}")), "neither");
    refuses(WITH(post_processor, TEMPLATE("[\"$A\"]", "{}")), "neither");
    refuses(WITH(post_processor, TEMPLATE("{}", "{}")), "\"single\", a list");
    refuses(WITH(post_processor, "{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1]}"), "\"sep\"");
    refuses(WITH(post_processor, "{\"type\":\"BertProcessing\",\"cls\":[1,\"[CLS]\"],"
                                 "\"sep\":[\"[SEP]\",2]}"), "\"cls\"");

    char ids[2 * (MOULT_SPECIAL_TOKENS_MAX + 1) + 2] = "[";
    for (int n = 0; n <= MOULT_SPECIAL_TOKENS_MAX; n++)
        memcpy(ids + 1 + 2 * n, n == MOULT_SPECIAL_TOKENS_MAX ? "1]" : "1,", 3);
    char *many = moult_format(TEMPLATE("[" TEXT_A "," CLS "]", CLS_IDS("%s")), ids);
    refuses(WITH(post_processor, many), "more than 64 tokens");
    free(many);
}

static void sizes_are_told(void **state) {
    (void)state;
    struct moult_error error = {0};
    struct moult_tokenizer *tokenizer =
        parse(WITH(added, "[" ADDED("9", "new", "true") "]"), &error);

    assert_non_null(tokenizer);
    assert_int_equal(moult_tokenizer_vocabulary_size(tokenizer), 10);
    assert_int_equal(moult_tokenizer_special_count(tokenizer), 2);
    moult_tokenizer_free(tokenizer);
    moult_tokenizer_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_json),
        cmocka_unit_test(too_deep_or_too_large),
        cmocka_unit_test(brackets_in_strings_are_not_depth),
        cmocka_unit_test(other_kinds),
        cmocka_unit_test(broken_normalizers),
        cmocka_unit_test(broken_models),
        cmocka_unit_test(broken_ids),
        cmocka_unit_test(long_tokens),
        cmocka_unit_test(broken_added_tokens),
        cmocka_unit_test(broken_post_processors),
        cmocka_unit_test(sizes_are_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
