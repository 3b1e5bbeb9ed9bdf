/* Vectors against those of sentence-transformers, on every level of kernels that this CPU has,
 * and bit by bit against themselves in other company. */
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/memory.h"
#include "model/model.h"
#include "model/split.h"

#define COSINE_MIN 0.999999
#define DIFFERENCE_MAX 2e-6

/* Sanitizers make the same arithmetic many times slower; what they look for shows in a few
 * texts of every kind. Without them, every text counts on every level. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif
#ifdef SANITIZED
enum { REAL_STEP = 9, BITS_TEXTS = 30, BITS_TEXTS_PLAIN = 8, ROTATIONS = 2 };
#else
enum { REAL_STEP = 1, BITS_TEXTS = 64, BITS_TEXTS_PLAIN = 16, ROTATIONS = 4 };
#endif

struct golden {
    json_t *root;
    float *vectors;
    struct moult_text *texts;
    size_t count;
};

struct worst {
    double cosine, difference;
    size_t cosine_at, difference_at;
};

static const char *real_model(void) {
    const char *folder = getenv("MOULT_TEST_MODEL");

    if (folder == NULL)
        fail_msg("MOULT_TEST_MODEL does not name the real model's folder; `make test` sets it.");
    return folder;
}

/* tests/golden/NAME.json and NAME.f32. */
static void golden_open(struct golden *golden, const char *name) {
    char path[128];
    const json_t *texts;
    FILE *file;
    long bytes;

    snprintf(path, sizeof path, "tests/golden/%s.json", name);
    golden->root = json_load_file(path, JSON_ALLOW_NUL, NULL);
    assert_non_null(golden->root);
    texts = json_object_get(golden->root, "texts");
    golden->count = json_array_size(texts);
    golden->texts = moult_allocate(golden->count, sizeof *golden->texts);
    for (size_t i = 0; i < golden->count; i++) {
        const json_t *text = json_array_get(texts, i);

        golden->texts[i] = (struct moult_text){json_string_value(text), json_string_length(text)};
    }
    snprintf(path, sizeof path, "tests/golden/%s.f32", name);
    file = fopen(path, "rb");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    bytes = ftell(file);
    rewind(file);
    golden->vectors = moult_allocate((size_t)bytes, 1);
    assert_int_equal(fread(golden->vectors, 1, (size_t)bytes, file), bytes);
    fclose(file);
}

static void golden_close(struct golden *golden) {
    free(golden->texts);
    free(golden->vectors);
    json_decref(golden->root);
}

static const char *const rungs[] = {"auto", "f32", "int16", "int8"};

static struct moult_model *load_as(const char *folder, unsigned level, uint32_t threads,
                                   enum moult_precision precision) {
    struct moult_error error = {0};
    struct moult_model_options options = {.threads = threads, .precision = precision};
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

static struct moult_model *load(const char *folder, unsigned level, uint32_t threads) {
    return load_as(folder, level, threads, MOULT_PRECISION_F32);
}

static float *encode(const struct moult_model *model, const struct moult_text *texts, size_t count,
                     enum moult_prompt prompt) {
    struct moult_error error = {0};
    float *vectors = moult_allocate(count * moult_model_info(model)->dimensions, sizeof *vectors);

    if (moult_model_encode(model, texts, count, prompt, vectors, NULL, &error) != 0)
        fail_msg("%s", error.message);
    return vectors;
}

/* Differences count in lengths of the expected vector, which is 1 for unit vectors. */
static void compare(struct worst *worst, const float *found, const float *expected, size_t C,
                    size_t at) {
    double dot = 0, found_square = 0, square = 0, difference = 0, cosine;

    for (size_t c = 0; c < C; c++) {
        dot += (double)found[c] * (double)expected[c];
        found_square += (double)found[c] * (double)found[c];
        square += (double)expected[c] * (double)expected[c];
        difference = fmax(difference, fabs((double)found[c] - (double)expected[c]));
    }
    cosine = dot / sqrt(square * found_square);
    difference /= sqrt(square);
    if (!(cosine >= worst->cosine)) {
        worst->cosine = cosine;
        worst->cosine_at = at;
    }
    if (!(difference <= worst->difference)) {
        worst->difference = difference;
        worst->difference_at = at;
    }
}

static void judge(const struct worst *worst, const char *what, const char *level) {
    print_message("# %s, %s: least cosine 1 - %.1e (text %zu), largest difference %.2e "
                  "(text %zu)\n",
                  what, level, 1 - worst->cosine, worst->cosine_at, worst->difference,
                  worst->difference_at);
    assert_true(worst->cosine >= COSINE_MIN);
    assert_true(worst->difference <= DIFFERENCE_MAX);
}

static void real_vectors_are_sentence_transformers(void **state) {
    struct golden golden;

    (void)state;
    golden_open(&golden, "minilm");
    assert_int_equal(golden.count, 200);
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
        struct moult_model *model = load(real_model(), level, 0);
        struct worst worst = {.cosine = 2};
        struct moult_text texts[200];
        size_t C = moult_model_info(model)->dimensions, count = 0;
        float *vectors;

        for (size_t i = 0; i < golden.count; i += REAL_STEP)
            texts[count++] = golden.texts[i];
        vectors = encode(model, texts, count, MOULT_PROMPT_NONE);
        for (size_t i = 0; i < count; i++)
            compare(&worst, vectors + i * C, golden.vectors + i * REAL_STEP * C, C,
                    i * REAL_STEP);
        judge(&worst, "all-MiniLM-L6-v2", moult_kernels_at(level)->name);
        free(vectors);
        moult_model_close(model);
    }
    golden_close(&golden);
}

