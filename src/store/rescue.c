#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "store/parts.h"

/* What can be read of a damaged file. A table and its index are trees of their own, which a bad
 * page cuts in two: each is walked from its beginning until it breaks, and from its end. What
 * one walk has not met another may: the table gives whole documents, the index of ids their
 * names, and by these the rest is looked up row by row. `seen` keeps, outside of both files,
 * which versions were met. */

#define DOCUMENTS_AT_ONCE 1000u

struct rescuing {
    struct moult_store from;       /* Not opened by moult_store_open(), which would refuse it. */
    struct moult_store *to;
    sqlite3 *seen;
    sqlite3_stmt *see;
    const struct moult_rescue_progress *progress;
    struct moult_rescue *rescue;
    unsigned in_transaction;
    uint32_t *old_numbers, *new_numbers;   /* Of collections. */
    unsigned collection_count;
};

/* ---- Collections. */

/* Names and slots of the old numbers, where they can be read; whatever else has documents gets a
 * collection that is named after its number. */
static void name_collection(struct rescuing *rescuing, uint32_t number, char name[80],
                            char slot[80], bool *dropped) {
    static const char sql[] = "SELECT c.name, s.name, c.dropped, c.documents FROM collections c"
                              " LEFT JOIN slots s ON s.number = c.slot WHERE c.number = ?1";
    snprintf(name, 80, "rescued-%u", number);
    snprintf(slot, 80, "rescued");
    *dropped = false;
    sqlite3_stmt *statement = moult_store_prepare(&rescuing->from, sql, NULL);
    if (statement == NULL)
        return;
    sqlite3_bind_int64(statement, 1, number);
    if (sqlite3_step(statement) == SQLITE_ROW) {
        const char *found = (const char *)sqlite3_column_text(statement, 0);
        const char *found_slot = (const char *)sqlite3_column_text(statement, 1);
        if (found != NULL && moult_collection_name_valid(found))
            snprintf(name, 80, "%s", found);
        if (found_slot != NULL && moult_collection_name_valid(found_slot))
            snprintf(slot, 80, "%s", found_slot);
        *dropped = sqlite3_column_int(statement, 2) != 0;
        if (!*dropped)
            rescuing->rescue->expected += (uint64_t)sqlite3_column_int64(statement, 3);
    }
    moult_store_done(statement);
}

static int add_collection(struct rescuing *rescuing, uint32_t old, uint32_t *number,
                          struct moult_error *error) {
    char name[80], slot[80];
    bool dropped;
    struct moult_collection collection = {.number = 0};
    name_collection(rescuing, old, name, slot, &dropped);
    if (!dropped &&
        moult_store_collection_make(rescuing->to, name, slot, &collection, error) != 0)
        return -1;
    unsigned count = rescuing->collection_count++;
    rescuing->old_numbers = moult_reallocate(rescuing->old_numbers, count + 1, sizeof old);
    rescuing->new_numbers = moult_reallocate(rescuing->new_numbers, count + 1, sizeof old);
    rescuing->old_numbers[count] = old;
    rescuing->new_numbers[count] = *number = collection.number;
    return 0;
}

/* 0: it was dropped. */
static int collection_of(struct rescuing *rescuing, uint32_t old, uint32_t *number,
                         struct moult_error *error) {
    for (unsigned i = 0; i < rescuing->collection_count; i++)
        if (rescuing->old_numbers[i] == old) {
            *number = rescuing->new_numbers[i];
            return 0;
        }
    return add_collection(rescuing, old, number, error);
}

/* ---- One version. */

enum verdict { SAVED, BARE, LOST };

/* False: it was met before. */
static bool see(struct rescuing *rescuing, uint64_t seq) {
    sqlite3_bind_int64(rescuing->see, 1, (sqlite3_int64)seq);
    sqlite3_step(rescuing->see);
    sqlite3_reset(rescuing->see);
    return sqlite3_changes(rescuing->seen) > 0;
}

static void count_verdict(struct rescuing *rescuing, enum verdict verdict) {
    struct moult_rescue *rescue = rescuing->rescue;
    rescue->documents += verdict != LOST;
    rescue->bare += verdict == BARE;
    rescue->lost += verdict == LOST;
    if (rescuing->progress != NULL)
        rescuing->progress->advance(rescuing->progress->context, rescue->documents,
                                    rescue->expected);
}

