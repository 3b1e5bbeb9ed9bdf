/* The figures of a report against numpy's (report_figures.py), its sentence, and its JSON; and the
 * texts that reports are made of. */
#include "front/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/asked.h"
#include "report_figures.h"

enum { TEXTS = 60, WIDTH = 16, OTHER_WIDTH = 24 };

/* report_figures.py has the same. */
static uint64_t state_of_numbers;

static double next_number(void) {
    state_of_numbers = state_of_numbers * 6364136223846793005u + 1442695040888963407u;
    return (double)(state_of_numbers >> 40) / (1 << 23) - 1;
}

static void make_rows(double *rows, unsigned width) {
    for (unsigned i = 0; i < TEXTS * width; i++)
        rows[i] = next_number();
}

static void make_unit(float *vectors, const double *rows, unsigned width) {
    for (unsigned i = 0; i < TEXTS; i++) {
        double sum = 0;
        for (unsigned j = 0; j < width; j++)
            sum += rows[i * width + j] * rows[i * width + j];
        for (unsigned j = 0; j < width; j++)
            vectors[i * width + j] = (float)(rows[i * width + j] / sqrt(sum));
    }
}

static double first[TEXTS * WIDTH], noise[TEXTS * WIDTH], other[TEXTS * OTHER_WIDTH];
static float first_vectors[TEXTS * WIDTH], close_vectors[TEXTS * WIDTH];
static float other_vectors[TEXTS * OTHER_WIDTH];

static int make_vectors(void **state) {
    (void)state;
    state_of_numbers = 7;
    make_rows(first, WIDTH);
    make_rows(noise, WIDTH);
    make_rows(other, OTHER_WIDTH);
    make_unit(first_vectors, first, WIDTH);
    make_unit(other_vectors, other, OTHER_WIDTH);
    for (unsigned i = 0; i < TEXTS * WIDTH; i++)
        noise[i] = first[i] + 0.25 * noise[i];
    make_unit(close_vectors, noise, WIDTH);
    return 0;
}

static void are_near(const double *values, const double *expected, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!(fabs(values[i] - expected[i]) <= 1e-7))
            fail_msg("%zu: %.9g is not %.9g", i, values[i], expected[i]);
}

static struct moult_report close_report(void) {
    struct moult_report report = {.texts = TEXTS, .queries = 7, .old_dimensions = WIDTH,
                                  .new_dimensions = WIDTH, .seconds = 0.25};
    moult_report_compute(&report, first_vectors, close_vectors);
    return report;
}

static struct moult_report other_report(void) {
    struct moult_report report = {.texts = TEXTS, .old_dimensions = WIDTH,
                                  .new_dimensions = OTHER_WIDTH, .cut_short = true};
    moult_report_compute(&report, first_vectors, other_vectors);
    return report;
}

static void the_figures_are_numpys(void **state) {
    (void)state;
    struct moult_report report = close_report();
    are_near(&report.overlap_mean, close_overlap_mean, 1);
    are_near(report.overlap, close_overlap, MOULT_REPORT_OVERLAPS);
    are_near(report.old_scores, close_old_scores, MOULT_REPORT_SCORES);
    are_near(report.new_scores, close_new_scores, MOULT_REPORT_SCORES);
    are_near(&report.cosine_mean, close_cosine_mean, 1);
    are_near(report.cosine, close_cosine, MOULT_REPORT_COSINES);
    report = other_report();
    are_near(&report.overlap_mean, other_overlap_mean, 1);
    are_near(report.overlap, other_overlap, MOULT_REPORT_OVERLAPS);
    are_near(report.old_scores, other_old_scores, MOULT_REPORT_SCORES);
    are_near(report.new_scores, other_new_scores, MOULT_REPORT_SCORES);
}

static void equal_models_change_nothing(void **state) {
    (void)state;
    struct moult_report report = {.texts = TEXTS, .old_dimensions = WIDTH,
                                  .new_dimensions = WIDTH};
    moult_report_compute(&report, first_vectors, first_vectors);
    assert_true(report.overlap_mean == 1 && report.overlap[0] == 1);
    assert_memory_equal(report.old_scores, report.new_scores, sizeof report.old_scores);
    assert_true(fabs(report.cosine[0] - 1) < 1e-6);
    char *sentence = moult_report_sentence(&report);
    assert_non_null(strstr(sentence, "100 %"));
    assert_non_null(strstr(sentence, "thresholds can stay"));
    free(sentence);
}

