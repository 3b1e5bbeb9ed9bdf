#include "front/brought.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/npy.h"

#define LINE_BYTES_MAX (16 * MOULT_KIB)
#define NORM_LEAST 1e-6

/* The first half of a digest tells one text from others, too. */
struct entry {
    uint64_t key[2];
    uint32_t row;
};

struct moult_brought {
    struct moult_npy *npy;
    uint32_t C;
    struct entry *entries;    /* [count], by key. */
    uint64_t count;
};

static int compare_entries(const void *a, const void *b) {
    const struct entry *x = a, *y = b;
    if (x->key[0] != y->key[0])
        return x->key[0] < y->key[0] ? -1 : 1;
    return (x->key[1] > y->key[1]) - (x->key[1] < y->key[1]);
}

/* Lines. */

static int digit_of(char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_digest(const char *hex, unsigned char digest[MOULT_SHA256_BYTES]) {
    if (strlen(hex) != 2 * MOULT_SHA256_BYTES)
        return false;
    for (unsigned i = 0; i < MOULT_SHA256_BYTES; i++) {
        int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        digest[i] = (unsigned char)(high << 4 | low);
    }
    return true;
}

int moult_brought_read_line(const char *line, size_t size,
                            unsigned char digest[MOULT_SHA256_BYTES], struct moult_error *error) {
    json_t *value = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const char *hex = json_string_value(json_object_get(value, "text_sha256"));
    bool good = hex != NULL && read_digest(hex, digest);
    json_decref(value);
    return good ? 0
                : moult_fail(error, MOULT_ERROR_INVALID,
                             "It is no object with a \"text_sha256\" of 64 hex digits.");
}

static int read_lines(struct moult_brought *brought, FILE *file, const char *path,
                      struct moult_error *error) {
    char *line = NULL;
    size_t capacity = 0;
    ssize_t got;
    int result = 0;
    uint64_t rows = moult_npy_head_of(brought->npy)->rows;
    while (result == 0 && (got = getline(&line, &capacity, file)) >= 0) {
        unsigned char digest[MOULT_SHA256_BYTES];
        size_t size = (size_t)got;
        if (brought->count == rows)
            result = moult_fail(error, MOULT_ERROR_INVALID,
                                "%s has more lines than there are vectors, %" PRIu64 ".", path,
                                rows);
        else if (size > LINE_BYTES_MAX ||
                 moult_brought_read_line(line, size, digest, error) != 0)
            result = moult_fail(error, MOULT_ERROR_INVALID,
                                "Line %" PRIu64 " of %s is no object with a \"text_sha256\" of 64 "
                                "hex digits.", brought->count + 1, path);
        if (result != 0)
            break;
        struct entry *entry = &brought->entries[brought->count];
        memcpy(entry->key, digest, sizeof entry->key);
        entry->row = (uint32_t)brought->count++;
    }
    free(line);
    if (result == 0 && ferror(file))
        return moult_fail_errno(error, "%s cannot be read", path);
    if (result == 0 && brought->count < rows)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s has %" PRIu64 " lines, and there are %" PRIu64 " vectors.", path,
                          brought->count, rows);
    return result;
}

static int check_head(const struct moult_brought *brought, const char *path,
                      struct moult_error *error) {
    const struct moult_npy_head *head = moult_npy_head_of(brought->npy);
    if (head->C != brought->C)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s has vectors of %" PRIu32 " dimensions, and the model makes %" PRIu32
                          ".", path, head->C, brought->C);
    if (head->rows > MOULT_BROUGHT_VECTORS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s has more than %d vectors.", path,
                          MOULT_BROUGHT_VECTORS_MAX);
    return 0;
}

static int read_all(struct moult_brought *brought, const char *vectors, const char *documents,
                    struct moult_error *error) {
    FILE *file = fopen(documents, "re");
    if (file == NULL)
        return moult_fail_errno(error, "%s cannot be opened", documents);
    int result = -1;
    brought->npy = moult_npy_open(vectors, error);
    if (brought->npy != NULL)
        result = check_head(brought, vectors, error);
    if (result == 0) {
        brought->entries = moult_allocate(moult_npy_head_of(brought->npy)->rows + 1,
                                          sizeof *brought->entries);
        result = read_lines(brought, file, documents, error);
    }
    fclose(file);
    if (result == 0)
        qsort(brought->entries, brought->count, sizeof *brought->entries, compare_entries);
    return result;
}

struct moult_brought *moult_brought_open(const char *folder, uint32_t C,
                                         struct moult_error *error) {
    char *vectors = moult_format("%s/document_vectors/vectors.npy", folder);
    char *documents = moult_format("%s/document_vectors/documents.jsonl", folder);
    struct moult_brought *brought = moult_allocate(1, sizeof *brought);
    struct stat status;
    int result;
    brought->C = C;
    if (stat(vectors, &status) != 0 && errno == ENOENT)
        result = moult_fail(error, MOULT_ERROR_MISSING, "The model brings no vectors.");
    else
        result = read_all(brought, vectors, documents, error);
    free(vectors);
    free(documents);
    if (result == 0)
        return brought;
    moult_brought_close(brought);
    return NULL;
}

void moult_brought_close(struct moult_brought *brought) {
    if (brought == NULL)
        return;
    moult_npy_close(brought->npy);
    free(brought->entries);
    free(brought);
}

uint64_t moult_brought_count(const struct moult_brought *brought) {
    return brought->count;
}

/* Finding. */

static bool make_unit(float *vector, uint32_t C) {
    double sum = 0;
    for (uint32_t c = 0; c < C; c++)
        sum += (double)vector[c] * (double)vector[c];
    double norm = sqrt(sum);
    if (!(norm >= NORM_LEAST))
        return false;
    for (uint32_t c = 0; c < C; c++)
        vector[c] = (float)((double)vector[c] / norm);
    return true;
}

bool moult_brought_find(struct moult_brought *brought, const char *text, size_t size,
                        float *vector) {
    char hex[MOULT_SHA256_HEX];
    unsigned char digest[MOULT_SHA256_BYTES];
    struct entry key;
    moult_sha256_of(text, size, hex);
    MOULT_REQUIRE(read_digest(hex, digest));
    memcpy(key.key, digest, sizeof key.key);
    const struct entry *found =
        bsearch(&key, brought->entries, brought->count, sizeof key, compare_entries);
    if (found == NULL)
        return false;
    /* One that cannot be read, or is no vector, is one that is not there: its text is embedded. */
    return moult_npy_row(brought->npy, found->row, vector, NULL) == 0 &&
           make_unit(vector, brought->C);
}
