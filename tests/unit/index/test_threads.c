/* Searches beside a writer: what was there before a search began, and stays, is found; what was
 * gone before it began is not. Vectors follow from the number of their row. */
#include "index/index.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/memory.h"

/* STABLE documents stay for ever; of all others the last WINDOW are there. */
enum { C = 40, STABLE = 150, WINDOW = 700, DOCUMENTS = 60000, SEARCHERS = 3, CHUNKS = 2 };

static struct moult_index *index_under_test;
static _Atomic uint64_t added, removed;     /* All seqs up to there, but for the stable ones. */
static _Atomic unsigned searches, wrong;
static atomic_bool done;

static void vector_of(uint32_t row, float *vector) {
    uint64_t random = (row + 1) * 0x9e3779b97f4a7c15u;
    double sum = 0;

    for (uint32_t c = 0; c < C; c++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        vector[c] = (float)(random >> 40) / 8388608.0f - 1;
        sum += (double)vector[c] * (double)vector[c];
    }
    for (uint32_t c = 0; c < C; c++)
        vector[c] = (float)((double)vector[c] / sqrt(sum));
}

static int read_rows(void *context, const struct moult_index_row *rows, uint32_t count,
                     uint32_t width, float *out, struct moult_error *error) {
    (void)context;
    (void)error;
    for (uint32_t i = 0; i < count; i++)
        vector_of(rows[i].row, out + (size_t)i * width);
    return 0;
}

static void add_document(uint64_t seq) {
    struct moult_index_row rows[CHUNKS];
    float vectors[CHUNKS * C];

    for (uint32_t i = 0; i < CHUNKS; i++) {
        rows[i] = (struct moult_index_row){
            .seq = seq, .row = (uint32_t)(seq - 1) * CHUNKS + i, .chunk = i};
        vector_of(rows[i].row, vectors + (size_t)i * C);
    }
    assert_int_equal(0, moult_index_add(index_under_test, 1, rows, CHUNKS, vectors, NULL));
}

static void *write_documents(void *unused) {
    (void)unused;
    for (uint64_t seq = STABLE + 1; seq <= DOCUMENTS; seq++) {
        add_document(seq);
        atomic_store(&added, seq);
        if (seq > STABLE + WINDOW) {
            moult_index_remove(index_under_test, 1, seq - WINDOW);
            atomic_store(&removed, seq - WINDOW);
        }
        /* Another collection comes and goes. */
        if (seq % 500 == 0)
            moult_index_drop(index_under_test, 2);
        if (seq % 500 == 250)
            moult_index_add(index_under_test, 2,
                            &(struct moult_index_row){.seq = seq, .row = 1}, 1,
                            (const float[C]){1}, NULL);
    }
    atomic_store(&done, true);
    return NULL;
}

/* Asks for a row's own vector; returns whether the answer may be. */
static bool search(struct moult_index_scratch *scratch, uint64_t seq) {
    uint64_t gone = atomic_load(&removed);
    struct moult_hit hits[10];
    float vector[C];
    int count;

    vector_of((uint32_t)(seq - 1) * CHUNKS + 1, vector);
    count = moult_index_search(
        index_under_test,
        &(struct moult_index_query){.collection = 1, .k = 10, .min_score = -INFINITY}, vector,
        scratch, hits, NULL);
    for (int i = 0; i < count; i++) {
        if ((hits[i].seq > STABLE && hits[i].seq <= gone) ||
            (i > 0 && hits[i].score > hits[i - 1].score))
            return false;
    }
    if (count == 10 && hits[0].seq == seq && hits[0].chunk == 1)
        return true;
    /* It may have gone meanwhile; the stable ones do not. */
    return count == 10 && seq > STABLE && atomic_load(&removed) + 1 >= seq;
}

