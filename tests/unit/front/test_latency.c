#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "front/latency.h"

#define MS 1000000ull
#define SECOND (1000 * MS)

static struct moult_latency latency;

static int clear(void **unused) {
    (void)unused;
    latency = (struct moult_latency){0};
    return 0;
}

static void count(unsigned times, uint64_t ns, uint64_t now_ns) {
    for (unsigned i = 0; i < times; i++)
        moult_latency_count(&latency, ns, now_ns);
}

static void is_about(double ms, double expected_ms) {
    if (fabs(ms - expected_ms) > 0.045 * expected_ms)
        fail_msg("%.4f ms is not about %.4f ms", ms, expected_ms);
}

static void of_each_size_within_the_promise(void **unused) {
    (void)unused;
    for (uint64_t ns = 1100; ns < 100 * SECOND; ns += ns / 7) {
        clear(NULL);
        count(100, ns, SECOND);
        is_about(moult_latency_p99_before_ms(&latency), (double)ns / 1e6);
    }
}

static void what_is_out_of_range_is_counted_at_its_ends(void **unused) {
    (void)unused;
    count(200, 0, SECOND);
    is_about(moult_latency_p99_before_ms(&latency), 0.001022);
    count(1000, UINT64_MAX, SECOND);
    assert_true(moult_latency_p99_before_ms(&latency) > 120e3);
}

static void the_slowest_hundredth_is_cut(void **unused) {
    (void)unused;
    count(990, 2 * MS, SECOND);
    count(10, 500 * MS, SECOND);
    is_about(moult_latency_p99_before_ms(&latency), 2);
    count(1, 500 * MS, SECOND);
    is_about(moult_latency_p99_before_ms(&latency), 500);
}

static void few_requests_tell_nothing(void **unused) {
    (void)unused;
    count(99, 2 * MS, SECOND);
    assert_true(moult_latency_p99_before_ms(&latency) == 0);
    count(1, 2 * MS, SECOND);
    assert_true(moult_latency_p99_before_ms(&latency) > 0);
}

static void before_and_during_are_apart(void **unused) {
    (void)unused;
    count(100, 2 * MS, SECOND);
    moult_latency_begin(&latency);
    count(100, 8 * MS, SECOND);
    moult_latency_during(&latency, false);
    count(100, 2 * MS, SECOND);   /* It waits for a person. */
    moult_latency_during(&latency, true);
    count(100, 8 * MS, SECOND);
    moult_latency_during(&latency, false);
    is_about(moult_latency_p99_before_ms(&latency), 2);
    is_about(moult_latency_p99_during_ms(&latency), 8);
    assert_int_equal(latency.during.total, 200);
    moult_latency_begin(&latency);
    assert_true(moult_latency_p99_during_ms(&latency) == 0);
}

static void what_was_nothing_is_steady(void **unused) {
    (void)unused;
    moult_latency_begin(&latency);
    count(100, 8 * MS, SECOND);
    moult_latency_undo(&latency);
    is_about(moult_latency_p99_before_ms(&latency), 8);
    count(1, 8 * MS, SECOND);
    assert_int_equal(latency.steady[0].total, 101);
}

static void the_past_is_forgotten(void **unused) {
    (void)unused;
    count(1000, 50 * MS, 100 * SECOND);
    count(100, 2 * MS, 131 * SECOND);
    is_about(moult_latency_p99_before_ms(&latency), 50);
    count(100, 2 * MS, 162 * SECOND);
    is_about(moult_latency_p99_before_ms(&latency), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(of_each_size_within_the_promise, clear),
        cmocka_unit_test_setup(what_is_out_of_range_is_counted_at_its_ends, clear),
        cmocka_unit_test_setup(the_slowest_hundredth_is_cut, clear),
        cmocka_unit_test_setup(few_requests_tell_nothing, clear),
        cmocka_unit_test_setup(before_and_during_are_apart, clear),
        cmocka_unit_test_setup(what_was_nothing_is_steady, clear),
        cmocka_unit_test_setup(the_past_is_forgotten, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
