#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "description.h"

struct fixture {
    struct moult_tokenizer *tokenizer;
    struct moult_tokenizer_scratch *scratch;
};

/* All of the text at most `tokens_max` tokens long, as digits: every id here has one. */
static const char *digits(struct fixture *fixture, const char *text, uint32_t tokens_max,
                          bool tail) {
    static char said[256];
    struct moult_token_ids ids;
    struct moult_error error = {0};

    if ((tail ? moult_tokenizer_encode_tail : moult_tokenizer_encode)(
            fixture->tokenizer, fixture->scratch, text, strlen(text), tokens_max, &ids,
            &error) != 0)
        fail_msg("%s", error.message);
    assert_true(ids.count < sizeof said - 1);
    for (uint32_t n = 0; n < ids.count; n++)
        said[n] = (char)('0' + ids.ids[n]);
    said[ids.count] = ids.truncated ? '+' : '\0';
    said[ids.count + 1] = '\0';
    return said;
}

static struct fixture open_fixture(struct description parts) {
    struct moult_error error = {0};
    struct fixture fixture = {parse(parts, &error), moult_tokenizer_scratch_open()};

    if (fixture.tokenizer == NULL)
        fail_msg("%s", error.message);
    return fixture;
}

static void close_fixture(struct fixture *fixture) {
    moult_tokenizer_scratch_close(fixture->scratch);
    moult_tokenizer_free(fixture->tokenizer);
}

static void words_become_the_longest_pieces(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){0});
    static const char *const cases[][2] = {
        {"", "12"}, {" \t\n", "12"}, {"a", "132"}, {"ab", "152"}, {"abb", "1542"},
        {"abc a", "15632"}, {"abx", "102"}, {"b", "102"}, {"A\xc3\x81", "102"},
        {"\xc3\x81" "b", "152"}, {"a.b", "13702"}, {"..", "1772"}, {"[UNK]a", "1032"},
        {"abbbbbbbbb", "15444444442"}, {"abbbbbbbbbb", "102"}, {"\xe4\xb8\xad" "a", "1032"},
        {"a\xe4\xb8\xad", "1302"}, {"\xcc\x81", "12"}, {"a\xcc\x81" "b", "152"},
        {"a\xe2\x80\x8b" "b", "152"}, {"[unk]", "10002"}};

    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        assert_string_equal(digits(&fixture, cases[n][0], 100, false), cases[n][1]);
    close_fixture(&fixture);
}

/* "begin-end" of each token, "*" before those that begin a word. */
static const char *places(struct fixture *fixture, const char *text, uint32_t tokens_max) {
    static char said[256];
    struct moult_token_ids ids;
    size_t size = 0;

    assert_int_equal(moult_tokenizer_encode_spans(fixture->tokenizer, fixture->scratch, text,
                                                  strlen(text), tokens_max, &ids, NULL), 0);
    said[0] = '\0';
    for (uint32_t n = 0; n < ids.count; n++) {
        const struct moult_token_span *span = &ids.spans[n];
        assert_int_equal(span->special, n == 0 || n == ids.count - 1);
        if (!span->special)
            size += (size_t)snprintf(said + size, sizeof said - size, "%s%u-%u ",
                                     span->begins_word ? "*" : "", span->begin, span->end);
    }
    return said;
}

static void tokens_know_where_they_come_from(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){0});
    static const char *const cases[][2] = {
        {"", ""}, {"  \t", ""}, {" abc a", "*1-3 3-4 *5-6 "}, {"a.b", "*0-1 *1-2 *2-3 "},
        {"\xc3\x81" "b", "*0-3 "},                  /* A with an accent is taken apart. */
        {"a\xcc\x81" "b c", "*0-4 *5-6 "},          /* The mark between a and b is removed, */
        {"ab\xcc\x81 .", "*0-2 *5-6 "},             /* and that behind them is nobody's. */
        {"a\xe2\x80\x8b" "b", "*0-5 "}, {"\xe4\xb8\xad" "a", "*0-3 *3-4 "},
        {"[UNK]a", "*0-5 *5-6 "}, {"abbbbbbbbbb e", "*0-11 *12-13 "}};

    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++)
        assert_string_equal(places(&fixture, cases[n][0], 100), cases[n][1]);
    assert_string_equal(places(&fixture, "abc a", 4), "*0-2 2-3 ");
    /* A word that is too long is one token, however many blocks it has. */
    char *text = moult_allocate(1, 6001);
    memset(text, 'a', 6000);
    memcpy(text, " . ", 3);
    memcpy(text + 5990, " .", 2);
    assert_string_equal(places(&fixture, text, 100), "*1-2 *3-5990 *5991-5992 *5992-6000 ");
    free(text);
    close_fixture(&fixture);
}

