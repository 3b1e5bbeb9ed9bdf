#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

/* ---- Versions that go. */

int moult_version_erase(struct moult_store *store, const struct moult_version *version,
                        struct moult_error *error) {
    static const char sql[] = "DELETE FROM documents WHERE seq = ?1";
    struct moult_tally *tally = moult_tally_of(&store->collections, version->collection);
    tally->documents--;
    tally->text_bytes -= version->text_bytes;
    if (moult_cuts_erase(store, version, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)version->seq);
    moult_words_erase_later(store, version->seq);
    return moult_store_run(store, statement, "removing a document", error);
}

int moult_removal_note(struct moult_store *store, uint32_t slot, uint32_t collection,
                       uint64_t seq, uint64_t removed, struct moult_error *error) {
    static const char sql[] = "INSERT INTO removals (slot, seq, collection, removed)"
                              " VALUES (?1, ?2, ?3, ?4)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, slot);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    sqlite3_bind_int64(statement, 3, collection);
    sqlite3_bind_int64(statement, 4, (sqlite3_int64)removed);
    return moult_store_run(store, statement, "removing a document", error);
}

/* At the change `seq`. */
static int replace(struct moult_store *store, const struct moult_version *version, uint64_t seq,
                   struct moult_error *error) {
    if (moult_version_erase(store, version, error) != 0)
        return -1;
    return moult_removal_note(store, version->slot, version->collection, seq, version->seq,
                              error);
}

/* ---- Put. */

static const char no_metadata[] = "{}";

static const char *metadata_of(const struct moult_put *put, size_t *size) {
    *size = put->metadata != NULL ? put->metadata_size : strlen(no_metadata);
    return put->metadata != NULL ? put->metadata : no_metadata;
}

static bool column_is(sqlite3_stmt *row, int column, const char *bytes, size_t size) {
    const void *stored = sqlite3_column_text(row, column);
    return stored != NULL && (size_t)sqlite3_column_bytes(row, column) == size &&
           memcmp(stored, bytes, size) == 0;
}

/* Whether the version's text is that of `put`. 1, 0, or -1. */
static int has_text(struct moult_store *store, const struct moult_version *version,
                    const struct moult_put *put, struct moult_error *error) {
    sqlite3_stmt *statement;
    const char *text;
    size_t size;
    if (version->text_bytes != (int64_t)put->text_size)
        return 0;
    if (moult_store_text_of(store, version->seq, &statement, &text, &size, error) != 0)
        return -1;
    int same = size == put->text_size && memcmp(text, put->text, size) == 0;
    moult_store_done(statement);
    return same;
}

/* Finds what the id has now: version->seq is 0 where there is nothing. put->unchanged says
 * whether it is the same. */
static int find_old(struct moult_store *store, struct moult_version *version,
                    struct moult_put *put, struct moult_error *error) {
    static const char sql[] = "SELECT seq, text_bytes, metadata FROM documents"
                              " WHERE collection = ?1 AND id = ?2";
    size_t metadata_size;
    const char *metadata = metadata_of(put, &metadata_size);
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, version->collection);
    sqlite3_bind_text(statement, 2, put->id, -1, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "reading a document", error);
    bool same_metadata = false;
    version->seq = 0;
    if (row == 1) {
        version->seq = (uint64_t)sqlite3_column_int64(statement, 0);
        version->text_bytes = sqlite3_column_int64(statement, 1);
        same_metadata = column_is(statement, 2, metadata, metadata_size);
    }
    moult_store_done(statement);
    int same = row == 1 && same_metadata ? has_text(store, version, put, error) : 0;
    put->unchanged = same == 1;
    return row < 0 || same < 0 ? -1 : 0;
}

static int insert_text(struct moult_store *store, const struct moult_put *put,
                       struct moult_error *error) {
    static const char sql[] = "INSERT INTO texts (seq, text) VALUES (?1, ?2)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)put->seq);
    sqlite3_bind_text64(statement, 2, put->text, put->text_size, SQLITE_STATIC, SQLITE_UTF8);
    return moult_store_run(store, statement, "storing a document", error);
}

static int insert(struct moult_store *store, uint32_t slot, uint32_t collection,
                  const struct moult_put *put, struct moult_error *error) {
    static const char sql[] =
        "INSERT INTO documents (seq, slot, collection, text_bytes, id, metadata)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    size_t metadata_size;
    const char *metadata = metadata_of(put, &metadata_size);
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)put->seq);
    sqlite3_bind_int64(statement, 2, slot);
    sqlite3_bind_int64(statement, 3, collection);
    sqlite3_bind_int64(statement, 4, (sqlite3_int64)put->text_size);
    sqlite3_bind_text(statement, 5, put->id, -1, SQLITE_STATIC);
    sqlite3_bind_text64(statement, 6, metadata, metadata_size, SQLITE_STATIC, SQLITE_UTF8);
    if (moult_store_run(store, statement, "storing a document", error) != 0)
        return -1;
    return insert_text(store, put, error);
}

