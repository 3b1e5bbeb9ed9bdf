#include <errno.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "helper.h"

static void refuse(const char *path, enum moult_store_mode mode, enum moult_error_code code,
                   const char *part) {
    struct moult_error error = {0};
    struct moult_store *store = moult_store_open(path, mode, &error);
    if (store != NULL)
        fail_msg("%s was opened", path);
    if (error.code != code || strstr(error.message, part) == NULL ||
        strstr(error.message, path) == NULL)
        fail_msg("code %d: %s", (int)error.code, error.message);
}

static void write_file(const char *path, const void *bytes, size_t size) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(size, write(fd, bytes, size));
    close(fd);
}

static void run_sql(const char *path, const char *sql) {
    sqlite3 *db;
    assert_int_equal(SQLITE_OK, sqlite3_open(path, &db));
    assert_int_equal(SQLITE_OK, sqlite3_exec(db, sql, NULL, NULL, NULL));
    sqlite3_close(db);
}

static void remove_file(const char *path, const char *ending) {
    char *name = moult_format("%s%s", path, ending);
    unlink(name);
    free(name);
}

static void opens_what_it_made(void **state) {
    struct place *place = *state;
    struct stat status;
    char *leftover = moult_format("%s.new", place->path);
    assert_int_equal(0, stat(place->path, &status));
    assert_int_equal(-1, stat(leftover, &status));
    place_close(place);
    place_open(place);
    GOOD(moult_store_check(place->writer, &error));
    GOOD(moult_store_check(place->reader, &error));
    free(leftover);
}

/* Half of a file that was being made when the machine went down is no file. */
static void makes_it_anew_after_a_crash(void **state) {
    struct place *place = *state;
    char *leftover = moult_format("%s.new", place->path);
    place_close(place);
    remove_file(place->path, "");
    write_file(leftover, "half", 4);
    place_open(place);
    assert_int_equal(-1, access(leftover, F_OK));
    free(leftover);
}

static void a_reader_makes_nothing(void **state) {
    struct place *place = *state;
    place_close(place);
    remove_file(place->path, "");
    refuse(place->path, MOULT_STORE_READ, MOULT_ERROR_MISSING, "not there");
    assert_int_equal(-1, access(place->path, F_OK));
}

static void refuses_what_is_none_of_ours(void **state) {
    struct place *place = *state;
    char text[4096];
    memset(text, 'x', sizeof text);
    place_close(place);
    write_file(place->path, text, sizeof text);
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "not a database");
    write_file(place->path, NULL, 0);
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "it is empty");
    remove_file(place->path, "");
    run_sql(place->path, "CREATE TABLE somebody (elses); PRAGMA application_id = 7");
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_INVALID, "another program");
    remove_file(place->path, "");
    assert_int_equal(0, mkdir(place->path, 0700));
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_INVALID, "regular file");
    rmdir(place->path);
}

static void refuses_a_newer_one(void **state) {
    struct place *place = *state;
    place_close(place);
    run_sql(place->path, "PRAGMA user_version = 999");
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_INVALID, "newer moult");
    refuse(place->path, MOULT_STORE_READ, MOULT_ERROR_INVALID, "999");
    run_sql(place->path, "PRAGMA user_version = 1");
    place_open(place);
}

/* All that was stored may be in the log alone. */
static void does_not_overwrite_a_log(void **state) {
    struct place *place = *state;
    char *log = moult_format("%s-wal", place->path);
    place_close(place);
    remove_file(place->path, "");
    write_file(log, "a log", 5);
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "-wal is");
    free(log);
    remove_file(place->path, "-wal");
    place_open(place);
}

static uint32_t fill(struct place *place) {
    uint32_t c = make_collection(place, "default", "minilm");
    struct moult_put *puts = moult_allocate(3000, sizeof *puts);
    for (unsigned i = 0; i < 3000; i++)
        puts[i] = (struct moult_put){.text = "some words that fill the pages of the file",
                                     .text_size = 42};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, 3000, &error));
    GOOD(moult_store_commit(place->writer, &error));
    free(puts);
    return c;
}

static void refuses_a_cut_off_one(void **state) {
    struct place *place = *state;
    fill(place);
    place_close(place);
    assert_int_equal(0, truncate(place->path, 40960));
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "is damaged");
    assert_int_equal(0, truncate(place->path, 50));
    refuse(place->path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "is damaged");
}

/* Uses the store in every way; each call does what it is to do or fails with a sentence. */
static unsigned use_all(const char *path, uint32_t c) {
    struct moult_error error = {0};
    struct moult_documents documents = {0};
    struct moult_changes changes = {0};
    struct moult_word_hit hits[4];
    uint64_t behind, seq;
    unsigned failures = 0;
    struct moult_store *store = moult_store_open(path, MOULT_STORE_WRITE, &error);
    if (store == NULL) {
        assert_true(error.message[0] != '\0');
        return 1;
    }
    failures += moult_store_list(store, c, NULL, 5000, MOULT_MIB, NULL, MOULT_DOCUMENT_TEXT,
                                 &documents, &error) < 0;
    moult_documents_release(&documents);
    failures += moult_store_changes(store, "minilm", 1, 0, 5000, MOULT_MIB, &changes, &error) < 0;
    moult_changes_release(&changes);
    failures += moult_store_find_words(store, c, "pages", 5, NULL, 4, hits, &error) < 0;
    failures += moult_store_behind(store, "minilm", 0, &behind, &error) < 0;
    if (moult_store_begin(store, &error) == 0) {
        struct moult_put put = {.text = "new", .text_size = 3};
        int result = moult_store_put(store, c, &put, 1, &error);
        if (result == 0)
            result = moult_store_delete_matching(store, c, NULL, 100, &seq, &error) < 0 ? -1 : 0;
        if (result == 0)
            result = moult_store_commit(store, &error);
        moult_store_rollback(store);
        failures += result != 0;
    } else {
        failures++;
    }
    failures += moult_store_check(store, &error) < 0;
    if (failures > 0 && error.code != MOULT_ERROR_SYSTEM && error.code != MOULT_ERROR_MISSING)
        fail_msg("code %d: %s", (int)error.code, error.message);
    moult_store_close(store);
    return failures;
}

