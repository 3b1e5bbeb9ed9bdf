#include "ipc/message.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"
#include "ipc/port.h"

static const struct moult_embed_options plain = {.format = MOULT_VECTOR_DECIMAL};
static const struct moult_cell_frame openai = {
    .before = "{\"object\":\"embedding\",\"embedding\":",
    .between = ",\"index\":",
    .after = "}",
    .numbered = true,
    .commas = true,
};
static const struct moult_cell_frame bare = {.before = "", .between = "", .after = ""};

static const struct moult_text words[] = {{"one", 3}, {"two", 3}, {"three", 5}};

static char *sample(size_t *size) {
    struct moult_text texts[] = {{"How big is London?", 18}, {"", 0}, {"a\0b", 3}};
    struct moult_embed_options options = {.prompt = MOULT_PROMPT_QUERY,
                                          .format = MOULT_VECTOR_BASE64,
                                          .overlong = MOULT_OVERLONG_CUT_LEFT,
                                          .raw = true,
                                          .dimensions = 128};
    return moult_embed_request_write(texts, 3, &options, &openai, size);
}

static void a_request_survives(void **state) {
    (void)state;
    size_t size;
    char *message = sample(&size);
    struct moult_request_view view;
    struct moult_error error;
    assert_int_equal(0, moult_request_read(message, size, &view, &error));
    assert_int_equal(3, view.count);
    assert_int_equal(MOULT_PROMPT_QUERY, view.options.prompt);
    assert_int_equal(MOULT_VECTOR_BASE64, view.options.format);
    assert_int_equal(MOULT_OVERLONG_CUT_LEFT, view.options.overlong);
    assert_true(view.options.raw);
    assert_false(view.options.unit);
    assert_int_equal(128, view.options.dimensions);
    assert_string_equal(openai.before, view.frame.before);
    assert_string_equal(openai.between, view.frame.between);
    assert_string_equal(openai.after, view.frame.after);
    assert_true(view.frame.numbered && view.frame.commas);
    assert_int_equal(18, view.text_sizes[0]);
    assert_int_equal(0, view.text_sizes[1]);
    assert_int_equal(3, view.text_sizes[2]);
    assert_memory_equal("How big is London?a\0b", view.texts, 21);
    free(message);
}

static const uint64_t some_rows[] = {0x8000000000000001u, 1};
static const float two_vectors[] = {0.5f, -0.25f, 1, 0};

static char *sample_search(size_t *size) {
    struct moult_search_options options = {.collection = 7,
                                           .hits_max = 3,
                                           .score_min = 0.25f,
                                           .allowed = some_rows,
                                           .allowed_bits = 65,
                                           .overlong = MOULT_OVERLONG_ERROR,
                                           .with_vector = true};
    return moult_search_request_write(words, 2, &options, size);
}

static char *sample_vectors(size_t *size) {
    struct moult_search_options options = {
        .hits_max = 1, .score_min = -2, .vectors = two_vectors, .C = 2};
    return moult_search_request_write(NULL, 2, &options, size);
}

static char *sample_cut(size_t *size) {
    struct moult_cut_options options = {.tokens = 8, .overlap = 2};
    return moult_cut_request_write(words, 3, &options, size);
}

static const struct moult_change some_changes[] = {
    {.kind = MOULT_CHANGE_ADD, .collection = 1, .seq = 5, .row = 9, .chunk = 2},
    {.kind = MOULT_CHANGE_REMOVE, .collection = 1, .seq = 4},
    {.kind = MOULT_CHANGE_DROP, .collection = 3},
};

static char *sample_follow(size_t *size) {
    return moult_follow_request_write(some_changes, 3, true, size);
}

