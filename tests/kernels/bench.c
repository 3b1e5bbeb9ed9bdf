/* test_kernels --bench: what each kernel of each level costs, in the shapes of MiniLM-L6
 * (384 channels, 12 heads, 1,536 in the middle, 6 layers).
 * The best of some rounds, since others use the machine. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"
#include "check.h"
#include "kernels/kernels.h"

enum { C = 384, F = 1536, HEADS = 12, LAYERS = 6, ROUNDS = 40, ROWS_MAX = 512 };

struct layer {
    struct moult_panels qkv, out, up, down;
};

struct bench {
    const struct moult_kernels *kernels;
    struct layer layers[LAYERS];
    float *x;               /* [ROWS_MAX][F] */
    float *y;               /* [ROWS_MAX][F] */
    float *scratch;
    enum moult_precision precision;
    struct moult_rows rows;     /* [ROWS_MAX] of F. */
};

static float *random_floats(size_t count, float most) {
    float *floats = moult_allocate_large(count * sizeof(float));

    for (size_t i = 0; i < count; i++)
        floats[i] = check_random_float(most);
    return floats;
}

static void pack(struct bench *bench, struct moult_panels *panels, const float *weights,
                 uint32_t N, uint32_t K) {
    int failed =
        bench->precision == MOULT_PRECISION_F32
            ? moult_panels_pack(panels, bench->kernels, weights, weights, N, K)
            : moult_panels_pack_integers(panels, bench->kernels, bench->precision, weights,
                                         weights, NULL, N, K);

    if (failed) {
        fprintf(stderr, "No memory for the weights.\n");
        exit(1);
    }
}

static void open_bench(struct bench *bench, const struct moult_kernels *kernels,
                       enum moult_precision precision) {
    float *weights = random_floats((size_t)F * C, 0.05f);
    void *memory = moult_allocate_large(moult_rows_bytes(ROWS_MAX, F));

    bench->kernels = kernels;
    bench->precision = precision;
    bench->rows = moult_rows_in(memory, ROWS_MAX, F);
    for (unsigned i = 0; i < LAYERS; i++) {
        pack(bench, &bench->layers[i].qkv, weights, 3 * C, C);
        pack(bench, &bench->layers[i].out, weights, C, C);
        pack(bench, &bench->layers[i].up, weights, F, C);
        pack(bench, &bench->layers[i].down, weights, C, F);
    }
    moult_free_large(weights, (size_t)F * C * sizeof(float));
    bench->x = random_floats((size_t)ROWS_MAX * F, 1);
    bench->y = random_floats((size_t)ROWS_MAX * F, 1);
    bench->scratch = random_floats(moult_attention_scratch_floats(ROWS_MAX, 64), 1);
}

static void close_bench(struct bench *bench) {
    for (unsigned i = 0; i < LAYERS; i++) {
        moult_panels_release(&bench->layers[i].qkv);
        moult_panels_release(&bench->layers[i].out);
        moult_panels_release(&bench->layers[i].up);
        moult_panels_release(&bench->layers[i].down);
    }
    moult_free_large(bench->x, (size_t)ROWS_MAX * F * sizeof(float));
    moult_free_large(bench->y, (size_t)ROWS_MAX * F * sizeof(float));
    moult_free_large(bench->rows.values, moult_rows_bytes(ROWS_MAX, F));
    moult_free_large(bench->scratch,
                     moult_attention_scratch_floats(ROWS_MAX, 64) * sizeof(float));
}

/* Runs `body` until half a millisecond has gone, ROUNDS times; ns per run in the best of them. */
#define MEASURE(ns, body) \
    do { \
        body; \
        (ns) = INFINITY; \
        for (unsigned round_ = 0; round_ < ROUNDS; round_++) { \
            uint64_t start_ = moult_clock_ns(), now_; \
            unsigned runs_ = 0; \
            do { \
                body; \
                runs_++; \
                now_ = moult_clock_ns(); \
            } while (now_ - start_ < 500000); \
            (ns) = fmin((ns), (double)(now_ - start_) / runs_); \
        } \
    } while (0)

static void report(const struct bench *bench, const char *what, double ns, double flops) {
    printf("%-12s %-34s %12.0f ns", bench->kernels->name, what, ns);
    if (flops > 0)
        printf(" %7.1f GOP/s", flops / ns);
    printf("\n");
    fflush(stdout);
}

