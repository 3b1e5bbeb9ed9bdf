/* Documents that are imported with one request, and what of them the server has taken. A parcel
 * that is refused is sent in halves, until the document is found that it is refused for. */
#ifndef MOULT_CLI_PARCEL_H
#define MOULT_CLI_PARCEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "cli/records.h"

#define MOULT_PARCEL_DOCUMENTS_MAX 2048u   /* MOULT_TEXTS_PER_REQUEST_MAX. */

/* A place in the file, between two records, and what lies before it. */
struct moult_import_place {
    uint64_t offset, line;
    uint64_t records, skipped;         /* All, and those among them that were left out. */
};

struct moult_parcel_item {
    size_t end;                        /* In the JSON. */
    uint64_t line;
    struct moult_import_place after;
};

struct moult_parcel {
    struct moult_buffer json;          /* Objects with commas between them. */
    uint32_t count;
    struct moult_import_place begin;
    struct moult_import_place taken;   /* Up to here all of it is settled. */
    uint32_t refused;                  /* Documents, counted by the owner. */
    /* What is to be sent, the next on top: [from, to) of the items. */
    struct { uint32_t from, to; } ranges[16];
    unsigned range_count;
    struct moult_parcel_item items[MOULT_PARCEL_DOCUMENTS_MAX];
    uint64_t ids[4 * MOULT_PARCEL_DOCUMENTS_MAX];   /* A table of hashes; 0: free. */
};

/* Empty, behind that place. */
void moult_parcel_begin(struct moult_parcel *parcel, const struct moult_import_place *begin);
void moult_parcel_release(struct moult_parcel *parcel);

/* Two documents of one id are not sent together: the later one is to win. May say yes of an id
 * that it has not. */
bool moult_parcel_has(const struct moult_parcel *parcel, const char *id, size_t id_size);
/* `vector` [C], or NULL. */
void moult_parcel_add(struct moult_parcel *parcel, const struct moult_record *record,
                       const struct moult_import_place *after, const float *vector, uint32_t C);
/* A record that is left out: what lies behind the last document reaches to there. */
void moult_parcel_skip(struct moult_parcel *parcel, const struct moult_import_place *after);

/* The next body to send, malloc'ed; NULL: all of it is settled. With `fingerprint` it is an object
 * that names the model of the vectors. */
char *moult_parcel_body(const struct moult_parcel *parcel, const char *fingerprint,
                         size_t *size);
/* It was taken; returns how many documents that is. */
uint32_t moult_parcel_took(struct moult_parcel *parcel);
/* It was refused, and will be sent in halves; NULL: here is the one it was refused for, which
 * is settled, too, and returned. */
const struct moult_parcel_item *moult_parcel_refused(struct moult_parcel *parcel);

#endif
