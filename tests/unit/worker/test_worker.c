/* What a worker answers is compared with what the library says about one text alone, bit by bit, on
 * the model of MOULT_TEST_MODEL. */
#include "driver.h"

#include <dirent.h>
#include <math.h>

#include "base/buffer.h"
#include "base/machine.h"
#include "moult.h"

enum { TEXTS = 150 };

/* The texts of the load, and what the model makes of each alone. */
static char *texts[TEXTS];
static float (*expected)[C];
static struct moult_model *model;

static uint32_t random_number(void) {
    static uint32_t seed = 20;
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static char *make_text(int number) {
    static const char *const words[] = {"how",    "big",  "is",    "London", "river", "the",
                                        "naïve",  "café", "中文",   "2,048",  "tall",  "quickly",
                                        "monarch", "?",   "model", "moult"};
    enum { ROOM = 4096 };
    char *text = malloc(ROOM);
    size_t size = (size_t)snprintf(text, ROOM, "%d", number);
    /* Mostly short, some long, a few over-long. */
    uint32_t count = 1 + random_number() % 12;
    if (number % 25 == 0)
        count = 100;
    if (number % 75 == 1)
        count = 400;
    for (uint32_t i = 0; i < count; i++)
        size += (size_t)snprintf(text + size, ROOM - size, " %s", words[random_number() % 16]);
    return text;
}

static void embed_alone(const char *text, float vector[C]) {
    struct moult_text one = {.bytes = text, .size = strlen(text)};
    struct moult_error error;
    if (moult_model_encode(model, &one, 1, MOULT_PROMPT_NONE, vector, NULL, &error) != 0)
        fail_msg("%s", error.message);
}

static void start_shared(void);
static void stop_shared(void);

static int set_up(void **state) {
    (void)state;
    const char *folder = getenv("MOULT_TEST_MODEL");
    struct moult_error error;
    if (!folder)
        return 0;
    model = moult_model_open(folder, 1, MOULT_PRECISION_AUTO, &error);
    if (!model) {
        print_error("%s\n", error.message);
        return -1;
    }
    expected = calloc(TEXTS, sizeof(*expected));
    for (int i = 0; i < TEXTS; i++) {
        texts[i] = make_text(i);
        embed_alone(texts[i], expected[i]);
    }
    start_shared();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    if (model)
        stop_shared();
    for (int i = 0; i < TEXTS; i++)
        free(texts[i]);
    free(expected);
    moult_model_close(model);
    return 0;
}

static struct worker start_in(const char *folder, uint32_t threads) {
    return start_with(folder, (struct moult_worker_options){.threads = threads});
}

static struct worker start(uint32_t threads) {
    if (!model)
        skip();
    struct worker worker = start_in(getenv("MOULT_TEST_MODEL"), threads);
    wait_for_state(&worker, MOULT_WORKER_READY);
    return worker;
}

/* For tests that leave a worker as they found it. */
static struct worker shared;

static void start_shared(void) {
    shared = start(2);
}

static void stop_shared(void) {
    stop(&shared);
}

static struct worker *get_shared(void) {
    if (!model)
        skip();
    return &shared;
}

/* One text, there and back; the view's block is valid until finish_answer(). */
static int ask(struct worker *worker, const char *text, const struct moult_embed_options *options,
               struct moult_answer_view *view) {
    struct moult_text one = {.bytes = text, .size = strlen(text)};
    int slot = submit(worker, &one, 1, options);
    assert_true(slot >= 0);
    assert_int_equal(slot, next_answer(worker, view));
    return slot;
}

static void ask_vector(struct worker *worker, const char *text, struct moult_embed_options options,
                       float *vector, uint32_t n) {
    struct moult_answer_view view;
    options.format = MOULT_VECTOR_F32;
    int slot = ask(worker, text, &options, &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(n * sizeof(float), view.cells[0].size);
    memcpy(vector, view.block + view.cells[0].offset, n * sizeof(float));
    finish_answer(worker, slot, &view);
}

static void expect_refusal(struct worker *worker, const char *text,
                           struct moult_embed_options options, const char *part) {
    struct moult_answer_view view;
    int slot = ask(worker, text, &options, &view);
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    if (!strstr(view.message, part))
        fail_msg("\"%s\" does not say \"%s\".", view.message, part);
    finish_answer(worker, slot, &view);
}

/* Reading vectors back. */

static void read_decimal(const char *at, const char *end, float vector[C]) {
    assert_int_equal('[', *at);
    for (int i = 0; i < C; i++) {
        char *behind;
        vector[i] = strtof(at + 1, &behind);
        assert_int_equal(i == C - 1 ? ']' : ',', *behind);
        at = behind;
    }
    assert_ptr_equal(end, at + 1);
}

static void read_base64(const char *at, const char *end, float vector[C]) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char *out = (unsigned char *)vector;
    assert_int_equal('"', *at);
    assert_int_equal('"', end[-1]);
    assert_int_equal(2 + C * 4 / 3 * 4, end - at);
    for (at++; at < end - 1; at += 4) {
        uint32_t group = 0;
        for (int i = 0; i < 4; i++)
            group = group << 6 | (uint32_t)(strchr(letters, at[i]) - letters);
        *out++ = (unsigned char)(group >> 16);
        *out++ = (unsigned char)(group >> 8);
        *out++ = (unsigned char)group;
    }
}

static void read_cell(const struct moult_answer_view *view, uint32_t index,
                      enum moult_vector_format format, float vector[C]) {
    const char *at = view->block + view->cells[index].offset;
    const char *end = at + view->cells[index].size;
    if (format == MOULT_VECTOR_DECIMAL)
        read_decimal(at, end, vector);
    else if (format == MOULT_VECTOR_BASE64)
        read_base64(at, end, vector);
    else
        memcpy(vector, at, C * sizeof(float));
}

/* Tests. */

static void a_folder_without_a_model_fails(void **state) {
    (void)state;
    char folder[] = "/tmp/moult-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    struct worker worker = start_in(folder, 1);
    struct moult_worker_report report = {.state = MOULT_WORKER_STARTING};
    while (report.state != MOULT_WORKER_FAILED) {
        wait_for_wake(&worker);
        moult_channel_report(worker.channel, &report);
    }
    assert_true(strlen(report.failure) > 10);
    int status = wait_for_exit(&worker);
    assert_true(WIFEXITED(status));
    assert_int_equal(1, WEXITSTATUS(status));
    rmdir(folder);
}

static void it_says_what_it_is(void **state) {
    (void)state;
    struct worker *worker = get_shared();
    struct moult_worker_report report;
    const struct moult_model_info *info = moult_model_info(model);
    moult_channel_report(worker->channel, &report);
    assert_string_equal(info->fingerprint, report.fingerprint);
    assert_string_equal(info->kernels, report.kernels);
    assert_int_equal(C, report.dimensions);
    assert_int_equal(info->tokens_max, report.tokens_max);
    assert_int_equal(info->vocabulary_size, report.vocabulary_size);
    assert_int_equal(info->layers, report.layers);
    assert_true(report.normalized);
    assert_int_equal(2, report.threads);
    assert_true(report.load_progress == 1);
}

static void load_for(struct worker *worker, unsigned texts_wanted, unsigned outstanding_most) {
    static struct {
        uint32_t index[64];
        enum moult_vector_format format;
    } flights[MOULT_CHANNEL_SLOTS];
    unsigned asked = 0, answered = 0, outstanding = 0;
    while (answered < texts_wanted) {
        while (asked < texts_wanted && outstanding < outstanding_most) {
            struct moult_text list[64];
            uint32_t index[64], n = random_number() % 4 ? 1 : 2 + random_number() % 40;
            for (uint32_t i = 0; i < n; i++) {
                index[i] = random_number() % TEXTS;
                list[i] = (struct moult_text){texts[index[i]], strlen(texts[index[i]])};
            }
            struct moult_embed_options options = {.format = 1 + random_number() % 3};
            int slot = submit(worker, list, n, &options);
            if (slot < 0)
                break;
            memcpy(flights[slot].index, index, sizeof(index));
            flights[slot].format = options.format;
            asked += n;
            outstanding++;
        }
        struct moult_answer_view view;
        int slot = next_answer(worker, &view);
        assert_int_equal(MOULT_ANSWER_OK, view.status);
        for (uint32_t i = 0; i < view.count; i++) {
            float vector[C];
            read_cell(&view, i, flights[slot].format, vector);
            if (memcmp(expected[flights[slot].index[i]], vector, sizeof(vector)) != 0)
                fail_msg("Under load \"%.60s\" got other bits than alone.",
                         texts[flights[slot].index[i]]);
            bool overlong = flights[slot].index[i] % 75 == 1;
            assert_int_equal(overlong, view.cells[i].truncated);
            assert_true(overlong == (view.cells[i].tokens == 256));
        }
        answered += view.count;
        outstanding--;
        finish_answer(worker, slot, &view);
    }
    assert_int_equal(asked, answered);
}

static void bits_are_equal_alone_and_under_load(void **state) {
    (void)state;
    bool soak = getenv("MOULT_TEST_SOAK") != NULL;
    load_for(get_shared(), TEXTS, 1);
    load_for(get_shared(), soak ? 60000 : 600, 60);
    struct worker worker = start(5);
    load_for(&worker, soak ? 60000 : 300, 300);
    /* One at a time is shared by threads that have nothing else to do, until there is something. */
    load_for(&worker, TEXTS, 1);
    load_for(&worker, soak ? 60000 : TEXTS, 2);
    load_for(&worker, soak ? 60000 : TEXTS, 4);
    stop(&worker);
}

static float difference(const float *a, const float *b, uint32_t n) {
    float most = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(a[i] - b[i]));
    return most;
}

