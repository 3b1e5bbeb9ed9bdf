#include <math.h>
#include <sqlite3.h>

#include "helper.h"

#define HITS 16

struct found {
    struct moult_word_hit hits[HITS];
    int count;
};

static struct found find(struct place *place, uint32_t collection, const char *query,
                         const struct moult_filter *filter, uint32_t k) {
    struct found found;
    GOOD(found.count = moult_store_find_words(place->reader, collection, query, strlen(query),
                                              filter, k, found.hits, &error));
    for (int i = 0; i < found.count; i++) {
        assert_true(found.hits[i].score > 0);
        if (i > 0)
            assert_true(found.hits[i - 1].score > found.hits[i].score ||
                        (found.hits[i - 1].score == found.hits[i].score &&
                         found.hits[i - 1].seq < found.hits[i].seq));
    }
    return found;
}

static int count_found(struct place *place, uint32_t collection, const char *query) {
    return find(place, collection, query, NULL, HITS).count;
}

static void ranks_by_words(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t a = put_one(place, c, "a", "the butterfly and the moth", NULL);
    uint64_t b = put_one(place, c, "b", "a moth", NULL);
    uint64_t d = put_one(place, c, "c", "the caterpillar", NULL);
    put_one(place, c, "d", "something else", NULL);
    struct found found = find(place, c, "butterfly moth", NULL, HITS);
    assert_int_equal(2, found.count);
    assert_int_equal(a, found.hits[0].seq);
    assert_int_equal(b, found.hits[1].seq);
    found = find(place, c, "moth", NULL, 1);
    assert_int_equal(1, found.count);
    assert_int_equal(b, found.hits[0].seq);   /* It is shorter. */
    found = find(place, c, "caterpillar", NULL, HITS);
    assert_int_equal(1, found.count);
    assert_int_equal(d, found.hits[0].seq);
    assert_int_equal(0, count_found(place, c, "chrysalis"));
    assert_int_equal(0, find(place, c, "moth", NULL, 0).count);
}

/* Nothing that people type is an operator, and nothing of it is SQL. */
static void reads_queries_as_words(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "alpha near beta OR gamma", NULL);
    const char *empty[] = {"", " ", "\"", "\"\"", "*", "(", ")", "'", ";--", "?!", "^", ":", "- +",
                           "\xE2\x80\x9C\xE2\x80\x9D", "\n"};
    for (unsigned i = 0; i < sizeof empty / sizeof *empty; i++)
        if (count_found(place, c, empty[i]) != 0)
            fail_msg("\"%s\" found something", empty[i]);
    const char *one[] = {"alpha*", "\"alpha", "text:alpha", "alpha AND nothing", "NOT alpha",
                         "alpha NEAR(beta)", "{alpha}: x", "^alpha", "al' alpha; DROP TABLE texts",
                         "near", "or", "alpha\"\"beta", "(alpha", "alpha -beta", "+alpha"};
    for (unsigned i = 0; i < sizeof one / sizeof *one; i++)
        if (count_found(place, c, one[i]) != 1)
            fail_msg("\"%s\" found nothing", one[i]);
    assert_int_equal(0, count_found(place, c, "alph*"));
    struct moult_word_hit hit;
    assert_int_equal(1, moult_store_find_words(place->reader, c, "x\0alpha", 7, NULL, 1, &hit,
                                               NULL));
}

static void folds_case_and_accents(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "Caf\xC3\xA9 na\xC3\xAFve \xCE\x91\xCE\xB8\xCE\xAE\xCE\xBD\xCE\xB1",
            NULL);
    const char *queries[] = {"cafe", "CAF\xC3\x89", "naive", "Cafe\xCC\x81",
                             "\xCE\x91\xCE\x98\xCE\x89\xCE\x9D\xCE\x91"};
    for (unsigned i = 0; i < sizeof queries / sizeof *queries; i++)
        if (count_found(place, c, queries[i]) != 1)
            fail_msg("\"%s\" found nothing", queries[i]);
}

static void follows_changes(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "minilm");
    put_one(place, c, "a", "alpha beta", NULL);
    put_one(place, d, "a", "alpha", NULL);
    assert_int_equal(1, count_found(place, c, "alpha"));
    uint64_t seq = put_one(place, c, "a", "beta gamma", NULL);
    assert_int_equal(0, count_found(place, c, "alpha"));
    assert_int_equal(seq, find(place, c, "gamma", NULL, 1).hits[0].seq);
    assert_int_equal(1, count_found(place, d, "alpha"));
    delete_one(place, c, "a");
    assert_int_equal(0, count_found(place, c, "beta"));
    GOOD(moult_store_check(place->writer, &error));
}

