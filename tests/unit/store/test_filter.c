#include "store/filter.h"

#include "base/buffer.h"
#include "base/limits.h"
#include "helper.h"

static struct moult_filter *parse(const char *text) {
    struct moult_error error = {0};
    json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (json == NULL)
        fail_msg("no JSON: %s", text);
    struct moult_filter *filter = moult_filter_parse(json, &error);
    json_decref(json);
    if (filter == NULL)
        fail_msg("%s: %s", text, error.message);
    return filter;
}

/* Rows of a filter, and metadata that it matches or does not. */
struct verdict {
    const char *filter, *metadata;
    bool matches;
};

static void judge(const struct verdict *verdicts, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const struct verdict *v = &verdicts[i];
        struct moult_filter *filter = parse(v->filter);
        if (moult_filter_matches(filter, v->metadata, strlen(v->metadata)) != v->matches)
            fail_msg("%s %s %s", v->filter, v->matches ? "does not match" : "matches",
                     v->metadata);
        moult_filter_free(filter);
    }
}
#define JUDGE(verdicts) judge(verdicts, sizeof(verdicts) / sizeof *(verdicts))

static void compares_scalars(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{}", "{}", true},
        {"{}", "{\"a\":1}", true},
        {"{\"a\":1}", "{\"a\":1}", true},
        {"{\"a\":1}", "{\"a\":1.0}", true},
        {"{\"a\":1.5}", "{\"a\":15e-1}", true},
        {"{\"a\":0}", "{\"a\":-0.0}", true},
        {"{\"a\":1}", "{\"a\":2}", false},
        {"{\"a\":1}", "{\"b\":1}", false},
        {"{\"a\":1}", "{\"a\":\"1\"}", false},
        {"{\"a\":\"1\"}", "{\"a\":1}", false},
        {"{\"a\":true}", "{\"a\":true}", true},
        {"{\"a\":true}", "{\"a\":false}", false},
        {"{\"a\":true}", "{\"a\":1}", false},
        {"{\"a\":false}", "{\"a\":0}", false},
        {"{\"a\":false}", "{\"a\":null}", false},
        {"{\"a\":\"x\"}", "{\"a\":\"x\"}", true},
        {"{\"a\":\"x\"}", "{\"a\":\"X\"}", false},
        {"{\"a\":\"x\"}", "{\"a\":\"xy\"}", false},
        {"{\"a\":\"xy\"}", "{\"a\":\"x\"}", false},
        {"{\"a\":\"\"}", "{\"a\":\"\"}", true},
        {"{\"a\":1,\"b\":2}", "{ \"b\" : 2 , \"a\" : 1 }", true},
        {"{\"a\":1,\"b\":2}", "{\"a\":1,\"b\":3}", false},
        {"{\"a\":1}", "{\"x\":{\"a\":1},\"y\":[{\"a\":1}],\"z\":\"\\\"a\\\":1\"}", false},
        {"{\"a\":1}", "{\"x\":{\"y\":[1,{\"z\":\"]}\"}]},\"a\":1}", true},
    };
    JUDGE(verdicts);
}

static void compares_whole_numbers_exactly(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a\":9007199254740993}", "{\"a\":9007199254740993}", true},
        {"{\"a\":9007199254740993}", "{\"a\":9007199254740992}", false},
        {"{\"a\":9007199254740993}", "{\"a\":9007199254740992.0}", false},
        {"{\"a\":{\"$gt\":9007199254740992.0}}", "{\"a\":9007199254740993}", true},
        {"{\"a\":9223372036854775807}", "{\"a\":9223372036854775807}", true},
        {"{\"a\":-9223372036854775808}", "{\"a\":-9223372036854775808}", true},
        {"{\"a\":{\"$gt\":9223372036854775807}}", "{\"a\":9223372036854775808}", true},
        {"{\"a\":{\"$gt\":9223372036854775807}}", "{\"a\":1e300}", true},
        {"{\"a\":{\"$lt\":-9223372036854775807}}", "{\"a\":-9223372036854775808}", true},
        {"{\"a\":999999999999999999}", "{\"a\":999999999999999999}", true},
        {"{\"a\":1000000000000000000}", "{\"a\":1000000000000000000}", true},
        {"{\"a\":1000000000000000000}", "{\"a\":1000000000000000001}", false},
    };
    JUDGE(verdicts);
}

