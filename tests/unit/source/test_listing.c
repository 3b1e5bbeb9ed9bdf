/* What hubs and model servers say, and names of sources. What goes over the wire is tested in
 * tests/source. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "source/listing.h"
#include "source/remote.h"
#include "source/source.h"
#include "source/transfer.h"

#define SHA256_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define SHA1_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void git_names_of_blobs(void **unused) {
    /* As `printf hello | git hash-object --stdin` has it. */
    char hex[MOULT_SHA1_HEX];
    (void)unused;
    struct moult_git_blob *blob = moult_git_blob_open(5);
    moult_git_blob_add(blob, "hel", 3);
    moult_git_blob_add(blob, "lo", 2);
    moult_git_blob_close(blob, hex);
    assert_string_equal(hex, "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
    moult_git_blob_close(moult_git_blob_open(0), hex);
    assert_string_equal(hex, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
}

static void trees_in_pages(void **unused) {
    static const char first[] = "[{\"type\":\"directory\",\"path\":\"../x\"},"
                                "{\"type\":\"file\",\"path\":\"z.json\",\"size\":7,"
                                "\"oid\":\"" SHA1_B "\"}]";
    static const char second[] = "[{\"type\":\"file\",\"path\":\"a/model.safetensors\",\"size\":9,"
                                 "\"oid\":\"" SHA1_B "\",\"lfs\":{\"oid\":\"" SHA256_A "\"}}]";
    struct moult_listing listing = {.count = 0};
    struct moult_error error;
    (void)unused;
    assert_int_equal(moult_listing_add_tree(&listing, first, strlen(first), &error), 0);
    assert_int_equal(moult_listing_add_tree(&listing, second, strlen(second), &error), 0);
    assert_int_equal(moult_listing_sort(&listing, &error), 0);
    assert_int_equal(listing.count, 2);
    const struct moult_listed_file *weights = moult_listing_find(&listing, "a/model.safetensors");
    assert_string_equal(weights->sha256, SHA256_A);
    assert_string_equal(weights->blob, "");
    assert_int_equal(weights->size, 9);
    const struct moult_listed_file *plain = moult_listing_find(&listing, "z.json");
    assert_string_equal(plain->sha256, "");
    assert_string_equal(plain->blob, SHA1_B);
    assert_null(moult_listing_find(&listing, "z"));
    /* The same page once more: a path would stand for two files. */
    assert_int_equal(moult_listing_add_tree(&listing, first, strlen(first), &error), 0);
    assert_int_equal(moult_listing_sort(&listing, &error), -1);
    assert_non_null(strstr(error.message, "z.json"));
    moult_listing_release(&listing);
}

static void manifests_are_read_as_they_are_written(void **unused) {
    struct moult_source_list *list = moult_allocate(1, sizeof *list);
    struct moult_listing listing = {.count = 0};
    struct moult_error error;
    size_t size;
    (void)unused;
    list->count = 2;
    list->files[0] = (struct moult_source_file){.path = moult_copy_string("config.json"),
                                                .status.st_size = 3};
    list->files[1] = (struct moult_source_file){.path = moult_copy_string("m \"\xc3\xa4\""),
                                                .status.st_size = 5000000000};
    memcpy(list->files[0].sha256, SHA256_A, sizeof SHA256_A);
    memcpy(list->files[1].sha256, SHA256_A, sizeof SHA256_A);
    char *bytes = moult_manifest_format(list, "7 \"\n", &size);
    assert_int_equal(moult_listing_add_manifest(&listing, bytes, size, &error), 0);
    assert_int_equal(listing.count, 2);
    assert_int_equal(listing.files[1].size, 5000000000);
    assert_string_equal(listing.files[1].path, list->files[1].path);
    assert_string_equal(listing.files[1].sha256, SHA256_A);
    moult_listing_release(&listing);
    moult_source_list_release(list);
    free(bytes);
    free(list);
}

static void commits(void **unused) {
    static const char *const wrong[] = {"", "[]", "{}", "{\"sha\":\"main\"}", "{\"sha\":7}",
                                        "{\"sha\":\"" SHA1_B "b\"}"};
    char commit[MOULT_SHA1_HEX];
    struct moult_error error;
    (void)unused;
    static const char right[] = "{\"sha\":\"" SHA1_B "\"}";
    assert_int_equal(moult_hub_commit_parse(right, strlen(right), commit, &error), 0);
    assert_string_equal(commit, SHA1_B);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(moult_hub_commit_parse(wrong[i], strlen(wrong[i]), commit, &error), -1);
}

static void check_name(const char *source, const char *name) {
    char *got = moult_source_last_name(source);
    assert_string_equal(got, name);
    free(got);
}

static void names_of_sources(void **unused) {
    static const char *const wrong[] = {
        "name", "a/", "a/b/c", "a/b@", "a/..", ".a/b", "a b/c", "a/b@x/../y", "a/b@x y",
        "http://", "http:///x", "https://u@h/x", "https://h/x?y", "https://h/x#y", "http://h/x y"};
    (void)unused;
    assert_int_equal(moult_source_kind_of("/a/b"), MOULT_SOURCE_FOLDER);
    assert_int_equal(moult_source_kind_of("a/b"), MOULT_SOURCE_HUB);
    assert_int_equal(moult_source_kind_of("https://a/b"), MOULT_SOURCE_WEB);
    check_name("org/name", "name");
    check_name("org/name@refs/pr/7", "name");
    check_name("https://host/models/minilm/", "minilm");
    check_name("https://host:80", "");
    check_name("/models/minilm", "minilm");
    assert_int_equal(moult_source_check("org/na.me-1@refs/pr/7", NULL), 0);
    assert_int_equal(moult_source_check("http://[::1]:80/a%20b", NULL), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        if (moult_source_check(wrong[i], NULL) == 0)
            fail_msg("%s passed", wrong[i]);
}

static void origins(void **unused) {
    (void)unused;
    assert_true(moult_transfer_same_origin("https://h", "https://h/x"));
    assert_true(moult_transfer_same_origin("https://h/path", "https://h/other"));
    assert_true(moult_transfer_same_origin("https://h:1/", "https://h:1?x"));
    assert_false(moult_transfer_same_origin("https://h", "https://h.evil/x"));
    assert_false(moult_transfer_same_origin("https://h", "https://h:81/x"));
    assert_false(moult_transfer_same_origin("https://h", "https://h@evil/x"));
    assert_false(moult_transfer_same_origin("https://h", "http://h/x"));
    assert_false(moult_transfer_same_origin("https://h", "/x"));
}

static void escapes(void **unused) {
    (void)unused;
    char *escaped = moult_remote_escape("a/b c?\xc3\xa4%.json");
    assert_string_equal(escaped, "a/b%20c%3F%C3%A4%25.json");
    free(escaped);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(git_names_of_blobs),
        cmocka_unit_test(trees_in_pages),
        cmocka_unit_test(manifests_are_read_as_they_are_written),
        cmocka_unit_test(commits),
        cmocka_unit_test(names_of_sources),
        cmocka_unit_test(origins),
        cmocka_unit_test(escapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
