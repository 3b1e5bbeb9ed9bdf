/* `moult bench`: what this CPU gives, and how much of it a model gets, in each precision.
 *
 * First the peaks: products that never leave the registers, and reads of arrays that lie ever
 * further away. Then forward passes of one thread by length and batch, with times (the median and
 * the least, since others use the machine, too), tokens a second, and the share of the peak that
 * their products come to; of a single text also when all threads share it. Then passes on all
 * threads at once. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/precision.h"
#include "cli/bench.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "model/config.h"
#include "model/ladder.h"
#include "model/model.h"
#include "model/parts.h"

enum { PEAK_ROUNDS = 20 };

struct options {
    enum moult_precision precision;     /* AUTO: all of them. */
    uint32_t threads;
    uint32_t milliseconds;              /* Of each measurement. */
};

struct shape {
    const char *name;
    uint32_t count, length;             /* Sequences of so many tokens; length 0: mixed ones. */
};

static const struct shape shapes[] = {
    {"1x8", 1, 8},     {"1x16", 1, 16},   {"1x64", 1, 64},    {"1x128", 1, 128}, {"1x256", 1, 256},
    {"1x512", 1, 512}, {"32x16", 32, 16}, {"32x128", 32, 128}, {"32mix", 32, 0},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* As texts of people are: many short ones, some long. */
static const uint32_t mixed[MOULT_BENCH_SEQUENCES_MAX] = {
    6,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
    21, 23, 25, 27, 29, 31, 34, 37, 41, 46, 52, 60, 72, 90, 128, 210};

/* False where the model takes no text of that length. */
static bool make_work(struct moult_bench_work *work, const struct moult_model *model,
                      const struct shape *shape) {
    const struct moult_config *config = &model->config;
    double C = config->width, F = config->inner_width;

    *work = (struct moult_bench_work){.count = shape->count};
    for (uint32_t i = 0; i < shape->count; i++) {
        uint32_t length = shape->length == 0 ? mixed[i] : shape->length;

        if (length > config->tokens_max && shape->length == 0)
            length = config->tokens_max;
        if (length > config->tokens_max)
            return false;
        work->lengths[i] = length;
        work->tokens += length;
    }
    for (uint32_t t = 0; t < work->tokens; t++)
        work->ids[t] = (t * 7919u + 104729u) % config->vocabulary_size;
    work->operations = 2 * work->tokens * config->layers * (4 * C * C + 2 * C * F);
    return true;
}

/* The machine. */

/* The best of some rounds, in 10^9 operations a second. */
static double measure_peak(const struct moult_kernels *kernels, enum moult_precision precision) {
    double best = 0;

    for (unsigned i = 0; i < PEAK_ROUNDS; i++) {
        uint64_t begun_ns = moult_clock_ns();
        uint64_t operations = kernels->peak(precision, 100000);

        best = fmax(best, (double)operations / (double)(moult_clock_ns() - begun_ns));
    }
    return best;
}

/* GB/s of dot products over an array of so many bytes. */
static double measure_reads(const struct moult_kernels *kernels, size_t bytes) {
    float *array = moult_allocate_large(bytes);
    uint32_t half = (uint32_t)(bytes / sizeof(float) / 2);
    unsigned repeats = (unsigned)(64 * MOULT_MIB / bytes) + 1;
    volatile float kept;
    double best = 0;

    if (array == NULL)
        return 0;
    moult_touch_large(array, bytes);
    for (unsigned i = 0; i < PEAK_ROUNDS / 2; i++) {
        uint64_t begun_ns = moult_clock_ns();

        for (unsigned j = 0; j < repeats; j++)
            kept = kernels->dot(array, array + half, half);
        best = fmax(best, (double)bytes * repeats / (double)(moult_clock_ns() - begun_ns));
    }
    (void)kept;
    moult_free_large(array, bytes);
    return best;
}

static json_t *measure_machine(const struct moult_kernels *kernels) {
    static const struct {
        const char *name;
        size_t bytes;
    } arrays[] = {{"512 KiB", 512 * MOULT_KIB}, {"4 MiB", 4 * MOULT_MIB},
                  {"20 MiB", 20 * MOULT_MIB}, {"200 MiB", 200 * MOULT_MIB}};
    json_t *peaks = json_object(), *reads = json_object();
    char cpu[128];

    moult_machine_cpu("", cpu, sizeof cpu);
    for (unsigned i = MOULT_PRECISION_F32; i < MOULT_PRECISIONS; i++)
        json_object_set_new(peaks, moult_precision_name((enum moult_precision)i),
                            json_real(measure_peak(kernels, (enum moult_precision)i)));
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        json_object_set_new(reads, arrays[i].name,
                            json_real(measure_reads(kernels, arrays[i].bytes)));
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "cpu", cpu, "kernels", kernels->name, "threads",
                     (int)moult_machine_threads(), "peak_gops", peaks, "read_gb_s", reads);
}