static void filters(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "alpha", "{\"year\":1999}");
    uint64_t seq = put_one(place, c, "b", "alpha", "{\"year\":2001}");
    json_t *json = json_pack("{s:{s:i}}", "year", "$gt", 2000);
    struct moult_filter *filter = moult_filter_parse(json, NULL);
    json_decref(json);
    struct found found = find(place, c, "alpha", filter, HITS);
    assert_int_equal(1, found.count);
    assert_int_equal(seq, found.hits[0].seq);
    moult_filter_free(filter);
}

static void reads_long_queries(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "w0 w63", NULL);
    char *query = moult_allocate(MOULT_MIB, 1);
    size_t size = 0;
    for (unsigned i = 0; i < 20000; i++)
        size += (size_t)snprintf(query + size, MOULT_MIB - size, "w%u \"W%u\" ", i, i / 2);
    struct moult_word_hit hit;
    assert_int_equal(1, moult_store_find_words(place->reader, c, query, size, NULL, 1, &hit,
                                               NULL));
    memset(query, 'x', MOULT_MIB);
    assert_int_equal(0, moult_store_find_words(place->reader, c, query, MOULT_MIB, NULL, 1, &hit,
                                               NULL));
    memset(query, '"', MOULT_MIB);
    assert_int_equal(0, moult_store_find_words(place->reader, c, query, MOULT_MIB, NULL, 1, &hit,
                                               NULL));
    free(query);
}

/* In a large collection, words that most documents have are left out: but not where there are no
 * others. */
static void leaves_out_what_all_have(void **state) {
    struct place *place = *state;
    unsigned count = 10500;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "small", "minilm");
    struct moult_put *puts = moult_allocate(count, sizeof *puts);
    char (*texts)[32] = moult_allocate(count, sizeof *texts);
    for (unsigned i = 0; i < count; i++) {
        snprintf(texts[i], sizeof texts[i], "the word%u", i / 3);
        puts[i] = (struct moult_put){.text = texts[i], .text_size = strlen(texts[i])};
    }
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, count, &error));
    GOOD(moult_store_commit(place->writer, &error));
    put_one(place, d, "a", "the one", NULL);
    put_one(place, d, "b", "the other", NULL);
    struct found found = find(place, c, "the word7", NULL, HITS);
    assert_int_equal(3, found.count);
    assert_int_equal(puts[21].seq, found.hits[0].seq);
    assert_int_equal(puts[23].seq, found.hits[2].seq);
    assert_int_equal(HITS, find(place, c, "The", NULL, HITS).count);
    assert_int_equal(HITS, find(place, c, "the nowhere", NULL, HITS).count);
    assert_int_equal(2, find(place, d, "the one", NULL, HITS).count);
    free(texts);
    free(puts);
}

/* ---- Against SQLite's own bm25(), which looks at every row that has any of the words. */

struct fill {
    struct moult_put *puts;
    char (*texts)[256];
    unsigned count;
    uint32_t numbers;          /* State. */
};

static unsigned next(struct fill *fill, unsigned below) {
    fill->numbers = fill->numbers * 1664525u + 1013904223u;
    return (fill->numbers >> 8) % below;
}

/* What text `i` is, is the caller's. */
static struct fill make_texts(unsigned count) {
    struct fill fill = {.count = count, .numbers = 42};
    fill.puts = moult_allocate(count, sizeof *fill.puts);
    fill.texts = moult_allocate(count, sizeof *fill.texts);
    return fill;
}

static void put_texts(struct place *place, uint32_t collection, struct fill *fill) {
    for (unsigned i = 0; i < fill->count; i++)
        fill->puts[i] = (struct moult_put){
            .text = fill->texts[i], .text_size = strlen(fill->texts[i]),
            .metadata = i % 2 == 0 ? "{\"even\":true}" : NULL, .metadata_size = i % 2 ? 0 : 13};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, collection, fill->puts, fill->count, &error));
    GOOD(moult_store_commit(place->writer, &error));
}

static void free_texts(struct fill *fill) {
    free(fill->puts);
    free(fill->texts);
}

/* By an expression of SQLite's, in all collections. */
static struct found ask_sqlite(struct place *place, const char *expression, uint32_t k) {
    struct found found = {.count = 0};
    sqlite3 *db;
    sqlite3_stmt *statement;
    assert_int_equal(SQLITE_OK, sqlite3_open_v2(place->path, &db, SQLITE_OPEN_READONLY, NULL));
    assert_int_equal(SQLITE_OK,
                     sqlite3_prepare_v2(db, "SELECT rowid, -bm25(words) FROM words WHERE words"
                                            " MATCH ?1 ORDER BY 2 DESC, 1 LIMIT ?2",
                                        -1, &statement, NULL));
    sqlite3_bind_text(statement, 1, expression, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, k);
    while (sqlite3_step(statement) == SQLITE_ROW)
        found.hits[found.count++] = (struct moult_word_hit){
            .seq = (uint64_t)sqlite3_column_int64(statement, 0),
            .score = sqlite3_column_double(statement, 1)};
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return found;
}

