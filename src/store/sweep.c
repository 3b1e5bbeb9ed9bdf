#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "store/parts.h"

/* ---- What was dropped is cleared away in portions. */

/* The first dropped one's number, or 0. */
static int first_dropped(struct moult_store *store, const char *sql, uint32_t *number,
                         struct moult_error *error) {
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "sweeping", error);
    *number = row == 1 ? (uint32_t)sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

static int list_versions(struct moult_store *store, uint32_t collection, uint32_t count,
                         struct moult_version *versions, uint32_t *found,
                         struct moult_error *error) {
    static const char sql[] = "SELECT seq, slot, text_bytes FROM documents"
                              " INDEXED BY documents_by_id WHERE collection = ?1 LIMIT ?2";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    sqlite3_bind_int64(statement, 2, count);
    int row;
    while ((row = moult_store_step(store, statement, "sweeping", error)) == 1)
        versions[(*found)++] = (struct moult_version){
            .seq = (uint64_t)sqlite3_column_int64(statement, 0),
            .slot = (uint32_t)sqlite3_column_int64(statement, 1),
            .collection = collection,
            .text_bytes = sqlite3_column_int64(statement, 2),
        };
    moult_store_done(statement);
    return row;
}

static int erase_numbered(struct moult_store *store, const char *sql, uint32_t number,
                          struct moult_error *error) {
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, number);
    return moult_store_run(store, statement, "sweeping", error);
}

static int sweep_collection(struct moult_store *store, uint32_t collection, uint32_t count,
                            struct moult_error *error) {
    static const char sql[] = "DELETE FROM collections WHERE number = ?1";
    struct moult_version *versions = moult_allocate(count, sizeof *versions);
    uint32_t found = 0;
    int result = list_versions(store, collection, count, versions, &found, error);
    for (uint32_t i = 0; i < found && result == 0; i++)
        result = moult_version_erase(store, &versions[i], error);
    if (result == 0 && found < count)
        result = erase_numbered(store, sql, collection, error);
    free(versions);
    return result == 0 ? (int)found + (found < count) : -1;
}

static int sweep_space(struct moult_store *store, uint32_t space, uint32_t count,
                       struct moult_error *error) {
    static const char cuts[] = "DELETE FROM cuts WHERE space = ?1 AND seq IN"
                               " (SELECT seq FROM cuts WHERE space = ?1 ORDER BY seq LIMIT ?2)";
    static const char itself[] = "DELETE FROM spaces WHERE number = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, cuts, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, count);
    if (moult_store_run(store, statement, "sweeping", error) != 0)
        return -1;
    int found = sqlite3_changes(store->db);
    if (found == (int)count)
        return found;
    return erase_numbered(store, itself, space, error) == 0 ? found + 1 : -1;
}

int moult_store_sweep(struct moult_store *store, uint32_t count, struct moult_error *error) {
    static const char collections[] = "SELECT number FROM collections WHERE dropped = 1 LIMIT 1";
    static const char spaces[] = "SELECT number FROM spaces WHERE dropped = 1 LIMIT 1";
    uint32_t number;
    moult_store_enter_change(store);
    MOULT_REQUIRE(count > 0 && count <= INT32_MAX - 1);
    if (first_dropped(store, collections, &number, error) != 0)
        return -1;
    if (number != 0)
        return sweep_collection(store, number, count, error);
    if (first_dropped(store, spaces, &number, error) != 0)
        return -1;
    return number != 0 ? sweep_space(store, number, count, error) : 0;
}

/* ---- Numbers. */

static uint64_t file_bytes(const char *path, const char *end) {
    struct stat status;
    char *name = moult_format("%s%s", path, end);
    uint64_t bytes = stat(name, &status) == 0 ? (uint64_t)status.st_size : 0;
    free(name);
    return bytes;
}

static int read_numbers(struct moult_store *store, struct moult_store_numbers *numbers,
                        struct moult_error *error) {
    static const char sql[] =
        "SELECT (SELECT sum(documents) FROM collections WHERE dropped = 0),"
        " (SELECT sum(text_bytes) FROM collections WHERE dropped = 0),"
        " (SELECT sum(chunks) FROM spaces WHERE dropped = 0),"
        " (SELECT count(*) FROM removals),"
        " (SELECT count(*) FROM collections WHERE dropped = 1)"
        " + (SELECT count(*) FROM spaces WHERE dropped = 1)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "counting", error);
    if (row == 1) {
        numbers->documents = (uint64_t)sqlite3_column_int64(statement, 0);
        numbers->text_bytes = (uint64_t)sqlite3_column_int64(statement, 1);
        numbers->chunks = (uint64_t)sqlite3_column_int64(statement, 2);
        numbers->removals = (uint64_t)sqlite3_column_int64(statement, 3);
        numbers->unswept = (uint64_t)sqlite3_column_int64(statement, 4);
    }
    moult_store_done(statement);
    return row == 1 ? 0 : -1;
}

int moult_store_count(struct moult_store *store, struct moult_store_numbers *numbers,
                      struct moult_error *error) {
    *numbers = (struct moult_store_numbers){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_last_seq(store, &numbers->seq, error);
    if (result == 0)
        result = read_numbers(store, numbers, error);
    numbers->disk_bytes = file_bytes(store->path, "") + file_bytes(store->path, "-wal");
    return moult_store_leave(store, result);
}
