#include "store/filter.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "store/filter_parts.h"

struct parsing {
    unsigned terms;
    struct moult_error *error;
};

/* ---- Nodes. */

static struct moult_filter *make_node(enum moult_filter_kind kind) {
    struct moult_filter *filter = moult_allocate(1, sizeof *filter);
    filter->kind = kind;
    return filter;
}

/* Owns the child from now on. A NULL child stands for a failure: the parent goes, too. */
static struct moult_filter *add_child(struct moult_filter *parent, struct moult_filter *child) {
    if (child == NULL) {
        moult_filter_free(parent);
        return NULL;
    }
    unsigned count = parent->child_count;
    if ((count & (count - 1)) == 0)
        parent->children = moult_reallocate(parent->children, count == 0 ? 1 : count * 2ul,
                                            sizeof *parent->children);
    parent->children[parent->child_count++] = child;
    return parent;
}

static struct moult_filter *negate(struct moult_filter *child) {
    return child != NULL ? add_child(make_node(MOULT_FILTER_NOT), child) : NULL;
}

void moult_filter_free(struct moult_filter *filter) {
    if (filter == NULL)
        return;
    for (unsigned i = 0; i < filter->child_count; i++)
        moult_filter_free(filter->children[i]);
    for (unsigned i = 0; i < filter->value_count; i++)
        free(filter->values[i].bytes);
    free(filter->children);
    free(filter->values);
    free(filter->path);
    free(filter);
}

static struct moult_filter *fail(struct parsing *parsing, enum moult_error_code code,
                                 const char *sentence, const char *name) {
    moult_fail(parsing->error, code, "The filter is not understood: \"%.100s\" %s.", name,
               sentence);
    return NULL;
}

static struct moult_filter *make_term(struct parsing *parsing, enum moult_filter_kind kind,
                                      const char *field) {
    if (++parsing->terms > MOULT_FILTER_TERMS_MAX) {
        moult_fail(parsing->error, MOULT_ERROR_LIMIT,
                   "The filter has more than %d conditions; \"$in\" compares a field with many "
                   "values in one.", MOULT_FILTER_TERMS_MAX);
        return NULL;
    }
    struct moult_filter *filter = make_node(kind);
    filter->path = moult_copy_string(field);
    filter->path_size = strlen(field);
    return filter;
}

/* ---- Values. */

int moult_number_compare(const struct moult_number *a, const struct moult_number *b) {
    if (a->is_whole && b->is_whole)
        return (a->whole > b->whole) - (a->whole < b->whole);
    /* A long double holds either exactly: it has 64 bits of mantissa or more. */
    long double x = a->is_whole ? (long double)a->whole : a->real;
    long double y = b->is_whole ? (long double)b->whole : b->real;
    return (x > y) - (x < y);
}

static int compare_values(const void *left, const void *right) {
    const struct moult_value *a = left, *b = right;
    if (a->type != b->type)
        return (int)a->type - (int)b->type;
    if (a->type == MOULT_VALUE_NUMBER)
        return moult_number_compare(&a->number, &b->number);
    if (a->type != MOULT_VALUE_STRING)
        return (int)a->boolean - (int)b->boolean;
    int order = memcmp(a->bytes, b->bytes, a->size < b->size ? a->size : b->size);
    return order != 0 ? order : (a->size > b->size) - (a->size < b->size);
}

/* False: it is a list or an object. */
static bool read_value(const json_t *json, struct moult_value *value) {
    *value = (struct moult_value){.type = MOULT_VALUE_NULL};
    switch (json_typeof(json)) {
    case JSON_NULL:
        return true;
    case JSON_TRUE:
    case JSON_FALSE:
        value->type = MOULT_VALUE_BOOLEAN;
        value->boolean = json_is_true(json);
        return true;
    case JSON_INTEGER:
        value->type = MOULT_VALUE_NUMBER;
        value->number = (struct moult_number){.is_whole = true,
                                              .whole = json_integer_value(json)};
        return true;
    case JSON_REAL:
        value->type = MOULT_VALUE_NUMBER;
        value->number.real = json_real_value(json);
        return true;
    case JSON_STRING:
        value->type = MOULT_VALUE_STRING;
        value->size = json_string_length(json);
        value->bytes = moult_copy_bytes(json_string_value(json), value->size);
        return true;
    default:
        return false;
    }
}

/* ---- Conditions on one field. */

