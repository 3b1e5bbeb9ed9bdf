/* The index against a scan of all vectors in f32: the same documents, chunks and bits of scores. */
#include "index/index.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/limits.h"
#include "base/memory.h"

enum { ROWS_MAX = 7000 };

static uint64_t random_state;

static uint64_t draw(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

static uint32_t draw_below(uint32_t end) {
    return (uint32_t)((draw() >> 32) % end);
}

/* About normal. */
static float draw_float(void) {
    float sum = 0;

    for (unsigned i = 0; i < 4; i++)
        sum += (float)(draw() >> 40) / 8388608.0f - 1;
    return sum;
}

/* What vectors look like. */
enum kind {
    UNIT,           /* Of random directions. */
    CLUSTERED,      /* Near one of a few directions, as embeddings are. */
    FEW,            /* One of nine: ties without end. */
    SPIKED,         /* One dimension is far larger than all others. */
    UNLIKE,         /* Of lengths from 0 to 10,000. */
    TINY,           /* Of numbers that are almost nothing. */
    KINDS
};
static const char *const kinds[] = {"unit", "clustered", "few", "spiked", "unlike", "tiny"};

/* The table that an index is to agree with, and the rows file that it reads. */
struct table {
    uint32_t C, count, live;
    struct moult_index_row rows[ROWS_MAX];
    uint32_t collections[ROWS_MAX];
    bool gone[ROWS_MAX];
    float *vectors;             /* [ROWS_MAX][C], by row */
    float *centres;             /* [9][C] */
    bool broken;                /* Reading fails. */
};

static int read_rows(void *context, const struct moult_index_row *rows, uint32_t count, uint32_t C,
                     float *out, struct moult_error *error) {
    const struct table *table = context;

    assert_in_range(count, 1, MOULT_INDEX_READ_MAX);
    assert_int_equal(table->C, C);
    if (table->broken)
        return moult_fail(error, MOULT_ERROR_SYSTEM, "The disk is gone.");
    for (uint32_t i = 0; i < count; i++) {
        assert_memory_equal(&rows[i], &table->rows[rows[i].row], sizeof rows[i]);
        memcpy(out + (size_t)i * C, table->vectors + (size_t)rows[i].row * C, C * sizeof *out);
    }
    return 0;
}

static struct table *table_open(uint32_t C) {
    struct table *table = moult_allocate(1, sizeof *table);

    table->C = C;
    table->vectors = moult_allocate(ROWS_MAX, C * sizeof(float));
    table->centres = moult_allocate(9, C * sizeof(float));
    for (size_t i = 0; i < 9 * (size_t)C; i++)
        table->centres[i] = draw_float();
    return table;
}

static void table_close(struct table *table) {
    free(table->vectors);
    free(table->centres);
    free(table);
}

static void scale_to(float *v, uint32_t C, float length) {
    double sum = 0;

    for (uint32_t c = 0; c < C; c++)
        sum += (double)v[c] * (double)v[c];
    for (uint32_t c = 0; c < C; c++)
        v[c] = sum > 0 ? (float)((double)v[c] / sqrt(sum) * (double)length) : 0;
}

static void draw_vector(const struct table *table, enum kind kind, float *v) {
    const float *centre = table->centres + (size_t)draw_below(9) * table->C;

    for (uint32_t c = 0; c < table->C; c++)
        v[c] = kind == FEW ? centre[c] : draw_float() + (kind == CLUSTERED ? 2 * centre[c] : 0);
    if (kind == SPIKED)
        v[draw_below(table->C)] = 200;
    scale_to(v, table->C, kind != UNLIKE ? 1 : powf(10, (float)draw_below(5)) - 1);
    if (kind == TINY)
        scale_to(v, table->C, 1e-33f);
}

static void add_document(struct table *table, struct moult_index *index, uint32_t collection,
                         uint64_t seq, uint32_t chunks, enum kind kind) {
    uint32_t first = table->count;

    assert_true(first + chunks <= ROWS_MAX);
    for (uint32_t i = 0; i < chunks; i++) {
        draw_vector(table, kind, table->vectors + (size_t)(first + i) * table->C);
        table->rows[first + i] =
            (struct moult_index_row){.seq = seq, .row = first + i, .chunk = i};
        table->collections[first + i] = collection;
    }
    table->count += chunks;
    table->live += chunks;
    assert_int_equal(0, moult_index_add(index, collection, table->rows + first, chunks,
                                        table->vectors + (size_t)first * table->C, NULL));
}

static void remove_document(struct table *table, struct moult_index *index, uint32_t collection,
                            uint64_t seq) {
    for (uint32_t i = 0; i < table->count; i++) {
        if (table->collections[i] == collection && table->rows[i].seq == seq && !table->gone[i]) {
            table->gone[i] = true;
            table->live--;
        }
    }
    moult_index_remove(index, collection, seq);
}

static int compare(const void *a, const void *b) {
    const struct moult_hit *x = a, *y = b;

    if (x->score < y->score || x->score > y->score)
        return x->score > y->score ? -1 : 1;
    if (x->seq != y->seq)
        return x->seq < y->seq ? -1 : 1;
    return x->chunk < y->chunk ? -1 : 1;
}

/* The specification: all rows, sorted; of each document what comes first. */
static uint32_t full_scan(const struct table *table, const struct moult_kernels *kernels,
                          const struct moult_index_query *query, const float *vector,
                          struct moult_hit *hits) {
    static struct moult_hit all[ROWS_MAX];
    uint32_t count = 0, best = 0;

    for (uint32_t i = 0; i < table->count; i++) {
        float score = kernels->dot(vector, table->vectors + (size_t)i * table->C, table->C);
        bool passes = query->allowed == NULL ||
                      (i < query->allowed_bits && query->allowed[i / 64] >> i % 64 & 1);

        if (table->collections[i] == query->collection && !table->gone[i] && passes &&
            score >= query->min_score)
            all[count++] = (struct moult_hit){
                .seq = table->rows[i].seq, .chunk = table->rows[i].chunk, .score = score};
    }
    qsort(all, count, sizeof *all, compare);
    for (uint32_t i = 0; i < count && best < query->k; i++) {
        bool seen = false;

        for (uint32_t j = 0; j < best && !seen; j++)
            seen = hits[j].seq == all[i].seq;
        if (!seen)
            hits[best++] = all[i];
    }
    return best;
}

static void check_search(const struct table *table, struct moult_index *index,
                         const struct moult_kernels *kernels,
                         struct moult_index_scratch *scratch, const struct moult_index_query *query,
                         const float *vector) {
    static struct moult_hit expected[MOULT_HITS_MAX], hits[MOULT_HITS_MAX];
    uint32_t count = full_scan(table, kernels, query, vector, expected);

    assert_int_equal(count, moult_index_search(index, query, vector, scratch, hits, NULL));
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(expected[i].seq, hits[i].seq);
        assert_int_equal(expected[i].chunk, hits[i].chunk);
        assert_true(expected[i].score == hits[i].score);
    }
}

