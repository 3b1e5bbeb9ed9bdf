/* Whatever happens to the disk or the process: what was acknowledged is there, and what was not
 * is there whole or not at all. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "disk.h"
#include "helper.h"

/* Step T of the work puts one document and deletes another, so that T alone says what must be
 * there. */
#define IDS 7u
#define TEXT_BYTES_MAX 9000u

struct work {
    struct moult_store *store;
    uint32_t collection, space;
    unsigned done;             /* The last step that was acknowledged. */
};

static char *text_of(unsigned step) {
    size_t size = 40 + step * 7919u % TEXT_BYTES_MAX;
    char *text = moult_allocate(size + 1, 1);
    memset(text, 'a' + (int)(step % 26), size);
    size_t head = (size_t)snprintf(text, size, "step %u of the work", step);
    text[head] = ' ';
    return text;
}

static void name_id(char id[16], unsigned number) {
    snprintf(id, 16, "document-%u", number);
}

/* The step whose text a document has after step T; 0: it is not there. */
static unsigned owner(unsigned number, unsigned t) {
    for (unsigned step = t; step > 0; step--) {
        if (step % IDS == number)
            return step;
        if ((step + 3) % IDS == number)
            return 0;
    }
    return 0;
}

static int prepare(struct work *work, struct moult_error *error) {
    struct moult_collection collection;
    struct moult_space space;
    struct moult_space_key key = space_key("minilm", 'a');
    if (moult_store_begin(work->store, error) != 0 ||
        moult_store_collection_make(work->store, "default", "minilm", &collection, error) != 0 ||
        moult_store_space_make(work->store, &key, &space, error) != 0)
        return -1;
    work->collection = collection.number;
    work->space = space.number;
    return moult_store_commit(work->store, error);
}

static int change(struct work *work, unsigned step, const char *text, struct moult_error *error) {
    char id[16], other[16], counter[16];
    const char *ids[] = {other};
    uint64_t seq;
    uint32_t row;
    name_id(id, step % IDS);
    name_id(other, (step + 3) % IDS);
    snprintf(counter, sizeof counter, "%u", step);
    struct moult_put puts[] = {{.id = id, .text = text, .text_size = strlen(text)},
                               {.id = "step", .text = counter, .text_size = strlen(counter)}};
    struct moult_chunk chunk = {0, (uint32_t)strlen(text), 0};
    if (moult_store_begin(work->store, error) != 0 ||
        moult_store_put(work->store, work->collection, puts, 2, error) != 0 ||
        moult_store_delete(work->store, work->collection, ids, 1, NULL, &seq, error) < 0 ||
        moult_store_rows_take(work->store, work->space, 1, &row, error) != 0)
        return -1;
    chunk.row = row;
    if (moult_store_cut(work->store, work->space, puts[0].seq, &chunk, 1, error) != 0)
        return -1;
    return moult_store_commit(work->store, error);
}

static int do_step(struct work *work, struct moult_error *error) {
    char *text = text_of(work->done + 1);
    int result = change(work, work->done + 1, text, error);
    free(text);
    if (result == 0)
        work->done++;
    else
        moult_store_rollback(work->store);
    return result;
}

static unsigned read_step(struct work *work) {
    struct moult_documents documents;
    const char *id = "step";
    unsigned step = 0;
    GOOD(moult_store_get(work->store, work->collection, &id, 1, MOULT_DOCUMENT_TEXT, &documents,
                         &error));
    if (documents.items[0].seq != 0)
        step = (unsigned)strtoul(documents.items[0].text, NULL, 10);
    moult_documents_release(&documents);
    return step;
}