static void truncation_is_exact(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){0});

    assert_string_equal(digits(&fixture, "a . e", 5, false), "13782");
    assert_string_equal(digits(&fixture, "a . e", 4, false), "1372+");
    assert_string_equal(digits(&fixture, "a . e", 3, false), "132+");
    assert_string_equal(digits(&fixture, "a . e", 2, false), "12+");
    assert_string_equal(digits(&fixture, "a . e", 4, true), "1782+");
    assert_string_equal(digits(&fixture, "a . e", 5, true), "13782");
    assert_string_equal(digits(&fixture, "a . e", 2, true), "12+");
    /* White space behind the last token that fits is no token. */
    assert_string_equal(digits(&fixture, "a .   \xcc\x81", 4, false), "1372");
    assert_string_equal(digits(&fixture, "a .  [UNK]", 4, false), "1372+");
    /* A word is cut too. */
    assert_string_equal(digits(&fixture, "abc", 3, false), "152+");
    assert_string_equal(digits(&fixture, "abc", 3, true), "162+");
    assert_string_equal(digits(&fixture, "", 2, false), "12");
    close_fixture(&fixture);
}

static void too_little_room_is_an_error(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){0});
    struct moult_token_ids ids;
    struct moult_error error = {0};

    assert_int_equal(moult_tokenizer_encode(fixture.tokenizer, fixture.scratch, "a", 1, 1, &ids,
                                            &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_INVALID);
    assert_non_null(strstr(error.message, "puts 2"));
    close_fixture(&fixture);
}

static void without_post_processor_nothing_is_around(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){.post_processor = "null"});

    assert_int_equal(moult_tokenizer_special_count(fixture.tokenizer), 0);
    assert_string_equal(digits(&fixture, "", 0, false), "");
    assert_string_equal(digits(&fixture, "a", 0, false), "+");
    assert_string_equal(digits(&fixture, "a.", 1, true), "7+");
    close_fixture(&fixture);
}

#define TOKENS "[{\"id\":9,\"content\":\" X\",\"special\":false,\"normalized\":true," \
               "\"single_word\":true,\"lstrip\":false,\"rstrip\":false}," \
               "{\"id\":10,\"content\":\"<y>\",\"special\":false,\"normalized\":false," \
               "\"single_word\":false,\"lstrip\":true,\"rstrip\":true}]"

/* Ten times the memory that may be read, and none of it behind that: the text that is not
 * needed is not even looked at. */
static void work_stops_when_the_places_are_full(void **state) {
    (void)state;
    static const char *const patterns[] = {
        "a ", "ab. ", "a", "\xe4\xb8\xad", ".", "<y>", "a x", "\xc3\xa9 ", "e\xcc\x81 ", "[UNK]"};
    const size_t readable = 64 * 1024, size = 10 * 1024 * 1024;
    char *text = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(text != MAP_FAILED);
    assert_int_equal(mprotect(text + readable, size - readable, PROT_NONE), 0);
    for (int added = 0; added < 2; added++) {
        struct fixture fixture =
            open_fixture((struct description){.added = added ? TOKENS : NULL});
        for (size_t n = 0; n < sizeof patterns / sizeof *patterns; n++) {
            size_t length = strlen(patterns[n]);
            struct moult_token_ids ids;
            for (size_t at = 0; at < readable; at++)
                text[at] = patterns[n][at % length];
            if (strcmp(patterns[n], "a") == 0)   /* One word: full only after another one. */
                memcpy(text, "a a a a a a ", 12);
            assert_int_equal(moult_tokenizer_encode(fixture.tokenizer, fixture.scratch, text, size,
                                                    8, &ids, NULL), 0);
            assert_int_equal(ids.count, 8);
            assert_true(ids.truncated);
            assert_int_equal(ids.ids[0], 1);
            assert_int_equal(ids.ids[7], 2);
        }
        close_fixture(&fixture);
    }
    munmap(text, size);
}

/* The same text with a border of blocks at every place. */
static void borders_of_blocks_change_nothing(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){.added = TOKENS});
    static const char piece[] = "abc <y>  . x \xc3\xa9\xe4\xb8\xad" "a\xcc\x81" "b XX <y> X";
    const size_t length = sizeof piece - 1;
    struct moult_token_ids ids;
    uint32_t expected[64], count;
    struct moult_error error = {0};

    assert_int_equal(moult_tokenizer_encode(fixture.tokenizer, fixture.scratch, piece, length,
                                            64, &ids, &error), 0);
    count = ids.count - 2;
    memcpy(expected, ids.ids + 1, count * sizeof *expected);
    char *text = moult_allocate(1, 6000);
    for (size_t spaces = 900; spaces < 4300; spaces++) {
        memset(text, ' ', spaces);
        text[0] = 'e';
        memcpy(text + spaces, piece, length);
        assert_int_equal(moult_tokenizer_encode(fixture.tokenizer, fixture.scratch, text,
                                                spaces + length, 100, &ids, &error), 0);
        assert_int_equal(ids.count, count + 3);
        assert_int_equal(ids.ids[1], 8);
        assert_memory_equal(ids.ids + 2, expected, count * sizeof *expected);
        if (spaces == 1100)
            spaces = 4000;
    }
    free(text);
    close_fixture(&fixture);
}

