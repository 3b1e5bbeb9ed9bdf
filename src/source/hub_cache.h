/* The cache of the ecosystem's own programs: HF_HUB_CACHE, or HF_HOME/hub.
 *
 *     models--org--name/blobs/ETAG                 the bytes, named by SHA-256 or git's blob name
 *     models--org--name/snapshots/COMMIT/PATH      links to them
 *     models--org--name/refs/BRANCH                the commit that the branch was
 *     models--org--name/trees/COMMIT.json          what the hub listed; newer clients keep it
 *     .locks/models--org--name/ETAG.lock           held by whoever writes that blob
 *
 * What it has is not downloaded, and not believed either: bytes count when they have the listed
 * digest. moult writes there only where it is asked to. */
#ifndef MOULT_SOURCE_HUB_CACHE_H
#define MOULT_SOURCE_HUB_CACHE_H

#include "source/listing.h"

struct moult_hub_cache {
    char *root;                     /* NULL: there is none, for somebody without a home. */
    char *repo;                     /* root/models--org--name */
    bool fill;                      /* MOULT_HUB_CACHE=fill */
    bool offline;                   /* HF_HUB_OFFLINE */
};

/* Where HF_HOME is, or would be: NULL for somebody without a home; malloc'ed. */
char *moult_hub_home(void);
/* Of a model "org/name", as the environment says. To be released. */
void moult_hub_cache_open(struct moult_hub_cache *cache, const char *model);
void moult_hub_cache_release(struct moult_hub_cache *cache);

/* The n-th place where it may have a file; malloc'ed, NULL after the last. */
char *moult_hub_cache_path(const struct moult_hub_cache *cache, const char *commit,
                           const struct moult_listed_file *file, unsigned n);
/* What the branch was when it was cached last; -1 where it was not. */
int moult_hub_cache_resolve(const struct moult_hub_cache *cache, const char *branch,
                            char commit[MOULT_SHA1_HEX]);
/* What a commit has, by the hub's listing where that is cached, or else by the snapshot's
 * links. -1 where it is neither; files may be missing from the cache all the same. */
int moult_hub_cache_list(const struct moult_hub_cache *cache, const char *commit,
                         struct moult_listing *listing);
/* Puts the listed files that lie in `folder` there, each unless it is there already, and the branch
 * last ("": none). Whole files appear under their names by rename, whoever else writes. */
int moult_hub_cache_fill(const struct moult_hub_cache *cache, const char *folder,
                         const char *branch, const char *commit,
                         const struct moult_listing *listing, struct moult_error *error);

#endif
