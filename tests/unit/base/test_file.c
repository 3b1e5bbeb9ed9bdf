#include "base/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* Each test works in a folder of its own, `folder_fd`. */
static char folder[64];
static int folder_fd;
static struct moult_error error;

static int make_folder(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/moult-test-file-XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    folder_fd = open(folder, O_RDONLY | O_DIRECTORY);
    return folder_fd < 0 ? -1 : 0;
}

static int remove_folder(void **state) {
    (void)state;
    close(folder_fd);
    return moult_folder_remove(AT_FDCWD, folder, &error);
}

static void put(const char *name, const char *text) {
    int fd = openat(folder_fd, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_true(fd >= 0);
    assert_int_equal(0, moult_write_exact(fd, text, strlen(text), name, &error));
    close(fd);
}

static void expect_text(const char *name, const char *expected) {
    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(0, moult_file_read(folder_fd, name, 1000, &bytes, &size, &error));
    assert_int_equal(strlen(expected), size);
    assert_string_equal(expected, bytes);
    free(bytes);
}

static bool is_there(const char *name) {
    struct stat status;
    return fstatat(folder_fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
}

static void reads_whole_files_within_a_limit(void **state) {
    (void)state;
    char *bytes = NULL;
    size_t size = 0;
    put("empty", "");
    put("ten", "0123456789");
    expect_text("empty", "");
    expect_text("ten", "0123456789");
    assert_int_equal(0, moult_file_read(folder_fd, "ten", 10, &bytes, &size, &error));
    free(bytes);
    bytes = NULL;
    assert_int_equal(-1, moult_file_read(folder_fd, "ten", 9, &bytes, &size, &error));
    assert_int_equal(MOULT_ERROR_LIMIT, error.code);
    assert_string_equal("ten has 10 bytes; at most 9 are read.", error.message);
    assert_null(bytes);
}

static void reads_regular_files_only(void **state) {
    (void)state;
    char *bytes = NULL;
    size_t size = 0;
    assert_int_equal(-1, moult_file_read(folder_fd, "absent", 9, &bytes, &size, &error));
    assert_int_equal(MOULT_ERROR_MISSING, error.code);
    assert_int_equal(-1, moult_file_read(folder_fd, ".", 9, &bytes, &size, &error));
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
    /* Nobody writes into this FIFO: the test would hang if the open waited. */
    assert_int_equal(0, mkfifoat(folder_fd, "fifo", 0600));
    assert_int_equal(-1, moult_file_read(folder_fd, "fifo", 9, &bytes, &size, &error));
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
}

static void exact_reads_say_what_is_missing(void **state) {
    (void)state;
    put("ten", "0123456789");
    int fd = openat(folder_fd, "ten", O_RDONLY);
    char bytes[8] = "";
    assert_int_equal(0, moult_read_exact(fd, bytes, 4, 6, "ten", &error));
    assert_string_equal("6789", bytes);
    assert_int_equal(-1, moult_read_exact(fd, bytes, 5, 6, "ten", &error));
    assert_string_equal("ten ends early, 1 bytes are missing.", error.message);
    assert_int_equal(-1, moult_write_exact(fd, "x", 1, "ten", &error));
    assert_int_equal(MOULT_ERROR_SYSTEM, error.code);
    close(fd);
}

/* Who has the old file open keeps the old bytes: it was not written into. */
static void replaces_as_one_step(void **state) {
    (void)state;
    put("state.json", "old");
    int old = openat(folder_fd, "state.json", O_RDONLY);
    put("state.json.new", "left behind by a crash, and longer");
    assert_int_equal(0, moult_file_replace(folder_fd, "state.json", "newer", 5, &error));
    expect_text("state.json", "newer");
    assert_false(is_there("state.json.new"));
    char bytes[4] = "";
    assert_int_equal(0, moult_read_exact(old, bytes, 3, 0, "old", &error));
    assert_string_equal("old", bytes);
    close(old);
}

static void a_failed_replacement_changes_nothing(void **state) {
    (void)state;
    assert_int_equal(0, mkdirat(folder_fd, "state.json", 0755));
    assert_int_equal(-1, moult_file_replace(folder_fd, "state.json", "new", 3, &error));
    assert_true(is_there("state.json"));
    assert_false(is_there("state.json.new"));
    put("victim", "precious");
    assert_int_equal(0, symlinkat("victim", folder_fd, "linked.new"));
    assert_int_equal(-1, moult_file_replace(folder_fd, "linked", "new", 3, &error));
    expect_text("victim", "precious");
    assert_int_equal(-1, moult_file_replace(folder_fd, "absent/name", "new", 3, &error));
    assert_int_equal(MOULT_ERROR_MISSING, error.code);
}

static void replaces_below_and_by_path(void **state) {
    (void)state;
    assert_int_equal(0, mkdirat(folder_fd, "deep", 0755));
    assert_int_equal(0, moult_file_replace(folder_fd, "deep/name", "1", 1, &error));
    expect_text("deep/name", "1");
    char path[128];
    snprintf(path, sizeof path, "%s/deep/name", folder);
    assert_int_equal(0, moult_file_replace(AT_FDCWD, path, "2", 1, &error));
    expect_text("deep/name", "2");
}

static void makes_folders_with_parents(void **state) {
    (void)state;
    char path[128];
    snprintf(path, sizeof path, "%s/a//b/c/", folder);
    assert_int_equal(0, moult_folder_make(path, &error));
    assert_int_equal(0, moult_folder_make(path, &error));
    assert_true(is_there("a/b/c"));
    put("a/file", "");
    snprintf(path, sizeof path, "%s/a/file/d", folder);
    assert_int_equal(-1, moult_folder_make(path, &error));
    assert_int_equal(MOULT_ERROR_INVALID, error.code);
}

static void removes_links_and_not_what_they_name(void **state) {
    (void)state;
    assert_int_equal(0, mkdirat(folder_fd, "outside", 0755));
    put("outside/precious", "kept");
    assert_int_equal(0, mkdirat(folder_fd, "doomed", 0755));
    assert_int_equal(0, mkdirat(folder_fd, "doomed/inner", 0755));
    put("doomed/inner/file", "gone");
    assert_int_equal(0, symlinkat("../outside", folder_fd, "doomed/link"));
    assert_int_equal(0, symlinkat("outside/precious", folder_fd, "doomed/inner/link"));
    assert_int_equal(0, symlinkat("outside", folder_fd, "link"));
    /* Installed revisions are read-only. */
    assert_int_equal(0, fchmodat(folder_fd, "doomed/inner", 0555, 0));
    assert_int_equal(0, moult_folder_remove(folder_fd, "doomed", &error));
    assert_false(is_there("doomed"));
    assert_int_equal(0, moult_folder_remove(folder_fd, "link", &error));
    assert_false(is_there("link"));
    expect_text("outside/precious", "kept");
    assert_int_equal(0, moult_folder_remove(folder_fd, "absent", &error));
}

static void does_not_follow_endless_depth(void **state) {
    (void)state;
    int fd = dup(folder_fd);
    for (unsigned depth = 0; depth < 70; depth++) {
        assert_int_equal(0, mkdirat(fd, "d", 0755));
        int next = openat(fd, "d", O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    close(fd);
    assert_int_equal(-1, moult_folder_remove(folder_fd, "d", &error));
    assert_int_equal(MOULT_ERROR_LIMIT, error.code);
    /* From further down it can be cleared. */
    assert_int_equal(0, moult_folder_remove(folder_fd, "d/d/d/d/d/d/d/d/d/d", &error));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(reads_whole_files_within_a_limit),
        TEST(reads_regular_files_only),
        TEST(exact_reads_say_what_is_missing),
        TEST(replaces_as_one_step),
        TEST(a_failed_replacement_changes_nothing),
        TEST(replaces_below_and_by_path),
        TEST(makes_folders_with_parents),
        TEST(removes_links_and_not_what_they_name),
        TEST(does_not_follow_endless_depth),
    };
    return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
