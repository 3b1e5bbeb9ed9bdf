/* Versions that were replaced: found until they are withdrawn, with the chunks that they had. */
#include "front/replaced.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"

#define GOOD(call) assert_int_equal(call, 0)

static struct moult_error error;

struct place {
    char folder[64];
    struct moult_store *store;
    struct moult_collection collection;
    struct moult_space space;
    struct moult_replaced *table;
};

static void open_place(struct place *place) {
    const struct moult_space_key key = {.slot = "m", .fingerprint = "ab", .dimensions = 4};
    char path[96];
    snprintf(place->folder, sizeof place->folder, "/tmp/moult-replaced-XXXXXX");
    assert_non_null(mkdtemp(place->folder));
    snprintf(path, sizeof path, "%s/documents.db", place->folder);
    place->store = moult_store_open(path, MOULT_STORE_WRITE, &error);
    assert_non_null(place->store);
    GOOD(moult_store_begin(place->store, &error));
    GOOD(moult_store_collection_make(place->store, "c", "m", &place->collection, &error));
    GOOD(moult_store_space_make(place->store, &key, &place->space, &error));
    place->table = moult_replaced_open();
}

static void close_place(struct place *place) {
    GOOD(moult_store_commit(place->store, &error));
    moult_store_close(place->store);
    moult_replaced_close(place->table);
    GOOD(moult_folder_remove(AT_FDCWD, place->folder, &error));
}

static struct moult_put put_of(const char *id, const char *text, const char *metadata) {
    return (struct moult_put){.id = id,
                              .text = text,
                              .text_size = strlen(text),
                              .metadata = metadata,
                              .metadata_size = strlen(metadata)};
}

/* Replaces, as those do who write. */
static struct moult_replaced_list *replace(struct place *place, struct moult_put *puts,
                                           uint32_t count) {
    struct moult_replaced_list *list;
    GOOD(moult_replaced_read(place->table, place->store, &place->collection, puts, count, &list,
                             &error));
    GOOD(moult_store_put(place->store, place->collection.number, puts, count, &error));
    moult_replaced_publish(list, puts);
    return list;
}

static bool find(struct place *place, uint64_t seq, uint32_t chunk,
                 struct moult_replaced_copy *copy) {
    const struct moult_hit_asked hit = {seq, chunk};
    return moult_replaced_find(place->table, place->collection.number, place->space.number, &hit,
                               copy);
}

static void what_is_new_replaces_nothing(void **state) {
    (void)state;
    struct place place;
    open_place(&place);
    struct moult_put puts[] = {put_of("a", "one", "{}"), put_of(NULL, "two", "{}")};
    assert_null(replace(&place, puts, 2));
    close_place(&place);
}

static void a_version_is_kept_with_its_chunks(void **state) {
    (void)state;
    struct place place;
    struct moult_replaced_copy copy;
    open_place(&place);
    struct moult_put old[] = {put_of("a", "first text", "{\"n\":1}"), put_of("b", "same", "{}")};
    assert_null(replace(&place, old, 2));
    const struct moult_chunk chunks[] = {{0, 5, 0}, {6, 10, 1}};
    uint32_t row;
    GOOD(moult_store_rows_take(place.store, place.space.number, 2, &row, &error));
    GOOD(moult_store_cut(place.store, place.space.number, old[0].seq, chunks, 2, &error));

    struct moult_put new[] = {put_of("a", "second", "{}"), put_of("b", "same", "{}")};
    struct moult_replaced_list *list = replace(&place, new, 2);
    assert_true(find(&place, old[0].seq, 1, &copy));
    assert_string_equal(copy.document.id, "a");
    assert_string_equal(copy.document.text, "first text");
    assert_string_equal(copy.document.metadata, "{\"n\":1}");
    assert_int_equal(copy.document.chunk_begin, 6);
    assert_int_equal(copy.document.chunk_end, 10);
    assert_int_equal(copy.successor, new[0].seq);
    moult_replaced_release(&copy);
    assert_false(find(&place, old[1].seq, 0, &copy));   /* Unchanged: the store has it. */
    assert_false(find(&place, new[0].seq, 0, &copy));

    moult_replaced_withdraw(list);
    assert_false(find(&place, old[0].seq, 1, &copy));
    close_place(&place);
}

