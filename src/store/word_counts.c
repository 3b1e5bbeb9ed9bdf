/* How many documents have a word. FTS5 finds out by walking over them, and for the common words of
 * a long query that takes longer than all else about it. So what was counted is kept for as long
 * as nobody has written to the file: SQLite's data_version says so, which does not tell of changes
 * of one's own; but who writes does not search. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

/* Fewer are soon counted, and longer words are rare. */
#define DOCUMENTS_MIN 1000u
#define BYTES_MAX 31u
#define SLOTS 4096u
#define WORDS_MAX (SLOTS / 2)

struct kept {
    uint64_t documents;        /* 0: a free slot. */
    unsigned char size;
    char bytes[BYTES_MAX];
};

struct moult_word_counts {
    int64_t version;           /* Of the file. */
    unsigned count;
    struct kept slots[SLOTS];
};

static int read_version(struct moult_store *store, int64_t *version, struct moult_error *error) {
    static const char sql[] = "PRAGMA data_version";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "reading its version", error);
    *version = row == 1 ? sqlite3_column_int64(statement, 0) : -1;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

int moult_word_counts_begin(struct moult_store *store, struct moult_word_counts **counts,
                            struct moult_error *error) {
    int64_t version;
    if (store->mode != MOULT_STORE_READ)
        return 0;
    if (read_version(store, &version, error) != 0)
        return -1;
    if (*counts == NULL)
        *counts = moult_allocate(1, sizeof **counts);
    else if ((*counts)->version != version)
        memset(*counts, 0, sizeof **counts);
    (*counts)->version = version;
    return 0;
}

/* Its slot, or the free one where it would stand: there always is one. */
static struct kept *find(struct moult_word_counts *counts, const char *bytes, size_t size) {
    uint32_t hash = 2166136261u;   /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 16777619u;
    for (;; hash++) {
        struct kept *kept = &counts->slots[hash % SLOTS];
        if (kept->documents == 0 ||
            (kept->size == size && memcmp(kept->bytes, bytes, size) == 0))
            return kept;
    }
}

static int ask(struct moult_store *store, const char *bytes, size_t size, uint64_t *documents,
               struct moult_error *error) {
    static const char sql[] = "SELECT doc FROM temp.word_counts WHERE term = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_text(statement, 1, bytes, (int)size, SQLITE_STATIC);
    int row = moult_store_step(store, statement, "counting words", error);
    *documents = row == 1 ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
    moult_store_done(statement);
    return row < 0 ? -1 : 0;
}

int moult_word_count(struct moult_store *store, struct moult_word_counts *counts,
                     const char *bytes, size_t size, uint64_t *documents,
                     struct moult_error *error) {
    struct kept *kept = counts != NULL && size <= BYTES_MAX ? find(counts, bytes, size) : NULL;
    if (kept != NULL && kept->documents > 0) {
        *documents = kept->documents;
        return 0;
    }
    if (ask(store, bytes, size, documents, error) != 0)
        return -1;
    if (kept != NULL && *documents >= DOCUMENTS_MIN && counts->count < WORDS_MAX) {
        kept->documents = *documents;
        kept->size = (unsigned char)size;
        memcpy(kept->bytes, bytes, size);
        counts->count++;
    }
    return 0;
}
