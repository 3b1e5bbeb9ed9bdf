#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/error.h"

#define ALIGNMENT 64ul
#define HUGE_PAGE (2ul * 1024 * 1024)
#define SMALL_PAGE 4096ul

static void (*last_words)(size_t bytes);

void moult_memory_on_exhausted(void (*call)(size_t bytes)) {
    last_words = call;
}

static _Noreturn void exhausted(size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        bytes = SIZE_MAX;
    if (last_words != NULL)
        last_words(bytes);
    fprintf(stderr, "moult: out of memory: %zu times %zu bytes were refused.\n", count, size);
    fflush(stderr);
    _Exit(1);
}

void *moult_allocate(size_t count, size_t size) {
    void *memory = count == 0 || size == 0 ? calloc(1, 1) : calloc(count, size);
    if (memory == NULL)
        exhausted(count, size);
    return memory;
}

void *moult_reallocate(void *old, size_t count, size_t size) {
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        exhausted(count, size);
    void *memory = realloc(old, bytes == 0 ? 1 : bytes);
    if (memory == NULL)
        exhausted(count, size);
    return memory;
}

char *moult_copy_string(const char *text) {
    return moult_copy_bytes(text, strlen(text));
}

char *moult_copy_bytes(const char *bytes, size_t size) {
    MOULT_REQUIRE(size < SIZE_MAX);
    char *copy = moult_reallocate(NULL, size + 1, 1);
    if (size > 0)
        memcpy(copy, bytes, size);
    copy[size] = '\0';
    return copy;
}

char *moult_format(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    MOULT_REQUIRE(size >= 0);
    char *text = moult_reallocate(NULL, (size_t)size + 1, 1);
    va_start(arguments, format);
    vsnprintf(text, (size_t)size + 1, format, arguments);
    va_end(arguments);
    return text;
}

/* From one huge page up, memory is mapped, at a multiple of the huge page's
 * size: only such stretches can be backed by huge pages. Smaller amounts come
 * from the heap. moult_free_large() tells the two apart by the size. */
static size_t mapped_bytes(size_t bytes) {
    if (bytes < HUGE_PAGE || bytes > SIZE_MAX - 2 * HUGE_PAGE)
        return 0;
    return (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
}

size_t moult_large_bytes(size_t bytes) {
    size_t mapped = mapped_bytes(bytes);
    if (mapped > 0)
        return mapped;
    if (bytes > SIZE_MAX - ALIGNMENT)
        return SIZE_MAX;
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void *map_aligned(size_t size) {
    size_t size_with_slack = size + HUGE_PAGE;
    char *start = mmap(NULL, size_with_slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                       -1, 0);
    if (start == MAP_FAILED)
        return NULL;
    size_t before = (HUGE_PAGE - (uintptr_t)start % HUGE_PAGE) % HUGE_PAGE;
    size_t behind = size_with_slack - before - size;
    if (before > 0)
        munmap(start, before);
    if (behind > 0)
        munmap(start + before + size, behind);
    /* A wish: kernels without huge pages refuse it, and nothing is lost. */
    madvise(start + before, size, MADV_HUGEPAGE);
    return start + before;
}

void *moult_allocate_large(size_t bytes) {
    size_t mapped = mapped_bytes(bytes);
    if (mapped > 0)
        return map_aligned(mapped);
    if (bytes >= HUGE_PAGE)
        return NULL;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *memory = aligned_alloc(ALIGNMENT, rounded == 0 ? ALIGNMENT : rounded);
    if (memory != NULL)
        memset(memory, 0, rounded);
    return memory;
}

void moult_touch_large(void *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += SMALL_PAGE)
        ((volatile char *)memory)[at] = 0;
}

void moult_free_large(void *memory, size_t bytes) {
    size_t mapped = mapped_bytes(bytes);
    if (memory == NULL)
        return;
    if (mapped > 0)
        munmap(memory, mapped);
    else
        free(memory);
}
