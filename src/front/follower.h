/* Followers lead the generations along the document table, so that vectors follow the model: one
 * follower for each generation that has a worker (docs/decisions/0015-documents.md).
 *
 * The table is the truth. A follower reads what has changed behind its cursor, sees to it that the
 * space of its model has chunks and vectors of it, tells the worker's index, and moves the cursor.
 * Who writes documents waits for it, and who searches may have to. How far each has come decides
 * when an update may cut over (update.c).
 *
 * The loop's thread is the only one here; the store's own are behind the desk (desk.h). */
#ifndef MOULT_FRONT_FOLLOWER_H
#define MOULT_FRONT_FOLLOWER_H

#include <jansson.h>
#include <uv.h>

#include "front/slots.h"

struct moult_desk;
struct moult_followers;

/* ------------------------------------------------------------------ writes */

enum moult_write_outcome {
    MOULT_WRITE_FOUND,        /* The next search finds it, whichever generation answers. */
    MOULT_WRITE_REFUSED,      /* It is stored, and has a document that the model cannot embed:
                                 searches by vector do not find that one. The others are found. */
    MOULT_WRITE_LATER         /* It is stored, and cannot be searched yet: the message says why. */
};

struct moult_write_result {
    enum moult_write_outcome outcome;
    bool killed_worker;       /* Why it is REFUSED: 424 in some dialects, else 500. */
    uint64_t seq;             /* Of the first document that is REFUSED. */
    char message[512];        /* A finished sentence; "" where it is FOUND. */
};
typedef void (*moult_write_listener)(void *context, const struct moult_write_result *result);

/* A write to a collection of that slot is on disk: its upserts, or its deletes, have the numbers
 * from `first_seq` to `last_seq`. To be called from the `done` of its task, before anything else
 * may happen. The listener is called once, from the loop and not from within this call, when every
 * generation that answers searches has come so far: the current one, and a candidate that is about
 * to. Where there is none it waits, at most MOULT_WRITE_SECONDS_MAX, as for all else. */
void moult_followers_wrote(struct moult_followers *followers, struct moult_slot *slot,
                           uint64_t first_seq, uint64_t last_seq, moult_write_listener listener,
                           void *context);
/* Before a write of so many documents: whether as many may still wait for the models to embed them.
 * Fails with MOULT_ERROR_UNAVAILABLE: 429. */
int moult_followers_admit(const struct moult_followers *followers, const struct moult_slot *slot,
                          uint32_t documents, struct moult_error *error);

/* ---------------------------------------------------------------- searches */

/* A search is a job like any other, with `searches` set (job.h): it goes to moult_slots_submit(),
 * and waits in the queue until the index of the generation that is to answer it is complete,
 * which it is unless that has just been started. After MOULT_SEARCH_SECONDS_MAX it gets
 * MOULT_JOB_UNAVAILABLE, with a sentence.
 *
 * What is made of a space's rows and chunks (a filter's bitmap) belongs to one generation: such a
 * job is pinned to it. */

/* The number that the store has given to the space of that generation's model; 0: not known yet. */
uint32_t moult_followers_space(const struct moult_followers *followers,
                               const struct moult_generation *generation);

/* ----------------------------------------------------------------- updates */

/* What it takes to make the vectors of all documents of a slot by another model. */
struct moult_follow_estimate {
    uint64_t documents;       /* All of them, … */
    uint64_t missing;         /* … and those that the model's space has not. */
    uint64_t disk_bytes;      /* About what these take, … */
    uint64_t disk_free_bytes; /* … and what there is. */
};
typedef void (*moult_estimate_listener)(void *context, uint64_t tag,
                                        const struct moult_follow_estimate *estimate,
                                        const struct moult_error *error);

/* False: there is none yet, or nobody keeps any. */
bool moult_followers_have_documents(const struct moult_slot *slot);
/* Of a generation whose worker is ready. The listener is called once, from the loop. */
void moult_followers_estimate(struct moult_generation *generation,
                              moult_estimate_listener listener, void *context, uint64_t tag);
/* From now on the generation, which is to become the current one, is led until its lag is small,
 * and then writes wait for it, too. */
void moult_followers_lead(struct moult_generation *generation);
/* No longer: nobody waits for it. */
void moult_followers_let_go(struct moult_generation *generation);
/* Nothing that was acknowledged, or will be, is missing in its index. */
bool moult_followers_arrived(const struct moult_generation *generation);

struct moult_follow_progress {
    uint64_t documents, documents_total;
    uint64_t embedded;                /* Of these, by this worker and those before it. */
    double documents_per_second;      /* That are embedded; 0: none were. */
    double seconds_left;              /* 0: not known. */
    unsigned failures;                /* In a row. */
    const char *trouble;              /* A sentence, or "". */
};
void moult_followers_progress(const struct moult_generation *generation,
                              struct moult_follow_progress *progress);

/* ------------------------------------------------------------------- state */

/* Of the slot's followers, for GET /update_model and /info; a new reference:
 * [{"generation", "fingerprint", "seq", "documents", "documents_total", "synced", "complete",
 *   "trouble"}]. */
json_t *moult_followers_json(const struct moult_followers *followers,
                             const struct moult_slot *slot);

/* ---------------------------------------------------- what server.c makes of it */

/* Before any generation is made. Without any, the slots know nothing of documents. `own`: the data
 * folder is ours to write; a guest (takeover.h) only reads. Blocks. */
struct moult_followers *moult_followers_open(uv_loop_t *loop, struct moult_slots *slots,
                                             struct moult_desk *desk, const char *data_folder,
                                             bool own, struct moult_error *error);
/* It is ours from now on, or no longer. */
void moult_followers_own(struct moult_followers *followers, bool own);
/* Somebody reads the table from its beginning: removals are not forgotten meanwhile. */
void moult_followers_keep_removals(struct moult_followers *followers, bool keep);
/* Of all spaces of a slot those of these fingerprints stay, the others go; but the newest of the
 * others stays as well where `keep_newest`, for an update that was broken off. */
void moult_followers_sweep(struct moult_followers *followers, const struct moult_slot *slot,
                           char (*fingerprints)[MOULT_SHA256_HEX], unsigned count,
                           bool keep_newest);
/* Begins nothing more, and tells those who wait MOULT_WRITE_LATER if `at_once`. True once nothing
 * of it is under way; ask again. */
bool moult_followers_stop(struct moult_followers *followers, bool at_once);
void moult_followers_close_handles(struct moult_followers *followers);
void moult_followers_free(struct moult_followers *followers);

#endif
