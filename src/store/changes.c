#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

/* Two walks side by side, both by seq: over the versions that are there, and over what was
 * removed. An upsert has a row in both, at the same seq; of one that was replaced since, only
 * the removal is left. All is read in one snapshot, so that a version is either there or has its
 * removal behind it.
 *
 * Which removals matter. One of a version behind the cursor (`removed` > cursor) does not: that
 * version is not in this snapshot, so this follower has never been told of it. */

struct walk {
    sqlite3_stmt *rows;
    uint64_t seq;              /* Of the row it stands at; UINT64_MAX: the end. */
};

struct walking {
    struct moult_store *store;
    struct moult_changes *changes;
    struct walk versions, removals;
    uint32_t space;
    uint64_t cursor;           /* Where the follower stood. */
    size_t bytes;
    uint32_t *dropped;         /* Collections whose documents are there and count no more. */
    unsigned dropped_count;
};

/* What an item costs beside its bytes. */
#define ITEM_BYTES 64

void moult_changes_release(struct moult_changes *changes) {
    free(changes->items);
    moult_pool_free(changes->pool);
    *changes = (struct moult_changes){0};
}

static int step(struct walking *walking, struct walk *walk, struct moult_error *error) {
    int row = moult_store_step(walking->store, walk->rows, "reading changes", error);
    walk->seq = row == 1 ? (uint64_t)sqlite3_column_int64(walk->rows, 0) : UINT64_MAX;
    return row < 0 ? -1 : 0;
}

static bool is_dropped(const struct walking *walking, uint32_t collection) {
    for (unsigned i = 0; i < walking->dropped_count; i++)
        if (walking->dropped[i] == collection)
            return true;
    return false;
}

static struct moult_store_change *add_item(struct moult_changes *changes, uint64_t seq,
                                     uint32_t collection) {
    if ((changes->count & (changes->count - 1)) == 0)
        changes->items = moult_reallocate(changes->items,
                                          changes->count == 0 ? 1 : changes->count * 2ul,
                                          sizeof *changes->items);
    struct moult_store_change *item = &changes->items[changes->count++];
    *item = (struct moult_store_change){.seq = seq, .collection = collection};
    return item;
}

static int take_text(struct walking *walking, struct moult_store_change *item,
                     struct moult_error *error) {
    sqlite3_stmt *statement;
    const char *text;
    if (moult_store_text_of(walking->store, item->seq, &statement, &text, &item->text_size,
                            error) != 0)
        return -1;
    item->text = moult_pool_copy(&walking->changes->pool, text, item->text_size);
    walking->bytes += item->text_size;
    moult_store_done(statement);
    return 0;
}

/* A cut that is damaged is none: the document is cut and embedded again. */
static int take_version(struct walking *walking, struct moult_store_change *item,
                        struct moult_error *error) {
    sqlite3_stmt *row = walking->versions.rows;
    const void *cut = sqlite3_column_blob(row, 2);
    int size = sqlite3_column_bytes(row, 2);
    int64_t count = moult_cut_count(cut, size);
    item->puts = true;
    if (count > 0) {
        struct moult_chunk *chunks = moult_pool_give(&walking->changes->pool, (size_t)size);
        memcpy(chunks, cut, (size_t)size);
        item->chunks = chunks;
        item->chunk_count = (uint32_t)count;
        walking->bytes += (size_t)size;
    } else if (walking->space != 0) {
        return take_text(walking, item, error);
    }
    return 0;
}

/* The change that is next in either walk; where nothing of it matters, there is no item. */
static int take_next(struct walking *walking, uint64_t seq, struct moult_error *error) {
    struct moult_store_change *item = NULL;
    if (walking->removals.seq == seq) {
        sqlite3_stmt *row = walking->removals.rows;
        uint32_t collection = (uint32_t)sqlite3_column_int64(row, 1);
        uint64_t removed = (uint64_t)sqlite3_column_int64(row, 2);
        if (removed <= walking->cursor) {
            item = add_item(walking->changes, seq, collection);
            item->removes = removed;
            item->drops = removed == 0;
        }
        if (step(walking, &walking->removals, error) != 0)
            return -1;
    }
    if (walking->versions.seq == seq) {
        uint32_t collection = (uint32_t)sqlite3_column_int64(walking->versions.rows, 1);
        if (!is_dropped(walking, collection)) {
            if (item == NULL)
                item = add_item(walking->changes, seq, collection);
            if (take_version(walking, item, error) != 0)
                return -1;
        }
        if (step(walking, &walking->versions, error) != 0)
            return -1;
    }
    walking->bytes += item != NULL ? ITEM_BYTES : 0;
    return 0;
}

