/* Evaluates a filter over the text of a JSON object, without building anything: for each
 * condition the text is read from its beginning until the condition is decided.
 *
 * The text was checked when it was stored, so what is read here need not be strict, but it must
 * never leave the text, whatever a damaged file holds: each step looks at `end` first, or at the
 * NUL behind it.
 *
 * **Paths.** At an object, a member leads on when its key is a beginning of the path that ends
 * at a dot or at the path's end: of "a.b.c" these are "a", "a.b" and "a.b.c", so keys with dots
 * are found as well. A list leads on through those of its elements that are objects, and through
 * the element that the path numbers. Where the path ends, a value that is a list stands for its
 * elements, too. Each step but one (from a list to an object in it, which needs a key next)
 * takes a part of the path, so the recursion is no deeper than twice that. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/utf8.h"
#include "store/filter_parts.h"

struct seeking {
    const struct moult_filter *term;
    const char *at, *end;
    bool exists;               /* Something lies at the path. */
    bool hit;                  /* The term is true; nothing more need be read. */
    bool broken;               /* This is no JSON. */
};

/* A scalar as it stands in the text. */
struct scalar {
    enum moult_value_type type;
    bool boolean;
    struct moult_number number;
    const char *bytes;         /* Between the quotes of a string. */
    size_t size;
    bool escaped;              /* There is a backslash in it. */
};

/* ---- Reading. */

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The character behind the white space; NUL at the end. */
static char peek(struct seeking *seeking) {
    while (seeking->at < seeking->end && is_space(*seeking->at))
        seeking->at++;
    return seeking->at < seeking->end ? *seeking->at : '\0';
}

static bool take(struct seeking *seeking, char c) {
    if (peek(seeking) != c || c == '\0')
        return false;
    seeking->at++;
    return true;
}

static bool read_string(struct seeking *seeking, struct scalar *string) {
    if (!take(seeking, '"'))
        return false;
    *string = (struct scalar){.type = MOULT_VALUE_STRING, .bytes = seeking->at};
    while (seeking->at < seeking->end && *seeking->at != '"') {
        if (*seeking->at == '\\') {
            string->escaped = true;
            seeking->at++;
        }
        if (seeking->at < seeking->end)
            seeking->at++;
    }
    string->size = (size_t)(seeking->at - string->bytes);
    return take(seeking, '"');
}

/* The rest of what is neither a string, a list nor an object. */
static size_t word_size(const struct seeking *seeking) {
    const char *at = seeking->at;
    while (at < seeking->end && *at != ',' && *at != ']' && *at != '}' && !is_space(*at))
        at++;
    return (size_t)(at - seeking->at);
}

static bool skip_value(struct seeking *seeking) {
    struct scalar ignored;
    unsigned depth = 0;
    char first = peek(seeking);
    if (first == '"')
        return read_string(seeking, &ignored);
    if (first != '{' && first != '[') {
        size_t size = word_size(seeking);
        seeking->at += size;
        return size > 0;
    }
    do {
        char c = peek(seeking);
        if (c == '"') {
            if (!read_string(seeking, &ignored))
                return false;
            continue;
        }
        depth += c == '{' || c == '[';
        depth -= c == '}' || c == ']';
        if (c == '\0')
            return false;
        seeking->at++;
    } while (depth > 0);
    return true;
}

static void read_number(const char *bytes, size_t size, struct moult_number *number) {
    size_t at = bytes[0] == '-';
    uint64_t whole = 0;
    bool fits = size > at && size - at <= 18;
    for (size_t i = at; fits && i < size; i++) {
        fits = bytes[i] >= '0' && bytes[i] <= '9';
        whole = whole * 10 + (uint64_t)(bytes[i] - '0');
    }
    *number = (struct moult_number){.is_whole = fits};
    if (fits) {
        number->whole = at > 0 ? -(int64_t)whole : (int64_t)whole;
        return;
    }
    /* 19 digits may be a whole number, or one too many. */
    char *end;
    errno = 0;
    long long large = strtoll(bytes, &end, 10);
    number->is_whole = errno == 0 && end == bytes + size;
    number->whole = number->is_whole ? large : 0;
    number->real = number->is_whole ? 0 : strtod(bytes, NULL);
}

