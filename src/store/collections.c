#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "store/parts.h"

bool moult_collection_name_valid(const char *name) {
    size_t size = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");
    return size > 0 && size <= MOULT_COLLECTION_NAME_BYTES_MAX && name[size] == '\0';
}

/* ---- Slots. */

int moult_store_slot(struct moult_store *store, const char *name, uint32_t *slot,
                     struct moult_error *error) {
    static const char sql[] = "SELECT number FROM slots WHERE name = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "reading slots", error);
    *slot = row == 1 ? (uint32_t)sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

int moult_store_slot_make(struct moult_store *store, const char *name, uint32_t *slot,
                          struct moult_error *error) {
    static const char sql[] = "INSERT INTO slots (name) VALUES (?1)";
    MOULT_REQUIRE(name[0] != '\0' && strlen(name) <= MOULT_MODEL_NAME_BYTES_MAX);
    if (moult_store_slot(store, name, slot, error) != 0)
        return -1;
    if (*slot != 0)
        return 0;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    if (moult_store_run(store, statement, "making a slot", error) != 0)
        return -1;
    *slot = (uint32_t)sqlite3_last_insert_rowid(store->db);
    return 0;
}

int moult_store_slot_of(struct moult_store *store, uint32_t collection, uint32_t *slot,
                        struct moult_error *error) {
    static const char sql[] = "SELECT slot FROM collections WHERE number = ?1 AND dropped = 0";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    int row = moult_store_step(store, statement, "reading collections", error);
    if (row == 1)
        *slot = (uint32_t)sqlite3_column_int64(statement, 0);
    moult_store_done(statement);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_MISSING, "The collection is not there any more.");
    return row == 1 ? 0 : -1;
}

/* ---- Collections. */

#define COLUMNS                                                                                   \
    "SELECT c.number, c.name, s.name, c.documents, c.text_bytes, c.created_at"                    \
    " FROM collections c JOIN slots s ON s.number = c.slot WHERE c.dropped = 0"

static void copy_name(char *to, size_t capacity, sqlite3_stmt *statement, int column) {
    const char *text = (const char *)sqlite3_column_text(statement, column);
    size_t size = text != NULL ? strnlen(text, capacity - 1) : 0;
    memcpy(to, text != NULL ? text : "", size);
    to[size] = '\0';
}

static void read_row(sqlite3_stmt *row, struct moult_collection *collection) {
    *collection = (struct moult_collection){
        .number = (uint32_t)sqlite3_column_int64(row, 0),
        .documents = (uint64_t)sqlite3_column_int64(row, 3),
        .text_bytes = (uint64_t)sqlite3_column_int64(row, 4),
        .created_at = (uint64_t)sqlite3_column_int64(row, 5),
    };
    copy_name(collection->name, sizeof collection->name, row, 1);
    copy_name(collection->slot, sizeof collection->slot, row, 2);
}

/* 1: it is there, 0: it is not. */
static int find(struct moult_store *store, const char *name, struct moult_collection *collection,
                struct moult_error *error) {
    static const char sql[] = COLUMNS " AND c.name = ?1";
    *collection = (struct moult_collection){0};
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "reading collections", error);
    if (row == 1)
        read_row(statement, collection);
    moult_store_done(statement);
    return row;
}

static int fail_missing(const char *name, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_MISSING, "There is no collection \"%.*s\".",
                      MOULT_COLLECTION_NAME_BYTES_MAX, name);
}

int moult_store_collection(struct moult_store *store, const char *name,
                           struct moult_collection *collection, struct moult_error *error) {
    *collection = (struct moult_collection){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int row = find(store, name, collection, error);
    if (row == 0)
        fail_missing(name, error);
    return moult_store_leave(store, row == 1 ? 0 : -1);
}

static int list(struct moult_store *store, const char *slot,
                struct moult_collection **collections, unsigned *count,
                struct moult_error *error) {
    static const char sql[] = COLUMNS " AND (?1 IS NULL OR s.name = ?1) ORDER BY c.name";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, slot, -1, SQLITE_STATIC);
    int row;
    while ((row = moult_store_step(store, statement, "reading collections", error)) == 1) {
        *collections = moult_reallocate(*collections, *count + 1, sizeof **collections);
        read_row(statement, &(*collections)[(*count)++]);
    }
    moult_store_done(statement);
    return row;
}

