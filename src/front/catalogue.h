/* What collections there are, as the loop knows it without asking the store: their numbers and
 * slots are those that the last write has left, told by moult_catalogue_note() before its answer is
 * given; their counts are read by the desk after that, and may be a moment behind. */
#ifndef MOULT_FRONT_CATALOGUE_H
#define MOULT_FRONT_CATALOGUE_H

#include <stdint.h>

#include "front/desk.h"

struct moult_catalogue;
struct moult_collection;   /* store.h */

struct moult_catalogue *moult_catalogue_open(struct moult_desk *desk);
/* After the desk has stopped. */
void moult_catalogue_free(struct moult_catalogue *catalogue);

/* Something was written to that collection, or it was dropped. The counts are read again, once for
 * all writes that come meanwhile. */
void moult_catalogue_note(struct moult_catalogue *catalogue,
                          const struct moult_collection *collection, bool dropped);
/* Somebody else may have written. */
void moult_catalogue_refresh(struct moult_catalogue *catalogue);
/* NULL: there is none of that name, or it is too new. */
const struct moult_collection *moult_catalogue_find(const struct moult_catalogue *catalogue,
                                                    const char *name);
/* By name; NULL behind the last. */
const struct moult_collection *moult_catalogue_at(const struct moult_catalogue *catalogue,
                                                  unsigned index);
/* In all collections of the slot, or of all slots (NULL). */
uint64_t moult_catalogue_documents(const struct moult_catalogue *catalogue, const char *slot);

#endif
