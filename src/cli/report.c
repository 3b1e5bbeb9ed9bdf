#include "cli/report.h"

#include <stdio.h>

#include "front/report.h"

static double number_in(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *text_in(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "?";
}

void moult_report_print_summary(const json_t *report, const char *indent) {
    const char *summary = json_string_value(json_object_get(report, "summary"));
    if (summary != NULL)
        printf("%s%s\n", indent, summary);
}

static void print_percents(const char *label, const unsigned *percents, unsigned count) {
    printf("  %-24s", label);
    for (unsigned i = 0; i < count; i++)
        printf("%6u %%", percents[i]);
    putchar('\n');
}

static void print_row(const char *label, const json_t *values, const unsigned *percents,
                      unsigned count) {
    char key[8];
    printf("  %-24s", label);
    for (unsigned i = 0; i < count; i++) {
        snprintf(key, sizeof key, "p%u", percents[i]);
        printf("%8.3f", number_in(values, key));
    }
    putchar('\n');
}

static void print_gate(const json_t *gate) {
    const json_t *ndcg = json_object_get(gate, "ndcg");
    printf("  gate: nDCG@10 %.4f before, %.4f now", number_in(ndcg, "old"),
           number_in(ndcg, "new"));
    if (json_object_get(gate, "least") != NULL)
        printf(", at least %.4f wanted", number_in(gate, "least"));
    printf("; %.0f queries%s, %.0f better, %.0f worse\n", number_in(gate, "queries"),
           json_is_true(json_object_get(gate, "cut_short")) ? " (not all)" : "",
           number_in(gate, "better"), number_in(gate, "worse"));
}

static void print_precision(const json_t *precision) {
    printf("  computed in %s before, in %s now\n", text_in(precision, "old"),
           text_in(precision, "new"));
}

static void print_unmatched(const json_t *unmatched) {
    printf("  searches with a min_score that find nothing: %.0f before, %.0f now, of %.0f\n",
           number_in(unmatched, "old"), number_in(unmatched, "new"),
           number_in(unmatched, "searches"));
}

void moult_report_print(const json_t *report) {
    const json_t *overlap = json_object_get(report, "overlap");
    const json_t *scores = json_object_get(report, "scores");
    const json_t *cosine = json_object_get(report, "cosine");
    moult_report_print_summary(report, "");
    printf("  %.0f texts in %.1f s%s, %.0f as queries and %.0f as documents\n",
           number_in(report, "texts"), number_in(report, "seconds"),
           json_is_true(json_object_get(report, "cut_short")) ? ", when time ran out" : "",
           number_in(report, "queries"), number_in(report, "documents"));
    if (json_object_get(report, "precision") != NULL)
        print_precision(json_object_get(report, "precision"));
    if (json_object_get(report, "gate") != NULL)
        print_gate(json_object_get(report, "gate"));
    if (json_object_get(report, "unmatched") != NULL)
        print_unmatched(json_object_get(report, "unmatched"));
    if (overlap == NULL)
        return;
    print_percents("lowest …", moult_report_score_percents, MOULT_REPORT_SCORES);
    print_row("scores of pairs, before", json_object_get(scores, "old"),
              moult_report_score_percents, MOULT_REPORT_SCORES);
    print_row("                 now", json_object_get(scores, "new"), moult_report_score_percents,
              MOULT_REPORT_SCORES);
    print_percents("lowest …", moult_report_overlap_percents, MOULT_REPORT_OVERLAPS);
    print_row("same among nearest ten", overlap, moult_report_overlap_percents,
              MOULT_REPORT_OVERLAPS);
    if (cosine == NULL)
        return;
    print_percents("lowest …", moult_report_cosine_percents, MOULT_REPORT_COSINES);
    print_row("old vector with new one", cosine, moult_report_cosine_percents,
              MOULT_REPORT_COSINES);
}
