/* Names, admission and the order of waiting, with generations that have no worker. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "front/slot.h"

struct scene {
    uv_loop_t loop;
    struct moult_serve_options options;
    struct moult_slots *slots;
};

static unsigned done_count;
static enum moult_job_outcome last_outcome;

static void on_done(struct moult_job *job) {
    done_count++;
    last_outcome = job->outcome;
    moult_job_close(job);
}

static void on_gone(void *context, struct moult_slot *slot) {
    (void)context;
    (void)slot;
}

static int set_up(void **state) {
    static const struct moult_slots_events events = {.gone = on_gone, .drained = on_gone};
    struct scene *scene = moult_allocate(1, sizeof *scene);
    uv_loop_init(&scene->loop);
    scene->options.waiting_texts_max = 10;
    scene->options.threads = 1;
    scene->slots = moult_slots_open(&scene->loop, &scene->options, "/nowhere");
    moult_slots_listen(scene->slots, &events, NULL);
    done_count = 0;
    *state = scene;
    return 0;
}

static int tear_down(void **state) {
    struct scene *scene = *state;
    moult_slots_stop(scene->slots, true);
    assert_true(moult_slots_retire_all(scene->slots));
    uv_run(&scene->loop, UV_RUN_NOWAIT);
    moult_slots_close_handles(scene->slots);
    uv_run(&scene->loop, UV_RUN_DEFAULT);
    moult_slots_free(scene->slots);
    assert_int_equal(uv_loop_close(&scene->loop), 0);
    free(scene);
    return 0;
}

/* One that has served, and whose worker is away just now. */
static struct moult_generation *add_generation(struct moult_slot *slot, uint64_t number,
                                               enum moult_generation_phase phase,
                                               const char *digits) {
    struct moult_generation *generation = moult_allocate(1, sizeof *generation);
    generation->slot = slot;
    generation->references = 1;
    generation->number = number;
    generation->phase = phase;
    generation->was_ready = true;
    generation->report.dimensions = 4;
    memset(generation->fingerprint, 'e', MOULT_SHA256_HEX - 1);
    memcpy(generation->fingerprint, digits, 8);
    snprintf(generation->label, sizeof generation->label, "%s@%.8s", slot->name, digits);
    slot->generations = moult_reallocate(slot->generations, slot->generation_count + 1,
                                         sizeof(struct moult_generation *));
    slot->generations[slot->generation_count++] = generation;
    if (phase == MOULT_GENERATION_CURRENT)
        slot->current = generation;
    return generation;
}

static struct moult_job *make_job(struct moult_slot *slot, uint32_t count, enum moult_lane lane) {
    struct moult_job *job = moult_job_open();
    job->slot = slot;
    job->count = count;
    job->lane = lane;
    struct moult_text *texts = moult_allocate(count, sizeof *texts);
    job->message = moult_embed_request_write(texts, count, &job->options, &job->frame,
                                             &job->message_size);
    free(texts);
    job->done = on_done;
    return job;
}

static int submit(struct scene *scene, struct moult_job *job, struct moult_error *error) {
    uint32_t retry_after_s = 0;
    int result = moult_slots_submit(scene->slots, job, &retry_after_s, error);
    if (result != 0) {
        assert_true(retry_after_s >= 1);
        moult_job_close(job);
    }
    return result;
}

static void expect(struct scene *scene, const char *model, unsigned slot, uint64_t pinned,
                   enum moult_prompt prompt) {
    struct moult_target target;
    struct moult_error error;
    if (moult_slots_resolve(scene->slots, model, &target, &error) != 0)
        fail_msg("%s: %s", model, error.message);
    assert_ptr_equal(target.slot, moult_slots_at(scene->slots, slot));
    assert_int_equal(target.pinned != NULL ? target.pinned->number : 0, pinned);
    assert_int_equal(target.prompt, prompt);
    if (target.pinned != NULL)
        moult_generation_drop(target.pinned);
}

