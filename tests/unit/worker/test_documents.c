/* The worker's side of documents: its index, which follows what it is told, searches in it, chunks,
 * and the lane of low priority. What a search finds is compared with a scan of all vectors. */
#include "driver.h"

#include <dirent.h>
#include <math.h>
#include <sys/resource.h>

#include "base/limits.h"
#include "base/machine.h"
#include "ipc/rows.h"
#include "kernels/kernels.h"
#include "worker/process.h"

enum { DOCUMENTS = 120, COLLECTION = 3, OTHER_COLLECTION = 70000, FIRST_SEQ = 501 };

static char folder[] = "/tmp/moult-documents-XXXXXX";
static char path[64];
static const char *model_folder;

static struct worker worker;
static struct moult_rows_file *rows;
static char fingerprint[65];
static char texts[DOCUMENTS][128];
static float vectors[DOCUMENTS][C];     /* Of the texts, as documents. */

static int set_up(void **state) {
    (void)state;
    static const char *const things[] = {"the river", "a house", "bread", "London", "old music",
                                         "rain", "a train", "the moon", "cheese", "two dogs"};
    static const char *const doings[] = {"is blue", "was sold", "grows quickly", "falls slowly",
                                         "costs nothing", "sings", "runs away"};
    model_folder = getenv("MOULT_TEST_MODEL");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/x.rows", folder);
    for (unsigned i = 0; i < DOCUMENTS; i++)
        snprintf(texts[i], sizeof(texts[i]), "%s %s and %s %s", things[i % 10], doings[i % 7],
                 things[i / 10 % 10], doings[i / 7 % 7]);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* A ready worker with a file of vectors, which holds nothing yet. */
static void start_worker(struct moult_worker_options options) {
    struct moult_error error;
    if (!model_folder)
        skip();
    unlink(path);
    struct moult_rows_file *blank = moult_rows_file_create_blank(path, &error);
    assert_non_null(blank);
    options.rows_fds[0] = moult_rows_file_fd(blank);
    options.rows_count = 1;
    worker = start_with(model_folder, options);
    struct moult_worker_report report = wait_for_state(&worker, MOULT_WORKER_READY);
    snprintf(fingerprint, sizeof(fingerprint), "%s", report.fingerprint);
    assert_int_equal(0, moult_rows_file_claim(blank, fingerprint, C, &error));
    rows = blank;
}

static void stop_worker(void) {
    stop(&worker);
    moult_rows_file_close(rows);
}

/* Submits and waits. The view is released by finish(). */
static int ask(enum moult_lane lane, char *message, size_t size, struct moult_answer_view *view) {
    int slot = submit_message(&worker, lane, message, size);
    assert_true(slot >= 0);
    assert_int_equal(slot, next_answer(&worker, view));
    return slot;
}

static void finish(int slot, struct moult_answer_view *view) {
    finish_answer(&worker, slot, view);
}

static void embed(enum moult_prompt prompt, const char *text, float vector[C]) {
    struct moult_embed_options options = {
        .prompt = prompt, .format = MOULT_VECTOR_F32, .unit = true};
    struct moult_text one = {text, strlen(text)};
    struct moult_answer_view view;
    size_t size;
    char *message = moult_embed_request_write(&one, 1, &options, &bare, &size);
    int slot = ask(MOULT_LANE_SINGLE, message, size, &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    memcpy(vector, view.block + view.cells[0].offset, sizeof(float[C]));
    finish(slot, &view);
}

static void embed_documents(void) {
    for (unsigned i = 0; i < DOCUMENTS; i++)
        embed(MOULT_PROMPT_DOCUMENT, texts[i], vectors[i]);
}

/* Document i is seq FIRST_SEQ + i, chunk 0, in row i. */
static void write_documents(void) {
    uint64_t seqs[DOCUMENTS];
    uint32_t chunks[DOCUMENTS] = {0};
    struct moult_error error;
    for (unsigned i = 0; i < DOCUMENTS; i++)
        seqs[i] = FIRST_SEQ + i;
    if (moult_rows_file_write(rows, 0, DOCUMENTS, seqs, chunks, vectors[0], &error) != 0)
        fail_msg("%s", error.message);
}

static struct moult_change adding(unsigned document) {
    return (struct moult_change){.kind = MOULT_CHANGE_ADD,
                                 .collection = COLLECTION,
                                 .seq = FIRST_SEQ + document,
                                 .row = document};
}

/* Returns how many rows could not be read, the first of them in *unread. */
static uint32_t follow(const struct moult_change *changes, uint32_t count, bool complete,
                       uint32_t *unread) {
    struct moult_answer_view view;
    size_t size;
    char *message = moult_follow_request_write(changes, count, complete, &size);
    int slot = ask(MOULT_LANE_BATCH, message, size, &view);
    if (view.status != MOULT_ANSWER_OK)
        fail_msg("%s", view.message);
    uint32_t unread_count = view.unread_count;
    if (unread && unread_count > 0)
        *unread = view.unread[0];
    finish(slot, &view);
    return unread_count;
}

static void follow_documents(void) {
    struct moult_change changes[DOCUMENTS];
    for (unsigned i = 0; i < DOCUMENTS; i++)
        changes[i] = adding(i);
    assert_int_equal(0, follow(changes, DOCUMENTS, true, NULL));
}

static void start_with_documents(struct moult_worker_options options) {
    start_worker(options);
    embed_documents();
    write_documents();
    follow_documents();
}

static struct moult_search_options looking_for(uint32_t hits_max) {
    return (struct moult_search_options){
        .collection = COLLECTION, .hits_max = hits_max, .score_min = -2};
}

static int search(const char *text, struct moult_search_options options,
                  struct moult_answer_view *view) {
    struct moult_text one = {text, strlen(text)};
    size_t size;
    char *message = moult_search_request_write(&one, 1, &options, &size);
    return ask(MOULT_LANE_SINGLE, message, size, view);
}

/* The scan. `left` says which documents are there. */
struct ranking {
    unsigned document;
    float score;
};

static int compare_rankings(const void *a, const void *b) {
    const struct ranking *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return x->document < y->document ? -1 : 1;
}

static unsigned scan(const float query[C], const bool left[DOCUMENTS],
                     struct ranking ranking[DOCUMENTS]) {
    unsigned count = 0;
    for (unsigned i = 0; i < DOCUMENTS; i++)
        if (!left || left[i])
            ranking[count++] = (struct ranking){
                i, moult_kernels_best()->dot(query, vectors[i], C)};
    qsort(ranking, count, sizeof(ranking[0]), compare_rankings);
    return count;
}

static void expect_hits(const struct moult_answer_view *view, uint32_t query,
                        const struct ranking *ranking, uint32_t count) {
    uint32_t begin = query > 0 ? view->ends[query - 1] : 0;
    assert_int_equal(count, view->ends[query] - begin);
    for (uint32_t i = 0; i < count; i++) {
        const struct moult_found *found = &view->found[begin + i];
        assert_int_equal(FIRST_SEQ + ranking[i].document, found->seq);
        assert_int_equal(0, found->chunk);
        if (fabsf(ranking[i].score - found->score) > 1e-6f)
            fail_msg("A score is %g and not %g.", (double)found->score,
                     (double)ranking[i].score);
    }
}

static const char *const queries[] = {"a blue river", "who sells cheese?", "music for dogs",
                                      "how does it rain in London"};
enum { QUERIES = 4 };

static void a_search_finds_what_a_scan_finds(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_text list[QUERIES];
    struct moult_answer_view view;
    float vector[C];
    size_t size;
    start_with_documents((struct moult_worker_options){.threads = 2});
    struct moult_search_options options = looking_for(10);
    options.with_vector = true;
    for (unsigned i = 0; i < QUERIES; i++) {
        embed(MOULT_PROMPT_QUERY, queries[i], vector);
        scan(vector, NULL, ranking);
        int slot = search(queries[i], options, &view);
        assert_int_equal(MOULT_ANSWER_OK, view.status);
        expect_hits(&view, 0, ranking, 10);
        assert_memory_equal(vector, view.vectors, sizeof(vector));
        assert_true(view.tokens > 2);
        assert_true(view.times.search_ns > 0);
        finish(slot, &view);
        list[i] = (struct moult_text){queries[i], strlen(queries[i])};
    }
    /* The same together. */
    char *message = moult_search_request_write(list, QUERIES, &options, &size);
    int slot = ask(MOULT_LANE_BATCH, message, size, &view);
    for (unsigned i = 0; i < QUERIES; i++) {
        embed(MOULT_PROMPT_QUERY, queries[i], vector);
        scan(vector, NULL, ranking);
        expect_hits(&view, i, ranking, 10);
        assert_memory_equal(vector, view.vectors + (size_t)i * C, sizeof(vector));
    }
    finish(slot, &view);
    /* All of them, and none of another collection. */
    slot = search(queries[0], looking_for(MOULT_HITS_MAX), &view);
    embed(MOULT_PROMPT_QUERY, queries[0], vector);
    expect_hits(&view, 0, ranking, scan(vector, NULL, ranking));
    finish(slot, &view);
    options = looking_for(5);
    options.collection = OTHER_COLLECTION;
    slot = search(queries[0], options, &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(0, view.ends[0]);
    finish(slot, &view);
    stop_worker();
}

static void filters_and_thresholds_hold(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_answer_view view;
    float vector[C];
    bool left[DOCUMENTS];
    uint64_t allowed[(DOCUMENTS + 63) / 64] = {0};
    start_with_documents((struct moult_worker_options){.threads = 1});
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        left[i] = i % 3 == 1 && i < 100;
        allowed[i / 64] |= (uint64_t)(i % 3 == 1) << i % 64;
    }
    struct moult_search_options options = looking_for(MOULT_HITS_MAX);
    options.allowed = allowed;
    options.allowed_bits = 100;   /* What comes behind is not allowed, whatever its bit. */
    embed(MOULT_PROMPT_QUERY, queries[1], vector);
    unsigned count = scan(vector, left, ranking);
    int slot = search(queries[1], options, &view);
    expect_hits(&view, 0, ranking, count);
    finish(slot, &view);
    options.score_min = ranking[7].score;
    slot = search(queries[1], options, &view);
    assert_in_range(view.ends[0], 7, 8);
    finish(slot, &view);
    options.allowed_bits = 0;
    slot = search(queries[1], options, &view);
    assert_int_equal(0, view.ends[0]);
    finish(slot, &view);
    stop_worker();
}

static int search_vector(const float *vector, uint32_t width, struct moult_search_options options,
                         struct moult_answer_view *view) {
    size_t size;
    options.vectors = vector;
    options.C = width;
    char *message = moult_search_request_write(NULL, 1, &options, &size);
    return ask(MOULT_LANE_SINGLE, message, size, view);
}

static void a_vector_can_be_searched(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_answer_view view;
    float vector[C], nothing[C] = {0};
    start_with_documents((struct moult_worker_options){.threads = 1});
    embed(MOULT_PROMPT_QUERY, queries[2], vector);
    scan(vector, NULL, ranking);
    for (int i = 0; i < C; i++)
        vector[i] *= 12;   /* Cosines do not ask for lengths. */
    int slot = search_vector(vector, C, looking_for(10), &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    expect_hits(&view, 0, ranking, 10);
    assert_int_equal(0, view.tokens);
    finish(slot, &view);
    slot = search_vector(vector, C - 1, looking_for(10), &view);
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_non_null(strstr(view.message, "383 numbers"));
    finish(slot, &view);
    slot = search_vector(nothing, C, looking_for(10), &view);
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_non_null(strstr(view.message, "no direction"));
    finish(slot, &view);
    stop_worker();
}

static void what_goes_is_not_found(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_answer_view view;
    float vector[C];
    bool left[DOCUMENTS];
    struct moult_change changes[DOCUMENTS];
    uint32_t count = 0;
    start_with_documents((struct moult_worker_options){.threads = 1});
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        left[i] = i % 4 != 0;
        if (!left[i])
            changes[count++] = (struct moult_change){.kind = MOULT_CHANGE_REMOVE,
                                                     .collection = COLLECTION,
                                                     .seq = FIRST_SEQ + i};
    }
    /* In this order: the last of them is back again. */
    changes[count++] = adding(DOCUMENTS - 4);
    left[DOCUMENTS - 4] = true;
    assert_int_equal(0, follow(changes, count, true, NULL));
    embed(MOULT_PROMPT_QUERY, queries[3], vector);
    count = scan(vector, left, ranking);
    int slot = search(queries[3], looking_for(MOULT_HITS_MAX), &view);
    expect_hits(&view, 0, ranking, count);
    finish(slot, &view);
    changes[0] = (struct moult_change){.kind = MOULT_CHANGE_DROP, .collection = COLLECTION};
    assert_int_equal(0, follow(changes, 1, true, NULL));
    slot = search(queries[3], looking_for(10), &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(0, view.ends[0]);
    finish(slot, &view);
    stop_worker();
}

static void expect_not_yet(void) {
    struct moult_answer_view view;
    int slot = search(queries[0], looking_for(5), &view);
    assert_int_equal(MOULT_ANSWER_NOT_YET, view.status);
    assert_true(view.message[0] != '\0');
    finish(slot, &view);
}

static void an_index_that_is_not_complete_says_so(void **state) {
    (void)state;
    struct moult_change change = adding(0);
    struct moult_answer_view view;
    start_worker((struct moult_worker_options){.threads = 1});
    embed_documents();
    write_documents();
    expect_not_yet();
    assert_int_equal(0, follow(&change, 1, false, NULL));
    expect_not_yet();
    assert_int_equal(0, follow(NULL, 0, true, NULL));
    int slot = search(queries[0], looking_for(5), &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(1, view.ends[0]);
    finish(slot, &view);
    /* Once complete it stays so. */
    change = adding(1);
    assert_int_equal(0, follow(&change, 1, false, NULL));
    slot = search(queries[0], looking_for(5), &view);
    assert_int_equal(2, view.ends[0]);
    finish(slot, &view);
    stop_worker();
}

/* Rows of other documents, damaged ones, and numbers that no vector has. */
static void rows_that_are_none_are_named(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_answer_view view;
    float vector[C], broken[C] = {NAN};
    bool left[DOCUMENTS];
    struct moult_change changes[DOCUMENTS];
    uint32_t unread;
    start_worker((struct moult_worker_options){.threads = 1});
    embed_documents();
    write_documents();
    for (unsigned i = 0; i < DOCUMENTS; i++) {
        changes[i] = adding(i);
        left[i] = true;
    }
    int fd = open(path, O_WRONLY);
    assert_int_equal(1, pwrite(fd, "!", 1, (off_t)moult_rows_file_bytes(C, 50) + 700));
    close(fd);
    changes[60].chunk = 1;
    changes[70].row = DOCUMENTS + 5;
    const uint64_t seq = FIRST_SEQ + 80;
    const uint32_t chunk = 0;
    assert_int_equal(0, moult_rows_file_write(rows, 80, 1, &seq, &chunk, broken, NULL));
    left[50] = left[60] = left[70] = left[80] = false;
    assert_int_equal(4, follow(changes, DOCUMENTS, true, &unread));
    assert_int_equal(50, unread);
    embed(MOULT_PROMPT_QUERY, queries[3], vector);
    uint32_t count = scan(vector, left, ranking);
    int slot = search(queries[3], looking_for(MOULT_HITS_MAX), &view);
    expect_hits(&view, 0, ranking, count);
    finish(slot, &view);
    stop_worker();
}

/* A row that was there when it was added, and is read back in vain: the search has to wait until
 * its vector is made again, and whoever follows hears of it. */
static void a_row_that_goes_bad_is_made_again(void **state) {
    (void)state;
    struct ranking ranking[DOCUMENTS];
    struct moult_answer_view view;
    float vector[C];
    uint32_t unread = 0;
    start_with_documents((struct moult_worker_options){.threads = 1});
    embed(MOULT_PROMPT_QUERY, queries[3], vector);
    scan(vector, NULL, ranking);
    unsigned best = ranking[0].document;
    int fd = open(path, O_WRONLY);
    assert_int_equal(1, pwrite(fd, "!", 1, (off_t)moult_rows_file_bytes(C, best) + 700));
    close(fd);
    int slot = search(queries[3], looking_for(3), &view);
    assert_int_equal(MOULT_ANSWER_NOT_YET, view.status);
    finish(slot, &view);
    assert_int_equal(1, follow(NULL, 0, true, &unread));
    assert_int_equal(best, unread);
    assert_int_equal(0, follow(NULL, 0, true, NULL));

    struct moult_change changes[] = {
        {.kind = MOULT_CHANGE_REMOVE, .collection = COLLECTION, .seq = FIRST_SEQ + best},
        {.kind = MOULT_CHANGE_ADD, .collection = COLLECTION, .seq = FIRST_SEQ + best,
         .row = DOCUMENTS + 9}};
    const uint32_t chunk = 0;
    assert_int_equal(0, moult_rows_file_write(rows, DOCUMENTS + 9, 1, &changes[1].seq, &chunk,
                                              vectors[best], NULL));
    assert_int_equal(0, follow(changes, 2, true, NULL));
    slot = search(queries[3], looking_for(3), &view);
    expect_hits(&view, 0, ranking, 3);
    finish(slot, &view);
    stop_worker();
}

static void its_own_file_is_found_among_others(void **state) {
    (void)state;
    char other_path[96];
    struct moult_error error;
    struct moult_answer_view view;
    struct moult_worker_options options = {.threads = 1, .rows_count = 3};
    if (!model_folder)
        skip();
    snprintf(other_path, sizeof(other_path), "%s/y.rows", folder);
    start_with_documents((struct moult_worker_options){.threads = 1});
    stop(&worker);
    struct moult_rows_file *other = moult_rows_file_create(
        other_path, "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", C, &error);
    assert_non_null(other);
    options.rows_fds[0] = open("/dev/null", O_RDONLY);
    options.rows_fds[1] = moult_rows_file_fd(other);
    options.rows_fds[2] = moult_rows_file_fd(rows);
    worker = start_with(model_folder, options);
    wait_for_state(&worker, MOULT_WORKER_READY);
    follow_documents();
    int slot = search(queries[0], looking_for(MOULT_HITS_MAX), &view);
    assert_int_equal(DOCUMENTS, view.ends[0]);
    finish(slot, &view);
    close(options.rows_fds[0]);
    moult_rows_file_close(other);
    unlink(other_path);
    stop_worker();
}

static void the_index_is_part_of_the_estimate(void **state) {
    (void)state;
    start_worker((struct moult_worker_options){.threads = 1});
    struct moult_worker_report small, large;
    moult_channel_report(worker.channel, &small);
    stop_worker();
    start_worker((struct moult_worker_options){.threads = 1, .row_count = 1000000});
    moult_channel_report(worker.channel, &large);
    stop_worker();
    assert_true(small.memory_bytes > 0);
    assert_in_range(large.memory_bytes - small.memory_bytes, 384000000, 600000000);
    assert_true(large.memory_peak_bytes >= large.memory_bytes);
}

/* 100,000 changes in one message, of which none can be read; single texts do not wait for them. */
static void many_changes_let_others_pass(void **state) {
    (void)state;
    enum { MANY = 100000 };
    struct moult_change *changes;
    struct moult_embed_options options = {.format = MOULT_VECTOR_F32};
    struct moult_text one = {texts[0], strlen(texts[0])};
    struct moult_answer_view view;
    size_t size;
    start_worker((struct moult_worker_options){.threads = 1});
    changes = calloc(MANY, sizeof(*changes));
    for (unsigned i = 0; i < MANY; i++)
        changes[i] = (struct moult_change){
            .kind = MOULT_CHANGE_ADD, .collection = COLLECTION, .seq = 1 + i, .row = i};
    char *message = moult_follow_request_write(changes, MANY, true, &size);
    int long_one = submit_message(&worker, MOULT_LANE_BATCH, message, size);
    assert_true(long_one >= 0);
    unsigned passed = 0;
    for (;;) {
        int single = submit(&worker, &one, 1, &options);
        int slot = next_answer(&worker, &view);
        if (slot == long_one)
            break;
        assert_int_equal(single, slot);
        finish(slot, &view);
        passed++;
    }
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(MANY, view.unread_count);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(i, view.unread[i]);
    finish(long_one, &view);
    assert_true(passed > 10);
    finish(next_answer(&worker, &view), &view);
    free(changes);
    stop_worker();
}

static void texts_are_cut(void **state) {
    (void)state;
    static char text[20000];
    size_t size = 0;
    struct moult_answer_view view;
    start_worker((struct moult_worker_options){.threads = 2});
    for (unsigned i = 0; size < sizeof(text) - 200; i++)
        size += (size_t)snprintf(text + size, 200, "%s. ", texts[i % DOCUMENTS]);
    struct moult_text list[] = {{texts[0], strlen(texts[0])}, {text, size}, {"", 0}};
    struct moult_cut_options options = {.tokens = 64, .overlap = 10};
    char *message = moult_cut_request_write(list, 3, &options, &size);
    int slot = ask(MOULT_LANE_BATCH, message, size, &view);
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(1, view.ends[0]);
    assert_int_equal(view.ends[1] + 1, view.ends[2]);
    assert_true(view.ends[1] > 60);
    for (uint32_t i = 1; i < view.ends[1]; i++) {
        /* Each chunk is one that the model takes whole. */
        struct moult_embed_options strict = {.format = MOULT_VECTOR_NONE,
                                             .overlong = MOULT_OVERLONG_ERROR};
        struct moult_text chunk = {text + view.ranges[i].begin,
                                   view.ranges[i].end - view.ranges[i].begin};
        struct moult_answer_view alone;
        int chunk_slot = submit(&worker, &chunk, 1, &strict);
        assert_int_equal(chunk_slot, next_answer(&worker, &alone));
        assert_int_equal(MOULT_ANSWER_OK, alone.status);
        assert_in_range(alone.tokens, 3, 64);
        finish(chunk_slot, &alone);
    }
    finish(slot, &view);

    options.tokens = 257;
    message = moult_cut_request_write(list, 1, &options, &size);
    slot = ask(MOULT_LANE_BATCH, message, size, &view);
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_non_null(strstr(view.message, "the model takes 256"));
    finish(slot, &view);
    options.tokens = 64;
    list[1] = (struct moult_text){"bad \xff", 5};
    message = moult_cut_request_write(list, 2, &options, &size);
    slot = ask(MOULT_LANE_BATCH, message, size, &view);
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_int_equal(1, view.message_text);
    finish(slot, &view);
    stop_worker();
}

/* How many threads of the worker have that nice value. */
static unsigned count_threads(int nice) {
    char tasks[64];
    unsigned count = 0;
    snprintf(tasks, sizeof(tasks), "/proc/%d/task", (int)worker.pid);
    DIR *all = opendir(tasks);
    assert_non_null(all);
    for (struct dirent *entry; (entry = readdir(all));) {
        int thread = (int)strtol(entry->d_name, NULL, 10);
        count += thread > 0 && getpriority(PRIO_PROCESS, (id_t)thread) == nice;
    }
    closedir(all);
    return count;
}

static int submit_many(enum moult_lane lane, uint32_t count) {
    struct moult_embed_options options = {
        .prompt = MOULT_PROMPT_DOCUMENT, .format = MOULT_VECTOR_F32, .unit = true};
    struct moult_text list[DOCUMENTS];
    size_t size;
    for (uint32_t i = 0; i < count; i++)
        list[i] = (struct moult_text){texts[i], strlen(texts[i])};
    char *message = moult_embed_request_write(list, count, &options, &bare, &size);
    int slot = submit_message(&worker, lane, message, size);
    assert_true(slot >= 0);
    return slot;
}

static void expect_vectors(const struct moult_answer_view *view) {
    assert_int_equal(MOULT_ANSWER_OK, view->status);
    for (uint32_t i = 0; i < view->count; i++)
        assert_memory_equal(vectors[i], view->block + view->cells[i].offset, sizeof(vectors[i]));
}

/* The third lane has threads of its own, and gives the same bits. Both other lanes are worked off
 * beside it, by threads that were not lowered. */
static void low_threads_work_off_the_third_lane(void **state) {
    (void)state;
    struct moult_answer_view view;
    start_worker((struct moult_worker_options){.threads = 2, .follow_nice = 17});
    embed_documents();
    int low = submit_many(MOULT_LANE_BACKGROUND, DOCUMENTS);
    int low_too = submit_many(MOULT_LANE_BACKGROUND, DOCUMENTS);
    int batch = submit_many(MOULT_LANE_BATCH, 8);
    unsigned before = 0;
    bool low_done = false, low_too_done = false, batch_done = false;
    while (!low_done || !low_too_done || !batch_done) {
        int slot = next_answer(&worker, &view);
        expect_vectors(&view);
        low_done = low_done || slot == low;
        low_too_done = low_too_done || slot == low_too;
        batch_done = batch_done || slot == batch;
        before += batch_done && !(low_done && low_too_done);
        finish(slot, &view);
    }
    assert_in_range(count_threads(17), 1, 2);
    assert_true(before > 0);   /* The batch came last and was answered before the last of them. */
    /* What is left of that lane does not keep it from its exit. */
    for (int i = 0; i < 30; i++)
        submit_many(MOULT_LANE_BACKGROUND, DOCUMENTS);
    stop_worker();
}

static void without_low_threads_the_third_lane_is_the_second(void **state) {
    (void)state;
    struct moult_answer_view view;
    start_worker((struct moult_worker_options){.threads = 1});
    embed_documents();
    int slot = submit_many(MOULT_LANE_BACKGROUND, DOCUMENTS);
    assert_int_equal(slot, next_answer(&worker, &view));
    expect_vectors(&view);
    finish(slot, &view);
    stop_worker();
}

/* Changes in the third lane, searches beside them. */
static void changes_may_come_in_the_third_lane(void **state) {
    (void)state;
    struct moult_answer_view view;
    struct moult_change changes[DOCUMENTS];
    size_t size;
    start_with_documents(
        (struct moult_worker_options){.threads = 2, .follow_nice = MOULT_NICE_IDLE});
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < DOCUMENTS; i++) {
            changes[i] = adding(i);
            if (i % 2 == round % 2)
                changes[i] = (struct moult_change){.kind = MOULT_CHANGE_REMOVE,
                                                   .collection = COLLECTION,
                                                   .seq = FIRST_SEQ + i};
        }
        /* The half that goes now was all there before, or half of it. */
        char *message = moult_follow_request_write(changes, DOCUMENTS, true, &size);
        int slot = submit_message(&worker, MOULT_LANE_BACKGROUND, message, size);
        struct moult_text one = {queries[0], strlen(queries[0])};
        struct moult_search_options options = looking_for(MOULT_HITS_MAX);
        message = moult_search_request_write(&one, 1, &options, &size);
        int search_slot = submit_message(&worker, MOULT_LANE_SINGLE, message, size);
        for (int i = 0; i < 2; i++) {
            int done = next_answer(&worker, &view);
            assert_true(done == slot || done == search_slot);
            assert_int_equal(MOULT_ANSWER_OK, view.status);
            if (done == search_slot)
                assert_in_range(view.ends[0], 0, DOCUMENTS);
            finish(done, &view);
        }
        search_slot = search(queries[0], looking_for(MOULT_HITS_MAX), &view);
        assert_int_equal(DOCUMENTS / 2, view.ends[0]);
        finish(search_slot, &view);
        for (unsigned i = 0; i < DOCUMENTS; i++)   /* Nothing is there twice. */
            changes[i] = (struct moult_change){.kind = MOULT_CHANGE_REMOVE,
                                               .collection = COLLECTION,
                                               .seq = FIRST_SEQ + i};
        assert_int_equal(0, follow(changes, DOCUMENTS, true, NULL));
    }
    stop_worker();
}

static void one_without_files_has_no_index(void **state) {
    (void)state;
    struct moult_change change = adding(0);
    struct moult_answer_view view;
    size_t size;
    if (!model_folder)
        skip();
    worker = start_with(model_folder, (struct moult_worker_options){.threads = 1});
    wait_for_state(&worker, MOULT_WORKER_READY);
    expect_not_yet();
    char *message = moult_follow_request_write(&change, 1, true, &size);
    int slot = ask(MOULT_LANE_BATCH, message, size, &view);
    assert_int_equal(MOULT_ANSWER_FAILED, view.status);
    finish(slot, &view);
    stop(&worker);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_search_finds_what_a_scan_finds),
        cmocka_unit_test(filters_and_thresholds_hold),
        cmocka_unit_test(a_vector_can_be_searched),
        cmocka_unit_test(what_goes_is_not_found),
        cmocka_unit_test(an_index_that_is_not_complete_says_so),
        cmocka_unit_test(rows_that_are_none_are_named),
        cmocka_unit_test(a_row_that_goes_bad_is_made_again),
        cmocka_unit_test(its_own_file_is_found_among_others),
        cmocka_unit_test(the_index_is_part_of_the_estimate),
        cmocka_unit_test(many_changes_let_others_pass),
        cmocka_unit_test(texts_are_cut),
        cmocka_unit_test(low_threads_work_off_the_third_lane),
        cmocka_unit_test(without_low_threads_the_third_lane_is_the_second),
        cmocka_unit_test(changes_may_come_in_the_third_lane),
        cmocka_unit_test(one_without_files_has_no_index),
    };
    return cmocka_run_group_tests_name("documents", tests, set_up, tear_down);
}
