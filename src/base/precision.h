/* The names of the rungs of arithmetic (moult.h), for every part that says or reads one. */
#ifndef MOULT_BASE_PRECISION_H
#define MOULT_BASE_PRECISION_H

#include <stdbool.h>

#include "moult.h"

enum { MOULT_PRECISIONS = MOULT_PRECISION_INT8 + 1 };

/* "auto", "f32", "int16", "int8" */
const char *moult_precision_name(enum moult_precision precision);
/* False where nothing is called so. */
bool moult_precision_parse(const char *name, enum moult_precision *precision);

#endif
