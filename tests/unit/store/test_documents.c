#include "helper.h"

#define ALL_PARTS (MOULT_DOCUMENT_TEXT | MOULT_DOCUMENT_METADATA)

static void expect_document(struct place *place, uint32_t collection, const char *id,
                            uint64_t seq, const char *text, const char *metadata) {
    struct moult_documents documents;
    GOOD(moult_store_get(place->reader, collection, &id, 1, ALL_PARTS, &documents, &error));
    assert_int_equal(1, documents.count);
    assert_int_equal(seq, documents.items[0].seq);
    if (seq != 0) {
        assert_string_equal(id, documents.items[0].id);
        assert_string_equal(text, documents.items[0].text);
        assert_int_equal(strlen(text), documents.items[0].text_size);
        assert_string_equal(metadata, documents.items[0].metadata);
        assert_int_equal(strlen(metadata), documents.items[0].metadata_size);
    }
    moult_documents_release(&documents);
}

static void keeps_what_is_put(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t a = put_one(place, c, "a", "A text.", NULL);
    uint64_t b = put_one(place, c, "b", "Another.", "{ \"n\": 1.0,  \"\\u00e9\": [] }");
    assert_true(a > 0 && b > a);
    expect_document(place, c, "a", a, "A text.", "{}");
    expect_document(place, c, "b", b, "Another.", "{ \"n\": 1.0,  \"\\u00e9\": [] }");
    expect_document(place, c, "c", 0, NULL, NULL);
    place_close(place);
    place_open(place);
    expect_document(place, c, "b", b, "Another.", "{ \"n\": 1.0,  \"\\u00e9\": [] }");
}

static void replaces_by_id_within_a_collection(void **state) {
    struct place *place = *state;
    struct moult_collection collection;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "minilm");
    uint64_t first = put_one(place, c, "a", "one", "{\"v\":1}");
    uint64_t elsewhere = put_one(place, d, "a", "elsewhere", NULL);
    uint64_t second = put_one(place, c, "a", "twice", "{\"v\":2}");
    assert_true(second > elsewhere && elsewhere > first);
    expect_document(place, c, "a", second, "twice", "{\"v\":2}");
    expect_document(place, d, "a", elsewhere, "elsewhere", "{}");
    GOOD(moult_store_collection(place->reader, "default", &collection, &error));
    assert_int_equal(1, collection.documents);
    assert_int_equal(5, collection.text_bytes);
}

/* An import that is sent again changes nothing, and nobody embeds anything again. */
static void knows_what_has_not_changed(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t seq = put_one(place, c, "a", "same", "{\"v\":1}");
    struct moult_put put = {.id = "a", .text = "same", .text_size = 4, .metadata = "{\"v\":1}",
                            .metadata_size = 7};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    assert_true(put.unchanged);
    assert_int_equal(seq, put.seq);
    put.metadata = "{\"v\":2}";
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    assert_false(put.unchanged);
    assert_true(put.seq > seq);
    put.text = "sAme";
    seq = put.seq;
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    assert_false(put.unchanged);
    assert_true(put.seq > seq);
    GOOD(moult_store_commit(place->writer, &error));
}

static void makes_ids(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_put puts[3] = {{.text = "x", .text_size = 1}, {.text = "y", .text_size = 1},
                                {.text = "z", .text_size = 1}};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, 3, &error));
    GOOD(moult_store_commit(place->writer, &error));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(26, strlen(puts[i].id));
    GOOD(moult_store_list(place->reader, c, NULL, 9, 1000, NULL, ALL_PARTS, &documents, &error));
    assert_int_equal(3, documents.count);
    assert_null(documents.cursor);
    for (unsigned i = 0; i < 3; i++) {
        assert_string_equal(puts[i].id, documents.items[i].id);
        assert_int_equal(puts[i].text[0], documents.items[i].text[0]);
    }
    moult_documents_release(&documents);
}

static void the_later_of_two_wins(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_put puts[2] = {{.id = "a", .text = "first", .text_size = 5},
                                {.id = "a", .text = "second", .text_size = 6}};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, 2, &error));
    GOOD(moult_store_commit(place->writer, &error));
    expect_document(place, c, "a", puts[1].seq, "second", "{}");
}

static void refuse(struct place *place, uint32_t collection, struct moult_put bad,
                   enum moult_error_code code, const char *part) {
    struct moult_put puts[2] = {{.id = "good", .text = "good", .text_size = 4}, bad};
    REFUSED(code, "documents[1]: ", moult_store_put(place->writer, collection, puts, 2, &error));
    REFUSED(code, part, moult_store_put(place->writer, collection, puts, 2, &error));
}

