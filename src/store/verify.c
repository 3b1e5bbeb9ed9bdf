#include <stdlib.h>
#include <string.h>

#include "store/parts.h"

/* A line of the check is one thing that is wrong; "ok" is the only one where nothing is. */
static int check_pages(struct moult_store *store, struct moult_error *error) {
    static const char sql[] = "PRAGMA integrity_check(1)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "checking it", error);
    const char *said = row == 1 ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    int result = row < 0 ? -1 : 0;
    if (result == 0 && (said == NULL || strcmp(said, "ok") != 0))
        result = moult_fail(error, MOULT_ERROR_SYSTEM,
                            "%s is damaged (%.200s). Stop the server, keep a copy of the file and "
                            "of what lies beside it, and put back a backup, or save what can be "
                            "read with 'moult rescue'.", store->path,
                            said != NULL ? said : "the check says nothing");
    moult_store_done(statement);
    return result;
}

static int check_count(struct moult_store *store, const char *sql, const char *what,
                       struct moult_error *error) {
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "checking it", error);
    bool wrong = row == 1 && sqlite3_column_int64(statement, 0) != 0;
    moult_store_done(statement);
    if (wrong)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "%s is damaged: %s.", store->path, what);
    return row == 1 ? 0 : -1;
}

/* What belongs together is there together, and is counted right. */
static int check_tables(struct moult_store *store, struct moult_error *error) {
    static const char texts[] =
        "SELECT count(*) FROM documents d LEFT JOIN texts t ON t.seq = d.seq"
        " WHERE t.seq IS NULL OR length(CAST(t.text AS BLOB)) <> d.text_bytes";
    static const char strays[] = "SELECT count(*) FROM texts t WHERE NOT EXISTS"
                                 " (SELECT 1 FROM documents d WHERE d.seq = t.seq)";
    static const char cuts[] =
        "SELECT count(*) FROM cuts k JOIN spaces p ON p.number = k.space WHERE p.dropped = 0"
        " AND (length(k.cut) % 12 <> 0 OR NOT EXISTS"
        " (SELECT 1 FROM documents d WHERE d.seq = k.seq AND d.slot = p.slot))";
    static const char collections[] =
        "SELECT count(*) FROM collections c WHERE c.documents <>"
        " (SELECT count(*) FROM documents d WHERE d.collection = c.number)";
    static const char spaces[] =
        "SELECT count(*) FROM spaces p WHERE p.dropped = 0 AND p.chunks <>"
        " (SELECT coalesce(sum(length(k.cut)), 0) / 12 FROM cuts k WHERE k.space = p.number)";
    static const char future[] = "SELECT count(*) FROM documents WHERE seq >"
                                 " (SELECT last FROM sequence)";
    if (check_count(store, texts, "a document's text is missing, or another one", error) != 0 ||
        check_count(store, strays, "there is a text of no document", error) != 0 ||
        check_count(store, cuts, "there are chunks of no document", error) != 0 ||
        check_count(store, collections, "a collection's documents are miscounted", error) != 0 ||
        check_count(store, spaces, "a space's chunks are miscounted", error) != 0)
        return -1;
    return check_count(store, future, "a document lies beyond the sequence", error);
}

/* The check is written as an insert, so it is only for whoever may write. */
static int check_words(struct moult_store *store, struct moult_error *error) {
    static const char sql[] = "INSERT INTO words (words, rank) VALUES ('integrity-check', 1)";
    if (store->mode == MOULT_STORE_READ)
        return 0;
    return moult_store_execute(store, sql, "checking its words", error);
}

int moult_store_check(struct moult_store *store, struct moult_error *error) {
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = check_pages(store, error);
    if (result == 0)
        result = check_tables(store, error);
    if (result == 0)
        result = check_words(store, error);
    return moult_store_leave(store, result);
}
