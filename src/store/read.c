#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/memory.h"
#include "store/parts.h"

void moult_documents_release(struct moult_documents *documents) {
    free(documents->items);
    moult_pool_free(documents->pool);
    *documents = (struct moult_documents){0};
}

/* ---- One version. */

int moult_store_text_of(struct moult_store *store, uint64_t seq, sqlite3_stmt **statement,
                        const char **text, size_t *size, struct moult_error *error) {
    static const char sql[] = "SELECT text FROM texts WHERE seq = ?1";
    *statement = moult_store_prepare(store, sql, error);
    if (*statement == NULL)
        return -1;
    sqlite3_bind_int64(*statement, 1, (sqlite3_int64)seq);
    int row = moult_store_step(store, *statement, "reading a text", error);
    if (row == 1) {
        *text = (const char *)sqlite3_column_text(*statement, 0);
        *size = (size_t)sqlite3_column_bytes(*statement, 0);
        if (*text != NULL)
            return 0;
        row = moult_store_fail(store, "reading a text", error);
    }
    moult_store_done(*statement);
    if (row == 0)
        moult_fail(error, MOULT_ERROR_MISSING, "Version %" PRIu64 " has been replaced.", seq);
    return -1;
}

int moult_store_text(struct moult_store *store, uint64_t seq, char **text, size_t *size,
                     struct moult_error *error) {
    sqlite3_stmt *statement;
    const char *bytes;
    *text = NULL;
    *size = 0;
    if (moult_store_enter(store, error) != 0)
        return -1;
    if (moult_store_text_of(store, seq, &statement, &bytes, size, error) != 0)
        return moult_store_leave(store, -1);
    *text = moult_copy_bytes(bytes, *size);
    moult_store_done(statement);
    return moult_store_leave(store, 0);
}

static int fail_damaged(struct moult_store *store, uint64_t seq, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_SYSTEM,
                      "%s is damaged: what belongs to version %" PRIu64 " does not fit together. "
                      "Stop the server, keep a copy of the file, and put back a backup, or save "
                      "what can be read with 'moult rescue'.", store->path, seq);
}

struct reading {
    struct moult_store *store;
    struct moult_documents *documents;
    unsigned parts;
    uint32_t space, chunk;       /* Of the passage. */
};

/* The range of the chunk; it has none where the space has not cut it, or not so far. */
static int read_chunk(struct reading *reading, struct moult_document *document,
                      struct moult_error *error) {
    static const char sql[] = "SELECT cut FROM cuts WHERE space = ?1 AND seq = ?2";
    sqlite3_stmt *statement = moult_store_prepare(reading->store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, reading->space);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)document->seq);
    int row = moult_store_step(reading->store, statement, "reading chunks", error);
    if (row == 1) {
        const char *bytes = sqlite3_column_blob(statement, 0);
        int64_t count = moult_cut_count(bytes, sqlite3_column_bytes(statement, 0));
        struct moult_chunk chunk = {0};
        if (reading->chunk < count)
            memcpy(&chunk, bytes + reading->chunk * sizeof chunk, sizeof chunk);
        document->chunk_begin = chunk.begin;
        document->chunk_end = chunk.end;
    }
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

static int read_text(struct reading *reading, struct moult_document *document,
                     struct moult_error *error) {
    struct moult_pool **pool = &reading->documents->pool;
    sqlite3_stmt *statement;
    const char *text;
    size_t size;
    struct moult_error reason = {0};
    if (moult_store_text_of(reading->store, document->seq, &statement, &text, &size,
                            &reason) != 0) {
        if (reason.code == MOULT_ERROR_MISSING)
            return fail_damaged(reading->store, document->seq, error);
        return moult_fail(error, reason.code, "%s", reason.message);
    }
    bool fits = document->chunk_begin <= document->chunk_end && document->chunk_end <= size;
    if (fits && reading->parts & MOULT_DOCUMENT_TEXT) {
        document->text = moult_pool_copy(pool, text, size);
        document->text_size = size;
    }
    if (fits && reading->parts & MOULT_DOCUMENT_PASSAGE) {
        document->passage_size = document->chunk_end - document->chunk_begin;
        document->passage = moult_pool_copy(pool, text + document->chunk_begin,
                                            document->passage_size);
    }
    moult_store_done(statement);
    return fits ? 0 : fail_damaged(reading->store, document->seq, error);
}

static void take_row(struct reading *reading, sqlite3_stmt *row, int column,
                     struct moult_document *document) {
    struct moult_pool **pool = &reading->documents->pool;
    const void *id = sqlite3_column_text(row, column);
    document->id = moult_pool_copy(pool, id, (size_t)sqlite3_column_bytes(row, column));
    if (!(reading->parts & MOULT_DOCUMENT_METADATA))
        return;
    const void *metadata = sqlite3_column_text(row, column + 1);
    document->metadata_size = (size_t)sqlite3_column_bytes(row, column + 1);
    document->metadata = moult_pool_copy(pool, metadata, document->metadata_size);
}

