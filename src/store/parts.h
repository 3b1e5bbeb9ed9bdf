/* What the files of the store share, and nobody else sees. */
#ifndef MOULT_STORE_PARTS_H
#define MOULT_STORE_PARTS_H

#include <assert.h>
#include <sqlite3.h>

#include "store/store.h"

/* Statements are prepared once for each handle and found by the address of their text: `sql` is a
 * static array, one for each. */
#define MOULT_STATEMENTS_MAX 96

struct moult_statement {
    const char *sql;
    sqlite3_stmt *prepared;
};

/* What a transaction has added to the counts of a collection or a space. They are written once,
 * at its end, and not for each document. */
struct moult_tally {
    uint32_t number;
    int64_t documents, text_bytes, chunks;
};

struct moult_tallies {
    struct moult_tally *items;
    unsigned count, capacity;
};

/* What the words are to be told before the transaction ends. */
struct moult_word_work {
    uint64_t indexed;           /* Of texts behind this seq the words do not know yet. */
    uint64_t *erased;           /* Versions that are gone, but for their texts. */
    unsigned count, capacity;
};

struct moult_word_reader;

struct moult_store {
    sqlite3 *db;
    char *path;
    enum moult_store_mode mode;
    struct moult_statement statements[MOULT_STATEMENTS_MAX];
    uint64_t limit_ms, deadline_ns;
    bool in_transaction;        /* Begun by moult_store_begin(). */
    bool in_snapshot;           /* Begun by moult_store_enter(). */
    uint64_t least_seq;         /* Those of this handle are larger. */
    uint64_t seq;               /* The last one, within a transaction. */
    bool seq_is_new;
    struct moult_tallies collections, spaces;
    struct moult_ulid ulid;
    struct moult_word_work word_work;
    struct moult_word_reader *words;
};

/* handle.c */

/* Says what SQLite complains of, while `doing` ("storing documents"). Returns -1. */
int moult_store_fail(struct moult_store *store, const char *doing, struct moult_error *error);
/* One that is reset and has nothing bound, or NULL with the error. It is the handle's. */
sqlite3_stmt *moult_store_prepare(struct moult_store *store, const char *sql,
                                  struct moult_error *error);
/* 1: a row, 0: the end, -1: the error. */
int moult_store_step(struct moult_store *store, sqlite3_stmt *statement, const char *doing,
                     struct moult_error *error);
/* Runs it to its end. */
int moult_store_run(struct moult_store *store, sqlite3_stmt *statement, const char *doing,
                    struct moult_error *error);
/* SQL without parameters. */
int moult_store_execute(struct moult_store *store, const char *sql, const char *doing,
                        struct moult_error *error);
/* Resets a statement: before the end of the call that used it, or the snapshot stays. */
void moult_store_done(sqlite3_stmt *statement);

/* Whether it is the time limit that the last statement has failed of. */
bool moult_store_out_of_time(const struct moult_store *store);

/* Each call begins with enter: the time limit starts, what is tallied is written, and outside of a
 * transaction a snapshot is taken. It ends with `return moult_store_leave(store, result)`. */
int moult_store_enter(struct moult_store *store, struct moult_error *error);
int moult_store_leave(struct moult_store *store, int result);
/* For calls that change something: no more than the time limit, and a check of the caller. */
void moult_store_enter_change(struct moult_store *store);
/* Of what is committed, and of the tallies that are written. */
int moult_store_last_seq(struct moult_store *store, uint64_t *seq, struct moult_error *error);

/* pool.c: memory that is given piece by piece and freed at once. */

void *moult_pool_give(struct moult_pool **pool, size_t size);   /* For any type. */
/* A NUL is added. */
char *moult_pool_copy(struct moult_pool **pool, const void *bytes, size_t size);
void moult_pool_free(struct moult_pool *pool);

/* collections.c */

/* The number of a slot's name. 0 where it has none: nothing was ever stored for it. */
int moult_store_slot(struct moult_store *store, const char *name, uint32_t *slot,
                     struct moult_error *error);
int moult_store_slot_make(struct moult_store *store, const char *name, uint32_t *slot,
                          struct moult_error *error);
/* Of a collection that is not dropped, or MISSING. */
int moult_store_slot_of(struct moult_store *store, uint32_t collection, uint32_t *slot,
                        struct moult_error *error);