static void one_linear(const struct bench *bench, const struct moult_panels *w, uint32_t T,
                       enum moult_epilogue epilogue) {
    const struct moult_kernels *kernels = bench->kernels;
    struct moult_rows rows = bench->rows;

    if (bench->precision == MOULT_PRECISION_F32) {
        kernels->linear(w, bench->x, w->inputs, bench->y, w->outputs, T, 0, w->panels, epilogue);
        return;
    }
    kernels->integers(w, bench->x, w->inputs, T, &rows);
    kernels->linear_integers(w, &rows, bench->y, w->outputs, T, 0, w->panels, epilogue);
}

static void layer_linears(const struct bench *bench, const struct layer *layer, uint32_t T) {
    one_linear(bench, &layer->qkv, T, MOULT_EPILOGUE_NONE);
    one_linear(bench, &layer->out, T, MOULT_EPILOGUE_NONE);
    one_linear(bench, &layer->up, T, MOULT_EPILOGUE_NONE);
    one_linear(bench, &layer->down, T, MOULT_EPILOGUE_NONE);
}

static void bench_linear(const struct bench *bench) {
    static const uint32_t rows[] = {1, 2, 4, 8, 9, 16, 64, 256};
    static const char *const names[] = {"none", "gelu", "add"};
    char what[64];
    double ns;

    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t T = rows[i];
        double flops = 2.0 * T * C * F;

        for (unsigned e = 0; e < 3; e++) {
            const struct layer *layer = &bench->layers[0];

            snprintf(what, sizeof(what), "linear %u x 384 > 384, %s", T, names[e]);
            MEASURE(ns, one_linear(bench, &layer->out, T, (enum moult_epilogue)e));
            report(bench, what, ns, flops / 4);
        }
        snprintf(what, sizeof(what), "linear %u x 384 > 1536, gelu", T);
        MEASURE(ns, one_linear(bench, &bench->layers[0].up, T, MOULT_EPILOGUE_GELU));
        report(bench, what, ns, flops);
        snprintf(what, sizeof(what), "linear %u x 1536 > 384", T);
        MEASURE(ns, one_linear(bench, &bench->layers[0].down, T, MOULT_EPILOGUE_NONE));
        report(bench, what, ns, flops);
        snprintf(what, sizeof(what), "linear %u, all of the model", T);
        MEASURE(ns, for (unsigned l = 0; l < LAYERS; l++)
                        layer_linears(bench, &bench->layers[l], T));
        report(bench, what, ns, flops * 3 * LAYERS);
    }
}

static void one_attention(const struct bench *bench, uint32_t L, uint32_t D, uint32_t heads,
                          const float *q, float *out) {
    const struct moult_kernels *kernels = bench->kernels;
    bool words = bench->precision != MOULT_PRECISION_F32 && kernels->attention_words != NULL;

    (words ? kernels->attention_words : kernels->attention)(q, q + C, q + 2 * C, 3 * C, out, C, L,
                                                            D, 0, heads, 0.17f, bench->scratch);
}

static void bench_attention(const struct bench *bench) {
    static const uint32_t lengths[] = {8, 16, 32, 64, 128, 256, 512};
    char what[64];
    double ns;

    for (uint32_t D = 32; D <= 64; D *= 2) {
        for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
            uint32_t L = lengths[i];

            snprintf(what, sizeof(what), "attention %u tokens, head of %u", L, D);
            MEASURE(ns, one_attention(bench, L, D, 4, bench->x, bench->y));
            report(bench, what, ns / 4, 4.0 * L * L * D);
        }
    }
}

static void bench_rows(const struct bench *bench) {
    float *x = bench->x, *y = bench->y;
    const float *gamma = y + C, *beta = gamma + C;
    volatile float kept;
    double ns;

    MEASURE(ns, bench->kernels->layer_norm(x, C, 16, C, gamma, beta, 1e-12f));
    report(bench, "layer_norm 16 x 384", ns, 0);
    MEASURE(ns, bench->kernels->add3(y, x, gamma, beta, C));
    report(bench, "add3 384", ns, 0);
    MEASURE(ns, bench->kernels->mean(y, x, C, 16, C));
    report(bench, "mean 16 x 384", ns, 0);
    MEASURE(ns, bench->kernels->unit(y, C));
    report(bench, "unit 384", ns, 0);
    MEASURE(ns, kept = bench->kernels->dot(x, y, C));
    report(bench, "dot 384", ns, 0);
    (void)kept;
}

static void scan_rows(const struct bench *bench, const uint8_t *rows, unsigned steps) {
    static const int8_t pieces[2 * C];
    static const struct moult_scan_query query = {
        .pieces = pieces, .octs = C / 8, .offset = 5, .width = 1, .threshold = 1};
    static struct moult_scan_result result;
    const uint8_t *blocks[2 * MOULT_SCAN_BLOCKS];

    for (unsigned step = 0; step < steps; step++) {
        for (size_t b = 0; b < 2 * MOULT_SCAN_BLOCKS; b++)
            blocks[b] = rows + (step * MOULT_SCAN_BLOCKS + b) * moult_scan_block_bytes(C / 8);
        bench->kernels->scan(blocks, blocks + MOULT_SCAN_BLOCKS, &query, &result);
    }
}

