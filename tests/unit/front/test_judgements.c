/* The file of --gate, line by line, its nDCG against figures worked out by hand, and what
 * --gate-min lets through. */
#include "front/judgements.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/buffer.h"
#include "base/limits.h"

static struct moult_judgements *parse(const char *text) {
    struct moult_error error = {0};
    struct moult_judgements *judgements = moult_judgements_parse(text, strlen(text), &error);
    if (judgements == NULL)
        print_error("%s\n", error.message);
    assert_non_null(judgements);
    return judgements;
}

static void refused(const char *text, const char *line, const char *why) {
    struct moult_error error = {0};
    assert_null(moult_judgements_parse(text, strlen(text), &error));
    if (strstr(error.message, line) == NULL || strstr(error.message, why) == NULL)
        print_error("%s\n", error.message);
    assert_non_null(strstr(error.message, line));
    assert_non_null(strstr(error.message, why));
}

static void lines_are_queries(void **state) {
    (void)state;
    struct moult_judgements *judgements =
        parse("{\"query\": \"how big\", \"relevant\": [\"b\", \"a\"], \"id\": 7}\r\n"
              " \n"
              "{\"query\": \"no\\u0000thing\", \"relevant\": {\"c\": 2, \"d\": 0},"
              " \"collection\": \"books\"}\n"
              "{\"query\": \"x\", \"relevant\": [\"a\"], \"collection\": \"books\"}");
    const struct moult_judged_query *query = judgements->queries;
    assert_int_equal(judgements->count, 3);
    assert_int_equal(judgements->collection_count, 2);
    assert_string_equal(judgements->collections[query[0].collection], "default");
    assert_string_equal(judgements->collections[query[1].collection], "books");
    assert_int_equal(query[2].collection, query[1].collection);
    assert_int_equal(query[1].size, 8);
    assert_memory_equal(query[1].text, "no\0thing", 8);
    assert_string_equal(query[0].relevant[0].id, "a");
    assert_int_equal(query[1].relevant_count, 2);
    assert_float_equal(query[1].relevant[0].gain, 2, 0);
    moult_judgements_free(judgements);
}

#define GOOD "{\"query\": \"x\", \"relevant\": [\"a\"]}\n"

static void bad_lines_are_named(void **state) {
    (void)state;
    refused("", "", "no query");
    refused("\n \n", "", "no query");
    refused(GOOD "\n{", "Line 3", "JSON");
    refused(GOOD "[]", "Line 2", "object");
    refused(GOOD "{\"query\": \"\xff\", \"relevant\": [\"a\"]}", "Line 2", "UTF-8");
    refused("{\"relevant\": [\"a\"]}", "Line 1", "\"query\" is missing");
    refused("{\"query\": \"\", \"relevant\": [\"a\"]}", "Line 1", "must be a text");
    refused("{\"query\": [\"x\"], \"relevant\": [\"a\"]}", "Line 1", "must be a text");
    refused("{\"query\": \"x\"}", "Line 1", "\"relevant\" is missing");
    refused("{\"query\": \"x\", \"relevant\": \"a\"}", "Line 1", "list of ids");
    refused("{\"query\": \"x\", \"relevant\": []}", "Line 1", "judges nothing");
    refused("{\"query\": \"x\", \"relevant\": {\"a\": 0}}", "Line 1", "judges nothing");
    refused("{\"query\": \"x\", \"relevant\": [\"a\", 7]}", "Line 1", "\"relevant\"[1]");
    refused("{\"query\": \"x\", \"relevant\": [\"a\", \"b\", \"a\"]}", "Line 1", "\"a\" twice");
    refused("{\"query\": \"x\", \"relevant\": [\"\"]}", "Line 1", "cannot be the id");
    refused("{\"query\": \"x\", \"relevant\": {\"a\\u0001\": 1}}", "Line 1", "cannot be the id");
    refused("{\"query\": \"x\", \"relevant\": {\"a\": -1}}", "Line 1", "gain of \"a\"");
    refused("{\"query\": \"x\", \"relevant\": {\"a\": 1001}}", "Line 1", "gain of \"a\"");
    refused("{\"query\": \"x\", \"relevant\": {\"a\": 1e-9}}", "Line 1", "gain of \"a\"");
    refused("{\"query\": \"x\", \"relevant\": {\"a\": \"1\"}}", "Line 1", "gain of \"a\"");
    refused("{\"query\": \"x\", \"relevant\": [\"a\"], \"collection\": \"/\"}", "Line 1",
            "collection's name");
    refused("{\"query\": \"x\", \"relevant\": [\"a\"], \"collection\": 1}", "Line 1",
            "\"collection\"");
}

