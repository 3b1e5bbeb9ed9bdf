/* CSV as RFC 4180 has it: fields between delimiters, records between line ends, quotes around a
 * field that holds either, doubled quotes within them. Line ends are LF or CR LF. A quote within a
 * field that does not begin with one is a letter like others. */
#ifndef MOULT_CLI_CSV_H
#define MOULT_CLI_CSV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define MOULT_CSV_FIELDS_MAX 4096u

/* Where in a record the scan stands; all zero at its beginning. */
struct moult_csv_scan {
    enum { MOULT_CSV_START, MOULT_CSV_BARE, MOULT_CSV_QUOTED, MOULT_CSV_QUOTE } state;
};

/* Goes over the next bytes of a record. Returns how many of them belong to it, its line end
 * included, and sets *ended where that has come; the scan then stands at the next one. */
size_t moult_csv_scan(struct moult_csv_scan *scan, char delimiter, const char *bytes, size_t size,
                      bool *ended);

struct moult_csv_field {
    char *bytes;    /* Within the record; no NUL behind them. */
    size_t size;
};

struct moult_csv_fields {
    struct moult_csv_field *items;   /* [count]; moult_csv_fields_release(). */
    size_t count, capacity;
};

/* Cuts a record without its line end into fields, and takes the quotes away where they stand. */
int moult_csv_cut(char *record, size_t size, char delimiter, struct moult_csv_fields *fields,
                  struct moult_error *error);
void moult_csv_fields_release(struct moult_csv_fields *fields);

#endif