/* Chunk and text of one whose row is taken. */
static int read_rest(struct reading *reading, struct moult_document *document,
                     struct moult_error *error) {
    if (reading->space != 0 && read_chunk(reading, document, error) != 0)
        return -1;
    if (reading->parts & (MOULT_DOCUMENT_TEXT | MOULT_DOCUMENT_PASSAGE))
        return read_text(reading, document, error);
    return 0;
}

/* ---- Those that are asked for. */

static int finish(struct moult_store *store, struct moult_documents *documents, int result) {
    if (result != 0)
        moult_documents_release(documents);
    return moult_store_leave(store, result);
}

static void begin_items(struct moult_documents *documents, uint32_t count) {
    documents->items = moult_allocate(count, sizeof *documents->items);
    documents->count = count;
}

static int get_one(struct reading *reading, uint32_t collection, const char *id,
                   struct moult_document *document, struct moult_error *error) {
    static const char sql[] = "SELECT seq, id, metadata FROM documents"
                              " WHERE collection = ?1 AND id = ?2";
    sqlite3_stmt *statement = moult_store_prepare(reading->store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    sqlite3_bind_text(statement, 2, id, -1, SQLITE_STATIC);
    int row = moult_store_step(reading->store, statement, "reading a document", error);
    if (row == 1) {
        document->seq = (uint64_t)sqlite3_column_int64(statement, 0);
        take_row(reading, statement, 1, document);
    }
    moult_store_done(statement);
    return row == 1 ? read_rest(reading, document, error) : row;
}

int moult_store_get(struct moult_store *store, uint32_t collection, const char *const *ids,
                    uint32_t count, unsigned parts, struct moult_documents *documents,
                    struct moult_error *error) {
    uint32_t slot;
    *documents = (struct moult_documents){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_slot_of(store, collection, &slot, error);
    if (result == 0)
        begin_items(documents, count);
    struct reading reading = {store, documents, parts & ~(unsigned)MOULT_DOCUMENT_PASSAGE, 0, 0};
    for (uint32_t i = 0; i < count && result == 0; i++)
        result = get_one(&reading, collection, ids[i], &documents->items[i], error);
    return finish(store, documents, result);
}

static int get_hit(struct reading *reading, uint32_t collection, uint64_t seq,
                   struct moult_document *document, struct moult_error *error) {
    static const char sql[] = "SELECT id, metadata FROM documents"
                              " WHERE seq = ?1 AND collection = ?2";
    sqlite3_stmt *statement = moult_store_prepare(reading->store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)seq);
    sqlite3_bind_int64(statement, 2, collection);
    int row = moult_store_step(reading->store, statement, "reading a document", error);
    if (row == 1) {
        document->seq = seq;
        take_row(reading, statement, 0, document);
    }
    moult_store_done(statement);
    return row == 1 ? read_rest(reading, document, error) : row;
}

int moult_store_get_hits(struct moult_store *store, uint32_t collection, uint32_t space,
                         const struct moult_hit_asked *hits, uint32_t count, unsigned parts,
                         struct moult_documents *documents, struct moult_error *error) {
    uint32_t slot;
    *documents = (struct moult_documents){0};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_slot_of(store, collection, &slot, error);
    if (result == 0)
        begin_items(documents, count);
    struct reading reading = {store, documents, parts, space, 0};
    for (uint32_t i = 0; i < count && result == 0; i++) {
        reading.chunk = hits[i].chunk;
        result = get_hit(&reading, collection, hits[i].seq, &documents->items[i], error);
    }
    return finish(store, documents, result);
}

static int read_chunks(struct moult_store *store, uint32_t space, uint64_t seq,
                       struct moult_chunk **chunks, uint32_t *count, struct moult_error *error) {
    static const char sql[] = "SELECT cut FROM cuts WHERE space = ?1 AND seq = ?2";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, space);
    sqlite3_bind_int64(statement, 2, (sqlite3_int64)seq);
    int row = moult_store_step(store, statement, "reading chunks", error);
    const void *bytes = row == 1 ? sqlite3_column_blob(statement, 0) : NULL;
    int64_t found =
        bytes != NULL ? moult_cut_count(bytes, sqlite3_column_bytes(statement, 0)) : 0;
    if (found > 0) {
        *count = (uint32_t)found;
        *chunks = moult_allocate((size_t)found, sizeof **chunks);
        memcpy(*chunks, bytes, (size_t)found * sizeof **chunks);
    }
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

int moult_store_chunks(struct moult_store *store, uint32_t space, uint64_t seq,
                       struct moult_chunk **chunks, uint32_t *count, struct moult_error *error) {
    *chunks = NULL;
    *count = 0;
    if (moult_store_enter(store, error) != 0)
        return -1;
    return moult_store_leave(store, read_chunks(store, space, seq, chunks, count, error));
}

/* ---- Lists. A cursor is the last id that was listed, in base64 as URLs have it. */

static char *cursor_of(struct moult_pool **pool, const char *id) {
    size_t size = strlen(id);
    char *text = moult_pool_give(pool, MOULT_BASE64_SIZE(size) + 1);
    moult_base64_write(text, id, size);
    for (char *at = text; *at != '\0'; at++)
        *at = *at == '+' ? '-' : *at == '/' ? '_' : *at;
    text[strcspn(text, "=")] = '\0';
    return text;
}

static int read_cursor(const char *cursor, char id[MOULT_DOCUMENT_ID_BYTES_MAX + 1],
                       struct moult_error *error) {
    id[0] = '\0';
    if (cursor == NULL)
        return 0;
    char *copy = moult_copy_string(cursor);
    for (char *at = copy; *at != '\0'; at++)
        *at = *at == '-' ? '+' : *at == '_' ? '/' : *at;
    long size = moult_base64_read(id, MOULT_DOCUMENT_ID_BYTES_MAX, copy, strlen(copy));
    free(copy);
    id[size < 0 ? 0 : size] = '\0';
    if (size < 0 || (size_t)size != strlen(id) || !moult_document_id_valid(id))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"cursor\" is none that a list has given.");
    return 0;
}

