#include "cli/bench.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/machine.h"
#include "base/memory.h"
#include "model/parts.h"

enum { RUNS_MAX = 4096, RUNS_MIN = 5 };

struct moult_encoder *moult_bench_encoder(const struct moult_model *model) {
    uint32_t own = model->config.tokens_max;

    return moult_encoder_open(model,
                              own > MOULT_BENCH_TOKENS_MAX ? own : MOULT_BENCH_TOKENS_MAX);
}

static float *open_vectors(const struct moult_model *model) {
    return moult_allocate((size_t)MOULT_BENCH_SEQUENCES_MAX * model->config.width, sizeof(float));
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* One more to warm up. */
static struct moult_bench_times time_passes(void (*run)(void *context), void *context,
                                            uint32_t milliseconds) {
    static double ms[RUNS_MAX];
    uint64_t end_ns;
    size_t runs = 0;

    run(context);
    end_ns = moult_clock_ns() + milliseconds * 1000000ull;
    while (runs < RUNS_MAX && (runs < RUNS_MIN || moult_clock_ns() < end_ns)) {
        uint64_t begun_ns = moult_clock_ns();

        run(context);
        ms[runs++] = (double)(moult_clock_ns() - begun_ns) * 1e-6;
    }
    qsort(ms, runs, sizeof *ms, compare_numbers);
    return (struct moult_bench_times){ms[runs / 2], ms[0]};
}

/* One thread. */

struct alone {
    struct moult_encoder *encoder;
    const struct moult_bench_work *work;
    float *vectors;
};

static void run_alone(void *context) {
    const struct alone *alone = context;

    moult_encoder_run(alone->encoder, alone->work->ids, alone->work->lengths, alone->work->count,
                      alone->vectors);
}

struct moult_bench_times moult_bench_alone(const struct moult_model *model,
                                           struct moult_encoder *encoder,
                                           const struct moult_bench_work *work,
                                           uint32_t milliseconds) {
    struct alone alone = {encoder, work, open_vectors(model)};
    struct moult_bench_times times = time_passes(run_alone, &alone, milliseconds);

    free(alone.vectors);
    return times;
}

/* Threads that share one pass. */

struct moult_bench_gang {
    struct moult_team *team;
    struct moult_split *split;
    float *vectors;
    const struct moult_bench_work *work;
    atomic_uint next;                   /* The first thread of a pass leads. */
    atomic_bool done;
    uint32_t threads;
    struct moult_encoder *encoders[];
};

struct moult_bench_gang *moult_bench_gang_open(const struct moult_model *model, uint32_t threads) {
    struct moult_bench_gang *gang =
        moult_allocate(1, sizeof *gang + threads * sizeof *gang->encoders);

    gang->team = moult_team_open(threads - 1);
    gang->split = moult_split_open();
    gang->vectors = open_vectors(model);
    gang->threads = threads;
    for (uint32_t i = 0; i < threads; i++) {
        gang->encoders[i] = moult_bench_encoder(model);
        if (gang->encoders[i] == NULL) {
            moult_bench_gang_close(gang);
            return NULL;
        }
    }
    return gang;
}

void moult_bench_gang_close(struct moult_bench_gang *gang) {
    if (gang == NULL)
        return;
    moult_team_close(gang->team);
    moult_split_close(gang->split);
    for (uint32_t i = 0; i < gang->threads; i++)
        moult_encoder_close(gang->encoders[i]);
    free(gang->vectors);
    free(gang);
}

static bool is_done(void *context) {
    struct moult_bench_gang *gang = context;

    return atomic_load_explicit(&gang->done, memory_order_relaxed);
}

static void take_part(void *context) {
    struct moult_bench_gang *gang = context;
    uint32_t i = atomic_fetch_add(&gang->next, 1);
    bool leads;

    if (i > 0) {
        moult_encoder_help(gang->encoders[i], gang->split, is_done, gang);
        return;
    }
    leads = moult_split_begin(gang->split, gang->threads, moult_split_now());
    moult_encoder_run_shared(gang->encoders[0], leads ? gang->split : NULL, gang->work->ids,
                             gang->work->lengths, gang->work->count, gang->vectors);
    if (leads)
        moult_split_end(gang->split, moult_split_now());
    atomic_store(&gang->done, true);
}

static void run_shared(void *context) {
    struct moult_bench_gang *gang = context;

    atomic_store(&gang->next, 0);
    atomic_store(&gang->done, false);
    moult_team_run(gang->team, gang->threads - 1, take_part, gang);
}

struct moult_bench_times moult_bench_shared(struct moult_bench_gang *gang,
                                            const struct moult_bench_work *work,
                                            uint32_t milliseconds) {
    gang->work = work;
    return time_passes(run_shared, gang, milliseconds);
}

/* Threads with a pass each. */

struct crowd {
    const struct moult_model *model;
    const struct moult_bench_work *work;
    uint64_t until_ns;
    uint64_t passes;
    bool failed;
};

static void *run_in_crowd(void *context) {
    struct crowd *member = context;
    float *vectors = open_vectors(member->model);
    struct moult_encoder *encoder = moult_bench_encoder(member->model);

    member->failed = encoder == NULL;
    /* On a busy machine all the time may have gone before it begins. */
    while (!member->failed && (member->passes == 0 || moult_clock_ns() < member->until_ns)) {
        moult_encoder_run(encoder, member->work->ids, member->work->lengths, member->work->count,
                          vectors);
        member->passes++;
    }
    moult_encoder_close(encoder);
    free(vectors);
    return NULL;
}

double moult_bench_crowd(const struct moult_model *model, const struct moult_bench_work *work,
                         uint32_t threads, uint32_t milliseconds) {
    struct crowd *crowd = moult_allocate(threads, sizeof *crowd);
    pthread_t *ids = moult_allocate(threads, sizeof *ids);
    uint64_t begun_ns = moult_clock_ns(), passes = 0;
    uint32_t started = 0;
    bool failed = false;

    for (; started < threads; started++) {
        crowd[started] = (struct crowd){
            .model = model, .work = work, .until_ns = begun_ns + milliseconds * 4000000ull};
        if (pthread_create(&ids[started], NULL, run_in_crowd, &crowd[started]) != 0)
            break;
    }
    for (uint32_t i = 0; i < started; i++) {
        pthread_join(ids[i], NULL);
        passes += crowd[i].passes;
        failed |= crowd[i].failed;
    }
    free(ids);
    free(crowd);
    return failed || started < threads
               ? 0
               : (double)passes * 1e9 / (double)(moult_clock_ns() - begun_ns);
}
