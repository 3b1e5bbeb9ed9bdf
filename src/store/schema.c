#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "store/parts.h"

/* The file, version 1. `seq` is the rowid of a version of a document: whoever follows reads it in
 * the order in which it lies, and what has been replaced is not there any more. The text lies
 * apart, for most that reads (filters, lists, a restart) does not want it.
 *
 *     sequence      the last seq that was given
 *     slots         names, numbered
 *     collections   with counts; `dropped` ones are cleared away in portions
 *     documents     one row for each; documents_by_slot is the way of the followers
 *     texts         their texts
 *     words         the full-text index over texts; documents.c keeps it
 *     removals      at `seq`, the version `removed` went; 0: all of `collection` did
 *     spaces        with counts
 *     cuts          the chunks of a version in a space: 12 bytes each, as struct moult_chunk is
 *
 * A row of removals goes when all who could need it have read it; documents and texts go at once.
 * AUTOINCREMENT: numbers of collections and spaces are known outside of the file. */
static const char version_1[] =
    "CREATE TABLE sequence (only INTEGER PRIMARY KEY CHECK (only = 1), last INTEGER NOT NULL)"
    " STRICT;"
    "INSERT INTO sequence VALUES (1, 0);"
    "CREATE TABLE slots (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;"
    "CREATE TABLE collections (number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL,"
    " slot INTEGER NOT NULL, created_at INTEGER NOT NULL, documents INTEGER NOT NULL DEFAULT 0,"
    " text_bytes INTEGER NOT NULL DEFAULT 0, dropped INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE UNIQUE INDEX collections_by_name ON collections (name) WHERE dropped = 0;"
    "CREATE TABLE documents (seq INTEGER PRIMARY KEY, slot INTEGER NOT NULL,"
    " collection INTEGER NOT NULL, text_bytes INTEGER NOT NULL, id TEXT NOT NULL,"
    " metadata TEXT NOT NULL) STRICT;"
    "CREATE UNIQUE INDEX documents_by_id ON documents (collection, id);"
    "CREATE INDEX documents_by_slot ON documents (slot);"
    "CREATE TABLE texts (seq INTEGER PRIMARY KEY, text TEXT NOT NULL) STRICT;"
    "CREATE TABLE removals (slot INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " collection INTEGER NOT NULL, removed INTEGER NOT NULL, PRIMARY KEY (slot, seq))"
    " STRICT, WITHOUT ROWID;"
    "CREATE TABLE spaces (number INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL,"
    " fingerprint TEXT NOT NULL, dimensions INTEGER NOT NULL, chunk_tokens INTEGER NOT NULL,"
    " chunk_overlap INTEGER NOT NULL, created_at INTEGER NOT NULL,"
    " next_row INTEGER NOT NULL DEFAULT 0, documents INTEGER NOT NULL DEFAULT 0,"
    " chunks INTEGER NOT NULL DEFAULT 0, text_bytes INTEGER NOT NULL DEFAULT 0,"
    " dropped INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE UNIQUE INDEX spaces_by_key ON spaces"
    " (slot, fingerprint, chunk_tokens, chunk_overlap) WHERE dropped = 0;"
    "CREATE TABLE cuts (space INTEGER NOT NULL, seq INTEGER NOT NULL, cut BLOB NOT NULL,"
    " PRIMARY KEY (space, seq)) STRICT, WITHOUT ROWID;"
    "CREATE VIRTUAL TABLE words USING fts5 (text, content = 'texts', content_rowid = 'seq',"
    " tokenize = 'unicode61 remove_diacritics 2');";

/* steps[v] leads from version v to v + 1, in one transaction with all behind it. A change of the
 * file is one more step, and a test that opens a file of the version before. */
static const char *const steps[] = {version_1};
#define VERSION ((int)(sizeof steps / sizeof *steps))

#define APPLICATION_ID 0x6d6f756c   /* "moul" */

/* ---- A new file. It is made under another name, so that there never is half of one. */

