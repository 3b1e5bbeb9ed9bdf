/* Relevance judgements: queries, and the documents that they should find, as a person wrote them
 * down to tell a good model from a bad one (--gate). A file of JSON lines:
 *
 *     {"query": TEXT, "relevant": [ID, …] | {ID: GAIN, …}, "collection"?: NAME}
 *
 * An id of a list has gain 1. Other keys are for people, and empty lines do no harm. */
#ifndef MOULT_FRONT_JUDGEMENTS_H
#define MOULT_FRONT_JUDGEMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* nDCG is taken at so many. */
#define MOULT_JUDGED_HITS 10u

struct moult_judged_document {
    char *id;
    double gain;                         /* 0, or from 1e-6 to MOULT_GATE_GAIN_MAX. */
};

struct moult_judged_query {
    char *text;
    size_t size;
    uint32_t collection;                 /* Index into the judgements' collections. */
    struct moult_judged_document *relevant;   /* [relevant_count], each id once. */
    uint32_t relevant_count;
    double ideal;                        /* DCG of the best order; above 0. */
};

struct moult_judgements {
    struct moult_judged_query *queries;  /* [count], at least one. */
    uint32_t count;
    char **collections;                  /* [collection_count], each once. */
    uint32_t collection_count;
};

/* NULL with a sentence that names the line. Any thread; what comes is only read from then on. */
struct moult_judgements *moult_judgements_parse(const char *bytes, size_t size,
                                                struct moult_error *error);
struct moult_judgements *moult_judgements_read(const char *path, struct moult_error *error);
void moult_judgements_free(struct moult_judgements *judgements);   /* NULL is allowed. */

/* nDCG at MOULT_JUDGED_HITS of what was found, best first, 0 to 1: gains as they are, divided by
 * log2(place + 1). Ids may be NULL: found, and nobody knows what. */
double moult_judged_ndcg(const struct moult_judged_query *query, const char *const *ids,
                         uint32_t count);

/* Which new models are let through (--gate-min). */
struct moult_gate_limit {
    enum moult_gate_limit_kind {
        MOULT_GATE_ANY,
        MOULT_GATE_ABSOLUTE,   /* "0.4": the new nDCG is at least that. */
        MOULT_GATE_RELATIVE    /* "-2%": it is at least the old one less 2 % of it. */
    } kind;
    double value;              /* 0.4, -0.02 */
};
int moult_gate_limit_parse(const char *text, struct moult_gate_limit *limit,
                           struct moult_error *error);
/* The least nDCG that goes through; 0 with MOULT_GATE_ANY. */
double moult_gate_limit_least(const struct moult_gate_limit *limit, double old_ndcg);

#endif
