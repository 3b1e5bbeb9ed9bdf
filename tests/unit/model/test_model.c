/* Whole folders: the tiny models of tests/golden, as they are and broken in one place each. */
#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/memory.h"
#include "model/model.h"
#include "model/safetensors.h"

#define CLS "tests/golden/tiny-cls"
#define MAX "tests/golden/tiny-max"

struct folder {
    char path[64];
};

static char *read_file(const char *folder, const char *name, size_t *size) {
    char *path = moult_format("%s/%s", folder, name), *bytes = NULL;

    if (moult_file_read(AT_FDCWD, path, 1 << 24, &bytes, size, NULL) != 0)
        fail_msg("%s cannot be read.", path);
    free(path);
    return bytes;
}

static void write_file(const struct folder *folder, const char *name, const void *bytes,
                       size_t size) {
    char *path = moult_format("%s/%s", folder->path, name);
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
    free(path);
}

static void write_text(const struct folder *folder, const char *name, const char *text) {
    write_file(folder, name, text, strlen(text));
}

static void remove_file(const struct folder *folder, const char *name) {
    char *path = moult_format("%s/%s", folder->path, name);

    assert_int_equal(unlink(path), 0);
    free(path);
}

/* A copy of a tiny model in a folder of its own, which drop() removes. */
static void copy_model(struct folder *folder, const char *from) {
    static const char *const names[] = {
        "config.json",         "model.safetensors",          "modules.json",
        "tokenizer.json",      "tokenizer_config.json",      "sentence_bert_config.json",
        "1_Pooling/config.json", "config_sentence_transformers.json"};
    char *pooling;

    snprintf(folder->path, sizeof folder->path, "/tmp/moult-test-model-XXXXXX");
    assert_non_null(mkdtemp(folder->path));
    pooling = moult_format("%s/1_Pooling", folder->path);
    assert_int_equal(mkdir(pooling, 0755), 0);
    free(pooling);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        size_t size;
        char *bytes = read_file(from, names[i], &size);

        write_file(folder, names[i], bytes, size);
        free(bytes);
    }
}

static void drop(const struct folder *folder) {
    assert_int_equal(moult_folder_remove(AT_FDCWD, folder->path, NULL), 0);
}

/* Replaces `from` by `to`, once, in a file; shorter texts are filled up with spaces. */
static void replace(const struct folder *folder, const char *name, const char *from,
                    const char *to) {
    size_t size, from_size = strlen(from), to_size = strlen(to);
    char *bytes = read_file(folder->path, name, &size);
    char *at = memmem(bytes, size, from, from_size);

    if (at == NULL)
        fail_msg("%s does not hold \"%s\".", name, from);
    assert_true(to_size <= from_size);
    memset(at, ' ', from_size);
    memcpy(at, to, to_size);
    write_file(folder, name, bytes, size);
    free(bytes);
}

static void assert_refused(const struct folder *folder, const char *why) {
    struct moult_error error = {0};
    struct moult_model *model = moult_model_open(folder->path, 1, MOULT_PRECISION_F32, &error);

    if (model != NULL)
        fail_msg("Accepted, where it should have said \"%s\".", why);
    if (strstr(error.message, why) == NULL)
        fail_msg("\"%s\" does not say \"%s\".", error.message, why);
    if (error.message[strlen(error.message) - 1] != '.')
        fail_msg("\"%s\" is not a finished sentence.", error.message);
}

static struct moult_model *open_model(const char *folder, uint32_t threads) {
    struct moult_error error = {0};
    struct moult_model *model = moult_model_open(folder, threads, MOULT_PRECISION_F32, &error);

    if (model == NULL)
        fail_msg("%s", error.message);
    return model;
}

static void whole_models_are_loaded(void **state) {
    static const char *const folders[] = {CLS, MAX, "tests/golden/tiny-plain"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct moult_model *model = open_model(folders[i], 1);
        struct moult_error error = {0};

        if (moult_model_check(model, &error) != 0)
            fail_msg("%s", error.message);
        moult_model_close(model);
    }
}

static void info_says_what_the_folder_says(void **state) {
    struct moult_model *model = open_model(CLS, 1);
    const struct moult_model_info *info = moult_model_info(model);

    (void)state;
    assert_string_equal(info->architecture, "bert");
    assert_string_equal(info->pooling, "cls");
    assert_string_equal(info->query_prompt, "query: ");
    assert_string_equal(info->document_prompt, "document: ");
    assert_int_equal(info->dimensions, 40);
    assert_int_equal(info->tokens_max, 24);
    assert_int_equal(info->layers, 2);
    assert_int_equal(info->vocabulary_size,
                     moult_tokenizer_vocabulary_size(moult_model_tokenizer(model)));
    assert_false(info->normalized);
    assert_int_equal(strlen(info->fingerprint), 64);
    moult_model_close(model);
}

