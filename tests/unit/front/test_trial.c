/* A trial over a real store, with models that find what the test says: its figures, and what
 * becomes of it when a model does not answer, documents change, or nobody wants to know. */
#include "front/trial.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <uv.h>

#include "base/file.h"
#include "base/memory.h"
#include "front/desk.h"
#include "front/slot.h"
#include "store/store.h"

enum { DOCUMENTS = 12, OLD = 0, NEW = 1 };

/* What the fake models find for a text: letters of documents, best first. */
static const struct finding {
    const char *text, *old, *new;
} findings[] = {
    {"same", "ab", "ab"}, {"better", "xya", "axy"}, {"worse", "a", "bcdefghijkla"},
    {"hidden", "a", ""},  {"shown", "", "a"},
};

static struct {
    uv_loop_t loop;
    char folder[64];
    struct moult_slots slots;
    struct moult_slot slot;
    struct moult_generation generations[2];
    struct moult_desk *desk;
    struct moult_trial *trial;
    uint64_t seqs[DOCUMENTS];         /* Of the documents a, b, … */
    uint32_t collection;
    /* The models. */
    struct moult_job *under_way;      /* Answered by the timer. */
    uv_timer_t answers;
    unsigned opened, submitted, closed, abandoned;
    unsigned busy, dead, changed;     /* So many jobs are not admitted, fail, find what is gone. */
    uint32_t hits_max;
    float score_min;
    void (*on_submit)(void);          /* Instead of an answer, once. */
    /* The listener. */
    bool told;
    struct moult_trial_result result;
    char trouble[320];
} bench;

/* Instead of generation.c, slots.c and job.c. */

void moult_generation_hold(struct moult_generation *generation) {
    generation->references++;
}

void moult_generation_drop(struct moult_generation *generation) {
    generation->references--;
}

struct moult_job *moult_job_open(void) {
    bench.opened++;
    return moult_allocate(1, sizeof(struct moult_job));
}

void moult_job_close(struct moult_job *job) {
    bench.closed++;
    moult_generation_drop(job->pinned);
    moult_answer_view_release(&job->answer);
    free(job->message);
    free(job);
}

void moult_slots_abandon(struct moult_slots *slots, struct moult_job *job) {
    assert_ptr_equal(slots, &bench.slots);
    assert_ptr_equal(job, bench.under_way);
    bench.abandoned++;
    bench.under_way = NULL;
    moult_job_close(job);
}

int moult_slots_submit(struct moult_slots *slots, struct moult_job *job, uint32_t *retry_after_s,
                       struct moult_error *error) {
    assert_ptr_equal(slots, &bench.slots);
    assert_null(bench.under_way);
    assert_true(job->searches);
    *retry_after_s = 1;
    if (bench.busy > 0) {
        bench.busy--;
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Too much waits.");
    }
    bench.submitted++;
    bench.under_way = job;
    if (bench.on_submit != NULL) {
        void (*call)(void) = bench.on_submit;
        bench.on_submit = NULL;
        call();
    } else {
        uv_timer_start(&bench.answers, (uv_timer_cb)bench.answers.data, 0, 0);
    }
    return 0;
}

static const char *finding_of(const char *text, size_t size, unsigned side) {
    for (unsigned i = 0; i < sizeof findings / sizeof findings[0]; i++)
        if (strlen(findings[i].text) == size && memcmp(findings[i].text, text, size) == 0)
            return side == OLD ? findings[i].old : findings[i].new;
    fail();
    return NULL;
}

/* Letters that are no document stand for one that nobody judges. */
static uint64_t seq_of(char letter) {
    return letter < 'a' + DOCUMENTS ? bench.seqs[letter - 'a'] : bench.seqs[DOCUMENTS - 1];
}

