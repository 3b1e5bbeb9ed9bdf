/* Memory that is asked for in one way. Sizes that come from outside must have
 * been checked against limits.h before; what is asked for here is ours to have,
 * so exhaustion ends the process with a message (a worker's end is survived by
 * the front, see design in docs/architecture.md). Callers never see NULL. */
#ifndef MOULT_BASE_MEMORY_H
#define MOULT_BASE_MEMORY_H

#include <stddef.h>

void *moult_allocate(size_t count, size_t size);                 /* Zeroed. */
void *moult_reallocate(void *old, size_t count, size_t size);
char *moult_copy_string(const char *text);
char *moult_copy_bytes(const char *bytes, size_t size);          /* NUL added. */
char *moult_format(const char *format, ...)                      /* malloc'ed. */
    __attribute__((format(printf, 1, 2)));

/* Called with the size that was refused, just before the process ends for want of
 * memory: it must not ask for any. For the process; NULL: nobody. */
void moult_memory_on_exhausted(void (*last_words)(size_t bytes));

/* Zeroed, aligned to 64 bytes; large ones on huge pages where there are any.
 * NULL when the machine has not that much. Freed by moult_free_large(). */
void *moult_allocate_large(size_t bytes);
/* Has the machine bring every page, so that nobody waits for one later. */
void moult_touch_large(void *memory, size_t bytes);
void moult_free_large(void *memory, size_t bytes);
/* What moult_allocate_large() takes for so many: whole huge pages, where it is one or more. */
size_t moult_large_bytes(size_t bytes);

#endif
