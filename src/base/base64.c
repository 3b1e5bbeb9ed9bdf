#include "base/base64.h"

#include <stdint.h>
#include <string.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void moult_base64_write(char *text, const void *bytes, size_t size) {
    const uint8_t *from = bytes;
    for (size_t i = 0; i < size; i += 3) {
        size_t left = size - i;
        uint32_t bits = (uint32_t)from[i] << 16;
        bits |= left > 1 ? (uint32_t)from[i + 1] << 8 : 0;
        bits |= left > 2 ? from[i + 2] : 0;
        *text++ = digits[bits >> 18];
        *text++ = digits[bits >> 12 & 63];
        *text++ = left > 1 ? digits[bits >> 6 & 63] : '=';
        *text++ = left > 2 ? digits[bits & 63] : '=';
    }
    *text = '\0';
}

long moult_base64_read(void *bytes, size_t size_max, const char *text, size_t text_size) {
    uint8_t *to = bytes;
    size_t size = 0;
    uint32_t bits = 0;
    unsigned count = 0;
    if (text_size % 4 == 0)
        for (int padding = 0; padding < 2 && text_size > 0 && text[text_size - 1] == '='; padding++)
            text_size--;
    if (text_size % 4 == 1)
        return -1;
    for (size_t i = 0; i < text_size; i++) {
        const char *digit = text[i] != '\0' ? strchr(digits, text[i]) : NULL;
        if (digit == NULL)
            return -1;
        bits = bits << 6 | (uint32_t)(digit - digits);
        count += 6;
        if (count < 8)
            continue;
        count -= 8;
        if (size == size_max)
            return -1;
        to[size++] = (uint8_t)(bits >> count);
    }
    /* What is left over must be nothing, or two texts would be one secret. */
    return (bits & ((1u << count) - 1)) == 0 ? (long)size : -1;
}