static void find(struct moult_answer_view *answer, const struct moult_request_view *view,
                 unsigned side) {
    size_t offset = 0;
    uint32_t count = 0;
    answer->count = view->count;
    answer->ends = moult_allocate(view->count, sizeof *answer->ends);
    answer->found = moult_allocate((size_t)view->count * MOULT_JUDGED_HITS,
                                   sizeof *answer->found);
    for (uint32_t i = 0; i < view->count; i++) {
        const char *letters = finding_of(view->texts + offset, view->text_sizes[i], side);
        for (uint32_t hit = 0; letters[hit] != '\0' && hit < view->search.hits_max; hit++)
            answer->found[count++] = (struct moult_found){
                .seq = bench.changed > 0 ? 999999 : seq_of(letters[hit]), .score = 0.5f};
        offset += view->text_sizes[i];
        answer->ends[i] = count;
    }
    if (bench.changed > 0)
        bench.changed--;
}

static void answer_job(uv_timer_t *timer) {
    struct moult_job *job = bench.under_way;
    struct moult_request_view view;
    (void)timer;
    bench.under_way = NULL;
    assert_int_equal(moult_request_read(job->message, job->message_size, &view, NULL), 0);
    assert_int_equal(view.kind, MOULT_REQUEST_SEARCH);
    assert_int_equal(view.search.collection, bench.collection);
    bench.hits_max = view.search.hits_max;
    bench.score_min = view.search.score_min;
    if (bench.dead > 0) {
        bench.dead--;
        job->outcome = MOULT_JOB_UNAVAILABLE;
        snprintf(job->answer.message, sizeof job->answer.message, "The worker is away.");
    } else {
        job->outcome = MOULT_JOB_ANSWERED;
        find(&job->answer, &view, job->pinned == &bench.generations[NEW]);
    }
    job->done(job);
}

/* The bench. */

static void put_documents(void) {
    struct moult_error error;
    struct moult_collection collection;
    struct moult_put puts[DOCUMENTS];
    char ids[DOCUMENTS][2], path[96];
    snprintf(path, sizeof path, "%s/documents.db", bench.folder);
    struct moult_store *store = moult_store_open(path, MOULT_STORE_WRITE, &error);
    assert_non_null(store);
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        ids[i][0] = (char)('a' + i);
        ids[i][1] = '\0';
        puts[i] = (struct moult_put){.id = ids[i], .text = "text", .text_size = 4};
    }
    assert_int_equal(moult_store_begin(store, &error), 0);
    assert_int_equal(moult_store_collection_make(store, "default", "tiny", &collection, &error),
                     0);
    assert_int_equal(moult_store_put(store, collection.number, puts, DOCUMENTS, &error), 0);
    assert_int_equal(moult_store_commit(store, &error), 0);
    moult_store_close(store);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        bench.seqs[i] = puts[i].seq;
    bench.collection = collection.number;
}

static int open_bench(void **state) {
    struct moult_error error;
    (void)state;
    memset(&bench, 0, sizeof bench);
    snprintf(bench.folder, sizeof bench.folder, "/tmp/moult-trial-XXXXXX");
    assert_non_null(mkdtemp(bench.folder));
    put_documents();
    uv_loop_init(&bench.loop);
    uv_timer_init(&bench.loop, &bench.answers);
    bench.answers.data = (void *)answer_job;
    bench.slots.loop = &bench.loop;
    bench.slot.slots = &bench.slots;
    bench.slot.name = "tiny";
    for (unsigned side = 0; side < 2; side++) {
        bench.generations[side].slot = &bench.slot;
        bench.generations[side].phase = MOULT_GENERATION_CURRENT;
    }
    bench.desk = moult_desk_open(&bench.loop, bench.folder, false, &error);
    assert_non_null(bench.desk);
    return 0;
}

static int close_bench(void **state) {
    struct moult_error error;
    (void)state;
    while (!moult_desk_stop(bench.desk, false))
        uv_run(&bench.loop, UV_RUN_ONCE);
    moult_desk_close_handles(bench.desk);
    uv_close((uv_handle_t *)&bench.answers, NULL);
    uv_run(&bench.loop, UV_RUN_DEFAULT);
    moult_desk_free(bench.desk);
    assert_int_equal(uv_loop_close(&bench.loop), 0);
    assert_int_equal(bench.generations[OLD].references, 0);
    assert_int_equal(bench.generations[NEW].references, 0);
    assert_int_equal(bench.closed, bench.opened);
    return moult_folder_remove(AT_FDCWD, bench.folder, &error);
}