static float norm(const float *vector, uint32_t n) {
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)vector[i] * (double)vector[i];
    return (float)sqrt(sum);
}

static void options_are_followed(void **state) {
    (void)state;
    struct worker *worker = get_shared();
    float plain[C], raw[C], cut[C], raw_cut[C];
    ask_vector(worker, texts[3], (struct moult_embed_options){.unit = true}, plain, C);
    assert_memory_equal(expected[3], plain, sizeof(plain));

    ask_vector(worker, texts[3], (struct moult_embed_options){.raw = true}, raw, C);
    float length = norm(raw, C);
    assert_true(fabsf(length - 1) > 0.01f);
    for (int i = 0; i < C; i++)
        raw[i] /= length;
    assert_true(difference(raw, plain, C) < 1e-6f);

    ask_vector(worker, texts[3], (struct moult_embed_options){.dimensions = 100}, cut, 100);
    assert_true(fabsf(norm(cut, 100) - 1) < 1e-6f);
    length = norm(plain, 100);
    for (int i = 0; i < 100; i++)
        plain[i] /= length;
    assert_true(difference(cut, plain, 100) < 1e-6f);
    ask_vector(worker, texts[3], (struct moult_embed_options){.dimensions = 100, .raw = true},
               raw_cut, 100);
    assert_true(fabsf(norm(raw_cut, 100) - 1) > 0.01f);

    ask_vector(worker, texts[3], (struct moult_embed_options){.dimensions = C}, cut, C);
    assert_memory_equal(expected[3], cut, sizeof(cut));
    expect_refusal(worker, texts[3], (struct moult_embed_options){.dimensions = C + 1}, "384");
}

