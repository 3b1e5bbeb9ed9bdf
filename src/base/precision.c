#include "base/precision.h"

#include <string.h>

static const char *const names[MOULT_PRECISIONS] = {"auto", "f32", "int16", "int8"};

const char *moult_precision_name(enum moult_precision precision) {
    return (unsigned)precision < MOULT_PRECISIONS ? names[precision] : "?";
}

bool moult_precision_parse(const char *name, enum moult_precision *precision) {
    for (unsigned i = 0; i < MOULT_PRECISIONS; i++) {
        if (strcmp(name, names[i]) == 0) {
            *precision = (enum moult_precision)i;
            return true;
        }
    }
    return false;
}