static void refuses_what_is_no_document(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    char *long_id = moult_allocate(514, 1), *large = moult_allocate(MOULT_MIB + 2, 1);
    memset(long_id, 'i', 513);
    memset(large, ' ', MOULT_MIB + 1);
    large[0] = '{';
    large[MOULT_DOCUMENT_METADATA_BYTES_MAX] = '}';
    GOOD(moult_store_begin(place->writer, &error));
    const struct moult_put good = {.id = "bad", .text = "t", .text_size = 1};
    struct moult_put bad = good;
    const char *ids[] = {"", long_id, "a\nb", "\x7F", "a\xC2\x85", "\xFF"};
    for (unsigned i = 0; i < sizeof ids / sizeof *ids; i++) {
        bad.id = ids[i];
        refuse(place, c, bad, MOULT_ERROR_INVALID, "the id must");
    }
    bad = good;
    bad.text_size = 0;
    refuse(place, c, bad, MOULT_ERROR_INVALID, "the text is empty");
    bad = (struct moult_put){.text = large, .text_size = MOULT_MIB + 1};
    refuse(place, c, bad, MOULT_ERROR_LIMIT, "1048577 bytes");
    bad = (struct moult_put){.text = "\xC3", .text_size = 1};
    refuse(place, c, bad, MOULT_ERROR_INVALID, "not valid UTF-8");
    const char *metadata[] = {"[]", "1", "{", "{\"a\":1,\"a\":2}", "", "{} {}", "{\"a\":\"\xFF\"}"};
    for (unsigned i = 0; i < sizeof metadata / sizeof *metadata; i++) {
        bad = good;
        bad.metadata = metadata[i];
        bad.metadata_size = strlen(metadata[i]);
        refuse(place, c, bad, MOULT_ERROR_INVALID, "a JSON object");
    }
    bad = good;
    bad.metadata = large;
    bad.metadata_size = MOULT_DOCUMENT_METADATA_BYTES_MAX + 1;
    refuse(place, c, bad, MOULT_ERROR_LIMIT, "metadata have");
    GOOD(moult_store_commit(place->writer, &error));
    expect_document(place, c, "good", 0, NULL, NULL);
    free(long_id);
    free(large);
}

static void keeps_the_largest(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    char *id = moult_allocate(513, 1), *text = moult_allocate(MOULT_MIB, 1);
    char *metadata = moult_allocate(MOULT_DOCUMENT_METADATA_BYTES_MAX, 1);
    memset(id, 'i', 512);
    memset(text, 't', MOULT_MIB);
    text[1000] = '\0';   /* JSON may have one in a string. */
    memset(metadata, ' ', MOULT_DOCUMENT_METADATA_BYTES_MAX);
    metadata[0] = '{';
    metadata[MOULT_DOCUMENT_METADATA_BYTES_MAX - 1] = '}';
    struct moult_put put = {.id = id, .text = text, .text_size = MOULT_MIB, .metadata = metadata,
                            .metadata_size = MOULT_DOCUMENT_METADATA_BYTES_MAX};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    assert_true(put.unchanged);
    GOOD(moult_store_commit(place->writer, &error));
    const char *wanted = id;
    GOOD(moult_store_get(place->reader, c, &wanted, 1, ALL_PARTS, &documents, &error));
    assert_int_equal(MOULT_MIB, documents.items[0].text_size);
    assert_memory_equal(text, documents.items[0].text, MOULT_MIB);
    assert_int_equal(MOULT_DOCUMENT_METADATA_BYTES_MAX, documents.items[0].metadata_size);
    assert_memory_equal(metadata, documents.items[0].metadata, MOULT_DOCUMENT_METADATA_BYTES_MAX);
    moult_documents_release(&documents);
    free(id);
    free(text);
    free(metadata);
}

static void deletes(void **state) {
    struct place *place = *state;
    bool existed[3];
    uint64_t seq = 0;
    struct moult_collection collection;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "one", NULL);
    uint64_t last = put_one(place, c, "b", "two", NULL);
    const char *ids[] = {"b", "nothing", "b"};
    GOOD(moult_store_begin(place->writer, &error));
    assert_int_equal(1, moult_store_delete(place->writer, c, ids, 3, existed, &seq, NULL));
    GOOD(moult_store_commit(place->writer, &error));
    assert_true(existed[0]);
    assert_false(existed[1]);
    assert_false(existed[2]);
    assert_int_equal(last + 1, seq);
    expect_document(place, c, "b", 0, NULL, NULL);
    GOOD(moult_store_collection(place->reader, "default", &collection, &error));
    assert_int_equal(1, collection.documents);
    assert_int_equal(3, collection.text_bytes);
}

static void copy_file(const char *from, const char *to) {
    char *bytes;
    size_t size;
    GOOD(moult_file_read(AT_FDCWD, from, MOULT_GIB, &bytes, &size, &error));
    GOOD(moult_file_replace(AT_FDCWD, to, bytes, size, &error));
    free(bytes);
}

