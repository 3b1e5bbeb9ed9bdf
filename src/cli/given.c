#include "cli/given.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/buffer.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/npy.h"
#include "cli/exchange.h"
#include "cli/progress.h"

#define ROWS_TRIED 256u
#define COSINE_LEAST 0.999
#define TEXTS_AT_ONCE 32u
#define TEXTS_BYTES_MAX (256 * MOULT_KIB)   /* Beyond it, fewer at once. */
#define BODY_BYTES_MAX (8 * MOULT_BODY_BYTES_MAX)

/* A row that is tried, and the text of its document. */
struct sample {
    uint64_t row, line;
    char *text;               /* NULL: the record is wrong, and is not imported. */
    size_t size;
    double cosine;
};

struct moult_given {
    struct moult_npy *npy;
    uint32_t C;
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    char fingerprint[65];
    struct sample samples[ROWS_TRIED];
    unsigned count;
    float *vector;            /* [C] */
    struct moult_exchange *exchange;
    const volatile int *stop;
};

/* The rows that are tried. */

static uint64_t random_below(uint64_t limit) {
    uint64_t number = 0;
    MOULT_REQUIRE(getrandom(&number, sizeof number, 0) == (ssize_t)sizeof number);
    return number % limit;
}

static int compare_rows(const void *a, const void *b) {
    const struct sample *x = a, *y = b;
    return (x->row > y->row) - (x->row < y->row);
}

static bool is_chosen(const struct moult_given *given, uint64_t row) {
    for (unsigned i = 0; i < given->count; i++)
        if (given->samples[i].row == row)
            return true;
    return false;
}

/* Floyd's way to so many different numbers: of 0 … i one at random, and i itself where that
 * one is chosen already. */
static void choose_rows(struct moult_given *given, uint64_t rows) {
    uint64_t first = rows > ROWS_TRIED ? rows - ROWS_TRIED : 0;
    for (uint64_t i = first; i < rows; i++) {
        uint64_t row = first > 0 ? random_below(i + 1) : i;
        struct sample *sample = &given->samples[given->count];
        sample->row = is_chosen(given, row) ? i : row;
        given->count++;
    }
    qsort(given->samples, given->count, sizeof given->samples[0], compare_rows);
}

static void keep_text(struct moult_given *given, uint64_t row, const struct moult_record *record) {
    struct sample key = {.row = row};
    struct sample *sample =
        bsearch(&key, given->samples, given->count, sizeof key, compare_rows);
    if (sample == NULL)
        return;
    sample->line = record->line;
    sample->text = moult_copy_bytes(record->text, record->text_size);
    sample->size = record->text_size;
}

static void draw(struct moult_progress *bar, const struct moult_records *records,
                 const struct moult_record *record) {
    uint64_t size;
    bool known = moult_records_size(records, &size) && size > 0;
    moult_progress_draw(bar, known ? (double)record->end / (double)size : -1, "");
}

static int read_texts(struct moult_given *given, struct moult_records *records,
                      struct moult_error *error) {
    struct moult_progress bar;
    struct moult_record record;
    struct moult_error reason;
    enum moult_record_found found;
    uint64_t count = 0, rows = moult_npy_head_of(given->npy)->rows;
    moult_progress_begin(&bar, "reading  ");
    bar.shown = isatty(STDERR_FILENO) != 0;
    while ((found = moult_records_next(records, true, &record, &reason)) > MOULT_RECORD_NONE &&
           *given->stop == 0) {
        if (found == MOULT_RECORD_GOOD)
            keep_text(given, count, &record);
        count++;
        draw(&bar, records, &record);
    }
    moult_progress_end(&bar);
    if (*given->stop != 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Broken off.");
    if (found == MOULT_RECORD_FAILED)
        return moult_fail(error, reason.code, "%s", reason.message);
    if (count == rows)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "There are %" PRIu64 " vectors and %" PRIu64 " records in %s; row by row "
                      "they belong together, so there must be as many.",
                      rows, count, moult_records_name(records));
}

/* The server's model. */

