/* Which route a path has, and which parts of it are left open. */
#include "front/routes.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void expect(const char *method, const char *path, const char *route, const char *name,
                   const char *rest) {
    struct moult_route_part part;
    const char *allowed = NULL;
    const struct moult_route *found = moult_routes_find(method, path, &part, &allowed);
    if (route == NULL) {
        assert_null(found);
        return;
    }
    assert_non_null(found);
    assert_string_equal(found->path, route);
    assert_string_equal(part.rest, rest);
    if (name == NULL) {
        assert_null(part.name);
        return;
    }
    assert_int_equal(part.name_size, strlen(name));
    assert_memory_equal(part.name, name, part.name_size);
}

static void paths_have_their_routes(void **state) {
    (void)state;
    expect("GET", "/", "/", NULL, "");
    expect("HEAD", "/documents", "/documents", NULL, "");
    expect("GET", "/documents/", NULL, NULL, NULL);
    expect("GET", "/documents/a", "/documents/", NULL, "a");
    expect("GET", "/documents/a/b", "/documents/", NULL, "a/b");
    expect("POST", "/documents/delete", "/documents/delete", NULL, "");
    expect("DELETE", "/documents/delete", "/documents/", NULL, "delete");
    expect("GET", "/documentsa", NULL, NULL, NULL);
}

static void paths_have_names_in_their_middle(void **state) {
    (void)state;
#define OF "/collections/{collection}"
    expect("GET", "/collections", "/collections", NULL, "");
    expect("GET", "/collections/", NULL, NULL, NULL);
    expect("GET", "/collections/a", OF, "a", "");
    expect("GET", "/collections/a/", NULL, NULL, NULL);
    expect("GET", "/collections/a/b", NULL, NULL, NULL);
    expect("GET", "/collections//documents", NULL, NULL, NULL);
    expect("POST", "/collections/a/documents", OF "/documents", "a", "");
    expect("POST", "/collections/{}/documents", OF "/documents", "{}", "");
    expect("GET", "/collections/a/documents/b/c", OF "/documents/", "a", "b/c");
    expect("GET", "/collections/a/document", NULL, NULL, NULL);
    expect("GET", "/collections/a/documents/", NULL, NULL, NULL);
    expect("POST", "/collections/documents/documents/delete", OF "/documents/delete", "documents",
           "");
    expect("GET", "/collectionsa", NULL, NULL, NULL);
}

static void methods_of_a_path_are_listed(void **state) {
    (void)state;
    struct moult_route_part part;
    const char *allowed = NULL;
    assert_null(moult_routes_find("PUT", "/collections/a/documents/b", &part, &allowed));
    assert_string_equal(allowed, "GET, HEAD, DELETE");
    assert_string_equal(part.rest, "");
    assert_null(part.name);
    assert_null(moult_routes_find("GET", "/nowhere", &part, &allowed));
    assert_null(allowed);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_have_their_routes),
        cmocka_unit_test(paths_have_names_in_their_middle),
        cmocka_unit_test(methods_of_a_path_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