/* A model in one precision. */

/* `gang`: NULL where there is one thread. */
static json_t *measure_shape(const struct moult_model *model, struct moult_encoder *encoder,
                             struct moult_bench_gang *gang, const struct shape *shape,
                             const struct moult_bench_work *work, uint32_t milliseconds,
                             double peak_gops) {
    struct moult_bench_times times = moult_bench_alone(model, encoder, work, milliseconds);
    json_t *row = json_pack(
        "{s:s, s:i, s:f, s:f, s:f, s:f, s:f}", "shape", shape->name, "tokens", (int)work->tokens,
        "median_ms", times.median_ms, "least_ms", times.least_ms, "tokens_s",
        work->tokens / times.median_ms * 1e3, "gops", work->operations / times.median_ms * 1e-6,
        "peak_share", work->operations / times.median_ms * 1e-6 / peak_gops);

    if (gang != NULL && shape->count == 1 && work->tokens >= moult_encoder_share_tokens(model)) {
        times = moult_bench_shared(gang, work, milliseconds);
        json_object_set_new(row, "shared_median_ms", json_real(times.median_ms));
        json_object_set_new(row, "shared_least_ms", json_real(times.least_ms));
    }
    return row;
}

static uint32_t threads_of(const struct options *options) {
    return options->threads == 0 ? moult_machine_threads() : options->threads;
}

static json_t *measure_shapes(const struct moult_model *model, struct moult_encoder *encoder,
                              const struct options *options, double peak_gops) {
    struct moult_bench_work *work = moult_allocate(1, sizeof *work);
    struct moult_bench_gang *gang = NULL;
    uint32_t threads = threads_of(options);
    json_t *rows = json_array();

    threads = threads < MOULT_SHARE_THREADS_MAX ? threads : MOULT_SHARE_THREADS_MAX;
    if (threads > 1)
        gang = moult_bench_gang_open(model, threads);
    for (unsigned i = 0; i < SHAPES; i++) {
        if (make_work(work, model, &shapes[i]))
            json_array_append_new(rows, measure_shape(model, encoder, gang, &shapes[i], work,
                                                      options->milliseconds, peak_gops));
    }
    moult_bench_gang_close(gang);
    free(work);
    return rows;
}

static json_t *measure_threads(const struct moult_model *model, const struct options *options,
                               double peak_gops) {
    uint32_t threads = threads_of(options);
    struct moult_bench_work *work = moult_allocate(1, sizeof *work);
    double passes;
    json_t *result;

    make_work(work, model, &shapes[6]);
    passes = moult_bench_crowd(model, work, threads, options->milliseconds);
    result = json_pack("{s:s, s:i, s:f, s:f}", "shape", shapes[6].name, "threads", (int)threads,
                       "texts_s", passes * work->count, "peak_share",
                       passes * work->operations * 1e-9 / (threads * peak_gops));
    free(work);
    return result;
}