static int ask(struct moult_given *given, const char *path, char *body, size_t size,
               struct moult_reply *reply, struct moult_error *error) {
    if (moult_exchange_ask(given->exchange, path, body, size, given->stop, reply) != 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Broken off.");
    if (reply->error.code == MOULT_OK)
        return 0;
    moult_fail(error, reply->error.code, "%s", reply->error.message);
    moult_reply_release(reply);
    return -1;
}

static const json_t *find_named(const json_t *list, const char *name) {
    size_t index;
    const json_t *item;
    json_array_foreach (list, index, item) {
        const char *its = json_string_value(json_object_get(item, "name"));
        if (its != NULL && strcmp(its, name) == 0)
            return item;
    }
    return NULL;
}

/* The slot that the collection belongs to, or will: "" is the first one. */
static int ask_collection(struct moult_given *given, const char *collection, const char *model,
                          struct moult_error *error) {
    struct moult_reply reply;
    if (ask(given, "/collections", NULL, 0, &reply, error) != 0)
        return -1;
    const json_t *found = find_named(json_object_get(reply.value, "collections"),
                                     collection != NULL ? collection : "default");
    const char *slot = json_string_value(json_object_get(found, "slot"));
    if (slot == NULL && model != NULL)
        slot = model;
    snprintf(given->slot, sizeof given->slot, "%s", slot != NULL ? slot : "");
    moult_reply_release(&reply);
    return 0;
}

static int ask_fingerprint(struct moult_given *given, struct moult_error *error) {
    struct moult_reply reply;
    if (ask(given, "/update_model", NULL, 0, &reply, error) != 0)
        return -1;
    const json_t *slots = json_object_get(reply.value, "slots");
    const json_t *slot =
        given->slot[0] != '\0' ? find_named(slots, given->slot) : json_array_get(slots, 0);
    const char *name = json_string_value(json_object_get(slot, "name"));
    const char *fingerprint = json_string_value(json_object_get(slot, "fingerprint"));
    bool known = name != NULL && fingerprint != NULL && strlen(fingerprint) == 64;
    if (known) {
        snprintf(given->slot, sizeof given->slot, "%s", name);
        snprintf(given->fingerprint, sizeof given->fingerprint, "%s", fingerprint);
    } else {
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "The server has no model yet that vectors could be compared with.");
    }
    moult_reply_release(&reply);
    return known ? 0 : -1;
}

/* Encoding again. */

static char *write_request(const struct moult_given *given, unsigned from, unsigned to,
                           size_t *size) {
    struct moult_buffer body;
    bool first = true;
    moult_buffer_init(&body, BODY_BYTES_MAX);
    moult_buffer_format(&body, "{\"model\":\"%s:document\",\"encoding_format\":\"base64\","
                        "\"input\":[", given->slot);
    for (unsigned i = from; i < to; i++) {
        if (given->samples[i].text == NULL)
            continue;
        moult_buffer_text(&body, first ? "" : ",");
        moult_buffer_json_string(&body, given->samples[i].text, given->samples[i].size);
        first = false;
    }
    moult_buffer_text(&body, "]}");
    MOULT_REQUIRE(!body.overflowed);
    return moult_buffer_take(&body, size);
}

static double cosine_of(const float *a, const float *b, uint32_t C) {
    double dot = 0, aa = 0, bb = 0;
    for (uint32_t c = 0; c < C; c++) {
        dot += (double)a[c] * (double)b[c];
        aa += (double)a[c] * (double)a[c];
        bb += (double)b[c] * (double)b[c];
    }
    return aa > 0 && bb > 0 ? dot / sqrt(aa * bb) : 0;
}

static int compare(struct moult_given *given, struct sample *sample, const json_t *datum,
                   struct moult_error *error) {
    const json_t *text = json_object_get(datum, "embedding");
    size_t bytes = MOULT_DIMENSIONS_MAX * sizeof(float);
    float *encoded = moult_allocate(MOULT_DIMENSIONS_MAX, sizeof *encoded);
    long got = json_is_string(text)
                   ? moult_base64_read(encoded, bytes, json_string_value(text),
                                       json_string_length(text))
                   : -1;
    int result = 0;
    if (got < 0)
        result = moult_fail(error, MOULT_ERROR_INVALID, "The server answered without vectors; is "
                            "it a moult?");
    else if ((size_t)got != given->C * sizeof *encoded)
        result = moult_fail(error, MOULT_ERROR_INVALID,
                            "The vectors have %" PRIu32 " dimensions, and %s's model makes %zu.",
                            given->C, given->slot, (size_t)got / sizeof *encoded);
    else if ((result = moult_npy_row(given->npy, sample->row, given->vector, error)) == 0)
        sample->cosine = cosine_of(encoded, given->vector, given->C);
    free(encoded);
    return result;
}

static int encode(struct moult_given *given, unsigned from, unsigned to,
                  struct moult_error *error) {
    size_t size, index = 0;
    struct moult_reply reply;
    char *body = write_request(given, from, to, &size);
    if (ask(given, "/v1/embeddings", body, size, &reply, error) != 0)
        return -1;
    const json_t *data = json_object_get(reply.value, "data");
    int result = 0;
    for (unsigned i = from; i < to && result == 0; i++)
        if (given->samples[i].text != NULL)
            result = compare(given, &given->samples[i], json_array_get(data, index++), error);
    moult_reply_release(&reply);
    return result;
}