static struct moult_filter *parse_equal(struct parsing *parsing, const char *field,
                                        const json_t *json) {
    struct moult_value value;
    if (!read_value(json, &value))
        return fail(parsing, MOULT_ERROR_INVALID,
                    "is compared with a list or an object; give a string, a number, true, false or "
                    "null, \"$in\" with a list of these, or a dotted path to a part of it", field);
    struct moult_filter *filter = make_term(parsing, MOULT_FILTER_IN, field);
    if (filter == NULL) {
        free(value.bytes);
        return NULL;
    }
    filter->values = moult_allocate(1, sizeof value);
    filter->values[0] = value;
    filter->value_count = 1;
    return filter;
}

static struct moult_filter *parse_in(struct parsing *parsing, const char *field,
                                     const char *operator, const json_t *json) {
    size_t count = json_array_size(json);
    if (!json_is_array(json))
        return fail(parsing, MOULT_ERROR_INVALID, "takes a list of values", operator);
    if (count > MOULT_FILTER_VALUES_MAX) {
        moult_fail(parsing->error, MOULT_ERROR_LIMIT, "\"%s\" has %zu values; at most %d are "
                   "compared.", operator, count, MOULT_FILTER_VALUES_MAX);
        return NULL;
    }
    struct moult_filter *filter = make_term(parsing, MOULT_FILTER_IN, field);
    if (filter == NULL)
        return NULL;
    filter->values = moult_allocate(count, sizeof *filter->values);
    for (size_t i = 0; i < count; i++) {
        if (!read_value(json_array_get(json, i), &filter->values[filter->value_count++])) {
            moult_filter_free(filter);
            return fail(parsing, MOULT_ERROR_INVALID,
                        "has a list or an object among its values; they must be strings, numbers, "
                        "true, false or null", operator);
        }
    }
    qsort(filter->values, filter->value_count, sizeof *filter->values, compare_values);
    return filter;
}

static struct moult_filter *parse_order(struct parsing *parsing, const char *field,
                                        const char *operator, enum moult_filter_kind kind,
                                        const json_t *json) {
    if (!json_is_number(json) && !json_is_string(json))
        return fail(parsing, MOULT_ERROR_INVALID, "compares with a number or a string", operator);
    struct moult_filter *filter = parse_equal(parsing, field, json);
    if (filter != NULL)
        filter->kind = kind;
    return filter;
}

static struct moult_filter *parse_exists(struct parsing *parsing, const char *field,
                                         const json_t *json) {
    if (!json_is_boolean(json))
        return fail(parsing, MOULT_ERROR_INVALID, "takes true or false", "$exists");
    struct moult_filter *filter = make_term(parsing, MOULT_FILTER_EXISTS, field);
    return json_is_true(json) ? filter : negate(filter);
}

static struct moult_filter *parse_operators(struct parsing *parsing, const char *field,
                                            const json_t *json, unsigned depth);

static struct moult_filter *parse_operator(struct parsing *parsing, const char *field,
                                           const char *name, const json_t *json,
                                           unsigned depth) {
    if (strcmp(name, "$eq") == 0)
        return parse_equal(parsing, field, json);
    if (strcmp(name, "$ne") == 0)
        return negate(parse_equal(parsing, field, json));
    if (strcmp(name, "$in") == 0)
        return parse_in(parsing, field, name, json);
    if (strcmp(name, "$nin") == 0)
        return negate(parse_in(parsing, field, name, json));
    if (strcmp(name, "$gt") == 0)
        return parse_order(parsing, field, name, MOULT_FILTER_GREATER, json);
    if (strcmp(name, "$gte") == 0)
        return parse_order(parsing, field, name, MOULT_FILTER_GREATER_EQUAL, json);
    if (strcmp(name, "$lt") == 0)
        return parse_order(parsing, field, name, MOULT_FILTER_LESS, json);
    if (strcmp(name, "$lte") == 0)
        return parse_order(parsing, field, name, MOULT_FILTER_LESS_EQUAL, json);
    if (strcmp(name, "$exists") == 0)
        return parse_exists(parsing, field, json);
    if (strcmp(name, "$not") == 0)
        return negate(parse_operators(parsing, field, json, depth + 1));
    if (name[0] == '$')
        return fail(parsing, MOULT_ERROR_INVALID,
                    "is no operator of a field; there are $eq, $ne, $in, $nin, $gt, $gte, $lt, "
                    "$lte, $exists and $not", name);
    return fail(parsing, MOULT_ERROR_INVALID,
                "stands where an operator is expected; a part of an object is named by a dotted "
                "path, {\"author.name\": …}", name);
}