/* Of the same rows over and over, and of many one after the other. */
static void bench_scan(const struct bench *bench) {
    enum { STEP = MOULT_SCAN_BLOCKS * MOULT_SCAN_ROWS, STEPS = 100000 / STEP };
    static const int8_t query[2 * C];
    size_t bytes = STEPS * MOULT_SCAN_BLOCKS * moult_scan_block_bytes(C / 8);
    uint8_t *rows = moult_allocate_large(bytes);
    volatile int32_t kept;
    double ns;

    if (rows == NULL) {
        fprintf(stderr, "No memory for the rows.\n");
        exit(1);
    }
    memset(rows, 77, bytes);
    MEASURE(ns, scan_rows(bench, rows, 1));
    report(bench, "scan 128 x 384", ns, 2.0 * STEP * C);
    MEASURE(ns, scan_rows(bench, rows, STEPS));
    report(bench, "scan 99968 x 384", ns, 2.0 * STEP * STEPS * C);
    MEASURE(ns, kept = bench->kernels->scan_row(rows, query, C / 2));
    report(bench, "scan_row 384", ns, 2.0 * C);
    (void)kept;
    moult_free_large(rows, bytes);
}

/* The kernel calls of a whole forward pass over `count` sequences of L tokens; the numbers that
 * flow are of no interest, their amount is. */
static void forward(const struct bench *bench, uint32_t count, uint32_t L) {
    const struct moult_kernels *kernels = bench->kernels;
    uint32_t T = count * L, block;
    float *x = bench->x, *y = bench->y;
    const float *gamma = x, *beta = x + C;

    for (unsigned l = 0; l < LAYERS; l++) {
        const struct layer *layer = &bench->layers[l];

        one_linear(bench, &layer->qkv, T, MOULT_EPILOGUE_NONE);
        for (uint32_t i = 0; i < count; i++)
            one_attention(bench, L, C / HEADS, HEADS, y + (size_t)i * L * 3 * C,
                          x + (size_t)i * L * C);
        one_linear(bench, &layer->out, T, MOULT_EPILOGUE_ADD);
        kernels->layer_norm(y, C, T, C, gamma, beta, 1e-12f);
        for (uint32_t t = 0; t < T; t += block) {
            block = T - t < kernels->rows_block ? T - t : kernels->rows_block;
            one_linear(bench, &layer->up, block, MOULT_EPILOGUE_GELU);
            one_linear(bench, &layer->down, block, MOULT_EPILOGUE_ADD);
        }
        kernels->layer_norm(x, C, T, C, gamma, beta, 1e-12f);
    }
}

static void bench_forward(const struct bench *bench) {
    static const uint32_t shapes[][2] = {{1, 8},   {1, 16},  {1, 64}, {1, 128},
                                         {1, 256}, {1, 512}, {32, 16}};
    char what[64];
    double ns;

    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        uint32_t count = shapes[i][0], L = shapes[i][1], T = count * L;

        snprintf(what, sizeof(what), "MiniLM-L6, %u x %u tokens", count, L);
        MEASURE(ns, forward(bench, count, L));
        report(bench, what, ns, 6.0 * LAYERS * T * C * F + 4.0 * LAYERS * T * L * C);
    }
}

void check_bench(const char *level, const char *part, const char *precision) {
    const struct moult_kernels *kernels;
    enum moult_precision rung = strcmp(precision, "int8") == 0    ? MOULT_PRECISION_INT8
                                : strcmp(precision, "int16") == 0 ? MOULT_PRECISION_INT16
                                                                  : MOULT_PRECISION_F32;

    for (unsigned i = 0; (kernels = check_level_at(i)) != NULL; i++) {
        struct bench bench;

        if (level != NULL && strcmp(level, kernels->name) != 0)
            continue;
        open_bench(&bench, kernels, rung);
        if (part == NULL || strcmp(part, "linear") == 0)
            bench_linear(&bench);
        if (part == NULL || strcmp(part, "attention") == 0)
            bench_attention(&bench);
        if (part == NULL || strcmp(part, "rows") == 0)
            bench_rows(&bench);
        if (part == NULL || strcmp(part, "scan") == 0)
            bench_scan(&bench);
        if (part == NULL || strcmp(part, "forward") == 0)
            bench_forward(&bench);
        close_bench(&bench);
    }
}
