#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/machine.h"
#include "base/memory.h"
#include "store/parts.h"

/* Another process writes for a moment, when it takes over or checkpoints. */
#define BUSY_MS 5000
/* Instructions of SQLite's machine between two looks at the clock: about 50 us. */
#define STEPS_PER_LOOK 2000

static int look_at_clock(void *context) {
    const struct moult_store *store = context;
    return moult_clock_ns() > store->deadline_ns;
}

void moult_store_time_limit(struct moult_store *store, uint64_t milliseconds) {
    store->limit_ms = milliseconds;
    sqlite3_progress_handler(store->db, milliseconds > 0 ? STEPS_PER_LOOK : 0, look_at_clock,
                             store);
}

void moult_store_interrupt(struct moult_store *store) {
    sqlite3_interrupt(store->db);
}

static void start_clock(struct moult_store *store) {
    if (store->limit_ms > 0)
        store->deadline_ns = moult_clock_ns() + store->limit_ms * 1000000;
}

/* ---- What went wrong. */

bool moult_store_out_of_time(const struct moult_store *store) {
    return (sqlite3_errcode(store->db) & 0xFF) == SQLITE_INTERRUPT && store->limit_ms > 0 &&
           moult_clock_ns() > store->deadline_ns;
}

static int fail_interrupted(struct moult_store *store, const char *doing,
                            struct moult_error *error) {
    if (moult_store_out_of_time(store))
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s: %s took longer than %" PRIu64 " ms and was given up.",
                          store->path, doing, store->limit_ms);
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "%s: %s was broken off.", store->path,
                      doing);
}

/* What errno was, where SQLite noted one; it says more than "disk I/O error". */
static const char *reason(struct moult_store *store) {
    int number = sqlite3_system_errno(store->db);
    return number != 0 ? strerror(number) : sqlite3_errmsg(store->db);
}

int moult_store_fail(struct moult_store *store, const char *doing, struct moult_error *error) {
    int code = sqlite3_extended_errcode(store->db);
    const char *path = store->path;
    switch (code & 0xFF) {
    case SQLITE_INTERRUPT:
        return fail_interrupted(store, doing, error);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%s: %s failed, because another process is writing to it; try again.",
                          path, doing);
    case SQLITE_FULL:
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "%s: %s failed, because there is no space left on its disk. Nothing of "
                          "it was kept; try again when there is some.", path, doing);
    case SQLITE_READONLY:
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "%s: %s failed, because the file or its folder may not be written to.",
                          path, doing);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_CONSTRAINT:
    case SQLITE_SCHEMA:
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "%s is damaged (%s failed: %s). Stop the server, keep a copy of the "
                          "file and of what lies beside it, and put back a backup, or save what "
                          "can be read with 'moult rescue'.", path, doing,
                          sqlite3_errmsg(store->db));
    case SQLITE_MISUSE:
    case SQLITE_RANGE:
        moult_bug(__FILE__, __LINE__, sqlite3_errmsg(store->db));
    default:
        return moult_fail(error, MOULT_ERROR_SYSTEM, "%s: %s failed: %s.", path, doing,
                          reason(store));
    }
}

/* ---- Statements. */

sqlite3_stmt *moult_store_prepare(struct moult_store *store, const char *sql,
                                  struct moult_error *error) {
    unsigned i = 0;
    while (i < MOULT_STATEMENTS_MAX && store->statements[i].sql != NULL &&
           store->statements[i].sql != sql)
        i++;
    MOULT_REQUIRE(i < MOULT_STATEMENTS_MAX);
    struct moult_statement *statement = &store->statements[i];
    if (statement->sql == NULL) {
        if (sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT,
                               &statement->prepared, NULL) != SQLITE_OK) {
            moult_store_fail(store, "reading the schema", error);
            return NULL;
        }
        statement->sql = sql;
    }
    return statement->prepared;
}

