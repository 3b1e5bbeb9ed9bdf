/* The desk over a real file: what becomes of tasks, in which order, and which `done` hears what. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <unistd.h>
#include <uv.h>

#include "base/file.h"
#include "front/desk.h"
#include "store/store.h"

#define TASKS 600

struct bench {
    uv_loop_t loop;
    struct moult_desk *desk;
    char folder[64];
    unsigned order[TASKS];
    unsigned done;
};

struct errand {
    struct moult_desk_task task;
    struct bench *bench;
    unsigned number;
    enum moult_error_code fails_with;   /* MOULT_OK: does not. */
    bool fails_once;
    unsigned runs;
    bool heard, heard_of_error;
    enum moult_error_code code;
    uv_sem_t *waits_for, *tells;
};

static void open_bench(struct bench *bench, bool as_guest) {
    struct moult_error error;
    memset(bench, 0, sizeof *bench);
    snprintf(bench->folder, sizeof bench->folder, "/tmp/moult-desk-XXXXXX");
    assert_non_null(mkdtemp(bench->folder));
    uv_loop_init(&bench->loop);
    bench->desk = moult_desk_open(&bench->loop, bench->folder, as_guest, &error);
    assert_non_null(bench->desk);
}

static void stop(struct bench *bench, bool at_once) {
    while (!moult_desk_stop(bench->desk, at_once))
        uv_run(&bench->loop, UV_RUN_ONCE);
}

static void close_bench(struct bench *bench) {
    struct moult_error error;
    stop(bench, false);
    moult_desk_close_handles(bench->desk);
    uv_run(&bench->loop, UV_RUN_DEFAULT);
    moult_desk_free(bench->desk);
    assert_int_equal(uv_loop_close(&bench->loop), 0);
    assert_int_equal(moult_folder_remove(AT_FDCWD, bench->folder, &error), 0);
}

static int run(struct moult_desk_task *task, struct moult_store *store, struct moult_error *error) {
    struct errand *errand = (struct errand *)task;
    assert_non_null(store);
    errand->runs++;
    if (errand->tells != NULL)
        uv_sem_post(errand->tells);
    if (errand->waits_for != NULL)
        uv_sem_wait(errand->waits_for);
    if (errand->fails_with == MOULT_OK || (errand->fails_once && errand->runs > 1))
        return 0;
    return moult_fail(error, errand->fails_with, "Errand %u fails.", errand->number);
}

static void done(struct moult_desk_task *task, const struct moult_error *error) {
    struct errand *errand = (struct errand *)task;
    assert_false(errand->heard);
    errand->heard = true;
    errand->heard_of_error = error != NULL;
    errand->code = error != NULL ? error->code : MOULT_OK;
    errand->bench->order[errand->bench->done++] = errand->number;
}

static void hand_in(struct bench *bench, struct errand *errand, unsigned number,
                    enum moult_desk_queue queue) {
    errand->task.run = run;
    errand->task.done = done;
    errand->bench = bench;
    errand->number = number;
    moult_desk_hand_in(bench->desk, queue, &errand->task);
}

static void wait_for(struct bench *bench, unsigned count) {
    while (bench->done < count)
        uv_run(&bench->loop, UV_RUN_ONCE);
}

static void test_all_are_done_in_order(void **state) {
    (void)state;
    static struct errand errands[TASKS];
    struct bench bench;
    memset(errands, 0, sizeof errands);
    open_bench(&bench, false);
    for (unsigned i = 0; i < TASKS; i++)
        hand_in(&bench, &errands[i], i, MOULT_DESK_WRITE);
    assert_int_equal(moult_desk_waiting(bench.desk, MOULT_DESK_WRITE), TASKS);
    wait_for(&bench, TASKS);
    for (unsigned i = 0; i < TASKS; i++) {
        assert_int_equal(bench.order[i], i);
        assert_false(errands[i].heard_of_error);
        assert_int_equal(errands[i].runs, 1);
    }
    assert_int_equal(moult_desk_waiting(bench.desk, MOULT_DESK_WRITE), 0);
    close_bench(&bench);
}

