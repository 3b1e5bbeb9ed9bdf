#include "ipc/message.h"

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
    struct moult_embed_request_view view;
    struct moult_error error;
    assert_int_equal(0, moult_embed_request_read(message, size, &view, &error));
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

/* Cut anywhere, a request is refused; with any byte changed it is refused or harmless. */
static void a_broken_request_is_refused(void **state) {
    (void)state;
    size_t size;
    char *message = sample(&size);
    struct moult_embed_request_view view;
    struct moult_error error = {.code = MOULT_OK};
    for (size_t cut = 0; cut < size; cut++) {
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, message, cut);
        assert_int_equal(-1, moult_embed_request_read(copy, cut, &view, &error));
        assert_int_equal(MOULT_ERROR_INVALID, error.code);
        free(copy);
    }
    unsigned refused = 0;
    for (size_t at = 0; at < size; at++)
        for (int value = 0; value < 256; value += 15) {
            char *copy = malloc(size);
            memcpy(copy, message, size);
            copy[at] = (char)value;
            if (moult_embed_request_read(copy, size, &view, &error) == 0) {
                uint64_t sum = 0;
                for (uint32_t i = 0; i < view.count; i++)
                    sum += view.text_sizes[i];
                assert_ptr_equal(copy + size, view.texts + sum);
            } else {
                refused++;
            }
            free(copy);
        }
    assert_true(refused > 100);
    free(message);
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

static char *answer_of(uint32_t count, size_t *capacity) {
    const float vector[] = {0.5f, -0.25f};
    *capacity = moult_embed_answer_bytes_max(count, &plain, &openai, 2);
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
    struct moult_error error;
    assert_int_equal(0, moult_answer_read(block, capacity, 3, &view, &error));
    assert_int_equal(MOULT_ANSWER_OK, view.status);
    assert_int_equal(3, view.count);
    assert_int_equal(15, view.tokens);
    assert_int_equal(1, view.truncated);
    assert_int_equal(2, view.times.tokenize_ns);
    assert_memory_equal(",{\"object\"", view.block + view.cells[1].offset, 10);
    moult_answer_view_release(&view);

    assert_int_equal(-1, moult_answer_read(block, capacity, 2, &view, &error));
    free(block);
}

static void a_refusal_survives(void **state) {
    (void)state;
    char block[512];
    struct moult_answer_times times = {0};
    struct moult_answer_view view;
    struct moult_error error;
    moult_answer_write(block, sizeof(block), MOULT_ANSWER_INVALID, 5, &times, "Too long.", 4);
    assert_int_equal(0, moult_answer_read(block, sizeof(block), 5, &view, &error));
    assert_int_equal(MOULT_ANSWER_INVALID, view.status);
    assert_string_equal("Too long.", view.message);
    assert_int_equal(4, view.message_text);
    assert_int_equal(0, view.count);
    /* A text that the request does not have is not named. */
    assert_int_equal(0, moult_answer_read(block, sizeof(block), 3, &view, &error));
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
    struct moult_error error;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        cells[1] = bad[i];
        assert_int_equal(-1, moult_answer_read(block, capacity, 2, &view, &error));
        assert_null(view.cells);
    }
    cells[1] = good;
    assert_int_equal(0, moult_answer_read(block, capacity, 2, &view, &error));
    moult_answer_view_release(&view);
    block[0] = 99;
    assert_int_equal(-1, moult_answer_read(block, capacity, 2, &view, &error));
    block[0] = 0;
    assert_int_equal(-1, moult_answer_read(block, 100, 2, &view, &error));
    free(block);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_survives),
        cmocka_unit_test(a_broken_request_is_refused),
        cmocka_unit_test(cells_have_frames),
        cmocka_unit_test(cells_have_formats),
        cmocka_unit_test(cells_keep_their_bound),
        cmocka_unit_test(an_answer_survives),
        cmocka_unit_test(a_refusal_survives),
        cmocka_unit_test(a_hostile_answer_is_refused),
    };
    return cmocka_run_group_tests_name("message", tests, NULL, NULL);
}
