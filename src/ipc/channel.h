/* The shared memory between the front and one worker.
 *
 * Two memfds of sealed size, one writer each. The front writes the request area
 * and maps the answer area read-only; the worker does the reverse, and holds no
 * descriptor that would let it do more. A request is a slot number in a ring;
 * its slot says where its message lies and which block of the answer area the
 * worker may fill. The front owns the allocation of both areas, so answers
 * come back in any order and are sent from where they lie. A futex wakes the
 * worker and an eventfd the front, and only when they sleep.
 *
 * ipc/layout.h has the byte tables. This header is the front's side: one
 * thread, the loop's, uses it. port.h is the worker's.
 *
 * The front starts a worker by executing its own program as
 *
 *     moult worker --channel=3,4,5 --folder=6 --parent=PID --threads=N --label="minilm 7"
 *
 * with --haste=0, 1 or 2 (enum moult_haste) for the time while it loads, and --memory=BYTES
 * where it must not take more than that until it is ready,
 * with the descriptors of moult_channel_worker_fds() and of the installed
 * folder under the numbers that it names, and PID its own. All other
 * descriptors above 2 are closed by the worker.
 *
 * A worker that is to have an index gets --rows=7,8,… as well: files of vectors (rows.h), among
 * them that of its own model, or a blank one; --row-count=N, how many rows it is to expect; and
 * --follow-nice=1 to 20 where the BACKGROUND lane is to have threads of its own: their nice value,
 * or, with 20, when nobody else wants the CPU. */
#ifndef MOULT_IPC_CHANNEL_H
#define MOULT_IPC_CHANNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "moult.h"

#define MOULT_CHANNEL_SLOTS 1024

enum moult_lane {
    MOULT_LANE_SINGLE,
    MOULT_LANE_BATCH,
    MOULT_LANE_BACKGROUND     /* For threads of low priority, where it has any; else BATCH. */
};

enum moult_worker_state {
    MOULT_WORKER_STARTING,
    MOULT_WORKER_LOADING,
    MOULT_WORKER_CHECKING,    /* The self-check, which also warms. */
    MOULT_WORKER_READY,
    MOULT_WORKER_FAILED       /* `failure` says why; the process is about to exit. */
};

/* What a worker says about itself; copied out of shared memory and checked
 * (strings end, numbers are within limits.h). */
struct moult_worker_report {
    enum moult_worker_state state;
    double load_progress;                 /* 0 to 1 */
    char failure[512];
    char fingerprint[MOULT_SHA256_HEX];
    char architecture[32], pooling[16], kernels[16], precision[16];
    double fidelity;                      /* Of that precision: the least cosine to f32. */
    bool normalized, has_query_prompt, has_document_prompt;
    uint32_t dimensions, tokens_max, vocabulary_size, layers, threads;
    /* Computed before it loads (model/footprint.h): at most, and once it serves. 0: not known. */
    uint64_t memory_peak_bytes, memory_bytes;
};

/* How a worker loads. */
enum moult_haste {
    MOULT_HASTE_NONE,     /* When nobody else wants the CPU. */
    MOULT_HASTE_SOME,     /* With a small part of it. */
    MOULT_HASTE_FULL      /* Like any other: nothing serves beside it. */
};

struct moult_channel;

struct moult_channel *moult_channel_open(struct moult_error *error);
void moult_channel_close(struct moult_channel *channel);

/* The descriptors that the worker inherits, in the order of port.h. They are
 * the channel's, and close on exec: the spawning code duplicates them. */
enum { MOULT_CHANNEL_FDS = 3 };
void moult_channel_worker_fds(const struct moult_channel *channel, int fds[MOULT_CHANNEL_FDS]);
/* Readable when the worker has something to say: completions or a new state. */
int moult_channel_wake_fd(const struct moult_channel *channel);

/* Copies a message in and hands it to the worker. Returns the slot (0 to
 * MOULT_CHANNEL_SLOTS - 1), or -1 when there is no room just now: then try
 * again after a release. */
int moult_channel_submit(struct moult_channel *channel, enum moult_lane lane,
                         const void *message, size_t size, size_t answer_capacity);
/* True if such a request could ever fit into empty areas. */
bool moult_channel_fits(size_t size, size_t answer_capacity);

/* Takes the next finished slot, or -1. *block and *capacity are its answer
 * block, valid until moult_channel_release(). A worker that names a slot that
 * is not its own gets -1 and *broken = true: kill it. */
int moult_channel_completed(struct moult_channel *channel, const char **block,
                            size_t *capacity, bool *broken);
/* Gives the slot's memory back. Large blocks go back to the system. */
void moult_channel_release(struct moult_channel *channel, int slot);

/* Clears the wake-up; call it before draining completions. */
void moult_channel_wake_clear(struct moult_channel *channel);
void moult_channel_report(struct moult_channel *channel, struct moult_worker_report *report);
/* Grows while the worker lives and moves: the watchdog compares two looks. */
uint64_t moult_channel_progress(const struct moult_channel *channel);
/* Whether the worker has begun this slot: after its death these are the suspects. */
bool moult_channel_started(const struct moult_channel *channel, int slot);
/* Asks the worker to finish what it has and exit. */
void moult_channel_ask_exit(struct moult_channel *channel);

#endif
