/* A search, from its body to its answer. What it is made of, for search*.c and api_search.c alone.
 *
 *   step       who does it         what
 *   ────────── ─────────────────── ───────────────────────────────────────────────────────────────
 *   LOOK_UP    the desk            the collection's number and slot
 *   SELECT     the desk            a filter's rows in the space of one model; hits by words, which
 *                                  a thread of their own looks for
 *   ASK        a worker            one job: the queries' vectors, and the hits nearest to them
 *   SHOW       the desk            the documents of the hits, and with them the answer
 *
 * Steps that have nothing to do are left out: SELECT where there are no words, no filter and not
 * much text, ASK in mode "text". Between two of them the table may change:
 *
 *   - A hit is a version of a document, and the store may have replaced it. While that is not
 *     acknowledged, the old version is shown (replaced.h). If it has been meanwhile, all is done
 *     again, twice at most; what is gone then is being deleted, and is left out.
 *   - Where hits are too few for that, more are asked for, at most MOULT_SEARCH_ATTEMPTS times.
 *   - Rows that came behind a filter's are let through, and their documents looked at when they are
 *     shown: they may be all that is left of one that matched.
 *   - Of a model that has just been started nobody knows yet where its rows are: a search with a
 *     filter is asked without it first, and that answer is nobody's.
 *   - Rows belong to one model, so a search with a filter is pinned to the generation whose rows
 *     they are; where another one serves when they have been selected, all is done again. */
#ifndef MOULT_FRONT_SEARCH_H
#define MOULT_FRONT_SEARCH_H

#include "front/documents.h"
#include "front/job.h"
#include "front/slots.h"

/* Of one search, beginning with the first. */
#define MOULT_SEARCH_ATTEMPTS 6
/* Others who want to read wait so long at most, whatever many queries take. */
#define MOULT_SEARCH_PORTION_NS 20000000ull

/* What is asked. */
struct moult_question {
    enum moult_search_mode mode;
    bool plain;                       /* GET /?q=: the answer repeats it. */
    bool many;                        /* "queries": results are a list of lists. */
    struct moult_text *texts;         /* [count], owned, as are the bytes; NULL: a vector. */
    char *bytes;
    uint32_t count;
    size_t text_bytes;
    float *vector;                    /* [C], owned; NULL: texts. */
    uint32_t C;
    char fingerprint[MOULT_SHA256_HEX];   /* Of the vector: 8 digits or more. */
    uint32_t k;
    bool has_score_min;
    double score_min;
    struct moult_filter *filter;      /* Owned; NULL: none. */
    char *model;                      /* Owned; NULL: none is named. */
    bool with_text, with_metadata, with_vector;
};

/* One that is to be shown. */
struct moult_search_hit {
    uint64_t seq;
    double score;
    uint32_t chunk;
    bool has_chunk;
};

enum moult_search_step { MOULT_SEARCH_LOOK_UP, MOULT_SEARCH_SELECT, MOULT_SEARCH_SHOW };

struct moult_search {
    struct moult_errand errand;
    struct moult_question question;
    uint64_t begun_ns;
    enum moult_search_step step;      /* At the desk, */
    bool more;                        /* where it has not been done to its end. */
    unsigned attempts;
    uint32_t spare;                   /* Hits that are asked for beyond those that are wanted. */

    /* Where: of LOOK_UP, and what the loop makes of it. */
    struct moult_collection collection;
    struct moult_slot *slot;
    struct moult_generation *generation;   /* Held: whose rows are selected, or whose vector it is,
                                              or who has answered. */
    uint32_t space;                        /* Of that generation. */
    bool early;                            /* It is not there yet. */

    /* Of SELECT. */
    struct moult_allowed allowed;
    struct moult_word_hit *words;     /* Of query i: from word_ends[i - 1] to word_ends[i]. */
    uint32_t *word_ends;
    uint32_t words_done;              /* Queries. */
    uint64_t words_ns;

    /* Of ASK. */
    char *message;                    /* The job's, until it has one. */
    size_t message_size;
    struct moult_job *job;            /* While it is under way. */
    struct moult_answer_times times;
    uint32_t truncated;
    struct moult_found *found;        /* Of query i: from found_ends[i - 1] to found_ends[i]. */
    uint32_t *found_ends;
    float *vectors;                   /* [count][C] of the queries, where asked for. */
    uint32_t C;

    /* For SHOW, and of it. */
    struct moult_search_hit *hits;    /* Of query i: from ends[i - 1] to ends[i]. */
    uint32_t *ends;
    uint32_t shown;                   /* Queries. */
    bool missing;                     /* Versions are gone, and all has to be done again. */
};

/* search_read.c: fills the question. Any thread. */
int moult_search_read(struct moult_question *question, const json_t *body,
                      struct moult_refusal *refusal);
void moult_question_release(struct moult_question *question);

/* search_find.c: the desk's part up to the answer. Returns 1 when time is up: again, please. */

/* Whether there is a SELECT: for words, a filter, or a job that takes its time to write. */
bool moult_search_selects(const struct moult_question *question);
int moult_search_look_up(struct moult_search *search, struct moult_store *store,
                         struct moult_error *error);
int moult_search_select(struct moult_search *search, struct moult_store *store,
                        struct moult_error *error);
/* The job's message, of what SELECT has found. */
void moult_search_write_message(struct moult_search *search);
/* From what words and vectors have found to what is shown. */
void moult_search_merge(struct moult_search *search);
/* So many candidates of either kind. */
uint32_t moult_search_depth(const struct moult_search *search);

/* search_show.c: the documents, and the answer; 1 as above. */
int moult_search_show(struct moult_search *search, struct moult_store *store,
                      struct moult_error *error);

/* search.c: all of it, for a question that is known already or is yet to be read. */
extern const struct moult_errand_kind moult_search_kind, moult_question_kind;

#endif
