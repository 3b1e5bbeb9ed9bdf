#include "index/index.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "index/internal.h"

struct moult_index *moult_index_open(uint32_t C, const struct moult_kernels *kernels,
                                     const struct moult_index_source *source) {
    struct moult_index *index = moult_allocate(1, sizeof *index);
    pthread_rwlockattr_t attributes;

    MOULT_REQUIRE(C >= 1 && C <= MOULT_DIMENSIONS_MAX);
    index->C = C;
    index->kernels = kernels;
    index->source = *source;
    index->levels = moult_allocate(MOULT_INDEX_PORTION, moult_row_levels(C));
    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    MOULT_REQUIRE(pthread_rwlock_init(&index->structure, &attributes) == 0);
    MOULT_REQUIRE(pthread_mutex_init(&index->writing, NULL) == 0);
    pthread_rwlockattr_destroy(&attributes);
    return index;
}

void moult_index_close(struct moult_index *index) {
    if (index == NULL)
        return;
    for (uint32_t i = 0; i < index->collection_count; i++)
        moult_collection_close(index->collections[i]);
    pthread_rwlock_destroy(&index->structure);
    pthread_mutex_destroy(&index->writing);
    free(index->collections);
    free(index->levels);
    free(index);
}

/* Where a collection stands, or would. */
static uint32_t place_of(const struct moult_index *index, uint32_t number) {
    uint32_t low = 0, high = index->collection_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;

        if (index->collections[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct moult_collection *moult_index_collection(const struct moult_index *index, uint32_t number) {
    uint32_t place = place_of(index, number);

    if (place == index->collection_count || index->collections[place]->number != number)
        return NULL;
    return index->collections[place];
}

static struct moult_collection *insert(struct moult_index *index, uint32_t number) {
    struct moult_collection *collection =
        moult_collection_open(number, index->C, &index->structure);
    uint32_t place = place_of(index, number);

    pthread_rwlock_wrlock(&index->structure);
    index->collections = moult_reallocate(index->collections, index->collection_count + 1,
                                          sizeof(struct moult_collection *));
    memmove(&index->collections[place + 1], &index->collections[place],
            (index->collection_count - place) * sizeof(struct moult_collection *));
    index->collections[place] = collection;
    index->collection_count++;
    pthread_rwlock_unlock(&index->structure);
    return collection;
}

static int check_vectors(const struct moult_index *index, const struct moult_index_row *rows,
                         uint32_t count, const float *vectors, struct moult_error *error) {
    for (uint32_t i = 0; i < count; i++) {
        if (!moult_vector_usable(vectors + (size_t)i * index->C, index->C))
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "The vector of row %u has a number that is not finite, or far too "
                              "large.",
                              rows[i].row);
    }
    return 0;
}

static void append(struct moult_index *index, struct moult_collection *collection,
                   const struct moult_index_row *rows, uint32_t count, const float *vectors) {
    for (uint32_t i = 0; i < count; i++)
        index->quantized[i] =
            moult_quantize_row(vectors + (size_t)i * index->C, index->C,
                               index->levels + (size_t)i * moult_row_levels(index->C));
    moult_collection_append(collection, rows, index->quantized, index->levels, count);
}

/* Adds and removes change what all collections take by the difference of one. */
static void count_change(struct moult_index *index, uint64_t bytes_before, uint64_t bytes_after) {
    atomic_fetch_add_explicit(&index->bytes, bytes_after - bytes_before, memory_order_relaxed);
}

static int add(struct moult_index *index, uint32_t number, const struct moult_index_row *rows,
               uint32_t count, const float *vectors, struct moult_error *error) {
    struct moult_collection *collection = moult_index_collection(index, number);
    uint64_t before = collection == NULL ? 0 : moult_collection_bytes(collection);
    int result;

    if (collection == NULL)
        collection = insert(index, number);
    result = moult_collection_reserve(collection, count, error);
    for (uint32_t done = 0, some; result == 0 && done < count; done += some) {
        some = count - done < MOULT_INDEX_PORTION ? count - done : MOULT_INDEX_PORTION;
        append(index, collection, rows + done, some, vectors + (size_t)done * index->C);
    }
    if (result == 0)
        atomic_fetch_add_explicit(&index->rows, count, memory_order_relaxed);
    count_change(index, before, moult_collection_bytes(collection));
    return result;
}

int moult_index_add(struct moult_index *index, uint32_t collection,
                    const struct moult_index_row *rows, uint32_t count, const float *vectors,
                    struct moult_error *error) {
    int result;

    if (check_vectors(index, rows, count, vectors, error) != 0)
        return -1;
    pthread_mutex_lock(&index->writing);
    result = count == 0 ? 0 : add(index, collection, rows, count, vectors, error);
    pthread_mutex_unlock(&index->writing);
    return result;
}

void moult_index_remove(struct moult_index *index, uint32_t number, uint64_t seq) {
    struct moult_collection *collection;

    pthread_mutex_lock(&index->writing);
    collection = moult_index_collection(index, number);
    if (collection != NULL) {
        uint64_t before = moult_collection_bytes(collection);

        atomic_fetch_sub_explicit(&index->rows, moult_collection_remove(collection, seq),
                                  memory_order_relaxed);
        moult_collection_tidy(collection);
        count_change(index, before, moult_collection_bytes(collection));
    }
    pthread_mutex_unlock(&index->writing);
}

static struct moult_collection *take_out(struct moult_index *index, uint32_t number) {
    struct moult_collection *collection = moult_index_collection(index, number);
    uint32_t place = place_of(index, number);

    if (collection == NULL)
        return NULL;
    pthread_rwlock_wrlock(&index->structure);
    index->collection_count--;
    memmove(&index->collections[place], &index->collections[place + 1],
            (index->collection_count - place) * sizeof(struct moult_collection *));
    pthread_rwlock_unlock(&index->structure);
    return collection;
}

void moult_index_settle(struct moult_index *index) {
    pthread_rwlock_wrlock(&index->structure);
    pthread_rwlock_unlock(&index->structure);
}

void moult_index_drop(struct moult_index *index, uint32_t number) {
    struct moult_collection *collection;

    pthread_mutex_lock(&index->writing);
    collection = take_out(index, number);
    if (collection != NULL) {
        atomic_fetch_sub_explicit(&index->rows, collection->rows - collection->holes,
                                  memory_order_relaxed);
        count_change(index, moult_collection_bytes(collection), 0);
    }
    pthread_mutex_unlock(&index->writing);
    if (collection != NULL)
        moult_collection_close(collection);
}

uint64_t moult_index_rows(const struct moult_index *index) {
    return atomic_load_explicit(&index->rows, memory_order_relaxed);
}

uint64_t moult_index_bytes(const struct moult_index *index) {
    return atomic_load_explicit(&index->bytes, memory_order_relaxed);
}

uint64_t moult_index_bytes_for(uint32_t C, uint64_t rows) {
    return moult_collection_bytes_for(C, rows);
}
