/* Installing from folders that are good, bad, and written into meanwhile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "source/installed.h"
#include "source/source.h"

struct places {
    char root[64];
    char *model, *data, *models;
};

static void put(const char *folder, const char *name, const char *text) {
    char *path = moult_format("%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

static void drop(const char *folder, const char *name) {
    char *path = moult_format("%s/%s", folder, name);
    assert_int_equal(unlink(path), 0);
    free(path);
}

static void put_model(const char *folder) {
    char *pooling = moult_format("%s/1_Pooling", folder);
    assert_int_equal(moult_folder_make(pooling, NULL), 0);
    put(folder, "config.json", "{\"model_type\":\"bert\"}");
    put(folder, "modules.json",
        "[{\"idx\":0,\"path\":\"\"},{\"idx\":1,\"path\":\"1_Pooling\"}]");
    put(folder, "model.safetensors", "weights");
    put(folder, "tokenizer.json", "{}");
    put(folder, "README.md", "Not needed.");
    put(pooling, "config.json", "{\"pooling_mode_mean_tokens\":true}");
    free(pooling);
}

static int set_up(void **state) {
    struct places *places = moult_allocate(1, sizeof *places);
    snprintf(places->root, sizeof places->root, "/tmp/moult-install-XXXXXX");
    assert_non_null(mkdtemp(places->root));
    places->model = moult_format("%s/model", places->root);
    places->data = moult_format("%s/data", places->root);
    places->models = moult_format("%s/models", places->data);
    put_model((moult_folder_make(places->model, NULL), places->model));
    *state = places;
    return 0;
}

static int tear_down(void **state) {
    struct places *places = *state;
    assert_int_equal(moult_folder_remove(AT_FDCWD, places->root, NULL), 0);
    free(places->model);
    free(places->data);
    free(places->models);
    free(places);
    return 0;
}

static unsigned count_entries(const char *path) {
    unsigned count = 0;
    DIR *folder = opendir(path);
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (folder != NULL)
        closedir(folder);
    return count;
}

static bool exists(const char *folder, const char *revision, const char *name) {
    char *path = moult_format("%s/%s/%s", folder, revision, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

static void install(struct places *places, struct moult_installed *installed) {
    struct moult_error error;
    if (moult_install_from_folder(places->model, places->data, NULL, installed, &error) != 0)
        fail_msg("%s", error.message);
}

/* Refused, with `part` in the reason, and nothing left behind. */
static void refuse(struct places *places, enum moult_error_code code, const char *part) {
    struct moult_installed installed;
    struct moult_error error = {0};
    unsigned before = count_entries(places->models);
    assert_int_equal(
        moult_install_from_folder(places->model, places->data, NULL, &installed, &error), -1);
    if (strstr(error.message, part) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.message, part);
    assert_int_equal(error.message[strlen(error.message) - 1], '.');
    assert_int_equal(error.code, code);
    assert_int_equal(count_entries(places->models), before);
}

static void a_real_folder_is_reached_by_no_link(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    struct moult_error error;
    char *link = moult_format("%s-link", places->model);
    char *below = moult_format("%s/1_Pooling/..", link);
    assert_int_equal(symlink(places->model, link), 0);
    install(places, &installed);
    assert_int_equal(moult_install_from_real_folder(places->model, places->data, NULL, &installed,
                                                    &error), 0);
    assert_int_equal(
        moult_install_from_real_folder(link, places->data, NULL, &installed, &error), -1);
    assert_non_null(strstr(error.message, link));
    assert_int_equal(
        moult_install_from_real_folder(below, places->data, NULL, &installed, &error), -1);
    assert_int_equal(unlink(link), 0);
    free(link);
    free(below);
}

static void installs_what_a_model_needs(void **state) {
    struct places *places = *state;
    struct moult_installed installed, again;
    install(places, &installed);
    assert_false(installed.was_there);
    assert_true(exists(places->models, installed.revision, "1_Pooling/config.json"));
    assert_true(exists(places->models, installed.revision, MOULT_REVISION_FILE));
    assert_false(exists(places->models, installed.revision, "README.md"));
    assert_int_equal(count_entries(places->models), 1);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, NULL), 0);
    put(places->model, "README.md", "Changed, and still not needed.");
    install(places, &again);
    assert_true(again.was_there);
    assert_string_equal(again.revision, installed.revision);
    assert_int_equal(count_entries(places->models), 1);
}

static void other_content_is_another_revision(void **state) {
    struct places *places = *state;
    struct moult_installed installed, other;
    install(places, &installed);
    put(places->model, "model.safetensors", "Weights");   /* Of equal size. */
    install(places, &other);
    assert_false(other.was_there);
    assert_string_not_equal(other.revision, installed.revision);
    assert_int_equal(count_entries(places->models), 2);
}