/* Each of these is one file of a whole model changed in one place. */
static void one_wrong_word_is_enough(void **state) {
    static const struct {
        const char *name, *from, *to, *why;
    } cases[] = {
        {"config.json", "\"hidden_size\": 40", "\"hidden_size\": 44",
         "hidden_size is 44"},
        {"config.json", "\"intermediate_size\": 37", "\"intermediate_size\": 38",
         "encoder.layer.0.intermediate.dense.weight has the shape [37, 40], not [38, 40]"},
        {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3",
         "lacks the tensor encoder.layer.2."},
        {"config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1",
         "holds encoder.layer.1."},
        {"config.json", "\"vocab_size\": 82", "\"vocab_size\": 81",
         "tokenizer.json has 82 token ids, but the model has embeddings for 81"},
        {"config.json", "\"vocab_size\": 82", "\"vocab_size\": 83",
         "embeddings.word_embeddings.weight has the shape [82, 40], not [83, 40]"},
        {"config.json", "\"model_type\": \"bert\"", "\"model_type\": \"gpt2\"", "\"gpt2\""},
        {"model.safetensors", "encoder.layer.0.output.dense.bias",
         "encoder.layer.0.output.dense.bios", "lacks the tensor encoder.layer.0.output.dense.bias"},
        {"model.safetensors", "\"BF16\"", "\"I16\"", "the dtype I16"},
        {"model.safetensors", "\"BF16\"", "\"Q8\"", "dtype Q8, which moult does not know"},
        {"sentence_bert_config.json", "24", "2",
         "takes 2 tokens at most, and its tokenizer adds 2"},
        {"tokenizer.json", "\"lowercase\": true", "\"lowercase\":false",
         "asks for lower case"},
        {"modules.json", "models.Pooling\"", "models.Dense\"", "Dense, which moult does not do"},
        {"1_Pooling/config.json", "40", "41", "word_embedding_dimension is 41"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct folder folder;

        copy_model(&folder, CLS);
        replace(&folder, cases[i].name, cases[i].from, cases[i].to);
        assert_refused(&folder, cases[i].why);
        drop(&folder);
    }
}

static void missing_files_are_named(void **state) {
    static const struct {
        const char *name, *why;
    } cases[] = {
        {"config.json", "has no config.json"},
        {"model.safetensors", "has no model.safetensors"},
        {"tokenizer.json", "has no tokenizer.json"},
        {"1_Pooling/config.json", "has no 1_Pooling/config.json"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct folder folder;

        copy_model(&folder, CLS);
        remove_file(&folder, cases[i].name);
        assert_refused(&folder, cases[i].why);
        drop(&folder);
    }
}

static void what_stands_in_their_place_is_named(void **state) {
    struct folder folder;
    char *fifo;

    (void)state;
    copy_model(&folder, CLS);
    remove_file(&folder, "model.safetensors");
    write_text(&folder, "pytorch_model.bin", "\x80\x02}q");
    assert_refused(&folder, "has pytorch_model.bin but no model.safetensors; moult never reads "
                            "pickles: save it with save_pretrained(safe_serialization=True).");
    write_text(&folder, "model.safetensors.index.json", "{}");
    assert_refused(&folder, "split into several files");
    fifo = moult_format("%s/model.safetensors", folder.path);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_refused(&folder, "model.safetensors is not a regular file");
    free(fifo);
    drop(&folder);

    copy_model(&folder, CLS);
    remove_file(&folder, "tokenizer.json");
    write_text(&folder, "vocab.txt", "[PAD]\n[UNK]\n");
    assert_refused(&folder, "has vocab.txt but no tokenizer.json");
    drop(&folder);

    snprintf(folder.path, sizeof folder.path, "/tmp/moult-test-no-such-folder");
    assert_refused(&folder, "cannot be opened");
}

/* The place of a tensor's first value in a model's file. */
static size_t place_of(const struct folder *folder, const char *name) {
    char *path = moult_format("%s/model.safetensors", folder->path);
    struct moult_safetensors contents;
    struct moult_error error = {0};
    struct stat status;
    size_t offset;
    int fd = open(path, O_RDONLY);

    assert_int_equal(fstat(fd, &status), 0);
    if (moult_safetensors_read(&contents, fd, (uint64_t)status.st_size, path, &error) != 0)
        fail_msg("%s", error.message);
    assert_non_null(moult_safetensors_find(&contents, name));
    offset = moult_safetensors_find(&contents, name)->offset;
    moult_safetensors_release(&contents);
    close(fd);
    free(path);
    return offset;
}

static void numbers_must_be_finite(void **state) {
    static const struct {
        const char *from, *name;
        uint16_t bits;
    } cases[] = {
        {CLS, "encoder.layer.1.output.dense.bias", 0x7FC0},       /* NaN as bf16. */
        {CLS, "embeddings.word_embeddings.weight", 0xFF80},       /* -Inf. */
        {MAX, "bert.encoder.layer.0.output.LayerNorm.weight", 0x7C00},  /* Inf as f16. */
        {MAX, "bert.encoder.layer.1.attention.self.key.weight", 0xFE01}, /* NaN. */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct folder folder;
        const char *bare = cases[i].name;
        size_t size;
        char *bytes;

        copy_model(&folder, cases[i].from);
        bytes = read_file(folder.path, "model.safetensors", &size);
        memcpy(bytes + place_of(&folder, cases[i].name), &cases[i].bits, sizeof cases[i].bits);
        write_file(&folder, "model.safetensors", bytes, size);
        free(bytes);
        if (strncmp(bare, "bert.", 5) == 0)
            bare += 5;
        assert_refused(&folder, bare);
        assert_refused(&folder, "holds a NaN or an infinite number");
        drop(&folder);
    }
}

static void every_cut_is_noticed(void **state) {
    struct folder folder;
    size_t size;
    char *bytes;

    (void)state;
    copy_model(&folder, CLS);
    bytes = read_file(folder.path, "model.safetensors", &size);
    for (size_t kept = 0; kept < size; kept += size / 60) {
        write_file(&folder, "model.safetensors", bytes, kept);
        assert_refused(&folder, "cut off");
    }
    write_file(&folder, "model.safetensors", bytes, size - 1);
    assert_refused(&folder, "cut off");
    free(bytes);
    drop(&folder);
}

static void halves_are_widened_exactly(void **state) {
    static const uint16_t halves[] = {0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400,
                                      0x3C00, 0xBC00, 0x7BFF, 0xFBFF, 0x3555};
    static const float floats[] = {0.0f, -0.0f, 0x1p-24f, -0x1p-24f, 1023 * 0x1p-24f, 0x1p-14f,
                                   1.0f, -1.0f, 65504.0f, -65504.0f, 0x1.554p-2f};
    enum { COUNT = sizeof halves / sizeof *halves };
    static const char token[] = "a";
    struct moult_text text = {token, 1};
    struct folder folder;
    size_t size, at;
    char *bytes;

    /* cls pooling of a model whose last LayerNorm has gamma 0: the vector is its beta. */
    (void)state;
    copy_model(&folder, MAX);
    bytes = read_file(folder.path, "model.safetensors", &size);
    at = place_of(&folder, "bert.encoder.layer.1.output.LayerNorm.weight");
    memset(bytes + at, 0, 32 * 2);
    at = place_of(&folder, "bert.encoder.layer.1.output.LayerNorm.bias");
    memset(bytes + at, 0, 32 * 2);
    memcpy(bytes + at, halves, sizeof halves);
    write_file(&folder, "model.safetensors", bytes, size);
    write_text(&folder, "modules.json",
               "[{\"type\":\"sentence_transformers.models.Transformer\",\"path\":\"\"},"
               "{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"1_Pooling\"}]");
    {
        struct moult_model *model = open_model(folder.path, 1);
        float vector[32];

        assert_int_equal(moult_model_encode(model, &text, 1, MOULT_PROMPT_NONE, vector, NULL, NULL),
                         0);
        for (size_t i = 0; i < COUNT; i++)
            assert_true(vector[i] == floats[i]);
        moult_model_close(model);
    }
    free(bytes);
    drop(&folder);
}

static void bad_texts_are_named(void **state) {
    struct moult_model *model = open_model(CLS, 2);
    static const struct moult_text texts[] = {{"a", 1}, {"b\xC3", 2}, {"\xFF", 1}};
    struct moult_error error = {0};
    float vectors[3 * 40];

    (void)state;
    assert_int_equal(
        moult_model_encode(model, texts, 3, MOULT_PROMPT_NONE, vectors, NULL, &error), -1);
    assert_int_equal(error.code, MOULT_ERROR_INVALID);
    assert_string_equal(error.message, "Text 1, counted from 0, is not valid UTF-8.");
    assert_int_equal(moult_model_encode(model, texts, 0, MOULT_PROMPT_NONE, vectors, NULL, NULL),
                     0);
    moult_model_close(model);
}

static void reports_count_tokens_and_cuts(void **state) {
    struct moult_model *model = open_model(CLS, 1);
    char longest[100];
    struct moult_text texts[] = {{"", 0}, {"a b", 3}, {longest, sizeof longest}};
    struct moult_text_report reports[3];
    float vectors[3 * 40];

    (void)state;
    for (size_t i = 0; i < sizeof longest; i++)
        longest[i] = i % 2 ? ' ' : 'x';
    assert_int_equal(
        moult_model_encode(model, texts, 3, MOULT_PROMPT_NONE, vectors, reports, NULL), 0);
    assert_int_equal(reports[0].tokens, 2);
    assert_int_equal(reports[1].tokens, 4);
    assert_int_equal(reports[2].tokens, 24);
    assert_false(reports[0].truncated || reports[1].truncated);
    assert_true(reports[2].truncated);
    assert_int_equal(
        moult_model_encode(model, texts, 2, MOULT_PROMPT_QUERY, vectors, reports, NULL), 0);
    assert_int_equal(reports[0].tokens, 4);
    moult_model_close(model);
}

enum { CALLERS = 4, CALLER_TEXTS = 40 };

struct caller {
    const struct moult_model *model;
    float vectors[CALLER_TEXTS * 40];
};

static void *call(void *argument) {
    struct caller *caller = argument;
    struct moult_text texts[CALLER_TEXTS];
    static const char letters[] = "a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f";

    for (size_t i = 0; i < CALLER_TEXTS; i++)
        texts[i] = (struct moult_text){letters, 1 + i};
    for (int round = 0; round < 20; round++)
        moult_model_encode(caller->model, texts, CALLER_TEXTS, MOULT_PROMPT_NONE, caller->vectors,
                           NULL, NULL);
    return NULL;
}

static void several_callers_share_a_model(void **state) {
    static struct caller callers[CALLERS];
    struct moult_model *model = open_model(CLS, 3);
    pthread_t threads[CALLERS];

    (void)state;
    for (size_t i = 0; i < CALLERS; i++) {
        callers[i].model = model;
        assert_int_equal(pthread_create(&threads[i], NULL, call, &callers[i]), 0);
    }
    for (size_t i = 0; i < CALLERS; i++)
        pthread_join(threads[i], NULL);
    assert_true(isfinite(callers[0].vectors[0]));
    for (size_t i = 1; i < CALLERS; i++)
        assert_memory_equal(callers[i].vectors, callers[0].vectors, sizeof callers[0].vectors);
    moult_model_close(model);
}

static void note_progress(void *context, double done) {
    double *last = context;

    assert_true(done >= *last && done <= 1);
    *last = done;
}

static void loading_tells_how_far_it_is(void **state) {
    double last = 0;
    struct moult_load_progress progress = {note_progress, &last};
    int fd = open(CLS, O_RDONLY | O_DIRECTORY);
    struct moult_model_files *files = moult_model_files_open(fd, NULL);

    (void)state;
    close(fd);
    assert_non_null(files);
    moult_model_close(moult_model_load(
        files, moult_kernels_best(),
        &(struct moult_model_options){.threads = 1, .precision = MOULT_PRECISION_F32}, &progress,
        NULL));
    moult_model_files_close(files);
    assert_true(last == 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_models_are_loaded),
        cmocka_unit_test(info_says_what_the_folder_says),
        cmocka_unit_test(one_wrong_word_is_enough),
        cmocka_unit_test(missing_files_are_named),
        cmocka_unit_test(what_stands_in_their_place_is_named),
        cmocka_unit_test(numbers_must_be_finite),
        cmocka_unit_test(every_cut_is_noticed),
        cmocka_unit_test(halves_are_widened_exactly),
        cmocka_unit_test(bad_texts_are_named),
        cmocka_unit_test(reports_count_tokens_and_cuts),
        cmocka_unit_test(several_callers_share_a_model),
        cmocka_unit_test(loading_tells_how_far_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