int moult_store_collections(struct moult_store *store, const char *slot,
                            struct moult_collection **collections, unsigned *count,
                            struct moult_error *error) {
    *collections = NULL;
    *count = 0;
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = list(store, slot, collections, count, error);
    if (result != 0) {
        free(*collections);
        *collections = NULL;
        *count = 0;
    }
    return moult_store_leave(store, result);
}

static int count_collections(struct moult_store *store, uint64_t *count,
                             struct moult_error *error) {
    static const char sql[] = "SELECT count(*) FROM collections WHERE dropped = 0";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "reading collections", error);
    *count = row == 1 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    return row == 1 ? 0 : -1;
}

static int insert(struct moult_store *store, const char *name, uint32_t slot,
                  struct moult_error *error) {
    static const char sql[] =
        "INSERT INTO collections (name, slot, created_at) VALUES (?1, ?2, ?3)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, slot);
    sqlite3_bind_int64(statement, 3, (sqlite3_int64)time(NULL));
    return moult_store_run(store, statement, "making a collection", error);
}

int moult_store_collection_make(struct moult_store *store, const char *name, const char *slot,
                                struct moult_collection *collection, struct moult_error *error) {
    uint32_t slot_number;
    uint64_t count;
    moult_store_enter_change(store);
    *collection = (struct moult_collection){0};
    if (!moult_collection_name_valid(name))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "A collection's name is 1 to %d letters, digits, \".\", \"_\" and \"-\".",
                          MOULT_COLLECTION_NAME_BYTES_MAX);
    if (moult_store_write_tallies(store, error) != 0)
        return -1;
    int found = find(store, name, collection, error);
    if (found != 0)
        return found == 1 ? 0 : -1;
    if (count_collections(store, &count, error) != 0)
        return -1;
    if (count >= MOULT_COLLECTIONS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "There are %d collections already; drop one, or tell documents apart by "
                          "their metadata and filters.", MOULT_COLLECTIONS_MAX);
    if (moult_store_slot_make(store, slot, &slot_number, error) != 0 ||
        insert(store, name, slot_number, error) != 0)
        return -1;
    return find(store, name, collection, error) == 1 ? 0 : -1;
}

static int mark_dropped(struct moult_store *store, uint32_t number, struct moult_error *error) {
    static const char sql[] = "UPDATE collections SET dropped = 1 WHERE number = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, number);
    return moult_store_run(store, statement, "dropping a collection", error);
}

int moult_store_collection_drop(struct moult_store *store, const char *name, uint64_t *seq,
                                struct moult_error *error) {
    struct moult_collection collection;
    uint32_t slot;
    moult_store_enter_change(store);
    int found = find(store, name, &collection, error);
    if (found != 1)
        return found == 0 ? fail_missing(name, error) : -1;
    if (moult_store_slot_of(store, collection.number, &slot, error) != 0 ||
        mark_dropped(store, collection.number, error) != 0)
        return -1;
    *seq = moult_store_next_seq(store);
    return moult_removal_note(store, slot, collection.number, *seq, 0, error);
}

int moult_store_dropped(struct moult_store *store, uint32_t **numbers, unsigned *count,
                        struct moult_error *error) {
    static const char sql[] = "SELECT number FROM collections WHERE dropped = 1 ORDER BY number";
    *numbers = NULL;
    *count = 0;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row;
    while ((row = moult_store_step(store, statement, "reading collections", error)) == 1) {
        *numbers = moult_reallocate(*numbers, *count + 1, sizeof **numbers);
        (*numbers)[(*count)++] = (uint32_t)sqlite3_column_int64(statement, 0);
    }
    moult_store_done(statement);
    if (row == 0)
        return 0;
    free(*numbers);
    *numbers = NULL;
    *count = 0;
    return -1;
}
