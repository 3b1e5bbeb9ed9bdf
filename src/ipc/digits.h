/* A float as decimal text, in the fewest digits that read back as the same float. */
#ifndef MOULT_IPC_DIGITS_H
#define MOULT_IPC_DIGITS_H

#include <stddef.h>

/* "-1.23456789e-38" */
#define MOULT_DIGITS_BYTES_MAX 15

/* Writes a JSON number, without a NUL, never longer than printf's %.9g; returns
 * its size. What is no number (NaN, infinity) becomes "null". */
size_t moult_digits_write(char out[MOULT_DIGITS_BYTES_MAX], float value);

#endif