/* All of {"$gte": 3, "$lt": 9}. */
static struct moult_filter *parse_operators(struct parsing *parsing, const char *field,
                                            const json_t *json, unsigned depth) {
    const char *name;
    json_t *value;
    if (depth > MOULT_FILTER_DEPTH_MAX)
        return fail(parsing, MOULT_ERROR_LIMIT, "is nested too deep", field);
    if (!json_is_object(json) || json_object_size(json) == 0)
        return fail(parsing, MOULT_ERROR_INVALID, "takes an object of operators, {\"$gt\": 3}",
                    json_is_object(json) ? field : "$not");
    struct moult_filter *all = make_node(MOULT_FILTER_ALL);
    json_object_foreach((json_t *)json, name, value) {
        all = add_child(all, parse_operator(parsing, field, name, value, depth));
        if (all == NULL)
            return NULL;
    }
    return all;
}

/* ---- Filters of fields and of filters. */

static struct moult_filter *parse_filter(struct parsing *parsing, const json_t *json,
                                         unsigned depth);

static struct moult_filter *parse_list(struct parsing *parsing, const char *name,
                                       enum moult_filter_kind kind, const json_t *json,
                                       unsigned depth) {
    if (!json_is_array(json) || json_array_size(json) == 0)
        return fail(parsing, MOULT_ERROR_INVALID, "takes a list of filters, at least one", name);
    struct moult_filter *filter = make_node(kind);
    for (size_t i = 0; i < json_array_size(json); i++) {
        filter = add_child(filter, parse_filter(parsing, json_array_get(json, i), depth + 1));
        if (filter == NULL)
            return NULL;
    }
    return filter;
}

static struct moult_filter *parse_member(struct parsing *parsing, const char *name,
                                         const json_t *json, unsigned depth) {
    if (strcmp(name, "$and") == 0)
        return parse_list(parsing, name, MOULT_FILTER_ALL, json, depth);
    if (strcmp(name, "$or") == 0)
        return parse_list(parsing, name, MOULT_FILTER_ANY, json, depth);
    if (strcmp(name, "$not") == 0)
        return negate(parse_filter(parsing, json, depth + 1));
    if (name[0] == '$')
        return fail(parsing, MOULT_ERROR_INVALID,
                    "is no operator of filters; there are $and, $or and $not, and those of a "
                    "field stand below its name, {\"year\": {\"$gt\": 1999}}", name);
    if (strlen(name) > MOULT_FILTER_FIELD_BYTES_MAX)
        return fail(parsing, MOULT_ERROR_LIMIT, "is too long for a field's name", name);
    if (json_is_object(json))
        return parse_operators(parsing, name, json, depth);
    return parse_equal(parsing, name, json);
}

static struct moult_filter *parse_filter(struct parsing *parsing, const json_t *json,
                                         unsigned depth) {
    const char *name;
    json_t *value;
    if (depth > MOULT_FILTER_DEPTH_MAX) {
        moult_fail(parsing->error, MOULT_ERROR_LIMIT, "The filter is nested more than %d levels "
                   "deep.", MOULT_FILTER_DEPTH_MAX);
        return NULL;
    }
    if (!json_is_object(json)) {
        moult_fail(parsing->error, MOULT_ERROR_INVALID,
                   "A filter must be an object, {\"field\": value}.");
        return NULL;
    }
    /* {} has no condition of its own to be counted: lists of them would be free. */
    if (json_object_size(json) == 0 && ++parsing->terms > MOULT_FILTER_TERMS_MAX) {
        moult_fail(parsing->error, MOULT_ERROR_LIMIT, "The filter has more than %d conditions.",
                   MOULT_FILTER_TERMS_MAX);
        return NULL;
    }
    struct moult_filter *all = make_node(MOULT_FILTER_ALL);
    json_object_foreach((json_t *)json, name, value) {
        all = add_child(all, parse_member(parsing, name, value, depth));
        if (all == NULL)
            return NULL;
    }
    return all;
}

struct moult_filter *moult_filter_parse(const json_t *json, struct moult_error *error) {
    struct parsing parsing = {.error = error};
    return parse_filter(&parsing, json, 1);
}
