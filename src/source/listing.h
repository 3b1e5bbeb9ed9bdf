/* What a hub or a model server says it has: paths, sizes, digests. Of outside bytes,
 * so each number has a limit, and a path that could lead out of a folder spoils all of it. */
#ifndef MOULT_SOURCE_LISTING_H
#define MOULT_SOURCE_LISTING_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "source/list.h"

struct moult_listed_file {
    char *path;
    uint64_t size;
    char sha256[MOULT_SHA256_HEX];   /* One of the two is told, the other is "". */
    char blob[MOULT_SHA1_HEX];       /* git's name of the bytes. */
};

struct moult_listing {
    struct moult_listed_file *files;   /* [count] */
    unsigned count, capacity;
};

/* A model server's manifest.json, of which `version` is for people:
 *     {"version": …, "files": [{"path", "size", "sha256"}, …]} */
int moult_listing_add_manifest(struct moult_listing *listing, const char *bytes, size_t size,
                               struct moult_error *error);
/* One page of a hub's tree; folders in it are passed over:
 *     [{"type": "file", "path", "size", "oid": git blob SHA-1, "lfs": {"oid": SHA-256}?}, …] */
int moult_listing_add_tree(struct moult_listing *listing, const char *bytes, size_t size,
                           struct moult_error *error);
/* The same as the ecosystem's own client keeps it on disk:
 *     {"format_version": 1, "files": {path: {"size", "blob_id", "lfs_sha256"?, …}, …}} */
int moult_listing_add_cached_tree(struct moult_listing *listing, const char *bytes, size_t size,
                                  struct moult_error *error);
/* One file, of which the digest is either of the two. Passed over where it is neither, or
 * the path leads out. */
void moult_listing_add(struct moult_listing *listing, const char *path, uint64_t size,
                       const char *digest);
/* After the last: sorts, and refuses a path that stands in it twice. */
int moult_listing_sort(struct moult_listing *listing, struct moult_error *error);
/* Of a sorted one; NULL where the path is not listed. */
const struct moult_listed_file *moult_listing_find(const struct moult_listing *listing,
                                                   const char *path);
/* After a failure, too. */
void moult_listing_release(struct moult_listing *listing);

/* The commit in a hub's answer about a revision: {"sha": 40 hex digits, …}. */
int moult_hub_commit_parse(const char *bytes, size_t size, char commit[MOULT_SHA1_HEX],
                           struct moult_error *error);
/* A manifest.json of these files; malloc'ed. */
char *moult_manifest_format(const struct moult_source_list *list, const char *version,
                            size_t *size);

#endif