static void of_two_with_one_id_the_later_is_the_successor(void **state) {
    (void)state;
    struct place place;
    struct moult_replaced_copy copy;
    open_place(&place);
    struct moult_put old = put_of("a", "first", "{}");
    assert_null(replace(&place, &old, 1));
    struct moult_put new[] = {put_of("a", "second", "{}"), put_of("a", "third", "{}")};
    struct moult_replaced_list *list = replace(&place, new, 2);
    assert_true(find(&place, old.seq, 0, &copy));
    assert_int_equal(copy.successor, new[1].seq);
    moult_replaced_release(&copy);
    moult_replaced_withdraw(list);
    close_place(&place);
}

static void rows_of_those_that_match_are_allowed(void **state) {
    (void)state;
    struct place place;
    open_place(&place);
    struct moult_put old[3] = {put_of("a", "a", "{\"n\":1}"), put_of("b", "b", "{\"n\":2}"),
                               put_of("c", "c", "{\"n\":1}")};
    assert_null(replace(&place, old, 3));
    uint32_t row;
    GOOD(moult_store_rows_take(place.store, place.space.number, 3, &row, &error));
    for (uint32_t i = 0; i < 3; i++) {
        const struct moult_chunk chunk = {0, 1, i};
        GOOD(moult_store_cut(place.store, place.space.number, old[i].seq, &chunk, 1, &error));
    }
    struct moult_put new[] = {put_of("a", "a2", "{}"), put_of("b", "b2", "{}")};
    struct moult_replaced_list *list = replace(&place, new, 2);
    json_t *json = json_loads("{\"n\":1}", 0, NULL);
    struct moult_filter *filter = moult_filter_parse(json, &error);
    struct moult_allowed allowed;
    GOOD(moult_store_allowed(place.store, place.collection.number, place.space.number, filter,
                             &allowed, &error));
    assert_int_equal(allowed.words[0], 1u << 2);
    moult_replaced_allow(place.table, place.collection.number, place.space.number, filter,
                         &allowed);
    assert_int_equal(allowed.words[0], 1u << 2 | 1u << 0);
    moult_allowed_release(&allowed);
    moult_filter_free(filter);
    json_decref(json);
    moult_replaced_withdraw(list);
    close_place(&place);
}

static void of_very_much_a_part_is_kept(void **state) {
    (void)state;
    struct place place;
    enum { COUNT = 64 };
    char *text = moult_allocate(1 << 20, 1), ids[COUNT][4];
    struct moult_put puts[COUNT];
    uint64_t seqs[COUNT];
    struct moult_replaced_list *list = NULL;
    struct moult_replaced_copy copy;
    open_place(&place);
    memset(text, 'x', (1 << 20) - 1);
    for (int turn = 0; turn < 2; turn++) {
        text[0] = (char)('a' + turn);
        for (int i = 0; i < COUNT; i++) {
            snprintf(ids[i], sizeof ids[i], "%d", i);
            if (turn > 0)
                seqs[i] = puts[i].seq;
            puts[i] = put_of(ids[i], text, "{}");
        }
        list = replace(&place, puts, COUNT);
    }
    assert_true(find(&place, seqs[0], 0, &copy));
    moult_replaced_release(&copy);
    assert_false(find(&place, seqs[COUNT - 1], 0, &copy));
    moult_replaced_withdraw(list);
    free(text);
    close_place(&place);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_new_replaces_nothing),
        cmocka_unit_test(a_version_is_kept_with_its_chunks),
        cmocka_unit_test(of_two_with_one_id_the_later_is_the_successor),
        cmocka_unit_test(rows_of_those_that_match_are_allowed),
        cmocka_unit_test(of_very_much_a_part_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
