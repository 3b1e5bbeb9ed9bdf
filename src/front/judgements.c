#include "front/judgements.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "front/json.h"
#include "store/store.h"

#define DEFAULT_COLLECTION "default"
/* Sums of less lose their digits. */
#define GAIN_LEAST 1e-6

static void free_query(struct moult_judged_query *query) {
    for (uint32_t i = 0; i < query->relevant_count; i++)
        free(query->relevant[i].id);
    free(query->relevant);
    free(query->text);
}

void moult_judgements_free(struct moult_judgements *judgements) {
    if (judgements == NULL)
        return;
    for (uint32_t i = 0; i < judgements->count; i++)
        free_query(&judgements->queries[i]);
    for (uint32_t i = 0; i < judgements->collection_count; i++)
        free(judgements->collections[i]);
    free(judgements->queries);
    free(judgements->collections);
    free(judgements);
}

/* One query. */

static int ascending_by_id(const void *a, const void *b) {
    return strcmp(((const struct moult_judged_document *)a)->id,
                  ((const struct moult_judged_document *)b)->id);
}

static int descending_by_gain(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

static double discounted(double gain, uint32_t place) {
    return gain / log2((double)place + 2);
}

static double ideal_of(const struct moult_judged_query *query) {
    double *gains = moult_allocate(query->relevant_count + 1u, sizeof *gains);
    double sum = 0;
    for (uint32_t i = 0; i < query->relevant_count; i++)
        gains[i] = query->relevant[i].gain;
    qsort(gains, query->relevant_count, sizeof *gains, descending_by_gain);
    for (uint32_t i = 0; i < query->relevant_count && i < MOULT_JUDGED_HITS; i++)
        sum += discounted(gains[i], i);
    free(gains);
    return sum;
}

static int add_relevant(struct moult_judged_query *query, const char *id, size_t size, double gain,
                        struct moult_error *error) {
    if (strlen(id) != size || !moult_document_id_valid(id))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"relevant\" has \"%.60s\", which cannot be the id of a document.", id);
    query->relevant[query->relevant_count++] =
        (struct moult_judged_document){moult_copy_string(id), gain};
    return 0;
}

static int read_list(const json_t *list, struct moult_judged_query *query,
                     struct moult_error *error) {
    size_t i;
    const json_t *id;
    json_array_foreach(list, i, id) {
        if (!json_is_string(id))
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "\"relevant\"[%zu] must be an id, a string, not %s.", i,
                              moult_json_type_name(id));
        if (add_relevant(query, json_string_value(id), json_string_length(id), 1, error) != 0)
            return -1;
    }
    return 0;
}

static int read_gains(json_t *object, struct moult_judged_query *query,
                      struct moult_error *error) {
    const char *id;
    size_t size;
    const json_t *gain;
    json_object_keylen_foreach(object, id, size, gain) {
        double value = json_number_value(gain);
        if (!json_is_number(gain) || !(value >= 0 && value <= MOULT_GATE_GAIN_MAX) ||
            (value > 0 && value < GAIN_LEAST))
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "The gain of \"%.60s\" must be 0, or a number from %g to %d.", id,
                              GAIN_LEAST, MOULT_GATE_GAIN_MAX);
        if (add_relevant(query, id, size, value, error) != 0)
            return -1;
    }
    return 0;
}

static int read_relevant(json_t *relevant, struct moult_judged_query *query,
                         struct moult_error *error) {
    size_t count = json_is_array(relevant) ? json_array_size(relevant) : json_object_size(relevant);
    if (!json_is_array(relevant) && !json_is_object(relevant))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          relevant == NULL
                              ? "\"relevant\" is missing: a list of ids, or an object of gains."
                              : "\"relevant\" must be a list of ids or an object of gains.");
    if (count > MOULT_GATE_RELEVANT_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "\"relevant\" has %zu ids, and may have %d.",
                          count, MOULT_GATE_RELEVANT_MAX);
    query->relevant = moult_allocate(count + 1, sizeof *query->relevant);
    if (json_is_array(relevant) ? read_list(relevant, query, error)
                                : read_gains(relevant, query, error))
        return -1;
    qsort(query->relevant, query->relevant_count, sizeof *query->relevant, ascending_by_id);
    for (uint32_t i = 1; i < query->relevant_count; i++)
        if (strcmp(query->relevant[i - 1].id, query->relevant[i].id) == 0)
            return moult_fail(error, MOULT_ERROR_INVALID, "\"relevant\" has \"%.60s\" twice.",
                              query->relevant[i].id);
    query->ideal = ideal_of(query);
    if (!(query->ideal > 0))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"relevant\" names no document that has a gain: such a query judges "
                          "nothing.");
    return 0;
}

static int find_collection(struct moult_judgements *judgements, const json_t *line,
                           uint32_t *collection, struct moult_error *error) {
    const char *name = DEFAULT_COLLECTION;
    if (moult_json_string(line, "collection", &name, error) < 0)
        return -1;
    if (!moult_collection_name_valid(name))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "\"collection\" is \"%.60s\", which cannot be a collection's name.",
                          name);
    for (*collection = 0; *collection < judgements->collection_count; ++*collection)
        if (strcmp(judgements->collections[*collection], name) == 0)
            return 0;
    if (judgements->collection_count == MOULT_GATE_COLLECTIONS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "It names more than %d collections.", MOULT_GATE_COLLECTIONS_MAX);
    if (judgements->collections == NULL)
        judgements->collections =
            moult_allocate(MOULT_GATE_COLLECTIONS_MAX, sizeof *judgements->collections);
    judgements->collections[judgements->collection_count++] = moult_copy_string(name);
    return 0;
}