static void compares_order_within_a_type(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a\":{\"$gt\":1}}", "{\"a\":2}", true},
        {"{\"a\":{\"$gt\":1}}", "{\"a\":1}", false},
        {"{\"a\":{\"$gte\":1}}", "{\"a\":1}", true},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":0.5}", true},
        {"{\"a\":{\"$lte\":1}}", "{\"a\":1.0}", true},
        {"{\"a\":{\"$lte\":1}}", "{\"a\":1.0000001}", false},
        {"{\"a\":{\"$gt\":1}}", "{\"a\":\"2\"}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":null}", false},
        {"{\"a\":{\"$lt\":1}}", "{\"a\":false}", false},
        {"{\"a\":{\"$lt\":1}}", "{}", false},
        {"{\"a\":{\"$gt\":\"b\"}}", "{\"a\":\"ba\"}", true},
        {"{\"a\":{\"$gt\":\"b\"}}", "{\"a\":\"a\"}", false},
        {"{\"a\":{\"$gt\":\"b\"}}", "{\"a\":\"B\"}", false},
        {"{\"a\":{\"$lt\":\"\xC3\xA9\"}}", "{\"a\":\"z\"}", true},
        {"{\"a\":{\"$gte\":\"2024-01-01\",\"$lt\":\"2025\"}}", "{\"a\":\"2024-12-31\"}", true},
        {"{\"a\":{\"$gte\":\"2024-01-01\",\"$lt\":\"2025\"}}", "{\"a\":\"2025-01-01\"}", false},
    };
    JUDGE(verdicts);
}

static void knows_null_and_absence(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a\":null}", "{\"a\":null}", true},
        {"{\"a\":null}", "{}", true},
        {"{\"a\":null}", "{\"a\":0}", false},
        {"{\"a\":null}", "{\"a\":[1,null]}", true},
        {"{\"a\":null}", "{\"a\":[]}", false},
        {"{\"a\":{\"$ne\":null}}", "{\"a\":0}", true},
        {"{\"a\":{\"$ne\":null}}", "{}", false},
        {"{\"a\":{\"$in\":[null,1]}}", "{}", true},
        {"{\"a\":{\"$nin\":[null]}}", "{\"a\":null}", false},
        {"{\"a\":{\"$exists\":true}}", "{\"a\":null}", true},
        {"{\"a\":{\"$exists\":true}}", "{\"a\":{}}", true},
        {"{\"a\":{\"$exists\":true}}", "{\"a\":[]}", true},
        {"{\"a\":{\"$exists\":true}}", "{\"b\":1}", false},
        {"{\"a\":{\"$exists\":false}}", "{\"b\":1}", true},
        {"{\"a\":{\"$exists\":false}}", "{\"a\":0}", false},
        {"{\"a.b\":{\"$exists\":true}}", "{\"a\":{\"c\":1}}", false},
        {"{\"a.b\":{\"$exists\":true}}", "{\"a\":{\"b\":[1]}}", true},
    };
    JUDGE(verdicts);
}

static void looks_into_lists(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a\":\"x\"}", "{\"a\":[\"y\",\"x\"]}", true},
        {"{\"a\":\"x\"}", "{\"a\":[\"y\"]}", false},
        {"{\"a\":\"x\"}", "{\"a\":[]}", false},
        {"{\"a\":\"x\"}", "{\"a\":[[\"x\"]]}", false},
        {"{\"a\":{\"$ne\":\"x\"}}", "{\"a\":[\"y\",\"x\"]}", false},
        {"{\"a\":{\"$ne\":\"x\"}}", "{\"a\":[]}", true},
        {"{\"a\":{\"$gt\":5}}", "{\"a\":[1,\"9\",7]}", true},
        {"{\"a\":{\"$gt\":5,\"$lt\":3}}", "{\"a\":[1,7]}", true},
        {"{\"a.b\":1}", "{\"a\":[{\"b\":2},{\"b\":1}]}", true},
        {"{\"a.b\":1}", "{\"a\":[{\"b\":[0,1]}]}", true},
        {"{\"a.b\":1}", "{\"a\":[3,{\"c\":1}]}", false},
        {"{\"a.1\":1}", "{\"a\":[0,1]}", true},
        {"{\"a.0\":1}", "{\"a\":[0,1]}", false},
        {"{\"a.1.b\":1}", "{\"a\":[{\"b\":0},{\"b\":1}]}", true},
        {"{\"a.0.b\":1}", "{\"a\":[{\"b\":0},{\"b\":1}]}", false},
        {"{\"a.0.1\":5}", "{\"a\":[[4,5]]}", true},
        {"{\"a.1\":\"x\"}", "{\"a\":[{\"1\":\"x\"}]}", true},
        {"{\"a\":{\"$in\":[3,4]}}", "{\"a\":[1,{\"b\":3},4]}", true},
    };
    JUDGE(verdicts);
}

