/* BertNormalizer does five things to the whole text, one after the other: remove
 * control characters and make each space U+0020 (clean_text); put spaces around
 * Chinese characters; decompose canonically and put combining marks in their
 * canonical order; remove nonspacing marks (these two are strip_accents); lower
 * the case, character by character. Here each code point goes all the way at once,
 * which gives the same because only one of the steps looks further than one code point: the
 * order of marks. That one is
 *
 *   a stable sort by combining class of every run of characters that have one (all
 *   others are starters and have class 0).
 *
 * Removing the nonspacing marks before sorting instead of after it changes nothing:
 * the sort is stable, and what is removed does not decide how others are ordered.
 * But a nonspacing mark that is a starter ends a run all the same. What remains to
 * be sorted is rare (signs that take space, and characters that are newer than
 * the table of marks), and it has few classes, numbered by rank: so a run is sorted by going
 * through it once per rank. This is linear in the text for any text. The textbook's
 * exchange of neighbours takes 19 seconds for 125 KB of marks in the wrong order. */
#include "tokenizer/normalizer.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer/unicode.h"

enum {
    GROWTH_MAX = 3,     /* Bytes out per byte in at most; make-unicode-tables asserts it. */
    MARK_BYTES_MAX = 4,
    RANK_MAX = 7,
    CAPITAL_I_WITH_DOT = 0x130,
    DOT_ABOVE = 0x307,
    HANGUL_FIRST = 0xAC00,
    HANGUL_END = 0xD7A4
};

struct moult_ranked {
    uint32_t code_point;
    uint32_t rank;
    struct moult_origin origin;
};

static void reserve(struct moult_normal *normal, size_t text_size);
static void normalize_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                          uint32_t code_point);
static void strip_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point, uint32_t flags);
static void strip_hangul(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                         uint32_t syllable);
static void order_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point, uint32_t flags);
static void put_marks(const struct moult_normalizer *normalizer, struct moult_normal *normal);
static void put_lower(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point);
static void put_space(struct moult_normal *normal);
static void put(struct moult_normal *normal, uint32_t code_point);
static uint32_t find_left(uint32_t code_point);

void moult_normalizer_prepare(struct moult_normalizer *normalizer) {
    for (uint32_t c = 0; c < 128; c++) {
        const struct moult_unicode_record *record = moult_unicode_find(c);
        bool removed = normalizer->clean_text && (record->flags & MOULT_UNICODE_CONTROL);
        bool space = record->flags & MOULT_UNICODE_SPACE;
        bool punctuation = record->flags & MOULT_UNICODE_PUNCTUATION;

        normalizer->ascii_kind[c] = removed       ? MOULT_KIND_NOTHING
                                    : space       ? MOULT_KIND_SPACE
                                    : punctuation ? MOULT_KIND_PUNCTUATION
                                                  : MOULT_KIND_CHARACTER;
        normalizer->ascii_byte[c] = (char)(space && normalizer->clean_text ? ' '
                                           : normalizer->lowercase ? c + (uint32_t)record->lower
                                                                   : c);
    }
}

void moult_normal_release(struct moult_normal *normal) {
    free(normal->bytes);
    free(normal->kinds);
    free(normal->origins);
    free(normal->marks);
    *normal = (struct moult_normal){0};
}

void moult_normalize(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                     const char *text, size_t size, size_t place) {
    const char *at = text, *end = text + size;

    reserve(normal, size);
    while (at < end) {
        unsigned char byte = (unsigned char)*at;
        if (byte >= 128) {
            const char *begin = at;
            uint32_t code_point = moult_utf8_next(&at);
            normal->origin = (struct moult_origin){(uint32_t)(place + (size_t)(begin - text)),
                                                   (uint32_t)(place + (size_t)(at - text))};
            normalize_one(normalizer, normal, code_point);
            continue;
        }
        uint8_t kind = normalizer->ascii_kind[byte];
        if (normal->mark_count > 0 && kind != MOULT_KIND_NOTHING)
            put_marks(normalizer, normal);
        normal->bytes[normal->size] = normalizer->ascii_byte[byte];
        normal->kinds[normal->size] = kind;
        if (normal->tracked) {
            uint32_t begin = (uint32_t)(place + (size_t)(at - text));
            normal->origins[normal->size] = (struct moult_origin){begin, begin + 1};
        }
        normal->size += kind != MOULT_KIND_NOTHING;
        at++;
    }
}

void moult_normalize_end(const struct moult_normalizer *normalizer, struct moult_normal *normal) {
    reserve(normal, 0);
    put_marks(normalizer, normal);
}

/* Makes room for what `text_size` more bytes become, and for the marks that wait.
 * Nothing below checks bounds. */
static void reserve(struct moult_normal *normal, size_t text_size) {
    size_t needed = normal->size + text_size * GROWTH_MAX + normal->mark_count * MARK_BYTES_MAX + 1;

    if (needed > normal->capacity) {
        normal->capacity = needed + needed / 2;
        normal->bytes = moult_reallocate(normal->bytes, normal->capacity, 1);
        normal->kinds = moult_reallocate(normal->kinds, normal->capacity, 1);
    }
    if (normal->tracked && needed > normal->origins_capacity) {
        normal->origins_capacity = needed + needed / 2;
        normal->origins = moult_reallocate(normal->origins, normal->origins_capacity,
                                           sizeof *normal->origins);
    }
}

