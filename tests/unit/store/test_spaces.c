#include "helper.h"

static struct moult_space read_space(struct place *place, uint32_t number) {
    struct moult_space space;
    GOOD(moult_store_space(place->reader, number, &space, &error));
    return space;
}

static void is_found_by_its_key(void **state) {
    struct place *place = *state;
    struct moult_space space;
    struct moult_space_key key = space_key("minilm", 'a');
    uint32_t first = make_space(place, "minilm", 'a');
    assert_int_equal(first, make_space(place, "minilm", 'a'));
    assert_true(first > 0 && make_space(place, "minilm", 'b') != first);
    assert_true(make_space(place, "large", 'a') != first);
    GOOD(moult_store_begin(place->writer, &error));
    key.chunk_overlap = 0;
    GOOD(moult_store_space_make(place->writer, &key, &space, &error));
    assert_true(space.number != first);
    key = space_key("minilm", 'a');
    key.dimensions = 768;
    REFUSED(MOULT_ERROR_INVALID, "384 dimensions",
            moult_store_space_make(place->writer, &key, &space, &error));
    GOOD(moult_store_commit(place->writer, &error));
    space = read_space(place, first);
    assert_string_equal("minilm", space.key.slot);
    assert_int_equal(64, strspn(space.key.fingerprint, "a"));
    assert_int_equal(384, space.key.dimensions);
    assert_int_equal(256, space.key.chunk_tokens);
    assert_int_equal(32, space.key.chunk_overlap);
    assert_true(space.created_at > 1600000000);
    REFUSED(MOULT_ERROR_MISSING, "Space 99",
            moult_store_space(place->reader, 99, &space, &error));
}

static void has_room_for_so_many(void **state) {
    struct place *place = *state;
    struct moult_space space;
    struct moult_space_key key = space_key("minilm", 'a');
    GOOD(moult_store_begin(place->writer, &error));
    for (unsigned i = 0; i < MOULT_SPACES_MAX; i++) {
        key.chunk_tokens = i;
        GOOD(moult_store_space_make(place->writer, &key, &space, &error));
    }
    uint32_t last = space.number;
    key.chunk_tokens = MOULT_SPACES_MAX;
    REFUSED(MOULT_ERROR_LIMIT, "1024 models",
            moult_store_space_make(place->writer, &key, &space, &error));
    GOOD(moult_store_space_drop(place->writer, last, &error));
    GOOD(moult_store_space_make(place->writer, &key, &space, &error));
    GOOD(moult_store_commit(place->writer, &error));
}

static void lists_those_of_a_slot(void **state) {
    struct place *place = *state;
    struct moult_space *spaces;
    unsigned count;
    uint32_t a = make_space(place, "minilm", 'a');
    make_space(place, "large", 'a');
    uint32_t b = make_space(place, "minilm", 'b');
    GOOD(moult_store_spaces(place->reader, "minilm", &spaces, &count, &error));
    assert_int_equal(2, count);
    assert_int_equal(a, spaces[0].number);
    assert_int_equal(b, spaces[1].number);
    free(spaces);
    GOOD(moult_store_spaces(place->reader, NULL, &spaces, &count, &error));
    assert_int_equal(3, count);
    free(spaces);
    GOOD(moult_store_spaces(place->reader, "nobody", &spaces, &count, &error));
    assert_int_equal(0, count);
    assert_null(spaces);
}

/* Rows are dense, and no row is given twice, whatever becomes of what had it. */
static void gives_rows_once(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    uint64_t a = put_one(place, c, "a", "0123456789", NULL);
    assert_int_equal(0, cut_one(place, space, a, 10, 3));
    assert_int_equal(3, cut_one(place, space, a, 10, 2));
    struct moult_space found = read_space(place, space);
    assert_int_equal(5, found.next_row);
    assert_int_equal(2, found.chunks);
    assert_int_equal(1, found.documents);
    assert_int_equal(10, found.text_bytes);
    delete_one(place, c, "a");
    place_close(place);
    place_open(place);
    uint64_t b = put_one(place, c, "b", "text", NULL);
    assert_int_equal(5, cut_one(place, space, b, 4, 1));
    found = read_space(place, space);
    assert_int_equal(6, found.next_row);
    assert_int_equal(1, found.chunks);
    assert_int_equal(1, found.documents);
    assert_int_equal(4, found.text_bytes);
}

