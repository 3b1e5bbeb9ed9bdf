#include "store/ulid.h"

#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/error.h"

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/* 128 bits in 26 digits: the first has but 3 of them. */
static void write_digits(const unsigned char bytes[16], char text[MOULT_ULID_BYTES]) {
    for (unsigned i = 0; i < 26; i++) {
        unsigned value = 0;
        for (unsigned bit = i * 5; bit < i * 5 + 5; bit++) {
            unsigned at = bit - 2;   /* Two zeros stand before the 128. */
            unsigned is_set = bit < 2 ? 0 : bytes[at / 8] >> (7 - at % 8) & 1;
            value = value << 1 | is_set;
        }
        text[i] = digits[value];
    }
    text[26] = '\0';
}

/* The random part plus 1; on from its end, the next millisecond begins with it at 0. */
static void increment(struct moult_ulid *last) {
    for (unsigned i = sizeof last->random; i-- > 0;)
        if (++last->random[i] != 0)
            return;
    last->milliseconds++;
}

void moult_ulid_next(struct moult_ulid *last, uint64_t milliseconds,
                     const unsigned char random[10], char text[MOULT_ULID_BYTES]) {
    if (milliseconds > last->milliseconds) {
        last->milliseconds = milliseconds;
        memcpy(last->random, random, sizeof last->random);
    } else {
        increment(last);
    }
    unsigned char bytes[16];
    for (unsigned i = 0; i < 6; i++)
        bytes[i] = (unsigned char)(last->milliseconds >> (40 - 8 * i));
    memcpy(bytes + 6, last->random, sizeof last->random);
    write_digits(bytes, text);
}

void moult_ulid_make(struct moult_ulid *last, char text[MOULT_ULID_BYTES]) {
    struct timespec now;
    unsigned char random[10] = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t milliseconds = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    if (milliseconds > last->milliseconds) {
        ssize_t got = getrandom(random, sizeof random, 0);
        MOULT_REQUIRE(got == (ssize_t)sizeof random);
    }
    moult_ulid_next(last, milliseconds, random, text);
}
