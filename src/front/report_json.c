/* A report, as people and programs read it. */
#include "front/report.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/precision.h"

#define SENTENCE_BYTES_MAX 1024
/* What moves a threshold: scores that differ by less are the same to anybody. */
#define SAME_SCORE 0.02
#define DECIMALS 1e4

const unsigned moult_report_overlap_percents[] = {5, 25, 50, 75, 95};
const unsigned moult_report_score_percents[] = {1, 5, 25, 50, 75, 95, 99};
const unsigned moult_report_cosine_percents[] = {5, 50, 95};
enum { SCORE_MEDIAN = 3, SCORE_HIGH = 5 };

/* The sentence, from the figures as JSON has them, so that it stays the same when they are read
 * again. */

static const char *describe_overlap(double overlap) {
    if (overlap >= 0.95)
        return "searches find nearly the same";
    if (overlap >= 0.8)
        return "searches find much the same";
    return overlap >= 0.5 ? "searches find other things in part" : "searches find other things";
}

static double rounded(double value) {
    return round(value * DECIMALS) / DECIMALS;
}

static bool scores_move(const struct moult_report *report) {
    for (unsigned i = 0; i < MOULT_REPORT_SCORES; i++)
        if (fabs(rounded(report->new_scores[i]) - rounded(report->old_scores[i])) >= SAME_SCORE)
            return true;
    return false;
}

static void describe_texts(struct moult_buffer *out, const struct moult_report *report) {
    if (report->texts < MOULT_REPORT_TEXTS_MIN) {
        moult_buffer_format(out,
                            "What changes cannot be said: of texts that were asked, %u could be "
                            "compared, and it takes %u.",
                            report->texts, MOULT_REPORT_TEXTS_MIN);
        return;
    }
    moult_buffer_format(out,
                        "Of %u texts that were asked, each one's nearest ten are the same to "
                        "%.0f %%: %s. ",
                        report->texts, 100 * rounded(report->overlap_mean),
                        describe_overlap(rounded(report->overlap_mean)));
    const double *before = report->old_scores, *after = report->new_scores;
    moult_buffer_format(out,
                        "Two of them score %.2f (median) and %.2f (highest twentieth), before "
                        "%.2f and %.2f: ",
                        rounded(after[SCORE_MEDIAN]), rounded(after[SCORE_HIGH]),
                        rounded(before[SCORE_MEDIAN]), rounded(before[SCORE_HIGH]));
    moult_buffer_text(out, scores_move(report) ? "thresholds have to move."
                                               : "thresholds can stay.");
}

static void describe_precision(struct moult_buffer *out, const struct moult_report *report) {
    moult_buffer_format(out, "%sIt computes in %s, the one before in %s.", out->size > 0 ? " " : "",
                        moult_precision_name(report->new_precision),
                        moult_precision_name(report->old_precision));
}

static void describe_gate(struct moult_buffer *out, const struct moult_gate_figures *gate) {
    moult_buffer_format(out,
                        "%sOf %u queries of the gate nDCG@10 is %.4f, before %.4f: better at %u, "
                        "worse at %u.",
                        out->size > 0 ? " " : "", gate->queries, rounded(gate->new_ndcg),
                        rounded(gate->old_ndcg), gate->better, gate->worse);
    if (gate->missing > 0)
        moult_buffer_format(out, " Of %u documents that they want, %u are not stored.",
                            gate->documents, gate->missing);
}

static void describe_unmatched(struct moult_buffer *out, const struct moult_unmatched *unmatched) {
    moult_buffer_format(out,
                        "%sOf %u searches that were asked with a min_score, %u find nothing, "
                        "before %u.",
                        out->size > 0 ? " " : "", unmatched->searches, unmatched->new_none,
                        unmatched->old_none);
}

static bool knows_precision(const struct moult_report *report) {
    return report->old_precision != MOULT_PRECISION_AUTO &&
           report->new_precision != MOULT_PRECISION_AUTO;
}

char *moult_report_sentence(const struct moult_report *report) {
    struct moult_buffer out;
    moult_buffer_init(&out, SENTENCE_BYTES_MAX);
    if (report->texts > 0 || report->gate.queries == 0)
        describe_texts(&out, report);
    if (report->gate.queries > 0)
        describe_gate(&out, &report->gate);
    if (report->unmatched.searches > 0)
        describe_unmatched(&out, &report->unmatched);
    if (knows_precision(report) && report->old_precision != report->new_precision)
        describe_precision(&out, report);
    return moult_buffer_take(&out, NULL);
}

