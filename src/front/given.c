#include "front/given.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "base/limits.h"
#include "base/memory.h"
#include "store/store.h"

#define FINGERPRINT_DIGITS_LEAST 16u   /* As x-moult-fingerprint has them. */
#define NORM_LEAST 1e-6

/* Reading. */

static int read_fingerprint(struct moult_given *given, const json_t *body,
                            struct moult_refusal *refusal) {
    const char *text = json_string_value(json_object_get(body, "fingerprint"));
    size_t size = text != NULL ? strlen(text) : 0;
    if (size < FINGERPRINT_DIGITS_LEAST || size >= sizeof given->fingerprint ||
        strspn(text, "0123456789abcdef") != size)
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "fingerprint",
                            "\"fingerprint\" must say which model made the vectors: 16 to 64 hex "
                            "digits.");
    memcpy(given->fingerprint, text, size + 1);
    return 0;
}

static int check_keys(const json_t *body, struct moult_refusal *refusal) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value)
        if (strcmp(key, "documents") != 0 && strcmp(key, "fingerprint") != 0)
            return moult_refuse(refusal, MOULT_HTTP_INVALID, NULL,
                                "There is no \"%.64s\" beside \"documents\".", key);
    if (!json_is_array(json_object_get(body, "documents")))
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "documents",
                            "\"documents\" must be a list of them.");
    return 0;
}

/* Numbers, or the base64 of their bytes as f32. Returns how many there are, at most the limit, or
 * 0. */
static uint32_t read_numbers(const json_t *value, float numbers[MOULT_DIMENSIONS_MAX]) {
    size_t count = json_array_size(value);
    if (json_is_string(value)) {
        long size = moult_base64_read(numbers, MOULT_DIMENSIONS_MAX * sizeof *numbers,
                                      json_string_value(value), json_string_length(value));
        return size > 0 && (size_t)size % sizeof *numbers == 0
                   ? (uint32_t)((size_t)size / sizeof *numbers)
                   : 0;
    }
    if (!json_is_array(value) || count > MOULT_DIMENSIONS_MAX)
        return 0;
    for (size_t c = 0; c < count; c++) {
        const json_t *number = json_array_get(value, c);
        if (!json_is_number(number))
            return 0;
        numbers[c] = (float)json_number_value(number);
    }
    return (uint32_t)count;
}

static bool make_unit(float *vector, uint32_t C) {
    double sum = 0;
    for (uint32_t c = 0; c < C; c++)
        sum += (double)vector[c] * (double)vector[c];
    double norm = sqrt(sum);
    if (!(norm >= NORM_LEAST && norm < INFINITY))
        return false;
    for (uint32_t c = 0; c < C; c++)
        vector[c] = (float)((double)vector[c] / norm);
    return true;
}

static int read_vector(struct moult_given *given, const json_t *value, uint32_t document,
                       size_t documents, float *numbers, struct moult_refusal *refusal) {
    uint32_t C = read_numbers(value, numbers);
    if (C == 0 || !make_unit(numbers, C))
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "vector",
                            "documents[%u]: \"vector\" must be a list of at most %d numbers that "
                            "are not all 0, or the base64 of them as f32.", document,
                            MOULT_DIMENSIONS_MAX);
    if (given->numbers == NULL) {
        given->C = C;
        given->numbers = moult_allocate(documents * C, sizeof *given->numbers);
        given->vectors = moult_allocate(documents, sizeof *given->vectors);
    }
    if (C != given->C)
        return moult_refuse(refusal, MOULT_HTTP_INVALID, "vector",
                            "documents[%u]: its vector has %u numbers, and those before it have "
                            "%u.", document, C, given->C);
    float *kept = given->numbers + (size_t)given->count * C;
    memcpy(kept, numbers, C * sizeof *kept);
    given->vectors[given->count++] =
        (struct moult_given_vector){.document = document, .numbers = kept};
    return 0;
}

int moult_given_read(struct moult_given *given, const json_t *body, const json_t **documents,
                     struct moult_refusal *refusal) {
    const json_t *list = json_object_get(body, "documents");
    size_t count = json_array_size(list);
    int result = 0;
    if (list == NULL)
        return 0;
    if (check_keys(body, refusal) != 0 || read_fingerprint(given, body, refusal) != 0)
        return -1;
    *documents = list;
    if (count > MOULT_DOCUMENTS_PER_REQUEST_MAX)
        return 0;   /* Whoever reads them refuses that. */
    float *numbers = moult_allocate(MOULT_DIMENSIONS_MAX, sizeof *numbers);
    for (size_t i = 0; i < count && result == 0; i++) {
        const json_t *value = json_object_get(json_array_get(list, i), "vector");
        if (value != NULL && !json_is_null(value))
            result = read_vector(given, value, (uint32_t)i, count, numbers, refusal);
    }
    free(numbers);
    return result;
}

void moult_given_release(struct moult_given *given) {
    struct moult_given **at = given->list;
    while (at != NULL && *at != given)
        at = &(*at)->next;
    if (at != NULL)
        *at = given->next;
    free(given->vectors);
    free(given->numbers);
    *given = (struct moult_given){.C = 0};
}

/* Giving. */

bool moult_given_is_of(const struct moult_given *given, const char *fingerprint) {
    return given->fingerprint[0] != '\0' &&
           strncmp(given->fingerprint, fingerprint, strlen(given->fingerprint)) == 0;
}

static int by_seq(const void *a, const void *b) {
    const struct moult_given_vector *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

void moult_given_offer(struct moult_given *given, struct moult_given **list,
                       const struct moult_put *puts) {
    if (given->count == 0)
        return;
    for (uint32_t i = 0; i < given->count; i++)
        given->vectors[i].seq = puts[given->vectors[i].document].seq;
    qsort(given->vectors, given->count, sizeof given->vectors[0], by_seq);
    given->next = *list;
    given->list = list;
    *list = given;
}

bool moult_given_take(struct moult_given *list, const char *fingerprint, uint64_t seq, uint32_t C,
                      float *vector) {
    const struct moult_given_vector key = {.seq = seq};
    for (struct moult_given *given = list; given != NULL; given = given->next) {
        if (given->C != C || !moult_given_is_of(given, fingerprint))
            continue;
        const struct moult_given_vector *found =
            bsearch(&key, given->vectors, given->count, sizeof key, by_seq);
        if (found == NULL)
            continue;
        memcpy(vector, found->numbers, C * sizeof *vector);
        given->taken++;
        return true;
    }
    return false;
}