/* Vectors may be there for what came after the backup was made. */
static void a_backup_gives_no_seq_again(void **state) {
    struct place *place = *state;
    char *backup = moult_format("%s.backup", place->path);
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "one", NULL);
    place_close(place);
    copy_file(place->path, backup);
    place_open(place);
    uint64_t last = put_one(place, c, "a", "two", NULL);
    place_close(place);
    copy_file(backup, place->path);
    place_open(place);
    assert_true(put_one(place, c, "a", "three", NULL) > last);
    assert_true(last < (uint64_t)1 << 53);
    free(backup);
}

/* Neither a delete nor a restart gives a seq back. */
static void never_gives_a_seq_twice(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t last = 0;
    for (unsigned i = 0; i < 5; i++) {
        uint64_t seq = put_one(place, c, "a", i % 2 ? "odd" : "even", NULL);
        assert_true(seq > last);
        assert_int_equal(1, delete_one(place, c, "a"));
        last = seq + 1;
        place_close(place);
        place_open(place);
    }
    struct moult_store_numbers numbers;
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(last, numbers.seq);
}

static void deletes_what_matches(void **state) {
    struct place *place = *state;
    uint64_t seq, last = 0;
    struct moult_collection collection;
    uint32_t c = make_collection(place, "default", "minilm");
    for (unsigned i = 0; i < 20; i++) {
        char id[8], metadata[32];
        snprintf(id, sizeof id, "%u", i);
        snprintf(metadata, sizeof metadata, "{\"n\":%u}", i);
        last = put_one(place, c, id, "text", metadata);
    }
    json_t *json = json_pack("{s:{s:i}}", "n", "$gte", 10);
    struct moult_filter *filter = moult_filter_parse(json, NULL);
    json_decref(json);
    assert_non_null(filter);
    GOOD(moult_store_begin(place->writer, &error));
    assert_int_equal(6, moult_store_delete_matching(place->writer, c, filter, 6, &seq, NULL));
    assert_int_equal(4, moult_store_delete_matching(place->writer, c, filter, 6, &seq, NULL));
    assert_int_equal(0, moult_store_delete_matching(place->writer, c, filter, 6, &seq, NULL));
    GOOD(moult_store_commit(place->writer, &error));
    assert_int_equal(last + 10, seq);
    GOOD(moult_store_collection(place->reader, "default", &collection, &error));
    assert_int_equal(10, collection.documents);
    moult_filter_free(filter);
}

static void lists_page_by_page(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t other = make_collection(place, "a", "minilm");
    const char *ids[] = {"0", "1/2", "A", "Z~?", "a", "\xC3\xA9", "\xF0\x9F\xA6\x8B"};
    for (unsigned i = 7; i-- > 0;) {
        put_one(place, c, ids[i], ids[i], NULL);
        put_one(place, other, ids[i], "other", NULL);
    }
    for (uint32_t size = 1; size < 9; size++) {
        char *cursor = NULL;
        unsigned seen = 0;
        do {
            struct moult_documents documents;
            GOOD(moult_store_list(place->reader, c, cursor, size, 1000000, NULL, ALL_PARTS,
                                  &documents, &error));
            for (uint32_t i = 0; i < documents.count; i++) {
                assert_string_equal(ids[seen], documents.items[i].id);
                assert_string_equal(ids[seen++], documents.items[i].text);
            }
            free(cursor);
            cursor = documents.cursor != NULL ? moult_copy_string(documents.cursor) : NULL;
            if (cursor != NULL) {
                assert_int_equal(size, documents.count);
                assert_int_equal(strlen(cursor), strspn(cursor, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                                        "abcdefghijklmnopqrstuvwxyz0123456789-_"));
            }
            moult_documents_release(&documents);
        } while (cursor != NULL);
        assert_int_equal(7, seen);
    }
}

static void ends_a_page_by_its_bytes(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    char text[1001];
    memset(text, 't', 1000);
    text[1000] = '\0';
    put_one(place, c, "a", text, NULL);
    put_one(place, c, "b", text, NULL);
    put_one(place, c, "c", text, NULL);
    GOOD(moult_store_list(place->reader, c, NULL, 10, 1500, NULL, ALL_PARTS, &documents, &error));
    assert_int_equal(2, documents.count);
    assert_non_null(documents.cursor);
    moult_documents_release(&documents);
    GOOD(moult_store_list(place->reader, c, NULL, 10, 1, NULL, 0, &documents, &error));
    assert_int_equal(1, documents.count);
    assert_null(documents.items[0].text);
    assert_null(documents.items[0].metadata);
    moult_documents_release(&documents);
}

