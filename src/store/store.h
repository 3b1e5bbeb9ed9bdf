/* Documents at rest: one SQLite file (WAL), in plain calls that may take long.
 *
 * One handle writes and some read, each used by one thread. A handle in write mode may do all that
 * reads, too, and sees its own transaction. What a reader is told in one call is one moment of the
 * table.
 *
 * **seq.** Each put, each delete and each drop of a collection takes the next number of one
 * sequence over all collections. It never goes back, not after deletes, not after a restart, not
 * even where a backup of the file is put back: each opening for writing begins at the time of
 * day, so numbers are large and have gaps. A document has the seq of its last change, so a seq
 * names one version of one document: metadata and text of it never change, it only goes.
 *
 * **What a follower learns.** moult_store_changes() gives what was changed behind a cursor, in
 * order. A change `puts` a version, or takes one away (`removes` is its seq), or both: an upsert
 * removes the version that it replaces. A follower that slept through the versions 9 and 12 of a
 * document of which it holds 5 is told "at 9: remove 5" and "at 12: put 12"; 9, which it never
 * had, is not mentioned. So an index keeps nothing but seqs. A follower that begins at 0 is told
 * of no removals at all: it has nothing to remove. Whoever rebuilds an index begins at 0,
 * always.
 *
 * **Spaces.** What one fingerprint makes of the documents of a slot under one setting of chunks.
 * The chunks of a version in a space are byte ranges of its text, each with a row number. Row
 * numbers are dense and never given twice in the life of a space, and neither are the numbers of
 * spaces and collections: **a space has a file of vectors of its own, named after its number
 * too**; rows of a file that belonged to another cut would look right and be wrong. Replaced and
 * deleted versions lose their chunks in all spaces.
 *
 * **Errors.** INVALID, LIMIT and MISSING are about one call: it has changed nothing, and the
 * transaction goes on. After SYSTEM (the disk, the file) and UNAVAILABLE (somebody else is
 * writing, a time limit) the transaction is broken: moult_store_rollback(), and nothing of it is
 * there. The handle stays usable: once the disk has space again, it works again.
 *
 * Strings are UTF-8. A failed call leaves its results empty, so that they may be released. */
#ifndef MOULT_STORE_STORE_H
#define MOULT_STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/limits.h"
#include "store/filter.h"
#include "store/ulid.h"

struct moult_store;
struct moult_pool;
struct moult_chunk;

enum moult_store_mode {
    MOULT_STORE_WRITE,   /* Makes the file where there is none, brings an older one up to date:
                            only when no older program uses it any more. */
    MOULT_STORE_READ     /* Never changes it; MISSING where no writer has made it yet. */
};

/* `path` names the file; its folder exists. NULL with a sentence that names the file and the way
 * out: it is damaged, no database, another program's, a newer moult's, not to be written. */
struct moult_store *moult_store_open(const char *path, enum moult_store_mode mode,
                                     struct moult_error *error);
void moult_store_close(struct moult_store *store);   /* Rolls back; NULL is allowed. */
/* Makes the call under way fail with UNAVAILABLE, if there is one. The only one for another
 * thread. */
void moult_store_interrupt(struct moult_store *store);
/* Calls of this handle that take longer fail with UNAVAILABLE. 0, the preset: none does. */
void moult_store_time_limit(struct moult_store *store, uint64_t milliseconds);
/* Reads all of the file: 0, or what is wrong with it. Minutes, for a large one. */
int moult_store_check(struct moult_store *store, struct moult_error *error);

/* ---- Transactions, of the writer. All that changes is called between these. */

int moult_store_begin(struct moult_store *store, struct moult_error *error);
/* What was done since begin is on the disk. After a failure it is rolled back. */
int moult_store_commit(struct moult_store *store, struct moult_error *error);
void moult_store_rollback(struct moult_store *store);   /* Outside of one: nothing. */

/* ---- Collections. */

