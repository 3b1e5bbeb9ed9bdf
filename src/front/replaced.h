/* Versions of documents that were replaced while nobody has been told so yet.
 *
 * A write is on disk before its vectors are made, and the store has no text any more of what it has
 * replaced; but the index still finds that, and is right to: until the write is acknowledged the
 * document is what it was. So who writes keeps what goes, from just before it does until the index
 * knows. A search then shows one version or the other, and never none.
 *
 * One table for all. It has a lock, and is used by both threads of the desk and by the loop. */
#ifndef MOULT_FRONT_REPLACED_H
#define MOULT_FRONT_REPLACED_H

#include "store/store.h"

struct moult_replaced;
struct moult_replaced_list;       /* What one write replaces. */

struct moult_replaced *moult_replaced_open(void);
void moult_replaced_close(struct moult_replaced *table);   /* No list is left. */

/* Before moult_store_put(): reads what is there under those ids, as much of it as is kept. *list
 * may be NULL: nothing is. */
int moult_replaced_read(struct moult_replaced *table, struct moult_store *store,
                        const struct moult_collection *collection, const struct moult_put *puts,
                        uint32_t count, struct moult_replaced_list **list,
                        struct moult_error *error);
/* After it, and before the commit: from now on it is found. NULL is allowed. */
void moult_replaced_publish(struct moult_replaced_list *list, const struct moult_put *puts);
/* It is not found any more, and freed. NULL is allowed. */
void moult_replaced_withdraw(struct moult_replaced_list *list);

/* A version that the store has no more. */
struct moult_replaced_copy {
    struct moult_document document;   /* With the chunk that was asked for. */
    uint64_t successor;               /* The version that is there now. */
    char *bytes;                      /* What the document's strings lie in. */
};
/* False: nobody keeps it. */
bool moult_replaced_find(struct moult_replaced *table, uint32_t collection, uint32_t space,
                         const struct moult_hit_asked *hit, struct moult_replaced_copy *copy);
void moult_replaced_release(struct moult_replaced_copy *copy);
/* Adds the rows of those that match. */
void moult_replaced_allow(struct moult_replaced *table, uint32_t collection, uint32_t space,
                          const struct moult_filter *filter, struct moult_allowed *allowed);

#endif
