/* What command lines name: models, and files with keys. */
#ifndef MOULT_CLI_PLACES_H
#define MOULT_CLI_PLACES_H

#include "base/error.h"

/* MODEL or NAME=MODEL: malloc'ed name and source, as source/source.h has them. Folders become
 * absolute. Links are not resolved: one that is turned to a newer model is an update. A
 * folder that begins with "." or "/" need not exist, for what a data folder has
 * installed is served without. */
int moult_place_parse(const char *operand, char **name, char **source, struct moult_error *error);
/* The source alone, of a MODEL without a name; malloc'ed, NULL with the error. */
char *moult_place_source(const char *model, struct moult_error *error);
/* The absolute path of a folder, as above. */
char *moult_place_absolute(const char *folder);
/* --hub-cache, for this process and its children: read or fill. */
int moult_place_use_hub_cache(const char *what, struct moult_error *error);
/* The first line of a key file, malloc'ed; NULL with the error. */
char *moult_key_read(const char *file, struct moult_error *error);

#endif
