/* The compiled form of a filter: what filter.c makes and match.c evaluates. */
#ifndef MOULT_STORE_FILTER_PARTS_H
#define MOULT_STORE_FILTER_PARTS_H

#include <stdint.h>

#include "store/filter.h"

/* In this order, where values of several types are sorted. */
enum moult_value_type { MOULT_VALUE_NULL, MOULT_VALUE_BOOLEAN, MOULT_VALUE_NUMBER,
                        MOULT_VALUE_STRING };

/* JSON has one type of number; a whole one of 64 bits keeps all of its digits. */
struct moult_number {
    bool is_whole;
    int64_t whole;
    double real;
};

struct moult_value {
    enum moult_value_type type;
    bool boolean;
    struct moult_number number;
    char *bytes;               /* Of a string. */
    size_t size;
};

enum moult_filter_kind {
    MOULT_FILTER_ALL,          /* Of the children; none: everything matches. */
    MOULT_FILTER_ANY,
    MOULT_FILTER_NOT,          /* Its one child. */
    MOULT_FILTER_IN,           /* One of the values, which are sorted. */
    MOULT_FILTER_GREATER,
    MOULT_FILTER_GREATER_EQUAL,
    MOULT_FILTER_LESS,
    MOULT_FILTER_LESS_EQUAL,
    MOULT_FILTER_EXISTS
};

struct moult_filter {
    enum moult_filter_kind kind;
    struct moult_filter **children;
    unsigned child_count;
    char *path;                /* Of a field, dotted. */
    size_t path_size;
    struct moult_value *values;
    unsigned value_count;
};

/* Less than, equal to or greater than 0. */
int moult_number_compare(const struct moult_number *a, const struct moult_number *b);

#endif
