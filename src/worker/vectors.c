#include "worker/vectors.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"
#include "ipc/port.h"
#include "ipc/rows.h"

/* Rows that are read and added together. */
#define TOGETHER 64u

/* A file may have been written by a front that believed another worker. */
#define UNIT_MAX 1.001

struct moult_vectors {
    struct moult_rows_file *files[MOULT_ROWS_FILES_MAX];
    unsigned count;
    uint32_t C;
    char fingerprint[MOULT_SHA256_HEX];
    _Atomic(const struct moult_rows_file *) own;   /* Of the files, once it is there. */
    struct moult_index *index;                     /* NULL: there are no files. */
    atomic_bool complete;

    pthread_mutex_t changing;                      /* Guards the row buffers. */
    float *buffer;                                 /* [TOGETHER][C] */
    struct moult_index_row rows[TOGETHER];

    pthread_mutex_t noting;                        /* Guards what searches could not read. */
    uint32_t lost[MOULT_UNREAD_MORE];
    uint32_t lost_count;
};

struct moult_vectors *moult_vectors_open(const int *fds, unsigned count) {
    struct moult_vectors *vectors = moult_allocate(1, sizeof(*vectors));
    pthread_mutex_init(&vectors->changing, NULL);
    pthread_mutex_init(&vectors->noting, NULL);
    for (unsigned i = 0; i < count; i++) {
        struct moult_error error;
        struct moult_rows_file *file = moult_rows_file_adopt(fds[i], &error);
        if (file)
            vectors->files[vectors->count++] = file;
        else
            moult_log_warning("A file of vectors cannot be used: %s", error.message);
    }
    return vectors;
}

void moult_vectors_close(struct moult_vectors *vectors) {
    if (!vectors)
        return;
    if (vectors->index)
        moult_index_close(vectors->index);
    for (unsigned i = 0; i < vectors->count; i++)
        moult_rows_file_close(vectors->files[i]);
    pthread_mutex_destroy(&vectors->changing);
    pthread_mutex_destroy(&vectors->noting);
    free(vectors->buffer);
    free(vectors);
}

/* The file, which a front may have given to this model only now; NULL: it has not. */
static const struct moult_rows_file *find_own(struct moult_vectors *vectors) {
    const struct moult_rows_file *own = atomic_load(&vectors->own);
    for (unsigned i = 0; i < vectors->count && !own; i++)
        if (moult_rows_file_is_of(vectors->files[i], vectors->fingerprint, vectors->C))
            own = vectors->files[i];
    atomic_store(&vectors->own, own);
    return own;
}

static void note_lost(struct moult_vectors *vectors, uint32_t row) {
    pthread_mutex_lock(&vectors->noting);
    bool known = vectors->lost_count == MOULT_UNREAD_MORE;
    for (uint32_t i = 0; i < vectors->lost_count; i++)
        known = known || vectors->lost[i] == row;
    if (!known)
        vectors->lost[vectors->lost_count++] = row;
    pthread_mutex_unlock(&vectors->noting);
}

/* For the index, which reads back what it was given: a row that was there has gone bad. */
static int read_back(void *context, const struct moult_index_row *rows, uint32_t count, uint32_t C,
                     float *out, struct moult_error *error) {
    struct moult_vectors *vectors = context;
    const struct moult_rows_file *own = atomic_load(&vectors->own);
    int result = 0;
    MOULT_REQUIRE(own);
    for (uint32_t i = 0; i < count; i++)
        if (moult_rows_file_read(own, rows[i].row, rows[i].seq, rows[i].chunk,
                                 out + (size_t)i * C, NULL) != 0) {
            note_lost(vectors, rows[i].row);
            result = moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                                "A vector of the index cannot be read back (row %u): it has to be "
                                "made again.", rows[i].row);
        }
    return result;
}

void moult_vectors_begin(struct moult_vectors *vectors, const char *fingerprint, uint32_t C,
                         const struct moult_kernels *kernels) {
    const struct moult_index_source source = {.read = read_back, .context = vectors};
    if (vectors->count == 0)
        return;
    vectors->C = C;
    snprintf(vectors->fingerprint, sizeof(vectors->fingerprint), "%s", fingerprint);
    vectors->buffer = moult_allocate((size_t)TOGETHER * C, sizeof(float));
    vectors->index = moult_index_open(C, kernels, &source);
}

uint64_t moult_vectors_bytes_for(const struct moult_vectors *vectors, uint32_t C, uint64_t rows) {
    return vectors->count > 0 ? moult_index_bytes_for(C, rows) : 0;
}