static void refuses_a_foreign_cursor(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    const char *cursors[] = {"", "%", "AAAA", "Cg", "YQ==="};
    for (unsigned i = 0; i < sizeof cursors / sizeof *cursors; i++) {
        REFUSED(MOULT_ERROR_INVALID, "cursor",
                moult_store_list(place->reader, c, cursors[i], 1, 1, NULL, 0, &documents, &error));
        assert_null(documents.items);
    }
}

static void reads_hits_and_their_passages(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    uint64_t a = put_one(place, c, "a", "0123456789", "{\"x\":1}");
    uint64_t gone = put_one(place, c, "b", "old", NULL);
    uint64_t other = put_one(place, d, "c", "other", NULL);
    uint64_t b = put_one(place, c, "b", "new", NULL);
    cut_one(place, space, a, 10, 2);
    struct moult_hit_asked hits[] = {{a, 1}, {gone, 0}, {b, 0}, {other, 0}, {a, 7}};
    GOOD(moult_store_get_hits(place->reader, c, space, hits, 5,
                              MOULT_DOCUMENT_PASSAGE | MOULT_DOCUMENT_METADATA, &documents,
                              &error));
    assert_int_equal(5, documents.count);
    assert_int_equal(a, documents.items[0].seq);
    assert_string_equal("a", documents.items[0].id);
    assert_string_equal("56789", documents.items[0].passage);
    assert_string_equal("{\"x\":1}", documents.items[0].metadata);
    assert_null(documents.items[0].text);
    assert_int_equal(5, documents.items[0].chunk_begin);
    assert_int_equal(10, documents.items[0].chunk_end);
    assert_int_equal(0, documents.items[1].seq);
    assert_int_equal(b, documents.items[2].seq);
    assert_string_equal("", documents.items[2].passage);
    assert_int_equal(0, documents.items[3].seq);
    assert_int_equal(0, documents.items[4].passage_size);
    moult_documents_release(&documents);
    GOOD(moult_store_get_hits(place->reader, c, 0, hits, 1, MOULT_DOCUMENT_TEXT, &documents,
                              &error));
    assert_string_equal("0123456789", documents.items[0].text);
    moult_documents_release(&documents);
}

static void sees_its_own_transaction(void **state) {
    struct place *place = *state;
    struct moult_collection collection;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_put put = {.id = "a", .text = "text", .text_size = 4};
    const char *id = "a";
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, &put, 1, &error));
    GOOD(moult_store_collection(place->writer, "default", &collection, &error));
    assert_int_equal(1, collection.documents);
    GOOD(moult_store_get(place->writer, c, &id, 1, 0, &documents, &error));
    assert_int_equal(put.seq, documents.items[0].seq);
    moult_documents_release(&documents);
    GOOD(moult_store_get(place->reader, c, &id, 1, 0, &documents, &error));
    assert_int_equal(0, documents.items[0].seq);
    moult_documents_release(&documents);
    moult_store_rollback(place->writer);
    GOOD(moult_store_collection(place->writer, "default", &collection, &error));
    assert_int_equal(0, collection.documents);
    /* Nobody has seen it, so it may be given again. */
    assert_int_equal(put.seq, put_one(place, c, "b", "text", NULL));
}

/* A refusal is one request's; the others of its transaction are kept. */
static void a_refusal_breaks_nothing(void **state) {
    struct place *place = *state;
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_put good = {.id = "a", .text = "text", .text_size = 4};
    struct moult_put bad = {.id = "", .text = "text", .text_size = 4};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, &good, 1, &error));
    REFUSED(MOULT_ERROR_INVALID, "id", moult_store_put(place->writer, c, &bad, 1, &error));
    REFUSED(MOULT_ERROR_MISSING, "collection",
            moult_store_put(place->writer, c + 1, &good, 1, &error));
    GOOD(moult_store_commit(place->writer, &error));
    expect_document(place, c, "a", good.seq, "text", "{}");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(keeps_what_is_put),
        PLACE_TEST(replaces_by_id_within_a_collection),
        PLACE_TEST(knows_what_has_not_changed),
        PLACE_TEST(makes_ids),
        PLACE_TEST(the_later_of_two_wins),
        PLACE_TEST(refuses_what_is_no_document),
        PLACE_TEST(keeps_the_largest),
        PLACE_TEST(deletes),
        PLACE_TEST(never_gives_a_seq_twice),
        PLACE_TEST(a_backup_gives_no_seq_again),
        PLACE_TEST(deletes_what_matches),
        PLACE_TEST(lists_page_by_page),
        PLACE_TEST(ends_a_page_by_its_bytes),
        PLACE_TEST(refuses_a_foreign_cursor),
        PLACE_TEST(reads_hits_and_their_passages),
        PLACE_TEST(sees_its_own_transaction),
        PLACE_TEST(a_refusal_breaks_nothing),
    };
    return cmocka_run_group_tests_name("documents", tests, NULL, NULL);
}