void moult_store_done(sqlite3_stmt *statement) {
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

int moult_store_step(struct moult_store *store, sqlite3_stmt *statement, const char *doing,
                     struct moult_error *error) {
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW || code == SQLITE_DONE)
        return code == SQLITE_ROW;
    return moult_store_fail(store, doing, error);
}

int moult_store_run(struct moult_store *store, sqlite3_stmt *statement, const char *doing,
                    struct moult_error *error) {
    int result;
    do
        result = moult_store_step(store, statement, doing, error);
    while (result == 1);
    moult_store_done(statement);
    return result;
}

int moult_store_execute(struct moult_store *store, const char *sql, const char *doing,
                        struct moult_error *error) {
    if (sqlite3_exec(store->db, sql, NULL, NULL, NULL) != SQLITE_OK)
        return moult_store_fail(store, doing, error);
    return 0;
}

/* ---- Transactions and snapshots. */

/* What is cheaper for many documents together. */
static int do_put_off(struct moult_store *store, struct moult_error *error) {
    if (moult_words_write(store, error) != 0)
        return -1;
    return moult_store_write_tallies(store, error);
}

int moult_store_enter(struct moult_store *store, struct moult_error *error) {
    start_clock(store);
    MOULT_REQUIRE(!store->in_snapshot);
    if (store->in_transaction)
        return do_put_off(store, error);
    if (moult_store_execute(store, "BEGIN", "reading", error) != 0)
        return -1;
    store->in_snapshot = true;
    return 0;
}

int moult_store_leave(struct moult_store *store, int result) {
    if (!store->in_snapshot)
        return result;
    store->in_snapshot = false;
    /* Nothing was written, so nothing can be lost by what fails here. */
    if (sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK &&
        sqlite3_get_autocommit(store->db) == 0)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
    return result;
}

void moult_store_enter_change(struct moult_store *store) {
    MOULT_REQUIRE(store->mode == MOULT_STORE_WRITE && store->in_transaction);
    start_clock(store);
}

int moult_store_last_seq(struct moult_store *store, uint64_t *seq, struct moult_error *error) {
    static const char sql[] = "SELECT last FROM sequence";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "reading the sequence", error);
    if (row == 1)
        *seq = (uint64_t)sqlite3_column_int64(statement, 0);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_SYSTEM, "%s is damaged: its sequence is gone.", store->path);
    moult_store_done(statement);
    return row == 1 ? 0 : -1;
}

int moult_store_begin(struct moult_store *store, struct moult_error *error) {
    MOULT_REQUIRE(store->mode == MOULT_STORE_WRITE && !store->in_transaction);
    start_clock(store);
    if (moult_store_execute(store, "BEGIN IMMEDIATE", "beginning to write", error) != 0)
        return -1;
    store->in_transaction = true;
    if (moult_store_last_seq(store, &store->seq, error) == 0) {
        if (store->seq < store->least_seq)
            store->seq = store->least_seq;
        store->word_work.indexed = store->seq;
        return 0;
    }
    moult_store_rollback(store);
    return -1;
}

int moult_store_commit(struct moult_store *store, struct moult_error *error) {
    MOULT_REQUIRE(store->in_transaction);
    start_clock(store);
    /* SQLite has rolled back by itself where it could not go on: that is no commit. */
    int result = sqlite3_get_autocommit(store->db) != 0
                     ? moult_fail(error, MOULT_ERROR_SYSTEM,
                                  "%s: writing failed before, and nothing of it was kept.",
                                  store->path)
                     : do_put_off(store, error);
    if (result == 0)
        result = moult_store_execute(store, "COMMIT", "writing", error);
    if (result != 0) {
        moult_store_rollback(store);
        return -1;
    }
    store->in_transaction = false;
    return 0;
}

void moult_store_rollback(struct moult_store *store) {
    if (!store->in_transaction)
        return;
    store->in_transaction = false;
    store->word_work.count = 0;
    moult_store_forget_tallies(store);
    if (sqlite3_get_autocommit(store->db) == 0)
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
}

/* ---- Open and close. */