/* What each rung may be off, on average and at most, in cosine to sentence-transformers' f32. */
static const double means_least[] = {[MOULT_PRECISION_INT16] = 0.99999,
                                     [MOULT_PRECISION_INT8] = 0.999};
static const double cosines_least[] = {[MOULT_PRECISION_INT16] = 0.9999,
                                       [MOULT_PRECISION_INT8] = 0.997};

static void judge_rung(const struct golden *golden, unsigned level,
                       enum moult_precision precision) {
    struct moult_model *model = load_as(real_model(), level, 0, precision);
    const struct moult_model_info *info = moult_model_info(model);
    /* The plain level takes a second for what the others do in milliseconds. */
    size_t step = level == 0 ? 20 : REAL_STEP, C = info->dimensions, count = 0;
    struct moult_text texts[200];
    double least = 1, sum = 0;
    float *vectors;

    for (size_t i = 0; i < golden->count; i += step)
        texts[count++] = golden->texts[i];
    vectors = encode(model, texts, count, MOULT_PROMPT_NONE);
    for (size_t i = 0; i < count; i++) {
        struct worst worst = {.cosine = 2};

        compare(&worst, vectors + i * C, golden->vectors + i * step * C, C, i * step);
        least = fmin(least, worst.cosine);
        sum += worst.cosine;
    }
    print_message("# all-MiniLM-L6-v2, %s, %s: cosine %.6f on average, %.6f at least; %.6f by the "
                  "program's own texts\n",
                  rungs[precision], info->kernels, sum / (double)count, least, info->fidelity);
    assert_string_equal(info->precision, rungs[precision]);
    assert_true(sum / (double)count >= means_least[precision]);
    assert_true(least >= cosines_least[precision]);
    assert_true(info->fidelity >= cosines_least[precision] && info->fidelity <= 1);
    free(vectors);
    moult_model_close(model);
}

static void rungs_stay_with_f32(void **state) {
    struct golden golden;

    (void)state;
    golden_open(&golden, "minilm");
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
        judge_rung(&golden, level, MOULT_PRECISION_INT16);
        judge_rung(&golden, level, MOULT_PRECISION_INT8);
    }
    golden_close(&golden);
}

/* Which one it is depends on the CPU; that it is one of these, and is told, does not. */
static void auto_takes_a_rung_that_stays_with_f32(void **state) {
    (void)state;
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
        struct moult_model *model = load_as(real_model(), level, 1, MOULT_PRECISION_AUTO);
        const struct moult_model_info *info = moult_model_info(model);

        print_message("# %s: auto takes %s, fidelity %.6f\n", info->kernels, info->precision,
                      info->fidelity);
        assert_true(strcmp(info->precision, "f32") == 0 ||
                    strcmp(info->precision, "int16") == 0);
        assert_true(info->fidelity >= 0.9999 && info->fidelity <= 1);
        if (strcmp(info->kernels, "avx512vnni") == 0)
            assert_string_equal(info->precision, "int16");
        moult_model_close(model);
    }
}

