#include "base/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

static void is_zeroed_and_never_null(void **state) {
    (void)state;
    unsigned char *bytes = moult_allocate(1000, 3);
    for (size_t i = 0; i < 3000; i++)
        assert_int_equal(0, bytes[i]);
    free(bytes);
    void *nothing = moult_allocate(0, 8);
    assert_non_null(nothing);
    nothing = moult_reallocate(nothing, 0, 8);
    assert_non_null(nothing);
    free(nothing);
}

static void copies_and_formats(void **state) {
    (void)state;
    char *copy = moult_copy_bytes("a\0b", 3);
    assert_memory_equal("a\0b", copy, 4);
    free(copy);
    copy = moult_copy_bytes(NULL, 0);
    assert_string_equal("", copy);
    free(copy);
    copy = moult_copy_string("moult");
    assert_string_equal("moult", copy);
    free(copy);
    copy = moult_format("%s-%05d", "generation", 42);
    assert_string_equal("generation-00042", copy);
    free(copy);
}

/* Sizes on both sides of the border between the heap and mappings. */
static void large_is_aligned_and_zeroed(void **state) {
    (void)state;
    const size_t mib = 1024 * 1024;
    const size_t sizes[] = {0, 1, 63, 64, 4096, 2 * mib - 1, 2 * mib, 2 * mib + 1, 5 * mib};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        unsigned char *memory = moult_allocate_large(sizes[i]);
        assert_non_null(memory);
        assert_int_equal(0, (uintptr_t)memory % 64);
        for (size_t at = 0; at < sizes[i]; at += 61)
            assert_int_equal(0, memory[at]);
        memset(memory, 0xA5, sizes[i]);
        moult_free_large(memory, sizes[i]);
    }
    moult_free_large(NULL, 5 * mib);
}

static void large_can_be_refused(void **state) {
    (void)state;
    assert_null(moult_allocate_large(SIZE_MAX));
    assert_null(moult_allocate_large(SIZE_MAX / 2));
}

/* The process must end by itself, with a sentence: not by a signal. */
static void exhaustion_ends_the_process(void **state) {
    (void)state;
    int ends[2];
    assert_int_equal(0, pipe(ends));
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        moult_reallocate(NULL, SIZE_MAX / 2, 4);
        _exit(0);
    }
    close(ends[1]);
    char said[256] = "";
    assert_true(read(ends[0], said, sizeof said - 1) > 0);
    close(ends[0]);
    int status;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFEXITED(status));
    assert_int_equal(1, WEXITSTATUS(status));
    assert_non_null(strstr(said, "moult: out of memory"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_zeroed_and_never_null),    cmocka_unit_test(copies_and_formats),
        cmocka_unit_test(large_is_aligned_and_zeroed), cmocka_unit_test(large_can_be_refused),
        cmocka_unit_test(exhaustion_ends_the_process),
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