static void follows_dotted_paths(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a.b.c\":1}", "{\"a\":{\"b\":{\"c\":1}}}", true},
        {"{\"a.b.c\":1}", "{\"a\":{\"b\":1}}", false},
        {"{\"a.b\":1}", "{\"a\":1,\"b\":1}", false},
        {"{\"a.b\":1}", "{\"a.b\":1}", true},
        {"{\"a.b.c\":1}", "{\"a.b\":{\"c\":1}}", true},
        {"{\"a.b.c\":1}", "{\"a\":{\"b.c\":1}}", true},
        {"{\"a.b.c\":1}", "{\"a\":{\"x\":1},\"a.b\":{\"c\":1}}", true},
        {"{\"ab\":1}", "{\"a\":1}", false},
        {"{\"a\":1}", "{\"ab\":1}", false},
        {"{\"\":1}", "{\"\":1}", true},
        {"{\"a.\":1}", "{\"a\":{\"\":1}}", true},
        {"{\".a\":1}", "{\"\":{\"a\":1}}", true},
        {"{\"a b.\xC3\xA9\":1}", "{\"a b\":{\"\xC3\xA9\":1}}", true},
    };
    JUDGE(verdicts);
}

static void reads_escapes(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"a\":\"\xC3\xA9\"}", "{\"a\":\"\\u00e9\"}", true},
        {"{\"a\":\"\xC3\xA9x\"}", "{\"a\":\"\\u00E9x\"}", true},
        {"{\"a\":\"\xF0\x9F\xA6\x8B\"}", "{\"a\":\"\\ud83e\\udd8b\"}", true},
        {"{\"a\":\"\\\"\\\\/\\b\\f\\n\\r\\t\"}", "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", true},
        {"{\"a\":\"x\\u0000y\"}", "{\"a\":\"x\\u0000y\"}", true},
        {"{\"a\":\"x\\u0000y\"}", "{\"a\":\"x\\u0000z\"}", false},
        {"{\"a\":\"x\"}", "{\"a\":\"x\\u0000\"}", false},
        {"{\"a\":{\"$gt\":\"x\"}}", "{\"a\":\"x\\u0000\"}", true},
        {"{\"a\":{\"$lt\":\"\\n\"}}", "{\"a\":\"\\t\"}", true},
        {"{\"\xC3\xA9.b\":1}", "{\"\\u00e9\":{\"b\":1}}", true},
        {"{\"a\\\"b\":1}", "{\"a\\\"b\":1}", true},
        {"{\"a\":1}", "{\"\\u0061\":1}", true},
        {"{\"a\":1}", "{\"\\u0061\\u0062\":1}", false},
        {"{\"a.b\":1}", "{\"\\u0061.b\":1}", true},
    };
    JUDGE(verdicts);
}

static void combines(void **state) {
    (void)state;
    const struct verdict verdicts[] = {
        {"{\"$and\":[{\"a\":1},{\"b\":2}]}", "{\"a\":1,\"b\":2}", true},
        {"{\"$and\":[{\"a\":1},{\"b\":2}]}", "{\"a\":1}", false},
        {"{\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"b\":2}", true},
        {"{\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"b\":1}", false},
        {"{\"$or\":[{\"a\":1},{}]}", "{}", true},
        {"{\"c\":3,\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"b\":2}", false},
        {"{\"c\":3,\"$or\":[{\"a\":1},{\"b\":2}]}", "{\"b\":2,\"c\":3}", true},
        {"{\"$not\":{\"a\":1}}", "{\"a\":2}", true},
        {"{\"$not\":{\"a\":1,\"b\":2}}", "{\"a\":1,\"b\":2}", false},
        {"{\"a\":{\"$not\":{\"$gt\":5}}}", "{\"a\":5}", true},
        {"{\"a\":{\"$not\":{\"$gt\":5}}}", "{}", true},
        {"{\"a\":{\"$not\":{\"$gt\":5}}}", "{\"a\":6}", false},
        {"{\"a\":{\"$not\":{\"$not\":{\"$gt\":5}}}}", "{\"a\":6}", true},
        {"{\"a\":{\"$in\":[]}}", "{\"a\":6}", false},
        {"{\"a\":{\"$nin\":[]}}", "{}", true},
        {"{\"a\":{\"$in\":[\"b\",3,true,\"a\",null,2.5]}}", "{\"a\":2.5}", true},
        {"{\"a\":{\"$in\":[\"b\",3,true,\"a\",null,2.5]}}", "{\"a\":\"b\"}", true},
        {"{\"a\":{\"$in\":[\"b\",3,true,\"a\",null,2.5]}}", "{\"a\":true}", true},
        {"{\"a\":{\"$in\":[\"b\",3,true,\"a\",null,2.5]}}", "{\"a\":false}", false},
        {"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":3}", true},
        {"{\"a\":{\"$nin\":[1,2]}}", "{\"a\":[3,2]}", false},
        {"{\"a\":{\"$eq\":1}}", "{\"a\":1}", true},
    };
    JUDGE(verdicts);
}