static void equal_scores_are_in_order(void **state) {
    (void)state;
    /* All texts are one, so that all scores tie: the first ten of the others, under both. */
    static float same[TEXTS * WIDTH];
    for (unsigned i = 0; i < TEXTS; i++)
        same[i * WIDTH] = 1;
    struct moult_report report = {.texts = TEXTS, .old_dimensions = WIDTH,
                                  .new_dimensions = WIDTH};
    moult_report_compute(&report, same, same);
    assert_true(report.overlap_mean == 1 && report.old_scores[0] == 1);
}

static void too_few_texts_are_said_to_be_too_few(void **state) {
    (void)state;
    struct moult_report report = {.texts = MOULT_REPORT_TEXTS_MIN - 1, .old_dimensions = WIDTH,
                                  .new_dimensions = WIDTH};
    moult_report_compute(&report, first_vectors, close_vectors);
    assert_true(report.overlap_mean == 0);
    char *sentence = moult_report_sentence(&report);
    assert_non_null(strstr(sentence, "cannot be said"));
    free(sentence);
    json_t *json = moult_report_json(&report);
    assert_null(json_object_get(json, "scores"));
    json_decref(json);
}

static void quantiles_have_ends(void **state) {
    (void)state;
    double one[] = {3}, three[] = {1, 2, 3};
    assert_true(moult_report_quantile(one, 1, 50) == 3);
    assert_true(moult_report_quantile(three, 3, 0) == 1);
    assert_true(moult_report_quantile(three, 3, 25) == 1.5);
    assert_true(moult_report_quantile(three, 3, 100) == 3);
}

static void is_read_as_it_was_written(struct moult_report report) {
    struct moult_report again;
    json_t *json = moult_report_json(&report);
    assert_non_null(json);
    assert_int_equal(moult_report_read(json, &again, NULL), 0);
    json_t *json_again = moult_report_json(&again);
    assert_true(json_equal(json, json_again));
    assert_int_equal(again.cut_short, report.cut_short);
    json_decref(json);
    json_decref(json_again);
}

static struct moult_report tried_report(void) {
    struct moult_report report = close_report();
    report.gate = (struct moult_gate_figures){.queries = 76, .documents = 3114, .missing = 2,
                                              .old_ndcg = 0.4237, .new_ndcg = 0.3933,
                                              .better = 20, .worse = 31, .least = 0.4152};
    report.unmatched = (struct moult_unmatched){.searches = 40, .old_none = 3, .new_none = 12};
    return report;
}

static void json_comes_back(void **state) {
    (void)state;
    struct moult_report few = {.texts = 3, .queries = 1, .documents = 2, .old_dimensions = 8,
                               .new_dimensions = 4};
    struct moult_report precise = close_report();
    precise.old_precision = MOULT_PRECISION_F32;
    precise.new_precision = MOULT_PRECISION_INT8;
    is_read_as_it_was_written(precise);
    is_read_as_it_was_written(close_report());
    is_read_as_it_was_written(other_report());
    is_read_as_it_was_written(few);
    is_read_as_it_was_written(tried_report());
}

static void the_gate_is_in_the_sentence(void **state) {
    (void)state;
    struct moult_report report = tried_report();
    char *sentence = moult_report_sentence(&report);
    assert_non_null(strstr(sentence, "nearest ten"));
    assert_non_null(strstr(sentence,
                           " Of 76 queries of the gate nDCG@10 is 0.3933, before 0.4237: better "
                           "at 20, worse at 31. Of 3114 documents that they want, 2 are not "
                           "stored. Of 40 searches that were asked with a min_score, 12 find "
                           "nothing, before 3."));
    free(sentence);
    report.texts = 0;
    report.gate.missing = 0;
    report.unmatched.searches = 0;
    sentence = moult_report_sentence(&report);
    assert_string_equal(sentence, "Of 76 queries of the gate nDCG@10 is 0.3933, before 0.4237: "
                                  "better at 20, worse at 31.");
    free(sentence);
}

/* It is said where it is known, in words only where it changes. */
static void the_precision_is_told(void **state) {
    (void)state;
    struct moult_report report = close_report();
    static const char words[] = " It computes in int8, the one before in f32.";
    const char *old, *new;
    json_t *json = moult_report_json(&report);
    assert_null(json_object_get(json, "precision"));
    json_decref(json);
    report.old_precision = report.new_precision = MOULT_PRECISION_INT8;
    char *sentence = moult_report_sentence(&report);
    assert_null(strstr(sentence, "computes"));
    free(sentence);
    report.old_precision = MOULT_PRECISION_F32;
    sentence = moult_report_sentence(&report);
    assert_string_equal(sentence + strlen(sentence) - strlen(words), words);
    free(sentence);
    json = moult_report_json(&report);
    assert_int_equal(json_unpack(json, "{s:{s:s, s:s}}", "precision", "old", &old, "new", &new),
                     0);
    assert_string_equal(old, "f32");
    assert_string_equal(new, "int8");
    struct moult_report again;
    assert_int_equal(moult_report_read(json, &again, NULL), 0);
    assert_int_equal(again.old_precision, MOULT_PRECISION_F32);
    assert_int_equal(again.new_precision, MOULT_PRECISION_INT8);
    json_object_set_new(json_object_get(json, "precision"), "new", json_string("int7"));
    assert_int_equal(moult_report_read(json, &again, NULL), -1);
    json_object_del(json_object_get(json, "precision"), "new");
    assert_int_equal(moult_report_read(json, &again, NULL), -1);
    json_decref(json);
}