/* One scratch serves any tokenizer, and a long text before changes nothing. */
static void scratches_are_not_bound(void **state) {
    (void)state;
    struct fixture fixture = open_fixture((struct description){0});
    struct fixture other = open_fixture((struct description){.post_processor = "null"});
    struct fixture mixed = {other.tokenizer, fixture.scratch};
    struct moult_token_ids ids;
    const size_t size = 8 * 1024 * 1024;
    char *text = moult_allocate(1, size);

    for (size_t at = 0; at < size; at++)
        text[at] = "a."[at % 2];
    assert_int_equal(moult_tokenizer_encode(fixture.tokenizer, fixture.scratch, text, size,
                                            UINT32_MAX, &ids, NULL), 0);
    assert_int_equal(ids.count, size + 2);
    assert_int_equal(ids.ids[size], 7);
    assert_int_equal(moult_tokenizer_encode_tail(fixture.tokenizer, fixture.scratch, text, size,
                                                 1000, &ids, NULL), 0);
    assert_int_equal(ids.count, 1000);
    for (uint32_t n = 1; n < 999; n++)
        assert_int_equal(ids.ids[n], n % 2 ? 3 : 7);
    assert_string_equal(digits(&mixed, "a", 9, false), "3");
    assert_string_equal(digits(&fixture, "a", 9, false), "132");
    free(text);
    close_fixture(&fixture);
    close_fixture(&other);
    moult_tokenizer_scratch_close(NULL);
}

static void fingerprint(struct description parts, char hex[MOULT_SHA256_HEX]) {
    struct moult_error error = {0};
    struct moult_tokenizer *tokenizer = parse(parts, &error);
    struct moult_sha256 *hash = moult_sha256_open();

    if (tokenizer == NULL)
        fail_msg("%s", error.message);
    moult_tokenizer_fingerprint(tokenizer, hash);
    moult_sha256_close(hash, hex);
    moult_tokenizer_free(tokenizer);
}

#define MODEL(max, vocabulary) \
    "{\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\",\"vocab\":{" vocabulary \
    "},\"max_input_chars_per_word\":" max "}"

static void the_fingerprint_is_of_what_decides_ids(void **state) {
    (void)state;
    char first[MOULT_SHA256_HEX], other[MOULT_SHA256_HEX];
    const struct description same[] = {
        {.post_processor = "{\"type\":\"TemplateProcessing\",\"single\":["
                           "{\"SpecialToken\":{\"id\":\"C\",\"type_id\":0}},"
                           "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
                           "{\"SpecialToken\":{\"id\":\"S\",\"type_id\":1}}],\"pair\":[],"
                           "\"special_tokens\":{\"C\":{\"ids\":[1]},\"S\":{\"ids\":[2]}}}"},
        {.normalizer = "{\"lowercase\":true,\"strip_accents\":true,\"clean_text\":true,"
                       "\"handle_chinese_chars\":true,\"type\":\"BertNormalizer\"}"},
        {.model = MODEL("10", "\"[CLS]\":1,\"[SEP]\":2,\"[UNK]\":0,\"e\":8,\"##c\":6,\"ab\":5,"
                              "\"##b\":4,\".\":7,\"a\":3")}};
    const struct description unlike[] = {
        {.post_processor = "null"}, {.added = "[]"}, {.normalizer = "null"}, {.added = TOKENS},
        {.model = MODEL("11", "\"[CLS]\":1,\"[SEP]\":2,\"[UNK]\":0,\"e\":8,\"##c\":6,\"ab\":5,"
                              "\"##b\":4,\".\":7,\"a\":3")},
        {.model = MODEL("10", "\"[CLS]\":1,\"[SEP]\":2,\"[UNK]\":0,\"e\":8,\"##c\":6,\"ab\":5,"
                              "\"##b\":4,\".\":3,\"a\":7")}};

    fingerprint((struct description){0}, first);
    for (size_t n = 0; n < sizeof same / sizeof *same; n++) {
        fingerprint(same[n], other);
        assert_string_equal(first, other);
    }
    for (size_t n = 0; n < sizeof unlike / sizeof *unlike; n++) {
        fingerprint(unlike[n], other);
        assert_string_not_equal(first, other);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_become_the_longest_pieces),
        cmocka_unit_test(tokens_know_where_they_come_from),
        cmocka_unit_test(truncation_is_exact),
        cmocka_unit_test(too_little_room_is_an_error),
        cmocka_unit_test(without_post_processor_nothing_is_around),
        cmocka_unit_test(work_stops_when_the_places_are_full),
        cmocka_unit_test(borders_of_blocks_change_nothing),
        cmocka_unit_test(scratches_are_not_bound),
        cmocka_unit_test(the_fingerprint_is_of_what_decides_ids),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
