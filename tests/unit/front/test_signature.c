/* What web hooks are signed with, against published figures and other implementations. */
#include "front/signature.h"

#include <stdio.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* The example that the libraries of Standard Webhooks are tested with. */
#define SECRET "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define BODY "{\"test\": 2432232314}"
#define SIGNATURE "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

static int read(const char *text, struct moult_signing_keys *keys, struct moult_error *error) {
    return moult_signing_keys_read(text, strlen(text), keys, error);
}

static void append(char *text, size_t capacity, const char *more) {
    size_t size = strlen(text);
    snprintf(text + size, capacity - size, "%s", more);
}

static void signs_as_the_specification_does(void **state) {
    (void)state;
    struct moult_signing_keys keys;
    char signature[MOULT_SIGNATURE_BYTES_MAX];
    assert_int_equal(read("whsec_" SECRET "\n", &keys, NULL), 0);
    moult_signature_write(&keys, ID, 1614265330, BODY, strlen(BODY), signature);
    assert_string_equal(signature, SIGNATURE);
    assert_int_equal(read(SECRET, &keys, NULL), 0);
    moult_signature_write(&keys, ID, 1614265330, BODY, strlen(BODY), signature);
    assert_string_equal(signature, SIGNATURE);
}

static void several_secrets_sign_together(void **state) {
    (void)state;
    struct moult_signing_keys keys;
    char signature[MOULT_SIGNATURE_BYTES_MAX];
    const char *other = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    char text[400] = "\n";
    for (int i = 0; i < MOULT_SIGNING_KEYS_MAX - 1; i++)
        append(text, sizeof text, "whsec_" SECRET " \r\n\n");
    append(text, sizeof text, other);
    assert_int_equal(read(text, &keys, NULL), 0);
    assert_int_equal(keys.count, MOULT_SIGNING_KEYS_MAX);
    assert_int_equal(keys.keys[0].size, 24);
    assert_int_equal(keys.keys[3].size, 32);
    moult_signature_write(&keys, ID, 1614265330, BODY, strlen(BODY), signature);
    assert_int_equal(strlen(signature), MOULT_SIGNATURE_BYTES_MAX - 1);
    assert_memory_equal(signature, SIGNATURE " " SIGNATURE " v1,", 2 * strlen(SIGNATURE) + 5);
    assert_memory_not_equal(signature + strlen(signature) - 44, &SIGNATURE[3], 44);
    append(text, sizeof text, "\n" SECRET);
    assert_int_equal(read(text, &keys, NULL), -1);
}

static void what_is_no_secret_is_refused_and_not_shown(void **state) {
    (void)state;
    static const char *const wrong[] = {"", "\n\n", "whsec_", "hunter2", "whsec_hunter2",
                                        "aHVudGVyMg==", "whsec_" SECRET SECRET SECRET SECRET};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct moult_signing_keys keys;
        struct moult_error error;
        assert_int_equal(read(wrong[i], &keys, &error), -1);
        assert_null(strstr(error.message, "hunter2"));
        assert_null(strstr(error.message, SECRET));
    }
}

/* RFC 4231, test cases 1 and 6. */
static void the_code_beneath_is_the_published_one(void **state) {
    (void)state;
    static const unsigned char first[] = {
        0xb0, 0x34, 0x4c, 0x61, 0xd8, 0xdb, 0x38, 0x53, 0x5c, 0xa8, 0xaf,
        0xce, 0xaf, 0x0b, 0xf1, 0x2b, 0x88, 0x1d, 0xc2, 0x00, 0xc9, 0x83,
        0x3d, 0xa7, 0x26, 0xe9, 0x37, 0x6c, 0x2e, 0x32, 0xcf, 0xf7};
    static const unsigned char sixth[] = {
        0x60, 0xe4, 0x31, 0x59, 0x1e, 0xe0, 0xb6, 0x7f, 0x0d, 0x8a, 0x26,
        0xaa, 0xcb, 0xf5, 0xb7, 0x7f, 0x8e, 0x0b, 0xc6, 0x21, 0x37, 0x28,
        0xc5, 0x14, 0x05, 0x46, 0x04, 0x0f, 0x0e, 0xe3, 0x7f, 0x54};
    const char *text = "Test Using Larger Than Block-Size Key - Hash Key First";
    unsigned char key[131], digest[MOULT_SHA256_BYTES];
    memset(key, 0x0b, 20);
    moult_hmac_sha256(key, 20, "Hi There", 8, digest);
    assert_memory_equal(digest, first, sizeof first);
    memset(key, 0xaa, sizeof key);
    moult_hmac_sha256(key, sizeof key, text, strlen(text), digest);
    assert_memory_equal(digest, sixth, sizeof sixth);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signs_as_the_specification_does),
        cmocka_unit_test(several_secrets_sign_together),
        cmocka_unit_test(what_is_no_secret_is_refused_and_not_shown),
        cmocka_unit_test(the_code_beneath_is_the_published_one),
    };
    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