/* Rows of a transaction that did not come to be were never seen by anybody. */
static void takes_rows_back_with_the_transaction(void **state) {
    struct place *place = *state;
    uint32_t first, space = make_space(place, "minilm", 'a');
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_rows_take(place->writer, space, 7, &first, &error));
    moult_store_rollback(place->writer);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_rows_take(place->writer, space, 7, &first, &error));
    assert_int_equal(0, first);
    GOOD(moult_store_rows_take(place->writer, space, 1, &first, &error));
    assert_int_equal(7, first);
    REFUSED(MOULT_ERROR_LIMIT, "4294967295 rows",
            moult_store_rows_take(place->writer, space, 0xFFFFFFFF, &first, &error));
    REFUSED(MOULT_ERROR_MISSING, "Space 99",
            moult_store_rows_take(place->writer, 99, 1, &first, &error));
    GOOD(moult_store_commit(place->writer, &error));
}

/* A version that is replaced loses its chunks in all spaces. */
static void loses_the_chunks_of_old_versions(void **state) {
    struct place *place = *state;
    struct moult_changes changes;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t spaces[] = {make_space(place, "minilm", 'a'), make_space(place, "minilm", 'b'),
                         make_space(place, "minilm", 'c')};
    uint64_t a = put_one(place, c, "a", "0123456789", NULL);
    uint64_t b = put_one(place, c, "b", "0123456789", NULL);
    for (unsigned i = 0; i < 3; i++) {
        cut_one(place, spaces[i], a, 10, i + 1);
        cut_one(place, spaces[i], b, 10, 1);
    }
    put_one(place, c, "a", "new", NULL);
    for (unsigned i = 0; i < 3; i++) {
        struct moult_space space = read_space(place, spaces[i]);
        assert_int_equal(1, space.documents);
        assert_int_equal(1, space.chunks);
        assert_int_equal(10, space.text_bytes);
        GOOD(moult_store_changes(place->reader, "minilm", spaces[i], 0, 9, 99, &changes, &error));
        assert_int_equal(2, changes.count);
        assert_int_equal(b, changes.items[0].seq);
        assert_int_equal(1, changes.items[0].chunk_count);
        assert_string_equal("new", changes.items[1].text);
        moult_changes_release(&changes);
    }
}

static void cut_refused(struct place *place, uint32_t space, uint64_t seq,
                        enum moult_error_code code, const char *part, struct moult_chunk chunk) {
    REFUSED(code, part, moult_store_cut(place->writer, space, seq, &chunk, 1, &error));
}

static void refuses_what_is_no_chunk(void **state) {
    struct place *place = *state;
    uint32_t first, c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "large");
    uint32_t space = make_space(place, "minilm", 'a');
    uint64_t seq = put_one(place, c, "a", "0123456789", NULL);
    uint64_t elsewhere = put_one(place, d, "a", "0123456789", NULL);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_rows_take(place->writer, space, 1, &first, &error));
    cut_refused(place, space, seq, MOULT_ERROR_INVALID, "Chunk 0",
                (struct moult_chunk){0, 11, first});
    cut_refused(place, space, seq, MOULT_ERROR_INVALID, "Chunk 0",
                (struct moult_chunk){3, 2, first});
    cut_refused(place, space, seq, MOULT_ERROR_INVALID, "row 1",
                (struct moult_chunk){0, 10, first + 1});
    cut_refused(place, space, seq + 9, MOULT_ERROR_MISSING, "Version",
                (struct moult_chunk){0, 10, first});
    cut_refused(place, space, elsewhere, MOULT_ERROR_MISSING, "Version",
                (struct moult_chunk){0, 10, first});
    cut_refused(place, space + 9, seq, MOULT_ERROR_MISSING, "Space",
                (struct moult_chunk){0, 10, first});
    GOOD(moult_store_cut(place->writer, space, seq, NULL, 0, &error));
    struct moult_chunk whole = {0, 10, first};
    GOOD(moult_store_cut(place->writer, space, seq, &whole, 1, &error));
    GOOD(moult_store_cut(place->writer, space, seq, NULL, 0, &error));
    GOOD(moult_store_commit(place->writer, &error));
    assert_int_equal(0, read_space(place, space).documents);
}

static void sweep(struct place *place, uint32_t count) {
    int swept;
    do {
        GOOD(moult_store_begin(place->writer, &error));
        GOOD(swept = moult_store_sweep(place->writer, count, &error));
        GOOD(moult_store_commit(place->writer, &error));
        assert_true(swept <= (int)count);
    } while (swept > 0);
}

