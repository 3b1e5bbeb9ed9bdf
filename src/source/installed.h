/* An installed revision: its folder, and the revision.json that says what is in it. */
#ifndef MOULT_SOURCE_INSTALLED_H
#define MOULT_SOURCE_INSTALLED_H

#include "source/list.h"

#define MOULT_REVISION_FILE "revision.json"

/* The SHA-256 over the sorted lines "<sha256>  <path>\n". */
void moult_revision_of(const struct moult_source_list *list, char revision[MOULT_SHA256_HEX]);
/* malloc'ed. */
char *moult_revision_format(const struct moult_source_list *list, const char *revision,
                            const char *source, uint64_t installed_at, size_t *size);
/* Reads a revision.json; of each file's status only the size is filled. On failure,
 * too, the list must be released. */
int moult_revision_parse(const char *bytes, size_t size, struct moult_source_list *list,
                         char revision[MOULT_SHA256_HEX], struct moult_error *error);
/* Whether some revision in DATA/models was installed from exactly this source. */
bool moult_installed_find(const char *data_folder, const char *source,
                          char revision[MOULT_SHA256_HEX], uint64_t *bytes);

#endif