static void a_search_survives(void **state) {
    (void)state;
    size_t size;
    char *message = sample_search(&size);
    struct moult_request_view view;
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_int_equal(MOULT_REQUEST_SEARCH, view.kind);
    assert_int_equal(2, view.count);
    assert_int_equal(7, view.search.collection);
    assert_int_equal(3, view.search.hits_max);
    assert_true(view.search.score_min == 0.25f);
    assert_int_equal(65, view.search.allowed_bits);
    assert_memory_equal(some_rows, view.search.allowed, sizeof(some_rows));
    assert_true(view.search.with_vector);
    assert_null(view.search.vectors);
    assert_int_equal(3, view.text_sizes[1]);
    assert_memory_equal("onetwo", view.texts, 6);
    /* What makes a text a query. */
    assert_int_equal(MOULT_PROMPT_QUERY, view.options.prompt);
    assert_int_equal(MOULT_OVERLONG_ERROR, view.options.overlong);
    assert_true(view.options.unit && !view.options.raw && view.options.dimensions == 0);
    free(message);

    message = sample_vectors(&size);
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_null(view.texts);
    assert_null(view.search.allowed);
    assert_int_equal(2, view.search.C);
    assert_memory_equal(two_vectors, view.search.vectors, sizeof(two_vectors));
    free(message);

    /* A filter that lets nothing through is no lack of a filter. */
    struct moult_search_options none = {.hits_max = 1, .score_min = -2, .allowed = some_rows};
    message = moult_search_request_write(words, 1, &none, &size);
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_non_null(view.search.allowed);
    assert_int_equal(0, view.search.allowed_bits);
    free(message);
}

static void a_cut_and_changes_survive(void **state) {
    (void)state;
    size_t size;
    char *message = sample_cut(&size);
    struct moult_request_view view;
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_int_equal(MOULT_REQUEST_CUT, view.kind);
    assert_int_equal(8, view.cut.tokens);
    assert_int_equal(2, view.cut.overlap);
    assert_memory_equal("onetwothree", view.texts, 11);
    free(message);

    message = sample_follow(&size);
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_int_equal(MOULT_REQUEST_FOLLOW, view.kind);
    assert_int_equal(3, view.count);
    assert_true(view.complete);
    assert_memory_equal(some_changes, view.changes, sizeof(some_changes));
    free(message);

    message = moult_follow_request_write(NULL, 0, true, &size);
    assert_int_equal(0, moult_request_read(message, size, &view, NULL));
    assert_int_equal(0, view.count);
    free(message);
}

/* What a view promises, however the message came to be. */
static void expect_sound(const char *message, size_t size, const struct moult_request_view *view) {
    const char *end = message + size;
    if (view->texts) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < view->count; i++)
            sum += view->text_sizes[i];
        assert_ptr_equal(end, view->texts + sum);
    }
    if (view->search.allowed)
        assert_true((const char *)(view->search.allowed + (view->search.allowed_bits + 63u) / 64) <=
                    end);
    if (view->search.vectors)
        assert_ptr_equal(end, view->search.vectors + (size_t)view->count * view->search.C);
    if (view->changes)
        assert_ptr_equal(end, view->changes + view->count);
}

/* Cut anywhere, a request is refused; with any byte changed it is refused or harmless. */
static void a_broken_request_is_refused(void **state) {
    (void)state;
    char *(*const samples[])(size_t *) = {sample, sample_search, sample_vectors, sample_cut,
                                          sample_follow};
    for (size_t kind = 0; kind < sizeof(samples) / sizeof(samples[0]); kind++) {
        size_t size;
        char *message = samples[kind](&size);
        struct moult_request_view view;
        struct moult_error error = {.code = MOULT_OK};
        for (size_t cut = 0; cut < size; cut++) {
            char *copy = malloc(cut ? cut : 1);
            memcpy(copy, message, cut);
            assert_int_equal(-1, moult_request_read(copy, cut, &view, &error));
            assert_int_equal(MOULT_ERROR_INVALID, error.code);
            free(copy);
        }
        unsigned refused = 0;
        for (size_t at = 0; at < size; at++)
            for (int value = 0; value < 256; value += 15) {
                char *copy = malloc(size);
                memcpy(copy, message, size);
                copy[at] = (char)value;
                if (moult_request_read(copy, size, &view, &error) == 0)
                    expect_sound(copy, size, &view);
                else
                    refused++;
                free(copy);
            }
        assert_true(refused > 100);
        free(message);
    }
}

