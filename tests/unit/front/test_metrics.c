/* What is counted for GET /metrics, and how it is written. */
#include "front/metrics.h"

#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/memory.h"
#include "front/routes.h"

static const struct moult_route *route(const char *method, const char *path) {
    struct moult_route_part part;
    const char *allowed;
    const struct moult_route *found = moult_routes_find(method, path, &part, &allowed);
    assert_non_null(found);
    return found;
}

static bool has(const struct moult_buffer *out, const char *line) {
    char *whole = moult_format("%s\n", line);
    const char *at = strstr(out->bytes, whole);
    bool found = at != NULL && (at == out->bytes || at[-1] == '\n');
    free(whole);
    return found;
}

static void requests_are_counted_where_they_belong(void **state) {
    (void)state;
    struct moult_metrics *metrics = moult_allocate(1, sizeof *metrics);
    struct moult_buffer out;
    moult_buffer_init(&out, 1 << 20);
    const struct moult_route *embed = route("POST", "/embed");
    moult_metrics_count_request(metrics, embed, 200, 500000);        /* On a bound: within it. */
    moult_metrics_count_request(metrics, embed, 200, 500001);
    moult_metrics_count_request(metrics, embed, 429, 10000000000);
    moult_metrics_count_request(metrics, embed, 299, 10000000001);   /* No status of ours. */
    moult_metrics_count_request(metrics, route("GET", "/update_model/7"), 404, 1);
    moult_metrics_count_request(metrics, NULL, 404, 0);
    moult_metrics_write_requests(metrics, &out);
#define OF_EMBED "{method=\"POST\",endpoint=\"/embed\""
    assert_true(has(&out, "moult_http_requests_total" OF_EMBED ",status=\"200\"} 2"));
    assert_true(has(&out, "moult_http_requests_total" OF_EMBED ",status=\"429\"} 1"));
    assert_true(has(&out, "moult_http_requests_total" OF_EMBED ",status=\"other\"} 1"));
    assert_true(has(&out, "moult_http_requests_total{method=\"GET\",endpoint=\"/update_model/{id}"
                          "\",status=\"404\"} 1"));
    assert_true(has(&out, "moult_http_requests_total{method=\"other\",endpoint=\"other\","
                          "status=\"404\"} 1"));
#define BUCKET "moult_http_request_duration_seconds_bucket" OF_EMBED
    assert_true(has(&out, BUCKET ",le=\"0.0005\"} 1"));
    assert_true(has(&out, BUCKET ",le=\"0.001\"} 2"));
    assert_true(has(&out, BUCKET ",le=\"5\"} 2"));
    assert_true(has(&out, BUCKET ",le=\"10\"} 3"));
    assert_true(has(&out, BUCKET ",le=\"+Inf\"} 4"));
    assert_true(has(&out, "moult_http_request_duration_seconds_count" OF_EMBED "} 4"));
    assert_true(has(&out, "moult_http_request_duration_seconds_sum" OF_EMBED "} 20.001000"));
    moult_buffer_release(&out);
    free(metrics);
}

static void labels_are_escaped(void **state) {
    (void)state;
    struct moult_buffer out;
    moult_buffer_init(&out, 100);
    moult_metrics_label(&out, "a\"b\\c\nd");
    assert_string_equal(out.bytes, "\"a\\\"b\\\\c\\nd\"");
    moult_buffer_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_counted_where_they_belong),
        cmocka_unit_test(labels_are_escaped),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