struct moult_collection {
    uint32_t number;
    char name[MOULT_COLLECTION_NAME_BYTES_MAX + 1];
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    uint64_t documents;
    uint64_t text_bytes;
    uint64_t created_at;      /* Seconds since the epoch. */
};

bool moult_collection_name_valid(const char *name);   /* [A-Za-z0-9._-]{1,64} */
/* MISSING where there is none of that name. */
int moult_store_collection(struct moult_store *store, const char *name,
                           struct moult_collection *collection, struct moult_error *error);
/* *collections is malloc'ed, by name; those of one slot, or of all (NULL). */
int moult_store_collections(struct moult_store *store, const char *slot,
                            struct moult_collection **collections, unsigned *count,
                            struct moult_error *error);
/* Writer: finds it, or makes it. `slot` is for a new one; one that is there keeps its own. */
int moult_store_collection_make(struct moult_store *store, const char *name, const char *slot,
                                struct moult_collection *collection, struct moult_error *error);
/* Writer: from now on nobody sees it; its number is not used again. The bytes go with
 * moult_store_sweep(). */
int moult_store_collection_drop(struct moult_store *store, const char *name, uint64_t *seq,
                                struct moult_error *error);
/* Writer: clears away up to `count` documents and chunks of dropped collections and spaces.
 * Returns how many, 0: nothing is left, or -1. A transaction for each portion keeps them short. */
int moult_store_sweep(struct moult_store *store, uint32_t count, struct moult_error *error);

/* ---- Writing documents. */

struct moult_put {
    const char *id;            /* NULL: a ULID is made, and `id` points at `made` thereafter. */
    const char *text;
    size_t text_size;
    const char *metadata;      /* A JSON object, kept as it is; NULL: {}. Who writes it with jansson
                                  gives JSON_COMPACT | JSON_REAL_PRECISION(17). */
    size_t metadata_size;
    uint64_t seq;              /* Filled. */
    bool unchanged;            /* Filled: text and metadata are what they were, and so is seq. */
    char made[MOULT_ULID_BYTES];
};

/* All or none. A bad one is named: "documents[3]: …". Of two with one id the later wins. */
int moult_store_put(struct moult_store *store, uint32_t collection, struct moult_put *puts,
                    uint32_t count, struct moult_error *error);
/* The same checks, without a store; any thread. `index` goes into the sentence. */
int moult_put_check(const struct moult_put *put, uint32_t index, struct moult_error *error);
bool moult_document_id_valid(const char *id);   /* 1 to 512 bytes, no control characters. */

/* existed[count] may be NULL. Returns how many there were, or -1. *seq, where any was, is the
 * last one's. */
int64_t moult_store_delete(struct moult_store *store, uint32_t collection, const char *const *ids,
                           uint32_t count, bool *existed, uint64_t *seq,
                           struct moult_error *error);
/* Up to `count` of those that match; fewer than `count`: these were the last. */
int64_t moult_store_delete_matching(struct moult_store *store, uint32_t collection,
                                    const struct moult_filter *filter, uint32_t count,
                                    uint64_t *seq, struct moult_error *error);
/* Forgets what was removed at or before `seq` in the slot: for when all its followers are behind
 * it (those that are yet to begin do not count). Returns how many removals, at most `count`, or
 * -1. */
int64_t moult_store_purge(struct moult_store *store, const char *slot, uint64_t seq,
                          uint32_t count, struct moult_error *error);

/* ---- Reading documents. */

enum moult_document_part {
    MOULT_DOCUMENT_TEXT = 1,
    MOULT_DOCUMENT_METADATA = 2,
    MOULT_DOCUMENT_PASSAGE = 4   /* Of the chunk that is asked for. */
};

struct moult_document {
    uint64_t seq;              /* 0: there is none. */
    const char *id, *text, *metadata, *passage;   /* A NUL behind each; NULL: not asked for. */
    size_t text_size, metadata_size, passage_size;
    uint32_t chunk_begin, chunk_end;        /* Of the chunk, bytes of the text. */
};

