/* ULIDs: 26 characters that sort by the time they were made at. 48 bits of milliseconds since
 * the epoch and 80 random ones in Crockford's base 32; within one millisecond, or when the clock
 * goes back, the last one plus 1. */
#ifndef MOULT_STORE_ULID_H
#define MOULT_STORE_ULID_H

#include <stdint.h>

#define MOULT_ULID_BYTES 27   /* With a NUL. */

struct moult_ulid {
    uint64_t milliseconds;    /* Of the last one; 0: there was none. */
    unsigned char random[10];
};

/* Each is larger than all that this `last` has given before. */
void moult_ulid_make(struct moult_ulid *last, char text[MOULT_ULID_BYTES]);
/* The same at a given time, with given bytes. */
void moult_ulid_next(struct moult_ulid *last, uint64_t milliseconds,
                     const unsigned char random[10], char text[MOULT_ULID_BYTES]);

#endif
