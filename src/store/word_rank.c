/* Which documents have the words of a query, and how well: BM25, with the weights and constants
 * that SQLite's own bm25() has, but for what makes that slow.
 *
 * bm25() is asked about every row that has any of the words. It makes a list of all places of all
 * words, reads how long the row is from another table, and the row is looked up in the documents
 * and sorted, all for a score that is rarely one of the best. Here the words of a row are counted,
 * and what its score could be if it were as short as can be is its bound: with that below the worst
 * of the k that are kept, nothing else of it is read. Neither are the words themselves counted
 * again, for who chooses among them (words.c) has done so.
 *
 * A bound is computed as a score is, operation by operation, with 0 in place of a length that is
 * not below it; rounding keeps that order, so no score is above its bound. Rows come by seq, so of
 * equal scores the first stays. */
#include <math.h>
#include <string.h>

#include "store/parts.h"

/* Of how often a word is there, more says less and less; and a long text has to have it more
 * often. */
#define SATURATION 1.2
#define LENGTH_SHARE 0.75
/* What half of all rows have, or more of them. */
#define WEIGHT_LEAST 1e-6

static const char ranking_type[] = "moult_ranking";

static double part_of(double times, double relative_length) {
    return times * (SATURATION + 1) /
           (times + SATURATION * (1 - LENGTH_SHARE + LENGTH_SHARE * relative_length));
}

static double sum_of(const struct moult_ranking *ranking, const unsigned *times,
                     double relative_length) {
    double sum = 0;
    for (unsigned i = 0; i < ranking->count; i++)
        if (times[i] > 0)
            sum += ranking->weights[i] * part_of(times[i], relative_length);
    return sum;
}

static int weigh(struct moult_ranking *ranking, const Fts5ExtensionApi *api, Fts5Context *row) {
    sqlite3_int64 rows = 0, words = 0;
    int code = api->xRowCount(row, &rows);
    if (code == SQLITE_OK)
        code = api->xColumnTotalSize(row, -1, &words);
    if (code != SQLITE_OK)
        return code;
    for (unsigned i = 0; i < ranking->count; i++) {
        double with = (double)ranking->rows_with[i];
        double weight = log(((double)rows - with + 0.5) / (with + 0.5));
        ranking->weights[i] = weight > WEIGHT_LEAST ? weight : WEIGHT_LEAST;
    }
    ranking->mean_length = words > 0 ? (double)words / (double)rows : 1;
    return SQLITE_OK;
}

static int count_words(const struct moult_ranking *ranking, const Fts5ExtensionApi *api,
                       Fts5Context *row, unsigned *times) {
    for (unsigned i = 0; i < ranking->count; i++) {
        Fts5PhraseIter at;
        int column, place;
        int code = api->xPhraseFirst(row, (int)(ranking->skipped + i), &at, &column, &place);
        if (code != SQLITE_OK)
            return code;
        for (times[i] = 0; column >= 0; times[i]++)
            api->xPhraseNext(row, &at, &column, &place);
    }
    return SQLITE_OK;
}

static bool is_within_reach(const struct moult_ranking *ranking, double score) {
    return ranking->found < ranking->k || score > ranking->hits[ranking->found - 1].score;
}

/* moult_rank(words, ranking): the row's score, or NULL, where it is none of the best. */
static void rank_row(const Fts5ExtensionApi *api, Fts5Context *row, sqlite3_context *result,
                     int count, sqlite3_value **values) {
    struct moult_ranking *ranking =
        count == 1 ? sqlite3_value_pointer(values[0], ranking_type) : NULL;
    unsigned times[MOULT_WORDS_PER_QUERY_MAX];
    int code = SQLITE_OK, length;
    if (ranking == NULL)
        return;
    if (ranking->mean_length == 0)
        code = weigh(ranking, api, row);
    if (code == SQLITE_OK)
        code = count_words(ranking, api, row, times);
    if (code == SQLITE_OK && !is_within_reach(ranking, sum_of(ranking, times, 0)))
        return;
    if (code == SQLITE_OK)
        code = api->xColumnSize(row, -1, &length);
    if (code != SQLITE_OK) {
        sqlite3_result_error_code(result, code);
        return;
    }
    double score = sum_of(ranking, times, length / ranking->mean_length);
    if (is_within_reach(ranking, score))
        sqlite3_result_double(result, score);
}

int moult_words_add_rank(fts5_api *api) {
    return api->xCreateFunction(api, "moult_rank", NULL, rank_row, NULL);
}

/* ---- The best of all rows. */

static void keep(struct moult_ranking *ranking, uint64_t seq, double score) {
    uint32_t at = ranking->found < ranking->k ? ranking->found++ : ranking->k - 1;
    for (; at > 0 && ranking->hits[at - 1].score < score; at--)
        ranking->hits[at] = ranking->hits[at - 1];
    ranking->hits[at] = (struct moult_word_hit){.seq = seq, .score = score};
}

/* The index has all collections. 1, 0, or -1. */
static int is_asked_for(struct moult_store *store, uint64_t seq, uint32_t collection,
                        const struct moult_filter *filter, struct moult_error *error) {
    static const char sql[] = "SELECT 1 FROM documents WHERE seq = ?1 AND collection = ?2 AND"
                              " moult_matches(?3, metadata)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
    sqlite3_bind_int64(statement, 2, collection);
    moult_store_bind_filter(statement, 3, filter);
    int row = moult_store_step(store, statement, "reading documents", error);
    moult_store_done(statement);
    return row;
}

int moult_words_rank(struct moult_store *store, uint32_t collection, const char *expression,
                     const struct moult_filter *filter, struct moult_ranking *ranking,
                     struct moult_error *error) {
    static const char sql[] = "SELECT rowid, moult_rank(words, ?2) FROM words WHERE words MATCH ?1"
                              " ORDER BY rowid";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    int row = statement != NULL && ranking->k > 0 ? 1 : 0;
    if (statement == NULL)
        return -1;
    ranking->found = 0;
    sqlite3_bind_text(statement, 1, expression, -1, SQLITE_STATIC);
    sqlite3_bind_pointer(statement, 2, ranking, ranking_type, NULL);
    while (row == 1 &&
           (row = moult_store_step(store, statement, "searching for words", error)) == 1) {
        if (sqlite3_column_type(statement, 1) == SQLITE_NULL)
            continue;
        uint64_t seq = (uint64_t)sqlite3_column_int64(statement, 0);
        int asked_for = is_asked_for(store, seq, collection, filter, error);
        if (asked_for < 0)
            row = -1;
        else if (asked_for > 0)
            keep(ranking, seq, sqlite3_column_double(statement, 1));
    }
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}