/* Of the trial: each in turn is missing, or more than it can be. */
static void bad_trials_are_refused(void **state) {
    (void)state;
    struct moult_report report = tried_report();
    static const char *const keys[][2] = {
        {"gate", "queries"}, {"gate", "documents"}, {"gate", "missing"}, {"gate", "ndcg"},
        {"gate", "better"},  {"gate", "worse"},     {"unmatched", "searches"},
        {"unmatched", "old"}, {"unmatched", "new"}};
    for (size_t i = 0; i < 2 * sizeof keys / sizeof keys[0]; i++) {
        json_t *json = moult_report_json(&report);
        json_t *object = json_object_get(json, keys[i / 2][0]);
        if (i % 2 == 0)
            json_object_del(object, keys[i / 2][1]);
        else
            json_object_set_new(object, keys[i / 2][1], json_integer(1000000000000));
        struct moult_report again;
        struct moult_error error;
        assert_int_equal(moult_report_read(json, &again, &error), -1);
        json_decref(json);
    }
}

/* Every field in turn is taken away, or is what it cannot be. */
static void bad_json_is_refused(void **state) {
    (void)state;
    struct moult_report report = close_report();
    static const char *const keys[] = {"texts", "queries", "documents", "dimensions", "seconds",
                                       "overlap", "scores", "cosine"};
    for (size_t i = 0; i < 2 * sizeof keys / sizeof keys[0]; i++) {
        json_t *json = moult_report_json(&report);
        if (i % 2 == 0)
            json_object_del(json, keys[i / 2]);
        else
            json_object_set_new(json, keys[i / 2], json_integer(100000000));
        struct moult_report again;
        struct moult_error error;
        assert_int_equal(moult_report_read(json, &again, &error), -1);
        json_decref(json);
    }
    struct moult_report again;
    assert_int_equal(moult_report_read(NULL, &again, NULL), -1);
}

/* Texts. */

static void note(struct moult_asked *asked, enum moult_prompt prompt, const char *text) {
    moult_asked_note(asked, prompt, text, strlen(text));
}

static void they_are(const struct moult_asked *asked, const char *expected) {
    char all[200] = "";
    uint32_t count;
    struct moult_asked_text *texts = moult_asked_copy(asked, &count);
    for (uint32_t i = 0; i < count; i++) {
        size_t size = strlen(all);
        snprintf(all + size, sizeof all - size, "%s ", texts[i].bytes);
        assert_int_equal(texts[i].size, strlen(texts[i].bytes));
    }
    assert_int_equal(count, moult_asked_count(asked));
    moult_asked_texts_free(texts, count);
    assert_string_equal(all, expected);
}

static void the_last_distinct_texts_are_remembered(void **state) {
    (void)state;
    struct moult_asked *asked = moult_asked_open(3);
    they_are(asked, "");
    note(asked, MOULT_PROMPT_NONE, "a");
    note(asked, MOULT_PROMPT_NONE, "b");
    note(asked, MOULT_PROMPT_NONE, "a");
    they_are(asked, "a b ");
    note(asked, MOULT_PROMPT_QUERY, "a");   /* Another vector. */
    they_are(asked, "a a b ");
    note(asked, MOULT_PROMPT_NONE, "c");
    they_are(asked, "c a a ");
    note(asked, MOULT_PROMPT_NONE, "a");
    note(asked, MOULT_PROMPT_NONE, "d");
    they_are(asked, "d a c ");
    moult_asked_close(asked);
    asked = moult_asked_open(0);
    note(asked, MOULT_PROMPT_NONE, "a");
    they_are(asked, "");
    moult_asked_close(asked);
}

