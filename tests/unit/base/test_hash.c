#include "base/hash.h"

#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void gives_the_published_digests(void **state) {
    (void)state;
    char hex[MOULT_SHA256_HEX];
    moult_sha256_of("", 0, hex);
    assert_string_equal("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", hex);
    moult_sha256_of("abc", 3, hex);
    assert_string_equal("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", hex);
}

static void a_million_letters_in_any_pieces(void **state) {
    (void)state;
    char letters[997];
    memset(letters, 'a', sizeof letters);
    struct moult_sha256 *hash = moult_sha256_open();
    size_t left = 1000000;
    for (size_t piece = 0; left > 0; piece = (piece + 1) % sizeof letters) {
        size_t size = piece < left ? piece : left;
        moult_sha256_add(hash, letters, size);
        left -= size;
    }
    char hex[MOULT_SHA256_HEX];
    moult_sha256_close(hash, hex);
    assert_string_equal("cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0", hex);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_published_digests),
        cmocka_unit_test(a_million_letters_in_any_pieces),
    };
    return cmocka_run_group_tests_name("hash", tests, NULL, NULL);
}
