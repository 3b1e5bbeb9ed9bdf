#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "store/parts.h"

#define COLUMNS                                                                                   \
    "SELECT p.number, s.name, p.fingerprint, p.dimensions, p.chunk_tokens, p.chunk_overlap,"      \
    " p.next_row, p.documents, p.chunks, p.text_bytes, p.created_at"                              \
    " FROM spaces p JOIN slots s ON s.number = p.slot WHERE p.dropped = 0"

static void copy_name(char *to, size_t capacity, sqlite3_stmt *row, int column) {
    const char *text = (const char *)sqlite3_column_text(row, column);
    size_t size = text != NULL ? strnlen(text, capacity - 1) : 0;
    memcpy(to, text != NULL ? text : "", size);
    to[size] = '\0';
}

static void read_row(sqlite3_stmt *row, struct moult_space *space) {
    *space = (struct moult_space){
        .number = (uint32_t)sqlite3_column_int64(row, 0),
        .key.dimensions = (uint32_t)sqlite3_column_int64(row, 3),
        .key.chunk_tokens = (uint32_t)sqlite3_column_int64(row, 4),
        .key.chunk_overlap = (uint32_t)sqlite3_column_int64(row, 5),
        .next_row = (uint32_t)sqlite3_column_int64(row, 6),
        .documents = (uint64_t)sqlite3_column_int64(row, 7),
        .chunks = (uint64_t)sqlite3_column_int64(row, 8),
        .text_bytes = (uint64_t)sqlite3_column_int64(row, 9),
        .created_at = (uint64_t)sqlite3_column_int64(row, 10),
    };
    copy_name(space->key.slot, sizeof space->key.slot, row, 1);
    copy_name(space->key.fingerprint, sizeof space->key.fingerprint, row, 2);
}

/* 1: it is there, 0: it is not. */
static int find(struct moult_store *store, const struct moult_space_key *key, uint32_t slot,
                struct moult_space *space, struct moult_error *error) {
    static const char sql[] = COLUMNS " AND p.slot = ?1 AND p.fingerprint = ?2"
                                      " AND p.chunk_tokens = ?3 AND p.chunk_overlap = ?4";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, slot);
    sqlite3_bind_text(statement, 2, key->fingerprint, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, key->chunk_tokens);
    sqlite3_bind_int64(statement, 4, key->chunk_overlap);
    int row = moult_store_step(store, statement, "reading spaces", error);
    if (row == 1)
        read_row(statement, space);
    moult_store_done(statement);
    return row;
}

static int find_number(struct moult_store *store, uint32_t number, struct moult_space *space,
                       struct moult_error *error) {
    static const char sql[] = COLUMNS " AND p.number = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, number);
    int row = moult_store_step(store, statement, "reading spaces", error);
    if (row == 1)
        read_row(statement, space);
    moult_store_done(statement);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_MISSING, "Space %u is not there any more.", number);
    return row == 1 ? 0 : -1;
}

static int insert(struct moult_store *store, const struct moult_space_key *key, uint32_t slot,
                  struct moult_error *error) {
    static const char sql[] = "INSERT INTO spaces (slot, fingerprint, dimensions, chunk_tokens,"
                              " chunk_overlap, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, slot);
    sqlite3_bind_text(statement, 2, key->fingerprint, -1, SQLITE_STATIC);
    sqlite3_bind_int64(statement, 3, key->dimensions);
    sqlite3_bind_int64(statement, 4, key->chunk_tokens);
    sqlite3_bind_int64(statement, 5, key->chunk_overlap);
    sqlite3_bind_int64(statement, 6, (sqlite3_int64)time(NULL));
    return moult_store_run(store, statement, "making a space", error);
}

static int check_room(struct moult_store *store, struct moult_error *error) {
    static const char sql[] = "SELECT count(*) FROM spaces WHERE dropped = 0";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "reading spaces", error);
    int64_t count = row == 1 ? sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    if (count >= MOULT_SPACES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "There are vectors of %d models already; those of some must go first.",
                          MOULT_SPACES_MAX);
    return row == 1 ? 0 : -1;
}