/* One of each kind of question. */
static void check_searches(const struct table *table, struct moult_index *index,
                           const struct moult_kernels *kernels,
                           struct moult_index_scratch *scratch, enum kind kind, unsigned count) {
    static const uint32_t ks[] = {1, 2, 10, 100, MOULT_HITS_MAX};
    static uint64_t allowed[ROWS_MAX / 64 + 1];
    float *vector = moult_allocate(table->C, sizeof *vector);

    for (unsigned i = 0; i < count; i++) {
        struct moult_index_query query = {.collection = 1 + draw_below(3),
                                          .k = ks[draw_below(5)],
                                          .min_score = -INFINITY};

        if (draw_below(4) == 0)
            query.min_score = draw_float() / 4;
        if (draw_below(3) == 0) {
            uint64_t sparse = draw_below(2) ? UINT64_MAX : draw() & draw() & draw() & draw();

            for (uint32_t j = 0; j < ROWS_MAX / 64 + 1; j++)
                allowed[j] = draw() & sparse;
            query.allowed = allowed;
            query.allowed_bits = draw_below(table->count + 100);
        }
        draw_vector(table, draw_below(4) == 0 ? UNLIKE : kind, vector);
        /* Sometimes the very vector of a row. */
        if (table->count > 0 && draw_below(3) == 0)
            memcpy(vector, table->vectors + (size_t)draw_below(table->count) * table->C,
                   table->C * sizeof *vector);
        check_search(table, index, kernels, scratch, &query, vector);
    }
    free(vector);
}