/* NULL: it cannot be loaded. */
static json_t *measure_rung(const char *folder, enum moult_precision precision,
                            const struct options *options, double peak_gops,
                            struct moult_error *error) {
    uint64_t begun_ns = moult_clock_ns();
    struct moult_model *model = moult_model_open(folder, 1, precision, error);
    double load_ms = (double)(moult_clock_ns() - begun_ns) * 1e-6;
    struct moult_encoder *encoder;
    json_t *result = NULL;

    if (model == NULL)
        return NULL;
    encoder = moult_bench_encoder(model);
    if (encoder == NULL)
        moult_fail(error, MOULT_ERROR_SYSTEM, "There is no memory left for a forward pass.");
    else
        result = json_pack("{s:s, s:f, s:f, s:f, s:o, s:o}", "precision",
                           moult_precision_name(precision), "fidelity", model->fidelity,
                           "product_gain",
                           precision == MOULT_PRECISION_F32
                               ? 1.0
                               : moult_ladder_gain(model->kernels, precision),
                           "load_ms", load_ms, "passes",
                           measure_shapes(model, encoder, options, peak_gops), "all_threads",
                           measure_threads(model, options, peak_gops));
    moult_encoder_close(encoder);
    moult_model_close(model);
    return result;
}

/* What "auto" takes, and why, from what was measured. */
static json_t *explain_auto(const json_t *rungs) {
    const json_t *rung, *int16 = NULL;
    const char *choice = "f32";
    char why[256] = "Whether int16 gains was not measured.";
    size_t i;

    json_array_foreach(rungs, i, rung) {
        if (strcmp(json_string_value(json_object_get(rung, "precision")), "int16") == 0)
            int16 = rung;
    }
    if (int16 != NULL) {
        double gain = json_real_value(json_object_get(int16, "product_gain"));
        double fidelity = json_real_value(json_object_get(int16, "fidelity"));
        bool fast = gain >= MOULT_GAIN_LEAST, near = fidelity >= MOULT_FIDELITY_LEAST;

        choice = fast && near ? "int16" : "f32";
        snprintf(why, sizeof why,
                 "Products of int16 take 1/%.2f of the time of f32 here (at least 1/%.2f is asked "
                 "for), and its vectors have a cosine of %.6f to those of f32 at least (%.4f).",
                 gain, MOULT_GAIN_LEAST, fidelity, MOULT_FIDELITY_LEAST);
    }
    return json_pack("{s:s, s:s}", "precision", choice, "why", why);
}

/* For people. */