int moult_store_space_make(struct moult_store *store, const struct moult_space_key *key,
                           struct moult_space *space, struct moult_error *error) {
    uint32_t slot;
    moult_store_enter_change(store);
    *space = (struct moult_space){0};
    if (moult_store_write_tallies(store, error) != 0 ||
        moult_store_slot_make(store, key->slot, &slot, error) != 0)
        return -1;
    int found = find(store, key, slot, space, error);
    if (found == 0 && check_room(store, error) == 0 && insert(store, key, slot, error) == 0)
        found = find(store, key, slot, space, error);
    if (found == 1 && space->key.dimensions != key->dimensions)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Vectors of fingerprint %.8s have %u dimensions, not %u.",
                          key->fingerprint, space->key.dimensions, key->dimensions);
    return found == 1 ? 0 : -1;
}

int moult_store_space(struct moult_store *store, uint32_t number, struct moult_space *space,
                      struct moult_error *error) {
    *space = (struct moult_space){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    return moult_store_leave(store, find_number(store, number, space, error));
}

static int list(struct moult_store *store, const char *slot, struct moult_space **spaces,
                unsigned *count, struct moult_error *error) {
    static const char sql[] = COLUMNS " AND (?1 IS NULL OR s.name = ?1) ORDER BY p.number";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, slot, -1, SQLITE_STATIC);
    int row;
    while ((row = moult_store_step(store, statement, "reading spaces", error)) == 1) {
        *spaces = moult_reallocate(*spaces, *count + 1, sizeof **spaces);
        read_row(statement, &(*spaces)[(*count)++]);
    }
    moult_store_done(statement);
    return row;
}

int moult_store_spaces(struct moult_store *store, const char *slot, struct moult_space **spaces,
                       unsigned *count, struct moult_error *error) {
    *spaces = NULL;
    *count = 0;
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = list(store, slot, spaces, count, error);
    if (result != 0) {
        free(*spaces);
        *spaces = NULL;
        *count = 0;
    }
    return moult_store_leave(store, result);
}

int moult_store_space_drop(struct moult_store *store, uint32_t number,
                           struct moult_error *error) {
    static const char sql[] = "UPDATE spaces SET dropped = 1 WHERE number = ?1";
    struct moult_space space;
    moult_store_enter_change(store);
    if (find_number(store, number, &space, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, number);
    return moult_store_run(store, statement, "dropping a space", error);
}

/* ---- Rows and chunks. */

int moult_store_rows_take(struct moult_store *store, uint32_t space, uint32_t count,
                          uint32_t *first, struct moult_error *error) {
    static const char sql[] = "UPDATE spaces SET next_row = next_row + ?2 WHERE number = ?1";
    struct moult_space found;
    moult_store_enter_change(store);
    if (find_number(store, space, &found, error) != 0)
        return -1;
    if (count > MOULT_ROWS_PER_SPACE_MAX - found.next_row)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "The vectors of %s have had all of their %lu rows; what was replaced "
                          "takes rows, too.", found.key.slot, MOULT_ROWS_PER_SPACE_MAX);
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, count);
    *first = found.next_row;
    return moult_store_run(store, statement, "taking rows", error);
}

int64_t moult_cut_count(const void *bytes, int size) {
    if (bytes == NULL || size <= 0 || size % (int)sizeof(struct moult_chunk) != 0)
        return -1;
    return size / (int)sizeof(struct moult_chunk);
}