static void self_check_passes(void **state) {
    (void)state;
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
        for (unsigned precision = MOULT_PRECISION_F32; precision <= MOULT_PRECISION_INT8;
             precision++) {
            struct moult_model *model =
                load_as(real_model(), level, 1, (enum moult_precision)precision);
            struct moult_error error = {0};

            if (moult_model_check(model, &error) != 0)
                fail_msg("%s", error.message);
            moult_model_close(model);
        }
    }
}

static void assert_same_bits(const float *found, const float *expected, size_t floats,
                             const char *company) {
    if (memcmp(found, expected, floats * sizeof *found) != 0)
        fail_msg("The bits of a vector changed %s.", company);
}

/* Of all lengths and kinds; every text where the counts are full. */
static size_t bits_texts(unsigned level) {
    size_t count = level == 0 ? BITS_TEXTS_PLAIN : BITS_TEXTS;

    if (getenv("MOULT_TEST_SOAK") != NULL)
        return level == 0 ? 40 : 200;
    return count;
}

static void check_company(const struct golden *golden, unsigned level,
                          enum moult_precision precision) {
    /* The plain level takes a second for what the others do in milliseconds. */
    size_t part = precision == MOULT_PRECISION_F32 ? 1 : 4;
    size_t count = bits_texts(level) / part, C;
    struct moult_model *model = load_as(real_model(), level, 1, precision);
    struct moult_text *reversed = moult_allocate(count, sizeof *reversed);
    struct moult_text *picked = moult_allocate(count, sizeof *picked);
    float *alone, *together;

    C = moult_model_info(model)->dimensions;
    alone = moult_allocate(count * C, sizeof *alone);
    for (size_t i = 0; i < count; i++)
        picked[i] = golden->texts[i * golden->count / count];
    for (size_t i = 0; i < count; i++) {
        float *one = encode(model, picked + i, 1, MOULT_PROMPT_NONE);

        memcpy(alone + i * C, one, C * sizeof *one);
        reversed[count - 1 - i] = picked[i];
        free(one);
    }
    together = encode(model, picked, count, MOULT_PROMPT_NONE);
    assert_same_bits(together, alone, count * C, "in a batch");
    free(together);
    together = encode(model, reversed, count, MOULT_PROMPT_NONE);
    for (size_t i = 0; i < count; i++)
        assert_same_bits(together + i * C, alone + (count - 1 - i) * C, C, "in another order");
    free(together);
    moult_model_close(model);
    for (uint32_t threads = 2; threads <= 3; threads++) {
        model = load_as(real_model(), level, threads, precision);
        together = encode(model, picked, count, MOULT_PROMPT_NONE);
        assert_same_bits(together, alone, count * C, "with the number of threads");
        free(together);
        for (size_t i = 0; i < count; i += level == 0 ? count : 10) {
            together = encode(model, picked + i, 1, MOULT_PROMPT_NONE);
            assert_same_bits(together, alone + i * C, C, "alone with several threads");
            free(together);
        }
        moult_model_close(model);
    }
    free(alone);
    free(reversed);
    free(picked);
}

static void bits_do_not_depend_on_company(void **state) {
    struct golden golden;

    (void)state;
    golden_open(&golden, "minilm");
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++)
        for (unsigned precision = MOULT_PRECISION_F32; precision <= MOULT_PRECISION_INT8;
             precision++)
            check_company(&golden, level, (enum moult_precision)precision);
    golden_close(&golden);
}

static size_t rotations(void) {
    return getenv("MOULT_TEST_SOAK") != NULL ? 12 : ROTATIONS;
}

/* The encoder itself, with packed sequences in every order of a few lengths: spans and blocks
 * are cut elsewhere each time. */
static void check_packing(unsigned level, enum moult_precision precision) {
    static const uint32_t lengths[] = {1, 7, 128, 3, 64, 129, 16, 2, 200, 33, 5, 90};
    enum { B = sizeof lengths / sizeof *lengths, T = 678 };

    struct moult_model *model = load_as(real_model(), level, 1, precision);
    size_t C = moult_model_info(model)->dimensions;
    struct moult_encoder *encoder = moult_encoder_open(model, T);
    uint32_t ids[T], first[B], at = 0;
    float *alone = moult_allocate(B * C, sizeof *alone);
    float *packed = moult_allocate(B * C, sizeof *packed);

    for (uint32_t t = 0; t < T; t++)
        ids[t] = (t * 7919u + 104729u) % moult_model_info(model)->vocabulary_size;
    for (size_t i = 0; i < B; i++) {
        first[i] = at;
        moult_encoder_run(encoder, ids + at, &lengths[i], 1, alone + i * C);
        at += lengths[i];
    }
    assert_int_equal(at, T);
    for (size_t rotation = 0; rotation < (level == 0 ? 1 : rotations()); rotation++) {
        uint32_t turned_ids[T], turned[B], to = 0;

        for (size_t i = 0; i < B; i++) {
            size_t from = (i * 5 + rotation) % B;

            turned[i] = lengths[from];
            memcpy(turned_ids + to, ids + first[from], lengths[from] * sizeof *ids);
            to += lengths[from];
        }
        moult_encoder_run(encoder, turned_ids, turned, B, packed);
        for (size_t i = 0; i < B; i++)
            assert_same_bits(packed + i * C, alone + (i * 5 + rotation) % B * C, C,
                             "with the packing");
    }
    free(alone);
    free(packed);
    moult_encoder_close(encoder);
    moult_model_close(model);
}

