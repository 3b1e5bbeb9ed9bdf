#include "cli/csv.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Scan and cut agree on where a record ends because both only look for a quote where a field
 * begins, and for its end from there. What follows a closing quote up to the next delimiter is
 * wrong, but no quote is looked for in it. */

size_t moult_csv_scan(struct moult_csv_scan *scan, char delimiter, const char *bytes, size_t size,
                      bool *ended) {
    *ended = false;
    for (size_t i = 0; i < size; i++) {
        char c = bytes[i];
        if (scan->state == MOULT_CSV_QUOTED) {
            const char *quote = memchr(bytes + i, '"', size - i);
            if (quote == NULL)
                return size;
            i = (size_t)(quote - bytes);
            scan->state = MOULT_CSV_QUOTE;
        } else if (c == '\n') {
            scan->state = MOULT_CSV_START;
            *ended = true;
            return i + 1;
        } else if (c == delimiter) {
            scan->state = MOULT_CSV_START;
        } else if (c == '"' && scan->state != MOULT_CSV_BARE) {
            scan->state = MOULT_CSV_QUOTED;
        } else {
            scan->state = MOULT_CSV_BARE;
        }
    }
    return size;
}

static int add_field(struct moult_csv_fields *fields, char *bytes, size_t size,
                     struct moult_error *error) {
    if (fields->count == MOULT_CSV_FIELDS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "It has more than %u fields.",
                          MOULT_CSV_FIELDS_MAX);
    if (fields->count == fields->capacity) {
        fields->capacity = fields->capacity > 0 ? 2 * fields->capacity : 16;
        fields->items = moult_reallocate(fields->items, fields->capacity, sizeof *fields->items);
    }
    fields->items[fields->count++] = (struct moult_csv_field){bytes, size};
    return 0;
}

/* The field whose opening quote was at `from` - 1. Returns where it ends, behind its closing
 * quote, or NULL with the error. */
static char *cut_quoted(char *from, char *end, char delimiter, struct moult_csv_fields *fields,
                        struct moult_error *error) {
    char *out = from, *at = from;
    for (;;) {
        char *quote = memchr(at, '"', (size_t)(end - at));
        if (quote == NULL) {
            moult_fail(error, MOULT_ERROR_INVALID, "A quote is opened in it and never closed.");
            return NULL;
        }
        memmove(out, at, (size_t)(quote - at));
        out += quote - at;
        at = quote + 1;
        if (at == end || *at != '"')
            break;
        *out++ = '"';
        at++;
    }
    if (at < end && *at != delimiter) {
        moult_fail(error, MOULT_ERROR_INVALID,
                   "Behind the quote that closes field %zu, something follows.",
                   fields->count + 1);
        return NULL;
    }
    return add_field(fields, from, (size_t)(out - from), error) == 0 ? at : NULL;
}

int moult_csv_cut(char *record, size_t size, char delimiter, struct moult_csv_fields *fields,
                  struct moult_error *error) {
    char *at = record, *end = record + size;
    fields->count = 0;
    for (;;) {
        if (at < end && *at == '"') {
            at = cut_quoted(at + 1, end, delimiter, fields, error);
            if (at == NULL)
                return -1;
        } else {
            char *stop = memchr(at, delimiter, (size_t)(end - at));
            stop = stop != NULL ? stop : end;
            if (add_field(fields, at, (size_t)(stop - at), error) != 0)
                return -1;
            at = stop;
        }
        if (at == end)
            return 0;
        at++;
    }
}

void moult_csv_fields_release(struct moult_csv_fields *fields) {
    free(fields->items);
    *fields = (struct moult_csv_fields){0};
}