/* How many chunks the version has in the space, and takes them away. */
static int erase_cut(struct moult_store *store, uint32_t space, uint64_t seq, int64_t *count,
                     struct moult_error *error) {
    static const char look[] = "SELECT length(cut) FROM cuts WHERE space = ?1 AND seq = ?2";
    static const char erase[] = "DELETE FROM cuts WHERE space = ?1 AND seq = ?2";
    sqlite3_stmt *statement = moult_store_prepare(store, look, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    int row = moult_store_step(store, statement, "reading chunks", error);
    *count = row == 1 ? sqlite3_column_int64(statement, 0) / (int)sizeof(struct moult_chunk) : 0;
    moult_store_done(statement);
    if (row != 1)
        return row;
    statement = moult_store_prepare(store, erase, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    return moult_store_run(store, statement, "removing chunks", error);
}

static int uncut(struct moult_store *store, uint32_t space, uint64_t seq, int64_t text_bytes,
                 struct moult_error *error) {
    int64_t count;
    if (erase_cut(store, space, seq, &count, error) != 0)
        return -1;
    if (count == 0)
        return 0;
    struct moult_tally *tally = moult_tally_of(&store->spaces, space);
    tally->documents--;
    tally->chunks -= count;
    tally->text_bytes -= text_bytes;
    return 0;
}

int moult_cuts_erase(struct moult_store *store, const struct moult_version *version,
                     struct moult_error *error) {
    static const char sql[] = "SELECT p.number FROM spaces p WHERE p.slot = ?1 AND EXISTS"
                              " (SELECT 1 FROM cuts k WHERE k.space = p.number AND k.seq = ?2)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row, result = 0;
    do {
        sqlite3_bind_int64(statement, 1, version->slot);
        sqlite3_bind_int64(statement, 2, (sqlite3_int64)version->seq);
        row = moult_store_step(store, statement, "reading chunks", error);
        uint32_t space = row == 1 ? (uint32_t)sqlite3_column_int64(statement, 0) : 0;
        moult_store_done(statement);
        if (row == 1)
            result = uncut(store, space, version->seq, version->text_bytes, error);
    } while (row == 1 && result == 0);
    return row < 0 ? -1 : result;
}

static int check_chunks(const struct moult_chunk *chunks, uint32_t count, int64_t text_bytes,
                        uint32_t next_row, struct moult_error *error) {
    if (count > MOULT_CHUNKS_PER_DOCUMENT_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "A document of %u chunks has too many; at most %d are kept.", count,
                          MOULT_CHUNKS_PER_DOCUMENT_MAX);
    for (uint32_t i = 0; i < count; i++)
        if (chunks[i].begin > chunks[i].end || chunks[i].end > text_bytes ||
            chunks[i].row >= next_row)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "Chunk %u, bytes %u to %u in row %u, is none of a text of %" PRId64
                              " bytes in a space of %u rows.", i, chunks[i].begin, chunks[i].end,
                              chunks[i].row, text_bytes, next_row);
    return 0;
}

/* The version must be one of the space's slot. */
static int find_version(struct moult_store *store, const struct moult_space *space, uint64_t seq,
                        int64_t *text_bytes, struct moult_error *error) {
    static const char sql[] = "SELECT d.text_bytes FROM documents d JOIN slots s"
                              " ON s.number = d.slot WHERE d.seq = ?1 AND s.name = ?2";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
    sqlite3_bind_text(statement, 2, space->key.slot, -1, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "reading a document", error);
    if (row == 1)
        *text_bytes = sqlite3_column_int64(statement, 0);
    moult_store_done(statement);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_MISSING, "Version %" PRIu64 " has been replaced.", seq);
    return row == 1 ? 0 : -1;
}

static int insert_cut(struct moult_store *store, uint32_t space, uint64_t seq,
                      const struct moult_chunk *chunks, uint32_t count,
                      struct moult_error *error) {
    static const char sql[] = "INSERT INTO cuts (space, seq, cut) VALUES (?1, ?2, ?3)";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    sqlite3_bind_blob64(statement, 3, chunks, count * sizeof *chunks, SQLITE_STATIC);
    return moult_store_run(store, statement, "storing chunks", error);
}

int moult_store_cut(struct moult_store *store, uint32_t space, uint64_t seq,
                    const struct moult_chunk *chunks, uint32_t count, struct moult_error *error) {
    struct moult_space found;
    int64_t text_bytes;
    moult_store_enter_change(store);
    if (find_number(store, space, &found, error) != 0 ||
        find_version(store, &found, seq, &text_bytes, error) != 0 ||
        check_chunks(chunks, count, text_bytes, found.next_row, error) != 0 ||
        uncut(store, space, seq, text_bytes, error) != 0)
        return -1;
    if (count == 0)
        return 0;
    struct moult_tally *tally = moult_tally_of(&store->spaces, space);
    tally->documents++;
    tally->chunks += count;
    tally->text_bytes += text_bytes;
    return insert_cut(store, space, seq, chunks, count, error);
}