/* All of what is there after step T, and nothing else. */
static void expect_state(struct work *work, unsigned t) {
    unsigned there = 0;
    struct moult_collection collection;
    for (unsigned number = 0; number < IDS; number++) {
        struct moult_documents documents;
        char id[16];
        const char *ids[] = {id};
        unsigned step = owner(number, t);
        name_id(id, number);
        GOOD(moult_store_get(work->store, work->collection, ids, 1, MOULT_DOCUMENT_TEXT,
                             &documents, &error));
        assert_int_equal(step != 0, documents.items[0].seq != 0);
        if (step != 0) {
            char *text = text_of(step);
            assert_string_equal(text, documents.items[0].text);
            free(text);
            there++;
        }
        moult_documents_release(&documents);
    }
    GOOD(moult_store_collection(work->store, "default", &collection, &error));
    assert_int_equal(there + (t > 0), collection.documents);
}

/* Opens the file and looks: between `least` and `most` steps were done, and each of them whole. */
static unsigned expect_whole(const char *path, unsigned least, unsigned most) {
    struct work work = {.store = open_store(path, MOULT_STORE_WRITE)};
    struct moult_collection collection;
    struct moult_error none = {0};
    unsigned step = 0;
    GOOD(moult_store_check(work.store, &error));
    if (moult_store_collection(work.store, "default", &collection, &none) == 0) {
        work.collection = collection.number;
        step = read_step(&work);
        expect_state(&work, step);
    }
    moult_store_close(work.store);
    if (step < least || step > most)
        fail_msg("step %u is there, not %u to %u", step, least, most);
    return step;
}

/* ---- Folders. */

struct folder {
    char name[64];
    char *path;                /* Of the file in it. */
};

static void make_folder(struct folder *folder) {
    snprintf(folder->name, sizeof folder->name, "%s", "/tmp/moult-store-XXXXXX");
    assert_non_null(mkdtemp(folder->name));
    folder->path = moult_format("%s/documents.db", folder->name);
}

static void remove_folder(struct folder *folder) {
    moult_folder_remove(AT_FDCWD, folder->name, NULL);
    free(folder->path);
}

static void copy_file(const char *from, const char *to) {
    static char buffer[65536];
    int in = open(from, O_RDONLY | O_CLOEXEC);
    unlink(to);
    if (in < 0) {
        assert_int_equal(ENOENT, errno);
        return;
    }
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(out >= 0);
    ssize_t got;
    while ((got = read(in, buffer, sizeof buffer)) > 0)
        assert_int_equal(got, write(out, buffer, (size_t)got));
    close(in);
    close(out);
}

static const char *const endings[] = {"", "-wal", "-journal", ".new", ".new-journal"};

static void copy_with_ending(const char *from, const char *to, const char *ending) {
    char *source = moult_format("%s%s", from, ending);
    char *target = moult_format("%s%s", to, ending);
    copy_file(source, target);
    free(source);
    free(target);
}

/* ---- One change of a file fails, each in turn. */

static struct {
    unsigned count, fail_at, fail_until;
    int code;
} failing;

static int fail_some(const struct disk_change *change) {
    if (change->kind == DISK_REMOVE)
        return SQLITE_OK;
    unsigned at = ++failing.count;
    if (at < failing.fail_at || at >= failing.fail_until)
        return SQLITE_OK;
    if (change->kind == DISK_SYNC)
        return SQLITE_IOERR_FSYNC;
    return failing.code;
}

static void expect_sentence(const struct moult_error *error, const char *path) {
    if (error->code != MOULT_ERROR_SYSTEM || strstr(error->message, path) == NULL)
        fail_msg("code %d: %s", (int)error->code, error->message);
}

/* Eight steps, a close and an open, four steps; each failure is told, and then tried again. */
static unsigned work_through(const char *path) {
    struct work work = {0};
    struct moult_error error = {0};
    unsigned failures = 0;
    for (unsigned round = 0; round < 2; round++) {
        while ((work.store = moult_store_open(path, MOULT_STORE_WRITE, &error)) == NULL) {
            expect_sentence(&error, path);
            failures++;
        }
        while (prepare(&work, &error) != 0) {
            expect_sentence(&error, path);
            moult_store_rollback(work.store);
            failures++;
        }
        assert_int_equal(work.done, read_step(&work));
        while (work.done < 8 + round * 4)
            if (do_step(&work, &error) != 0) {
                expect_sentence(&error, path);
                expect_state(&work, work.done);
                failures++;
            }
        expect_state(&work, work.done);
        moult_store_close(work.store);
    }
    return failures;
}