/* 300 words of one token each, and of them those that are left when the model's 254 are full. */
static void overlong_texts_are_cut_on_either_side_or_refused(void **state) {
    (void)state;
    struct worker *worker = get_shared();
    enum { WORDS = 300, FITTING = 254 };
    struct moult_buffer all, first, last;
    moult_buffer_init(&all, 4096);
    moult_buffer_init(&first, 4096);
    moult_buffer_init(&last, 4096);
    for (int i = 0; i < WORDS; i++) {
        const char *word = i % 7 ? (i % 3 ? " house" : " river") : " blue";
        moult_buffer_text(&all, word);
        if (i < FITTING)
            moult_buffer_text(&first, word);
        if (i >= WORDS - FITTING)
            moult_buffer_text(&last, word);
    }
    const struct moult_embed_options right = {.overlong = MOULT_OVERLONG_CUT_RIGHT};
    const struct moult_embed_options left = {.overlong = MOULT_OVERLONG_CUT_LEFT};
    const struct moult_embed_options refuse = {.overlong = MOULT_OVERLONG_ERROR};
    float got[C], wanted[C];
    ask_vector(worker, all.bytes, right, got, C);
    embed_alone(first.bytes, wanted);
    assert_memory_equal(wanted, got, sizeof(got));
    ask_vector(worker, all.bytes, left, got, C);
    embed_alone(last.bytes, wanted);
    assert_memory_equal(wanted, got, sizeof(got));
    ask_vector(worker, texts[2], left, got, C);
    assert_memory_equal(expected[2], got, sizeof(got));
    ask_vector(worker, first.bytes, refuse, got, C);
    expect_refusal(worker, all.bytes, refuse, "index 0 has more than the 256 tokens");
    moult_buffer_release(&all);
    moult_buffer_release(&first);
    moult_buffer_release(&last);
}

