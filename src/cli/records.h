/* The documents of a file that is imported, one after the other: JSONL or CSV, of any length, from
 * a file or a pipe. What is wrong with one of them is told and does not end the reading. */
#ifndef MOULT_CLI_RECORDS_H
#define MOULT_CLI_RECORDS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define MOULT_RECORD_ID_BYTES 33   /* Of an id that is made here: 32 hex digits, and a NUL. */

enum moult_record_format { MOULT_RECORDS_JSONL, MOULT_RECORDS_CSV };

struct moult_record_options {
    enum moult_record_format format;
    char delimiter;           /* CSV. Neither a quote nor a line end. */
    bool numbers;             /* CSV: what is written as a JSON number becomes one. */
    bool rest;                /* JSONL: other keys become metadata. */
    const char *text_field;
    const char *id_field;
};

/* What is on the line `line`, counted from 1, up to byte `end` of the file, where the
 * line `line_end` begins. */
struct moult_record {
    uint64_t line, line_end;
    uint64_t end;
    /* Of a good one, until the next is asked for; owned by the reader. */
    const char *id;
    size_t id_size;
    const char *text;
    size_t text_size;
    json_t *metadata;         /* An object or NULL. */
    const char *ignored;      /* A key that was not taken, or NULL. */
};

enum moult_record_found {
    MOULT_RECORD_FAILED = -1, /* The file cannot be read; the error says why. */
    MOULT_RECORD_NONE,        /* It has ended. */
    MOULT_RECORD_GOOD,
    MOULT_RECORD_BAD,         /* The error says why, and not where. */
    MOULT_RECORD_LATER        /* Without `wait`: a pipe has no more just now. */
};

struct moult_records;

/* `path` NULL: standard input. Reads the header of a CSV file. NULL with the error. */
struct moult_records *moult_records_open(const char *path,
                                         const struct moult_record_options *options,
                                         struct moult_error *error);
void moult_records_close(struct moult_records *records);

enum moult_record_found moult_records_next(struct moult_records *records, bool wait,
                                           struct moult_record *record, struct moult_error *error);

/* Goes on at byte `offset`, where line `line` begins. Of a regular file only. */
int moult_records_seek(struct moult_records *records, uint64_t offset, uint64_t line,
                       struct moult_error *error);
/* Whether the file is a regular one, and how many bytes it has. */
bool moult_records_size(const struct moult_records *records, uint64_t *size);
int moult_records_fd(const struct moult_records *records);
/* What the file is called in messages. */
const char *moult_records_name(const struct moult_records *records);

#endif
