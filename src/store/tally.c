#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

uint64_t moult_store_next_seq(struct moult_store *store) {
    store->seq_is_new = true;
    return ++store->seq;
}

struct moult_tally *moult_tally_of(struct moult_tallies *tallies, uint32_t number) {
    for (unsigned i = 0; i < tallies->count; i++)
        if (tallies->items[i].number == number)
            return &tallies->items[i];
    if (tallies->count == tallies->capacity) {
        tallies->capacity = tallies->capacity * 2 + 8;
        tallies->items = moult_reallocate(tallies->items, tallies->capacity,
                                          sizeof *tallies->items);
    }
    tallies->items[tallies->count] = (struct moult_tally){.number = number};
    return &tallies->items[tallies->count++];
}

static int write_tally(struct moult_store *store, const char *sql,
                       const struct moult_tally *tally, struct moult_error *error) {
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, tally->number);
    sqlite3_bind_int64(statement, 2, tally->documents);
    sqlite3_bind_int64(statement, 3, tally->text_bytes);
    sqlite3_bind_int64(statement, 4, tally->chunks);
    return moult_store_run(store, statement, "counting", error);
}

static int write_seq(struct moult_store *store, struct moult_error *error) {
    static const char sql[] = "UPDATE sequence SET last = ?1";
    sqlite3_stmt *statement = moult_store_prepare(store, sql, error);
    if (statement == NULL)
        return -1;
    sqlite3_bind_int64(statement, 1, (sqlite3_int64)store->seq);
    return moult_store_run(store, statement, "counting", error);
}

int moult_store_write_tallies(struct moult_store *store, struct moult_error *error) {
    /* ?4, the chunks, are of spaces alone. */
    static const char of_collection[] =
        "UPDATE collections SET documents = documents + ?2, text_bytes = text_bytes + ?3"
        " WHERE number = ?1";
    static const char of_space[] =
        "UPDATE spaces SET documents = documents + ?2, text_bytes = text_bytes + ?3,"
        " chunks = chunks + ?4 WHERE number = ?1";
    int result = store->seq_is_new ? write_seq(store, error) : 0;
    for (unsigned i = 0; i < store->collections.count && result == 0; i++)
        result = write_tally(store, of_collection, &store->collections.items[i], error);
    for (unsigned i = 0; i < store->spaces.count && result == 0; i++)
        result = write_tally(store, of_space, &store->spaces.items[i], error);
    /* Where it failed the transaction is broken, and all of this goes with it. */
    if (result == 0)
        moult_store_forget_tallies(store);
    return result;
}

void moult_store_forget_tallies(struct moult_store *store) {
    store->seq_is_new = false;
    store->collections.count = 0;
    store->spaces.count = 0;
}