/* Documents come and go in three collections; searches in between. */
static void live_through(const struct moult_kernels *kernels, uint32_t C, enum kind kind,
                         uint32_t chunks_max, unsigned steps) {
    struct table *table = table_open(C);
    struct moult_index *index = moult_index_open(
        C, kernels, &(struct moult_index_source){.read = read_rows, .context = table});
    struct moult_index_scratch *scratch = moult_index_scratch_open(index);
    uint64_t seq = 0;

    print_message("%s, %u dimensions, %s, at most %u chunks\n", kernels->name, C, kinds[kind],
                  chunks_max);
    check_searches(table, index, kernels, scratch, kind, 2);
    for (unsigned step = 0; step < steps && table->count < ROWS_MAX - 800; step++) {
        bool shrinks = step % 16 >= 10;

        for (unsigned i = 0; i < 60; i++) {
            if (draw_below(10) < (shrinks ? 1 : 9))
                add_document(table, index, 1 + draw_below(3), ++seq, 1 + draw_below(chunks_max),
                             kind);
            else
                remove_document(table, index, 1 + draw_below(3), 1 + draw_below((uint32_t)seq + 2));
        }
        assert_int_equal(table->live, moult_index_rows(index));
        check_searches(table, index, kernels, scratch, kind, 3);
    }
    for (uint64_t i = 1; i <= seq; i++)
        remove_document(table, index, 2, i);
    check_searches(table, index, kernels, scratch, kind, 5);
    moult_index_drop(index, 1);
    moult_index_drop(index, 3);
    assert_int_equal(0, moult_index_rows(index));
    moult_index_drop(index, 2);
    assert_int_equal(0, moult_index_bytes(index));
    moult_index_scratch_close(scratch);
    moult_index_close(index);
    table_close(table);
}

static void agrees_with_a_full_scan(void **state) {
    static const uint32_t widths[] = {1, 2, 3, 4, 5, 31, 64, 65, 127, 384, 1000};
    const struct moult_kernels *kernels;

    (void)state;
    for (unsigned level = 0; (kernels = moult_kernels_at(level)) != NULL; level++) {
        for (unsigned i = 0; i < sizeof widths / sizeof *widths; i++) {
            enum kind kind = (enum kind)((i + level) % KINDS);

            live_through(kernels, widths[i], kind, 1 + i % 2 * 4, 10);
        }
        for (enum kind kind = UNIT; kind < KINDS; kind++)
            live_through(kernels, 24 + kind, kind, 3, 60);
        live_through(kernels, MOULT_DIMENSIONS_MAX, UNIT, 2, 2);
    }
}

/* 4,096 dimensions: a segment has room for two thousand rows. */
static void grows_and_shrinks_over_segments(void **state) {
    enum { C = 4096, DOCUMENTS = 6500 };
    const struct moult_kernels *kernels = moult_kernels_best();
    struct table *table = table_open(C);
    struct moult_index *index = moult_index_open(
        C, kernels, &(struct moult_index_source){.read = read_rows, .context = table});
    struct moult_index_scratch *scratch = moult_index_scratch_open(index);
    uint64_t full, one;

    (void)state;
    add_document(table, index, 1, 1, 1, CLUSTERED);
    one = moult_index_bytes(index);
    for (uint64_t seq = 2; seq <= DOCUMENTS; seq++)
        add_document(table, index, 1, seq, 1, CLUSTERED);
    full = moult_index_bytes(index);
    assert_in_range(full, (uint64_t)DOCUMENTS * C, moult_index_bytes_for(C, DOCUMENTS));
    check_searches(table, index, kernels, scratch, CLUSTERED, 4);
    /* From the front, from the end, and every other one. */
    for (uint64_t seq = 1; seq <= DOCUMENTS; seq++) {
        if (seq < 1000 || seq % 2 == 0 || seq > 6000)
            remove_document(table, index, 1, seq);
    }
    check_searches(table, index, kernels, scratch, CLUSTERED, 4);
    for (uint64_t seq = 1; seq <= DOCUMENTS - 3; seq++)
        remove_document(table, index, 1, seq);
    assert_int_equal(0, moult_index_rows(index));
    assert_in_range(moult_index_bytes(index), 0, full / 2);
    add_document(table, index, 1, DOCUMENTS + 1, 1, CLUSTERED);
    assert_in_range(moult_index_bytes(index), 0, 2 * one);
    check_searches(table, index, kernels, scratch, CLUSTERED, 4);
    moult_index_scratch_close(scratch);
    moult_index_close(index);
    table_close(table);
}

static void takes_equal_vectors_by_seq(void **state) {
    enum { C = 48, DOCUMENTS = 1500 };
    struct table *table = table_open(C);
    struct moult_index *index =
        moult_index_open(C, moult_kernels_best(),
                         &(struct moult_index_source){.read = read_rows, .context = table});
    struct moult_index_scratch *scratch = moult_index_scratch_open(index);
    struct moult_index_query query = {.collection = 1, .k = 700, .min_score = -INFINITY};
    struct moult_hit hits[700];
    float vector[C] = {1}, zeros[C] = {0};

    (void)state;
    for (uint32_t i = 0; i < DOCUMENTS; i++) {
        uint64_t seq = (i * 7919u) % DOCUMENTS + 1;

        memcpy(table->vectors + (size_t)i * C, vector, sizeof vector);
        table->rows[i] = (struct moult_index_row){.seq = seq, .row = i, .chunk = 3};
        assert_int_equal(0,
                         moult_index_add(index, 1, &table->rows[i], 1, vector, NULL));
    }
    for (unsigned i = 0; i < 2; i++) {
        float score = i == 0 ? 1 : 0;

        assert_int_equal(700, moult_index_search(index, &query, i == 0 ? vector : zeros, scratch,
                                                 hits, NULL));
        for (uint32_t j = 0; j < 700; j++) {
            assert_int_equal(j + 1, hits[j].seq);
            assert_int_equal(3, hits[j].chunk);
            assert_true(hits[j].score == score);
        }
    }
    moult_index_scratch_close(scratch);
    moult_index_close(index);
    table_close(table);
}

