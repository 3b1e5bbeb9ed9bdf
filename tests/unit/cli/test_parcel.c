/* Parcels: bodies, halves of those that are refused, and how far what was taken reaches. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "cli/figures.h"
#include "cli/parcel.h"

static struct moult_parcel *parcel;

static int end(void **state) {
    (void)state;
    moult_parcel_release(parcel);
    free(parcel);
    return 0;
}

/* Documents of ids "0", "1", …, each on a line of its own, of ten bytes. */
static int begin(void **state) {
    const struct moult_import_place start = {.offset = 100, .line = 11, .records = 10};
    (void)state;
    parcel = moult_allocate(1, sizeof *parcel);
    moult_parcel_begin(parcel, &start);
    return 0;
}

static void add(uint32_t count, const float *vector, uint32_t C) {
    for (uint32_t i = 0; i < count; i++) {
        char id[16];
        snprintf(id, sizeof id, "%u", i);
        const struct moult_record record = {
            .line = 11 + i, .id = id, .id_size = strlen(id), .text = "t", .text_size = 1};
        const struct moult_import_place after = {100 + 10 * (i + 1), 12 + i, 11 + i, 0};
        moult_parcel_add(parcel, &record, &after, vector, C);
    }
}

static const char *body(const char *fingerprint) {
    static char out[512];
    size_t size;
    char *bytes = moult_parcel_body(parcel, fingerprint, &size);
    snprintf(out, sizeof out, "%s", bytes != NULL ? bytes : "(none)");
    assert_true(bytes == NULL || strlen(bytes) == size);
    free(bytes);
    return out;
}

static void writes_a_body(void **state) {
    static const float vector[] = {0.1f, -1};
    (void)state;
    add(1, vector, 2);
    json_t *metadata = json_pack("{s:i}", "k", 1);
    const struct moult_record record = {.line = 12, .id = "a\"", .id_size = 2, .text = "\n",
                                        .text_size = 1, .metadata = metadata};
    const struct moult_import_place after = {120, 13, 12, 0};
    moult_parcel_add(parcel, &record, &after, NULL, 0);
    json_decref(metadata);
    assert_string_equal(body(NULL), "[{\"id\":\"0\",\"text\":\"t\",\"vector\":\"zczMPQAAgL8=\"},"
                                    "{\"id\":\"a\\\"\",\"text\":\"\\n\",\"metadata\":{\"k\":1}}]");
    assert_int_equal(strncmp(body("ab"), "{\"fingerprint\":\"ab\",\"documents\":[{", 34), 0);
    assert_int_equal(moult_parcel_took(parcel), 2);
    assert_string_equal(body(NULL), "(none)");
    assert_int_equal(parcel->taken.offset, 120);
}

static void knows_its_ids(void **state) {
    (void)state;
    add(MOULT_PARCEL_DOCUMENTS_MAX, NULL, 0);
    assert_true(moult_parcel_has(parcel, "0", 1));
    assert_true(moult_parcel_has(parcel, "2047", 4));
    assert_false(moult_parcel_has(parcel, "2048", 4));
    moult_parcel_begin(parcel, &parcel->taken);
    assert_false(moult_parcel_has(parcel, "0", 1));
}

/* Whichever ones the server refuses: each other one is taken once, in order, and the refused
 * are named. */
static void finds_the_refused(void **state) {
    static const uint32_t counts[] = {1, 2, 3, 7, 256, MOULT_PARCEL_DOCUMENTS_MAX};
    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)
        for (uint32_t every = 1; every < 5; every++) {
            const struct moult_import_place start = {.offset = 100, .line = 11, .records = 10};
            uint32_t taken = 0, refused = 0;
            moult_parcel_begin(parcel, &start);
            add(counts[c], NULL, 0);
            while (parcel->range_count > 0) {
                uint32_t from = parcel->ranges[parcel->range_count - 1].from;
                uint32_t to = parcel->ranges[parcel->range_count - 1].to;
                bool wrong = false;
                assert_int_equal(from, taken + refused);
                for (uint32_t i = from; i < to; i++)
                    wrong = wrong || i % every == 0;
                if (!wrong) {
                    taken += moult_parcel_took(parcel);
                } else {
                    const struct moult_parcel_item *item = moult_parcel_refused(parcel);
                    assert_true(item == NULL || (to == from + 1 && item->line == 11 + from));
                    refused += item != NULL;
                }
                assert_int_equal(parcel->taken.records, 10 + taken + refused);
            }
            assert_int_equal(taken + refused, counts[c]);
            assert_int_equal(refused, (counts[c] + every - 1) / every);
        }
}

static void leaves_out_what_lies_behind(void **state) {
    const struct moult_import_place after = {105, 12, 11, 1}, later = {200, 20, 19, 2};
    (void)state;
    moult_parcel_skip(parcel, &after);
    assert_int_equal(parcel->taken.offset, 105);
    add(2, NULL, 0);
    moult_parcel_skip(parcel, &later);
    assert_int_equal(parcel->taken.offset, 105);
    moult_parcel_took(parcel);
    assert_int_equal(parcel->taken.offset, 200);
    assert_int_equal(parcel->taken.skipped, 2);
}

static void writes_figures(void **state) {
    char text[MOULT_FIGURE_BYTES];
    (void)state;
    assert_string_equal(moult_figure_count(text, 0), "0");
    assert_string_equal(moult_figure_count(text, 999), "999");
    assert_string_equal(moult_figure_count(text, 1234567), "1,234,567");
    assert_string_equal(moult_figure_count(text, UINT64_MAX), "18,446,744,073,709,551,615");
    assert_string_equal(moult_figure_documents(text, 1), "1 document");
    assert_string_equal(moult_figure_documents(text, 1000), "1,000 documents");
    assert_string_equal(moult_figure_seconds(text, 0.44), "0.4 s");
    assert_string_equal(moult_figure_seconds(text, 75.2), "75 s");
    assert_string_equal(moult_figure_seconds(text, 200), "3 min 20 s");
    assert_string_equal(moult_figure_seconds(text, 7500), "2 h 5 min");
    assert_int_equal(strlen(moult_figure_seconds(text, 1e300)) < MOULT_FIGURE_BYTES, 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(writes_a_body, begin, end),
        cmocka_unit_test_setup_teardown(knows_its_ids, begin, end),
        cmocka_unit_test_setup_teardown(finds_the_refused, begin, end),
        cmocka_unit_test_setup_teardown(leaves_out_what_lies_behind, begin, end),
        cmocka_unit_test(writes_figures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