static void *search_documents(void *number) {
    struct moult_index_scratch *scratch = moult_index_scratch_open(index_under_test);
    unsigned random = *(unsigned *)number;

    while (!atomic_load(&done)) {
        uint64_t newest = atomic_load(&added);

        random = random * 1103515245u + 12345u;
        if (!search(scratch, random >> 16 & 1 || newest == 0 ? random % STABLE + 1 : newest))
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&searches, 1);
    }
    moult_index_scratch_close(scratch);
    return NULL;
}

static void searches_beside_a_writer(void **state) {
    pthread_t writer, searchers[SEARCHERS];
    unsigned numbers[SEARCHERS];

    (void)state;
    index_under_test =
        moult_index_open(C, moult_kernels_best(), &(struct moult_index_source){.read = read_rows});
    for (uint64_t seq = 1; seq <= STABLE; seq++)
        add_document(seq);
    for (unsigned i = 0; i < SEARCHERS; i++) {
        numbers[i] = i + 1;
        assert_int_equal(0, pthread_create(&searchers[i], NULL, search_documents, &numbers[i]));
    }
    /* It has to come to its end, however many search. */
    assert_int_equal(0, pthread_create(&writer, NULL, write_documents, NULL));
    pthread_join(writer, NULL);
    for (unsigned i = 0; i < SEARCHERS; i++)
        pthread_join(searchers[i], NULL);
    print_message("%u searches beside %u documents\n", atomic_load(&searches), DOCUMENTS);
    assert_int_equal(0, atomic_load(&wrong));
    assert_true(atomic_load(&searches) > 0);
    assert_int_equal((STABLE + WINDOW) * CHUNKS, moult_index_rows(index_under_test));
    moult_index_close(index_under_test);
}

/* One document, of which each version takes the place of the one before. */
enum { VERSIONS = 30000 };

static void *replace_document(void *unused) {
    (void)unused;
    for (uint64_t seq = 2; seq <= VERSIONS; seq++) {
        add_document(seq);
        moult_index_settle(index_under_test);
        moult_index_remove(index_under_test, 1, seq - 1);
        atomic_store(&removed, seq - 1);
    }
    atomic_store(&done, true);
    return NULL;
}

static void *search_document(void *unused) {
    struct moult_index_scratch *scratch = moult_index_scratch_open(index_under_test);
    const struct moult_index_query query = {.collection = 1, .k = 10, .min_score = -INFINITY};
    struct moult_hit hits[10];
    float vector[C];

    (void)unused;
    vector_of(0, vector);
    while (!atomic_load(&done)) {
        uint64_t gone = atomic_load(&removed);
        int count = moult_index_search(index_under_test, &query, vector, scratch, hits, NULL);

        for (int i = 0; i < count; i++)
            if (hits[i].seq <= gone)
                count = 0;
        if (count < 1)
            atomic_fetch_add(&wrong, 1);
        atomic_fetch_add(&searches, 1);
    }
    moult_index_scratch_close(scratch);
    return NULL;
}

static void a_document_that_is_replaced_is_always_found(void **state) {
    pthread_t writer, searchers[SEARCHERS];

    (void)state;
    index_under_test =
        moult_index_open(C, moult_kernels_best(), &(struct moult_index_source){.read = read_rows});
    atomic_store(&done, false);
    atomic_store(&searches, 0);
    atomic_store(&removed, 0);
    add_document(1);
    for (unsigned i = 0; i < SEARCHERS; i++)
        assert_int_equal(0, pthread_create(&searchers[i], NULL, search_document, NULL));
    assert_int_equal(0, pthread_create(&writer, NULL, replace_document, NULL));
    pthread_join(writer, NULL);
    for (unsigned i = 0; i < SEARCHERS; i++)
        pthread_join(searchers[i], NULL);
    print_message("%u searches beside %u versions\n", atomic_load(&searches), VERSIONS);
    assert_int_equal(0, atomic_load(&wrong));
    assert_true(atomic_load(&searches) > 0);
    moult_index_close(index_under_test);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(searches_beside_a_writer),
        cmocka_unit_test(a_document_that_is_replaced_is_always_found),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
