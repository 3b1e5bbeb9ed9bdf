#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdio.h>
#include <cmocka.h>

#include "description.h"
#include "tokenizer/chunks.h"

/* Words of one letter, so that a chunk of 12 tokens has room for 10 of them. */
#define MODEL "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\"," \
              "\"continuing_subword_prefix\":\"##\",\"max_input_chars_per_word\":60," \
              "\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2," \
              "\"a\":3,\"##a\":4,\".\":5,\"!\":6,\"b\":7,\"##b\":8}}"

static struct moult_tokenizer *tokenizer;
static struct moult_tokenizer_scratch *scratch;

static int set_up(void **state) {
    (void)state;
    tokenizer = parse((struct description){.model = MODEL}, NULL);
    scratch = moult_tokenizer_scratch_open();
    return tokenizer ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    moult_tokenizer_scratch_close(scratch);
    moult_tokenizer_free(tokenizer);
    return 0;
}

static int64_t cut(const char *text, struct moult_chunking chunking, struct moult_chunk *chunks,
                   size_t chunks_max, struct moult_error *error) {
    chunking.prompt = chunking.prompt ? chunking.prompt : "";
    return moult_tokenizer_cut(tokenizer, scratch, &chunking, text, strlen(text), chunks,
                               chunks_max, error);
}

/* The chunks, each behind a "|". */
static const char *pieces(const char *text, struct moult_chunking chunking) {
    static char said[512];
    struct moult_chunk chunks[64];
    struct moult_error error;
    size_t size = 0;
    int64_t count = cut(text, chunking, chunks, 64, &error);
    if (count < 0)
        fail_msg("%s", error.message);
    for (int64_t n = 0; n < count; n++)
        size += (size_t)snprintf(said + size, sizeof said - size, "|%.*s",
                                 (int)(chunks[n].end - chunks[n].begin), text + chunks[n].begin);
    return said;
}

static const struct moult_chunking ten = {.tokens = 12};

static void what_fits_is_one_chunk(void **state) {
    (void)state;
    assert_string_equal(pieces("", ten), "|");
    assert_string_equal(pieces(" \n ", ten), "| \n ");
    assert_string_equal(pieces("a", ten), "|a");
    assert_string_equal(pieces(" a a a a a a a a a a ", ten), "| a a a a a a a a a a ");
}

static void cuts_lie_between_words(void **state) {
    (void)state;
    assert_string_equal(pieces("a a a a a a a a a a a a", ten), "|a a a a a a a a a a |a a");
    assert_string_equal(pieces("a a a a a a a a aaaa a a", ten), "|a a a a a a a a |aaaa a a");
    assert_string_equal(pieces("a a a a a a a a aa a a", ten), "|a a a a a a a a aa |a a");
    /* A mark belongs to the letter before it, and white space to the word before it. */
    assert_string_equal(pieces("a a a a a a a a a a\xcc\x81  \t\xcc\x81" "b b", ten),
                        "|a a a a a a a a a a\xcc\x81  \t\xcc\x81|b b");
}

static void a_sentence_is_not_cut_if_it_ends_soon(void **state) {
    (void)state;
    assert_string_equal(pieces("a a a a a a a. b b b b", ten), "|a a a a a a a. |b b b b");
    assert_string_equal(pieces("a a a a a a a! b b b b", ten), "|a a a a a a a! |b b b b");
    assert_string_equal(pieces("a a a a a a a a\nb b b b", ten), "|a a a a a a a a\n|b b b b");
    /* Not for one that ends too early, nor where no space is behind the stop. */
    assert_string_equal(pieces("a a a a. b b b b b b b", ten), "|a a a a. b b b b b |b b");
    assert_string_equal(pieces("a a a a a a a.b b b b", ten), "|a a a a a a a.b b |b b");
    /* Of two the later one. */
    assert_string_equal(pieces("a a a a a a. a. b b b b", ten), "|a a a a a a. a. |b b b b");
}

