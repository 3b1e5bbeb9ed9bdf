#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "store/parts.h"

/* The words of a query are found by the tokenizer that the index was made with, not by guessing at
 * its rules: what it gives are terms as they stand in the index, letters and digits only. Each
 * is quoted, so nothing of a query is read as an operator. */
struct moult_word_reader {
    fts5_tokenizer tokenizer;
    Fts5Tokenizer *instance;
    struct moult_word_counts *counts;
};

struct term {
    char *bytes;
    size_t size;
    uint64_t documents;        /* That have it, in all collections. */
};

struct terms {
    struct term items[MOULT_WORDS_PER_QUERY_MAX];
    unsigned count;
};

/* ---- The tokenizer. */

static fts5_api *find_api(struct moult_store *store) {
    fts5_api *api = NULL;
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(store->db, "SELECT fts5(?1)", -1, &statement, NULL) != SQLITE_OK)
        return NULL;
    sqlite3_bind_pointer(statement, 1, &api, "fts5_api_ptr", NULL);
    sqlite3_step(statement);
    sqlite3_finalize(statement);
    return api;
}

int moult_words_open(struct moult_store *store, struct moult_error *error) {
    /* As in schema.c. */
    const char *options[] = {"remove_diacritics", "2"};
    struct moult_word_reader *words = moult_allocate(1, sizeof *words);
    void *context;
    fts5_api *api = find_api(store);
    store->words = words;
    if (moult_store_execute(store, "CREATE VIRTUAL TABLE temp.word_counts USING"
                            " fts5vocab ('main', 'words', 'row')", "opening it", error) != 0)
        return -1;
    if (api == NULL || api->xFindTokenizer(api, "unicode61", &context, &words->tokenizer) != 0 ||
        words->tokenizer.xCreate(context, options, 2, &words->instance) != 0 ||
        moult_words_add_rank(api) != 0)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "SQLite %s has no full-text search (FTS5), which documents need.",
                          sqlite3_libversion());
    return 0;
}

void moult_words_close(struct moult_store *store) {
    if (store->words != NULL && store->words->instance != NULL)
        store->words->tokenizer.xDelete(store->words->instance);
    if (store->words != NULL)
        free(store->words->counts);
    free(store->words);
}

static int take_term(void *context, int flags, const char *bytes, int size, int begin, int end) {
    struct terms *terms = context;
    (void)flags, (void)begin, (void)end;
    for (unsigned i = 0; i < terms->count; i++)
        if (terms->items[i].size == (size_t)size &&
            memcmp(terms->items[i].bytes, bytes, (size_t)size) == 0)
            return SQLITE_OK;
    if (terms->count == MOULT_WORDS_PER_QUERY_MAX)
        return SQLITE_DONE;
    terms->items[terms->count++] = (struct term){.bytes = moult_copy_bytes(bytes, (size_t)size),
                                                 .size = (size_t)size};
    return SQLITE_OK;
}

static void release_terms(struct terms *terms) {
    for (unsigned i = 0; i < terms->count; i++)
        free(terms->items[i].bytes);
}

/* ---- Which of them are looked for.
 *
 * Time grows with the documents that have any of the words, and nearly all of them have some word
 * of a long query. What a word weighs falls with the documents that have it. So
 *
 *   - what no document has is left out;
 *   - what more than half of all documents have weighs nothing (one millionth): in a large
 *     collection that is left out, unless there are no others;
 *   - in a large table only documents are looked at that have one of the rarest words: as many of
 *     these as it takes to come to DOCUMENTS_ENOUGH. Their scores are those of all words. Where
 *     they turn out to be too few, because a filter or a small collection wants others, all
 *     that have any of the words are looked at. */

#define DOCUMENTS_MANY 10000u
#define DOCUMENTS_ENOUGH 10000u

/* Documents of all collections; *half is UINT64_MAX where the collection is small, or a small
 * part. */
static int count_documents(struct moult_store *store, uint32_t collection, uint64_t *documents,
                           uint64_t *half, struct moult_error *error) {
    static const char sql[] = "SELECT documents, (SELECT sum(documents) FROM collections)"
                              " FROM collections WHERE number = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    int row = moult_store_step(store, statement, "reading collections", error);
    uint64_t own = row == 1 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    uint64_t all = row == 1 ? (uint64_t)sqlite3_column_int64(statement, 1) : 0;
    moult_store_done(statement);
    *documents = all;
    *half = own >= DOCUMENTS_MANY && own >= all / 2 ? all / 2 : UINT64_MAX;
    return row < 0 ? -1 : 0;
}

static int count_terms(struct moult_store *store, struct terms *terms,
                       struct moult_error *error) {
    struct moult_word_reader *words = store->words;
    if (moult_word_counts_begin(store, &words->counts, error) != 0)
        return -1;
    for (unsigned i = 0; i < terms->count; i++) {
        struct term *term = &terms->items[i];
        if (moult_word_count(store, words->counts, term->bytes, term->size, &term->documents,
                             error) != 0)
            return -1;
    }
    return 0;
}