static size_t size_of(const struct moult_document *document) {
    return strlen(document->id) + document->text_size + document->metadata_size + 64;
}

static struct moult_document *add_item(struct moult_documents *documents) {
    if ((documents->count & (documents->count - 1)) == 0)
        documents->items = moult_reallocate(documents->items,
                                            documents->count == 0 ? 1 : documents->count * 2ul,
                                            sizeof *documents->items);
    documents->items[documents->count] = (struct moult_document){0};
    return &documents->items[documents->count++];
}

/* One row beyond the page is looked at, to know whether there is another page. */
static int list_rows(struct reading *reading, sqlite3_stmt *rows, uint32_t count,
                     size_t bytes_max, struct moult_error *error) {
    struct moult_documents *documents = reading->documents;
    size_t bytes = 0;
    int row;
    while ((row = moult_store_step(reading->store, rows, "listing documents", error)) == 1) {
        if (documents->count == count || (documents->count > 0 && bytes >= bytes_max)) {
            documents->cursor = cursor_of(&documents->pool,
                                          documents->items[documents->count - 1].id);
            return 0;
        }
        struct moult_document *document = add_item(documents);
        document->seq = (uint64_t)sqlite3_column_int64(rows, 0);
        take_row(reading, rows, 1, document);
        if (read_rest(reading, document, error) != 0)
            return -1;
        bytes += size_of(document);
    }
    return row;
}

static int list(struct reading *reading, uint32_t collection, const char *after, uint32_t count,
                size_t bytes_max, const struct moult_filter *filter, struct moult_error *error) {
    static const char sql[] = "SELECT seq, id, metadata FROM documents INDEXED BY documents_by_id"
                              " WHERE collection = ?1 AND id > ?2 AND moult_matches(?3, metadata)"
                              " ORDER BY id";
    uint32_t slot;
    if (moult_store_slot_of(reading->store, collection, &slot, error) != 0)
        return -1;
    sqlite3_stmt *statement = moult_store_prepare(reading->store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, collection);
    sqlite3_bind_text(statement, 2, after, -1, SQLITE_STATIC);
    moult_store_bind_filter(statement, 3, filter);
    int result = list_rows(reading, statement, count, bytes_max, error);
    moult_store_done(statement);
    return result;
}

int moult_store_list(struct moult_store *store, uint32_t collection, const char *cursor,
                     uint32_t count, size_t bytes_max, const struct moult_filter *filter,
                     unsigned parts, struct moult_documents *documents,
                     struct moult_error *error) {
    char after[MOULT_DOCUMENT_ID_BYTES_MAX + 1];
    MOULT_REQUIRE(count > 0);
    *documents = (struct moult_documents){0};
    if (read_cursor(cursor, after, error) != 0 || moult_store_enter(store, error) != 0)
        return -1;
    struct reading reading = {store, documents, parts & ~(unsigned)MOULT_DOCUMENT_PASSAGE, 0, 0};
    int result = list(&reading, collection, after, count, bytes_max, filter, error);
    return finish(store, documents, result);
}