static void their_bytes_have_a_bound(void **state) {
    (void)state;
    struct moult_asked *asked = moult_asked_open(MOULT_ASKED_TEXTS_MAX);
    char *text = moult_allocate(MOULT_ASKED_TEXT_BYTES_MAX + 1, 1);
    memset(text, 'x', MOULT_ASKED_TEXT_BYTES_MAX + 1);
    moult_asked_note(asked, MOULT_PROMPT_NONE, text, MOULT_ASKED_TEXT_BYTES_MAX + 1);
    assert_int_equal(moult_asked_count(asked), 0);
    for (unsigned i = 0; i < 2 * MOULT_ASKED_TEXTS_MAX; i++) {
        memcpy(text, &i, sizeof i);
        moult_asked_note(asked, MOULT_PROMPT_NONE, text, MOULT_ASKED_TEXT_BYTES_MAX);
    }
    assert_int_equal(moult_asked_count(asked), MOULT_ASKED_BYTES_MAX / MOULT_ASKED_TEXT_BYTES_MAX);
    for (unsigned i = 0; i < 3 * MOULT_ASKED_TEXTS_MAX; i++)
        moult_asked_note(asked, MOULT_PROMPT_NONE, (const char *)&i, sizeof i);
    assert_int_equal(moult_asked_count(asked), MOULT_ASKED_TEXTS_MAX);
    free(text);
    moult_asked_close(asked);
}

static void a_large_job_leaves_room_for_others(void **state) {
    (void)state;
    struct moult_asked *asked = moult_asked_open(20);
    struct moult_text texts[100];
    char bytes[100][4];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(bytes[i], sizeof bytes[i], "t%u", i);
        texts[i] = (struct moult_text){bytes[i], strlen(bytes[i])};
    }
    struct moult_job job = {0};
    struct moult_embed_options options = {.prompt = MOULT_PROMPT_DOCUMENT};
    const struct moult_cell_frame frame = {"", "", "", false, false};
    job.message = moult_embed_request_write(texts, 100, &options, &frame, &job.message_size);
    note(asked, MOULT_PROMPT_NONE, "query");
    moult_asked_note_job(asked, &job);
    they_are(asked, "t91 t78 t65 t52 t39 t26 t13 t0 query ");
    free(job.message);
    job.message = moult_embed_request_write(texts, 2, &options, &frame, &job.message_size);
    moult_asked_note_job(asked, &job);
    they_are(asked, "t1 t0 t91 t78 t65 t52 t39 t26 t13 query ");
    free(job.message);
    moult_asked_close(asked);
}

static void note_search(struct moult_asked *asked, const char *text, float score_min) {
    const struct moult_text texts[] = {{text, strlen(text)}};
    struct moult_search_options options = {.collection = 7, .hits_max = 3, .score_min = score_min};
    struct moult_job job = {0};
    job.message = moult_search_request_write(texts, 1, &options, &job.message_size);
    moult_asked_note_job(asked, &job);
    free(job.message);
}

/* What was asked last counts, and a text is one text whether it was searched or embedded. */
static void thresholds_are_remembered(void **state) {
    (void)state;
    struct moult_asked *asked = moult_asked_open(10);
    note_search(asked, "any", -2);
    note_search(asked, "high", 0.7f);
    note_search(asked, "other", 0.1f);
    note_search(asked, "other", -2);
    note_search(asked, "low", -1);
    moult_asked_note(asked, MOULT_PROMPT_QUERY, "high", 4);
    assert_int_equal(moult_asked_count(asked), 4);
    assert_int_equal(moult_asked_searches(asked), 2);
    uint32_t count;
    struct moult_asked_text *texts = moult_asked_copy(asked, &count);
    assert_int_equal(count, 4);
    assert_true(texts[0].searched && texts[0].collection == 7);
    assert_memory_equal(texts[0].bytes, "high", 4);
    assert_float_equal(texts[0].score_min, 0.7f, 0);
    assert_false(texts[2].searched);
    moult_asked_texts_free(texts, count);
    moult_asked_close(asked);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_figures_are_numpys),
        cmocka_unit_test(equal_models_change_nothing),
        cmocka_unit_test(equal_scores_are_in_order),
        cmocka_unit_test(too_few_texts_are_said_to_be_too_few),
        cmocka_unit_test(quantiles_have_ends),
        cmocka_unit_test(json_comes_back),
        cmocka_unit_test(bad_json_is_refused),
        cmocka_unit_test(the_gate_is_in_the_sentence),
        cmocka_unit_test(the_precision_is_told),
        cmocka_unit_test(bad_trials_are_refused),
        cmocka_unit_test(the_last_distinct_texts_are_remembered),
        cmocka_unit_test(their_bytes_have_a_bound),
        cmocka_unit_test(a_large_job_leaves_room_for_others),
        cmocka_unit_test(thresholds_are_remembered),
    };
    return cmocka_run_group_tests_name("report", tests, make_vectors, NULL);
}
