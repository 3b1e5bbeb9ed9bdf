/* BertNormalizer, and what BertPreTokenizer says of each character, in one pass.
 *
 * A piece of text is normalised by any number of moult_normalize() calls, cut
 * between any two code points, and one moult_normalize_end(): the result is the
 * same as that of one call. */
#ifndef MOULT_TOKENIZER_NORMALIZER_H
#define MOULT_TOKENIZER_NORMALIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a byte of normalised text is. Only the first two can be within a word. */
enum moult_kind {
    MOULT_KIND_CHARACTER,    /* The first byte of a character of a word. */
    MOULT_KIND_FOLLOWING,    /* Any byte of a character but its first, unless it is a space. */
    MOULT_KIND_SPACE,        /* A byte of a space. */
    MOULT_KIND_PUNCTUATION,  /* The first byte of a character that is a word of its own. */
    MOULT_KIND_NOTHING       /* Not in normalised text: the character is removed. */
};

struct moult_normalizer {
    bool clean_text;
    bool handle_chinese_chars;
    bool strip_accents;
    bool lowercase;
    /* What becomes of ASCII; filled by moult_normalizer_prepare() from the above. */
    char ascii_byte[128];
    uint8_t ascii_kind[128];
};

void moult_normalizer_prepare(struct moult_normalizer *normalizer);

/* Bytes of the text that a byte of normalised text comes from: one whole character. */
struct moult_origin {
    uint32_t begin, end;
};

/* Normalised text: `size` bytes of UTF-8, and as many kinds. */
struct moult_normal {
    char *bytes;                 /* Owned, as all below. */
    uint8_t *kinds;
    size_t size, capacity;
    /* Where they are tracked: as many origins. */
    bool tracked;
    struct moult_origin *origins;
    size_t origins_capacity;
    struct moult_origin origin;  /* Of what is put just now. */
    /* Characters with a combining class that the next starter puts in order. */
    struct moult_ranked *marks;
    size_t mark_count, mark_capacity;
};

void moult_normal_release(struct moult_normal *normal);

/* Appends what the whole code points text[0, size) become. `place` is where they begin in the text
 * that origins count from. */
void moult_normalize(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                     const char *text, size_t size, size_t place);
void moult_normalize_end(const struct moult_normalizer *normalizer, struct moult_normal *normal);

#endif
