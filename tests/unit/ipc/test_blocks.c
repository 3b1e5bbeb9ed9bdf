/* The allocator against a map of bytes that says for each unit who has it. */
#include "ipc/blocks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ipc/layout.h"

#define BEGIN (10 * MOULT_PAGE_BYTES)
#define END (BEGIN + 24 * MOULT_MIB)
#define UNITS ((END - BEGIN) / MOULT_BLOCK_ALIGN)

static void gives_the_lowest_hole_and_joins(void **state) {
    (void)state;
    static struct moult_blocks blocks;
    uint64_t a, b, c, again;
    moult_blocks_init(&blocks, BEGIN, END);
    assert_true(moult_blocks_take(&blocks, 100, &a));
    assert_true(moult_blocks_take(&blocks, 64, &b));
    assert_true(moult_blocks_take(&blocks, 1, &c));
    assert_int_equal(BEGIN, a);
    assert_int_equal(BEGIN + 128, b);
    assert_int_equal(BEGIN + 192, c);
    assert_int_equal(BEGIN + 256, blocks.touched);

    moult_blocks_give(&blocks, a, 100);
    assert_true(moult_blocks_take(&blocks, 128, &again));
    assert_int_equal(a, again);
    moult_blocks_give(&blocks, again, 128);
    moult_blocks_give(&blocks, c, 1);
    moult_blocks_give(&blocks, b, 64);
    assert_int_equal(1, blocks.count);
    assert_int_equal(0, blocks.taken);
    assert_int_equal(BEGIN, blocks.free[0].offset);
    assert_int_equal(END - BEGIN, blocks.free[0].size);
}

static void large_blocks_are_whole_pages_from_above(void **state) {
    (void)state;
    static struct moult_blocks blocks;
    uint64_t small, large, other;
    moult_blocks_init(&blocks, BEGIN, END);
    assert_true(moult_blocks_take(&blocks, 64, &small));
    assert_true(moult_blocks_take(&blocks, MOULT_BLOCK_LARGE_BYTES + 1, &large));
    assert_int_equal(END - MOULT_BLOCK_LARGE_BYTES - MOULT_PAGE_BYTES, large);
    assert_int_equal(BEGIN + 64, blocks.touched);
    /* All that is left is no longer one block: its first page is not whole. */
    uint64_t left = large - small - 64;
    assert_false(moult_blocks_take(&blocks, left, &other));
    assert_true(moult_blocks_take(&blocks, left / MOULT_PAGE_BYTES * MOULT_PAGE_BYTES, &other));
    assert_int_equal(0, other % MOULT_PAGE_BYTES);
}

static void says_what_can_never_fit(void **state) {
    (void)state;
    static struct moult_blocks blocks;
    uint64_t all;
    moult_blocks_init(&blocks, BEGIN, END);
    assert_true(moult_blocks_fits(&blocks, END - BEGIN));
    assert_false(moult_blocks_fits(&blocks, END - BEGIN + 1));
    assert_false(moult_blocks_fits(&blocks, UINT64_MAX));
    assert_true(moult_blocks_take(&blocks, END - BEGIN, &all));
    assert_int_equal(0, blocks.count);
    assert_false(moult_blocks_take(&blocks, 1, &all));
    moult_blocks_give(&blocks, BEGIN, END - BEGIN);
    assert_int_equal(1, blocks.count);
}

struct model {
    struct moult_blocks blocks;
    unsigned char taken[UNITS];
    uint64_t offset[MOULT_CHANNEL_SLOTS], size[MOULT_CHANNEL_SLOTS];
    unsigned count;
};

static void mark(struct model *model, uint64_t offset, uint64_t size, unsigned char from) {
    uint64_t first = (offset - BEGIN) / MOULT_BLOCK_ALIGN;
    uint64_t units = moult_blocks_rounded(size) / MOULT_BLOCK_ALIGN;
    for (uint64_t i = first; i < first + units; i++) {
        assert_int_equal(from, model->taken[i]);
        model->taken[i] = !from;
    }
}

/* Whether the map has a hole for it anywhere; what the allocator's refusal must mean. */
static bool has_hole(const struct model *model, uint64_t size) {
    bool large = size >= MOULT_BLOCK_LARGE_BYTES;
    uint64_t needed = moult_blocks_rounded(size) / MOULT_BLOCK_ALIGN, run = 0;
    for (uint64_t i = 0; i < UNITS; i++) {
        bool page = i * MOULT_BLOCK_ALIGN % MOULT_PAGE_BYTES == 0;
        if (model->taken[i] || (large && run == 0 && !page))
            run = 0;
        else
            run++;
        if (run == needed)
            return true;
    }
    return false;
}

static uint64_t random_size(void) {
    switch (rand() % 8) {
    case 0:
        return MOULT_BLOCK_LARGE_BYTES + (uint64_t)rand() % (4 * MOULT_MIB);
    case 1:
        return 1 + (uint64_t)rand() % MOULT_BLOCK_LARGE_BYTES;
    default:
        return 1 + (uint64_t)rand() % 20000;
    }
}

static void agrees_with_a_map(void **state) {
    (void)state;
    struct model *model = calloc(1, sizeof(*model));
    assert_non_null(model);
    unsigned refused = 0;
    srand(7);
    moult_blocks_init(&model->blocks, BEGIN, END);
    for (int step = 0; step < 60000; step++) {
        /* Tides: mostly taking, then mostly giving. */
        bool take = rand() % 10 < (step / 3000 % 2 ? 4 : 6);
        if (take && model->count < MOULT_CHANNEL_SLOTS) {
            uint64_t size = random_size(), offset;
            if (!moult_blocks_take(&model->blocks, size, &offset)) {
                assert_false(has_hole(model, size));
                refused++;
                continue;
            }
            mark(model, offset, size, 0);
            model->offset[model->count] = offset;
            model->size[model->count++] = size;
        } else if (model->count > 0) {
            unsigned at = (unsigned)rand() % model->count;
            mark(model, model->offset[at], model->size[at], 1);
            moult_blocks_give(&model->blocks, model->offset[at], model->size[at]);
            model->count--;
            model->offset[at] = model->offset[model->count];
            model->size[at] = model->size[model->count];
        }
    }
    while (model->count > 0) {
        model->count--;
        moult_blocks_give(&model->blocks, model->offset[model->count], model->size[model->count]);
    }
    assert_true(refused > 0);
    assert_int_equal(1, model->blocks.count);
    assert_int_equal(END - BEGIN, model->blocks.free[0].size);
    free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gives_the_lowest_hole_and_joins),
        cmocka_unit_test(large_blocks_are_whole_pages_from_above),
        cmocka_unit_test(says_what_can_never_fit),
        cmocka_unit_test(agrees_with_a_map),
    };
    return cmocka_run_group_tests_name("blocks", tests, NULL, NULL);
}