struct moult_documents {
    struct moult_document *items;
    uint32_t count;
    const char *cursor;        /* Of a list: where the next page begins; NULL: there is none. */
    struct moult_pool *pool;   /* What all of these point into. */
};

void moult_documents_release(struct moult_documents *documents);

/* items[i] belongs to ids[i]; `parts` of the enum above. */
int moult_store_get(struct moult_store *store, uint32_t collection, const char *const *ids,
                    uint32_t count, unsigned parts, struct moult_documents *documents,
                    struct moult_error *error);

struct moult_hit_asked {
    uint64_t seq;
    uint32_t chunk;
};

/* items[i] belongs to hits[i]; its seq is 0 where that version is gone. `space` 0: chunks do not
 * matter. */
int moult_store_get_hits(struct moult_store *store, uint32_t collection, uint32_t space,
                         const struct moult_hit_asked *hits, uint32_t count, unsigned parts,
                         struct moult_documents *documents, struct moult_error *error);
/* The chunks of one version in a space; *chunks is malloc'ed, and NULL where it has none. */
int moult_store_chunks(struct moult_store *store, uint32_t space, uint64_t seq,
                       struct moult_chunk **chunks, uint32_t *count, struct moult_error *error);
/* By id, bytewise. A document that is there during the whole walk is in it, once. `cursor` and
 * `filter` may be NULL. It ends early, with a cursor, where `bytes_max` are reached. */
int moult_store_list(struct moult_store *store, uint32_t collection, const char *cursor,
                     uint32_t count, size_t bytes_max, const struct moult_filter *filter,
                     unsigned parts, struct moult_documents *documents,
                     struct moult_error *error);

/* ---- Filters and words. */

/* One bit for each row of a space: bit r is bit r % 64 of words[r / 64]. */
struct moult_allowed {
    uint64_t *words;           /* Owned. */
    uint32_t bits;             /* Rows that the space had then. A row behind them came later:
                                  whether it matches, moult_filter_matches() can tell. */
    uint64_t documents, rows;  /* That match. */
    uint64_t seq;              /* The last change that is in it. */
};

void moult_allowed_release(struct moult_allowed *allowed);
int moult_store_allowed(struct moult_store *store, uint32_t collection, uint32_t space,
                        const struct moult_filter *filter, struct moult_allowed *allowed,
                        struct moult_error *error);

struct moult_word_hit {
    uint64_t seq;
    double score;              /* BM25: larger is better. */
};

/* The `k` best by the words of `query`, any of which may be missing: by score, then by seq, both
 * as hits[k] has room. Nothing in a query is an operator; one without words finds nothing.
 * `filter` may be NULL. Returns how many, or -1. In a large table, documents that have none of the
 * query's rarer words are looked at only where there are not `k` others (words.c). */
int moult_store_find_words(struct moult_store *store, uint32_t collection, const char *query,
                           size_t query_size, const struct moult_filter *filter, uint32_t k,
                           struct moult_word_hit *hits, struct moult_error *error);

/* ---- Spaces. */

struct moult_space_key {
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    char fingerprint[MOULT_SHA256_HEX];
    uint32_t dimensions;       /* C */
    uint32_t chunk_tokens;     /* What --chunk-tokens comes to; 0: texts are not cut. */
    uint32_t chunk_overlap;
};

struct moult_space {
    uint32_t number;           /* From 1. */
    struct moult_space_key key;
    uint32_t next_row;         /* Rows that were given so far. */
    uint64_t documents;        /* That have chunks in it, of all collections of the slot; those
                                  of dropped ones count until they are swept. */
    uint64_t chunks;           /* That are alive: of next_row rows the rest is garbage. */
    uint64_t text_bytes;       /* Of those documents. */
    uint64_t created_at;
};

struct moult_chunk {
    uint32_t begin, end;       /* Bytes of the text. */
    uint32_t row;
};

/* Writer: finds it, or makes it. */
int moult_store_space_make(struct moult_store *store, const struct moult_space_key *key,
                           struct moult_space *space, struct moult_error *error);
