#include <inttypes.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "store/parts.h"

/* FTS5 gathers what it is told in memory, and writes that out as a segment of its own whenever a
 * row comes that is not behind the one before. A transaction that upserts would make two
 * segments for each document (2,700 upserts/s). So texts go first, in the order of their seq,
 * and then the new ones come, which are in order by themselves. What came and went within the
 * transaction is never told. */

void moult_words_erase_later(struct moult_store *store, uint64_t seq) {
    struct moult_word_work *work = &store->word_work;
    if (work->count == work->capacity) {
        work->capacity = work->capacity * 2 + 64;
        work->erased = moult_reallocate(work->erased, work->capacity, sizeof *work->erased);
    }
    work->erased[work->count++] = seq;
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* All of them in one statement: each statement of its own would be a savepoint, at which FTS5
 * writes out what it has. The list is bound as JSON. */
static char *write_list(const struct moult_word_work *work, size_t *size) {
    struct moult_buffer list;
    moult_buffer_init(&list, MOULT_GIB);
    moult_buffer_text(&list, "[");
    for (unsigned i = 0; i < work->count; i++)
        moult_buffer_format(&list, i == 0 ? "%" PRIu64 : ",%" PRIu64, work->erased[i]);
    moult_buffer_text(&list, "]");
    MOULT_REQUIRE(!list.overflowed);
    return moult_buffer_take(&list, size);
}

static int run_for(struct moult_store *store, const char *sql, const char *list, size_t size,
                   struct moult_error *error) {
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)store->word_work.indexed);
    sqlite3_bind_text64(statement, 2, list, size, SQLITE_STATIC, SQLITE_UTF8);
    return moult_store_run(store, statement, "indexing words", error);
}

static int erase(struct moult_store *store, struct moult_error *error) {
    /* The index is told what it is to forget. */
    static const char of_words[] =
        "INSERT INTO words (words, rowid, text) SELECT 'delete', t.seq, t.text"
        " FROM json_each(?2) e CROSS JOIN texts t ON t.seq = e.value WHERE e.value <= ?1";
    static const char of_texts[] =
        "DELETE FROM texts WHERE seq IN (SELECT value FROM json_each(?2))";
    struct moult_word_work *work = &store->word_work;
    size_t size;
    qsort(work->erased, work->count, sizeof *work->erased, compare);
    char *list = write_list(work, &size);
    int result = run_for(store, of_words, list, size, error);
    if (result == 0)
        result = run_for(store, of_texts, list, size, error);
    free(list);
    return result;
}

int moult_words_write(struct moult_store *store, struct moult_error *error) {
    static const char of_new[] = "INSERT INTO words (rowid, text)"
                                 " SELECT seq, text FROM texts WHERE seq > ?1 ORDER BY seq";
    struct moult_word_work *work = &store->word_work;
    if (work->count > 0 && erase(store, error) != 0)
        return -1;
    if (store->seq > work->indexed && run_for(store, of_new, NULL, 0, error) != 0)
        return -1;
    work->count = 0;
    work->indexed = store->seq;
    return 0;
}