static void drops_spaces(void **state) {
    struct place *place = *state;
    struct moult_space space;
    struct moult_store_numbers numbers;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t a = make_space(place, "minilm", 'a'), b = make_space(place, "minilm", 'b');
    for (unsigned i = 0; i < 10; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        uint64_t seq = put_one(place, c, id, "text", NULL);
        cut_one(place, a, seq, 4, 2);
        cut_one(place, b, seq, 4, 1);
    }
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_space_drop(place->writer, a, &error));
    REFUSED(MOULT_ERROR_MISSING, "Space", moult_store_space_drop(place->writer, a, &error));
    GOOD(moult_store_commit(place->writer, &error));
    REFUSED(MOULT_ERROR_MISSING, "Space", moult_store_space(place->reader, a, &space, &error));
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(10, numbers.chunks);
    assert_int_equal(1, numbers.unswept);
    /* The same key is another space now, which has nothing. */
    uint32_t again = make_space(place, "minilm", 'a');
    assert_true(again > b);
    assert_int_equal(0, read_space(place, again).next_row);
    sweep(place, 3);
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(0, numbers.unswept);
    assert_int_equal(10, read_space(place, b).chunks);
    put_one(place, c, "a", "new", NULL);
    assert_int_equal(9, read_space(place, b).documents);
}

static void drops_collections(void **state) {
    struct place *place = *state;
    struct moult_collection collection;
    struct moult_store_numbers numbers;
    uint64_t seq, last = 0;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    for (unsigned i = 0; i < 10; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        last = put_one(place, c, id, "some words", NULL);
        cut_one(place, space, last, 10, 2);
    }
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_collection_drop(place->writer, "default", &seq, &error));
    REFUSED(MOULT_ERROR_MISSING, "\"default\"",
            moult_store_collection_drop(place->writer, "default", &seq, &error));
    GOOD(moult_store_commit(place->writer, &error));
    assert_int_equal(last + 1, seq);
    REFUSED(MOULT_ERROR_MISSING, "\"default\"",
            moult_store_collection(place->reader, "default", &collection, &error));
    uint32_t again = make_collection(place, "default", "minilm");
    assert_true(again > c);
    put_one(place, again, "a", "other words", NULL);
    sweep(place, 4);
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(0, numbers.unswept);
    assert_int_equal(1, numbers.documents);
    assert_int_equal(11, numbers.text_bytes);
    assert_int_equal(0, read_space(place, space).documents);
    assert_int_equal(0, read_space(place, space).chunks);
    GOOD(moult_store_check(place->writer, &error));
}

static void names_collections(void **state) {
    struct place *place = *state;
    struct moult_collection *collections, collection;
    unsigned count;
    make_collection(place, "b", "minilm");
    make_collection(place, "a", "large");
    make_collection(place, "c", "minilm");
    GOOD(moult_store_collections(place->reader, NULL, &collections, &count, &error));
    assert_int_equal(3, count);
    assert_string_equal("a", collections[0].name);
    assert_string_equal("large", collections[0].slot);
    assert_string_equal("b", collections[1].name);
    assert_true(collections[1].created_at > 1600000000);
    free(collections);
    GOOD(moult_store_collections(place->reader, "minilm", &collections, &count, &error));
    assert_int_equal(2, count);
    assert_string_equal("b", collections[0].name);
    free(collections);
    GOOD(moult_store_begin(place->writer, &error));
    /* One that is there keeps its slot. */
    GOOD(moult_store_collection_make(place->writer, "a", "minilm", &collection, &error));
    assert_string_equal("large", collection.slot);
    const char *bad[] = {"", "a b", "a/b", "\xC3\xA9",
                         "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
        REFUSED(MOULT_ERROR_INVALID, "name",
                moult_store_collection_make(place->writer, bad[i], "minilm", &collection,
                                            &error));
    for (unsigned i = 3; i < MOULT_COLLECTIONS_MAX; i++) {
        char name[16];
        snprintf(name, sizeof name, "c%u", i);
        GOOD(moult_store_collection_make(place->writer, name, "minilm", &collection, &error));
    }
    REFUSED(MOULT_ERROR_LIMIT, "1024 collections",
            moult_store_collection_make(place->writer, "more", "minilm", &collection, &error));
    GOOD(moult_store_commit(place->writer, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(is_found_by_its_key),
        PLACE_TEST(has_room_for_so_many),
        PLACE_TEST(lists_those_of_a_slot),
        PLACE_TEST(gives_rows_once),
        PLACE_TEST(takes_rows_back_with_the_transaction),
        PLACE_TEST(loses_the_chunks_of_old_versions),
        PLACE_TEST(refuses_what_is_no_chunk),
        PLACE_TEST(drops_spaces),
        PLACE_TEST(drops_collections),
        PLACE_TEST(names_collections),
    };
    return cmocka_run_group_tests_name("spaces", tests, NULL, NULL);
}