static void refuse(struct scene *scene, const char *model, const char *part) {
    struct moult_target target;
    struct moult_error error;
    assert_int_equal(moult_slots_resolve(scene->slots, model, &target, &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_MISSING);
    if (strstr(error.message, part) == NULL)
        fail_msg("\"%s\" does not list %s", error.message, part);
}

static void names_of_one_slot(void **state) {
    struct scene *scene = *state;
    struct moult_slot *slot = moult_slots_add(scene->slots, "minilm", "/m");
    add_generation(slot, 1, MOULT_GENERATION_RETIRING, "00000001");
    add_generation(slot, 2, MOULT_GENERATION_WARM, "00000002");
    add_generation(slot, 3, MOULT_GENERATION_CURRENT, "00000003");
    expect(scene, NULL, 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "", 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "minilm", 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "minilm:query", 0, 0, MOULT_PROMPT_QUERY);
    expect(scene, ":document", 0, 0, MOULT_PROMPT_DOCUMENT);
    expect(scene, "text-embedding-3-small", 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "org/name:latest", 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "minilm@00000003", 0, 3, MOULT_PROMPT_NONE);
    expect(scene, "minilm@00000002:query", 0, 2, MOULT_PROMPT_QUERY);
    expect(scene, "minilm@00000002eeee", 0, 2, MOULT_PROMPT_NONE);
    refuse(scene, "minilm@00000001", "minilm@00000002");
    refuse(scene, "minilm@0000000", "minilm@00000003");
    refuse(scene, "minilm@", "minilm");
    refuse(scene, "other@00000003", "minilm");
    scene->options.strict_models = true;
    refuse(scene, "text-embedding-3-small", "minilm");
    expect(scene, "minilm:document", 0, 0, MOULT_PROMPT_DOCUMENT);
}

static void names_of_several_slots(void **state) {
    struct scene *scene = *state;
    add_generation(moult_slots_add(scene->slots, "a", "/a"), 1, MOULT_GENERATION_CURRENT,
                   "aaaaaaaa");
    add_generation(moult_slots_add(scene->slots, "b", "/b"), 1, MOULT_GENERATION_CURRENT,
                   "bbbbbbbb");
    expect(scene, "", 0, 0, MOULT_PROMPT_NONE);
    expect(scene, "b", 1, 0, MOULT_PROMPT_NONE);
    expect(scene, "b@bbbbbbbb", 1, 1, MOULT_PROMPT_NONE);
    refuse(scene, "c", "b@bbbbbbbb");
    refuse(scene, "a@bbbbbbbb", "a@aaaaaaaa");
}

static void so_many_texts_may_wait(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_UNAVAILABLE);
    assert_false(moult_slots_healthy(scene->slots));
    add_generation(slot, 1, MOULT_GENERATION_CURRENT, "aaaaaaaa");
    assert_true(moult_slots_healthy(scene->slots));
    /* A request larger than the limit is taken when none waits, and then no other. */
    struct moult_job *large = make_job(slot, 50, MOULT_LANE_BATCH);
    assert_int_equal(submit(scene, large, &error), 0);
    assert_int_equal(moult_slots_waiting(scene->slots), 50);
    assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), -1);
    moult_slots_abandon(scene->slots, large);
    assert_int_equal(moult_slots_waiting(scene->slots), 0);
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), 0);
    assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), -1);
    assert_non_null(strstr(error.message, "10 texts wait"));
    assert_int_equal(done_count, 0);
    /* What cannot be answered any more is told so, from the loop. */
    moult_slots_stop(scene->slots, true);
    assert_int_equal(done_count, 0);
    uv_run(&scene->loop, UV_RUN_NOWAIT);
    assert_int_equal(done_count, 10);
    assert_int_equal(last_outcome, MOULT_JOB_UNAVAILABLE);
    assert_int_equal(moult_slots_waiting(scene->slots), 0);
    assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), -1);
}

