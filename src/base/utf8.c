#include "base/utf8.h"

/* The well-formed sequences (Unicode, table 3-7). The second byte's range is
 * what keeps out overlong forms, surrogates, and all above U+10FFFF.
 *
 *   first      second     third      fourth
 *   00..7F
 *   C2..DF     80..BF
 *   E0         A0..BF     80..BF
 *   E1..EC     80..BF     80..BF
 *   ED         80..9F     80..BF
 *   EE..EF     80..BF     80..BF
 *   F0         90..BF     80..BF     80..BF
 *   F1..F3     80..BF     80..BF     80..BF
 *   F4         80..8F     80..BF     80..BF
 */
static bool is_within(unsigned char byte, unsigned char least, unsigned char most) {
    return least <= byte && byte <= most;
}

unsigned moult_utf8_sequence(const char *bytes, size_t size) {
    const unsigned char *b = (const unsigned char *)bytes;
    if (size == 0)
        return 0;
    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xC2 || b[0] > 0xF4)
        return 0;
    unsigned length = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
    if (size < length)
        return 0;
    unsigned char least = b[0] == 0xE0 ? 0xA0 : b[0] == 0xF0 ? 0x90 : 0x80;
    unsigned char most = b[0] == 0xED ? 0x9F : b[0] == 0xF4 ? 0x8F : 0xBF;
    if (!is_within(b[1], least, most))
        return 0;
    for (unsigned i = 2; i < length; i++)
        if (!is_within(b[i], 0x80, 0xBF))
            return 0;
    return length;
}

bool moult_utf8_valid(const char *bytes, size_t size) {
    for (size_t at = 0; at < size;) {
        unsigned length = moult_utf8_sequence(bytes + at, size - at);
        if (length == 0)
            return false;
        at += length;
    }
    return true;
}

uint32_t moult_utf8_next(const char **at) {
    const unsigned char *b = (const unsigned char *)*at;
    if (b[0] < 0x80) {
        *at += 1;
        return b[0];
    }
    if (b[0] < 0xE0) {
        *at += 2;
        return (b[0] & 0x1Fu) << 6 | (b[1] & 0x3Fu);
    }
    if (b[0] < 0xF0) {
        *at += 3;
        return (b[0] & 0x0Fu) << 12 | (b[1] & 0x3Fu) << 6 | (b[2] & 0x3Fu);
    }
    *at += 4;
    return (b[0] & 0x07u) << 18 | (b[1] & 0x3Fu) << 12 | (b[2] & 0x3Fu) << 6 | (b[3] & 0x3Fu);
}

unsigned moult_utf8_put(uint32_t code_point, char bytes[4]) {
    if (code_point < 0x80) {
        bytes[0] = (char)code_point;
        return 1;
    }
    if (code_point < 0x800) {
        bytes[0] = (char)(0xC0 | code_point >> 6);
        bytes[1] = (char)(0x80 | (code_point & 0x3F));
        return 2;
    }
    if (code_point < 0x10000) {
        bytes[0] = (char)(0xE0 | code_point >> 12);
        bytes[1] = (char)(0x80 | (code_point >> 6 & 0x3F));
        bytes[2] = (char)(0x80 | (code_point & 0x3F));
        return 3;
    }
    bytes[0] = (char)(0xF0 | code_point >> 18);
    bytes[1] = (char)(0x80 | (code_point >> 12 & 0x3F));
    bytes[2] = (char)(0x80 | (code_point >> 6 & 0x3F));
    bytes[3] = (char)(0x80 | (code_point & 0x3F));
    return 4;
}