static void the_revision_is_the_digest_of_sorted_lines(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    drop(places->model, "modules.json");
    drop(places->model, "tokenizer.json");
    install(places, &installed);
    char config[MOULT_SHA256_HEX], weights[MOULT_SHA256_HEX], revision[MOULT_SHA256_HEX];
    moult_sha256_of("{\"model_type\":\"bert\"}", 21, config);
    moult_sha256_of("weights", 7, weights);
    char *lines = moult_format("%s  config.json\n%s  model.safetensors\n", config, weights);
    moult_sha256_of(lines, strlen(lines), revision);
    assert_string_equal(installed.revision, revision);
    free(lines);
}

static void refuses_what_is_no_model(void **state) {
    struct places *places = *state;
    drop(places->model, "model.safetensors");
    refuse(places, MOULT_ERROR_INVALID, "has no model.safetensors");
    put(places->model, "pytorch_model.bin", "pickle");
    refuse(places, MOULT_ERROR_INVALID, "as a pickle");
    put(places->model, "model.safetensors", "weights");
    drop(places->model, "config.json");
    put(places->model, "modules.json", "[]");
    refuse(places, MOULT_ERROR_INVALID, "it has no config.json");
}

/* Both files of them or neither; they are no part of what a worker reads. */
static void takes_the_vectors_of_documents(void **state) {
    struct places *places = *state;
    struct moult_installed bare, installed;
    uint64_t bytes;
    install(places, &bare);
    char *vectors = moult_format("%s/document_vectors", places->model);
    assert_int_equal(moult_folder_make(vectors, NULL), 0);
    put(vectors, "vectors.npy", "numbers");
    install(places, &installed);
    assert_string_equal(installed.revision, bare.revision);
    put(vectors, "documents.jsonl", "lines");
    install(places, &installed);
    assert_string_not_equal(installed.revision, bare.revision);
    assert_true(exists(places->models, installed.revision, "document_vectors/vectors.npy"));
    assert_true(exists(places->models, installed.revision, "document_vectors/documents.jsonl"));
    assert_int_equal(installed.bytes, bare.bytes);
    assert_int_equal(moult_installed_bytes(places->data, installed.revision, &bytes), 0);
    assert_int_equal(bytes, bare.bytes);
    drop(vectors, "vectors.npy");
    refuse(places, MOULT_ERROR_MISSING, "has no document_vectors/vectors.npy");
    free(vectors);
}

static void refuses_paths_that_lead_out(void **state) {
    static const char *const lists[] = {
        "[{\"path\":\"../elsewhere\"}]", "[{\"path\":\"/etc\"}]",      "[{\"path\":\"a//b\"}]",
        "[{\"path\":\"a/./b\"}]",        "[{\"path\":\"a\\u0000b\"}]", "[{\"path\":\"a/..\"}]",
        "[{\"path\":7}]",                "[{}]",                       "[{\"path\":\"a\\nb\"}]",
    };
    struct places *places = *state;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
        put(places->model, "modules.json", lists[i]);
        refuse(places, MOULT_ERROR_INVALID, "modules.json");
    }
    put(places->model, "modules.json", "{}");
    refuse(places, MOULT_ERROR_INVALID, "not a list of modules");
    put(places->model, "modules.json", "[");
    refuse(places, MOULT_ERROR_INVALID, "is not JSON");
    drop(places->model, "modules.json");
    put(places->model, "model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"../model.safetensors\"}}");
    refuse(places, MOULT_ERROR_INVALID, "shard");
}

static void takes_the_shards_that_an_index_names(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    drop(places->model, "model.safetensors");
    put(places->model, "model.safetensors.index.json",
        "{\"weight_map\":{\"a\":\"model-1-of-2.safetensors\",\"b\":\"model-2-of-2.safetensors\","
        "\"c\":\"model-1-of-2.safetensors\"}}");
    put(places->model, "model-1-of-2.safetensors", "one");
    refuse(places, MOULT_ERROR_MISSING, "model-2-of-2.safetensors");
    put(places->model, "model-2-of-2.safetensors", "two");
    install(places, &installed);
    assert_true(exists(places->models, installed.revision, "model-2-of-2.safetensors"));
}

static void follows_links_to_files_as_hub_caches_have_them(void **state) {
    struct places *places = *state;
    struct moult_installed plain, linked;
    install(places, &plain);
    char *blob = moult_format("%s/blob", places->root);
    char *link_path = moult_format("%s/model.safetensors", places->model);
    assert_int_equal(rename(link_path, blob), 0);
    assert_int_equal(symlink("../blob", link_path), 0);
    install(places, &linked);
    assert_string_equal(plain.revision, linked.revision);
    unlink(link_path);
    assert_int_equal(symlink("/dev/zero", link_path), 0);
    refuse(places, MOULT_ERROR_INVALID, "not a regular file");
    unlink(link_path);
    assert_int_equal(mkfifo(link_path, 0600), 0);
    refuse(places, MOULT_ERROR_INVALID, "not a regular file");
    free(link_path);
    free(blob);
}

