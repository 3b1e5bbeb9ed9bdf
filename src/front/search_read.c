#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/search.h"

#define K_DEFAULT 10
#define FINGERPRINT_DIGITS_MIN 8

#define REFUSE(...) moult_refuse(refusal, MOULT_HTTP_INVALID, __VA_ARGS__)

static const json_t *given(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

/* A search that forgets its filter for a misspelt key finds what nobody should see. */
static int check_keys(const json_t *body, struct moult_refusal *refusal) {
    static const char *const keys[] = {
        "query",     "queries", "vector",        "fingerprint", "k",    "filter",
        "min_score", "mode",    "with_text",     "with_metadata", "with_vector", "model"};
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)body, key, value) {
        unsigned i = 0;
        while (i < sizeof keys / sizeof keys[0] && strcmp(keys[i], key) != 0)
            i++;
        if (i == sizeof keys / sizeof keys[0])
            return REFUSE(NULL, "There is no \"%.64s\" in a search.", key);
    }
    return 0;
}

/* ---- What is looked for. */

static int check_text(const json_t *text, const char *name, size_t index, bool many,
                      struct moult_refusal *refusal) {
    char at[32] = "";
    if (many)
        snprintf(at, sizeof at, "[%zu]", index);
    if (!json_is_string(text))
        return REFUSE(name, "\"%s\"%s must be a string, not %s.", name, at,
                      moult_json_type_name(text));
    if (json_string_length(text) == 0)
        return moult_refuse(refusal, MOULT_HTTP_EMPTY, name, "\"%s\"%s is empty.", name, at);
    return 0;
}

static int read_texts(struct moult_question *question, const json_t *value, const char *name,
                      struct moult_refusal *refusal) {
    bool many = question->many;
    size_t count = many ? json_array_size(value) : 1, bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *text = many ? json_array_get(value, i) : value;
        if (check_text(text, name, i, many, refusal) != 0)
            return -1;
        bytes += json_string_length(text);
    }
    question->texts = moult_allocate(count, sizeof *question->texts);
    question->bytes = moult_allocate(bytes, 1);
    question->count = (uint32_t)count;
    question->text_bytes = bytes;
    char *at = question->bytes;
    for (size_t i = 0; i < count; i++) {
        const json_t *text = many ? json_array_get(value, i) : value;
        size_t size = json_string_length(text);
        question->texts[i] = (struct moult_text){memcpy(at, json_string_value(text), size), size};
        at += size;
    }
    return 0;
}

static int read_queries(struct moult_question *question, const json_t *value,
                        struct moult_refusal *refusal) {
    if (!json_is_array(value))
        return REFUSE("queries", "\"queries\" must be a list of strings, not %s.",
                      moult_json_type_name(value));
    if (json_array_size(value) == 0)
        return moult_refuse(refusal, MOULT_HTTP_EMPTY, "queries", "\"queries\" is an empty list.");
    if (json_array_size(value) > MOULT_TEXTS_PER_REQUEST_MAX)
        return REFUSE("queries", "\"queries\" has %zu texts; a request takes %d at most.",
                      json_array_size(value), MOULT_TEXTS_PER_REQUEST_MAX);
    question->many = true;
    return read_texts(question, value, "queries", refusal);
}

static int read_numbers(struct moult_question *question, const json_t *value,
                        struct moult_refusal *refusal) {
    size_t C = json_array_size(value);
    double square = 0;
    if (!json_is_array(value) || C == 0 || C > MOULT_DIMENSIONS_MAX)
        return REFUSE("vector", "\"vector\" must be a list of 1 to %d numbers.",
                      MOULT_DIMENSIONS_MAX);
    question->vector = moult_allocate(C, sizeof *question->vector);
    question->C = (uint32_t)C;
    question->count = 1;
    for (size_t i = 0; i < C; i++) {
        const json_t *number = json_array_get(value, i);
        if (!json_is_number(number))
            return REFUSE("vector", "\"vector\"[%zu] must be a number, not %s.", i,
                          moult_json_type_name(number));
        question->vector[i] = (float)json_number_value(number);
        square += (double)question->vector[i] * question->vector[i];
    }
    if (!isfinite(square) || square == 0)
        return REFUSE("vector", "\"vector\" has no direction: its length is %s.",
                      square == 0 ? "0" : "beyond what f32 can hold");
    return 0;
}

static int read_fingerprint(struct moult_question *question, const json_t *body,
                            struct moult_refusal *refusal) {
    struct moult_error error;
    const char *digits = NULL;
    int found = moult_json_string(body, "fingerprint", &digits, &error);
    if (found < 0)
        return REFUSE("fingerprint", "%s", error.message);
    if ((found > 0) != (question->vector != NULL))
        return REFUSE("fingerprint",
                      found > 0 ? "\"fingerprint\" says which model has made a \"vector\", and "
                                  "there is none."
                                : "\"vector\" needs the \"fingerprint\" of the model that has made "
                                  "it, as x-moult-fingerprint said: vectors of other models are "
                                  "not compared.");
    if (found == 0)
        return 0;
    size_t size = strlen(digits);
    if (size < FINGERPRINT_DIGITS_MIN || size >= sizeof question->fingerprint ||
        strspn(digits, "0123456789abcdef") != size)
        return REFUSE("fingerprint", "\"fingerprint\" must have %d to %zu hex digits, in lower "
                      "case.", FINGERPRINT_DIGITS_MIN, sizeof question->fingerprint - 1);
    memcpy(question->fingerprint, digits, size + 1);
    return 0;
}

