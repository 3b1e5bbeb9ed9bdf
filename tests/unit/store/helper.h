/* A store in a folder of its own, and short names for what its tests do all the time. */
#ifndef MOULT_TESTS_UNIT_STORE_HELPER_H
#define MOULT_TESTS_UNIT_STORE_HELPER_H

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>
#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "store/store.h"

struct place {
    char folder[64];
    char *path;
    struct moult_store *writer, *reader;
};

#define GOOD(call)                                                                                \
    do {                                                                                          \
        struct moult_error error = {0};                                                           \
        if ((call) < 0)                                                                           \
            fail_msg("%s: %s", #call, error.message);                                             \
    } while (0)

#define REFUSED(code_expected, part, call)                                                        \
    do {                                                                                          \
        struct moult_error error = {0};                                                           \
        assert_int_equal(-1, (call));                                                             \
        if (error.code != (code_expected) || strstr(error.message, part) == NULL)                 \
            fail_msg("%s: code %d: %s", #call, (int)error.code, error.message);                   \
    } while (0)

static inline struct moult_store *open_store(const char *path, enum moult_store_mode mode) {
    struct moult_error error = {0};
    struct moult_store *store = moult_store_open(path, mode, &error);
    if (store == NULL)
        fail_msg("%s", error.message);
    return store;
}

static inline int place_setup(void **state) {
    struct place *place = moult_allocate(1, sizeof *place);
    snprintf(place->folder, sizeof place->folder, "%s", "/tmp/moult-store-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    place->path = moult_format("%s/documents.db", place->folder);
    place->writer = open_store(place->path, MOULT_STORE_WRITE);
    place->reader = open_store(place->path, MOULT_STORE_READ);
    *state = place;
    return 0;
}

static inline void place_close(struct place *place) {
    moult_store_close(place->reader);
    moult_store_close(place->writer);
    place->reader = place->writer = NULL;
}

static inline void place_open(struct place *place) {
    place->writer = open_store(place->path, MOULT_STORE_WRITE);
    place->reader = open_store(place->path, MOULT_STORE_READ);
}

static inline int place_teardown(void **state) {
    struct place *place = *state;
    place_close(place);
    moult_folder_remove(AT_FDCWD, place->folder, NULL);
    free(place->path);
    free(place);
    return 0;
}

/* Each of these is a transaction. */

static inline uint32_t make_collection(struct place *place, const char *name, const char *slot) {
    struct moult_collection collection;
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_collection_make(place->writer, name, slot, &collection, &error));
    GOOD(moult_store_commit(place->writer, &error));
    return collection.number;
}

static inline uint64_t put_one(struct place *place, uint32_t collection, const char *id,
                               const char *text, const char *metadata) {
    struct moult_put put = {.id = id, .text = text, .text_size = strlen(text),
                            .metadata = metadata,
                            .metadata_size = metadata != NULL ? strlen(metadata) : 0};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, collection, &put, 1, &error));
    GOOD(moult_store_commit(place->writer, &error));
    return put.seq;
}

static inline int64_t delete_one(struct place *place, uint32_t collection, const char *id) {
    int64_t count = 0;
    uint64_t seq;
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(count = moult_store_delete(place->writer, collection, &id, 1, NULL, &seq, &error));
    GOOD(moult_store_commit(place->writer, &error));
    return count;
}

static inline struct moult_space_key space_key(const char *slot, char digit) {
    struct moult_space_key key = {.dimensions = 384, .chunk_tokens = 256, .chunk_overlap = 32};
    snprintf(key.slot, sizeof key.slot, "%s", slot);
    memset(key.fingerprint, digit, sizeof key.fingerprint - 1);
    return key;
}

static inline uint32_t make_space(struct place *place, const char *slot, char digit) {
    struct moult_space space;
    struct moult_space_key key = space_key(slot, digit);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_space_make(place->writer, &key, &space, &error));
    GOOD(moult_store_commit(place->writer, &error));
    return space.number;
}

/* Cuts a text in the middle, or not at all: `count` chunks of equal size. Returns the first row. */
static inline uint32_t cut_one(struct place *place, uint32_t space, uint64_t seq, uint32_t size,
                               uint32_t count) {
    uint32_t first = 0;
    struct moult_chunk chunks[16];
    assert_true(count <= 16);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_rows_take(place->writer, space, count, &first, &error));
    for (uint32_t i = 0; i < count; i++)
        chunks[i] = (struct moult_chunk){size * i / count, size * (i + 1) / count, first + i};
    GOOD(moult_store_cut(place->writer, space, seq, chunks, count, &error));
    GOOD(moult_store_commit(place->writer, &error));
    return first;
}

#define PLACE_TEST(function) cmocka_unit_test_setup_teardown(function, place_setup, place_teardown)

#endif