/* Five that wait while the writer is busy: one group. */
static void write_group(struct bench *bench, struct errand *errands) {
    uv_sem_t go, began;
    struct errand first = {.waits_for = &go, .tells = &began};
    uv_sem_init(&go, 0);
    uv_sem_init(&began, 0);
    hand_in(bench, &first, 99, MOULT_DESK_WRITE);
    uv_sem_wait(&began);
    for (unsigned i = 0; i < 5; i++)
        hand_in(bench, &errands[i], i, MOULT_DESK_WRITE);
    uv_sem_post(&go);
    wait_for(bench, 6);
    assert_false(first.heard_of_error);
    uv_sem_destroy(&go);
    uv_sem_destroy(&began);
}

static void test_a_bad_write_fails_alone(void **state) {
    (void)state;
    struct errand errands[5] = {[2] = {.fails_with = MOULT_ERROR_INVALID}};
    struct bench bench;
    open_bench(&bench, false);
    write_group(&bench, errands);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(errands[i].code, i == 2 ? MOULT_ERROR_INVALID : MOULT_OK);
        assert_int_equal(errands[i].runs, 1);
    }
    close_bench(&bench);
}

static void test_after_a_lost_transaction_each_has_its_own(void **state) {
    (void)state;
    struct errand errands[5] = {[1] = {.fails_with = MOULT_ERROR_SYSTEM},
                                [3] = {.fails_with = MOULT_ERROR_INVALID}};
    struct bench bench;
    open_bench(&bench, false);
    write_group(&bench, errands);
    assert_int_equal(errands[0].code, MOULT_OK);
    assert_int_equal(errands[0].runs, 2);
    assert_int_equal(errands[1].code, MOULT_ERROR_SYSTEM);
    assert_int_equal(errands[2].code, MOULT_OK);
    assert_int_equal(errands[3].code, MOULT_ERROR_INVALID);
    assert_int_equal(errands[4].code, MOULT_OK);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(bench.order[i + 1], i);
    close_bench(&bench);
}

static void test_one_that_was_unlucky_is_written_after_all(void **state) {
    (void)state;
    struct errand errands[5] = {[4] = {.fails_with = MOULT_ERROR_UNAVAILABLE, .fails_once = true}};
    struct bench bench;
    open_bench(&bench, false);
    write_group(&bench, errands);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(errands[i].code, MOULT_OK);
    close_bench(&bench);
}

static void test_answers_are_read_before_the_rest(void **state) {
    (void)state;
    uv_sem_t go, began;
    struct errand first = {.waits_for = &go, .tells = &began};
    struct errand later[2] = {0}, soon[2] = {0};
    struct bench bench;
    open_bench(&bench, false);
    uv_sem_init(&go, 0);
    uv_sem_init(&began, 0);
    hand_in(&bench, &first, 0, MOULT_DESK_READ_LATER);
    uv_sem_wait(&began);
    hand_in(&bench, &later[0], 3, MOULT_DESK_READ_LATER);
    hand_in(&bench, &later[1], 4, MOULT_DESK_READ_LATER);
    hand_in(&bench, &soon[0], 1, MOULT_DESK_READ);
    hand_in(&bench, &soon[1], 2, MOULT_DESK_READ);
    uv_sem_post(&go);
    wait_for(&bench, 5);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(bench.order[i], i);
    uv_sem_destroy(&go);
    uv_sem_destroy(&began);
    close_bench(&bench);
}

/* And not even before: what looks for words holds up nobody but its like. */
static void test_words_hold_up_nobody_else(void **state) {
    (void)state;
    uv_sem_t go, began;
    struct errand first = {.waits_for = &go, .tells = &began}, second = {0};
    struct errand read = {0}, later = {0}, write = {0};
    struct bench bench;
    open_bench(&bench, false);
    uv_sem_init(&go, 0);
    uv_sem_init(&began, 0);
    hand_in(&bench, &first, 0, MOULT_DESK_WORDS);
    uv_sem_wait(&began);
    hand_in(&bench, &second, 1, MOULT_DESK_WORDS);
    hand_in(&bench, &read, 2, MOULT_DESK_READ);
    hand_in(&bench, &later, 3, MOULT_DESK_READ_LATER);
    hand_in(&bench, &write, 4, MOULT_DESK_WRITE);
    wait_for(&bench, 3);
    assert_true(read.heard && later.heard && write.heard);
    assert_int_equal(second.runs, 0);
    assert_int_equal(moult_desk_waiting(bench.desk, MOULT_DESK_WORDS), 2);
    uv_sem_post(&go);
    wait_for(&bench, 5);
    assert_int_equal(bench.order[3], 0);
    assert_int_equal(bench.order[4], 1);
    uv_sem_destroy(&go);
    uv_sem_destroy(&began);
    close_bench(&bench);
}

