/* Who may ask. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front/guard.h"

static const char *allowed_hosts[] = {"models.internal"};
static const char *cors_origins[] = {"https://app.example"};

static const struct moult_route embed = {.method = "POST", .path = "/embed"};
static const struct moult_route health = {.method = "GET", .path = "/health", .open = true};
static const struct moult_route update = {.method = "POST", .path = "/update_model",
                                          .changes = true};

static struct moult_serve_options loopback(void) {
    return (struct moult_serve_options){
        .host = "127.0.0.1",
        .allowed_hosts = allowed_hosts,
        .allowed_host_count = 1,
        .cors_origins = cors_origins,
        .cors_origin_count = 1,
    };
}

/* The refusal's kind, or MOULT_HTTP_ERRORS where there is none. */
static enum moult_http_error check(const struct moult_serve_options *options,
                                   struct moult_guard_request request,
                                   const struct moult_route *route) {
    enum moult_http_error kind;
    struct moult_error error = {0};
    if (request.method == NULL)
        request.method = "POST";
    if (moult_guard_check(options, &request, route, &kind, &error) == 0)
        return MOULT_HTTP_ERRORS;
    assert_true(error.message[0] != '\0');
    return kind;
}
#define PASSES MOULT_HTTP_ERRORS
#define REQUEST(...) ((struct moult_guard_request){__VA_ARGS__})

static void test_host(void **state) {
    (void)state;
    struct moult_serve_options options = loopback();
    static const char *const good[] = {"localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:80",
                                       "[::1]", "models.internal", "Models.Internal:8080"};
    static const char *const bad[] = {"evil.example", "localhost.evil.example", "127.0.0.1.evil",
                                      "[::2]", "", "xlocalhost"};
    static const char *const malformed[] = {"[::1", ":8080", "evil@localhost", "localhost:99999",
                                            "localhost:80a", "localhost:-1", "localhost:80:80",
                                            "localhost/evil", "a b", "localhost:999999999999",
                                            "[::1]x", "localhost: 80", "localhost, evil"};
    for (unsigned i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_int_equal(check(&options, REQUEST(.host = good[i]), &embed), PASSES);
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(check(&options, REQUEST(.host = bad[i]), &embed), MOULT_HTTP_FORBIDDEN);
    for (unsigned i = 0; i < sizeof malformed / sizeof malformed[0]; i++)
        assert_int_equal(check(&options, REQUEST(.host = malformed[i]), &embed),
                         MOULT_HTTP_MALFORMED);
    /* Who has a key, or whom the network reaches anyway, need not mind names. */
    options.api_key = "secret";
    assert_int_equal(check(&options, REQUEST(.host = "evil", .authorization = "Bearer secret"),
                           &embed), PASSES);
    options.api_key = NULL;
    options.host = "0.0.0.0";
    assert_int_equal(check(&options, REQUEST(.host = "gpu7.cluster"), &embed), PASSES);
    assert_int_equal(check(&options, REQUEST(.host = "gpu7.cluster:8o"), &embed),
                     MOULT_HTTP_MALFORMED);
    /* What counts is where it listens, also where a service manager has chosen that. */
    assert_int_equal(check(&options, REQUEST(.host = "evil", .bound_to = "127.0.0.1"), &embed),
                     MOULT_HTTP_FORBIDDEN);
    options.host = "127.0.0.1";
    assert_int_equal(check(&options, REQUEST(.host = "gpu7", .bound_to = "10.0.0.7"), &embed),
                     PASSES);
}

static void test_origin(void **state) {
    (void)state;
    struct moult_serve_options options = loopback();
    assert_int_equal(check(&options, REQUEST(.host = "localhost:8080",
                                             .origin = "http://localhost:8080"), &embed), PASSES);
    assert_int_equal(check(&options, REQUEST(.host = "localhost:8080",
                                             .origin = "https://app.example"), &embed), PASSES);
    static const char *const foreign[] = {"http://evil.example",      "null",           "",
                                          "https://app.example.evil", "localhost:8080",
                                          "http://localhost:3000"};
    for (unsigned i = 0; i < sizeof foreign / sizeof foreign[0]; i++)
        assert_int_equal(check(&options, REQUEST(.host = "localhost:8080", .origin = foreign[i]),
                               &embed), MOULT_HTTP_FORBIDDEN);
    cors_origins[0] = "*";
    assert_true(moult_guard_allows_origin(&options, "http://evil.example"));
    cors_origins[0] = "https://app.example";
    assert_false(moult_guard_allows_origin(&options, "http://evil.example"));
}

static void test_key(void **state) {
    (void)state;
    struct moult_serve_options options = loopback();
    options.api_key = "secret";
    static const char *const bad[] = {NULL, "", "Bearer", "Bearer ", "Bearer secre",
                                      "Bearer secrets", "Bearer Secret", "Basic secret", "secret",
                                      "Bearer secretsecret"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(check(&options, REQUEST(.authorization = bad[i]), &embed),
                         MOULT_HTTP_UNAUTHORIZED);
    assert_int_equal(check(&options, REQUEST(.authorization = "Bearer secret"), &embed), PASSES);
    assert_int_equal(check(&options, REQUEST(.authorization = "bearer   secret"), &embed), PASSES);
    assert_int_equal(check(&options, REQUEST(.method = "GET"), &health), PASSES);
    /* What exists is not said to strangers either. */
    assert_int_equal(check(&options, REQUEST(.method = "GET"), NULL), MOULT_HTTP_UNAUTHORIZED);
    assert_int_equal(check(&options, REQUEST(.method = "OPTIONS", .host = "a",
                                             .origin = "https://app.example"), NULL), PASSES);
}

static void test_media_type(void **state) {
    (void)state;
    struct moult_serve_options options = loopback();
    static const char *const bad[] = {NULL, "", "text/plain", "application/jsonx",
                                      "application/x-www-form-urlencoded"};
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(check(&options, REQUEST(.content_type = bad[i], .has_body = true),
                               &update), MOULT_HTTP_MEDIA_TYPE);
        assert_int_equal(check(&options, REQUEST(.content_type = bad[i], .has_body = true),
                               &embed), PASSES);
    }
    assert_int_equal(check(&options, REQUEST(.content_type = "Application/JSON; charset=utf-8",
                                             .has_body = true), &update), PASSES);
    assert_int_equal(check(&options, REQUEST(.has_body = false), &update), PASSES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_origin),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_media_type),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
