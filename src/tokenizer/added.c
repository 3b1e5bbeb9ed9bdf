#include "tokenizer/added.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer/unicode.h"

static void fill_set(struct moult_added_set *set, const struct moult_trie_entry *entries,
                     uint32_t count);

const struct moult_added_token *moult_added_set_build(struct moult_added_set *set,
                                                      const struct moult_added_token *tokens,
                                                      uint32_t count, bool normalized) {
    struct moult_trie_entry *entries = moult_allocate(count, sizeof *entries);
    const struct moult_added_token *twin = NULL;
    uint32_t used = 0;

    *set = (struct moult_added_set){.tokens = tokens};
    for (uint32_t n = 0; n < count; n++)
        if (tokens[n].normalized == normalized)
            entries[used++] =
                (struct moult_trie_entry){tokens[n].pattern, tokens[n].pattern_size, n};
    qsort(entries, used, sizeof *entries, moult_trie_entry_compare);
    for (uint32_t n = 1; n < used && twin == NULL; n++)
        if (moult_trie_entry_compare(&entries[n - 1], &entries[n]) == 0)
            twin = &tokens[entries[n].value];
    if (twin == NULL && used > 0)
        fill_set(set, entries, used);
    free(entries);
    return twin;
}

static void fill_set(struct moult_added_set *set, const struct moult_trie_entry *entries,
                     uint32_t count) {
    moult_trie_build(&set->trie, entries, count);
    set->only_byte = (unsigned char)entries[0].bytes[0];
    set->has_only_byte = true;
    for (uint32_t n = 0; n < count; n++) {
        unsigned char first = (unsigned char)entries[n].bytes[0];
        set->begins[first] = true;
        set->has_only_byte &= first == set->only_byte;
        set->any_lstrip |= set->tokens[entries[n].value].lstrip;
        if (set->pattern_size_max < entries[n].size)
            set->pattern_size_max = entries[n].size;
    }
}

void moult_added_set_release(struct moult_added_set *set) {
    moult_trie_release(&set->trie);
    *set = (struct moult_added_set){0};
}

/* The next place at which a token may begin, or `limit`. */
static size_t next_beginning(const struct moult_added_set *set, const char *text, size_t from,
                             size_t limit) {
    if (set->has_only_byte) {
        const char *found = from < limit ? memchr(text + from, set->only_byte, limit - from) : NULL;
        return found == NULL ? limit : (size_t)(found - text);
    }
    while (from < limit && !set->begins[(unsigned char)text[from]])
        from++;
    return from;
}

bool moult_added_set_find(const struct moult_added_set *set, const char *text, size_t size,
                          size_t from, size_t limit, struct moult_added_match *match) {
    if (set->trie.nodes == NULL)
        return false;
    for (size_t at = from; (at = next_beginning(set, text, at, limit)) < limit; at++) {
        uint32_t value;
        size_t longest =
            moult_trie_longest(&set->trie, MOULT_TRIE_ROOT, text + at, size - at, &value);
        if (longest > 0) {
            *match = (struct moult_added_match){&set->tokens[value], at, at + longest};
            return true;
        }
    }
    return false;
}

/* The code point that ends at `at` > 0, and where it starts. */
static uint32_t code_point_before(const char *text, size_t at, size_t *start) {
    do
        at--;
    while (((unsigned char)text[at] & 0xC0) == 0x80);
    *start = at;
    const char *place = text + at;
    return moult_utf8_next(&place);
}

bool moult_added_match_stands(const struct moult_added_match *match, const char *text,
                              size_t size) {
    size_t start;

    if (!match->token->single_word)
        return true;
    if (match->start > 0) {
        uint32_t before = code_point_before(text, match->start, &start);
        if (moult_unicode_find(before)->flags & MOULT_UNICODE_WORD)
            return false;
    }
    if (match->stop < size) {
        const char *at = text + match->stop;
        if (moult_unicode_find(moult_utf8_next(&at))->flags & MOULT_UNICODE_WORD)
            return false;
    }
    return true;
}

size_t moult_space_end(const char *text, size_t size, size_t at) {
    while (at < size) {
        const char *place = text + at;
        if (!(moult_unicode_find(moult_utf8_next(&place))->flags & MOULT_UNICODE_SPACE))
            break;
        at = (size_t)(place - text);
    }
    return at;
}

size_t moult_space_start(const char *text, size_t from, size_t at) {
    while (at > from) {
        size_t start;
        uint32_t code_point = code_point_before(text, at, &start);
        if (!(moult_unicode_find(code_point)->flags & MOULT_UNICODE_SPACE))
            break;
        at = start;
    }
    return at;
}
