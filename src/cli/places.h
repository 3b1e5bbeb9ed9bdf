/* What command lines name: models, and files with keys. */
#ifndef MOULT_CLI_PLACES_H
#define MOULT_CLI_PLACES_H

#include "base/error.h"

/* FOLDER or NAME=FOLDER: malloc'ed name and absolute path. Links are not resolved: one
 * that is turned to a newer model is an update. The folder need not exist, for
 * what a data folder has installed is served without. */
int moult_place_parse(const char *operand, char **name, char **path, struct moult_error *error);
/* The absolute path of a folder, as above. */
char *moult_place_absolute(const char *folder);
/* The first line of a key file, malloc'ed; NULL with the error. */
char *moult_key_read(const char *file, struct moult_error *error);

#endif