static int next_transaction(struct rescuing *rescuing, struct moult_error *error) {
    rescuing->in_transaction = 0;
    if (moult_store_commit(rescuing->to, error) != 0)
        return -1;
    return moult_store_begin(rescuing->to, error);
}

/* The metadata of a version that only the index has named; NULL where they cannot be read. */
static sqlite3_stmt *find_metadata(struct rescuing *rescuing, uint64_t seq) {
    static const char sql[] = "SELECT metadata FROM documents NOT INDEXED WHERE seq = ?1";
    sqlite3_stmt *statement = moult_store_prepare(&rescuing->from, sql, NULL);
    if (statement == NULL)
        return NULL;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
    if (sqlite3_step(statement) == SQLITE_ROW && sqlite3_column_text(statement, 0) != NULL)
        return statement;
    moult_store_done(statement);
    return NULL;
}

static int put(struct rescuing *rescuing, uint32_t collection, struct moult_put *version,
               enum verdict *verdict, struct moult_error *error) {
    struct moult_error refused;
    *verdict = version->metadata != NULL ? SAVED : BARE;
    if (version->metadata != NULL && moult_put_check(version, 0, &refused) != 0) {
        version->metadata = NULL;
        *verdict = BARE;
    }
    /* What was overwritten with noise is no document. */
    if (moult_put_check(version, 0, &refused) != 0) {
        *verdict = LOST;
        return 0;
    }
    return moult_store_put(rescuing->to, collection, version, 1, error);
}

static int save(struct rescuing *rescuing, uint64_t seq, uint32_t old_collection,
                struct moult_put *version, struct moult_error *error) {
    sqlite3_stmt *text = NULL, *metadata = NULL;
    enum verdict verdict = LOST;
    uint32_t collection = 0;
    if (!see(rescuing, seq))
        return 0;
    if (collection_of(rescuing, old_collection, &collection, error) != 0)
        return -1;
    if (collection == 0)
        return 0;
    if (version->metadata == NULL && (metadata = find_metadata(rescuing, seq)) != NULL) {
        version->metadata = (const char *)sqlite3_column_text(metadata, 0);
        version->metadata_size = (size_t)sqlite3_column_bytes(metadata, 0);
    }
    int result = 0;
    if (version->id != NULL && moult_store_text_of(&rescuing->from, seq, &text, &version->text,
                                                   &version->text_size, NULL) == 0)
        result = put(rescuing, collection, version, &verdict, error);
    if (text != NULL)
        moult_store_done(text);
    if (metadata != NULL)
        moult_store_done(metadata);
    count_verdict(rescuing, verdict);
    if (result == 0 && ++rescuing->in_transaction == DOCUMENTS_AT_ONCE)
        result = next_transaction(rescuing, error);
    return result;
}

/* ---- The walks. */

static int walk(struct rescuing *rescuing, const char *sql, struct moult_error *error) {
    sqlite3_stmt *rows = moult_store_prepare(&rescuing->from, sql, NULL);
    int result = 0;
    if (rows == NULL)
        return 0;
    while (result == 0 && sqlite3_step(rows) == SQLITE_ROW) {
        struct moult_put version = {.id = (const char *)sqlite3_column_text(rows, 2)};
        if (sqlite3_column_count(rows) == 4) {
            version.metadata = (const char *)sqlite3_column_text(rows, 3);
            version.metadata_size = (size_t)sqlite3_column_bytes(rows, 3);
        }
        result = save(rescuing, (uint64_t)sqlite3_column_int64(rows, 0),
                      (uint32_t)sqlite3_column_int64(rows, 1), &version, error);
    }
    moult_store_done(rows);
    return result;
}

static int walk_all(struct rescuing *rescuing, struct moult_error *error) {
    static const char forwards[] =
        "SELECT seq, collection, id, metadata FROM documents NOT INDEXED ORDER BY seq";
    static const char backwards[] =
        "SELECT seq, collection, id, metadata FROM documents NOT INDEXED ORDER BY seq DESC";
    static const char ids_forwards[] =
        "SELECT seq, collection, id FROM documents INDEXED BY documents_by_id"
        " ORDER BY collection, id";
    static const char ids_backwards[] =
        "SELECT seq, collection, id FROM documents INDEXED BY documents_by_id"
        " ORDER BY collection DESC, id DESC";
    if (walk(rescuing, forwards, error) != 0 || walk(rescuing, backwards, error) != 0 ||
        walk(rescuing, ids_forwards, error) != 0)
        return -1;
    return walk(rescuing, ids_backwards, error);
}

