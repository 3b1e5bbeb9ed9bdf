/* The bytes of the two shared areas. Front and worker are the same program, so
 * integers are native and the structs below are the layout; the worker refuses
 * another `program`, `version` or size.
 *
 * Request area, written by the front alone:
 *
 *     0       magic, version, sizes, program      written once, before the worker starts
 *     64      bell, tail, exit_asked              "look again", submissions so far, "stop"
 *     128     armed                               how often the front has gone to sleep
 *     192     ring      [SLOTS] u32               slot numbers in order of submission
 *     4,288   slots     [SLOTS] of 48 bytes       where each message and answer block lies
 *     53,440              (up to a page)
 *     …       messages, where the front's allocator puts them
 *
 * Answer area, written by the worker alone:
 *
 *     0       sleepers                            threads in, or on their way into, the futex
 *     64      tail                                completions so far
 *     128     progress                            the sign of life
 *     192     report_turn, report                 a seqlock
 *     …       ring      [SLOTS] u32               slot numbers in order of completion
 *     …       started   [SLOTS] u32               the `use` of the slot's request, once begun
 *     …       (up to a page)
 *     …       answer blocks, where the front's allocator puts them
 *
 * A ring never overflows: a slot number is in one of them at most once, and a
 * slot is given again only after the front has taken its completion. Its entry
 * is published by the release store of `tail` behind it, both ways.
 *
 * Why no wake-up is lost. Towards the worker: a thread reads `bell`, looks for
 * work, finds none, adds itself to `sleepers`, and calls FUTEX_WAIT with what it
 * read. The front stores `tail`, increments `bell`, then reads `sleepers`, and
 * wakes one if there are any. All four are sequentially consistent, so either
 * the front sees the sleeper, or the sleeper's kernel sees the new `bell` and
 * does not wait. What the kernel compares it compares under the lock that
 * FUTEX_WAKE takes, so a sleeper that the front has seen is either in the queue
 * or will see the new value. A thread that leaves work over wakes another
 * (moult_port_wake_others) without touching `bell`: what it leaves over came out
 * of the ring after that other thread looked, hence its `bell` comes after the
 * look as well, and one of the two wakes finds the thread.
 *
 * Towards the front: it takes completions until there are none, increments
 * `armed`, and looks once more before it believes it. The worker stores `tail`,
 * then reads `armed`; a value that it has not rung for yet is rung for, once,
 * through the eventfd. Either the front's last look sees the new tail, or the
 * worker sees the new `armed`. While the front drains nothing is rung: it looks
 * again by itself.
 *
 * What a hostile worker can do. The front reads nothing of the answer area but
 * through single atomic loads or one copy, checks the copy, and keeps what it
 * decides by (which slots are out, where blocks lie) in memory of its own. A
 * torn or rewritten report is a strange report, never a wild read. */
#ifndef MOULT_IPC_LAYOUT_H
#define MOULT_IPC_LAYOUT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/limits.h"
#include "ipc/channel.h"

#define MOULT_LAYOUT_MAGIC 0x31746c756f6dul /* "moult1" */
#define MOULT_LAYOUT_VERSION 1u

#define MOULT_PAGE_BYTES 4096ul
#define MOULT_PAGE_UP(bytes)                                                                      \
    (((bytes) + MOULT_PAGE_BYTES - 1) / MOULT_PAGE_BYTES * MOULT_PAGE_BYTES)

/* Sparse: pages that were never touched cost nothing. A body of 16 MB fits five
 * times, and so does the decimal answer to 2,048 texts in 1,024 dimensions. */
#define MOULT_REQUEST_AREA_BYTES (96 * MOULT_MIB)
#define MOULT_ANSWER_AREA_BYTES (256 * MOULT_MIB)
#define MOULT_BLOCK_ALIGN 64ul

struct moult_layout_slot {
    uint64_t message_offset;   /* From the start of the request area. */
    uint64_t message_size;
    uint64_t block_offset;     /* From the start of the answer area. */
    uint64_t block_capacity;
    uint64_t submitted_ns;     /* CLOCK_MONOTONIC */
    uint32_t lane;
    uint32_t use;              /* Never 0; another one for each request in this slot. */
};

struct moult_request_head {
    uint64_t magic;
    uint32_t version;
    uint32_t slots;
    uint64_t request_bytes, answer_bytes;
    char program[32];
    _Alignas(64) _Atomic uint32_t bell;
    _Atomic uint32_t tail;
    _Atomic uint32_t exit_asked;
    _Alignas(64) _Atomic uint32_t armed;
    _Alignas(64) uint32_t ring[MOULT_CHANNEL_SLOTS];
    struct moult_layout_slot entries[MOULT_CHANNEL_SLOTS];
};

#define MOULT_REPORT_WORDS ((sizeof(struct moult_worker_report) + 7) / 8)

struct moult_answer_head {
    _Alignas(64) _Atomic uint32_t sleepers;
    _Alignas(64) _Atomic uint32_t tail;
    _Alignas(64) _Atomic uint64_t progress;
    _Alignas(64) _Atomic uint32_t report_turn;   /* Odd while it is being written. */
    _Atomic uint64_t report[MOULT_REPORT_WORDS];
    _Alignas(64) _Atomic uint32_t ring[MOULT_CHANNEL_SLOTS];
    _Atomic uint32_t started[MOULT_CHANNEL_SLOTS];
};

static_assert((MOULT_CHANNEL_SLOTS & (MOULT_CHANNEL_SLOTS - 1)) == 0,
              "Ring positions are counters that wrap.");
static_assert(sizeof(struct moult_layout_slot) == 48, "Byte table.");
static_assert(offsetof(struct moult_request_head, bell) == 64, "Byte table.");
static_assert(offsetof(struct moult_request_head, armed) == 128, "Byte table.");
static_assert(offsetof(struct moult_request_head, ring) == 192, "Byte table.");
static_assert(offsetof(struct moult_request_head, entries) == 4288, "Byte table.");
static_assert(offsetof(struct moult_answer_head, tail) == 64, "Byte table.");
static_assert(offsetof(struct moult_answer_head, progress) == 128, "Byte table.");
static_assert(offsetof(struct moult_answer_head, report_turn) == 192, "Byte table.");
static_assert(ATOMIC_INT_LOCK_FREE == 2 && ATOMIC_LLONG_LOCK_FREE == 2,
              "A lock would lie in one process only.");
static_assert(sizeof(_Atomic uint32_t) == 4, "The futex word.");

#define MOULT_REQUEST_DATA MOULT_PAGE_UP(sizeof(struct moult_request_head))
#define MOULT_ANSWER_DATA MOULT_PAGE_UP(sizeof(struct moult_answer_head))

static_assert(MOULT_REQUEST_AREA_BYTES % MOULT_PAGE_BYTES == 0 &&
                  MOULT_ANSWER_AREA_BYTES % MOULT_PAGE_BYTES == 0,
              "Areas are whole pages.");
static_assert(MOULT_REQUEST_AREA_BYTES >= 2 * MOULT_BODY_BYTES_MAX,
              "A request of the largest body fits beside another.");

#endif