/* The first bad text is named, and neighbours of other requests do not notice. */
static void one_bad_text_fails_its_request_alone(void **state) {
    (void)state;
    struct worker *worker = get_shared();
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    struct moult_text list[200];
    for (int i = 0; i < 200; i++)
        list[i] = (struct moult_text){"some words", 10};
    list[150] = list[199] = (struct moult_text){"bad \xff", 5};
    int bad = submit(worker, list, 200, &options);
    list[0] = (struct moult_text){texts[5], strlen(texts[5])};
    assert_true(submit(worker, list, 100, &options) >= 0);
    for (int i = 0; i < 2; i++) {
        struct moult_answer_view view;
        int slot = next_answer(worker, &view);
        if (slot == bad) {
            assert_int_equal(MOULT_ANSWER_INVALID, view.status);
            assert_int_equal(150, view.message_text);
            assert_non_null(strstr(view.message, "index 150 is not UTF-8"));
        } else {
            assert_int_equal(MOULT_ANSWER_OK, view.status);
            float vector[C];
            read_cell(&view, 0, MOULT_VECTOR_F32, vector);
            assert_memory_equal(expected[5], vector, sizeof(vector));
        }
        finish_answer(worker, slot, &view);
    }
}

static void strange_requests_are_survived(void **state) {
    (void)state;
    struct worker *worker = get_shared();
    struct moult_answer_view view;
    float vector[C], wanted[C];
    ask_vector(worker, "", (struct moult_embed_options){0}, vector, C);
    embed_alone("", wanted);
    assert_memory_equal(wanted, vector, sizeof(vector));

    struct moult_embed_options options = {.format = MOULT_VECTOR_DECIMAL};
    struct moult_text one = {texts[0], strlen(texts[0])};
    size_t size;
    char *message = moult_embed_request_write(&one, 1, &options, &bare, &size);
    int slot = moult_channel_submit(worker->channel, MOULT_LANE_SINGLE, "nonsense", 8, 1000);
    note_question(slot, message, size);
    assert_int_equal(slot, next_answer(worker, &view));
    assert_int_equal(MOULT_ANSWER_FAILED, view.status);
    finish_answer(worker, slot, &view);

    /* An answer that was promised too little room. */
    message = moult_embed_request_write(&one, 1, &options, &bare, &size);
    slot = moult_channel_submit(worker->channel, MOULT_LANE_SINGLE, message, size, 1000);
    note_question(slot, message, size);
    assert_int_equal(slot, next_answer(worker, &view));
    assert_int_equal(MOULT_ANSWER_FAILED, view.status);
    finish_answer(worker, slot, &view);
    load_for(worker, 10, 1);
}

/* A single text that comes behind a long batch is answered long before it. */
static void a_batch_does_not_block_singles(void **state) {
    (void)state;
    enum { MANY = 200 };
    struct worker *worker = get_shared();
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    struct moult_text list[MANY];
    struct moult_answer_view view;
    for (int i = 0; i < MANY; i++)
        list[i] = (struct moult_text){"a batch of texts that takes its time to be done", 47};
    uint64_t begun_ns = moult_clock_ns();
    int batch = submit(worker, list, MANY, &options);
    uint64_t longest_ns = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t asked_ns = moult_clock_ns();
        int slot = submit(worker, list, 1, &options);
        assert_int_equal(slot, next_answer(worker, &view));
        assert_int_equal(MOULT_ANSWER_OK, view.status);
        uint64_t took_ns = moult_clock_ns() - asked_ns;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        finish_answer(worker, slot, &view);
    }
    assert_int_equal(batch, next_answer(worker, &view));
    assert_int_equal(MANY, view.count);
    uint64_t batch_ns = moult_clock_ns() - begun_ns;
    assert_true(view.times.compute_ns <= batch_ns);
    finish_answer(worker, batch, &view);
    print_message("%d texts took %.0f ms; a single beside them at most %.1f ms\n", MANY,
                  (double)batch_ns / 1e6, (double)longest_ns / 1e6);
    assert_true(longest_ns < batch_ns / 3);
}