static int read_object(struct moult_question *question, const json_t *body,
                       struct moult_refusal *refusal) {
    const json_t *query = given(body, "query"), *queries = given(body, "queries");
    const json_t *vector = given(body, "vector");
    if ((query != NULL) + (queries != NULL) + (vector != NULL) != 1)
        return REFUSE("query", "A search has one of \"query\", \"queries\" and \"vector\".");
    if (vector != NULL && question->mode != MOULT_SEARCH_VECTOR)
        return REFUSE("vector", "\"mode\": \"%s\" looks for words, and a vector has none.",
                      moult_search_mode_names[question->mode]);
    if (query != NULL && read_texts(question, query, "query", refusal) != 0)
        return -1;
    if (queries != NULL && read_queries(question, queries, refusal) != 0)
        return -1;
    if (vector != NULL && read_numbers(question, vector, refusal) != 0)
        return -1;
    return read_fingerprint(question, body, refusal);
}

/* ---- How. */

static int read_mode(struct moult_question *question, const json_t *body,
                     struct moult_refusal *refusal) {
    struct moult_error error;
    const char *name = NULL;
    int found = moult_json_string(body, "mode", &name, &error);
    if (found < 0)
        return REFUSE("mode", "%s", error.message);
    for (unsigned i = 0; found > 0 && i < MOULT_SEARCH_MODES; i++)
        if (strcmp(name, moult_search_mode_names[i]) == 0) {
            question->mode = (enum moult_search_mode)i;
            return 0;
        }
    return found == 0 ? 0
                      : REFUSE("mode", "\"mode\" is \"vector\", \"text\" or \"hybrid\", not "
                               "\"%.40s\".", name);
}

static int read_limits(struct moult_question *question, const json_t *body,
                       struct moult_refusal *refusal) {
    struct moult_error error;
    const json_t *score = given(body, "min_score");
    if (moult_json_count(body, "k", &question->k, &error) < 0)
        return REFUSE("k", "%s", error.message);
    if (question->k < 1 || question->k > MOULT_HITS_MAX)
        return REFUSE("k", "\"k\" must be from 1 to %d.", MOULT_HITS_MAX);
    if ((uint64_t)question->k * question->count > MOULT_HITS_PER_REQUEST_MAX)
        return REFUSE("k", "\"k\" times the number of queries is at most %d.",
                      MOULT_HITS_PER_REQUEST_MAX);
    if (score == NULL)
        return 0;
    if (!json_is_number(score))
        return REFUSE("min_score", "\"min_score\" must be a number, not %s.",
                      moult_json_type_name(score));
    if (question->mode == MOULT_SEARCH_HYBRID)
        return REFUSE("min_score", "\"min_score\" has no meaning in \"mode\": \"hybrid\", whose "
                      "scores come from ranks.");
    question->has_score_min = true;
    question->score_min = json_number_value(score);
    return 0;
}

static int read_filter(struct moult_question *question, const json_t *body,
                       struct moult_refusal *refusal) {
    struct moult_error error;
    const json_t *filter = given(body, "filter");
    if (filter == NULL)
        return 0;
    question->filter = moult_filter_parse(filter, &error);
    return question->filter != NULL ? 0 : REFUSE("filter", "%s", error.message);
}

static int read_wishes(struct moult_question *question, const json_t *body,
                       struct moult_refusal *refusal) {
    struct moult_error error;
    const char *model = NULL;
    if (moult_json_boolean(body, "with_text", &question->with_text, &error) < 0 ||
        moult_json_boolean(body, "with_metadata", &question->with_metadata, &error) < 0 ||
        moult_json_boolean(body, "with_vector", &question->with_vector, &error) < 0 ||
        moult_json_string(body, "model", &model, &error) < 0)
        return REFUSE(NULL, "%s", error.message);
    if (question->with_vector && question->mode == MOULT_SEARCH_TEXT)
        return REFUSE("with_vector", "\"mode\": \"text\" makes no vector.");
    if (model == NULL)
        return 0;
    free(question->model);
    question->model = moult_copy_string(model);
    return 0;
}

int moult_search_read(struct moult_question *question, const json_t *body,
                      struct moult_refusal *refusal) {
    question->k = K_DEFAULT;
    question->with_text = question->with_metadata = true;
    if (check_keys(body, refusal) != 0 || read_mode(question, body, refusal) != 0 ||
        read_object(question, body, refusal) != 0 || read_limits(question, body, refusal) != 0 ||
        read_filter(question, body, refusal) != 0)
        return -1;
    return read_wishes(question, body, refusal);
}

void moult_question_release(struct moult_question *question) {
    free(question->texts);
    free(question->bytes);
    free(question->vector);
    free(question->model);
    moult_filter_free(question->filter);
    *question = (struct moult_question){0};
}