static void their_number_has_a_limit(void **state) {
    (void)state;
    struct moult_buffer text;
    moult_buffer_init(&text, MOULT_MIB);
    for (unsigned i = 0; i <= MOULT_GATE_QUERIES_MAX; i++)
        moult_buffer_text(&text, GOOD);
    refused(text.bytes, "Line 10001", "more than 10000 queries");
    moult_buffer_release(&text);
    for (unsigned i = 0; i <= MOULT_GATE_COLLECTIONS_MAX; i++)
        moult_buffer_format(
            &text, "{\"query\":\"x\",\"relevant\":[\"a\"],\"collection\":\"c%u\"}\n", i);
    refused(text.bytes, "Line 65", "more than 64 collections");
    moult_buffer_release(&text);
    moult_buffer_text(&text, "{\"query\":\"x\",\"relevant\":[\"a\"");
    for (unsigned i = 0; i < MOULT_GATE_RELEVANT_MAX; i++)
        moult_buffer_format(&text, ",\"%u\"", i);
    moult_buffer_text(&text, "]}");
    refused(text.bytes, "Line 1", "10001 ids");
    moult_buffer_release(&text);
}

static void ndcg_is_what_it_is(void **state) {
    (void)state;
    struct moult_judgements *judgements =
        parse("{\"query\": \"x\", \"relevant\": [\"a\", \"b\"]}\n"
              "{\"query\": \"x\", \"relevant\": {\"a\": 3, \"b\": 1, \"c\": 0.5}}\n"
              "{\"query\": \"x\", \"relevant\": [\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\","
              "\"9\",\"10\",\"11\",\"12\"]}\n");
    const struct moult_judged_query *two = &judgements->queries[0];
    const struct moult_judged_query *gains = &judgements->queries[1];
    const char *best[] = {"a", "b"}, *third[] = {"x", NULL, "b"}, *turned[] = {"c", "b", "a"};
    double both = 1 + 1 / log2(3);
    assert_float_equal(moult_judged_ndcg(two, best, 2), 1, 1e-12);
    assert_float_equal(moult_judged_ndcg(two, best, 1), 1 / both, 1e-12);
    assert_float_equal(moult_judged_ndcg(two, third, 3), 0.5 / both, 1e-12);
    assert_float_equal(moult_judged_ndcg(two, third, 2), 0, 0);
    assert_float_equal(moult_judged_ndcg(two, NULL, 0), 0, 0);
    assert_float_equal(moult_judged_ndcg(gains, turned, 3),
                       (0.5 + 1 / log2(3) + 3 / 2.0) / (3 + 1 / log2(3) + 0.5 / 2), 1e-12);
    /* Ten of twelve are all that ten places can hold, and an eleventh does not count. */
    const char *eleven[] = {"1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"};
    assert_float_equal(moult_judged_ndcg(&judgements->queries[2], eleven, 11), 1, 1e-12);
    moult_judgements_free(judgements);
}

static double least(const char *text, double old_ndcg) {
    struct moult_gate_limit limit;
    assert_int_equal(moult_gate_limit_parse(text, &limit, NULL), 0);
    return moult_gate_limit_least(&limit, old_ndcg);
}

static void limits_are_absolute_or_relative(void **state) {
    (void)state;
    const struct moult_gate_limit any = {MOULT_GATE_ANY, 0};
    assert_float_equal(least("0.4", 0.5), 0.4, 0);
    assert_float_equal(least("0", 0.5), 0, 0);
    assert_float_equal(least("1", 0.5), 1, 0);
    assert_float_equal(least("-2%", 0.5), 0.49, 1e-12);
    assert_float_equal(least("0%", 0.5), 0.5, 0);
    assert_float_equal(least("+10%", 0.5), 0.55, 1e-12);
    assert_float_equal(moult_gate_limit_least(&any, 0.5), 0, 0);
    const char *const wrong[] = {"", "%", "-0.02", "1.1", "40", "-101%", "2%%", "0.4x", "nan",
                                 "nan%", "inf%"};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct moult_gate_limit limit;
        struct moult_error error = {0};
        assert_int_equal(moult_gate_limit_parse(wrong[i], &limit, &error), -1);
        assert_non_null(strstr(error.message, "--gate-min"));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_queries),
        cmocka_unit_test(bad_lines_are_named),
        cmocka_unit_test(their_number_has_a_limit),
        cmocka_unit_test(ndcg_is_what_it_is),
        cmocka_unit_test(limits_are_absolute_or_relative),
    };
    return cmocka_run_group_tests_name("judgements", tests, NULL, NULL);
}
