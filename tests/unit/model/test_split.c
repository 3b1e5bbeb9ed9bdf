/* Sharing: every item is done once, no stage begins before the last one is done, whoever comes,
 * goes, or falls asleep; and a pass that is shared has the bits of one that is not. */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/model.h"
#include "model/split.h"

#define HOUR_NS (3600 * 1000000000ull)

enum { STAGES = 40, ITEMS_MAX = 70, HELPERS_MAX = 3, SHARED = 60 };

static const char *const folders[] = {"tests/golden/tiny-cls", "tests/golden/tiny-plain"};

/* What is led next in a test's own time: no rest is longer than an hour, and who leads runs all
 * the time. */
static struct moult_split_time later(void) {
    static struct moult_split_time now;

    now.ns += HOUR_NS;
    now.ran_ns += HOUR_NS;
    return now;
}

/* Helpers. */

struct helper {
    struct moult_split *split;
    struct moult_encoder *encoder;      /* NULL: it brings itself. */
    pthread_t thread;
    uint32_t seed;
    uint32_t stays;                     /* One look in so many makes it go for a while. */
    bool stalls;                        /* Sleeps in the middle of an item now and then. */
    _Atomic bool *stop;
};

static uint32_t random_number(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static bool goes(void *context) {
    struct helper *helper = context;

    return atomic_load(helper->stop) || random_number(&helper->seed) % helper->stays == 0;
}

static void *help(void *context) {
    struct helper *helper = context;

    while (!atomic_load(helper->stop)) {
        if (helper->encoder != NULL)
            moult_encoder_help(helper->encoder, helper->split, goes, helper);
        else
            moult_split_help(helper->split, helper, goes, helper);
        if (random_number(&helper->seed) % 4 == 0)
            usleep(random_number(&helper->seed) % 300);
    }
    return NULL;
}

static void start(struct helper *helpers, uint32_t count, struct moult_split *split,
                  _Atomic bool *stop) {
    atomic_store(stop, false);
    for (uint32_t i = 0; i < count; i++) {
        helpers[i].split = split;
        helpers[i].stop = stop;
        helpers[i].seed = 77 + i;
        if (helpers[i].stays == 0)
            helpers[i].stays = 20u << i;
        assert_int_equal(pthread_create(&helpers[i].thread, NULL, help, &helpers[i]), 0);
    }
}

static void end(struct helper *helpers, uint32_t count, _Atomic bool *stop) {
    atomic_store(stop, true);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(helpers[i].thread, NULL);
}

/* Stages. */

struct stages {
    uint32_t counts[STAGES];
    uint32_t at;                            /* The stage; plain memory, as a leader's is. */
    uint32_t plain[STAGES][ITEMS_MAX];      /* What an item leaves for the next stage. */
    _Atomic uint32_t times[STAGES][ITEMS_MAX];
    _Atomic uint32_t wrong, by_helpers;
    void *leader;
};

static void do_items(void *context, uint32_t first, uint32_t end, void *own) {
    struct stages *stages = context;
    struct helper *helper = own == stages->leader ? NULL : own;
    uint32_t at = stages->at;

    for (uint32_t i = first; i < end; i++) {
        for (uint32_t j = 0; at > 0 && j < stages->counts[at - 1]; j++)
            if (stages->plain[at - 1][j] != at * 1000 + j)
                atomic_fetch_add(&stages->wrong, 1);
        if (helper != NULL)
            atomic_fetch_add(&stages->by_helpers, 1);
        if (helper != NULL && helper->stalls && random_number(&helper->seed) % 32 == 0)
            usleep(random_number(&helper->seed) % 2000);
        stages->plain[at][i] = (at + 1) * 1000 + i;
        atomic_fetch_add(&stages->times[at][i], 1);
    }
}

static void lead_stages(struct moult_split *split, uint32_t threads, uint32_t *by_helpers) {
    struct stages *stages = moult_allocate(1, sizeof *stages);
    uint32_t seed = 5;

    stages->leader = &seed;
    assert_true(moult_split_begin(split, threads, later()));
    for (uint32_t i = 0; i < STAGES; i++) {
        stages->at = i;
        stages->counts[i] = random_number(&seed) % ITEMS_MAX + 1;
        moult_split_stage(split, stages->counts[i], do_items, stages, &seed);
        for (uint32_t j = 0; j < stages->counts[i]; j++)
            assert_int_equal(atomic_load(&stages->times[i][j]), 1);
    }
    moult_split_end(split, later());
    assert_int_equal(atomic_load(&stages->wrong), 0);
    *by_helpers += atomic_load(&stages->by_helpers);
    free(stages);
}

static void every_item_is_done_once(void **state) {
    (void)state;
    for (uint32_t count = 0; count <= HELPERS_MAX; count++) {
        for (unsigned stalls = 0; stalls <= (count > 0); stalls++) {
            struct moult_split *split = moult_split_open();
            struct helper helpers[HELPERS_MAX] = {{.stalls = stalls}, {0}, {.stalls = stalls}};
            _Atomic bool stop;
            uint32_t by_helpers = 0;

            start(helpers, count, split, &stop);
            for (unsigned i = 0; i < SHARED || (count > 0 && by_helpers == 0); i++)
                lead_stages(split, count + 1 > 2 ? count + 1 : 2, &by_helpers);
            end(helpers, count, &stop);
            moult_split_close(split);
        }
    }
}

static bool never(void *context) {
    (void)context;
    return false;
}

static bool at_once(void *context) {
    (void)context;
    return true;
}

static void helpers_go_where_there_is_nothing(void **state) {
    struct moult_split *split = moult_split_open();

    (void)state;
    moult_split_help(split, NULL, never, NULL);
    assert_int_equal(moult_split_led(split), 0);
    assert_true(moult_split_begin(split, 2, later()));
    assert_int_not_equal(moult_split_led(split), 0);
    moult_split_help(split, NULL, never, NULL);
    moult_split_help(split, NULL, at_once, NULL);
    moult_split_end(split, later());
    moult_split_help(split, NULL, never, NULL);
    moult_split_close(split);
}

static void one_leads_at_a_time(void **state) {
    struct moult_split *split = moult_split_open();
    uint32_t led;

    (void)state;
    assert_false(moult_split_begin(split, 1, later()));
    assert_true(moult_split_begin(split, 3, later()));
    assert_int_equal(moult_split_threads(split), 3);
    led = moult_split_led(split);
    assert_false(moult_split_begin(split, 3, later()));
    moult_split_end(split, later());
    assert_int_equal(moult_split_led(split), 0);
    assert_true(moult_split_begin(split, 2, later()));
    assert_int_not_equal(moult_split_led(split), led);
    moult_split_end(split, later());
    moult_split_close(split);
}

/* Rests. */

static bool sleeps(pid_t thread) {
    char path[64], text[256] = "", *name_end;
    int fd;

    snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)thread);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    close(fd);
    name_end = strrchr(text, ')');
    return name_end != NULL && name_end[2] == 'S';
}