static void pinned_jobs_wait_for_their_generation(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *warm = add_generation(slot, 1, MOULT_GENERATION_WARM, "00000001");
    add_generation(slot, 2, MOULT_GENERATION_CURRENT, "00000002");
    struct moult_job *job = make_job(slot, 1, MOULT_LANE_SINGLE);
    job->pinned = warm;
    moult_generation_hold(warm);
    assert_int_equal(submit(scene, job, &error), 0);
    assert_ptr_equal(warm->queue.lanes[MOULT_LANE_SINGLE].first, job);
    assert_true(moult_queue_empty(&slot->queue));
    /* It retires only when that job is answered, and takes no new one. */
    moult_generation_retire(warm);
    assert_int_equal(slot->generation_count, 2);
    struct moult_job *late = make_job(slot, 1, MOULT_LANE_SINGLE);
    late->pinned = warm;
    moult_generation_hold(warm);
    assert_int_equal(submit(scene, late, &error), -1);
    moult_slots_stop(scene->slots, true);
    uv_run(&scene->loop, UV_RUN_NOWAIT);
    assert_int_equal(done_count, 1);
}

static void jobs_that_come_back_go_first_and_keep_their_order(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    add_generation(slot, 1, MOULT_GENERATION_CURRENT, "00000001");
    struct moult_job *jobs[4];
    for (unsigned i = 0; i < 4; i++) {
        jobs[i] = make_job(slot, 1, MOULT_LANE_SINGLE);
        assert_int_equal(submit(scene, jobs[i], &error), 0);
    }
    /* As after a death: the first three were away, the second one begun. */
    for (unsigned i = 0; i < 3; i++)
        moult_job_unwait(jobs[i]);
    assert_int_equal(moult_slots_waiting(scene->slots), 1);
    for (unsigned i = 3; i-- > 0;)
        moult_job_wait_again(jobs[i], i == 1);
    struct moult_job_list *lane = &slot->queue.lanes[MOULT_LANE_SINGLE];
    assert_ptr_equal(slot->queue.suspects.first, jobs[1]);
    assert_ptr_equal(lane->first, jobs[0]);
    assert_ptr_equal(lane->first->next, jobs[2]);
    assert_ptr_equal(lane->last, jobs[3]);
    assert_int_equal(moult_slots_waiting(scene->slots), 4);
}

/* With a worker of its own, but no process: what room.c counts. */
static struct moult_generation *add_worker(struct moult_slot *slot, uint64_t number,
                                           enum moult_generation_phase phase, const char *digits) {
    struct moult_generation *generation = add_generation(slot, number, phase, digits);
    generation->installed = true;
    generation->used_ns = number;
    return generation;
}

static void place_is_made_by_the_longest_unused(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *oldest = add_worker(slot, 1, MOULT_GENERATION_WARM, "00000001");
    struct moult_generation *older = add_worker(slot, 2, MOULT_GENERATION_WARM, "00000002");
    oldest->kept = true;
    assert_int_equal(moult_room_claim(slot, 0, &error), MOULT_ROOM_GIVEN);
    moult_room_let_go(slot);
    assert_false(older->asleep);
    add_worker(slot, 3, MOULT_GENERATION_CURRENT, "00000003");
    assert_int_equal(moult_room_claim(slot, 0, &error), MOULT_ROOM_GIVEN);
    assert_true(older->asleep && !oldest->asleep);
    moult_room_let_go(slot);
    /* One that drains makes the next wait. */
    add_worker(slot, 4, MOULT_GENERATION_DRAINING, "00000004");
    assert_int_equal(moult_room_claim(slot, 0, &error), MOULT_ROOM_LATER);
    assert_non_null(strstr(error.message, "3 models of a"));
    moult_room_let_go(slot);
}