/* Numbers of dropped collections that are not swept yet, in ascending order; *numbers is
 * malloc'ed. */
int moult_store_dropped(struct moult_store *store, uint32_t **numbers, unsigned *count,
                        struct moult_error *error);

/* documents.c */

struct moult_version {
    uint64_t seq;
    uint32_t slot, collection;
    int64_t text_bytes;
};

/* Takes its rows out of documents and cuts, and notes that its text is to go. */
int moult_version_erase(struct moult_store *store, const struct moult_version *version,
                        struct moult_error *error);
/* One more row of removals. `removed` 0: all of the collection. */
int moult_removal_note(struct moult_store *store, uint32_t slot, uint32_t collection,
                       uint64_t seq, uint64_t removed, struct moult_error *error);

/* read.c */

/* MISSING where that version is gone. The bytes are the statement's until it is done. */
int moult_store_text_of(struct moult_store *store, uint64_t seq, sqlite3_stmt **statement,
                        const char **text, size_t *size, struct moult_error *error);

/* scan.c: the SQL function moult_matches(filter, metadata); a bound NULL matches everything. */

int moult_store_add_functions(struct moult_store *store, struct moult_error *error);
void moult_store_bind_filter(sqlite3_stmt *statement, int at, const struct moult_filter *filter);
/* Whether a scan of a collection had better go over the whole table. */
int moult_store_scan_all(struct moult_store *store, uint32_t collection, bool *all,
                         struct moult_error *error);

/* words.c */

int moult_words_open(struct moult_store *store, struct moult_error *error);
void moult_words_close(struct moult_store *store);

/* word_counts.c */

struct moult_word_counts;

/* Within a snapshot: what is kept is of it from now on. *counts, NULL at first, is made where the
 * handle only reads; free() frees it. */
int moult_word_counts_begin(struct moult_store *store, struct moult_word_counts **counts,
                            struct moult_error *error);
/* `counts` may be NULL. */
int moult_word_count(struct moult_store *store, struct moult_word_counts *counts,
                     const char *bytes, size_t size, uint64_t *documents,
                     struct moult_error *error);

/* word_rank.c */

struct moult_ranking {
    /* The phrases of the expression that are scored: `count`, behind `skipped` that only choose
     * the rows, and how many rows have each. */
    uint64_t rows_with[MOULT_WORDS_PER_QUERY_MAX];
    unsigned skipped, count;
    uint32_t k;
    struct moult_word_hit *hits;   /* [k], filled: `found` by score, then by seq. */
    uint32_t found;
    double weights[MOULT_WORDS_PER_QUERY_MAX];   /* Its own, */
    double mean_length;                          /* of the first row on. */
};

/* The SQL function moult_rank(words, ranking), for one handle. */
int moult_words_add_rank(fts5_api *api);
/* Of the rows that match the expression, those of the collection and the filter. */
int moult_words_rank(struct moult_store *store, uint32_t collection, const char *expression,
                     const struct moult_filter *filter, struct moult_ranking *ranking,
                     struct moult_error *error);

/* word_work.c */

void moult_words_erase_later(struct moult_store *store, uint64_t seq);
int moult_words_write(struct moult_store *store, struct moult_error *error);

/* spaces.c */

static_assert(sizeof(struct moult_chunk) == 12, "As it lies in cuts.");

/* How many chunks a cut has, or -1 where it is damaged. */
int64_t moult_cut_count(const void *bytes, int size);
/* Takes away what that version has in the spaces of its slot. */
int moult_cuts_erase(struct moult_store *store, const struct moult_version *version,
                     struct moult_error *error);

/* tally.c */

uint64_t moult_store_next_seq(struct moult_store *store);
struct moult_tally *moult_tally_of(struct moult_tallies *tallies, uint32_t number);
int moult_store_write_tallies(struct moult_store *store, struct moult_error *error);
void moult_store_forget_tallies(struct moult_store *store);

/* schema.c */

/* Makes the file if it is not there. */
int moult_schema_create(const char *path, struct moult_error *error);
/* Checks whose file it is and of which version, and brings it up to date where it may write. */
int moult_schema_open(struct moult_store *store, struct moult_error *error);

#endif