/* Sums of other order differ in their last bits, and where they do, two may change places. */
static void are_equal(const struct found *found, const struct found *expected) {
    assert_int_equal(found->count, expected->count);
    for (int i = 0; i < found->count; i++) {
        double score = expected->hits[i].score;
        if (!(fabs(found->hits[i].score - score) <= 1e-12 * score))
            fail_msg("%d: %.17g is not %.17g", i, found->hits[i].score, score);
        bool is_tied = (i > 0 && expected->hits[i - 1].score - score <= 1e-12 * score) ||
                       i + 1 == HITS || (i + 1 < found->count &&
                        score - expected->hits[i + 1].score <= 1e-12 * score);
        if (!is_tied)
            assert_int_equal(found->hits[i].seq, expected->hits[i].seq);
    }
}

/* Words of all frequencies, texts of all lengths, some words often in one text. */
static void scores_are_sqlites(void **state) {
    struct place *place = *state;
    struct fill fill = make_texts(700);
    uint32_t c = make_collection(place, "default", "minilm");
    for (unsigned i = 0; i < fill.count; i++) {
        size_t size = 0;
        unsigned length = 1 + next(&fill, 25);
        for (unsigned w = 0; w < length; w++) {
            unsigned rank = 1 + next(&fill, 40), word = next(&fill, rank);
            size += (size_t)snprintf(fill.texts[i] + size, sizeof fill.texts[i] - size,
                                     "w%u ", word);
        }
    }
    put_texts(place, c, &fill);
    for (unsigned round = 0; round < 60; round++) {
        char query[512] = "", expression[512] = "";
        unsigned words = 1 + next(&fill, 20);
        for (unsigned w = 0, first = next(&fill, 45); w < words; w++) {
            size_t size = strlen(query), used = strlen(expression);
            unsigned word = (first + w * 7) % 45;   /* Each once; five of them are nowhere. */
            snprintf(query + size, sizeof query - size, "w%u ", word);
            snprintf(expression + used, sizeof expression - used, "%s\"w%u\"",
                     w > 0 ? " OR " : "", word);
        }
        uint32_t k = 1 + next(&fill, HITS);
        struct found found = find(place, c, query, NULL, k);
        struct found expected = ask_sqlite(place, expression, k);
        are_equal(&found, &expected);
    }
    free_texts(&fill);
}

/* More than 10,000 documents, of which each of these words is in another part: "fourth" in a
 * quarter, … Nothing has "half" alone but what only a filter or a collection of its own wants. */
static void looks_at_the_rarer_words_first(void **state) {
    struct place *place = *state;
    struct fill fill = make_texts(24000);
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "small", "minilm");
    for (unsigned i = 0; i < fill.count; i++)
        snprintf(fill.texts[i], sizeof fill.texts[i], "%s%s%s%s%s", i % 4 == 1 ? "fourth " : "",
                 i % 3 == 1 ? "third " : "", i % 24 < 11 ? "half half " : "",
                 i % 4001 == 7 ? "rare " : "", i % 5 == 0 ? "more and more of it" : "it");
    put_texts(place, c, &fill);
    uint64_t small = put_one(place, d, "a", "half of it", NULL);

    struct found found = find(place, c, "half third fourth rare", NULL, HITS);
    struct found expected = ask_sqlite(
        place, "\"half\" OR \"third\" OR \"fourth\" OR \"rare\"", HITS);
    are_equal(&found, &expected);

    /* In the other collection there are none of the rarer words. */
    found = find(place, d, "half third fourth", NULL, HITS);
    assert_int_equal(1, found.count);
    assert_int_equal(small, found.hits[0].seq);

    /* Nor behind this filter, but for five. */
    json_t *json = json_pack("{s:{s:b}}", "even", "$exists", 1);
    struct moult_filter *filter = moult_filter_parse(json, NULL);
    json_decref(json);
    found = find(place, c, "half fourth rare", filter, HITS);
    assert_int_equal(HITS, found.count);
    moult_filter_free(filter);
    free_texts(&fill);
}

/* What is kept of one moment is not used in another: after each kind of change, the scores are
 * what they are to somebody who has just come. */