static void an_update_goes_before_those_who_call_by_name(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *asleep = add_worker(slot, 1, MOULT_GENERATION_WARM, "00000001");
    asleep->asleep = true;
    struct moult_generation *draining = add_worker(slot, 2, MOULT_GENERATION_DRAINING, "00000002");
    add_worker(slot, 3, MOULT_GENERATION_CURRENT, "00000003");
    assert_int_equal(moult_room_claim(slot, 0, &error), MOULT_ROOM_GIVEN);
    assert_int_equal(moult_room_for(asleep, 0, &error), MOULT_ROOM_LATER);
    moult_room_let_go(slot);
    assert_int_equal(moult_room_for(asleep, 0, &error), MOULT_ROOM_GIVEN);
    assert_false(draining->asleep);
}

static void the_leased_and_the_called_are_unloaded_last(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *leased = add_worker(slot, 1, MOULT_GENERATION_WARM, "00000001");
    struct moult_generation *called = add_worker(slot, 2, MOULT_GENERATION_WARM, "00000002");
    leased->leased = called->by_name = true;
    add_worker(slot, 3, MOULT_GENERATION_CURRENT, "00000003");
    assert_int_equal(moult_room_claim(slot, 0, &error), MOULT_ROOM_GIVEN);
    assert_true(called->asleep && !leased->asleep);
}

static void what_never_fits_is_refused_with_figures(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *warm = add_worker(slot, 1, MOULT_GENERATION_WARM, "00000001");
    add_worker(slot, 2, MOULT_GENERATION_CURRENT, "00000002");
    scene->options.memory_bytes = 100 * MOULT_MIB;
    assert_int_equal(moult_room_claim(slot, MOULT_MIB, &error), MOULT_ROOM_GIVEN);
    moult_room_let_go(slot);
    assert_int_equal(moult_room_claim(slot, 200 * MOULT_MIB, &error), MOULT_ROOM_NEVER);
    assert_non_null(strstr(error.message, "--memory allows all of them 100 MiB"));
    assert_int_equal(slot->claim.since_ns, 0);
    assert_false(warm->asleep);   /* Nobody is unloaded in vain. */
}

/* A job for one that sleeps waits, and after its patience is told why there is no room. */
static void who_sleeps_is_wanted_by_a_job(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *asleep = add_worker(slot, 1, MOULT_GENERATION_WARM, "00000001");
    add_worker(slot, 2, MOULT_GENERATION_CURRENT, "00000002");
    asleep->asleep = true;
    asleep->was_ready = false;
    expect(scene, "a@00000001", 0, 1, MOULT_PROMPT_NONE);
    scene->options.memory_bytes = 1;
    struct moult_job *job = make_job(slot, 1, MOULT_LANE_SINGLE);
    job->pinned = asleep;
    moult_generation_hold(asleep);
    assert_int_equal(submit(scene, job, &error), 0);
    assert_int_not_equal(asleep->wanted_ns, 0);
    /* Others must not be kept out by those who wait for it. */
    struct moult_job *many = make_job(slot, 5, MOULT_LANE_BATCH);
    many->pinned = asleep;
    moult_generation_hold(asleep);
    assert_int_equal(submit(scene, many, &error), -1);
    assert_non_null(strstr(error.message, "1 texts wait for it already"));
    for (unsigned i = 0; i < 100 && done_count == 0; i++)
        uv_run(&scene->loop, UV_RUN_ONCE);
    assert_int_equal(done_count, 1);
    assert_int_equal(last_outcome, MOULT_JOB_UNAVAILABLE);
    assert_true(asleep->asleep && asleep->wanted_ns == 0);
}

static void a_model_that_serves_again_takes_over_those_who_wait(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *old = add_generation(slot, 1, MOULT_GENERATION_WARM, "00000001");
    struct moult_generation *current =
        add_generation(slot, 2, MOULT_GENERATION_CURRENT, "00000001");
    struct moult_job *jobs[3];
    for (unsigned i = 0; i < 3; i++) {
        jobs[i] = make_job(slot, 1, MOULT_LANE_SINGLE);
        jobs[i]->pinned = old;
        moult_generation_hold(old);
        assert_int_equal(submit(scene, jobs[i], &error), 0);
    }
    moult_generation_hand_on(old, current);
    assert_true(moult_queue_empty(&old->queue) && old->queue.texts == 0);
    assert_int_equal(current->queue.texts, 3);
    struct moult_job_list *lane = &current->queue.lanes[MOULT_LANE_SINGLE];
    assert_ptr_equal(lane->first, jobs[0]);
    assert_ptr_equal(lane->last, jobs[2]);
    assert_ptr_equal(jobs[1]->pinned, current);
}