/* At a value that is neither a list nor an object. */
static bool read_scalar(struct seeking *seeking, struct scalar *scalar) {
    char first = peek(seeking);
    if (first == '"')
        return read_string(seeking, scalar);
    const char *word = seeking->at;
    size_t size = word_size(seeking);
    seeking->at += size;
    *scalar = (struct scalar){.type = MOULT_VALUE_NULL};
    if (size == 4 && memcmp(word, "null", 4) == 0)
        return true;
    scalar->type = MOULT_VALUE_BOOLEAN;
    scalar->boolean = size == 4 && memcmp(word, "true", 4) == 0;
    if (scalar->boolean || (size == 5 && memcmp(word, "false", 5) == 0))
        return true;
    scalar->type = MOULT_VALUE_NUMBER;
    if (first != '-' && (first < '0' || first > '9'))
        return false;
    read_number(word, size, &scalar->number);
    return true;
}

/* ---- Strings with escapes, decoded piece by piece. */

static unsigned read_hex(const char *at, const char *end) {
    unsigned value = 0;
    if (end - at < 4)
        return 0xFFFD;
    for (unsigned i = 0; i < 4; i++) {
        char c = at[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return 0xFFFD;
        value = value << 4 | digit;
    }
    return value;
}

/* Behind "\u". */
static unsigned decode_unicode(const char **at, const char *end, char bytes[4]) {
    uint32_t c = read_hex(*at, end);
    *at += end - *at < 4 ? end - *at : 4;
    if (c >= 0xD800 && c < 0xDC00 && end - *at >= 6 && (*at)[0] == '\\' && (*at)[1] == 'u') {
        uint32_t low = read_hex(*at + 2, end);
        if (low >= 0xDC00 && low < 0xE000) {
            c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
            *at += 6;
        }
    }
    if (c >= 0xD800 && c < 0xE000)
        c = 0xFFFD;
    return moult_utf8_put(c, bytes);
}

/* The bytes of the next character, 1 to 4, or of a part of it. */
static unsigned decode(const char **at, const char *end, char bytes[4]) {
    static const char names[] = "bfnrt", meanings[] = "\b\f\n\r\t";
    bytes[0] = *(*at)++;
    if (bytes[0] != '\\' || *at == end)
        return 1;
    char c = *(*at)++;
    if (c == 'u')
        return decode_unicode(at, end, bytes);
    const char *found = c != '\0' ? strchr(names, c) : NULL;
    bytes[0] = found != NULL ? meanings[found - names] : c;
    return 1;
}

/* How far the decoded string and the other are equal: -1 where they differ within, or else the
 * size of the decoded string. *order is that of the two, as memcmp has it. */
static long compare_escaped(const struct scalar *string, const char *other, size_t size,
                            int *order) {
    const char *at = string->bytes, *end = at + string->size;
    size_t done = 0;
    while (at < end) {
        char bytes[4];
        unsigned count = decode(&at, end, bytes);
        size_t common = size - done < count ? size - done : count;
        *order = memcmp(bytes, other + done, common);
        if (*order == 0 && common < count)
            *order = 1;
        if (*order != 0)
            return -1;
        done += count;
    }
    *order = done < size ? -1 : 0;
    return (long)done;
}

static int compare_strings(const struct scalar *string, const char *other, size_t size) {
    int order;
    if (string->escaped) {
        compare_escaped(string, other, size, &order);
        return order;
    }
    order = memcmp(string->bytes, other, string->size < size ? string->size : size);
    return order != 0 ? order : (string->size > size) - (string->size < size);
}

/* ---- Terms. */

static int compare(const struct scalar *scalar, const struct moult_value *value) {
    if (scalar->type != value->type)
        return (int)scalar->type - (int)value->type;
    if (scalar->type == MOULT_VALUE_NUMBER)
        return moult_number_compare(&scalar->number, &value->number);
    if (scalar->type == MOULT_VALUE_STRING)
        return compare_strings(scalar, value->bytes, value->size);
    return (int)scalar->boolean - (int)value->boolean;
}

static int compare_with(const void *scalar, const void *value) {
    return compare(scalar, value);
}

static bool is_true_of(const struct moult_filter *term, const struct scalar *scalar) {
    if (term->kind == MOULT_FILTER_IN)
        return bsearch(scalar, term->values, term->value_count, sizeof *term->values,
                       compare_with) != NULL;
    if (term->kind == MOULT_FILTER_EXISTS || scalar->type != term->values[0].type)
        return false;
    int order = compare(scalar, &term->values[0]);
    switch (term->kind) {
    case MOULT_FILTER_GREATER: return order > 0;
    case MOULT_FILTER_GREATER_EQUAL: return order >= 0;
    case MOULT_FILTER_LESS: return order < 0;
    case MOULT_FILTER_LESS_EQUAL: return order <= 0;
    default: return false;
    }
}

static bool test_scalar(struct seeking *seeking) {
    struct scalar scalar;
    if (!read_scalar(seeking, &scalar))
        return false;
    seeking->hit = is_true_of(seeking->term, &scalar);
    return true;
}

/* ---- Ways through the text. Each ends behind the value that it began at, or with a hit; false:
 * this is no JSON. */

static bool test_value(struct seeking *seeking) {
    seeking->exists = true;
    seeking->hit = seeking->term->kind == MOULT_FILTER_EXISTS;
    char first = peek(seeking);
    if (seeking->hit || first == '{')
        return skip_value(seeking);
    if (first != '[')
        return test_scalar(seeking);
    seeking->at++;
    if (take(seeking, ']'))
        return true;
    do {
        first = peek(seeking);
        bool read = first == '{' || first == '[' ? skip_value(seeking) : test_scalar(seeking);
        if (!read || seeking->hit)
            return read;
    } while (take(seeking, ','));
    return take(seeking, ']');
}

static bool walk(struct seeking *seeking, const char *path, size_t size);

/* The bytes of the path that the key takes, or -1 where it does not lead on. */
static long key_leads(const struct scalar *key, const char *path, size_t size) {
    int order;
    long taken = -1;
    if (key->escaped)
        taken = compare_escaped(key, path, size, &order);
    else if (key->size <= size && memcmp(key->bytes, path, key->size) == 0)
        taken = (long)key->size;
    return taken >= 0 && ((size_t)taken == size || path[taken] == '.') ? taken : -1;
}

static bool follow(struct seeking *seeking, const char *path, size_t size, long taken) {
    if (taken < 0)
        return skip_value(seeking);
    if ((size_t)taken == size)
        return test_value(seeking);
    return walk(seeking, path + taken + 1, size - (size_t)taken - 1);
}

static bool walk_object(struct seeking *seeking, const char *path, size_t size) {
    struct scalar key;
    if (!take(seeking, '{'))
        return false;
    if (take(seeking, '}'))
        return true;
    do {
        if (!read_string(seeking, &key) || !take(seeking, ':') ||
            !follow(seeking, path, size, key_leads(&key, path, size)))
            return false;
        if (seeking->hit)
            return true;
    } while (take(seeking, ','));
    return take(seeking, '}');
}

static bool walk_list(struct seeking *seeking, const char *path, size_t size) {
    char digits[24];
    unsigned index = 0;
    if (!take(seeking, '['))
        return false;
    if (take(seeking, ']'))
        return true;
    do {
        struct scalar key = {.type = MOULT_VALUE_STRING, .bytes = digits};
        key.size = (size_t)snprintf(digits, sizeof digits, "%u", index++);
        long taken = key_leads(&key, path, size);
        bool is_object = peek(seeking) == '{';
        if (!(taken < 0 && is_object ? walk_object(seeking, path, size)
                                     : follow(seeking, path, size, taken)))
            return false;
        if (seeking->hit)
            return true;
    } while (take(seeking, ','));
    return take(seeking, ']');
}

static bool walk(struct seeking *seeking, const char *path, size_t size) {
    switch (peek(seeking)) {
    case '{': return walk_object(seeking, path, size);
    case '[': return walk_list(seeking, path, size);
    default: return skip_value(seeking);
    }
}

/* ---- The whole. */

static bool has_null(const struct moult_filter *term) {
    return term->kind == MOULT_FILTER_IN && term->value_count > 0 &&
           term->values[0].type == MOULT_VALUE_NULL;
}

static bool term_matches(const struct moult_filter *term, const char *metadata, size_t size,
                         bool *broken) {
    struct seeking seeking = {.term = term, .at = metadata, .end = metadata + size};
    *broken |= !walk_object(&seeking, term->path, term->path_size);
    return seeking.hit || (!seeking.exists && has_null(term));
}

static bool matches(const struct moult_filter *filter, const char *metadata, size_t size,
                    bool *broken) {
    switch (filter->kind) {
    case MOULT_FILTER_ALL:
        for (unsigned i = 0; i < filter->child_count; i++)
            if (!matches(filter->children[i], metadata, size, broken))
                return false;
        return true;
    case MOULT_FILTER_ANY:
        for (unsigned i = 0; i < filter->child_count; i++)
            if (matches(filter->children[i], metadata, size, broken))
                return true;
        return false;
    case MOULT_FILTER_NOT:
        return !matches(filter->children[0], metadata, size, broken);
    default:
        return term_matches(filter, metadata, size, broken);
    }
}

bool moult_filter_matches(const struct moult_filter *filter, const char *metadata, size_t size) {
    bool broken = false;
    return matches(filter, metadata, size, &broken) && !broken;
}