static int walk_along(struct walking *walking, uint32_t count_max, size_t bytes_max,
                      struct moult_error *error) {
    struct moult_changes *changes = walking->changes;
    uint64_t last;
    if (step(walking, &walking->versions, error) != 0 ||
        step(walking, &walking->removals, error) != 0)
        return -1;
    for (;;) {
        uint64_t seq = walking->versions.seq < walking->removals.seq ? walking->versions.seq
                                                                     : walking->removals.seq;
        if (seq == UINT64_MAX)
            break;
        if (changes->count == count_max || (changes->count > 0 && walking->bytes >= bytes_max))
            return 0;
        if (take_next(walking, seq, error) != 0)
            return -1;
        changes->cursor = seq;
    }
    /* What other slots were given is behind this follower as well. */
    if (moult_store_last_seq(walking->store, &last, error) != 0)
        return -1;
    changes->complete = true;
    if (last > changes->cursor)
        changes->cursor = last;
    return 0;
}

static sqlite3_stmt *begin_walk(struct moult_store *store, const char *sql, uint32_t slot,
                                uint64_t cursor, struct moult_error *error) {
    sqlite3_stmt *rows = moult_store_prepare(store, sql, error);
    if (rows == NULL)
        return NULL;
    sqlite3_bind_int64(rows, 1, slot);
    sqlite3_bind_int64(rows, 2, (sqlite3_int64)cursor);
    return rows;
}

static int read_changes(struct walking *walking, uint32_t slot, uint32_t count_max,
                        size_t bytes_max, struct moult_error *error) {
    static const char versions[] =
        "SELECT d.seq, d.collection, k.cut FROM documents d INDEXED BY documents_by_slot"
        " LEFT JOIN cuts k ON k.space = ?3 AND k.seq = d.seq"
        " WHERE d.slot = ?1 AND d.seq > ?2 ORDER BY d.seq";
    static const char removals[] = "SELECT seq, collection, removed FROM removals"
                                   " WHERE slot = ?1 AND seq > ?2 ORDER BY seq";
    struct moult_store *store = walking->store;
    walking->versions.rows = begin_walk(store, versions, slot, walking->cursor, error);
    walking->removals.rows = begin_walk(store, removals, slot, walking->cursor, error);
    if (walking->versions.rows == NULL || walking->removals.rows == NULL)
        return -1;
    sqlite3_bind_int64(walking->versions.rows, 3, walking->space);
    int result = walk_along(walking, count_max, bytes_max, error);
    moult_store_done(walking->versions.rows);
    moult_store_done(walking->removals.rows);
    return result;
}

int moult_store_changes(struct moult_store *store, const char *slot, uint32_t space,
                        uint64_t cursor, uint32_t count_max, size_t bytes_max,
                        struct moult_changes *changes, struct moult_error *error) {
    struct walking walking = {.store = store, .changes = changes, .space = space,
                              .cursor = cursor};
    uint32_t slot_number;
    MOULT_REQUIRE(count_max > 0 && cursor <= INT64_MAX);
    *changes = (struct moult_changes){.cursor = cursor};
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_slot(store, slot, &slot_number, error);
    if (result == 0)
        result = moult_store_dropped(store, &walking.dropped, &walking.dropped_count, error);
    if (result == 0)
        result = read_changes(&walking, slot_number, count_max, bytes_max, error);
    free(walking.dropped);
    if (result != 0)
        moult_changes_release(changes);
    return moult_store_leave(store, result);
}

/* ---- How many. */

static int count_rows(struct moult_store *store, const char *sql, uint32_t slot, uint64_t cursor,
                      uint64_t *sum, struct moult_error *error) {
    sqlite3_stmt *statement = begin_walk(store, sql, slot, cursor, error);
    if (statement == NULL)
        return -1;
    int row = moult_store_step(store, statement, "counting changes", error);
    if (row == 1)
        *sum += (uint64_t)sqlite3_column_int64(statement, 0);
    moult_store_done(statement);
    return row == 1 ? 0 : -1;
}

int moult_store_behind(struct moult_store *store, const char *slot, uint64_t cursor,
                       uint64_t *changes, struct moult_error *error) {
    static const char versions[] = "SELECT count(*) FROM documents WHERE slot = ?1 AND seq > ?2";
    /* An upsert is counted as a version already. */
    static const char removals[] =
        "SELECT count(*) FROM removals r WHERE slot = ?1 AND seq > ?2 AND removed <= ?2"
        " AND NOT EXISTS (SELECT 1 FROM documents d WHERE d.seq = r.seq)";
    /* The documents of dropped collections lie there until they are swept. */
    static const char living[] =
        "SELECT count(*) FROM documents d WHERE slot = ?1 AND seq > ?2 AND NOT EXISTS"
        " (SELECT 1 FROM collections c WHERE c.number = d.collection AND c.dropped = 1)";
    uint32_t number, *dropped = NULL;
    unsigned dropped_count = 0;
    *changes = 0;
    if (moult_store_enter(store, error) != 0)
        return -1;
    int result = moult_store_slot(store, slot, &number, error);
    if (result == 0)
        result = moult_store_dropped(store, &dropped, &dropped_count, error);
    if (result == 0)
        result = count_rows(store, dropped_count > 0 ? living : versions, number, cursor, changes,
                            error);
    if (result == 0)
        result = count_rows(store, removals, number, cursor, changes, error);
    free(dropped);
    return moult_store_leave(store, result);
}