static void cells_have_frames(void **state) {
    (void)state;
    char out[512];
    const float vector[] = {0.5f, -0.25f, 1.0f};
    size_t size = moult_cell_write(out, &plain, &openai, 0, vector, 3);
    out[size] = '\0';
    assert_string_equal("{\"object\":\"embedding\",\"embedding\":[0.5,-0.25,1],\"index\":0}", out);
    size = moult_cell_write(out, &plain, &openai, 1203, vector, 3);
    out[size] = '\0';
    assert_string_equal(
        ",{\"object\":\"embedding\",\"embedding\":[0.5,-0.25,1],\"index\":1203}", out);
    assert_true(size <= moult_cell_bytes_max(&plain, &openai, 3));
}

static void cells_have_formats(void **state) {
    (void)state;
    char out[512];
    const float vector[] = {0.5f, -0.25f, 1.0f, 3.0f};
    struct moult_embed_options options = {.format = MOULT_VECTOR_BASE64};
    const char *expected[] = {"\"AAAAPw==\"", "\"AAAAPwAAgL4=\"", "\"AAAAPwAAgL4AAIA/\"",
                              "\"AAAAPwAAgL4AAIA/AABAQA==\""};
    for (uint32_t C = 1; C <= 4; C++) {
        size_t size = moult_cell_write(out, &options, &bare, 0, vector, C);
        assert_int_equal(strlen(expected[C - 1]), size);
        assert_memory_equal(expected[C - 1], out, size);
        assert_int_equal(size, moult_cell_bytes_max(&options, &bare, C));
    }
    options.dimensions = 2;
    assert_int_equal(14, moult_cell_write(out, &options, &bare, 7, vector, 4));
    assert_memory_equal(expected[1], out, 14);

    options.format = MOULT_VECTOR_F32;
    assert_int_equal(8, moult_cell_write(out, &options, &bare, 7, vector, 4));
    assert_memory_equal("\0\0\0\x3f\0\0\x80\xbe", out, 8);
    options.format = MOULT_VECTOR_NONE;
    assert_int_equal(0, moult_cell_write(out, &options, &bare, 7, vector, 4));
}

/* The longest floats, the longest index: the bound that blocks are sized by holds. */
static void cells_keep_their_bound(void **state) {
    (void)state;
    enum { C = 384 };
    float vector[C];
    for (int i = 0; i < C; i++)
        vector[i] = i % 2 ? -1.17549435e-38f : -0.000123456789f;
    size_t max = moult_cell_bytes_max(&plain, &openai, C);
    char *out = malloc(max);
    size_t size = moult_cell_write(out, &plain, &openai, UINT32_MAX, vector, C);
    assert_in_range(size, 1, max);
    free(out);
}

static char *request_of(uint32_t count, size_t *size) {
    return moult_embed_request_write(words, count, &plain, &openai, size);
}

/* Reads a block as the answer to `count` texts. */
static int read_answer(const char *block, size_t capacity, uint32_t count,
                       struct moult_answer_view *view) {
    struct moult_error error;
    size_t size;
    char *message = request_of(count, &size);
    int result = moult_answer_read(block, capacity, message, size, 2, view, &error);
    free(message);
    return result;
}

static char *answer_of(uint32_t count, size_t *capacity) {
    const float vector[] = {0.5f, -0.25f};
    size_t size;
    char *message = request_of(count, &size);
    *capacity = moult_answer_bytes_max(message, size, 2);
    free(message);
    char *block = calloc(1, *capacity);
    size_t begin = moult_answer_cells_begin(count);
    size_t stride = moult_cell_bytes_max(&plain, &openai, 2);
    struct moult_answer_cell *cells = moult_answer_cells(block, *capacity, count);
    for (uint32_t i = 0; i < count; i++)
        cells[i] = (struct moult_answer_cell){
            .offset = (uint32_t)(begin + i * stride),
            .size = (uint32_t)moult_cell_write(block + begin + i * stride, &plain, &openai, i,
                                               vector, 2),
            .tokens = 5,
            .truncated = i % 2,
        };
    struct moult_answer_times times = {.queue_ns = 1, .tokenize_ns = 2, .compute_ns = 3};
    moult_answer_write(block, *capacity, MOULT_ANSWER_OK, count, &times, "", UINT32_MAX);
    return block;
}