uint64_t moult_vectors_bytes(const struct moult_vectors *vectors) {
    return vectors->index ? moult_index_bytes(vectors->index) : 0;
}

/* Changes. */

/* Finite, and no longer than a unit vector; one without a direction is found by nobody. */
static bool is_vector(const float *vector, uint32_t C) {
    double sum = 0;
    for (uint32_t i = 0; i < C; i++)
        sum += (double)vector[i] * (double)vector[i];
    return sum <= UNIT_MAX * UNIT_MAX;   /* Not where it is NaN. */
}

static bool read_row(struct moult_vectors *vectors, const struct moult_rows_file *own,
                     const struct moult_change *change, float *vector) {
    return own &&
           moult_rows_file_read(own, change->row, change->seq, change->chunk, vector, NULL) == 0 &&
           is_vector(vector, vectors->C);
}

/* Adds changes [0, *taken): as many as follow one another in one collection, and fit the buffer. */
static int add(struct moult_vectors *vectors, const struct moult_rows_file *own,
               const struct moult_change *changes, uint32_t count, uint32_t *taken,
               uint32_t *unread, uint32_t *unread_count, struct moult_error *error) {
    uint32_t at = 0, good = 0;
    for (; at < count && at < TOGETHER; at++) {
        const struct moult_change *change = &changes[at];
        if (change->kind != MOULT_CHANGE_ADD || change->collection != changes[0].collection)
            break;
        if (!read_row(vectors, own, change, vectors->buffer + (size_t)good * vectors->C)) {
            unread[(*unread_count)++] = change->row;
            continue;
        }
        vectors->rows[good++] = (struct moult_index_row){
            .seq = change->seq, .row = change->row, .chunk = change->chunk};
    }
    *taken = at;
    return good == 0 ? 0
                     : moult_index_add(vectors->index, changes[0].collection, vectors->rows, good,
                                       vectors->buffer, error);
}

static int make_changes(struct moult_vectors *vectors, const struct moult_change *changes,
                        uint32_t count, uint32_t *unread, uint32_t *unread_count,
                        struct moult_error *error) {
    const struct moult_rows_file *own = find_own(vectors);
    bool settled = true;
    for (uint32_t at = 0, taken = 1; at < count; at += taken, taken = 1) {
        const struct moult_change *change = &changes[at];
        if (change->kind != MOULT_CHANGE_ADD && !settled)
            moult_index_settle(vectors->index);
        settled = change->kind != MOULT_CHANGE_ADD;
        if (change->kind == MOULT_CHANGE_REMOVE)
            moult_index_remove(vectors->index, change->collection, change->seq);
        else if (change->kind == MOULT_CHANGE_DROP)
            moult_index_drop(vectors->index, change->collection);
        else if (add(vectors, own, change, count - at, &taken, unread, unread_count, error) != 0)
            return -1;
    }
    return 0;
}

int moult_vectors_change(struct moult_vectors *vectors, const struct moult_change *changes,
                         uint32_t count, uint32_t *unread, uint32_t *unread_count,
                         struct moult_error *error) {
    *unread_count = 0;
    if (!vectors->index)
        return moult_fail(error, MOULT_ERROR_INVALID, "This worker was given no file of vectors.");
    pthread_mutex_lock(&vectors->changing);
    int result = make_changes(vectors, changes, count, unread, unread_count, error);
    pthread_mutex_unlock(&vectors->changing);
    if (result != 0)
        atomic_store(&vectors->complete, false);
    return result;
}

uint32_t moult_vectors_complete(struct moult_vectors *vectors, uint32_t *unread) {
    pthread_mutex_lock(&vectors->noting);
    uint32_t count = vectors->lost_count;
    memcpy(unread, vectors->lost, count * sizeof(*unread));
    vectors->lost_count = 0;
    pthread_mutex_unlock(&vectors->noting);
    atomic_store(&vectors->complete, true);
    return count;
}

/* Searches. */

struct moult_index_scratch *moult_vectors_scratch(const struct moult_vectors *vectors) {
    return vectors->index ? moult_index_scratch_open(vectors->index) : NULL;
}

int moult_vectors_search(struct moult_vectors *vectors, const struct moult_search_options *options,
                         const float *vector, struct moult_index_scratch *scratch,
                         struct moult_hit *hits, struct moult_error *error) {
    const struct moult_index_query query = {
        .collection = options->collection,
        .k = options->hits_max,
        .min_score = options->score_min,
        .allowed = options->allowed,
        .allowed_bits = options->allowed_bits,
    };
    if (!vectors->index || !atomic_load(&vectors->complete))
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "The vectors are still being read into the index.");
    return moult_index_search(vectors->index, &query, vector, scratch, hits, error);
}