/* JSON. */

static json_t *number(double value) {
    return json_real(rounded(value));
}

static void set_quantiles(json_t *object, const unsigned *percents, const double *values,
                          unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        char key[8];
        snprintf(key, sizeof key, "p%u", percents[i]);
        json_object_set_new(object, key, number(values[i]));
    }
}

static json_t *scores_json(const double scores[MOULT_REPORT_SCORES]) {
    json_t *object = json_object();
    set_quantiles(object, moult_report_score_percents, scores, MOULT_REPORT_SCORES);
    return object;
}

static json_t *figures_json(double mean, const unsigned *percents, const double *values,
                            unsigned count) {
    json_t *object = json_object();
    json_object_set_new(object, "mean", number(mean));
    set_quantiles(object, percents, values, count);
    return object;
}

static json_t *gate_json(const struct moult_gate_figures *gate) {
    json_t *json =
        json_pack("{s:i, s:i, s:i, s:{s:o, s:o}, s:i, s:i, s:b}", "queries", (int)gate->queries,
                  "documents", (int)gate->documents, "missing", (int)gate->missing, "ndcg", "old",
                  number(gate->old_ndcg), "new", number(gate->new_ndcg), "better",
                  (int)gate->better, "worse", (int)gate->worse, "cut_short", gate->cut_short);
    if (gate->least > 0)
        json_object_set_new(json, "least", number(gate->least));
    return json;
}

static json_t *unmatched_json(const struct moult_unmatched *unmatched) {
    return json_pack("{s:i, s:i, s:i}", "searches", (int)unmatched->searches, "old",
                     (int)unmatched->old_none, "new", (int)unmatched->new_none);
}

json_t *moult_report_json(const struct moult_report *report) {
    json_t *object = json_pack("{s:i, s:i, s:i, s:{s:i, s:i}, s:o, s:b}", "texts",
                               (int)report->texts, "queries", (int)report->queries, "documents",
                               (int)report->documents, "dimensions", "old",
                               (int)report->old_dimensions, "new", (int)report->new_dimensions,
                               "seconds", number(report->seconds), "cut_short",
                               report->cut_short);
    if (knows_precision(report))
        json_object_set_new(object, "precision",
                            json_pack("{s:s, s:s}", "old",
                                      moult_precision_name(report->old_precision), "new",
                                      moult_precision_name(report->new_precision)));
    if (report->texts >= MOULT_REPORT_TEXTS_MIN) {
        json_object_set_new(object, "overlap",
                            figures_json(report->overlap_mean, moult_report_overlap_percents,
                                         report->overlap, MOULT_REPORT_OVERLAPS));
        json_object_set_new(object, "scores",
                            json_pack("{s:o, s:o}", "old", scores_json(report->old_scores), "new",
                                      scores_json(report->new_scores)));
        if (report->old_dimensions == report->new_dimensions)
            json_object_set_new(object, "cosine",
                                figures_json(report->cosine_mean, moult_report_cosine_percents,
                                             report->cosine, MOULT_REPORT_COSINES));
    }
    if (report->gate.queries > 0)
        json_object_set_new(object, "gate", gate_json(&report->gate));
    if (report->unmatched.searches > 0)
        json_object_set_new(object, "unmatched", unmatched_json(&report->unmatched));
    char *sentence = moult_report_sentence(report);
    json_object_set_new(object, "summary", json_string(sentence));
    free(sentence);
    return object;
}

/* Reading. */

static int read_number(const json_t *object, const char *key, double least, double most,
                       double *value, struct moult_error *error) {
    const json_t *found = json_object_get(object, key);
    *value = json_number_value(found);
    if (!json_is_number(found) || !(*value >= least && *value <= most))
        return moult_fail(error, MOULT_ERROR_INVALID, "\"report\" has no good \"%s\".", key);
    return 0;
}

static int read_count(const json_t *object, const char *key, uint32_t most, uint32_t *value,
                      struct moult_error *error) {
    double number = 0;
    if (read_number(object, key, 0, most, &number, error) != 0)
        return -1;
    *value = (uint32_t)number;
    return 0;
}

static int read_quantiles(const json_t *object, const unsigned *percents, double *values,
                          unsigned count, struct moult_error *error) {
    for (unsigned i = 0; i < count; i++) {
        char key[8];
        snprintf(key, sizeof key, "p%u", percents[i]);
        if (read_number(object, key, -1.001, 1.001, &values[i], error) != 0)
            return -1;
    }
    return 0;
}