static void an_answer_survives(void **state) {
    (void)state;
    size_t capacity;
    char *block = answer_of(3, &capacity);
    struct moult_answer_view view;
    assert_int_equal(0, read_answer(block, capacity, 3, &view));
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(3, view.count);
    assert_int_equal(15, view.tokens);
    assert_int_equal(1, view.truncated);
    assert_int_equal(2, view.times.tokenize_ns);
    assert_memory_equal(",{\"object\"", view.block + view.cells[1].offset, 10);
    moult_answer_view_release(&view);

    assert_int_equal(-1, read_answer(block, capacity, 2, &view));
    free(block);
}

static void a_refusal_survives(void **state) {
    (void)state;
    char block[512];
    struct moult_answer_times times = {0};
    struct moult_answer_view view;
    moult_answer_write(block, sizeof(block), MOULT_ANSWER_INVALID, 3, &times, "Too long.", 2);
    assert_int_equal(0, read_answer(block, sizeof(block), 3, &view));
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_string_equal("Too long.", view.message);
    assert_int_equal(2, view.message_text);
    assert_int_equal(0, view.count);
    /* A text that the request does not have is not named. */
    assert_int_equal(0, read_answer(block, sizeof(block), 2, &view));
    assert_int_equal(UINT32_MAX, view.message_text);
    moult_answer_view_release(&view);
}

static void a_hostile_answer_is_refused(void **state) {
    (void)state;
    size_t capacity;
    char *block = answer_of(2, &capacity);
    struct moult_answer_cell *cells = moult_answer_cells(block, capacity, 2);
    struct moult_answer_cell good = cells[1];
    struct moult_answer_cell bad[] = {
        {.offset = 0, .size = 4},
        {.offset = good.offset, .size = UINT32_MAX},
        {.offset = UINT32_MAX, .size = 2},
        {.offset = (uint32_t)capacity, .size = 1},
        {.offset = (uint32_t)capacity + 1, .size = 0},
        {.offset = good.offset, .size = good.size, .tokens = MOULT_TOKENS_PER_TEXT_MAX + 1},
        {.offset = good.offset, .size = good.size, .truncated = 2},
    };
    struct moult_answer_view view;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cells[1] = bad[i];
        assert_int_equal(-1, read_answer(block, capacity, 2, &view));
        assert_null(view.cells);
    }
    cells[1] = good;
    assert_int_equal(0, read_answer(block, capacity, 2, &view));
    moult_answer_view_release(&view);
    block[0] = 99;
    assert_int_equal(-1, read_answer(block, capacity, 2, &view));
    block[0] = 0;
    assert_int_equal(-1, read_answer(block, 100, 2, &view));
    free(block);
}

/* An answer as a worker writes it, cell by cell. */
struct sheet {
    char *message, *block;
    size_t size, capacity;
    uint32_t C;
    struct moult_request_view request;
    struct moult_answer_cell *cells;
};

static struct sheet sheet_open(char *message, size_t size, uint32_t C) {
    struct sheet sheet = {.message = message, .size = size, .C = C};
    assert_int_equal(0, moult_request_read(message, size, &sheet.request, NULL));
    sheet.capacity = moult_answer_bytes_max(message, size, C);
    assert_int_equal(sheet.capacity, moult_answer_room(&sheet.request, C));
    sheet.block = calloc(1, sheet.capacity);
    uint32_t count = moult_answer_cells_of(&sheet.request);
    sheet.cells = moult_answer_cells(sheet.block, sheet.capacity, count);
    size_t offset = moult_answer_cells_begin(count);
    for (uint32_t i = 0; i < count; i++) {
        sheet.cells[i].offset = (uint32_t)offset;
        offset += moult_answer_cell_room(&sheet.request, i, C);
    }
    struct moult_answer_times times = {.search_ns = 4};
    moult_answer_write(sheet.block, sheet.capacity, MOULT_ANSWER_OK, count, &times, "",
                       UINT32_MAX);
    return sheet;
}

static void sheet_put(struct sheet *sheet, uint32_t cell, const void *bytes, size_t size) {
    memcpy(sheet->block + sheet->cells[cell].offset + sheet->cells[cell].size, bytes, size);
    sheet->cells[cell].size += (uint32_t)size;
}