static int put_one(struct moult_store *store, uint32_t slot, uint32_t collection,
                   struct moult_put *put, struct moult_error *error) {
    struct moult_version old = {.slot = slot, .collection = collection};
    put->unchanged = false;
    if (put->id == NULL) {
        moult_ulid_make(&store->ulid, put->made);
        put->id = put->made;
    } else if (find_old(store, &old, put, error) != 0) {
        return -1;
    }
    if (put->unchanged) {
        put->seq = old.seq;
        return 0;
    }
    put->seq = moult_store_next_seq(store);
    if (old.seq != 0 && replace(store, &old, put->seq, error) != 0)
        return -1;
    struct moult_tally *tally = moult_tally_of(&store->collections, collection);
    tally->documents++;
    tally->text_bytes += (int64_t)put->text_size;
    return insert(store, slot, collection, put, error);
}

int moult_store_put(struct moult_store *store, uint32_t collection, struct moult_put *puts,
                    uint32_t count, struct moult_error *error) {
    uint32_t slot;
    moult_store_enter_change(store);
    for (uint32_t i = 0; i < count; i++)
        if (moult_put_check(&puts[i], i, error) != 0)
            return -1;
    if (moult_store_slot_of(store, collection, &slot, error) != 0)
        return -1;
    for (uint32_t i = 0; i < count; i++)
        if (put_one(store, slot, collection, &puts[i], error) != 0)
            return -1;
    return 0;
}

/* ---- Delete. */

/* 1: it was there. */
static int delete_one(struct moult_store *store, uint32_t slot, uint32_t collection,
                      const char *id, uint64_t *seq, struct moult_error *error) {
    static const char sql[] = "SELECT seq, text_bytes FROM documents"
                              " WHERE collection = ?1 AND id = ?2";
    struct moult_version version = {.slot = slot, .collection = collection};
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    sqlite3_bind_text(statement, 2, id, -1, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "reading a document", error);
    if (row == 1) {
        version.seq = (uint64_t)sqlite3_column_int64(statement, 0);
        version.text_bytes = sqlite3_column_int64(statement, 1);
    }
    moult_store_done(statement);
    if (row != 1)
        return row;
    *seq = moult_store_next_seq(store);
    return replace(store, &version, *seq, error) == 0 ? 1 : -1;
}

int64_t moult_store_delete(struct moult_store *store, uint32_t collection, const char *const *ids,
                           uint32_t count, bool *existed, uint64_t *seq,
                           struct moult_error *error) {
    uint32_t slot;
    int64_t deleted = 0;
    moult_store_enter_change(store);
    if (moult_store_slot_of(store, collection, &slot, error) != 0)
        return -1;
    for (uint32_t i = 0; i < count; i++) {
        int there = delete_one(store, slot, collection, ids[i], seq, error);
        if (there < 0)
            return -1;
        if (existed != NULL)
            existed[i] = there == 1;
        deleted += there;
    }
    return deleted;
}

/* What matches is listed first: rows are not to go while they are walked over. */
static int list_matching(struct moult_store *store, uint32_t collection,
                         const struct moult_filter *filter, uint32_t count,
                         struct moult_version **versions, uint32_t *found,
                         struct moult_error *error) {
    static const char sql[] = "SELECT seq, slot, text_bytes FROM documents"
                              " INDEXED BY documents_by_id WHERE collection = ?1"
                              " AND moult_matches(?2, metadata) LIMIT ?3";
    uint32_t capacity = 0;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    moult_store_bind_filter(statement, 2, filter);
    sqlite3_bind_int64(statement, 3, count);
    int row;
    while ((row = moult_store_step(store, statement, "looking for documents", error)) == 1) {
        if (*found == capacity) {
            capacity = capacity * 2 + 64;
            *versions = moult_reallocate(*versions, capacity, sizeof **versions);
        }
        (*versions)[(*found)++] = (struct moult_version){
            .seq = (uint64_t)sqlite3_column_int64(statement, 0),
            .slot = (uint32_t)sqlite3_column_int64(statement, 1),
            .collection = collection,
            .text_bytes = sqlite3_column_int64(statement, 2),
        };
    }
    moult_store_done(statement);
    return row;
}

int64_t moult_store_delete_matching(struct moult_store *store, uint32_t collection,
                                    const struct moult_filter *filter, uint32_t count,
                                    uint64_t *seq, struct moult_error *error) {
    uint32_t slot, found = 0;
    struct moult_version *versions = NULL;
    moult_store_enter_change(store);
    if (moult_store_slot_of(store, collection, &slot, error) != 0)
        return -1;
    int result = list_matching(store, collection, filter, count, &versions, &found, error);
    for (uint32_t i = 0; i < found && result == 0; i++) {
        *seq = moult_store_next_seq(store);
        result = replace(store, &versions[i], *seq, error);
    }
    free(versions);
    return result == 0 ? (int64_t)found : -1;
}

int64_t moult_store_purge(struct moult_store *store, const char *slot, uint64_t seq,
                          uint32_t count, struct moult_error *error) {
    static const char sql[] =
        "DELETE FROM removals WHERE slot = ?1 AND seq IN (SELECT seq FROM removals"
        " WHERE slot = ?1 AND seq <= ?2 ORDER BY seq LIMIT ?3)";
    uint32_t number;
    moult_store_enter_change(store);
    if (moult_store_slot(store, slot, &number, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, number);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    sqlite3_bind_int64(statement, 3, count);
    if (moult_store_run(store, statement, "forgetting removals", error) != 0)
        return -1;
    return sqlite3_changes(store->db);
}
