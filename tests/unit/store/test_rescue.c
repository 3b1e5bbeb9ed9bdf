#include <sys/stat.h>

#include "helper.h"

#define DOCUMENTS 2000u
#define PAGE 4096u

static void write_texts(unsigned number, char id[24], char text[200], char metadata[64]) {
    snprintf(id, 24, "document %u", number);
    snprintf(text, 200, "The text of document %u, and it goes on for a while, as texts do, until "
             "it ends with the number %u.", number, number * 7919);
    snprintf(metadata, 64, "{\"number\":%u,\"half\":%u.5}", number, number / 2);
}

static void fill(struct place *place) {
    uint32_t collections[] = {make_collection(place, "default", "minilm"),
                              make_collection(place, "other", "large"),
                              make_collection(place, "dropped", "large")};
    uint32_t space = make_space(place, "minilm", 'a');
    uint64_t seq;
    GOOD(moult_store_begin(place->writer, &error));
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        char id[24], text[200], metadata[64];
        uint32_t row;
        write_texts(i, id, text, metadata);
        struct moult_put put = {.id = id, .text = text, .text_size = strlen(text),
                                .metadata = metadata, .metadata_size = strlen(metadata)};
        GOOD(moult_store_put(place->writer, collections[i % 2], &put, 1, &error));
        GOOD(moult_store_rows_take(place->writer, space, 1, &row, &error));
        if (i % 2 == 0)
            GOOD(moult_store_cut(place->writer, space, put.seq,
                                 &(struct moult_chunk){0, 10, row}, 1, &error));
    }
    GOOD(moult_store_commit(place->writer, &error));
    put_one(place, collections[2], "x", "dropped and not swept", NULL);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_collection_drop(place->writer, "dropped", &seq, &error));
    GOOD(moult_store_commit(place->writer, &error));
    place_close(place);
}

/* What is there is what was put, or has lost its metadata. Returns how many there are. */
static uint64_t expect_originals(struct moult_store *store, const struct moult_rescue *rescue) {
    uint64_t there = 0, bare = 0;
    GOOD(moult_store_check(store, &error));
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        char id[24], text[200], metadata[64];
        const char *ids[] = {id};
        struct moult_documents documents;
        struct moult_collection collection;
        write_texts(i, id, text, metadata);
        GOOD(moult_store_collection(store, i % 2 ? "other" : "default", &collection, &error));
        assert_string_equal(i % 2 ? "large" : "minilm", collection.slot);
        GOOD(moult_store_get(store, collection.number, ids, 1,
                             MOULT_DOCUMENT_TEXT | MOULT_DOCUMENT_METADATA, &documents, &error));
        if (documents.items[0].seq != 0) {
            assert_string_equal(text, documents.items[0].text);
            there++;
            bare += strcmp(metadata, documents.items[0].metadata) != 0;
            if (strcmp(metadata, documents.items[0].metadata) != 0)
                assert_string_equal("{}", documents.items[0].metadata);
        }
        moult_documents_release(&documents);
    }
    assert_int_equal(rescue->documents, there);
    assert_int_equal(rescue->bare, bare);
    return there;
}

static uint64_t rescue_into(struct place *place, const char *to) {
    struct moult_rescue rescue;
    GOOD(moult_store_rescue(place->path, to, NULL, &rescue, &error));
    struct moult_store *store = open_store(to, MOULT_STORE_WRITE);
    uint64_t there = expect_originals(store, &rescue);
    assert_int_equal(DOCUMENTS, rescue.expected);
    moult_store_close(store);
    unlink(to);
    return there;
}

static void saves_all_of_a_whole_one(void **state) {
    struct place *place = *state;
    struct moult_rescue rescue;
    fill(place);
    char *to = moult_format("%s/new.db", place->folder);
    assert_int_equal(DOCUMENTS, rescue_into(place, to));
    int fd = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    close(fd);
    REFUSED(MOULT_ERROR_INVALID, "there already",
            moult_store_rescue(place->path, to, NULL, &rescue, &error));
    free(to);
}

/* One page costs no more than what lies in it. */
static void loses_one_page(void **state) {
    struct place *place = *state;
    struct moult_error refused;
    struct moult_rescue rescue;
    char *whole, *to = moult_format("%s/new.db", place->folder);
    size_t size;
    unsigned unreadable = 0, full = 0;
    uint64_t least = DOCUMENTS;
    fill(place);
    GOOD(moult_file_read(AT_FDCWD, place->path, MOULT_GIB, &whole, &size, &error));
    unsigned pages = (unsigned)(size / PAGE);
    for (unsigned page = 0; page < pages; page += 1 + page / 20) {
        char *bytes = moult_copy_bytes(whole, size);
        memset(bytes + page * PAGE, 0xA5, PAGE);
        GOOD(moult_file_replace(AT_FDCWD, place->path, bytes, size, &error));
        free(bytes);
        if (moult_store_rescue(place->path, to, NULL, &rescue, &refused) != 0) {
            /* The schema itself; it has a few pages, the first. */
            assert_non_null(strstr(refused.message, "Nothing can be read"));
            unreadable++;
            continue;
        }
        struct moult_store *store = open_store(to, MOULT_STORE_WRITE);
        struct moult_collection collection;
        /* Where the names are lost, the documents have others; what they are is seen elsewhere. */
        if (moult_store_collection(store, "default", &collection, NULL) == 0 &&
            moult_store_collection(store, "other", &collection, NULL) == 0) {
            uint64_t there = expect_originals(store, &rescue);
            full += there == DOCUMENTS;
            /* A page in the middle of a tree has up to some hundred below it. */
            if (there < least && page > pages / 4)
                least = there;
        } else {
            /* That one was dropped is lost with its name. */
            assert_int_equal(DOCUMENTS + 1, rescue.documents);
        }
        moult_store_close(store);
        unlink(to);
    }
    assert_true(unreadable <= 4);
    assert_true(full > 10);
    assert_true(least > DOCUMENTS - 60);
    free(whole);
    free(to);
}

static void saves_half_of_a_half(void **state) {
    struct place *place = *state;
    struct stat status;
    char *to = moult_format("%s/new.db", place->folder);
    fill(place);
    assert_int_equal(0, stat(place->path, &status));
    assert_int_equal(0, truncate(place->path, status.st_size / 2 / PAGE * PAGE));
    assert_true(rescue_into(place, to) > DOCUMENTS / 8);
    free(to);
}

static void says_when_there_is_nothing(void **state) {
    struct place *place = *state;
    struct moult_rescue rescue;
    char *to = moult_format("%s/new.db", place->folder);
    place_close(place);
    GOOD(moult_file_replace(AT_FDCWD, place->path, "no database", 11, &error));
    REFUSED(MOULT_ERROR_SYSTEM, "Nothing can be read",
            moult_store_rescue(place->path, to, NULL, &rescue, &error));
    assert_int_equal(-1, access(to, F_OK));
    free(to);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(saves_all_of_a_whole_one),
        PLACE_TEST(loses_one_page),
        PLACE_TEST(saves_half_of_a_half),
        PLACE_TEST(says_when_there_is_nothing),
    };
    return cmocka_run_group_tests_name("rescue", tests, NULL, NULL);
}
