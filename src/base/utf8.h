/* UTF-8, strictly: no overlong forms, no surrogates, nothing above U+10FFFF. */
#ifndef MOULT_BASE_UTF8_H
#define MOULT_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length, 1 to 4, of the valid sequence that `bytes` begin with; 0 for none. */
unsigned moult_utf8_sequence(const char *bytes, size_t size);

bool moult_utf8_valid(const char *bytes, size_t size);

/* Decodes one code point of valid UTF-8 and moves *at behind it. */
uint32_t moult_utf8_next(const char **at);

/* Writes 1 to 4 bytes; returns how many. */
unsigned moult_utf8_put(uint32_t code_point, char bytes[4]);

#endif
