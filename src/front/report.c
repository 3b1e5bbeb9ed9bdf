#include "front/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define K MOULT_REPORT_NEIGHBOURS

/* n texts, C dimensions; scores are [n][n]. */

static double dot(const float *a, const float *b, uint32_t C) {
    double sum = 0;
    for (uint32_t i = 0; i < C; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

static double *score_all(const float *vectors, uint32_t n, uint32_t C) {
    double *scores = moult_allocate((size_t)n * n, sizeof *scores);
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            scores[i * n + j] = scores[j * n + i] = dot(vectors + i * C, vectors + j * C, C);
    return scores;
}

/* The K highest of row `i` but itself; of equal ones, those that come first. */
static void find_nearest(const double *row, uint32_t n, uint32_t i, uint32_t nearest[K]) {
    uint32_t count = 0;
    for (uint32_t j = 0; j < n; j++) {
        if (j == i || (count == K && row[j] <= row[nearest[K - 1]]))
            continue;
        uint32_t at = count < K ? count++ : K - 1;
        while (at > 0 && row[j] > row[nearest[at - 1]]) {
            nearest[at] = nearest[at - 1];
            at--;
        }
        nearest[at] = j;
    }
}

static double common_part(const uint32_t a[K], const uint32_t b[K]) {
    unsigned common = 0;
    for (unsigned i = 0; i < K; i++)
        for (unsigned j = 0; j < K; j++)
            common += a[i] == b[j];
    return (double)common / K;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double moult_report_quantile(const double *values, size_t n, unsigned percent) {
    double at = (double)(n - 1) * percent / 100;
    size_t below = (size_t)at;
    if (below + 1 >= n)
        return values[n - 1];
    return values[below] + (values[below + 1] - values[below]) * (at - (double)below);
}

static double mean(const double *values, size_t n) {
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += values[i];
    return sum / (double)n;
}

static void fill_quantiles(double *quantiles, const unsigned *percents, unsigned count,
                           double *values, size_t n) {
    qsort(values, n, sizeof *values, ascending);
    for (unsigned i = 0; i < count; i++)
        quantiles[i] = moult_report_quantile(values, n, percents[i]);
}

static void compare_neighbours(struct moult_report *report, const double *old_scores,
                               const double *new_scores) {
    uint32_t n = report->texts;
    double *overlaps = moult_allocate(n, sizeof *overlaps);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t before[K], after[K];
        find_nearest(old_scores + (size_t)i * n, n, i, before);
        find_nearest(new_scores + (size_t)i * n, n, i, after);
        overlaps[i] = common_part(before, after);
    }
    report->overlap_mean = mean(overlaps, n);
    fill_quantiles(report->overlap, moult_report_overlap_percents, MOULT_REPORT_OVERLAPS, overlaps,
                   n);
    free(overlaps);
}

/* Each pair once: the part above the diagonal, moved together. */
static void describe_scores(double quantiles[MOULT_REPORT_SCORES], double *scores, uint32_t n) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++)
            scores[count++] = scores[i * n + j];
    fill_quantiles(quantiles, moult_report_score_percents, MOULT_REPORT_SCORES, scores, count);
}

static void compare_vectors(struct moult_report *report, const float *old_vectors,
                            const float *new_vectors) {
    uint32_t n = report->texts, C = report->old_dimensions;
    double *cosines = moult_allocate(n, sizeof *cosines);
    for (size_t i = 0; i < n; i++)
        cosines[i] = dot(old_vectors + i * C, new_vectors + i * C, C);
    report->cosine_mean = mean(cosines, n);
    fill_quantiles(report->cosine, moult_report_cosine_percents, MOULT_REPORT_COSINES, cosines, n);
    free(cosines);
}

void moult_report_compute(struct moult_report *report, const float *old_vectors,
                          const float *new_vectors) {
    uint32_t n = report->texts;
    if (n < MOULT_REPORT_TEXTS_MIN)
        return;
    double *old_scores = score_all(old_vectors, n, report->old_dimensions);
    double *new_scores = score_all(new_vectors, n, report->new_dimensions);
    compare_neighbours(report, old_scores, new_scores);
    describe_scores(report->old_scores, old_scores, n);
    describe_scores(report->new_scores, new_scores, n);
    if (report->old_dimensions == report->new_dimensions)
        compare_vectors(report, old_vectors, new_vectors);
    free(old_scores);
    free(new_scores);
}