/* Two items: the leader's waits until the other one is claimed, and that one, where it stalls,
 * until the leader sleeps. */
struct meeting {
    pid_t leader;
    bool stalls;
    _Atomic bool met;
};

static void meet(void *context, uint32_t first, uint32_t end, void *own) {
    struct meeting *meeting = context;

    assert_int_equal(end - first, 1);
    if (own == meeting) {
        while (!atomic_load(&meeting->met))
            sched_yield();
        return;
    }
    atomic_store(&meeting->met, true);
    while (meeting->stalls && !sleeps(meeting->leader))
        usleep(500);
}

/* For how many milliseconds nothing is led after a pass that ended just now. */
static uint64_t count_rest(struct moult_split *split, struct moult_split_time now) {
    uint64_t ms = 0;

    while (!moult_split_is_worth(split, now.ns + ms * 1000000))
        ms++;
    assert_true(ms == 0 || !moult_split_begin(split, 2, now));
    return ms;
}

static uint64_t lead_meeting(struct moult_split *split, bool stalls) {
    struct meeting meeting = {.leader = gettid(), .stalls = stalls};
    struct moult_split_time now = later();

    assert_true(moult_split_begin(split, 2, now));
    moult_split_stage(split, 2, meet, &meeting, &meeting);
    moult_split_end(split, now);
    return count_rest(split, now);
}

static void a_stall_means_a_rest(void **state) {
    struct moult_split *split = moult_split_open();
    struct helper helper = {.stays = 1u << 30};
    _Atomic bool stop;
    uint64_t first, ms = 0;

    (void)state;
    start(&helper, 1, split, &stop);
    first = lead_meeting(split, true);
    assert_true(first >= 10);
    assert_int_equal(lead_meeting(split, true), 2 * first);
    assert_int_equal(lead_meeting(split, true), 4 * first);
    for (unsigned i = 0; i < 12; i++)
        ms = lead_meeting(split, true);
    assert_int_equal(ms, 10000);
    /* The machine may make it stall by itself, at any time. */
    while (ms != first) {
        for (unsigned i = 0; i < 100; i++)
            lead_meeting(split, false);
        ms = lead_meeting(split, true);
    }
    end(&helper, 1, &stop);
    moult_split_close(split);
}

static uint64_t lead_without_cpu(struct moult_split *split, uint64_t lost_ns) {
    struct moult_split_time begun = later(), ended = begun;

    assert_true(moult_split_begin(split, 2, begun));
    ended.ns += 1000000;
    ended.ran_ns += 1000000 - lost_ns;
    moult_split_end(split, ended);
    return count_rest(split, ended);
}