static int compare_terms(const void *left, const void *right) {
    const struct term *a = left, *b = right;
    if (a->documents != b->documents)
        return a->documents < b->documents ? -1 : 1;
    size_t size = a->size < b->size ? a->size : b->size;
    int order = memcmp(a->bytes, b->bytes, size);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* Takes those out that are not looked for; the rarest is the first of those that are left. */
static int weed(struct moult_store *store, struct terms *terms, uint64_t half,
                struct moult_error *error) {
    unsigned unknown = 0, left;
    if (count_terms(store, terms, error) != 0)
        return -1;
    if (terms->count > 1)
        qsort(terms->items, terms->count, sizeof *terms->items, compare_terms);
    while (unknown < terms->count && terms->items[unknown].documents == 0)
        free(terms->items[unknown++].bytes);
    terms->count -= unknown;
    memmove(terms->items, terms->items + unknown, terms->count * sizeof *terms->items);
    for (left = terms->count; left > 0 && terms->items[left - 1].documents > half;)
        left--;
    while (left > 0 && terms->count > left)
        free(terms->items[--terms->count].bytes);
    return 0;
}

/* How many of them, from the rarest on, choose the documents. */
static unsigned count_rare(const struct terms *terms, uint64_t documents) {
    uint64_t sum = 0;
    unsigned count = 0;
    while (count < terms->count && (documents <= DOCUMENTS_ENOUGH || sum < DOCUMENTS_ENOUGH))
        sum += terms->items[count++].documents;
    return count;
}

/* "a" OR "b" */
static void write_some(struct moult_buffer *out, const struct terms *terms, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        moult_buffer_text(out, i == 0 ? "\"" : " OR \"");
        for (size_t at = 0; at < terms->items[i].size; at++) {
            char c = terms->items[i].bytes[at];
            moult_buffer_append(out, &c, 1);
            if (c == '"')
                moult_buffer_append(out, &c, 1);
        }
        moult_buffer_text(out, "\"");
    }
}

/* What has one of the first `rare`: ("a") AND ("a" OR "b"), for the second half is what is scored;
 * malloc'ed. */
static char *write_expression(const struct terms *terms, unsigned rare) {
    struct moult_buffer out;
    moult_buffer_init(&out, MOULT_GIB);
    if (rare < terms->count) {
        moult_buffer_text(&out, "(");
        write_some(&out, terms, rare);
        moult_buffer_text(&out, ") AND (");
    }
    write_some(&out, terms, terms->count);
    if (rare < terms->count)
        moult_buffer_text(&out, ")");
    MOULT_REQUIRE(!out.overflowed);
    return moult_buffer_take(&out, NULL);
}

/* ---- Search. */

static int find_with(struct moult_store *store, uint32_t collection, const struct terms *terms,
                     unsigned rare, const struct moult_filter *filter, uint32_t k,
                     struct moult_word_hit *hits, struct moult_error *error) {
    struct moult_ranking ranking = {.skipped = rare < terms->count ? rare : 0,
                                    .count = terms->count, .k = k, .hits = hits};
    for (unsigned i = 0; i < terms->count; i++)
        ranking.rows_with[i] = terms->items[i].documents;
    char *expression = write_expression(terms, rare);
    int result = moult_words_rank(store, collection, expression, filter, &ranking, error);
    free(expression);
    return result != 0 ? -1 : (int)ranking.found;
}

static int find(struct moult_store *store, uint32_t collection, struct terms *terms,
                const struct moult_filter *filter, uint32_t k, struct moult_word_hit *hits,
                struct moult_error *error) {
    uint64_t documents, half;
    uint32_t slot;
    if (moult_store_slot_of(store, collection, &slot, error) != 0 ||
        count_documents(store, collection, &documents, &half, error) != 0 ||
        weed(store, terms, half, error) != 0)
        return -1;
    if (terms->count == 0)
        return 0;
    unsigned rare = count_rare(terms, documents);
    int count = find_with(store, collection, terms, rare, filter, k, hits, error);
    if (count >= 0 && (uint32_t)count < k && rare < terms->count)
        count = find_with(store, collection, terms, terms->count, filter, k, hits, error);
    return count;
}

int moult_store_find_words(struct moult_store *store, uint32_t collection, const char *query,
                           size_t query_size, const struct moult_filter *filter, uint32_t k,
                           struct moult_word_hit *hits, struct moult_error *error) {
    struct terms terms = {.count = 0};
    struct moult_word_reader *words = store->words;
    MOULT_REQUIRE(query_size <= INT32_MAX && k <= INT32_MAX);
    if (moult_store_enter(store, error) != 0)
        return -1;
    words->tokenizer.xTokenize(words->instance, &terms, FTS5_TOKENIZE_QUERY, query,
                               (int)query_size, take_term);
    int count = terms.count > 0 ? find(store, collection, &terms, filter, k, hits, error) : 0;
    if (count < 0 && moult_store_out_of_time(store))
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "Too many documents have words of this query: %" PRIu64 " ms were not enough to "
                   "look at them. Ask with fewer words, or with rarer ones, or without \"mode\", "
                   "by vectors.", store->limit_ms);
    release_terms(&terms);
    return moult_store_leave(store, count);
}