static void on_tried(void *context, uint64_t tag, const struct moult_trial_result *result) {
    assert_ptr_equal(context, &bench);
    assert_int_equal(tag, 42);
    assert_false(bench.told);
    bench.told = true;
    bench.result = *result;
    if (result->trouble != NULL)
        snprintf(bench.trouble, sizeof bench.trouble, "%s", result->trouble);
}

static struct moult_judgements *judge(const char *lines) {
    struct moult_error error = {0};
    struct moult_judgements *judgements =
        moult_judgements_parse(lines, strlen(lines), &error);
    assert_non_null(judgements);
    return judgements;
}

static void start(const struct moult_judgements *judgements, const struct moult_asked *asked) {
    bench.trial = moult_trial_start(&bench.generations[OLD], &bench.generations[NEW], bench.desk,
                                    judgements, asked, on_tried, &bench, 42);
}

static void run_until_told(void) {
    while (!bench.told)
        uv_run(&bench.loop, UV_RUN_ONCE);
}

#define LINE(text) "{\"query\": \"" text "\", \"relevant\": [\"a\"]}\n"
/* Five queries, so that there are two portions. */
#define LINES LINE("same") LINE("better") LINE("worse") LINE("hidden") LINE("shown")

static void the_figures_are_right(void) {
    const struct moult_gate_figures *gate = &bench.result.gate;
    assert_null(bench.result.trouble);
    assert_int_equal(gate->queries, 5);
    assert_int_equal(gate->documents, 5);
    assert_int_equal(gate->missing, 0);
    assert_int_equal(gate->better, 2);
    assert_int_equal(gate->worse, 2);
    /* Places of "a": 1 3 1 1 -, and 1 1 - - 1, the twelfth not being among the ten. */
    assert_float_equal(gate->old_ndcg, (1 + 0.5 + 1 + 1 + 0) / 5, 1e-9);
    assert_float_equal(gate->new_ndcg, (1 + 1 + 0 + 0 + 1) / 5.0, 1e-9);
    assert_false(gate->cut_short);
    assert_int_equal(bench.hits_max, 10);
    assert_true(bench.score_min <= -1);
}

static void a_gate_is_asked_of_both(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    start(judgements, NULL);
    run_until_told();
    the_figures_are_right();
    assert_int_equal(bench.submitted, 4);
    moult_judgements_free(judgements);
}

static void whoever_is_away_is_asked_again(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    bench.busy = 2;
    bench.dead = 3;
    start(judgements, NULL);
    run_until_told();
    the_figures_are_right();
    moult_judgements_free(judgements);
}

static void documents_that_change_are_searched_again(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    bench.changed = 3;
    start(judgements, NULL);
    run_until_told();
    the_figures_are_right();
    assert_int_equal(bench.submitted, 8);
    moult_judgements_free(judgements);
}

static void but_not_for_ever(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINE("same"));
    bench.changed = UINT32_MAX;
    start(judgements, NULL);
    run_until_told();
    assert_int_equal(bench.result.gate.queries, 1);
    assert_float_equal(bench.result.gate.old_ndcg, 0, 0);
    moult_judgements_free(judgements);
}

static void what_is_not_stored_is_counted(void **state) {
    (void)state;
    struct moult_judgements *judgements =
        judge("{\"query\": \"same\", \"relevant\": [\"a\", \"nobody\"]}\n"
              "{\"query\": \"better\", \"relevant\": {\"none\": 1, \"a\": 1, \"nothing\": 2}}\n"
              "{\"query\": \"never asked\", \"relevant\": [\"a\"], \"collection\": \"else\"}\n");
    start(judgements, NULL);
    run_until_told();
    assert_int_equal(bench.result.gate.queries, 2);
    assert_int_equal(bench.result.gate.documents, 5);
    assert_int_equal(bench.result.gate.missing, 3);
    moult_judgements_free(judgements);
}

