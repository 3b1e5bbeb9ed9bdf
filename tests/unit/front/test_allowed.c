/* Which places callers may name, and the ways around that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "front/allowed.h"

#define OWN "mine/own"

static const char *prefixes[] = {"org/", "team/one", "https://models.example/a",
                                 "http://10.0.0.1:8000", "https://slash.example/b/"};
static const struct moult_serve_options options = {
    .allowed_sources = prefixes, .allowed_source_count = sizeof prefixes / sizeof prefixes[0]};

static void takes(const char *model) {
    if (moult_allowed_judge(&options, OWN, model, NULL) != MOULT_ALLOWED)
        fail_msg("%s is not taken", model);
}

static void refuses(const char *model) {
    struct moult_error error;
    if (moult_allowed_judge(&options, OWN, model, &error) != MOULT_ALLOWED_NOT)
        fail_msg("%s is taken", model);
    assert_int_equal(error.code, MOULT_ERROR_INVALID);
    assert_non_null(strstr(error.message, "--allow-model-from"));
}

static void models_of_a_hub(void **unused) {
    (void)unused;
    takes(OWN);
    takes("org/other");
    takes("mine/own");
    takes("mine/own@v1.0");
    refuses("mine/own@refs/pr/1");
    refuses("mine/own-2@v1.0");
    takes("org/other@v1");
    takes("team/one");
    takes("team/one@refs/pr/1");
    refuses("team/one-2");
    refuses("team/oneness@v1");
    refuses("team/two");
    refuses("organisation/name");
    refuses("org");
    refuses("org/");
    refuses("org/../team/two");
    refuses("org/name@../../x");
    refuses("relative/tiny");
    refuses("./org/name");
    refuses("");
    refuses("ORG/name");
}

static void models_of_a_server(void **unused) {
    (void)unused;
    takes("https://models.example/a");
    takes("https://models.example/a/minilm");
    takes("http://10.0.0.1:8000/any/where");
    takes("https://slash.example/b/c");
    refuses("https://models.example/ab");
    refuses("https://models.example/");
    refuses("https://models.example/a/../b");
    refuses("https://models.example/a/..");
    refuses("https://models.example/a/./../b");
    refuses("https://models.example/a/%2e%2e/b");
    refuses("https://models.example/a\\..\\b");
    refuses("https://models.example.evil/a");
    refuses("https://models.example:8443/a");
    refuses("https://user:word@models.example/a");
    refuses("http://models.example/a");
    refuses("http://10.0.0.1:80000/x");
    refuses("http://10.0.0.1");
    refuses("https://models.example/a?x=1");
}

/* A folder's prefix says nothing of hubs, nor the other way round. */
static void kinds_are_apart(void **unused) {
    (void)unused;
    const char *root[] = {"/"};
    const struct moult_serve_options all_folders = {.allowed_sources = root,
                                                    .allowed_source_count = 1};
    assert_int_equal(moult_allowed_judge(&all_folders, "/own", "org/name", NULL),
                     MOULT_ALLOWED_NOT);
    assert_int_equal(moult_allowed_judge(&all_folders, "/own", "http://host/x", NULL),
                     MOULT_ALLOWED_NOT);
    assert_int_equal(moult_allowed_judge(&all_folders, "/own", "/own", NULL), MOULT_ALLOWED);
    assert_int_equal(moult_allowed_judge(&all_folders, "/own", "/else", NULL),
                     MOULT_ALLOWED_ON_DISK);
}

static char *folder(const char *root, const char *name) {
    char *path = moult_format("%s/%s", root, name);
    assert_int_equal(mkdir(path, 0755), 0);
    return path;
}

static void is_folder(const struct moult_serve_options *within, const char *root, const char *name,
                      const char *expected) {
    char *model = moult_format("%s/%s", root, name);
    char *place = moult_allowed_folder(within, "/own", model, NULL);
    if (expected == NULL) {
        if (place != NULL)
            fail_msg("%s is taken", model);
    } else {
        char *path = moult_format("%s/%s", root, expected);
        assert_non_null(place);
        assert_string_equal(place, path);
        free(path);
    }
    free(place);
    free(model);
}

static void folders_by_their_real_path(void **unused) {
    (void)unused;
    char made[] = "/tmp/moult-allowed-XXXXXX";
    assert_non_null(mkdtemp(made));
    char *root = realpath(made, NULL);
    char *allowed = folder(root, "allowed"), *other = folder(root, "allowed-not");
    char *inner = folder(allowed, "a"), *away = moult_format("%s/away", allowed);
    char *link = moult_format("%s/link", allowed);
    assert_int_equal(symlink(other, away), 0);
    assert_int_equal(symlink("a", link), 0);
    const char *one[] = {allowed};
    const struct moult_serve_options within = {.allowed_sources = one, .allowed_source_count = 1};
    is_folder(&within, root, "allowed", "allowed");
    is_folder(&within, root, "allowed/a", "allowed/a");
    is_folder(&within, root, "allowed/link", "allowed/a");
    is_folder(&within, root, "allowed-not/../allowed/a", "allowed/a");
    is_folder(&within, root, "allowed/missing", "allowed/missing");
    is_folder(&within, root, "allowed/missing/../../allowed-not", NULL);
    is_folder(&within, root, "allowed/../allowed-not", NULL);
    is_folder(&within, root, "allowed/away", NULL);
    is_folder(&within, root, "allowed-not", NULL);
    is_folder(&within, root, "", NULL);
    assert_int_equal(moult_folder_remove(AT_FDCWD, root, NULL), 0);
    free(root);
    free(allowed);
    free(other);
    free(inner);
    free(away);
    free(link);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_of_a_hub),
        cmocka_unit_test(models_of_a_server),
        cmocka_unit_test(kinds_are_apart),
        cmocka_unit_test(folders_by_their_real_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
