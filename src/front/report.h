/* What changes for those who ask when one model replaces another: figures about the same
 * texts under both, and what they mean in a sentence. Nothing in it tells a text. */
#ifndef MOULT_FRONT_REPORT_H
#define MOULT_FRONT_REPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/precision.h"

/* With fewer texts nothing can be said. */
#define MOULT_REPORT_TEXTS_MIN 30u
#define MOULT_REPORT_NEIGHBOURS 10u

enum { MOULT_REPORT_OVERLAPS = 5, MOULT_REPORT_SCORES = 7, MOULT_REPORT_COSINES = 3 };
/* The quantiles, in per cent, that `overlap`, the scores and `cosine` have. */
extern const unsigned moult_report_overlap_percents[MOULT_REPORT_OVERLAPS];   /* 5 25 50 75 95 */
extern const unsigned moult_report_score_percents[MOULT_REPORT_SCORES]; /* 1 5 25 50 75 95 99 */
extern const unsigned moult_report_cosine_percents[MOULT_REPORT_COSINES];     /* 5 50 95 */

/* What a person's own queries and judgements say (judgements.h). */
struct moult_gate_figures {
    uint32_t queries;                         /* Of the slot's collections; 0: none was asked. */
    uint32_t documents, missing;              /* That these want, and of them, not stored. */
    double old_ndcg, new_ndcg;                /* Means, at 10. */
    uint32_t better, worse;                   /* Queries. */
    double least;                             /* What --gate-min comes to; 0: anything goes. */
    bool cut_short;                           /* A person did not wait for the last query. */
};

/* Of the searches that were asked with a min_score, those that would find nothing. */
struct moult_unmatched {
    uint32_t searches;                        /* 0: there was none. */
    uint32_t old_none, new_none;
};

struct moult_report {
    uint32_t texts, queries, documents;       /* Compared; of them, with either prompt. */
    uint32_t old_dimensions, new_dimensions;
    enum moult_precision old_precision, new_precision;   /* AUTO: not known. */
    double seconds;                           /* What it took. */
    bool cut_short;                           /* Time ran out before the last text. */
    /* All below is 0 where `texts` is below MOULT_REPORT_TEXTS_MIN. Of the nearest ten of each text
     * among the others under the old model, the part that is so under the new one. */
    double overlap_mean, overlap[MOULT_REPORT_OVERLAPS];
    /* Cosines of all pairs of texts. */
    double old_scores[MOULT_REPORT_SCORES], new_scores[MOULT_REPORT_SCORES];
    /* Of each text's old vector with its new one, where the dimensions agree. */
    double cosine_mean, cosine[MOULT_REPORT_COSINES];
    struct moult_gate_figures gate;
    struct moult_unmatched unmatched;
};

/* Fills the figures from unit vectors, [texts][old_dimensions] and [texts][new_dimensions]; what is
 * above them must be set. Any thread; its time grows with the square of the texts. */
void moult_report_compute(struct moult_report *report, const float *old_vectors,
                          const float *new_vectors);

/* Of `n` values in ascending order: with linear interpolation, as numpy's default. */
double moult_report_quantile(const double *values, size_t n, unsigned percent);

/* A person's version; malloc'ed. */
char *moult_report_sentence(const struct moult_report *report);
/* As the API shows it and state.json keeps it, with the sentence; a new reference. */
json_t *moult_report_json(const struct moult_report *report);
/* The reverse. What has no business there is refused. */
int moult_report_read(const json_t *object, struct moult_report *report,
                      struct moult_error *error);

#endif
