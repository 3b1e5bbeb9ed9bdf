#include "base/base64.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* RFC 4648, section 10. */
static const char *const published[][2] = {
    {"", ""},         {"f", "Zg=="},        {"fo", "Zm8="},        {"foo", "Zm9v"},
    {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"},
};

static void writes_and_reads_the_published_texts(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        char text[16], bytes[8];
        const char *plain = published[i][0], *coded = published[i][1];
        moult_base64_write(text, plain, strlen(plain));
        assert_string_equal(coded, text);
        assert_int_equal(MOULT_BASE64_SIZE(strlen(plain)), strlen(coded));
        assert_int_equal(moult_base64_read(bytes, sizeof bytes, coded, strlen(coded)),
                         strlen(plain));
        assert_memory_equal(bytes, plain, strlen(plain));
        size_t bare = strcspn(coded, "=");
        assert_int_equal(moult_base64_read(bytes, sizeof bytes, coded, bare), strlen(plain));
    }
}

static void every_byte_comes_back(void **state) {
    (void)state;
    unsigned char all[256], again[256];
    char text[MOULT_BASE64_SIZE(sizeof all) + 1];
    for (unsigned i = 0; i < sizeof all; i++)
        all[i] = (unsigned char)(i * 7);
    moult_base64_write(text, all, sizeof all);
    assert_int_equal(moult_base64_read(again, sizeof again, text, strlen(text)), sizeof all);
    assert_memory_equal(all, again, sizeof all);
}

static void refuses_what_is_none(void **state) {
    (void)state;
    static const char *const wrong[] = {"Z", "Zg=", "Zm9v=", "====", "Zg==Zg==", "Zm 9v", "Zm-_",
                                        "Zh==", "Zm9=", "Zm9v\n"};
    char bytes[8];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        assert_int_equal(moult_base64_read(bytes, sizeof bytes, wrong[i], strlen(wrong[i])), -1);
    assert_int_equal(moult_base64_read(bytes, sizeof bytes, "Zm\0v", 4), -1);
    assert_int_equal(moult_base64_read(bytes, 5, "Zm9vYmFy", 8), -1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_and_reads_the_published_texts),
        cmocka_unit_test(every_byte_comes_back),
        cmocka_unit_test(refuses_what_is_none),
    };
    return cmocka_run_group_tests_name("base64", tests, NULL, NULL);
}