/* Each opening for writing begins its seqs at the time of day, in microseconds with the seconds 20
 * bits up, which no writer outruns. So a seq is not given again by a file that was put back from a
 * backup or made anew either, and a vector that was made for what had that seq before is never
 * taken for one of what has it now. Numbers stay below 2^53 until the year 2242. */
static uint64_t seq_of_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec << 20 | (uint64_t)now.tv_nsec / 1000;
}

/* Kept small: the operating system caches the file as well. */
static const char settings[] =
    "PRAGMA cache_size = -32768;"
    "PRAGMA temp_store = MEMORY;"
    "PRAGMA cell_size_check = ON;"
    "PRAGMA trusted_schema = OFF;"
    "PRAGMA foreign_keys = OFF;"
    "PRAGMA synchronous = FULL;"
    "PRAGMA wal_autocheckpoint = 4096;"     /* Pages, 16 MiB: after a commit, in this thread. */
    "PRAGMA journal_size_limit = 67108864;";

static int use_log(struct moult_store *store, struct moult_error *error) {
    static const char sql[] = "PRAGMA journal_mode = WAL";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "opening it", error);
    const char *mode = row == 1 ? (const char *)sqlite3_column_text(statement, 0) : "";
    int result = row < 0 ? -1 : 0;
    if (result == 0 && (mode == NULL || strcmp(mode, "wal") != 0))
        result = moult_fail(error, MOULT_ERROR_SYSTEM,
                            "%s cannot be written with a log beside it (WAL): its folder must lie "
                            "on a disk of this machine, and be writable.", store->path);
    moult_store_done(statement);
    return result;
}

static int open_handle(struct moult_store *store, struct moult_error *error) {
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    if (sqlite3_open_v2(store->path, &store->db, flags, NULL) != SQLITE_OK)
        return moult_store_fail(store, "opening it", error);
    sqlite3_db_config(store->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    /* Whose file it is comes first: another program's is not even given a log. */
    if (moult_store_execute(store, settings, "opening it", error) != 0 ||
        moult_schema_open(store, error) != 0 || use_log(store, error) != 0 ||
        moult_store_add_functions(store, error) != 0 || moult_words_open(store, error) != 0)
        return -1;
    if (store->mode == MOULT_STORE_READ)
        return moult_store_execute(store, "PRAGMA query_only = ON", "opening it", error);
    return 0;
}

static int look_at_file(const char *path, enum moult_store_mode mode, struct moult_error *error) {
    struct stat status;
    if (stat(path, &status) != 0) {
        if (errno != ENOENT)
            return moult_fail_errno(error, "%s cannot be opened", path);
        if (mode == MOULT_STORE_WRITE)
            return moult_schema_create(path, error);
        return moult_fail(error, MOULT_ERROR_MISSING, "%s is not there.", path);
    }
    if (!S_ISREG(status.st_mode))
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is not a regular file.", path);
    /* SQLite would take it for a new one, and all that was in it for never stored. */
    if (status.st_size == 0)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "%s is damaged: it is empty. Put back a backup, or remove it and the "
                          "files beside it that begin with its name, to begin with no documents.",
                          path);
    return 0;
}

struct moult_store *moult_store_open(const char *path, enum moult_store_mode mode,
                                     struct moult_error *error) {
    if (look_at_file(path, mode, error) != 0)
        return NULL;
    struct moult_store *store = moult_allocate(1, sizeof *store);
    store->path = moult_copy_string(path);
    store->mode = mode;
    store->least_seq = seq_of_now();
    if (open_handle(store, error) == 0)
        return store;
    moult_store_close(store);
    return NULL;
}

void moult_store_close(struct moult_store *store) {
    if (store == NULL)
        return;
    moult_store_rollback(store);
    for (unsigned i = 0; i < MOULT_STATEMENTS_MAX; i++)
        sqlite3_finalize(store->statements[i].prepared);
    moult_words_close(store);
    sqlite3_close(store->db);
    free(store->collections.items);
    free(store->spaces.items);
    free(store->word_work.erased);
    free(store->path);
    free(store);
}
