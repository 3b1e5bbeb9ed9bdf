/* moult's side of bench/engine: times forward passes over ids that it is given.
 *
 *   engine MODEL [cpu|clock [PRECISION]]     with "cpu": times of the thread's processor, not of
 *                                            the clock; f32, int16, int8 or auto
 *
 * Lines on standard input, and what each answers:
 *   case B LENGTH… ID…     (nothing) one more case: B sequences, end to end
 *   run CASE REPEATS       the nanoseconds of each pass, in one line
 *   vectors CASE           B lines of numbers */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/precision.h"
#include "model/model.h"

enum { CASES_MAX = 64, TOKENS_MAX = 65536 };

struct work {
    uint32_t *ids, *lengths, B, T;
    float *vectors;
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

static void pass(const struct moult_model *model, struct moult_encoder *encoder,
                 struct work *work) {
    size_t C = moult_model_info(model)->dimensions;

    moult_encoder_run(encoder, work->ids, work->lengths, work->B, work->vectors);
    for (uint32_t i = 0; i < work->B; i++)
        moult_vector_unit(model, work->vectors + i * C);
}

static void run(const struct moult_model *model, struct moult_encoder *encoder, struct work *work,
                uint32_t repeats) {
    for (uint32_t i = 0; i < repeats; i++) {
        uint64_t began = now_ns();

        pass(model, encoder, work);
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

int main(int argc, char **argv) {
    static struct work works[CASES_MAX];
    struct moult_error error = {0};
    enum moult_precision precision = MOULT_PRECISION_F32;
    bool known = argc <= 3 || moult_precision_parse(argv[3], &precision);
    struct moult_model *model =
        argc >= 2 && known ? moult_model_open(argv[1], 1, precision, &error) : NULL;
    struct moult_encoder *encoder;
    uint32_t count = 0;
    char word[16];

    if (model == NULL) {
        fprintf(stderr, "engine: %s\n", argc >= 2 ? error.message : "Name one model folder.");
        return 1;
    }
    if (argc > 2 && strcmp(argv[2], "cpu") == 0)
        clock_id = CLOCK_THREAD_CPUTIME_ID;
    encoder = moult_encoder_open(model, TOKENS_MAX);
    printf("%s %s\n", moult_model_info(model)->kernels, moult_model_info(model)->precision);
    fflush(stdout);
    while (read_word(word)) {
        if (strcmp(word, "case") == 0 && count < CASES_MAX) {
            read_case(&works[count++], moult_model_info(model)->dimensions);
            continue;
        }
        struct work *work = &works[read_number() % CASES_MAX];

        if (strcmp(word, "run") == 0) {
            run(model, encoder, work, read_number());
        } else {
            pass(model, encoder, work);
            print_vectors(model, work);
        }
    }
    moult_encoder_close(encoder);
    moult_model_close(model);
    return 0;
}