static void bits_do_not_depend_on_packing(void **state) {
    (void)state;
    for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
        for (unsigned precision = MOULT_PRECISION_F32;
             precision <= (level == 0 ? MOULT_PRECISION_F32 : MOULT_PRECISION_INT8); precision++)
            check_packing(level, (enum moult_precision)precision);
    }
}

/* A thread that helps whoever leads, and goes every now and then. */
struct helper {
    struct moult_encoder *encoder;
    struct moult_split *split;
    pthread_t thread;
    unsigned looks;
    _Atomic bool stop;
};

static bool goes(void *context) {
    struct helper *helper = context;

    return atomic_load(&helper->stop) || ++helper->looks % 3000 == 0;
}

static void *help(void *context) {
    struct helper *helper = context;

    while (!atomic_load(&helper->stop))
        moult_encoder_help(helper->encoder, helper->split, goes, helper);
    return NULL;
}

/* The same text with up to three helpers: few rows go by panels, many by rows. */
static void check_sharing(unsigned level, enum moult_precision precision) {
    static const uint32_t lengths[] = {1, 16, 33, 64, 129, 256};
    enum { HELPERS = 3, TURNS = 2, T = 256 };

    struct moult_model *model = load_as(real_model(), level, 1, precision);
    size_t C = moult_model_info(model)->dimensions;
    struct moult_encoder *encoder = moult_encoder_open(model, T);
    struct moult_split *split = moult_split_open();
    struct helper helpers[HELPERS] = {{0}};
    struct moult_split_time now = {0};
    float *alone = moult_allocate(C, sizeof *alone), *shared = moult_allocate(C, sizeof *shared);
    uint32_t ids[T];

    for (uint32_t t = 0; t < T; t++)
        ids[t] = (t * 7919u + 104729u) % moult_model_info(model)->vocabulary_size;
    for (uint32_t threads = 2; threads <= HELPERS + 1; threads++) {
        struct helper *helper = &helpers[threads - 2];

        helper->encoder = moult_encoder_open(model, T);
        helper->split = split;
        assert_int_equal(pthread_create(&helper->thread, NULL, help, helper), 0);
        for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
            moult_encoder_run(encoder, ids, &lengths[i], 1, alone);
            for (unsigned turn = 0; turn < TURNS; turn++) {
                now.ns += 3600 * 1000000000ull;     /* No rest is as long. */
                assert_true(moult_split_begin(split, threads, now));
                moult_encoder_run_shared(encoder, split, ids, &lengths[i], 1, shared);
                moult_split_end(split, now);
                assert_same_bits(shared, alone, C, "with helpers");
            }
        }
    }
    for (size_t i = 0; i < HELPERS; i++) {
        atomic_store(&helpers[i].stop, true);
        pthread_join(helpers[i].thread, NULL);
        moult_encoder_close(helpers[i].encoder);
    }
    free(alone);
    free(shared);
    moult_encoder_close(encoder);
    moult_split_close(split);
    moult_model_close(model);
}

static void bits_do_not_depend_on_helpers(void **state) {
    (void)state;
    /* The plain level takes a second for what the others do in milliseconds: tests/unit has it. */
    for (unsigned level = 1; moult_kernels_at(level) != NULL; level++) {
        for (unsigned precision = MOULT_PRECISION_F32; precision <= MOULT_PRECISION_INT8;
             precision++)
            check_sharing(level, (enum moult_precision)precision);
    }
}

static enum moult_prompt prompt_of(const json_t *entry) {
    const char *name = json_string_value(json_object_get(entry, "prompt"));

