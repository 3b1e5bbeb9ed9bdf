#include "tokenizer/trie.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void nothing_is_found_in_an_empty_trie(void **state) {
    (void)state;
    struct moult_trie trie;
    uint32_t value = 77;

    moult_trie_build(&trie, NULL, 0);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "a", 1, &value), 0);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "", 0, &value), 0);
    assert_int_equal(moult_trie_walk(&trie, MOULT_TRIE_ROOT, "a", 1), MOULT_TRIE_NONE);
    assert_int_equal(moult_trie_walk(&trie, MOULT_TRIE_ROOT, "", 0), MOULT_TRIE_ROOT);
    assert_int_equal(value, 77);
    moult_trie_release(&trie);
}

static void the_longest_is_found(void **state) {
    (void)state;
    static const struct moult_trie_entry entries[] = {
        {"a", 1, 0}, {"ab", 2, 1}, {"abcd", 4, MOULT_TRIE_VALUE_MAX}, {"\xff\0", 2, 3}};
    struct moult_trie trie;
    uint32_t value;

    moult_trie_build(&trie, entries, 4);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "abcx", 4, &value), 2);
    assert_int_equal(value, 1);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "abcd", 3, &value), 2);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "abcde", 5, &value), 4);
    assert_int_equal(value, MOULT_TRIE_VALUE_MAX);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "\xff\0", 2, &value), 2);
    assert_int_equal(value, 3);
    assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, "b", 1, &value), 0);
    uint32_t node = moult_trie_walk(&trie, MOULT_TRIE_ROOT, "ab", 2);
    assert_int_equal(moult_trie_longest(&trie, node, "cd", 2, &value), 2);
    assert_int_equal(moult_trie_walk(&trie, MOULT_TRIE_ROOT, "abx", 3), MOULT_TRIE_NONE);
    moult_trie_release(&trie);
}

static uint32_t next_random(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 16;
}

/* Strings over few bytes share many beginnings; over all bytes, nodes have many children. */
static uint32_t fill_random(struct moult_trie_entry *entries, char (*bytes)[9], uint32_t count,
                            uint32_t alphabet, uint32_t *seed) {
    uint32_t used = 0;

    for (uint32_t n = 0; n < count; n++) {
        uint32_t size = 1 + next_random(seed) % 8;
        for (uint32_t at = 0; at < size; at++)
            bytes[n][at] = (char)(next_random(seed) % alphabet);
        entries[n] = (struct moult_trie_entry){bytes[n], size, 0};
    }
    qsort(entries, count, sizeof *entries, moult_trie_entry_compare);
    for (uint32_t n = 0; n < count; n++)
        if (used == 0 || moult_trie_entry_compare(&entries[used - 1], &entries[n]) != 0)
            entries[used++] = entries[n];
    for (uint32_t n = 0; n < used; n++)
        entries[n].value = n;
    return used;
}

static size_t search_plainly(const struct moult_trie_entry *entries, uint32_t count,
                             const char *text, size_t size, uint32_t *value) {
    for (; size > 0; size--) {
        struct moult_trie_entry key = {text, (uint32_t)size, 0};
        const struct moult_trie_entry *found =
            bsearch(&key, entries, count, sizeof key, moult_trie_entry_compare);
        if (found != NULL) {
            *value = found->value;
            return size;
        }
    }
    return 0;
}

static void random_tries_agree_with_plain_search(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    static struct moult_trie_entry entries[COUNT];
    static char bytes[COUNT][9];
    static const uint32_t alphabets[] = {2, 3, 17, 256};
    uint32_t seed = 1;

    for (unsigned round = 0; round < 8; round++) {
        uint32_t alphabet = alphabets[round % 4];
        uint32_t count = fill_random(entries, bytes, round < 4 ? COUNT : 300, alphabet, &seed);
        struct moult_trie trie;
        moult_trie_build(&trie, entries, count);
        for (uint32_t n = 0; n < count; n++) {
            uint32_t value = UINT32_MAX;
            assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, entries[n].bytes,
                                                entries[n].size, &value), entries[n].size);
            assert_int_equal(value, n);
        }
        for (unsigned n = 0; n < 20000; n++) {
            char text[10];
            uint32_t value = 0, plain_value = 0;
            for (size_t at = 0; at < sizeof text; at++)
                text[at] = (char)(next_random(&seed) % alphabet);
            size_t size = next_random(&seed) % (sizeof text + 1);
            assert_int_equal(moult_trie_longest(&trie, MOULT_TRIE_ROOT, text, size, &value),
                             search_plainly(entries, count, text, size, &plain_value));
            assert_int_equal(value, plain_value);
        }
        moult_trie_release(&trie);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_found_in_an_empty_trie),
        cmocka_unit_test(the_longest_is_found),
        cmocka_unit_test(random_tries_agree_with_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
