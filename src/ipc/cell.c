/* The writing of one text's piece of an answer: message.h says of what it consists. */
#include <stdint.h>
#include <string.h>

#include "ipc/digits.h"
#include "ipc/port.h"

#define INDEX_BYTES_MAX 10

static uint32_t dimensions_of(const struct moult_embed_options *options, uint32_t C) {
    return options->dimensions > 0 && options->dimensions < C ? options->dimensions : C;
}

static size_t vector_bytes_max(enum moult_vector_format format, size_t n) {
    switch (format) {
    case MOULT_VECTOR_NONE:
        return 0;
    case MOULT_VECTOR_DECIMAL:
        return 2 + n * (MOULT_DIGITS_BYTES_MAX + 1);
    case MOULT_VECTOR_BASE64:
        return 2 + (n * 4 + 2) / 3 * 4;
    case MOULT_VECTOR_F32:
        return n * 4;
    }
    return 0;
}

size_t moult_cell_bytes_max(const struct moult_embed_options *options,
                            const struct moult_cell_frame *frame, uint32_t C) {
    size_t comma = frame->commas ? 1 : 0;
    size_t index = frame->numbered ? INDEX_BYTES_MAX : 0;
    return comma + strlen(frame->before) +
           vector_bytes_max(options->format, dimensions_of(options, C)) +
           strlen(frame->between) + index + strlen(frame->after);
}

static char *put_text(char *out, const char *text) {
    size_t size = strlen(text);
    memcpy(out, text, size);
    return out + size;
}

static char *put_index(char *out, uint32_t index) {
    char reversed[INDEX_BYTES_MAX];
    unsigned count = 0;
    do {
        reversed[count++] = (char)('0' + index % 10);
        index /= 10;
    } while (index > 0);
    while (count > 0)
        *out++ = reversed[--count];
    return out;
}

static char *put_decimal(char *out, const float *vector, uint32_t n) {
    *out++ = '[';
    for (uint32_t i = 0; i < n; i++) {
        if (i > 0)
            *out++ = ',';
        out += moult_digits_write(out, vector[i]);
    }
    *out++ = ']';
    return out;
}

/* Byte `at` of the vector as little-endian f32, whatever the machine's order. */
static uint32_t vector_byte(const float *vector, size_t at) {
    uint32_t bits;
    memcpy(&bits, &vector[at / 4], sizeof(bits));
    return bits >> (at % 4 * 8) & 0xff;
}

static char *put_base64(char *out, const float *vector, uint32_t n) {
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t bytes = (size_t)n * 4, at = 0;
    *out++ = '"';
    for (; at + 3 <= bytes; at += 3) {
        uint32_t group = vector_byte(vector, at) << 16 | vector_byte(vector, at + 1) << 8 |
                         vector_byte(vector, at + 2);
        *out++ = letters[group >> 18];
        *out++ = letters[group >> 12 & 63];
        *out++ = letters[group >> 6 & 63];
        *out++ = letters[group & 63];
    }
    if (at < bytes) {
        bool two = at + 1 < bytes;
        uint32_t group = vector_byte(vector, at) << 16;
        if (two)
            group |= vector_byte(vector, at + 1) << 8;
        *out++ = letters[group >> 18];
        *out++ = letters[group >> 12 & 63];
        *out++ = two ? letters[group >> 6 & 63] : '=';
        *out++ = '=';
    }
    *out++ = '"';
    return out;
}

static char *put_f32(char *out, const float *vector, uint32_t n) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    memcpy(out, vector, (size_t)n * 4);
    return out + (size_t)n * 4;
#else
    for (size_t at = 0; at < (size_t)n * 4; at++)
        *out++ = (char)vector_byte(vector, at);
    return out;
#endif
}

static char *put_vector(char *out, enum moult_vector_format format, const float *vector,
                        uint32_t n) {
    switch (format) {
    case MOULT_VECTOR_NONE:
        return out;
    case MOULT_VECTOR_DECIMAL:
        return put_decimal(out, vector, n);
    case MOULT_VECTOR_BASE64:
        return put_base64(out, vector, n);
    case MOULT_VECTOR_F32:
        return put_f32(out, vector, n);
    }
    return out;
}

size_t moult_cell_write(char *out, const struct moult_embed_options *options,
                        const struct moult_cell_frame *frame, uint32_t index,
                        const float *vector, uint32_t C) {
    char *at = out;
    if (frame->commas && index > 0)
        *at++ = ',';
    at = put_text(at, frame->before);
    at = put_vector(at, options->format, vector, dimensions_of(options, C));
    at = put_text(at, frame->between);
    if (frame->numbered)
        at = put_index(at, index);
    at = put_text(at, frame->after);
    return (size_t)(at - out);
}