static void a_leader_without_a_cpu_means_a_rest(void **state) {
    struct moult_split *split = moult_split_open();

    (void)state;
    assert_int_equal(lead_without_cpu(split, 0), 0);
    assert_int_equal(lead_without_cpu(split, 100000), 0);
    assert_int_not_equal(lead_without_cpu(split, 500000), 0);
    moult_split_close(split);
}

static void nobody_comes_means_a_rest(void **state) {
    struct moult_split *split = moult_split_open();
    struct moult_split_time never_ran = {0};
    uint32_t nobody = 0;
    unsigned passes = 0;

    (void)state;
    while (moult_split_is_worth(split, 0)) {
        struct stages *stages = moult_allocate(1, sizeof *stages);

        stages->leader = &nobody;
        assert_true(moult_split_begin(split, 4, never_ran));
        moult_split_stage(split, ITEMS_MAX, do_items, stages, &nobody);
        moult_split_end(split, never_ran);
        free(stages);
        passes++;
    }
    assert_true(passes > 1 && passes < 100);
    assert_true(moult_split_is_worth(split, later().ns));
    moult_split_close(split);
}

/* Bits. */

static struct moult_model *load(const char *folder, unsigned level,
                                enum moult_precision precision) {
    struct moult_error error = {0};
    struct moult_model_options options = {.threads = 1, .precision = precision};
    int fd = open(folder, O_RDONLY | O_DIRECTORY);
    struct moult_model_files *files = moult_model_files_open(fd, &error);
    struct moult_model *model = NULL;

    close(fd);
    if (files != NULL)
        model = moult_model_load(files, moult_kernels_at(level), &options, NULL, &error);
    moult_model_files_close(files);
    if (model == NULL)
        fail_msg("%s: %s", folder, error.message);
    return model;
}

/* Few rows, which go by panels, and many, which go by rows. */
static const struct {
    uint32_t B, lengths[6];
} packs[] = {{1, {1}},          {1, {9}},
             {1, {17}},         {1, {24}},
             {3, {3, 24, 11}},  {5, {24, 24, 24, 24, 1}},
             {6, {20, 24, 8, 24, 24, 19}}};

static void check_bits(const struct moult_model *model, uint32_t threads) {
    const struct moult_model_info *info = moult_model_info(model);
    struct moult_encoder *encoder = moult_encoder_open(model, 128);
    struct moult_split *split = moult_split_open();
    struct helper helpers[HELPERS_MAX] = {{0}};
    _Atomic bool stop;
    uint32_t ids[128];
    float alone[6 * 64], shared[6 * 64];

    assert_true(info->dimensions <= 64 && info->tokens_max >= 24);
    for (uint32_t t = 0; t < 128; t++)
        ids[t] = (t * 7919u + 3) % info->vocabulary_size;
    for (uint32_t i = 0; i + 1 < threads; i++)
        helpers[i].encoder = moult_encoder_open(model, 128);
    start(helpers, threads - 1, split, &stop);
    for (size_t i = 0; i < sizeof packs / sizeof *packs; i++) {
        moult_encoder_run(encoder, ids, packs[i].lengths, packs[i].B, alone);
        for (unsigned j = 0; j < 10; j++) {
            assert_true(moult_split_begin(split, threads > 1 ? threads : 2, later()));
            moult_encoder_run_shared(encoder, split, ids, packs[i].lengths, packs[i].B, shared);
            moult_split_end(split, later());
            assert_memory_equal(shared, alone, packs[i].B * info->dimensions * sizeof *alone);
        }
    }
    end(helpers, threads - 1, &stop);
    for (uint32_t i = 0; i + 1 < threads; i++)
        moult_encoder_close(helpers[i].encoder);
    moult_encoder_close(encoder);
    moult_split_close(split);
}

static void bits_do_not_depend_on_helpers(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
            for (unsigned precision = MOULT_PRECISION_F32; precision <= MOULT_PRECISION_INT8;
                 precision++) {
                struct moult_model *model =
                    load(folders[i], level, (enum moult_precision)precision);

                for (uint32_t threads = 1; threads <= HELPERS_MAX + 1; threads++)
                    check_bits(model, threads);
                moult_model_close(model);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_item_is_done_once),
        cmocka_unit_test(helpers_go_where_there_is_nothing),
        cmocka_unit_test(one_leads_at_a_time),
        cmocka_unit_test(a_stall_means_a_rest),
        cmocka_unit_test(a_leader_without_a_cpu_means_a_rest),
        cmocka_unit_test(nobody_comes_means_a_rest),
        cmocka_unit_test(bits_do_not_depend_on_helpers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
