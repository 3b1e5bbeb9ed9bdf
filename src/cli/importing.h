/* The import itself: records in, parcels to the server, some under way at once so that it is
 * never without work, and what it has acknowledged on record. */
#ifndef MOULT_CLI_IMPORTING_H
#define MOULT_CLI_IMPORTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/client.h"
#include "cli/parcel.h"
#include "cli/records.h"

#define MOULT_IMPORT_BAD_SHOWN 10u

struct moult_import_options {
    struct moult_client client;
    const char *path;              /* Of requests: "/documents" or "/collections/C/documents". */
    const char *file;              /* NULL: standard input. */
    struct moult_record_options reading;
    uint32_t batch;                /* Documents of a parcel, and bytes of their JSON. */
    size_t batch_bytes;
    uint32_t retry_s;
    bool skip_bad;
    const char *resume_path;       /* NULL: it cannot be resumed. */
    const char *task;              /* resume.h */
    /* Where vectors exist already: fills `vector` [C] with that of a record, counted from 0. */
    int (*vector)(void *context, uint64_t record, float *vector, struct moult_error *error);
    void *vector_context;
    uint32_t C;
    const char *fingerprint;
};

struct moult_import_bad {
    uint64_t line;
    char *why;
};

struct moult_import_result {
    struct moult_import_place resumed;   /* Where it began: all zero at the beginning. */
    struct moult_import_place reached;   /* All before it is settled. */
    uint64_t vectors;                    /* Of how many documents they were taken over. */
    double seconds;
    bool interrupted;
    uint64_t bad_line;                   /* Why it failed: a record there; 0: another reason. */
    char *ignored;                       /* A key whose values were not taken, or NULL. */
    struct moult_import_bad bad[MOULT_IMPORT_BAD_SHOWN];   /* The first that were left out. */
    unsigned bad_count;
};

/* 0, or -1 with the error; the result is filled either way. Ends early, with the error, when
 * *stop is not 0. */
int moult_import(const struct moult_import_options *options, const volatile int *stop,
                 struct moult_import_result *result, struct moult_error *error);
void moult_import_result_release(struct moult_import_result *result);

#endif