int moult_store_space(struct moult_store *store, uint32_t number, struct moult_space *space,
                      struct moult_error *error);
/* *spaces is malloc'ed, by number; those of one slot, or of all (NULL). */
int moult_store_spaces(struct moult_store *store, const char *slot, struct moult_space **spaces,
                       unsigned *count, struct moult_error *error);
/* Writer: gone at once; the bytes go with moult_store_sweep(), its file is the caller's. */
int moult_store_space_drop(struct moult_store *store, uint32_t number,
                           struct moult_error *error);
/* Writer: the next `count` row numbers, *first and those behind it. */
int moult_store_rows_take(struct moult_store *store, uint32_t space, uint32_t count,
                          uint32_t *first, struct moult_error *error);
/* Writer: these are the chunks of that version now, in order, whatever they were before; 0: it
 * has none. MISSING where the version or the space is gone, which is no trouble. */
int moult_store_cut(struct moult_store *store, uint32_t space, uint64_t seq,
                    const struct moult_chunk *chunks, uint32_t count, struct moult_error *error);

/* ---- Following. */

struct moult_store_change {
    uint64_t seq;
    uint64_t removes;          /* 0: nothing. */
    uint32_t collection;
    bool puts;                 /* The version `seq`, with what follows. */
    bool drops;                /* All of the collection. */
    uint32_t chunk_count;      /* 0: the space has not cut it yet, and `text` is there. */
    const struct moult_chunk *chunks;
    const char *text;          /* NULL where there are chunks; a NUL lies behind it. */
    size_t text_size;
};

struct moult_changes {
    struct moult_store_change *items;
    uint32_t count;
    uint64_t cursor;           /* Where a follower stands that has done these. */
    bool complete;             /* Nothing lay behind them. */
    struct moult_pool *pool;   /* What the items point into. */
};

void moult_changes_release(struct moult_changes *changes);
/* In all collections of the slot. At most `count_max`, and not more once `bytes_max` are
 * reached: one is given in any case. `space` 0: chunks do not matter, and texts are not read. */
int moult_store_changes(struct moult_store *store, const char *slot, uint32_t space,
                        uint64_t cursor, uint32_t count_max, size_t bytes_max,
                        struct moult_changes *changes, struct moult_error *error);
/* The text of one version, malloc'ed: for chunks whose rows turn out to be damaged. MISSING. */
int moult_store_text(struct moult_store *store, uint64_t seq, char **text, size_t *size,
                     struct moult_error *error);
/* How many changes lie behind the cursor; time grows with them (10 million/s or so). */
int moult_store_behind(struct moult_store *store, const char *slot, uint64_t cursor,
                       uint64_t *changes, struct moult_error *error);

struct moult_store_numbers {
    uint64_t seq;              /* The last one. */
    uint64_t documents, text_bytes, chunks;
    uint64_t removals;         /* That moult_store_purge() has not forgotten. */
    uint64_t unswept;          /* Dropped collections and spaces that are not cleared away. */
    uint64_t disk_bytes;       /* File and log. */
};
int moult_store_count(struct moult_store *store, struct moult_store_numbers *numbers,
                      struct moult_error *error);

/* ---- A damaged file. */

struct moult_rescue {
    uint64_t documents;        /* That were saved. */
    uint64_t bare;             /* Of these, those whose metadata could not be. */
    uint64_t lost;             /* That were met and have no text any more. */
    uint64_t expected;         /* As the collections had counted them, where that can be read. */
};

struct moult_rescue_progress {
    void (*advance)(void *context, uint64_t documents, uint64_t expected);
    void *context;
};

/* Puts what can be read of the file `from` into a new one, `to`, under new seqs and without
 * chunks: all is embedded again. `from` stays as it is, and nobody else may use it. */
int moult_store_rescue(const char *from, const char *to,
                       const struct moult_rescue_progress *progress, struct moult_rescue *rescue,
                       struct moult_error *error);

#endif