static int read_query(struct moult_judgements *judgements, json_t *line,
                      struct moult_judged_query *query, struct moult_error *error) {
    const json_t *text = json_object_get(line, "query");
    size_t size = json_string_length(text);
    if (!json_is_string(text) || size == 0)
        return moult_fail(error, MOULT_ERROR_INVALID, text == NULL
                              ? "\"query\" is missing." : "\"query\" must be a text.");
    if (size > MOULT_DOCUMENT_TEXT_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "\"query\" has %zu bytes, and may have %lu.",
                          size, MOULT_DOCUMENT_TEXT_BYTES_MAX);
    query->text = moult_copy_bytes(json_string_value(text), size);
    query->size = size;
    return find_collection(judgements, line, &query->collection, error) != 0
               ? -1
               : read_relevant(json_object_get(line, "relevant"), query, error);
}

/* Lines. */

static bool is_blank(const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (strchr(" \t\r", bytes[i]) == NULL || bytes[i] == '\0')
            return false;
    return true;
}

static int add_line(struct moult_judgements *judgements, uint32_t *capacity, const char *bytes,
                    size_t size, struct moult_error *error) {
    json_t *line = moult_json_read_line(bytes, size, error);
    if (line == NULL)
        return -1;
    if (judgements->count == MOULT_GATE_QUERIES_MAX) {
        json_decref(line);
        return moult_fail(error, MOULT_ERROR_LIMIT, "There are more than %d queries.",
                          MOULT_GATE_QUERIES_MAX);
    }
    if (judgements->count == *capacity) {
        *capacity = *capacity == 0 ? 64 : *capacity * 2;
        judgements->queries =
            moult_reallocate(judgements->queries, *capacity, sizeof *judgements->queries);
    }
    struct moult_judged_query *query = &judgements->queries[judgements->count++];
    *query = (struct moult_judged_query){.text = NULL};
    int result = read_query(judgements, line, query, error);
    json_decref(line);
    return result;
}

struct moult_judgements *moult_judgements_parse(const char *bytes, size_t size,
                                                struct moult_error *error) {
    struct moult_judgements *judgements = moult_allocate(1, sizeof *judgements);
    uint32_t capacity = 0;
    unsigned number = 0;
    for (size_t at = 0; at < size;) {
        const char *end = memchr(bytes + at, '\n', size - at);
        size_t length = end != NULL ? (size_t)(end - (bytes + at)) : size - at;
        number++;
        if (!is_blank(bytes + at, length) &&
            add_line(judgements, &capacity, bytes + at, length, error) != 0) {
            moult_fail_within(error, "Line %u", number);
            moult_judgements_free(judgements);
            return NULL;
        }
        at += length + 1;
    }
    if (judgements->count > 0)
        return judgements;
    moult_fail(error, MOULT_ERROR_INVALID,
               "There is no query in it. A line is {\"query\": TEXT, \"relevant\": [ID, …]}.");
    moult_judgements_free(judgements);
    return NULL;
}

struct moult_judgements *moult_judgements_read(const char *path, struct moult_error *error) {
    char *bytes;
    size_t size;
    if (moult_file_read(AT_FDCWD, path, MOULT_GATE_FILE_BYTES_MAX, &bytes, &size, error) != 0)
        return NULL;
    struct moult_judgements *judgements = moult_judgements_parse(bytes, size, error);
    free(bytes);
    if (judgements == NULL)
        moult_fail_within(error, "%s", path);
    return judgements;
}

/* Figures. */

double moult_judged_ndcg(const struct moult_judged_query *query, const char *const *ids,
                         uint32_t count) {
    double sum = 0;
    for (uint32_t i = 0; i < count && i < MOULT_JUDGED_HITS; i++) {
        struct moult_judged_document key = {.id = (char *)ids[i]};
        const struct moult_judged_document *found =
            ids[i] == NULL ? NULL
                           : bsearch(&key, query->relevant, query->relevant_count,
                                     sizeof *query->relevant, ascending_by_id);
        if (found != NULL)
            sum += discounted(found->gain, i);
    }
    return sum / query->ideal;
}

int moult_gate_limit_parse(const char *text, struct moult_gate_limit *limit,
                           struct moult_error *error) {
    char *end;
    double value = strtod(text, &end);
    bool percent = end != text && strcmp(end, "%") == 0;
    if (percent && value >= -100 && value <= 100)
        *limit = (struct moult_gate_limit){MOULT_GATE_RELATIVE, value / 100};
    else if (end != text && *end == '\0' && value >= 0 && value <= 1)
        *limit = (struct moult_gate_limit){MOULT_GATE_ABSOLUTE, value};
    else
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "--gate-min is an nDCG from 0 to 1, such as 0.4, or a change in per "
                          "cent of the present model's, such as -2%%, and not \"%.40s\".", text);
    return 0;
}

double moult_gate_limit_least(const struct moult_gate_limit *limit, double old_ndcg) {
    if (limit->kind == MOULT_GATE_RELATIVE)
        return old_ndcg * (1 + limit->value);
    return limit->kind == MOULT_GATE_ABSOLUTE ? limit->value : 0;
}