static void counts_anew_after_each_change(void **state) {
    struct place *place = *state;
    struct fill fill = make_texts(3000);
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "minilm");
    const char *expression = "\"many\" OR \"more\" OR \"few\"";
    for (unsigned i = 0; i < fill.count; i++)
        snprintf(fill.texts[i], sizeof fill.texts[i], "%s%s%stext", i % 2 == 0 ? "many " : "",
                 i % 5 < 2 ? "more " : "", i % 50 == 6 ? "few " : "");
    put_texts(place, c, &fill);
    for (unsigned step = 0; step < 6; step++) {
        for (unsigned twice = 0; twice < 2; twice++) {
            struct found found = find(place, c, "many more few", NULL, HITS);
            struct found expected = ask_sqlite(place, expression, HITS);
            are_equal(&found, &expected);
        }
        if (step == 0 || step == 1)
            put_texts(place, c, &fill);
        else if (step == 2)
            put_one(place, d, "a", "nothing of it", NULL);
        else if (step == 3) {
            GOOD(moult_store_begin(place->writer, &error));
            GOOD(moult_store_collection_drop(place->writer, "other", &fill.puts[0].seq, &error));
            GOOD(moult_store_commit(place->writer, &error));
        } else {
            GOOD(moult_store_begin(place->writer, &error));
            GOOD(moult_store_sweep(place->writer, 1000, &error));
            GOOD(moult_store_commit(place->writer, &error));
        }
    }
    free_texts(&fill);
}

static void says_when_it_is_too_much(void **state) {
    struct place *place = *state;
    struct fill fill = make_texts(24000);
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_word_hit hit;
    for (unsigned i = 0; i < fill.count; i++)
        snprintf(fill.texts[i], sizeof fill.texts[i], "w%u w%u w%u", i % 3, 3 + i % 4, 7 + i % 5);
    put_texts(place, c, &fill);
    const char *query = "w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11";
    moult_store_time_limit(place->reader, 1);
    REFUSED(MOULT_ERROR_UNAVAILABLE, "Too many documents",
            moult_store_find_words(place->reader, c, query, strlen(query), NULL, 1, &hit,
                                   &error));
    moult_store_time_limit(place->reader, 0);
    assert_int_equal(1, count_found(place, c, query) > 0);
    free_texts(&fill);
}

/* What is put and replaced and deleted within one transaction leaves what one after another
 * would. */
static void follows_a_whole_transaction(void **state) {
    struct place *place = *state;
    uint64_t seq;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "old alpha", NULL);
    put_one(place, c, "b", "old beta", NULL);
    put_one(place, c, "c", "old gamma", NULL);
    const char *ids[] = {"c", "d"};
    struct moult_put puts[] = {{.id = "b", .text = "new beta", .text_size = 8},
                               {.id = "d", .text = "new delta", .text_size = 9},
                               {.id = "a", .text = "new alpha", .text_size = 9},
                               {.id = "b", .text = "newest beta", .text_size = 11}};
    struct moult_word_hit hit;
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, 3, &error));
    /* The writer sees its own words, too. */
    assert_int_equal(1, moult_store_find_words(place->writer, c, "delta", 5, NULL, 1, &hit, NULL));
    GOOD(moult_store_put(place->writer, c, puts + 3, 1, &error));
    GOOD(moult_store_delete(place->writer, c, ids, 2, NULL, &seq, &error));
    GOOD(moult_store_commit(place->writer, &error));
    assert_int_equal(0, count_found(place, c, "old gamma delta"));
    assert_int_equal(1, count_found(place, c, "new"));
    assert_int_equal(1, count_found(place, c, "newest"));
    assert_int_equal(2, count_found(place, c, "alpha beta"));
    GOOD(moult_store_begin(place->writer, &error));
    puts[0].text = "rolled up";
    GOOD(moult_store_put(place->writer, c, puts, 1, &error));
    moult_store_rollback(place->writer);
    assert_int_equal(1, count_found(place, c, "newest"));
    GOOD(moult_store_check(place->writer, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(ranks_by_words),   PLACE_TEST(reads_queries_as_words),
        PLACE_TEST(folds_case_and_accents), PLACE_TEST(follows_changes),
        PLACE_TEST(filters),          PLACE_TEST(reads_long_queries),
        PLACE_TEST(leaves_out_what_all_have), PLACE_TEST(follows_a_whole_transaction),
        PLACE_TEST(scores_are_sqlites), PLACE_TEST(looks_at_the_rarer_words_first),
        PLACE_TEST(counts_anew_after_each_change), PLACE_TEST(says_when_it_is_too_much),
    };
    return cmocka_run_group_tests_name("words", tests, NULL, NULL);
}
