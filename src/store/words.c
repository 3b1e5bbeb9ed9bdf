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
};

struct term {
    char *bytes;
    size_t size;
    bool is_common;
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
        words->tokenizer.xCreate(context, options, 2, &words->instance) != 0)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "SQLite %s has no full-text search (FTS5), which documents need.",
                          sqlite3_libversion());
    return 0;
}

void moult_words_close(struct moult_store *store) {
    if (store->words != NULL && store->words->instance != NULL)
        store->words->tokenizer.xDelete(store->words->instance);
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

/* ---- Words that say nothing. BM25 gives a word that more than half of all documents have a weight
 * of nothing (one millionth), but walking over them takes most of the time of a query. In a
 * large collection they are left out, unless there are no others. */

#define DOCUMENTS_MANY 10000u

/* How many documents more than half are; UINT64_MAX: the collection is small, or a small part. */
static int read_half(struct moult_store *store, uint32_t collection, uint64_t *half,
                     struct moult_error *error) {
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
    *half = own >= DOCUMENTS_MANY && own >= all / 2 ? all / 2 : UINT64_MAX;
    return row < 0 ? -1 : 0;
}

static int count_term(struct moult_store *store, const struct term *term, uint64_t *count,
                      struct moult_error *error) {
    static const char sql[] = "SELECT doc FROM temp.word_counts WHERE term = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, term->bytes, (int)term->size, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "counting words", error);
    *count = row == 1 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

static int mark_common(struct moult_store *store, uint32_t collection, struct terms *terms,
                       struct moult_error *error) {
    uint64_t half, count;
    unsigned common = 0, found = 0;
    if (read_half(store, collection, &half, error) != 0)
        return -1;
    for (unsigned i = 0; half != UINT64_MAX && i < terms->count; i++) {
        if (count_term(store, &terms->items[i], &count, error) != 0)
            return -1;
        terms->items[i].is_common = count > half;
        common += count > half;
        found += count > 0;
    }
    for (unsigned i = 0; common == found && i < terms->count; i++)
        terms->items[i].is_common = false;
    return 0;
}

/* The expression "a" OR "b"; malloc'ed. */
static char *write_expression(const struct terms *terms) {
    struct moult_buffer out;
    moult_buffer_init(&out, MOULT_GIB);
    for (unsigned i = 0; i < terms->count; i++) {
        if (terms->items[i].is_common)
            continue;
        moult_buffer_text(&out, out.size == 0 ? "\"" : " OR \"");
        for (size_t at = 0; at < terms->items[i].size; at++) {
            char c = terms->items[i].bytes[at];
            moult_buffer_append(&out, &c, 1);
            if (c == '"')
                moult_buffer_append(&out, &c, 1);
        }
        moult_buffer_text(&out, "\"");
    }
    MOULT_REQUIRE(!out.overflowed);
    return moult_buffer_take(&out, NULL);
}

/* ---- Search. */

static int find(struct moult_store *store, uint32_t collection, const char *expression,
                const struct moult_filter *filter, uint32_t k, struct moult_word_hit *hits,
                struct moult_error *error) {
    static const char sql[] =
        "SELECT words.rowid, bm25(words) FROM words CROSS JOIN documents d ON d.seq = words.rowid"
        " WHERE words MATCH ?1 AND d.collection = ?2 AND moult_matches(?3, d.metadata)"
        " ORDER BY 2, 1 LIMIT ?4";
    uint32_t slot;
    if (moult_store_slot_of(store, collection, &slot, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, expression, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, collection);
    moult_store_bind_filter(statement, 3, filter);
    sqlite3_bind_int64(statement, 4, k);
    int row, count = 0;
    while ((row = moult_store_step(store, statement, "searching for words", error)) == 1)
        hits[count++] = (struct moult_word_hit){
            .seq = (uint64_t)sqlite3_column_int64(statement, 0),
            .score = -sqlite3_column_double(statement, 1),
        };
    moult_store_done(statement);
    return row < 0 ? -1 : count;
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
    int count = mark_common(store, collection, &terms, error);
    if (terms.count > 0 && count == 0) {
        char *expression = write_expression(&terms);
        count = find(store, collection, expression, filter, k, hits, error);
        free(expression);
    }
    release_terms(&terms);
    return moult_store_leave(store, count);
}
