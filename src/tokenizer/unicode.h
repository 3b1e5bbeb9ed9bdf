/* What the tokenizers package knows about each code point.
 *
 * unicode_tables.c is made by tools/make-unicode-tables, which asks that package
 * and not the Unicode standard: its parts follow different versions of Unicode,
 * and equal ids matter here more than a newer standard.
 *
 * A code point's record is found over three levels, so that the table stays
 * small enough for the first cache: the top 11 bits choose a block of middles,
 * the next 6 a block of leaves, the last 4 the index of a record. */
#ifndef MOULT_TOKENIZER_UNICODE_H
#define MOULT_TOKENIZER_UNICODE_H

#include <stdint.h>

enum {
    MOULT_UNICODE_CONTROL = 1,       /* Removed by clean_text. */
    MOULT_UNICODE_SPACE = 2,         /* White space; clean_text makes it U+0020. */
    MOULT_UNICODE_CHINESE = 4,       /* Gets a space on both sides. */
    MOULT_UNICODE_MARK = 8,          /* Removed by strip_accents. */
    MOULT_UNICODE_PUNCTUATION = 16,  /* A word of its own. */
    MOULT_UNICODE_WORD = 32,         /* \w of regular expressions. */
    MOULT_UNICODE_DECOMPOSES = 64,   /* strip_accents leaves another code point, or several. */

    /* The rest is the rank. Of a code point that strip_accents keeps: 0 for a
     * starter, else its combining class among those of all such code points.
     * Of one that it removes: 0 for a starter, 1 for a combining class. */
    MOULT_UNICODE_RANK_SHIFT = 8
};

struct moult_unicode_record {
    uint16_t flags;
    int32_t lower;   /* Added to the code point gives its lower case; U+0130 apart. */
};

extern const struct moult_unicode_record moult_unicode_records[];
extern const uint8_t moult_unicode_tops[1088];
extern const uint16_t moult_unicode_middles[];
extern const uint8_t moult_unicode_leaves[];

/* What strip_accents leaves of the code points with MOULT_UNICODE_DECOMPOSES,
 * Hangul syllables apart: pairs sorted by code point. The second is a code point, or,
 * above MOULT_UNICODE_POOLED, a place in the pool and, in the last two bits, a length. */
#define MOULT_UNICODE_POOLED 0x80000000u
extern const uint32_t moult_unicode_left[][2];
extern const uint32_t moult_unicode_left_count;
extern const uint32_t moult_unicode_pool[];

/* SHA-256 over all that the tables say, in hexadecimal. */
extern const char moult_unicode_digest[65];

/* `code_point` must be at most U+10FFFF. */
static inline const struct moult_unicode_record *moult_unicode_find(uint32_t code_point) {
    uint32_t middle = moult_unicode_tops[code_point >> 10] * 64u + (code_point >> 4 & 63);
    uint32_t leaf = moult_unicode_middles[middle] * 16u + (code_point & 15);
    return &moult_unicode_records[moult_unicode_leaves[leaf]];
}

#endif