static void note(struct moult_asked *asked, const char *text, uint32_t collection,
                 float score_min) {
    const struct moult_text texts[] = {{text, strlen(text)}};
    struct moult_search_options options = {
        .collection = collection, .hits_max = 3, .score_min = score_min};
    struct moult_job job = {0};
    job.message = moult_search_request_write(texts, 1, &options, &job.message_size);
    moult_asked_note_job(asked, &job);
    free(job.message);
}

static void searches_that_find_nothing_are_counted(void **state) {
    (void)state;
    struct moult_asked *asked = moult_asked_open(10);
    struct moult_judgements *judgements = judge(LINES);
    note(asked, "hidden", bench.collection, 0.4f);
    note(asked, "same", bench.collection, 0.4f);
    note(asked, "shown", bench.collection, 0.3f);
    note(asked, "worse", bench.collection, -2);
    note(asked, "of a collection that was dropped", 77, 0.3f);
    start(judgements, asked);
    run_until_told();
    assert_int_equal(bench.result.gate.queries, 5);
    assert_int_equal(bench.result.unmatched.searches, 3);
    assert_int_equal(bench.result.unmatched.old_none, 1);
    assert_int_equal(bench.result.unmatched.new_none, 1);
    assert_int_equal(bench.hits_max, 1);
    assert_float_equal(bench.score_min, 0.4f, 0);
    moult_judgements_free(judgements);
    moult_asked_close(asked);
}

static void hurry(void) {
    moult_trial_hurry(bench.trial);
    uv_timer_start(&bench.answers, answer_job, 0, 0);
}

static void who_is_in_a_hurry_gets_what_there_is(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    bench.on_submit = hurry;
    start(judgements, NULL);
    run_until_told();
    assert_null(bench.result.trouble);
    assert_true(bench.result.gate.cut_short);
    assert_true(bench.result.gate.queries < 5);
    moult_judgements_free(judgements);
}

static void a_model_that_ends_is_trouble(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    bench.generations[NEW].phase = MOULT_GENERATION_RETIRING;
    start(judgements, NULL);
    run_until_told();
    assert_non_null(strstr(bench.trouble, "one of the models has ended"));
    assert_int_equal(bench.result.gate.queries, 0);
    moult_judgements_free(judgements);
}

static void cancel(void) {
    moult_trial_cancel(bench.trial);
    bench.trial = NULL;
}

/* At once, in a search, and between any two turns of the loop. */
static void it_can_be_cancelled_anywhere(void **state) {
    (void)state;
    struct moult_judgements *judgements = judge(LINES);
    bench.on_submit = cancel;
    start(judgements, NULL);
    while (bench.trial != NULL)
        uv_run(&bench.loop, UV_RUN_ONCE);
    assert_int_equal(bench.abandoned, 1);
    for (unsigned turns = 0; !bench.told; turns++) {
        start(judgements, NULL);
        for (unsigned i = 0; i < turns && !bench.told; i++)
            uv_run(&bench.loop, UV_RUN_ONCE);
        if (bench.told)
            break;
        cancel();
        while (bench.generations[OLD].references > 0)
            uv_run(&bench.loop, UV_RUN_ONCE);
    }
    moult_judgements_free(judgements);
}

int main(void) {
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_bench, close_bench)
        TEST(a_gate_is_asked_of_both),
        TEST(whoever_is_away_is_asked_again),
        TEST(documents_that_change_are_searched_again),
        TEST(but_not_for_ever),
        TEST(what_is_not_stored_is_counted),
        TEST(searches_that_find_nothing_are_counted),
        TEST(who_is_in_a_hurry_gets_what_there_is),
        TEST(a_model_that_ends_is_trouble),
        TEST(it_can_be_cancelled_anywhere),
    };
    return cmocka_run_group_tests_name("trial", tests, NULL, NULL);
}