static void what_was_submitted_is_answered_before_the_exit(void **state) {
    (void)state;
    struct worker worker = start(2);
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    enum { REQUESTS = 60 };
    for (int i = 0; i < REQUESTS; i++) {
        struct moult_text one = {texts[i], strlen(texts[i])};
        assert_true(submit(&worker, &one, 1, &options) >= 0);
    }
    moult_channel_ask_exit(worker.channel);
    for (int i = 0; i < REQUESTS; i++) {
        struct moult_answer_view view;
        int slot = next_answer(&worker, &view);
        assert_int_equal(MOULT_ANSWER_OK, view.status);
        finish_answer(&worker, slot, &view);
    }
    int status = wait_for_exit(&worker);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* After kill -9 the front finds whole answers, begun requests and untouched ones. */
static void a_killed_worker_leaves_suspects(void **state) {
    (void)state;
    struct worker worker = start(1);
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    struct moult_text one = {texts[1], strlen(texts[1])};
    int slots[400];
    for (int i = 0; i < 400; i++) {
        slots[i] = submit(&worker, &one, 1, &options);
    }
    struct moult_answer_view view;
    int first = next_answer(&worker, &view);
    finish_answer(&worker, first, &view);
    kill(worker.pid, SIGKILL);
    int status;
    assert_int_equal(worker.pid, waitpid(worker.pid, &status, 0));

    const char *block;
    size_t capacity;
    bool broken, completed[MOULT_CHANNEL_SLOTS] = {false};
    int slot;
    completed[first] = true;
    while ((slot = moult_channel_completed(worker.channel, &block, &capacity, &broken)) >= 0) {
        struct moult_error error;
        assert_int_equal(0, moult_answer_read(block, capacity, questions[slot].message,
                                              questions[slot].size, C, &view, &error));
        assert_memory_equal(expected[1], view.block + view.cells[0].offset, sizeof(expected[1]));
        moult_answer_view_release(&view);
        completed[slot] = true;
    }
    assert_false(broken);
    unsigned suspects = 0, untouched = 0;
    for (int i = 0; i < 400; i++) {
        bool started = moult_channel_started(worker.channel, slots[i]);
        assert_true(started || !completed[slots[i]]);
        suspects += started && !completed[slots[i]];
        untouched += !started;
    }
    assert_in_range(suspects, 0, 64);
    assert_true(untouched > 300);
    moult_channel_close(worker.channel);
}

static int count_descriptors(pid_t pid) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return -1;
    int count = 0;
    for (struct dirent *entry; (entry = readdir(folder));)
        count += entry->d_name[0] != '.';
    closedir(folder);
    return count;
}

static long read_oom_score(pid_t pid) {
    char path[64], text[16] = "";
    snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)pid);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    return strtol(text, NULL, 10);
}

static void a_ready_worker_is_tidy(void **state) {
    (void)state;
    /* What the child inherits: the test's own (less the one that counts them), the
     * channel's four; and of its own duplicates it keeps one, the eventfd. */
    int before = count_descriptors(getpid()) - 1;
    struct worker worker = start(2);
    assert_int_equal(before + 4 + 1, count_descriptors(worker.pid));
    assert_int_equal(read_oom_score(getpid()), read_oom_score(worker.pid));
    uint64_t progress = moult_channel_progress(worker.channel);
    load_for(&worker, 1, 1);
    assert_true(moult_channel_progress(worker.channel) >= progress + 6);
    kill(worker.pid, SIGTERM);
    kill(worker.pid, SIGINT);
    load_for(&worker, 1, 1);
    stop(&worker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_folder_without_a_model_fails),
        cmocka_unit_test(it_says_what_it_is),
        cmocka_unit_test(bits_are_equal_alone_and_under_load),
        cmocka_unit_test(options_are_followed),
        cmocka_unit_test(overlong_texts_are_cut_on_either_side_or_refused),
        cmocka_unit_test(one_bad_text_fails_its_request_alone),
        cmocka_unit_test(strange_requests_are_survived),
        cmocka_unit_test(a_batch_does_not_block_singles),
        cmocka_unit_test(what_was_submitted_is_answered_before_the_exit),
        cmocka_unit_test(a_killed_worker_leaves_suspects),
        cmocka_unit_test(a_ready_worker_is_tidy),
    };
    return cmocka_run_group_tests_name("worker", tests, set_up, tear_down);
}