static void says_that_a_folder_is_missing(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    struct moult_error error;
    assert_int_equal(
        moult_install_from_folder("/nowhere/at/all", places->data, NULL, &installed, &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_MISSING);
    assert_non_null(strstr(error.message, "/nowhere/at/all"));
}

/* Another hand in the folder, at a chosen moment of the copy. */
struct meddler {
    struct places *places;
    const char *text;       /* Written over the weights; NULL: cut off. */
    unsigned times;
};

static void meddle(void *context, uint64_t bytes_done, uint64_t bytes_all) {
    struct meddler *meddler = context;
    (void)bytes_done;
    (void)bytes_all;
    if (meddler->times == 0)
        return;
    meddler->times--;
    char *path = moult_format("%s/model.safetensors", meddler->places->model);
    if (meddler->text == NULL)
        assert_int_equal(truncate(path, 3), 0);
    else
        put(meddler->places->model, "model.safetensors", meddler->text);
    free(path);
}

static void a_change_during_the_copy_is_seen(void **state) {
    struct places *places = *state;
    struct meddler meddler = {places, "WEIGHTS", 1};
    struct moult_install_progress progress = {meddle, &meddler};
    struct moult_installed installed, plain;
    struct moult_error error;
    /* Once: the copy is made again, and is that of the new content. */
    assert_int_equal(moult_install_from_folder(places->model, places->data, &progress, &installed,
                                               &error), 0);
    install(places, &plain);
    assert_true(plain.was_there);
    assert_string_equal(installed.revision, plain.revision);
    /* Again and again: refused, whole or not at all. */
    meddler = (struct meddler){places, "weightS", 1000000};
    assert_int_equal(moult_install_from_folder(places->model, places->data, &progress, &installed,
                                               &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.message, "changed while it was copied"));
    assert_int_equal(count_entries(places->models), 1);
}

static void a_file_cut_off_during_the_copy_is_never_half_installed(void **state) {
    struct places *places = *state;
    struct meddler meddler = {places, NULL, 1};
    struct moult_install_progress progress = {meddle, &meddler};
    struct moult_installed installed, plain;
    assert_int_equal(moult_install_from_folder(places->model, places->data, &progress, &installed,
                                               NULL), 0);
    install(places, &plain);   /* Of the three bytes that are there now. */
    assert_string_equal(installed.revision, plain.revision);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, NULL), 0);
}

static char *installed_file(struct places *places, const char *revision, const char *name) {
    char *path = moult_format("%s/%s/%s", places->models, revision, name);
    assert_int_equal(chmod(path, 0644), 0);
    return path;
}

static void damage_is_found_and_mended(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    struct moult_error error;
    install(places, &installed);
    char *path = installed_file(places, installed.revision, "model.safetensors");
    int fd = open(path, O_WRONLY);
    assert_int_equal(pwrite(fd, "W", 1, 0), 1);
    close(fd);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, &error), -1);
    assert_non_null(strstr(error.message, "model.safetensors"));
    install(places, &installed);
    assert_false(installed.was_there);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, NULL), 0);
    free(path);
    path = installed_file(places, installed.revision, "tokenizer.json");
    assert_int_equal(truncate(path, 1), 0);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, NULL), -1);
    assert_int_equal(truncate(path, 3), 0);
    assert_int_equal(moult_installed_verify(places->data, installed.revision, NULL), -1);
    free(path);
}

static void leftovers_are_removed(void **state) {
    struct places *places = *state;
    struct moult_installed installed;
    install(places, &installed);
    char *leftover = moult_format("%s/.incoming-1/1_Pooling", places->models);
    assert_int_equal(moult_folder_make(leftover, NULL), 0);
    assert_int_equal(count_entries(places->models), 2);
    moult_install_leftovers_remove(places->models);
    assert_int_equal(count_entries(places->models), 1);
    free(leftover);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_real_folder_is_reached_by_no_link, set_up, tear_down),
        cmocka_unit_test_setup_teardown(installs_what_a_model_needs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_content_is_another_revision, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_revision_is_the_digest_of_sorted_lines, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_model, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_the_vectors_of_documents, set_up, tear_down),
        cmocka_unit_test_setup_teardown(refuses_paths_that_lead_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(takes_the_shards_that_an_index_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(follows_links_to_files_as_hub_caches_have_them, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(says_that_a_folder_is_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_change_during_the_copy_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_cut_off_during_the_copy_is_never_half_installed,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(damage_is_found_and_mended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(leftovers_are_removed, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