static void fail_each(int code, unsigned length) {
    unsigned failed_at_all = 0, changes = UINT32_MAX;
    for (unsigned at = 1; at <= changes; at += 1 + at / 200) {
        struct folder folder;
        make_folder(&folder);
        failing.count = 0;
        failing.fail_at = at;
        failing.fail_until = at + length;
        failing.code = code;
        disk.decide = fail_some;
        failed_at_all += work_through(folder.path) > 0;
        changes = failing.count;
        disk.decide = NULL;
        expect_whole(folder.path, 12, 12);
        remove_folder(&folder);
    }
    /* Some changes fail unheard: a checkpoint's, which is done again. */
    assert_true(changes > 100 && failed_at_all > 50);
}

static void survives_each_full_disk(void **state) {
    (void)state;
    fail_each(SQLITE_FULL, 1);
}

static void survives_each_broken_write(void **state) {
    (void)state;
    fail_each(SQLITE_IOERR_WRITE, 2);
}

/* A disk that stays full: writes fail, reads go on, and all is well when there is space again. */
static void works_again_when_there_is_space(void **state) {
    (void)state;
    struct folder folder;
    struct moult_error error = {0};
    make_folder(&folder);
    struct work work = {.store = open_store(folder.path, MOULT_STORE_WRITE)};
    struct work reader = {.store = open_store(folder.path, MOULT_STORE_READ)};
    assert_int_equal(0, prepare(&work, NULL));
    reader.collection = work.collection;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(0, do_step(&work, NULL));
    failing.fail_at = 0;
    failing.fail_until = UINT32_MAX;
    failing.code = SQLITE_FULL;
    disk.decide = fail_some;
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(-1, do_step(&work, &error));
        assert_int_equal(MOULT_ERROR_SYSTEM, error.code);
        assert_non_null(strstr(error.message, "no space left"));
        expect_state(&work, 5);
        expect_state(&reader, 5);
    }
    disk.decide = NULL;
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(0, do_step(&work, NULL));
    expect_state(&reader, 10);
    moult_store_close(reader.store);
    moult_store_close(work.store);
    expect_whole(folder.path, 10, 10);
    remove_folder(&folder);
}

/* ---- The process dies before a change of a file, each in turn, or in the middle of it. */

static struct {
    struct folder folder, copy;
    struct work work;
    bool created;
    unsigned count;
} dying;

static void tear(const struct disk_change *change) {
    char *path = moult_format("%s%s", dying.copy.path,
                              change->path + strlen(dying.folder.path));
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    size_t half = (size_t)change->size / 2;
    assert_int_equal(half, pwrite(fd, change->bytes, half, change->offset));
    close(fd);
    free(path);
}

static int die_here(const struct disk_change *change) {
    dying.count++;
    for (unsigned torn = 0; torn < (change->kind == DISK_WRITE ? 2u : 1u); torn++) {
        for (unsigned i = 0; i < sizeof endings / sizeof *endings; i++)
            copy_with_ending(dying.folder.path, dying.copy.path, endings[i]);
        if (torn)
            tear(change);
        disk.decide = NULL;
        expect_whole(dying.copy.path, dying.work.done, dying.work.done + 1);
        disk.decide = die_here;
    }
    return SQLITE_OK;
}

