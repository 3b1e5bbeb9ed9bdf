#include "base/buffer.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"

#define CAPACITY_AT_FIRST 256ul

void moult_buffer_init(struct moult_buffer *buffer, size_t size_max) {
    MOULT_REQUIRE(size_max < SIZE_MAX / 2);
    *buffer = (struct moult_buffer){.size_max = size_max};
}

void moult_buffer_release(struct moult_buffer *buffer) {
    free(buffer->bytes);
    moult_buffer_init(buffer, buffer->size_max);
}

/* Makes room for `size` more bytes and a NUL, or marks the overflow. */
static bool reserve(struct moult_buffer *buffer, size_t size) {
    if (buffer->overflowed || size > buffer->size_max - buffer->size) {
        buffer->overflowed = true;
        return false;
    }
    size_t needed = buffer->size + size + 1;
    if (needed <= buffer->capacity)
        return true;
    size_t capacity = buffer->capacity == 0 ? CAPACITY_AT_FIRST : buffer->capacity * 2;
    if (capacity > buffer->size_max + 1)
        capacity = buffer->size_max + 1;
    if (capacity < needed)
        capacity = needed;
    buffer->bytes = moult_reallocate(buffer->bytes, capacity, 1);
    buffer->capacity = capacity;
    return true;
}

bool moult_buffer_append(struct moult_buffer *buffer, const void *bytes, size_t size) {
    if (!reserve(buffer, size))
        return false;
    if (size > 0)
        memcpy(buffer->bytes + buffer->size, bytes, size);
    buffer->size += size;
    buffer->bytes[buffer->size] = '\0';
    return true;
}

bool moult_buffer_text(struct moult_buffer *buffer, const char *text) {
    return moult_buffer_append(buffer, text, strlen(text));
}

bool moult_buffer_format(struct moult_buffer *buffer, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    MOULT_REQUIRE(size >= 0);
    if (!reserve(buffer, (size_t)size))
        return false;
    va_start(arguments, format);
    vsnprintf(buffer->bytes + buffer->size, (size_t)size + 1, format, arguments);
    va_end(arguments);
    buffer->size += (size_t)size;
    return true;
}

/* What a byte below 0x80 is written as where it cannot stand for itself; `room`
 * takes the long form. NULL: as it is. */
static const char *json_escape(unsigned char byte, char room[7]) {
    switch (byte) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\b':
        return "\\b";
    case '\f':
        return "\\f";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        break;
    }
    if (byte >= 0x20 && byte != 0x7F)
        return NULL;
    snprintf(room, 7, "\\u%04x", byte);
    return room;
}

static bool append_json_bytes(struct moult_buffer *buffer, const char *bytes, size_t size) {
    size_t plain = 0; /* Start of the stretch that needs no escape. */
    size_t at = 0;
    while (at < size) {
        char room[7];
        unsigned length = moult_utf8_sequence(bytes + at, size - at);
        const char *instead = length == 0   ? "\xEF\xBF\xBD"
                              : length == 1 ? json_escape((unsigned char)bytes[at], room)
                                            : NULL;
        if (instead != NULL) {
            if (!moult_buffer_append(buffer, bytes + plain, at - plain) ||
                !moult_buffer_text(buffer, instead))
                return false;
            plain = at + 1;
        }
        at += length == 0 ? 1 : length;
    }
    return moult_buffer_append(buffer, bytes + plain, size - plain);
}

bool moult_buffer_json_string(struct moult_buffer *buffer, const char *bytes, size_t size) {
    size_t size_before = buffer->size;
    if (moult_buffer_append(buffer, "\"", 1) && append_json_bytes(buffer, bytes, size) &&
        moult_buffer_append(buffer, "\"", 1))
        return true;
    /* Half a string is worth nothing: drop it whole. */
    buffer->size = size_before;
    if (buffer->bytes != NULL)
        buffer->bytes[size_before] = '\0';
    return false;
}

char *moult_buffer_take(struct moult_buffer *buffer, size_t *size) {
    char *bytes = buffer->bytes != NULL ? buffer->bytes : moult_copy_string("");
    if (size != NULL)
        *size = buffer->size;
    moult_buffer_init(buffer, buffer->size_max);
    return bytes;
}