static void a_word_longer_than_a_chunk_is_cut_within(void **state) {
    (void)state;
    assert_string_equal(pieces("a aaaaaaaaaaaaaaa b", ten), "|a |aaaaaaaaaa|aaaaa b");
    assert_string_equal(pieces("abababababababababababababab", ten),
                        "|ababababab|ababababab|abababab");
    /* One that no token can spell is a token, however long it is. */
    assert_string_equal(pieces("a a axaxaxaxaxaxaxaxaxax a", ten),
                        "|a a axaxaxaxaxaxaxaxaxax a");
}

static void chunks_overlap_by_words(void **state) {
    (void)state;
    struct moult_chunking three = {.tokens = 12, .overlap = 3};
    assert_string_equal(pieces("a a a a a a a a a b b b b b b b b b b", three),
                        "|a a a a a a a a a b |a a b b b b b b b b |b b b b b");
    assert_string_equal(pieces("a a a a a a a aaa b b b b b b", three),
                        "|a a a a a a a aaa |aaa b b b b b b");
    /* A word of four is more than that, */
    assert_string_equal(pieces("a a a a a a aaaa b b b b b b", three),
                        "|a a a a a a aaaa |b b b b b b");
    /* and what comes next has to fit. */
    assert_string_equal(pieces("a a a a a a a a aaaaaaaaa b", three),
                        "|a a a a a a a a |a aaaaaaaaa |b");
    assert_string_equal(pieces("a a a a a a a a aaaaaaaaaa b", three),
                        "|a a a a a a a a |aaaaaaaaaa |b");
    assert_string_equal(pieces("a a a a a a a a aaaaaaaaaaaa b", three),
                        "|a a a a a a a a |aaaaaaaaaa|aa b");
}

static void a_prompt_takes_room(void **state) {
    (void)state;
    struct moult_chunking prompted = {.tokens = 12, .prompt = "b b. "};
    assert_string_equal(pieces("a a a a a a a a", prompted), "|a a a a a a a |a");
    /* One that grows together with the first word. */
    prompted.prompt = "b";
    assert_string_equal(pieces("a a a a a a a a a a", prompted), "|a a a a a a a a a |a");
}

static void too_little_room_is_an_error(void **state) {
    (void)state;
    struct moult_chunk chunks[4];
    struct moult_error error = {.code = MOULT_OK};
    struct moult_chunking chunking = {.tokens = 12, .prompt = "b b b b b "};
    assert_int_equal(cut("a", chunking, chunks, 4, &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_INVALID);
    chunking.prompt = "b b b b ";
    assert_int_equal(cut("a", chunking, chunks, 4, &error), 1);
    assert_int_equal(cut("a", (struct moult_chunking){.tokens = 2}, chunks, 4, &error), -1);
    assert_int_equal(cut("a", (struct moult_chunking){.tokens = 0}, chunks, 4, &error), -1);
    error.code = MOULT_OK;
    assert_int_equal(cut("a b a b a b a b a b", (struct moult_chunking){.tokens = 4}, chunks, 4,
                         &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_LIMIT);
}

static void count(void *context) {
    ++*(unsigned *)context;
}

static void it_shows_that_it_moves(void **state) {
    (void)state;
    struct moult_chunk chunks[8];
    unsigned times = 0;
    struct moult_chunking chunking = {.tokens = 4, .advance = count, .context = &times};
    assert_int_equal(cut("a b a b a b", chunking, chunks, 8, NULL), 3);
    assert_int_equal(times, 3);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fits_is_one_chunk),
        cmocka_unit_test(cuts_lie_between_words),
        cmocka_unit_test(a_sentence_is_not_cut_if_it_ends_soon),
        cmocka_unit_test(a_word_longer_than_a_chunk_is_cut_within),
        cmocka_unit_test(chunks_overlap_by_words),
        cmocka_unit_test(a_prompt_takes_room),
        cmocka_unit_test(too_little_room_is_an_error),
        cmocka_unit_test(it_shows_that_it_moves),
    };
    return cmocka_run_group_tests_name("chunks", tests, set_up, tear_down);
}