static void test_what_has_not_begun_can_be_withdrawn(void **state) {
    (void)state;
    struct errand errands[4] = {0};
    struct bench bench;
    open_bench(&bench, false);
    assert_true(moult_desk_hold(bench.desk));
    for (unsigned i = 0; i < 4; i++)
        hand_in(&bench, &errands[i], i, MOULT_DESK_WRITE);
    assert_true(moult_desk_withdraw(bench.desk, &errands[1].task));
    assert_true(moult_desk_withdraw(bench.desk, &errands[3].task));
    assert_false(moult_desk_withdraw(bench.desk, &errands[3].task));
    moult_desk_release(bench.desk);
    wait_for(&bench, 2);
    assert_false(moult_desk_withdraw(bench.desk, &errands[0].task));
    assert_int_equal(errands[0].runs + errands[2].runs, 2);
    assert_int_equal(errands[1].runs + errands[3].runs, 0);
    close_bench(&bench);
}

static void test_a_guest_writes_nothing_before_it_owns(void **state) {
    (void)state;
    struct errand write = {0}, read = {0};
    struct bench bench;
    char path[96];
    open_bench(&bench, true);
    snprintf(path, sizeof path, "%s/documents.db", bench.folder);
    hand_in(&bench, &write, 0, MOULT_DESK_WRITE);
    hand_in(&bench, &read, 1, MOULT_DESK_READ);
    wait_for(&bench, 1);
    assert_int_equal(read.code, MOULT_ERROR_MISSING);
    assert_int_equal(access(path, F_OK), -1);
    moult_desk_release(bench.desk);
    wait_for(&bench, 2);
    assert_int_equal(write.code, MOULT_OK);
    assert_int_equal(access(path, F_OK), 0);
    close_bench(&bench);
}

static void test_the_end_leaves_nobody_waiting(void **state) {
    (void)state;
    struct errand kept = {0}, dropped = {0}, late = {0};
    struct bench bench;
    open_bench(&bench, false);
    hand_in(&bench, &kept, 0, MOULT_DESK_WRITE);
    stop(&bench, false);
    assert_int_equal(kept.code, MOULT_OK);
    hand_in(&bench, &late, 1, MOULT_DESK_READ);
    stop(&bench, false);
    assert_int_equal(late.code, MOULT_ERROR_UNAVAILABLE);
    assert_int_equal(late.runs, 0);
    close_bench(&bench);

    open_bench(&bench, false);
    moult_desk_hold(bench.desk);
    hand_in(&bench, &dropped, 0, MOULT_DESK_WRITE);
    stop(&bench, true);
    assert_int_equal(dropped.code, MOULT_ERROR_UNAVAILABLE);
    assert_int_equal(dropped.runs, 0);
    close_bench(&bench);
}

static void test_a_file_that_is_none_of_ours_is_refused(void **state) {
    (void)state;
    char folder[] = "/tmp/moult-desk-XXXXXX", path[96];
    struct moult_error error;
    uv_loop_t loop;
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/documents.db", folder);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("This is a letter.", file);
    fclose(file);
    uv_loop_init(&loop);
    assert_null(moult_desk_open(&loop, folder, false, &error));
    assert_non_null(strstr(error.message, "documents.db"));
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(moult_folder_remove(AT_FDCWD, folder, &error), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_are_done_in_order),
        cmocka_unit_test(test_a_bad_write_fails_alone),
        cmocka_unit_test(test_after_a_lost_transaction_each_has_its_own),
        cmocka_unit_test(test_one_that_was_unlucky_is_written_after_all),
        cmocka_unit_test(test_answers_are_read_before_the_rest),
        cmocka_unit_test(test_words_hold_up_nobody_else),
        cmocka_unit_test(test_what_has_not_begun_can_be_withdrawn),
        cmocka_unit_test(test_a_guest_writes_nothing_before_it_owns),
        cmocka_unit_test(test_the_end_leaves_nobody_waiting),
        cmocka_unit_test(test_a_file_that_is_none_of_ours_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