static void normalize_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                          uint32_t code_point) {
    uint32_t flags = moult_unicode_find(code_point)->flags;

    if (normalizer->clean_text) {
        if (flags & MOULT_UNICODE_CONTROL)
            return;
        if (flags & MOULT_UNICODE_SPACE) {
            put_marks(normalizer, normal);
            put_space(normal);
            return;
        }
    }
    bool chinese = normalizer->handle_chinese_chars && (flags & MOULT_UNICODE_CHINESE);
    if (chinese) {
        put_marks(normalizer, normal);
        put_space(normal);
    }
    if (normalizer->strip_accents)
        strip_one(normalizer, normal, code_point, flags);
    else
        put_lower(normalizer, normal, code_point);
    if (chinese)
        put_space(normal);
}

static void strip_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point, uint32_t flags) {
    if (!(flags & MOULT_UNICODE_DECOMPOSES)) {
        order_one(normalizer, normal, code_point, flags);
        return;
    }
    if (code_point >= HANGUL_FIRST && code_point < HANGUL_END) {
        strip_hangul(normalizer, normal, code_point);
        return;
    }
    uint32_t left = find_left(code_point);
    if (left < MOULT_UNICODE_POOLED) {
        order_one(normalizer, normal, left, moult_unicode_find(left)->flags);
        return;
    }
    const uint32_t *pool = moult_unicode_pool + ((left & ~MOULT_UNICODE_POOLED) >> 2);
    for (uint32_t n = 0; n < (left & 3); n++)
        order_one(normalizer, normal, pool[n], moult_unicode_find(pool[n])->flags);
}

/* A syllable is a lead, a vowel and perhaps a tail, which are starters without case. */
static void strip_hangul(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                         uint32_t syllable) {
    uint32_t n = syllable - HANGUL_FIRST;

    put_marks(normalizer, normal);
    put(normal, 0x1100 + n / 588);
    put(normal, 0x1161 + n % 588 / 28);
    if (n % 28 != 0)
        put(normal, 0x11A7 + n % 28);
}

/* Takes a code point that does not decompose any further. */
static void order_one(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point, uint32_t flags) {
    uint32_t rank = flags >> MOULT_UNICODE_RANK_SHIFT;

    if (rank == 0)
        put_marks(normalizer, normal);
    if (flags & MOULT_UNICODE_MARK)
        return;
    if (rank == 0) {
        put_lower(normalizer, normal, code_point);
        return;
    }
    if (normal->mark_count == normal->mark_capacity) {
        normal->mark_capacity = 2 * normal->mark_capacity + 16;
        normal->marks = moult_reallocate(normal->marks, normal->mark_capacity,
                                         sizeof *normal->marks);
    }
    normal->marks[normal->mark_count++] =
        (struct moult_ranked){code_point, rank, normal->origin};
}

static void put_marks(const struct moult_normalizer *normalizer, struct moult_normal *normal) {
    struct moult_origin origin = normal->origin;

    if (normal->mark_count == 0)
        return;
    for (uint32_t rank = 1; rank <= RANK_MAX; rank++)
        for (size_t n = 0; n < normal->mark_count; n++)
            if (normal->marks[n].rank == rank) {
                normal->origin = normal->marks[n].origin;
                put_lower(normalizer, normal, normal->marks[n].code_point);
            }
    normal->mark_count = 0;
    normal->origin = origin;
}

static void put_lower(const struct moult_normalizer *normalizer, struct moult_normal *normal,
                      uint32_t code_point) {
    if (!normalizer->lowercase) {
        put(normal, code_point);
    } else if (code_point == CAPITAL_I_WITH_DOT) {
        put(normal, 'i');
        put(normal, DOT_ABOVE);
    } else {
        put(normal, code_point + (uint32_t)moult_unicode_find(code_point)->lower);
    }
}

static void put_space(struct moult_normal *normal) {
    if (normal->tracked)
        normal->origins[normal->size] = normal->origin;
    normal->bytes[normal->size] = ' ';
    normal->kinds[normal->size++] = MOULT_KIND_SPACE;
}

static void put(struct moult_normal *normal, uint32_t code_point) {
    uint32_t flags = moult_unicode_find(code_point)->flags;
    bool space = flags & MOULT_UNICODE_SPACE;
    unsigned size = moult_utf8_put(code_point, normal->bytes + normal->size);

    normal->kinds[normal->size] = space                                 ? MOULT_KIND_SPACE
                                  : flags & MOULT_UNICODE_PUNCTUATION ? MOULT_KIND_PUNCTUATION
                                                                      : MOULT_KIND_CHARACTER;
    for (unsigned n = 1; n < size; n++)
        normal->kinds[normal->size + n] = space ? MOULT_KIND_SPACE : MOULT_KIND_FOLLOWING;
    for (unsigned n = 0; n < size && normal->tracked; n++)
        normal->origins[normal->size + n] = normal->origin;
    normal->size += size;
}

/* What strip_accents leaves of a code point that decomposes. */
static uint32_t find_left(uint32_t code_point) {
    uint32_t low = 0, high = moult_unicode_left_count - 1;

    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (moult_unicode_left[middle][0] <= code_point)
            low = middle;
        else
            high = middle - 1;
    }
    return moult_unicode_left[low][1];
}