static void searches_wait_for_an_index_beside_all_others(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *current =
        add_generation(slot, 1, MOULT_GENERATION_CURRENT, "00000001");
    struct moult_job *searches[3];
    for (unsigned i = 0; i < 3; i++) {
        searches[i] = make_job(slot, 2, MOULT_LANE_SINGLE);
        searches[i]->searches = true;
    }
    assert_int_equal(submit(scene, searches[0], &error), 0);
    assert_int_equal(submit(scene, searches[1], &error), 0);
    /* Half of the room is for who only wants vectors. */
    assert_int_equal(submit(scene, searches[2], &error), -1);
    assert_non_null(strstr(error.message, "4 searches wait"));
    assert_int_equal(submit(scene, make_job(slot, 4, MOULT_LANE_SINGLE), &error), 0);
    assert_ptr_equal(slot->queue.searches.first, searches[0]);
    assert_int_equal(slot->queue.lanes[MOULT_LANE_SINGLE].first->count, 4);
    /* They wait for so long, and no longer. */
    uint64_t due_ns = searches[0]->admitted_ns + MOULT_SEARCH_SECONDS_MAX * 1000000000ull;
    assert_int_equal(moult_generation_tick(current, due_ns - 1), due_ns);
    assert_ptr_equal(slot->queue.searches.first, searches[0]);
    moult_generation_tick(current, due_ns);
    assert_ptr_not_equal(slot->queue.searches.first, searches[0]);
    assert_non_null(strstr(searches[0]->answer.message, "are still being made or read"));
    current->indexed = true;
    assert_int_equal(moult_generation_tick(current, 2 * due_ns), UINT64_MAX);
    assert_ptr_equal(slot->queue.searches.last, searches[1]);
    uv_run(&scene->loop, UV_RUN_NOWAIT);
    assert_int_equal(done_count, 1);
    assert_int_equal(last_outcome, MOULT_JOB_UNAVAILABLE);
}

static void what_nobody_asked_for_takes_no_room(void **state) {
    struct scene *scene = *state;
    struct moult_error error;
    struct moult_slot *slot = moult_slots_add(scene->slots, "a", "/a");
    struct moult_generation *current =
        add_generation(slot, 1, MOULT_GENERATION_CURRENT, "00000001");
    struct moult_job *own = make_job(slot, 50, MOULT_LANE_BATCH);
    own->own = true;
    own->pinned = current;
    moult_generation_hold(current);
    moult_slots_submit_own(scene->slots, own);
    assert_ptr_equal(current->queue.lanes[MOULT_LANE_BATCH].first, own);
    assert_int_equal(moult_slots_waiting(scene->slots), 0);
    assert_true(moult_generation_unasked(current));
    assert_int_equal(submit(scene, make_job(slot, 10, MOULT_LANE_BATCH), &error), 0);
    assert_false(moult_generation_unasked(current));
    assert_int_equal(submit(scene, make_job(slot, 1, MOULT_LANE_SINGLE), &error), -1);
    moult_slots_abandon(scene->slots, own);
    assert_int_equal(moult_slots_waiting(scene->slots), 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_of_one_slot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(names_of_several_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(so_many_texts_may_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pinned_jobs_wait_for_their_generation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(jobs_that_come_back_go_first_and_keep_their_order, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(place_is_made_by_the_longest_unused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_update_goes_before_those_who_call_by_name, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(the_leased_and_the_called_are_unloaded_last, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_never_fits_is_refused_with_figures, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_sleeps_is_wanted_by_a_job, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_model_that_serves_again_takes_over_those_who_wait, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(searches_wait_for_an_index_beside_all_others, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_nobody_asked_for_takes_no_room, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