static void refuse(enum moult_error_code code, const char *part, const char *text) {
    struct moult_error error = {0};
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    if (json == NULL)
        fail_msg("no JSON: %s", text);
    if (moult_filter_parse(json, &error) != NULL)
        fail_msg("taken: %s", text);
    json_decref(json);
    if (error.code != code || strstr(error.message, part) == NULL)
        fail_msg("%s: %s", text, error.message);
}

static void refuses_what_is_no_filter(void **state) {
    (void)state;
    const char *bad[][2] = {
        {"object", "1"},
        {"object", "[]"},
        {"object", "null"},
        {"$in", "{\"a\":[1]}"},
        {"stands where an operator", "{\"a\":{\"b\":1}}"},
        {"stands where an operator", "{\"a\":{\"$gt\":1,\"b\":1}}"},
        {"an object of operators", "{\"a\":{}}"},
        {"no operator of a field", "{\"a\":{\"$regex\":\"x\"}}"},
        {"no operator of filters", "{\"$where\":\"x\"}"},
        {"no operator of filters", "{\"$gt\":1}"},
        {"a list of filters", "{\"$and\":{}}"},
        {"a list of filters", "{\"$or\":[]}"},
        {"object", "{\"$or\":[1]}"},
        {"object", "{\"$or\":[{\"a\":1},null]}"},
        {"object", "{\"$not\":[]}"},
        {"an object of operators", "{\"a\":{\"$not\":1}}"},
        {"a list of values", "{\"a\":{\"$in\":1}}"},
        {"among its values", "{\"a\":{\"$in\":[1,[2]]}}"},
        {"among its values", "{\"a\":{\"$nin\":[{}]}}"},
        {"number or a string", "{\"a\":{\"$gt\":null}}"},
        {"number or a string", "{\"a\":{\"$lt\":true}}"},
        {"number or a string", "{\"a\":{\"$gte\":[1]}}"},
        {"true or false", "{\"a\":{\"$exists\":1}}"},
        {"a list or an object", "{\"a\":{\"$eq\":{\"x\":1}}}"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        refuse(MOULT_ERROR_INVALID, bad[i][0], bad[i][1]);
}

static void repeat(struct moult_buffer *text, const char *part, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        moult_buffer_text(text, part);
}

static void holds_its_limits(void **state) {
    (void)state;
    struct moult_buffer text;
    moult_buffer_init(&text, MOULT_MIB);
    for (unsigned beyond = 0; beyond < 2; beyond++) {
        repeat(&text, "{\"$not\":", MOULT_FILTER_DEPTH_MAX - 1 + beyond);
        repeat(&text, "{\"a\":1}", 1);
        repeat(&text, "}", MOULT_FILTER_DEPTH_MAX - 1 + beyond);
        if (beyond)
            refuse(MOULT_ERROR_LIMIT, "16 levels", text.bytes);
        else
            moult_filter_free(parse(text.bytes));
        moult_buffer_release(&text);
        const char *terms[] = {"{\"a\":1},", "{},", "{\"a\":{\"$exists\":false}},"};
        for (unsigned i = 0; i < 3; i++) {
            repeat(&text, "{\"$or\":[", 1);
            repeat(&text, terms[i], MOULT_FILTER_TERMS_MAX - 1 + beyond);
            repeat(&text, "{\"a\":1}]}", 1);
            if (beyond)
                refuse(MOULT_ERROR_LIMIT, "256 conditions", text.bytes);
            else
                moult_filter_free(parse(text.bytes));
            moult_buffer_release(&text);
        }
        repeat(&text, "{\"a\":{\"$in\":[1", 1);
        repeat(&text, ",2", MOULT_FILTER_VALUES_MAX - 1 + beyond);
        repeat(&text, "]}}", 1);
        if (beyond)
            refuse(MOULT_ERROR_LIMIT, "1001 values", text.bytes);
        else
            moult_filter_free(parse(text.bytes));
        moult_buffer_release(&text);
        repeat(&text, "{\"", 1);
        repeat(&text, "a", MOULT_FILTER_FIELD_BYTES_MAX + beyond);
        repeat(&text, "\":1}", 1);
        if (beyond)
            refuse(MOULT_ERROR_LIMIT, "too long", text.bytes);
        else
            moult_filter_free(parse(text.bytes));
        moult_buffer_release(&text);
    }
}

/* A damaged file may hold anything: no crash, and no match where it was noticed. */
static void survives_what_is_no_json(void **state) {
    (void)state;
    const char *broken[] = {"", "{", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":[1",
                            "{\"a\":[", "{\"a\":\"x", "{\"a\":\"\\",
                            "{\"a\":\"\\u00", "{\"a\":[{", "[]", "1",
                            "{\"b\":\"\\\"}", "{\"b\":[[[", "{\"b\" 1}", "{\"b\":}", "\xFF", "{{"};
    struct moult_filter *filter = parse("{\"a.b\":{\"$not\":{\"$in\":[\"x\",1]}}}");
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        if (moult_filter_matches(filter, broken[i], strlen(broken[i])))
            fail_msg("matches %s", broken[i]);
    moult_filter_free(filter);
}

/* Deep paths over deep lists take no more stack than the path is long. */
static void survives_deep_metadata(void **state) {
    (void)state;
    struct moult_buffer path, deep;
    moult_buffer_init(&path, MOULT_KIB);
    moult_buffer_init(&deep, MOULT_MIB);
    repeat(&path, "{\"0", 1);
    repeat(&path, ".0", MOULT_FILTER_FIELD_BYTES_MAX / 2 - 1);
    repeat(&path, "\":1}", 1);
    repeat(&deep, "{\"0\":", 1);
    repeat(&deep, "[", 30000);
    repeat(&deep, "1", 1);
    repeat(&deep, "]", 30000);
    repeat(&deep, "}", 1);
    struct moult_filter *filter = parse(path.bytes);
    assert_false(moult_filter_matches(filter, deep.bytes, deep.size));
    moult_buffer_release(&deep);
    repeat(&deep, "{\"0\":", 1);
    repeat(&deep, "[", MOULT_FILTER_FIELD_BYTES_MAX / 2 - 1);
    repeat(&deep, "1", 1);
    repeat(&deep, "]", MOULT_FILTER_FIELD_BYTES_MAX / 2 - 1);
    repeat(&deep, "}", 1);
    assert_true(moult_filter_matches(filter, deep.bytes, deep.size));
    moult_filter_free(filter);
    moult_buffer_release(&deep);
    moult_buffer_release(&path);
}

/* ---- In the store. */

static bool is_allowed(const struct moult_allowed *allowed, uint32_t row) {
    return row < allowed->bits && (allowed->words[row / 64] >> row % 64 & 1) != 0;
}

static void allows_rows(void **state) {
    struct place *place = *state;
    struct moult_allowed allowed;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    uint64_t seq = 0;
    for (unsigned i = 0; i < 100; i++) {
        char id[8], metadata[32];
        snprintf(id, sizeof id, "%u", i);
        snprintf(metadata, sizeof metadata, "{\"n\":%u}", i);
        seq = put_one(place, i % 10 == 9 ? d : c, id, "text", metadata);
        assert_int_equal(2 * i, cut_one(place, space, seq, 4, 2));
    }
    struct moult_filter *filter = parse("{\"n\":{\"$gte\":30,\"$lt\":70}}");
    GOOD(moult_store_allowed(place->reader, c, space, filter, &allowed, &error));
    assert_int_equal(200, allowed.bits);
    assert_int_equal(36, allowed.documents);
    assert_int_equal(72, allowed.rows);
    assert_int_equal(seq, allowed.seq);
    for (uint32_t row = 0; row < 256; row++)
        assert_int_equal(row >= 60 && row < 140 && row / 2 % 10 != 9, is_allowed(&allowed, row));
    moult_allowed_release(&allowed);
    /* The small collection is walked over by its index. */
    GOOD(moult_store_allowed(place->reader, d, space, filter, &allowed, &error));
    assert_int_equal(4, allowed.documents);
    for (uint32_t row = 0; row < 200; row++)
        assert_int_equal(row >= 60 && row < 140 && row / 2 % 10 == 9, is_allowed(&allowed, row));
    moult_allowed_release(&allowed);
    GOOD(moult_store_allowed(place->reader, c, space, NULL, &allowed, &error));
    assert_int_equal(90, allowed.documents);
    moult_allowed_release(&allowed);
    REFUSED(MOULT_ERROR_MISSING, "Space",
            moult_store_allowed(place->reader, c, space + 1, filter, &allowed, &error));
    assert_null(allowed.words);
    moult_filter_free(filter);
}

static void lists_what_matches(void **state) {
    struct place *place = *state;
    struct moult_documents documents;
    uint32_t c = make_collection(place, "default", "minilm");
    put_one(place, c, "a", "text", "{\"tags\":[\"x\",\"y\"]}");
    put_one(place, c, "b", "text", "{\"tags\":[\"z\"]}");
    put_one(place, c, "c", "text", "{\"tags\":\"x\"}");
    struct moult_filter *filter = parse("{\"tags\":\"x\"}");
    GOOD(moult_store_list(place->reader, c, NULL, 1, 1000, filter, 0, &documents, &error));
    assert_int_equal(1, documents.count);
    char *cursor = moult_copy_string(documents.cursor);
    moult_documents_release(&documents);
    GOOD(moult_store_list(place->reader, c, cursor, 1, 1000, filter, 0, &documents, &error));
    assert_int_equal(1, documents.count);
    assert_string_equal("c", documents.items[0].id);
    assert_null(documents.cursor);
    moult_documents_release(&documents);
    moult_filter_free(filter);
    free(cursor);
}

/* Whoever asks for too much gets an error, and the next call is served. */
static void gives_up_in_time(void **state) {
    struct place *place = *state;
    struct moult_allowed allowed;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    struct moult_put *puts = moult_allocate(20000, sizeof *puts);
    for (unsigned i = 0; i < 20000; i++)
        puts[i] = (struct moult_put){.text = "t", .text_size = 1};
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_put(place->writer, c, puts, 20000, &error));
    GOOD(moult_store_commit(place->writer, &error));
    struct moult_buffer text;
    moult_buffer_init(&text, MOULT_MIB);
    repeat(&text, "{\"$and\":[", 1);
    repeat(&text, "{\"$not\":{\"a\":1}},", MOULT_FILTER_TERMS_MAX - 1);
    repeat(&text, "{\"a\":{\"$ne\":1}}]}", 1);
    struct moult_filter *filter = parse(text.bytes);
    moult_store_time_limit(place->reader, 1);
    REFUSED(MOULT_ERROR_UNAVAILABLE, "longer than 1 ms",
            moult_store_allowed(place->reader, c, space, filter, &allowed, &error));
    moult_store_time_limit(place->reader, 0);
    GOOD(moult_store_allowed(place->reader, c, space, filter, &allowed, &error));
    assert_int_equal(20000, allowed.documents);
    moult_allowed_release(&allowed);
    moult_filter_free(filter);
    moult_buffer_release(&text);
    free(puts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compares_scalars),
        cmocka_unit_test(compares_whole_numbers_exactly),
        cmocka_unit_test(compares_order_within_a_type),
        cmocka_unit_test(knows_null_and_absence),
        cmocka_unit_test(looks_into_lists),
        cmocka_unit_test(follows_dotted_paths),
        cmocka_unit_test(reads_escapes),
        cmocka_unit_test(combines),
        cmocka_unit_test(refuses_what_is_no_filter),
        cmocka_unit_test(holds_its_limits),
        cmocka_unit_test(survives_what_is_no_json),
        cmocka_unit_test(survives_deep_metadata),
        PLACE_TEST(allows_rows),
        PLACE_TEST(lists_what_matches),
        PLACE_TEST(gives_up_in_time),
    };
    return cmocka_run_group_tests_name("filter", tests, NULL, NULL);
}
