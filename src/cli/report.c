#include "cli/report.h"

#include <stdio.h>

#include "front/report.h"

static double number_in(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
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

void moult_report_print(const json_t *report) {
    const json_t *overlap = json_object_get(report, "overlap");
    const json_t *scores = json_object_get(report, "scores");
    const json_t *cosine = json_object_get(report, "cosine");
    moult_report_print_summary(report, "");
    printf("  %.0f texts in %.1f s%s, %.0f as queries and %.0f as documents\n",
           number_in(report, "texts"), number_in(report, "seconds"),
           json_is_true(json_object_get(report, "cut_short")) ? ", when time ran out" : "",
           number_in(report, "queries"), number_in(report, "documents"));
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