static int sheet_read(const struct sheet *sheet, struct moult_answer_view *view) {
    return moult_answer_read(sheet->block, sheet->capacity, sheet->message, sheet->size, sheet->C,
                             view, NULL);
}

static void sheet_close(struct sheet *sheet) {
    free(sheet->message);
    free(sheet->block);
}

static struct sheet sheet_of_search(void) {
    const float vectors[][2] = {{0.6f, 0.8f}, {1, 0}};
    const struct moult_found found[] = {{9, 1, 1.0000001f}, {4, 0, 0.5f}, {7, 2, 0.5f}};
    size_t size;
    char *message = sample_search(&size);
    struct sheet sheet = sheet_open(message, size, 2);
    sheet_put(&sheet, 0, vectors[0], sizeof(vectors[0]));
    sheet_put(&sheet, 0, found, sizeof(found));
    sheet_put(&sheet, 1, vectors[1], sizeof(vectors[1]));
    return sheet;
}

static void hits_survive(void **state) {
    (void)state;
    struct sheet sheet = sheet_of_search();
    struct moult_answer_view view;
    assert_int_equal(0, sheet_read(&sheet, &view));
    assert_int_equal(2, view.count);
    assert_int_equal(4, view.times.search_ns);
    assert_int_equal(3, view.ends[0]);
    assert_int_equal(3, view.ends[1]);
    assert_int_equal(7, view.found[2].seq);
    assert_int_equal(2, view.found[2].chunk);
    assert_true(view.found[2].score == 0.5f);
    assert_true(view.vectors[1] == 0.8f && view.vectors[2] == 1);
    moult_answer_view_release(&view);
    sheet_close(&sheet);
}

/* One byte more or less, one hit more than was asked for, and numbers that are none. */
static void hits_that_are_none_are_refused(void **state) {
    (void)state;
    enum { FIRST_SCORE = 2 * 4 + 12, SECOND_SCORE = FIRST_SCORE + 16, THIRD_SEQ = 2 * 4 + 32 };
    struct sheet sheet = sheet_of_search();
    struct moult_answer_view view;
    char *cell = sheet.block + sheet.cells[0].offset;
    const float bad_scores[] = {NAN, INFINITY, -INFINITY, 1.5f, -1.5f, 0.25f};
    for (size_t i = 0; i < sizeof(bad_scores) / sizeof(bad_scores[0]); i++) {
        float good;
        memcpy(&good, cell + FIRST_SCORE, sizeof(good));
        memcpy(cell + FIRST_SCORE, &bad_scores[i], sizeof(good));
        assert_int_equal(-1, sheet_read(&sheet, &view));
        assert_null(view.found);
        memcpy(cell + FIRST_SCORE, &good, sizeof(good));
    }
    uint32_t whole = sheet.cells[0].size;
    const uint32_t bad_sizes[] = {0, 7, 9, whole - 1, whole + 16};
    for (size_t i = 0; i < sizeof(bad_sizes) / sizeof(bad_sizes[0]); i++) {
        sheet.cells[0].size = bad_sizes[i];
        assert_int_equal(-1, sheet_read(&sheet, &view));
    }
    sheet.cells[0].size = whole;
    memset(cell + THIRD_SEQ, 0, 8);
    assert_int_equal(-1, sheet_read(&sheet, &view));
    memset(cell + THIRD_SEQ, 1, 8);
    assert_int_equal(0, sheet_read(&sheet, &view));
    moult_answer_view_release(&view);
    memcpy(cell + 4, &bad_scores[0], sizeof(float));   /* In the query's vector. */
    assert_int_equal(-1, sheet_read(&sheet, &view));
    sheet_close(&sheet);
}