/* On real vectors a search has to read very few; here, none that is not wanted. */
static void reads_no_more_than_it_must(void **state) {
    enum { C = 384, DOCUMENTS = 3000 };
    struct table *table = table_open(C);
    struct moult_index *index =
        moult_index_open(C, moult_kernels_best(),
                         &(struct moult_index_source){.read = read_rows, .context = table});
    struct moult_index_scratch *scratch = moult_index_scratch_open(index);
    struct moult_hit hits[5];
    float vector[C];

    (void)state;
    for (uint64_t seq = 1; seq <= DOCUMENTS; seq++)
        add_document(table, index, 1, seq, 1, UNIT);
    for (unsigned i = 0; i < 20; i++) {
        draw_vector(table, UNIT, vector);
        assert_int_equal(5, moult_index_search(
                                index,
                                &(struct moult_index_query){
                                    .collection = 1, .k = 5, .min_score = -INFINITY},
                                vector, scratch, hits, NULL));
        assert_int_equal(DOCUMENTS, moult_index_effort(scratch).rows_scanned);
        assert_in_range(moult_index_effort(scratch).rows_read, 5, 40);
        assert_in_range(moult_index_effort(scratch).rows_refined, 5, DOCUMENTS * 2 / 3);
    }
    moult_index_scratch_close(scratch);
    moult_index_close(index);
    table_close(table);
}

static void says_what_is_wrong(void **state) {
    enum { C = 20 };
    static const float wrong[] = {NAN, INFINITY, -INFINITY, 1e20f};
    struct table *table = table_open(C);
    struct moult_index *index =
        moult_index_open(C, moult_kernels_best(),
                         &(struct moult_index_source){.read = read_rows, .context = table});
    struct moult_index_scratch *scratch = moult_index_scratch_open(index);
    struct moult_index_query query = {.collection = 7, .k = 3, .min_score = -INFINITY};
    struct moult_error error = {0};
    struct moult_hit hits[3];
    float vectors[3 * C];

    (void)state;
    for (uint64_t seq = 1; seq <= 3; seq++)
        add_document(table, index, 7, seq, 1, UNIT);
    for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(vectors, table->vectors, sizeof vectors);
        vectors[2 * C + 5] = wrong[i];
        assert_int_equal(-1, moult_index_add(index, 7, table->rows, 3, vectors, &error));
        assert_int_equal(MOULT_ERROR_INVALID, error.code);
        assert_string_equal("The vector of row 2 has a number that is not finite, or far too "
                            "large.",
                            error.message);
        assert_int_equal(-1, moult_index_search(index, &query, vectors + 2 * C, scratch, hits,
                                                &error));
        assert_int_equal(MOULT_ERROR_INVALID, error.code);
        assert_int_equal(3, moult_index_rows(index));
    }
    table->broken = true;
    assert_int_equal(-1, moult_index_search(index, &query, table->vectors, scratch, hits, &error));
    assert_int_equal(MOULT_ERROR_SYSTEM, error.code);
    assert_string_equal("The disk is gone.", error.message);
    table->broken = false;
    assert_int_equal(3, moult_index_search(index, &query, table->vectors, scratch, hits, &error));
    query.collection = 8;
    assert_int_equal(0, moult_index_search(index, &query, table->vectors, scratch, hits, &error));
    assert_int_equal(0, moult_index_add(index, 9, NULL, 0, NULL, &error));
    moult_index_remove(index, 9, 1);
    moult_index_drop(index, 9);
    moult_index_scratch_close(scratch);
    moult_index_close(index);
    table_close(table);
}

int main(void) {
    const char *seed = getenv("MOULT_TEST_SEED");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_full_scan),
        cmocka_unit_test(grows_and_shrinks_over_segments),
        cmocka_unit_test(takes_equal_vectors_by_seq),
        cmocka_unit_test(reads_no_more_than_it_must),
        cmocka_unit_test(says_what_is_wrong),
    };

    random_state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    random_state += random_state == 0;
    print_message("MOULT_TEST_SEED=%llu\n", (unsigned long long)random_state);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
