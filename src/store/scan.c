#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

/* ---- The SQL function. */

static const char filter_type[] = "moult_filter";

static void matches(sqlite3_context *context, int count, sqlite3_value **values) {
    (void)count;
    const struct moult_filter *filter = sqlite3_value_pointer(values[0], filter_type);
    if (filter == NULL) {
        sqlite3_result_int(context, 1);
        return;
    }
    const char *metadata = (const char *)sqlite3_value_text(values[1]);
    size_t size = (size_t)sqlite3_value_bytes(values[1]);
    sqlite3_result_int(context,
                       metadata != NULL && moult_filter_matches(filter, metadata, size));
}

int moult_store_add_functions(struct moult_store *store, struct moult_error *error) {
    int flags = SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_DIRECTONLY;
    if (sqlite3_create_function_v2(store->db, "moult_matches", 2, flags, NULL, matches, NULL, NULL,
                                   NULL) != SQLITE_OK)
        return moult_store_fail(store, "opening it", error);
    return 0;
}

void moult_store_bind_filter(sqlite3_stmt *statement, int at, const struct moult_filter *filter) {
    sqlite3_bind_pointer(statement, at, (void *)filter, filter_type, NULL);
}

/* Row by row through the index, a document costs about four times what it does where it lies. */
int moult_store_scan_all(struct moult_store *store, uint32_t collection, bool *all,
                         struct moult_error *error) {
    static const char sql[] = "SELECT documents * 4 > (SELECT sum(documents) FROM collections)"
                              " FROM collections WHERE number = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    int row = moult_store_step(store, statement, "reading collections", error);
    *all = row == 1 && sqlite3_column_int(statement, 0) != 0;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

/* ---- Rows that a filter allows. */

void moult_allowed_release(struct moult_allowed *allowed) {
    free(allowed->words);
    *allowed = (struct moult_allowed){0};
}

static void allow(struct moult_allowed *allowed, sqlite3_stmt *row) {
    const char *cut = sqlite3_column_blob(row, 0);
    int64_t count = moult_cut_count(cut, sqlite3_column_bytes(row, 0));
    allowed->documents++;
    for (int64_t i = 0; i < count; i++) {
        struct moult_chunk chunk;
        memcpy(&chunk, cut + (size_t)i * sizeof chunk, sizeof chunk);
        if (chunk.row >= allowed->bits)
            continue;
        allowed->words[chunk.row / 64] |= (uint64_t)1 << chunk.row % 64;
        allowed->rows++;
    }
}

static int read_bits(struct moult_store *store, uint32_t space, uint32_t *bits,
                     struct moult_error *error) {
    static const char sql[] = "SELECT next_row FROM spaces WHERE number = ?1 AND dropped = 0";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    int row = moult_store_step(store, statement, "reading spaces", error);
    if (row == 1)
        *bits = (uint32_t)sqlite3_column_int64(statement, 0);
    moult_store_done(statement);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_MISSING, "Space %u is not there any more.", space);
    return row == 1 ? 0 : -1;
}

#define ALLOWED_SQL(how)                                                                          \
    "SELECT k.cut FROM documents d " how " LEFT JOIN cuts k ON k.space = ?3 AND k.seq = d.seq"    \
    " WHERE d.collection = ?1 AND moult_matches(?2, d.metadata)"

static int scan(struct moult_store *store, uint32_t collection, uint32_t space,
                const struct moult_filter *filter, struct moult_allowed *allowed,
                struct moult_error *error) {
    static const char over_all[] = ALLOWED_SQL("NOT INDEXED");
    static const char over_index[] = ALLOWED_SQL("INDEXED BY documents_by_id");
    bool all;
    if (moult_store_scan_all(store, collection, &all, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(store, all ? over_all : over_index, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    moult_store_bind_filter(statement, 2, filter);
    sqlite3_bind_int64(statement, 3, space);
    int row;
    while ((row = moult_store_step(store, statement, "looking for documents", error)) == 1)
        allow(allowed, statement);
    moult_store_done(statement);
    return row;
}

int moult_store_allowed(struct moult_store *store, uint32_t collection, uint32_t space,
                        const struct moult_filter *filter, struct moult_allowed *allowed,
                        struct moult_error *error) {
    uint32_t slot;
    *allowed = (struct moult_allowed){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_slot_of(store, collection, &slot, error);
    if (result == 0)
        result = moult_store_last_seq(store, &allowed->seq, error);
    if (result == 0)
        result = read_bits(store, space, &allowed->bits, error);
    if (result == 0) {
        allowed->words = moult_allocate(allowed->bits / 64 + 1ul, sizeof *allowed->words);
        result = scan(store, collection, space, filter, allowed, error);
    }
    if (result != 0)
        moult_allowed_release(allowed);
    return moult_store_leave(store, result);
}