    if (strcmp(name, "query") == 0)
        return MOULT_PROMPT_QUERY;
    return strcmp(name, "document") == 0 ? MOULT_PROMPT_DOCUMENT : MOULT_PROMPT_NONE;
}

static void tiny_vectors_are_sentence_transformers(void **state) {
    struct golden golden;
    const json_t *entries, *entry;
    const float *expected;
    size_t i;

    (void)state;
    golden_open(&golden, "tiny");
    entries = json_object_get(golden.root, "models");
    assert_int_equal(json_array_size(entries), 9);
    expected = golden.vectors;
    json_array_foreach(entries, i, entry) {
        const char *name = json_string_value(json_object_get(entry, "folder"));
        size_t C = 0;
        char folder[128];

        snprintf(folder, sizeof folder, "tests/golden/%s", name);
        for (unsigned level = 0; moult_kernels_at(level) != NULL; level++) {
            struct moult_model *model = load(folder, level, 1);
            struct worst worst = {.cosine = 2};
            float *vectors = encode(model, golden.texts, golden.count, prompt_of(entry));

            C = moult_model_info(model)->dimensions;
            for (size_t at = 0; at < golden.count; at++)
                compare(&worst, vectors + at * C, expected + at * C, C, at);
            judge(&worst, name, moult_kernels_at(level)->name);
            free(vectors);
            moult_model_close(model);
        }
        expected += golden.count * C;
    }
    golden_close(&golden);
}

static void compare_with_plain_c(const struct golden *golden, const char *folder,
                                 enum moult_precision rung, enum moult_prompt prompt) {
    struct moult_model *model = load_as(folder, 0, 1, rung);
    size_t C = moult_model_info(model)->dimensions;
    float *plain = encode(model, golden->texts, golden->count, prompt);

    moult_model_close(model);
    for (unsigned level = 1; moult_kernels_at(level) != NULL; level++) {
        struct worst worst = {.cosine = 2};
        double least;
        float *vectors;

        model = load_as(folder, level, 1, rung);
        vectors = encode(model, golden->texts, golden->count, prompt);
        for (size_t at = 0; at < golden->count; at++)
            compare(&worst, vectors + at * C, plain + at * C, C, at);
        print_message("# %s, %s, %s: cosine to plain C 1 - %.1e at least (text %zu)\n", folder,
                      moult_kernels_at(level)->name, rungs[rung], 1 - worst.cosine,
                      worst.cosine_at);
        /* Where attention is in words as well, it rounds what plain C leaves in f32. */
        least = rung == MOULT_PRECISION_INT16 ? 0.999999 : 0.9999;
        if (moult_kernels_at(level)->attention_words != NULL)
            least = rung == MOULT_PRECISION_INT16 ? 0.99999 : 0.999;
        assert_true(worst.cosine >= least);
        free(vectors);
        moult_model_close(model);
    }
    free(plain);
}

/* Levels multiply the same integers; what they take in f32 differs in its last bits, and rounds
 * to another integer now and then. */
static void tiny_rungs_are_those_of_plain_c(void **state) {
    struct golden golden;
    const json_t *entry;
    size_t i;

    (void)state;
    golden_open(&golden, "tiny");
    json_array_foreach(json_object_get(golden.root, "models"), i, entry) {
        char folder[128];

        snprintf(folder, sizeof folder, "tests/golden/%s",
                 json_string_value(json_object_get(entry, "folder")));
        for (unsigned rung = MOULT_PRECISION_INT16; rung <= MOULT_PRECISION_INT8; rung++)
            compare_with_plain_c(&golden, folder, (enum moult_precision)rung, prompt_of(entry));
    }
    golden_close(&golden);
}

/* test_vectors [PATTERN]: the tests whose names match it. */
int main(int count, char **words) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_vectors_are_sentence_transformers),
        cmocka_unit_test(tiny_rungs_are_those_of_plain_c),
        cmocka_unit_test(real_vectors_are_sentence_transformers),
        cmocka_unit_test(rungs_stay_with_f32),
        cmocka_unit_test(auto_takes_a_rung_that_stays_with_f32),
        cmocka_unit_test(self_check_passes),
        cmocka_unit_test(bits_do_not_depend_on_packing),
        cmocka_unit_test(bits_do_not_depend_on_helpers),
        cmocka_unit_test(bits_do_not_depend_on_company),
    };

    if (count > 1)
        cmocka_set_test_filter(words[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
