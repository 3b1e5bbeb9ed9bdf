/* The desk: where the loop hands in what is to be done with the store, and gets it back done.
 *
 * SQLite waits for disks, so the loop never calls it. Three threads do, each with a handle of its
 * own: one writes, one reads, and one searches for words, which may take long, so that nobody else
 * waits for it. What is handed in is a task, which is part of its owner's struct.
 *
 *   queue         worked off
 *   ───────────── ─────────────────────────────────────────────────────────────────────────────
 *   WRITE         all that wait together, in their order: one transaction and one sync for all
 *   READ          one after the other, in their order
 *   READ_LATER    like READ, whenever no READ waits
 *   WORDS         like READ, in the thread that searches for words
 *
 * A write that fails with INVALID, LIMIT or MISSING has changed nothing, and its neighbours go on.
 * After another error the transaction is lost (store.h); then each of its tasks is run again
 * alone, so that only those fail that have to. So `run` may be called more than once, and begins by
 * forgetting what it had found.
 *
 * `done` is called exactly once, in the loop's thread, in the order of the queue: of a write, when
 * it is on disk. Work of a task is to be bounded, for those behind it wait. */
#ifndef MOULT_FRONT_DESK_H
#define MOULT_FRONT_DESK_H

#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/error.h"

struct moult_desk;
struct moult_store;

enum moult_desk_queue { MOULT_DESK_WRITE, MOULT_DESK_READ, MOULT_DESK_READ_LATER, MOULT_DESK_WORDS,
                        MOULT_DESK_QUEUES };

struct moult_desk_task {
    /* Set by the owner, who leaves the task and all that `run` touches alone until `done`. */

    /* In a thread of the desk. Returns 0, or -1 with the error; it must not touch what belongs to
     * the loop. */
    int (*run)(struct moult_desk_task *task, struct moult_store *store, struct moult_error *error);
    /* In the loop's thread; NULL in `error`'s place: it is done. May free the task. */
    void (*done)(struct moult_desk_task *task, const struct moult_error *error);
    size_t bytes;                      /* About what a write brings: bounds a transaction. */

    /* The desk's own. */
    enum moult_desk_queue queue;
    bool failed;
    struct moult_error error;
    struct moult_desk_task *next;
};

/* Opens FOLDER/documents.db, or makes it: NULL where it cannot be used, and the error says what a
 * person can do. Blocks. `as_guest`: it is another process's (takeover.h). Then it is opened when
 * it is needed, each task hears of what is wrong, and writes wait for moult_desk_release(). */
struct moult_desk *moult_desk_open(uv_loop_t *loop, const char *folder, bool as_guest,
                                   struct moult_error *error);
/* Hands in; from now on `done` will be called, in a later turn of the loop. After moult_desk_stop()
 * it hears that the server is shutting down. */
void moult_desk_hand_in(struct moult_desk *desk, enum moult_desk_queue queue,
                        struct moult_desk_task *task);
/* True: the task had not begun and is its owner's again, and `done` will not be called. */
bool moult_desk_withdraw(struct moult_desk *desk, struct moult_desk_task *task);

/* Tasks of a queue that are not done. */
unsigned moult_desk_waiting(const struct moult_desk *desk, enum moult_desk_queue queue);

/* From now on writes wait. True: none is under way any more; else ask again. */
bool moult_desk_hold(struct moult_desk *desk);
void moult_desk_release(struct moult_desk *desk);

/* Of one that holds: the store is another process's from now on. Writes that wait, and all that
 * still come, hear so: MOULT_ERROR_UNAVAILABLE. */
void moult_desk_give_away(struct moult_desk *desk);

/* Takes nothing more. What was handed in is done; what has not begun fails if `at_once`. True once
 * nothing is left; ask again. */
bool moult_desk_stop(struct moult_desk *desk, bool at_once);
/* After that: ends the threads, and after the loop has run its last, frees all. */
void moult_desk_close_handles(struct moult_desk *desk);
void moult_desk_free(struct moult_desk *desk);

#endif
