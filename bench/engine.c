/* moult's side of bench/engine: times forward passes over ids that it is given.
 *
 *   engine MODEL [cpu|clock [PRECISION [THREADS]]]     with "cpu": times of the processor, not of
 *                                                      the clock; f32, int16, int8 or auto
 *
 * Lines on standard input, and what each answers:
 *   case B LENGTH… ID…     (nothing) one more case: B sequences, end to end
 *   run CASE REPEATS       the nanoseconds of each pass, in one line
 *   vectors CASE           B lines of numbers */
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/precision.h"
#include "model/model.h"
#include "model/team.h"

/* A thread takes whole sequences, of about so many tokens. */
enum { CASES_MAX = 2048, TOKENS_MAX = 65536, GROUP_TOKENS = 512, THREADS_MAX = 64 };

struct work {
    uint32_t *ids, *lengths, B, T;
    float *vectors;
};

struct engine {
    const struct moult_model *model;
    struct moult_team *team;
    struct moult_encoder *encoders[THREADS_MAX];
    uint32_t threads;
    /* Of the pass that is under way. */
    const struct work *work;
    uint32_t *first, groups;            /* The first sequence of each group, and one more. */
    uint32_t *offset;                   /* The first token of each group. */
    atomic_uint next_group, next_encoder;
};

static clockid_t clock_id = CLOCK_MONOTONIC;

static uint64_t now_ns(void) {
    struct timespec now;

    clock_gettime(clock_id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The next word of standard input; false at its end. */
static bool read_word(char word[16]) {
    size_t size = 0;
    int c = getchar();

    while (c == ' ' || c == '\n')
        c = getchar();
    for (; c != EOF && c != ' ' && c != '\n'; c = getchar()) {
        if (size < 15)
            word[size++] = (char)c;
    }
    word[size] = '\0';
    return size > 0;
}

static uint32_t read_number(void) {
    char word[16];

    if (!read_word(word)) {
        fputs("engine: a number is missing.\n", stderr);
        exit(1);
    }
    return (uint32_t)strtoul(word, NULL, 10);
}

static void read_case(struct work *work, uint32_t dimensions) {
    work->B = read_number();
    work->lengths = moult_allocate(work->B, sizeof *work->lengths);
    for (uint32_t i = 0; i < work->B; i++)
        work->T += work->lengths[i] = read_number();
    MOULT_REQUIRE(work->T <= TOKENS_MAX);
    work->ids = moult_allocate(work->T, sizeof *work->ids);
    for (uint32_t i = 0; i < work->T; i++)
        work->ids[i] = read_number();
    work->vectors = moult_allocate((size_t)work->B * dimensions, sizeof *work->vectors);
}

/* Small enough that each thread has one. */
static void group_sequences(struct engine *engine) {
    const struct work *work = engine->work;
    uint32_t share = (work->T + engine->threads - 1) / engine->threads, at = 0, i = 0;

    if (engine->threads == 1)
        share = TOKENS_MAX;
    else if (share > GROUP_TOKENS)
        share = GROUP_TOKENS;
    engine->groups = 0;
    while (i < work->B) {
        uint32_t tokens = 0;

        engine->first[engine->groups] = i;
        engine->offset[engine->groups++] = at;
        do
            tokens += work->lengths[i++];
        while (i < work->B && tokens + work->lengths[i] <= share);
        at += tokens;
    }
    engine->first[engine->groups] = work->B;
}

static void encode_groups(void *context) {
    struct engine *engine = context;
    struct moult_encoder *encoder = engine->encoders[atomic_fetch_add(&engine->next_encoder, 1)];
    const struct work *work = engine->work;
    size_t C = moult_model_info(engine->model)->dimensions;
    uint32_t group;

    while ((group = atomic_fetch_add(&engine->next_group, 1)) < engine->groups) {
        uint32_t first = engine->first[group], count = engine->first[group + 1] - first;
        float *vectors = work->vectors + first * C;

        moult_encoder_run(encoder, work->ids + engine->offset[group], work->lengths + first, count,
                          vectors);
        for (uint32_t i = 0; i < count; i++)
            moult_vector_unit(engine->model, vectors + i * C);
    }
}

static void pass(struct engine *engine, const struct work *work) {
    engine->work = work;
    group_sequences(engine);
    engine->next_group = engine->next_encoder = 0;
    if (engine->groups == 1)
        encode_groups(engine);
    else
        moult_team_run(engine->team, engine->threads - 1, encode_groups, engine);
}

static void run(struct engine *engine, const struct work *work, uint32_t repeats) {
    for (uint32_t i = 0; i < repeats; i++) {
        uint64_t began = now_ns();

        pass(engine, work);
        printf("%" PRIu64 " ", now_ns() - began);
    }
    putchar('\n');
    fflush(stdout);
}

static void print_vectors(const struct moult_model *model, const struct work *work) {
    uint32_t C = moult_model_info(model)->dimensions;

    for (uint32_t i = 0; i < work->B; i++) {
        for (uint32_t c = 0; c < C; c++)
            printf("%.9g ", (double)work->vectors[(size_t)i * C + c]);
        putchar('\n');
    }
    fflush(stdout);
}

static bool open_engine(struct engine *engine, uint32_t threads, struct moult_error *error) {
    engine->threads = threads;
    engine->first = moult_allocate(TOKENS_MAX + 1, sizeof *engine->first);
    engine->offset = moult_allocate(TOKENS_MAX, sizeof *engine->offset);
    engine->team = moult_team_open(threads - 1);
    for (uint32_t i = 0; i < threads; i++) {
        engine->encoders[i] = moult_encoder_open(engine->model, TOKENS_MAX);
        if (engine->encoders[i] == NULL) {
            moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory for %u threads.", threads);
            return false;
        }
    }
    return true;
}

static void close_engine(struct engine *engine) {
    moult_team_close(engine->team);
    for (uint32_t i = 0; i < engine->threads; i++)
        moult_encoder_close(engine->encoders[i]);
    free(engine->first);
    free(engine->offset);
}

static void answer_lines(struct engine *engine) {
    static struct work works[CASES_MAX];
    uint32_t count = 0;
    char word[16];

    while (read_word(word)) {
        if (strcmp(word, "case") == 0 && count < CASES_MAX) {
            read_case(&works[count++], moult_model_info(engine->model)->dimensions);
            continue;
        }
        struct work *work = &works[read_number() % CASES_MAX];

        if (strcmp(word, "run") == 0) {
            run(engine, work, read_number());
        } else {
            pass(engine, work);
            print_vectors(engine->model, work);
        }
    }
}

int main(int argc, char **argv) {
    struct engine engine = {0};
    struct moult_error error = {.message = "Name one model folder."};
    enum moult_precision precision = MOULT_PRECISION_F32;
    bool known = argc <= 3 || moult_precision_parse(argv[3], &precision);
    uint32_t threads = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 1;
    struct moult_model *model = argc >= 2 && known && threads >= 1 && threads <= THREADS_MAX
        ? moult_model_open(argv[1], threads, precision, &error) : NULL;

    engine.model = model;
    if (model == NULL || !open_engine(&engine, threads, &error)) {
        fprintf(stderr, "engine: %s\n", error.message);
        return 1;
    }
    if (argc > 2 && strcmp(argv[2], "cpu") == 0)
        clock_id = CLOCK_PROCESS_CPUTIME_ID;
    printf("%s %s\n", moult_model_info(model)->kernels, moult_model_info(model)->precision);
    fflush(stdout);
    answer_lines(&engine);
    close_engine(&engine);
    moult_model_close(model);
    return 0;
}
