#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/parts.h"

#define BLOCK_BYTES (64 * MOULT_KIB)
#define ALIGNMENT alignof(max_align_t)

/* The newest block comes first; larger pieces have one of their own behind it. */
struct moult_pool {
    struct moult_pool *next;
    size_t used, capacity;
    alignas(max_align_t) char bytes[];
};

static struct moult_pool *make_block(size_t capacity) {
    struct moult_pool *block = moult_reallocate(NULL, sizeof *block + capacity, 1);
    *block = (struct moult_pool){.capacity = capacity};
    return block;
}

static void *give_large(struct moult_pool **pool, size_t size) {
    struct moult_pool *block = make_block(size);
    block->used = size;
    if (*pool == NULL) {
        *pool = block;
    } else {
        block->next = (*pool)->next;
        (*pool)->next = block;
    }
    return block->bytes;
}

void *moult_pool_give(struct moult_pool **pool, size_t size) {
    MOULT_REQUIRE(size < SIZE_MAX / 2);
    size = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct moult_pool *block = *pool;
    if (block != NULL && size <= block->capacity - block->used) {
        block->used += size;
        return block->bytes + block->used - size;
    }
    if (size > BLOCK_BYTES / 4)
        return give_large(pool, size);
    block = make_block(BLOCK_BYTES);
    block->next = *pool;
    block->used = size;
    *pool = block;
    return block->bytes;
}

char *moult_pool_copy(struct moult_pool **pool, const void *bytes, size_t size) {
    char *copy = moult_pool_give(pool, size + 1);
    if (size > 0)
        memcpy(copy, bytes, size);
    copy[size] = '\0';
    return copy;
}

void moult_pool_free(struct moult_pool *pool) {
    while (pool != NULL) {
        struct moult_pool *next = pool->next;
        free(pool);
        pool = next;
    }
}