static void survives_each_death(void **state) {
    (void)state;
    make_folder(&dying.folder);
    make_folder(&dying.copy);
    disk.decide = die_here;
    dying.work = (struct work){.store = open_store(dying.folder.path, MOULT_STORE_WRITE)};
    assert_int_equal(0, prepare(&dying.work, NULL));
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(0, do_step(&dying.work, NULL));
    /* With its checkpoint. */
    moult_store_close(dying.work.store);
    disk.decide = NULL;
    assert_true(dying.count > 100);
    remove_folder(&dying.folder);
    remove_folder(&dying.copy);
}

/* ---- The power goes: what was written and not synced is lost. */

static struct {
    struct folder folder, synced;
} losing;

static int note_synced(const struct disk_change *change) {
    if (change->kind == DISK_SYNC)
        copy_with_ending(losing.folder.path, losing.synced.path,
                         change->path + strlen(losing.folder.path));
    return SQLITE_OK;
}

static void survives_the_loss_of_power(void **state) {
    (void)state;
    struct folder copy;
    make_folder(&losing.folder);
    make_folder(&losing.synced);
    make_folder(&copy);
    struct work work = {.store = open_store(losing.folder.path, MOULT_STORE_WRITE)};
    assert_int_equal(0, prepare(&work, NULL));
    moult_store_close(work.store);
    copy_with_ending(losing.folder.path, losing.synced.path, "");
    disk.decide = note_synced;
    work.store = open_store(losing.folder.path, MOULT_STORE_WRITE);
    for (unsigned i = 0; i < 40; i++) {
        assert_int_equal(0, do_step(&work, NULL));
        copy_with_ending(losing.synced.path, copy.path, "");
        copy_with_ending(losing.synced.path, copy.path, "-wal");
        disk.decide = NULL;
        expect_whole(copy.path, work.done, work.done);
        disk.decide = note_synced;
    }
    moult_store_close(work.store);
    disk.decide = NULL;
    remove_folder(&losing.folder);
    remove_folder(&losing.synced);
    remove_folder(&copy);
}

/* ---- kill -9, with the real disk. */

static _Noreturn void commit_for_ever(const char *path, unsigned done, int told) {
    struct moult_error error = {0};
    struct work work = {.store = moult_store_open(path, MOULT_STORE_WRITE, &error), .done = done};
    if (work.store == NULL || prepare(&work, &error) != 0)
        _exit(2);
    while (do_step(&work, &error) == 0)
        if (write(told, &work.done, sizeof work.done) != sizeof work.done)
            _exit(3);
    _exit(4);
}

/* What the child has said before it was killed at the `count`-th word. */
static unsigned kill_after(const char *path, unsigned done, unsigned count) {
    int ends[2], status;
    unsigned told = done, last = done;
    assert_int_equal(0, pipe(ends));
    pid_t child = fork();
    if (child == 0)
        commit_for_ever(path, done, ends[1]);
    assert_true(child > 0);
    close(ends[1]);
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(sizeof told, read(ends[0], &told, sizeof told));
        last = told;
    }
    kill(child, SIGKILL);
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFSIGNALED(status));
    while (read(ends[0], &told, sizeof told) == sizeof told)
        last = told;
    close(ends[0]);
    return last;
}

static void survives_kill_9(void **state) {
    (void)state;
    struct folder folder;
    make_folder(&folder);
    sqlite3_vfs_register(disk.real, 1);
    unsigned done = 0;
    for (unsigned round = 1; round <= 12; round++) {
        unsigned last = kill_after(folder.path, done, round % 5 + 1);
        done = expect_whole(folder.path, last, last + 1);
    }
    assert_true(done > 20);
    sqlite3_vfs_register(&disk.vfs, 1);
    remove_folder(&folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(survives_each_full_disk),
        cmocka_unit_test(survives_each_broken_write),
        cmocka_unit_test(works_again_when_there_is_space),
        cmocka_unit_test(survives_each_death),
        cmocka_unit_test(survives_the_loss_of_power),
        cmocka_unit_test(survives_kill_9),
    };
    disk_install();
    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