/* So that what cannot be met at all is missed. */
static int list_collections(struct rescuing *rescuing, struct moult_error *error) {
    static const char sql[] = "SELECT number FROM collections ORDER BY number";
    uint32_t numbers[2 * MOULT_COLLECTIONS_MAX], ignored;
    unsigned count = 0;
    sqlite3_stmt *rows = moult_store_prepare(&rescuing->from, sql, NULL);
    while (rows != NULL && count < sizeof numbers / sizeof *numbers &&
           sqlite3_step(rows) == SQLITE_ROW)
        numbers[count++] = (uint32_t)sqlite3_column_int64(rows, 0);
    if (rows != NULL)
        moult_store_done(rows);
    for (unsigned i = 0; i < count; i++)
        if (collection_of(rescuing, numbers[i], &ignored, error) != 0)
            return -1;
    return 0;
}

/* ---- Open and close. */

/* Read-only: what is there stays as it is. A file that was cut off is opened all the same with
 * writable_schema, which writes nothing by itself. */
static int open_damaged(struct rescuing *rescuing, const char *path, struct moult_error *error) {
    struct moult_store *from = &rescuing->from;
    from->path = (char *)path;
    from->mode = MOULT_STORE_READ;
    if (sqlite3_open_v2(path, &from->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL) !=
        SQLITE_OK)
        return moult_store_fail(from, "opening it", error);
    sqlite3_exec(from->db, "PRAGMA writable_schema = ON; PRAGMA trusted_schema = OFF;"
                 "PRAGMA cell_size_check = ON", NULL, NULL, NULL);
    if (sqlite3_exec(from->db, "SELECT 1 FROM documents, texts LIMIT 0", NULL, NULL, NULL) ==
        SQLITE_OK)
        return 0;
    return moult_fail(error, MOULT_ERROR_SYSTEM,
                      "Nothing can be read of %s (%s); a backup is all that helps.", path,
                      sqlite3_errmsg(from->db));
}

static void open_seen(struct rescuing *rescuing) {
    int code = sqlite3_open_v2(":memory:", &rescuing->seen,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    MOULT_REQUIRE(code == SQLITE_OK);
    code = sqlite3_exec(rescuing->seen, "CREATE TABLE seen (seq INTEGER PRIMARY KEY)",
                        NULL, NULL, NULL);
    MOULT_REQUIRE(code == SQLITE_OK);
    code = sqlite3_prepare_v2(rescuing->seen, "INSERT OR IGNORE INTO seen VALUES (?1)", -1,
                              &rescuing->see, NULL);
    MOULT_REQUIRE(code == SQLITE_OK);
}

static void close_all(struct rescuing *rescuing) {
    for (unsigned i = 0; i < MOULT_STATEMENTS_MAX; i++)
        sqlite3_finalize(rescuing->from.statements[i].prepared);
    sqlite3_close(rescuing->from.db);
    sqlite3_finalize(rescuing->see);
    sqlite3_close(rescuing->seen);
    moult_store_close(rescuing->to);
    free(rescuing->old_numbers);
    free(rescuing->new_numbers);
}

int moult_store_rescue(const char *from, const char *to,
                       const struct moult_rescue_progress *progress, struct moult_rescue *rescue,
                       struct moult_error *error) {
    struct rescuing rescuing = {.progress = progress, .rescue = rescue};
    *rescue = (struct moult_rescue){0};
    if (access(to, F_OK) == 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is there already.", to);
    int result = open_damaged(&rescuing, from, error);
    if (result == 0) {
        open_seen(&rescuing);
        rescuing.to = moult_store_open(to, MOULT_STORE_WRITE, error);
        result = rescuing.to == NULL || moult_store_begin(rescuing.to, error) != 0 ? -1 : 0;
    }
    if (result == 0)
        result = list_collections(&rescuing, error);
    if (result == 0)
        result = walk_all(&rescuing, error);
    if (result == 0)
        result = moult_store_commit(rescuing.to, error);
    close_all(&rescuing);
    return result;
}