static double number(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

static const char *text(const json_t *object, const char *key) {
    return json_string_value(json_object_get(object, key));
}

static void print_machine(const json_t *machine) {
    json_t *value;
    const char *key;

    printf("%s, kernels %s\n\npeak of one thread", text(machine, "cpu"), text(machine, "kernels"));
    json_object_foreach(json_object_get(machine, "peak_gops"), key, value)
        printf("   %s %.0f GOP/s", key, json_number_value(value));
    printf("\nreads              ");
    json_object_foreach(json_object_get(machine, "read_gb_s"), key, value)
        printf("   %s %.0f GB/s", key, json_number_value(value));
    printf("\n");
}

static void print_rung(const json_t *rung) {
    const json_t *row, *crowd = json_object_get(rung, "all_threads");
    size_t i;

    printf("\n%s: cosine to f32 at least %.6f, products %.2f times as fast, loaded in %.0f ms\n",
           text(rung, "precision"), number(rung, "fidelity"), number(rung, "product_gain"),
           number(rung, "load_ms"));
    printf("  %-8s %10s %10s %12s %10s %8s %10s\n", "texts", "median ms", "least ms", "tokens/s",
           "GOP/s", "of peak", "shared ms");
    json_array_foreach(json_object_get(rung, "passes"), i, row) {
        printf("  %-8s %10.3f %10.3f %12.0f %10.1f %7.0f %%", text(row, "shape"),
               number(row, "median_ms"), number(row, "least_ms"), number(row, "tokens_s"),
               number(row, "gops"), 100 * number(row, "peak_share"));
        if (json_object_get(row, "shared_median_ms") != NULL)
            printf(" %10.3f", number(row, "shared_median_ms"));
        printf("\n");
    }
    printf("  %s on %.0f threads: %.0f texts/s, %.0f %% of their peak\n", text(crowd, "shape"),
           number(crowd, "threads"), number(crowd, "texts_s"), 100 * number(crowd, "peak_share"));
}

static void print_all(const json_t *report) {
    const json_t *rung, *choice = json_object_get(report, "auto");
    size_t i;

    print_machine(json_object_get(report, "machine"));
    json_array_foreach(json_object_get(report, "rungs"), i, rung)
        print_rung(rung);
    if (json_is_object(choice))
        printf("\nauto takes %s. %s\n", text(choice, "precision"), text(choice, "why"));
}

static json_t *measure(const char *folder, const struct options *options,
                       struct moult_error *error) {
    struct moult_progress progress;
    json_t *machine, *rungs = json_array(), *report = NULL;
    bool all = options->precision == MOULT_PRECISION_AUTO, failed = false;

    moult_progress_begin(&progress, "measuring");
    moult_progress_draw(&progress, -1, "the machine");
    machine = measure_machine(moult_kernels_best());
    for (unsigned i = MOULT_PRECISION_F32; i < MOULT_PRECISIONS && !failed; i++) {
        enum moult_precision precision = (enum moult_precision)i;
        const char *name = moult_precision_name(precision);
        json_t *rung;

        if (!all && precision != options->precision)
            continue;
        moult_progress_draw(&progress, all ? i / (double)MOULT_PRECISIONS : -1, name);
        rung = measure_rung(folder, precision, options,
                            number(json_object_get(machine, "peak_gops"), name), error);
        failed = rung == NULL;
        if (!failed)
            json_array_append_new(rungs, rung);
    }
    moult_progress_end(&progress);
    if (!failed)
        report = json_pack("{s:s, s:s, s:O, s:O}", "version", MOULT_VERSION, "model", folder,
                           "machine", machine, "rungs", rungs);
    if (!failed && all)
        json_object_set_new(report, "auto", explain_auto(rungs));
    json_decref(machine);
    json_decref(rungs);
    return report;
}

int moult_cli_bench(int argc, char **argv) {
    struct options options;
    const char *precision;
    struct moult_error error = {0};
    bool as_json = false;
    unsigned operand_count;
    json_t *report;
    const struct moult_option table[] = {
        {"--precision", "RUNG", "auto", "f32, int16 or int8 alone; auto: all of them, and which\n"
         "one auto takes", MOULT_OPTION_TEXT, &precision, 0, 0},
        {"--threads", "N", "0", "that share a single text, and of the last line of each; 0: what\n"
         "the machine or its container gives", MOULT_OPTION_NUMBER, &options.threads, 0,
         MOULT_THREADS_MAX},
        {"--milliseconds", "N", "250", "time for each measurement", MOULT_OPTION_NUMBER,
         &options.milliseconds, 1, 60000},
        {"--json", NULL, NULL, "as one JSON object", MOULT_OPTION_FLAG, &as_json, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult bench [OPTION …] MODEL",
        .purpose = "Measures this CPU's peaks, and forward passes of the model in the folder\n"
                   "MODEL, in each precision, by length and batch, on one thread and on all.",
        .options = table,
        .option_count = sizeof table / sizeof table[0],
        .operands_max = 1,
        .operand_needed = "a model",
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);

    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (!moult_precision_parse(precision, &options.precision)) {
        fputs("moult bench: --precision takes auto, f32, int16 or int8.\n", stderr);
        return MOULT_EXIT_USAGE;
    }
    report = measure(argv[1], &options, &error);
    if (report == NULL) {
        fprintf(stderr, "moult bench: %s\n", error.message);
        return MOULT_EXIT_FAILED;
    }
    if (as_json) {
        json_dumpf(report, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        putchar('\n');
    } else {
        print_all(report);
    }
    json_decref(report);
    return MOULT_EXIT_OK;
}