static int encode_all(struct moult_given *given, struct moult_error *error) {
    unsigned from = 0, texts = 0;
    size_t bytes = 0;
    for (unsigned i = 0; i < given->count; i++) {
        texts += given->samples[i].text != NULL;
        bytes += given->samples[i].size;
        bool last = i + 1 == given->count;
        if (texts > 0 && (texts == TEXTS_AT_ONCE || bytes > TEXTS_BYTES_MAX || last)) {
            if (encode(given, from, i + 1, error) != 0)
                return -1;
            from = i + 1;
            texts = 0;
            bytes = 0;
        }
    }
    return 0;
}

static int judge(const struct moult_given *given, struct moult_given_figures *figures,
                 struct moult_error *error) {
    const struct sample *worst = NULL;
    unsigned wrong = 0;
    double sum = 0;
    figures->rows = 0;
    for (unsigned i = 0; i < given->count; i++) {
        const struct sample *sample = &given->samples[i];
        if (sample->text == NULL)
            continue;
        if (worst == NULL || sample->cosine < worst->cosine)
            worst = sample;
        wrong += sample->cosine < COSINE_LEAST;
        sum += sample->cosine;
        figures->rows++;
    }
    if (worst == NULL)
        return moult_fail(error, MOULT_ERROR_INVALID, "There is no document to compare with.");
    figures->least = worst->cosine;
    figures->mean = sum / figures->rows;
    if (wrong == 0)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "These are not the vectors that %s@%.8s makes: of %u documents that it "
                      "encoded again, %u have a cosine below %.3f (lowest %.4f, on line %" PRIu64
                      "; mean %.4f). Nothing is imported.",
                      given->slot, given->fingerprint, figures->rows, wrong, COSINE_LEAST,
                      worst->cosine, worst->line, figures->mean);
}

static void forget_texts(struct moult_given *given) {
    for (unsigned i = 0; i < given->count; i++)
        free(given->samples[i].text);
    given->count = 0;
}

static int check(struct moult_given *given, const struct moult_client *client,
                 const char *collection, const char *file,
                 const struct moult_record_options *reading, uint32_t retry_s,
                 struct moult_given_figures *figures, struct moult_error *error) {
    struct moult_records *records = moult_records_open(file, reading, error);
    given->exchange = records != NULL ? moult_exchange_open(client, 1, retry_s, error) : NULL;
    int result = given->exchange != NULL ? ask_collection(given, collection, client->model, error)
                                         : -1;
    if (result == 0)
        result = ask_fingerprint(given, error);
    if (result == 0) {
        choose_rows(given, moult_npy_head_of(given->npy)->rows);
        result = read_texts(given, records, error);
    }
    if (result == 0 && (result = encode_all(given, error)) == 0)
        result = judge(given, figures, error);
    moult_exchange_close(given->exchange);
    moult_records_close(records);
    given->exchange = NULL;
    forget_texts(given);
    return result;
}

struct moult_given *moult_given_open(const char *npy_path, const struct moult_client *client,
                                     const char *collection, const char *file,
                                     const struct moult_record_options *reading,
                                     uint32_t retry_s, const volatile int *stop,
                                     struct moult_given_figures *figures,
                                     struct moult_error *error) {
    struct moult_given *given = moult_allocate(1, sizeof *given);
    given->stop = stop;
    given->npy = moult_npy_open(npy_path, error);
    if (given->npy != NULL) {
        given->C = moult_npy_head_of(given->npy)->C;
        given->vector = moult_allocate(given->C, sizeof *given->vector);
        if (check(given, client, collection, file, reading, retry_s, figures, error) == 0)
            return given;
    }
    moult_given_close(given);
    return NULL;
}

void moult_given_close(struct moult_given *given) {
    if (given == NULL)
        return;
    moult_npy_close(given->npy);
    free(given->vector);
    free(given);
}

uint32_t moult_given_dimensions(const struct moult_given *given) {
    return given->C;
}

const char *moult_given_fingerprint(const struct moult_given *given) {
    return given->fingerprint;
}

int moult_given_vector(void *context, uint64_t record, float *vector, struct moult_error *error) {
    struct moult_given *given = context;
    if (record >= moult_npy_head_of(given->npy)->rows)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "There are more records than vectors: the file has grown meanwhile.");
    return moult_npy_row(given->npy, record, vector, error);
}