static int read_figures(const json_t *object, struct moult_report *report,
                        struct moult_error *error) {
    const json_t *overlap = json_object_get(object, "overlap");
    const json_t *scores = json_object_get(object, "scores");
    const json_t *cosine = json_object_get(object, "cosine");
    if (read_number(overlap, "mean", 0, 1, &report->overlap_mean, error) != 0 ||
        read_quantiles(overlap, moult_report_overlap_percents, report->overlap,
                       MOULT_REPORT_OVERLAPS, error) != 0 ||
        read_quantiles(json_object_get(scores, "old"), moult_report_score_percents,
                       report->old_scores, MOULT_REPORT_SCORES, error) != 0 ||
        read_quantiles(json_object_get(scores, "new"), moult_report_score_percents,
                       report->new_scores, MOULT_REPORT_SCORES, error) != 0)
        return -1;
    if (report->old_dimensions != report->new_dimensions)
        return 0;
    return read_number(cosine, "mean", -1.001, 1.001, &report->cosine_mean, error) != 0
               ? -1
               : read_quantiles(cosine, moult_report_cosine_percents, report->cosine,
                                MOULT_REPORT_COSINES, error);
}

static int read_gate(const json_t *object, struct moult_gate_figures *gate,
                     struct moult_error *error) {
    const json_t *ndcg = json_object_get(object, "ndcg");
    if (object == NULL)
        return 0;
    gate->cut_short = json_is_true(json_object_get(object, "cut_short"));
    if (json_object_get(object, "least") != NULL &&
        read_number(object, "least", 0, 2, &gate->least, error) != 0)
        return -1;
    if (read_count(object, "queries", MOULT_GATE_QUERIES_MAX, &gate->queries, error) != 0 ||
        read_count(object, "documents", INT32_MAX, &gate->documents, error) != 0 ||
        read_count(object, "missing", gate->documents, &gate->missing, error) != 0 ||
        read_count(object, "better", gate->queries, &gate->better, error) != 0 ||
        read_count(object, "worse", gate->queries, &gate->worse, error) != 0 ||
        read_number(ndcg, "old", 0, 1, &gate->old_ndcg, error) != 0)
        return -1;
    return read_number(ndcg, "new", 0, 1, &gate->new_ndcg, error);
}

static int read_unmatched(const json_t *object, struct moult_unmatched *unmatched,
                          struct moult_error *error) {
    if (object == NULL)
        return 0;
    if (read_count(object, "searches", MOULT_ASKED_TEXTS_MAX, &unmatched->searches, error) != 0 ||
        read_count(object, "old", unmatched->searches, &unmatched->old_none, error) != 0)
        return -1;
    return read_count(object, "new", unmatched->searches, &unmatched->new_none, error);
}

/* Reports of older programs have none. */
static int read_precision(const json_t *object, const char *key, enum moult_precision *precision,
                          struct moult_error *error) {
    const char *name = json_string_value(json_object_get(object, key));
    if (object == NULL)
        return 0;
    if (name == NULL || !moult_precision_parse(name, precision))
        return moult_fail(error, MOULT_ERROR_INVALID, "\"report\" has no good \"precision\".");
    return 0;
}

int moult_report_read(const json_t *object, struct moult_report *report,
                      struct moult_error *error) {
    const json_t *dimensions = json_object_get(object, "dimensions");
    const json_t *precision = json_object_get(object, "precision");
    *report = (struct moult_report){
        .cut_short = json_is_true(json_object_get(object, "cut_short"))};
    if (read_count(object, "texts", MOULT_ASKED_TEXTS_MAX, &report->texts, error) != 0 ||
        read_count(object, "queries", report->texts, &report->queries, error) != 0 ||
        read_count(object, "documents", report->texts, &report->documents, error) != 0 ||
        read_count(dimensions, "old", MOULT_DIMENSIONS_MAX, &report->old_dimensions, error) != 0 ||
        read_count(dimensions, "new", MOULT_DIMENSIONS_MAX, &report->new_dimensions, error) != 0 ||
        read_precision(precision, "old", &report->old_precision, error) != 0 ||
        read_precision(precision, "new", &report->new_precision, error) != 0 ||
        read_number(object, "seconds", 0, 1e6, &report->seconds, error) != 0 ||
        read_gate(json_object_get(object, "gate"), &report->gate, error) != 0 ||
        read_unmatched(json_object_get(object, "unmatched"), &report->unmatched, error) != 0)
        return -1;
    return report->texts < MOULT_REPORT_TEXTS_MIN ? 0 : read_figures(object, report, error);
}