static void read_whole(const char *path, char **bytes, size_t *size) {
    GOOD(moult_file_read(AT_FDCWD, path, MOULT_GIB, bytes, size, &error));
}

/* Each page in turn is overwritten: with nothing, or with noise here and there. */
static void survives_damaged_pages(void **state) {
    struct place *place = *state;
    char *whole;
    size_t size;
    unsigned seed = 1, noticed = 0, pages;
    uint32_t c = fill(place);
    place_close(place);
    read_whole(place->path, &whole, &size);
    pages = (unsigned)(size / 4096);
    for (unsigned round = 0; round < 2 * pages; round++) {
        char *bytes = moult_copy_bytes(whole, size);
        char *page = bytes + round / 2 * 4096;
        if (round % 2 == 0)
            memset(page, 0, 4096);
        for (unsigned i = 0; round % 2 == 1 && i < 40; i++) {
            seed = seed * 1103515245 + 12345;
            page[seed >> 8 & 4095] = (char)(seed >> 24);
        }
        remove_file(place->path, "-wal");
        remove_file(place->path, "-shm");
        write_file(place->path, bytes, size);
        noticed += use_all(place->path, c) > 0;
        free(bytes);
    }
    free(whole);
    /* A text that reads otherwise is nothing that SQLite can see. */
    assert_true(noticed > pages);
    unlink(place->path);
}

/* Nobody but root may write everywhere, so root's tests become somebody else. */
static int open_as_nobody(const char *path) {
    struct moult_error error = {0};
    pid_t child = fork();
    if (child == 0) {
        if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0)
            _exit(9);
        struct moult_store *store = moult_store_open(path, MOULT_STORE_WRITE, &error);
        _exit(store != NULL                                ? 1
              : error.code != MOULT_ERROR_SYSTEM           ? 2
              : strstr(error.message, path) == NULL        ? 3
                                                           : 0);
    }
    int status;
    assert_int_equal(child, waitpid(child, &status, 0));
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void says_that_it_may_not_write(void **state) {
    struct place *place = *state;
    place_close(place);
    assert_int_equal(0, chmod(place->path, 0444));
    assert_int_equal(0, chmod(place->folder, 0555));
    assert_int_equal(0, open_as_nobody(place->path));
    assert_int_equal(0, chmod(place->path, 0000));
    assert_int_equal(0, open_as_nobody(place->path));
    assert_int_equal(0, chmod(place->folder, 0755));
    unlink(place->path);
    assert_int_equal(0, chmod(place->folder, 0555));
    assert_int_equal(0, open_as_nobody(place->path));
    assert_int_equal(0, chmod(place->folder, 0755));
}

static void says_that_a_folder_is_not_there(void **state) {
    struct place *place = *state;
    char *path = moult_format("%s/nowhere/documents.db", place->folder);
    refuse(path, MOULT_STORE_WRITE, MOULT_ERROR_SYSTEM, "No such file");
    free(path);
}

/* While a program is upgraded, two processes have the file open. */
static void two_writers_take_turns(void **state) {
    struct place *place = *state;
    struct moult_collection collection;
    struct moult_store *other = open_store(place->path, MOULT_STORE_WRITE);
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t first = put_one(place, c, "a", "text", NULL);
    struct moult_put put = {.id = "b", .text = "text", .text_size = 4};
    GOOD(moult_store_begin(other, &error));
    GOOD(moult_store_put(other, c, &put, 1, &error));
    /* One that reads is not held up. */
    GOOD(moult_store_collection(place->reader, "default", &collection, &error));
    assert_int_equal(1, collection.documents);
    GOOD(moult_store_commit(other, &error));
    assert_true(put.seq > first);
    assert_int_equal(put.seq + 1, put_one(place, c, "c", "text", NULL));
    GOOD(moult_store_collection(place->reader, "default", &collection, &error));
    assert_int_equal(3, collection.documents);
    moult_store_close(other);
}

static void says_how_much_there_is(void **state) {
    struct place *place = *state;
    struct moult_store_numbers numbers;
    fill(place);
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(3000, numbers.documents);
    assert_int_equal(3000 * 42, numbers.text_bytes);
    assert_true(numbers.seq > 3000);
    assert_int_equal(0, numbers.chunks);
    assert_true(numbers.disk_bytes > 3000 * 42);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(opens_what_it_made),
        PLACE_TEST(makes_it_anew_after_a_crash),
        PLACE_TEST(a_reader_makes_nothing),
        PLACE_TEST(refuses_what_is_none_of_ours),
        PLACE_TEST(refuses_a_newer_one),
        PLACE_TEST(does_not_overwrite_a_log),
        PLACE_TEST(refuses_a_cut_off_one),
        PLACE_TEST(survives_damaged_pages),
        PLACE_TEST(says_that_it_may_not_write),
        PLACE_TEST(says_that_a_folder_is_not_there),
        PLACE_TEST(two_writers_take_turns),
        PLACE_TEST(says_how_much_there_is),
    };
    return cmocka_run_group_tests_name("open", tests, NULL, NULL);
}