static void only_a_search_may_come_too_early(void **state) {
    (void)state;
    size_t size;
    char *(*const samples[])(size_t *) = {sample_search, sample, sample_cut, sample_follow};
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        char *message = samples[i](&size);
        struct sheet sheet = sheet_open(message, size, 2);
        struct moult_answer_times times = {0};
        struct moult_answer_view view;
        moult_answer_write(sheet.block, sheet.capacity, MOULT_ANSWER_NOT_YET, 0, &times, "Soon.",
                           UINT32_MAX);
        assert_int_equal(i == 0 ? 0 : -1, sheet_read(&sheet, &view));
        if (i == 0)
            assert_int_equal(MOULT_ANSWER_NOT_YET, view.status);
        sheet_close(&sheet);
    }
}

static int read_chunks(const struct moult_range *ranges, uint32_t count,
                       struct moult_answer_view *view) {
    const struct moult_text texts[] = {{"", 0}, {"na\xc3\xafve words", 12}};
    const struct moult_cut_options options = {.tokens = 8};
    const struct moult_range nothing = {0, 0};
    size_t size;
    char *message = moult_cut_request_write(texts, 2, &options, &size);
    struct sheet sheet = sheet_open(message, size, 2);
    sheet_put(&sheet, 0, &nothing, sizeof(nothing));
    sheet_put(&sheet, 1, ranges, count * sizeof(*ranges));
    int result = sheet_read(&sheet, view);
    sheet_close(&sheet);
    return result;
}

static void chunks_are_the_text(void **state) {
    (void)state;
    struct moult_answer_view view;
    const struct moult_range good[] = {{0, 7}, {4, 8}, {8, 12}};
    assert_int_equal(0, read_chunks(good, 3, &view));
    assert_int_equal(1, view.ends[0]);
    assert_int_equal(4, view.ends[1]);
    assert_int_equal(0, view.ranges[0].end);
    assert_int_equal(4, view.ranges[2].begin);
    moult_answer_view_release(&view);

    const struct moult_range bad[][3] = {
        {{0, 7}, {4, 8}, {8, 11}},     /* Not to the end, */
        {{0, 7}, {4, 8}, {8, 13}},     /* and beyond it. */
        {{1, 7}, {4, 8}, {8, 12}},     /* Not from the beginning. */
        {{0, 7}, {8, 9}, {9, 12}},     /* A gap. */
        {{0, 7}, {0, 8}, {8, 12}},     /* No further, at either end. */
        {{0, 7}, {4, 7}, {7, 12}},
        {{0, 3}, {3, 8}, {8, 12}},     /* Within a character. */
        {{0, 8}, {UINT32_MAX, 9}, {9, 12}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(-1, read_chunks(bad[i], 3, &view));
    assert_int_equal(-1, read_chunks(good, 0, &view));
}

static void unread_rows_survive(void **state) {
    (void)state;
    const uint32_t rows[] = {9, 1, 70000};
    size_t size;
    char *message = sample_follow(&size);
    struct sheet sheet = sheet_open(message, size, 2);
    struct moult_answer_view view;
    sheet_put(&sheet, 0, rows, sizeof(rows));
    assert_int_equal(0, sheet_read(&sheet, &view));
    assert_int_equal(1, view.count);
    assert_int_equal(3, view.unread_count);
    assert_memory_equal(rows, view.unread, sizeof(rows));
    moult_answer_view_release(&view);
    sheet.cells[0].size = (3 + MOULT_UNREAD_MORE + 1) * sizeof(uint32_t);
    assert_int_equal(-1, sheet_read(&sheet, &view));
    sheet.cells[0].size = 7;
    assert_int_equal(-1, sheet_read(&sheet, &view));
    sheet_close(&sheet);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_survives),
        cmocka_unit_test(a_search_survives),
        cmocka_unit_test(a_cut_and_changes_survive),
        cmocka_unit_test(a_broken_request_is_refused),
        cmocka_unit_test(cells_have_frames),
        cmocka_unit_test(cells_have_formats),
        cmocka_unit_test(cells_keep_their_bound),
        cmocka_unit_test(an_answer_survives),
        cmocka_unit_test(a_refusal_survives),
        cmocka_unit_test(a_hostile_answer_is_refused),
        cmocka_unit_test(hits_survive),
        cmocka_unit_test(hits_that_are_none_are_refused),
        cmocka_unit_test(only_a_search_may_come_too_early),
        cmocka_unit_test(chunks_are_the_text),
        cmocka_unit_test(unread_rows_survive),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
