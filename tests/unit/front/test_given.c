/* Vectors that come with documents: which bodies have them, and who gets them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "front/given.h"
#include "store/store.h"

#define DIGITS "0123456789abcdef"
#define WHOLE DIGITS DIGITS DIGITS DIGITS

static struct moult_refusal refusal;

static int read_body(struct moult_given *given, const char *text, const json_t **documents) {
    json_t *body = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(body);
    refusal = (struct moult_refusal){.refused = false};
    *given = (struct moult_given){.C = 0};
    *documents = NULL;
    int result = moult_given_read(given, body, documents, &refusal);
    bool list = *documents != NULL;
    json_decref(body);
    if (!list)
        *documents = NULL;
    return result;
}

static void leaves_other_bodies_alone(void **state) {
    static const char *const bodies[] = {"[]", "{\"text\":\"x\"}", "[{\"text\":\"x\"}]", "1"};
    struct moult_given given;
    const json_t *documents;
    (void)state;
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        assert_int_equal(read_body(&given, bodies[i], &documents), 0);
        assert_null(documents);
        assert_int_equal(given.count, 0);
        moult_given_release(&given);
    }
}

static void refuses_what_is_no_vector(void **state) {
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"{\"documents\":[]}", "16 to 64 hex digits"},
        {"{\"documents\":[],\"fingerprint\":\"0123456789abcde\"}", "16 to 64 hex digits"},
        {"{\"documents\":[],\"fingerprint\":\"" WHOLE "0\"}", "16 to 64 hex digits"},
        {"{\"documents\":[],\"fingerprint\":\"0123456789ABCDEF\"}", "16 to 64 hex digits"},
        {"{\"documents\":{},\"fingerprint\":\"" DIGITS "\"}", "must be a list"},
        {"{\"documents\":[],\"fingerprint\":\"" DIGITS "\",\"model\":1}", "There is no \"model\""},
        {"{\"documents\":[{\"vector\":[]}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":[0,0]}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":[1e39]}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":\"AAAA\"}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":\"?\"}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":[1,\"x\"]}],\"fingerprint\":\"" DIGITS "\"}", "documents[0]"},
        {"{\"documents\":[{\"vector\":[1,1]},{},{\"vector\":[1]}],\"fingerprint\":\"" DIGITS "\"}",
         "documents[2]: its vector has 1 numbers, and those before it have 2."},
    };
    struct moult_given given;
    const json_t *documents;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(read_body(&given, cases[i].body, &documents), -1);
        assert_true(refusal.refused);
        assert_non_null(strstr(refusal.message, cases[i].message));
        moult_given_release(&given);
    }
}

/* 3, 4 as numbers, 0, 2 as base64 of f32. */
static const char body[] = "{\"documents\":[{\"vector\":[3,4]},{\"vector\":null},"
                           "{\"vector\":\"AAAAAAAAAEA=\"}],\"fingerprint\":\"" DIGITS "\"}";

static void gives_unit_vectors_by_version(void **state) {
    const struct moult_put puts[] = {{.seq = 9}, {.seq = 8}, {.seq = 7}};
    struct moult_given given, *list = NULL;
    const json_t *documents;
    float vector[2];
    (void)state;
    assert_int_equal(read_body(&given, body, &documents), 0);
    assert_non_null(documents);
    assert_int_equal(given.count, 2);
    assert_false(moult_given_take(list, WHOLE, 9, 2, vector));
    moult_given_offer(&given, &list, puts);
    assert_true(moult_given_take(list, WHOLE, 9, 2, vector));
    assert_float_equal(vector[0], 0.6, 1e-6);
    assert_float_equal(vector[1], 0.8, 1e-6);
    assert_true(moult_given_take(list, WHOLE, 7, 2, vector));
    assert_float_equal(vector[1], 1, 0);
    assert_false(moult_given_take(list, WHOLE, 8, 2, vector));
    assert_false(moult_given_take(list, WHOLE, 9, 3, vector));
    assert_false(moult_given_take(list, "1" WHOLE, 9, 2, vector));
    assert_int_equal(given.taken, 2);
    moult_given_release(&given);
    assert_null(list);
}

static void leaves_its_list(void **state) {
    const struct moult_put puts[2][3] = {{{.seq = 1}, {.seq = 2}, {.seq = 3}},
                                         {{.seq = 4}, {.seq = 5}, {.seq = 6}}};
    struct moult_given first, second, *list = NULL;
    const json_t *documents;
    float vector[2];
    (void)state;
    assert_int_equal(read_body(&first, body, &documents), 0);
    assert_int_equal(read_body(&second, body, &documents), 0);
    moult_given_offer(&first, &list, puts[0]);
    moult_given_offer(&second, &list, puts[1]);
    assert_true(moult_given_take(list, WHOLE, 3, 2, vector));
    moult_given_release(&first);
    assert_false(moult_given_take(list, WHOLE, 3, 2, vector));
    assert_true(moult_given_take(list, WHOLE, 6, 2, vector));
    moult_given_release(&second);
    assert_null(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leaves_other_bodies_alone),
        cmocka_unit_test(refuses_what_is_no_vector),
        cmocka_unit_test(gives_unit_vectors_by_version),
        cmocka_unit_test(leaves_its_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