static int read_number(struct moult_store *store, const char *sql, int *number,
                       struct moult_error *error) {
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL) != SQLITE_OK)
        return moult_store_fail(store, "opening it", error);
    int code = sqlite3_step(statement);
    *number = code == SQLITE_ROW ? sqlite3_column_int(statement, 0) : 0;
    int result = code == SQLITE_ROW ? 0 : moult_store_fail(store, "opening it", error);
    sqlite3_finalize(statement);
    return result;
}

static int take_steps(struct moult_store *store, int version, struct moult_error *error) {
    int result = moult_store_execute(store, "BEGIN IMMEDIATE", "bringing it up to date", error);
    for (int v = version; v < VERSION && result == 0; v++)
        result = moult_store_execute(store, steps[v], "bringing it up to date", error);
    if (result == 0) {
        char *marks = moult_format("PRAGMA user_version = %d; PRAGMA application_id = %d; COMMIT",
                                   VERSION, APPLICATION_ID);
        result = moult_store_execute(store, marks, "bringing it up to date", error);
        free(marks);
    }
    if (result != 0 && sqlite3_get_autocommit(store->db) == 0)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

static int fill(const char *path, struct moult_error *error) {
    struct moult_store store = {.path = (char *)path};
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    int result = 0;
    if (sqlite3_open_v2(path, &store.db, flags, NULL) != SQLITE_OK)
        result = moult_store_fail(&store, "making it", error);
    if (result == 0)
        result = moult_store_execute(&store, "PRAGMA synchronous = FULL", "making it", error);
    if (result == 0)
        result = take_steps(&store, 0, error);
    sqlite3_close(store.db);
    return result;
}

static int sync_folder(const char *path, struct moult_error *error) {
    char *copy = moult_copy_string(path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int result = fd < 0 || fsync(fd) != 0
                     ? moult_fail_errno(error, "The folder of %s cannot be synced", path)
                     : 0;
    if (fd >= 0)
        close(fd);
    free(copy);
    return result;
}

static void remove_both(const char *path) {
    char *journal = moult_format("%s-journal", path);
    unlink(journal);
    unlink(path);
    free(journal);
}

/* The log alone may hold all that was stored: not to be overwritten by a new file's. */
static int check_no_log(const char *path, struct moult_error *error) {
    char *log = moult_format("%s-wal", path);
    struct stat status;
    bool there = stat(log, &status) == 0 && status.st_size > 0;
    int result = there ? moult_fail(error, MOULT_ERROR_SYSTEM,
                                    "%s is not there, but %s is, which belongs to it: put the "
                                    "file back, or move the other away to begin with no "
                                    "documents.", path, log)
                       : 0;
    free(log);
    return result;
}

int moult_schema_create(const char *path, struct moult_error *error) {
    if (check_no_log(path, error) != 0)
        return -1;
    char *incoming = moult_format("%s.new", path);
    remove_both(incoming);
    int result = fill(incoming, error);
    if (result == 0 && rename(incoming, path) != 0)
        result = moult_fail_errno(error, "%s cannot be made", path);
    if (result == 0)
        result = sync_folder(path, error);
    else
        remove_both(incoming);
    free(incoming);
    return result;
}

/* ---- One that is there. */

int moult_schema_open(struct moult_store *store, struct moult_error *error) {
    int application, version;
    if (read_number(store, "PRAGMA application_id", &application, error) != 0 ||
        read_number(store, "PRAGMA user_version", &version, error) != 0)
        return -1;
    if (application != APPLICATION_ID)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s is a SQLite file of another program; it is left alone. Move it "
                          "away, or choose another data folder.", store->path);
    if (version > VERSION)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s was written by a newer moult (its version is %d, and this program "
                          "knows those up to %d); use that one, or put back a backup from before.",
                          store->path, version, VERSION);
    if (version == VERSION)
        return 0;
    if (store->mode == MOULT_STORE_READ)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s is of an older moult, and has not been brought up to date yet.",
                          store->path);
    return take_steps(store, version, error);
}
