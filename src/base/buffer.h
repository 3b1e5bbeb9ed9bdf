/* Bytes that grow up to a bound given at birth. An append beyond the bound is
 * dropped whole, and so is everything after it: the buffer holds a prefix of
 * what was written, and `overflowed`, checked once at the end, tells. */
#ifndef MOULT_BASE_BUFFER_H
#define MOULT_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

struct moult_buffer {
    char *bytes;        /* Owned; a NUL lies behind the last byte once non-empty. */
    size_t size;
    size_t capacity;
    size_t size_max;
    bool overflowed;
};

void moult_buffer_init(struct moult_buffer *buffer, size_t size_max);
void moult_buffer_release(struct moult_buffer *buffer);   /* Back to empty. */
bool moult_buffer_append(struct moult_buffer *buffer, const void *bytes, size_t size);
bool moult_buffer_text(struct moult_buffer *buffer, const char *text);
bool moult_buffer_format(struct moult_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As a JSON string, quotes included. A byte that is no part of valid UTF-8 becomes U+FFFD. */
bool moult_buffer_json_string(struct moult_buffer *buffer, const char *bytes, size_t size);
/* Hands the bytes to the caller, who frees them; the buffer is empty again. */
char *moult_buffer_take(struct moult_buffer *buffer, size_t *size);

#endif
