/* A claim is one compare-and-swap on one word:
 *
 *     bits 63..32   the number of the stage
 *          31..16   its items
 *          15..0    the first that nobody has claimed
 *
 * Before it stores a word with a new number, the leader has seen all items of the last stage done;
 * so there is nobody who may still look at what describes it, and it may be overwritten in plain
 * memory. A helper reads the description after its claim only: as long as its item is not done, the
 * leader cannot go on. It keeps nothing from before the claim but the word itself, so it does not
 * matter how long it slept between reading it and swapping it. The store of the word is what
 * makes visible to helpers all that was computed before, and adding to `done` what makes their
 * items visible to the leader.
 *
 * `done` counts the items of helpers. The leader that gives up spinning stores `sleeps`, looks at
 * `done` once more, and sleeps while it is what it saw; a helper adds to `done` and then looks at
 * `sleeps`. All four are sequentially consistent, so one of them sees the other. */
#include "model/split.h"

#include <stdatomic.h>
#include <time.h>

#include "base/error.h"
#include "base/futex.h"
#include "base/machine.h"
#include "base/memory.h"

/* How long one waits spinning for the others: so long, and a part of what it did itself before,
 * since they began later, or are slower, by a part of that. */
#define SPIN_NS 50000u
#define HELPER_SPIN_NS 100000u
#define SPIN_PART 2u
/* Looks between two looks at the clock. */
#define SPIN_LOOKS 32u

/* For how long nothing is shared after a stall, and after one stall too many. */
#define REST_NS 50000000ull
#define REST_NS_MAX 10000000000ull
/* After so many good ones in a row the next rest is half as long: where more than one in twelve or
 * so is a bad one, rests grow, and the slowest twentieth of all texts is not made of these. */
#define GOOD_MIN 8u
/* So often may nobody have come before that counts as a stall. */
#define MISSES_MAX 4u
/* For how long the leader may have been without a CPU: so long, and a part of all the time. */
#define LOST_NS 100000u
#define LOST_PART 8u

struct moult_split {
    _Alignas(64) _Atomic uint64_t word;
    _Alignas(64) _Atomic uint32_t done;
    _Atomic uint32_t sleeps;
    /* The description of the stage. */
    _Alignas(64) moult_split_work *work;
    void *context;
    _Alignas(64) _Atomic uint32_t led;      /* What is led, 0: nothing. */
    _Atomic uint32_t threads;
    _Atomic bool taken;                     /* Somebody leads. */
    _Atomic uint64_t rests_until_ns;
    /* The leader's. */
    uint32_t last_led, stage;
    uint64_t rest_ns;                       /* How long the next rest is, 0: REST_NS. */
    uint32_t misses, good;                  /* In a row. */
    /* Of what is led: */
    struct moult_split_time begun;
    bool joined, stalled;
    uint64_t saved_ns, waited_ns;           /* What items of helpers would have taken, and did. */
};

/* The CPU is told that somebody else's store is all that is waited for. */
static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb");
#endif
}

struct moult_split *moult_split_open(void) {
    struct moult_split *split = moult_allocate_large(sizeof(*split));
    MOULT_REQUIRE(split);
    return split;
}

void moult_split_close(struct moult_split *split) {
    moult_free_large(split, sizeof(*split));
}

static uint64_t word_of(uint32_t stage, uint32_t count) {
    return (uint64_t)stage << 32 | (uint64_t)count << 16;
}

/* False where nothing is left of the stage. */
static bool claim(struct moult_split *split, uint32_t *first, uint32_t *end) {
    uint64_t word = atomic_load_explicit(&split->word, memory_order_acquire);
    uint32_t threads = atomic_load_explicit(&split->threads, memory_order_relaxed), next, share;
    do {
        uint32_t count = word >> 16 & MOULT_SPLIT_ITEMS_MAX;
        next = word & MOULT_SPLIT_ITEMS_MAX;
        if (next >= count)
            return false;
        share = (count - next + threads - 1) / threads;
    } while (!atomic_compare_exchange_weak_explicit(&split->word, &word, word + share,
                                                    memory_order_acquire, memory_order_acquire));
    *first = next;
    *end = next + share;
    return true;
}

/* The leader. */

bool moult_split_is_worth(const struct moult_split *split, uint64_t now_ns) {
    return now_ns >= atomic_load_explicit(&split->rests_until_ns, memory_order_relaxed);
}

struct moult_split_time moult_split_now(void) {
    struct timespec ran;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ran);
    return (struct moult_split_time){
        .ns = moult_clock_ns(),
        .ran_ns = (uint64_t)ran.tv_sec * 1000000000u + (uint64_t)ran.tv_nsec};
}

bool moult_split_begin(struct moult_split *split, uint32_t threads, struct moult_split_time now) {
    if (threads < 2 || !moult_split_is_worth(split, now.ns) ||
        atomic_exchange_explicit(&split->taken, true, memory_order_acquire))
        return false;
    split->begun = now;
    split->joined = split->stalled = false;
    split->saved_ns = split->waited_ns = 0;
    split->last_led = split->last_led == UINT32_MAX ? 1 : split->last_led + 1;
    atomic_store_explicit(&split->threads, threads, memory_order_relaxed);
    atomic_store_explicit(&split->led, split->last_led, memory_order_release);
    return true;
}

uint32_t moult_split_threads(const struct moult_split *split) {
    return atomic_load_explicit(&split->threads, memory_order_relaxed);
}

static bool spin_for_helpers(struct moult_split *split, uint32_t expected, uint64_t until_ns) {
    do {
        for (unsigned i = 0; i < SPIN_LOOKS; i++) {
            if (atomic_load_explicit(&split->done, memory_order_acquire) == expected)
                return true;
            relax();
        }
    } while (moult_clock_ns() < until_ns);
    return false;
}

static void sleep_for_helpers(struct moult_split *split, uint32_t expected) {
    uint32_t seen;
    atomic_store(&split->sleeps, 1);
    while ((seen = atomic_load(&split->done)) != expected)
        moult_futex_wait(&split->done, seen);
    atomic_store(&split->sleeps, 0);
}

void moult_split_stage(struct moult_split *split, uint32_t count, moult_split_work *work,
                       void *context, void *own) {
    uint32_t first, end, mine = 0;
    if (count < 2 || count > MOULT_SPLIT_ITEMS_MAX) {
        work(context, 0, count, own);
        return;
    }
    uint64_t begun_ns = moult_clock_ns();
    split->work = work;
    split->context = context;
    atomic_store_explicit(&split->done, 0, memory_order_relaxed);
    atomic_store_explicit(&split->word, word_of(++split->stage, count), memory_order_release);
    while (claim(split, &first, &end)) {
        work(context, first, end, own);
        mine += end - first;
    }
    if (mine == count)
        return;
    uint64_t now_ns = moult_clock_ns(), took_ns = now_ns - begun_ns;
    split->joined = true;
    split->saved_ns += mine > 0 ? took_ns * (count - mine) / mine : 0;
    if (!spin_for_helpers(split, count - mine, now_ns + SPIN_NS + took_ns / SPIN_PART)) {
        split->stalled = true;
        sleep_for_helpers(split, count - mine);
    }
    split->waited_ns += moult_clock_ns() - now_ns;
}

static bool lost_its_cpu(const struct moult_split *split, struct moult_split_time now) {
    uint64_t took_ns = now.ns - split->begun.ns, ran_ns = now.ran_ns - split->begun.ran_ns;
    return took_ns > ran_ns + LOST_NS + took_ns / LOST_PART;
}

/* A stall, more waiting than half of what it was for, a leader without a CPU, or a row of misses
 * mean a rest, and the next rest is twice as long. */
static void judge(struct moult_split *split, struct moult_split_time now) {
    split->misses = split->joined ? 0 : split->misses + 1;
    split->good = split->joined ? split->good + 1 : split->good;
    if (split->waited_ns > split->saved_ns / 2 || lost_its_cpu(split, now))
        split->stalled = true;
    if (split->stalled || split->misses >= MISSES_MAX) {
        uint64_t rest_ns = split->rest_ns > REST_NS ? split->rest_ns : REST_NS;
        split->misses = split->good = 0;
        split->rest_ns = rest_ns < REST_NS_MAX / 2 ? 2 * rest_ns : REST_NS_MAX;
        atomic_store_explicit(&split->rests_until_ns, now.ns + rest_ns, memory_order_relaxed);
    } else if (split->good >= GOOD_MIN) {
        split->good = 0;
        split->rest_ns /= 2;
    }
}

void moult_split_end(struct moult_split *split, struct moult_split_time now) {
    judge(split, now);
    atomic_store_explicit(&split->led, 0, memory_order_release);
    atomic_store_explicit(&split->taken, false, memory_order_release);
}

/* Helpers. */

uint32_t moult_split_led(const struct moult_split *split) {
    return atomic_load_explicit(&split->led, memory_order_acquire);
}

static void help_with(struct moult_split *split, uint32_t first, uint32_t end, void *own) {
    split->work(split->context, first, end, own);
    atomic_fetch_add(&split->done, end - first);
    if (atomic_load(&split->sleeps))
        moult_futex_wake(&split->done, 1);
}

void moult_split_help(struct moult_split *split, void *own, bool (*leave)(void *context),
                      void *context) {
    uint32_t first, end, led = moult_split_led(split);
    uint64_t until_ns = moult_clock_ns() + HELPER_SPIN_NS;
    for (unsigned looks = 1; !leave(context); looks++) {
        if (claim(split, &first, &end)) {
            uint64_t begun_ns = moult_clock_ns();
            help_with(split, first, end, own);
            uint64_t now_ns = moult_clock_ns();
            until_ns = now_ns + HELPER_SPIN_NS + (now_ns - begun_ns) / SPIN_PART;
            continue;
        }
        uint32_t now_led = moult_split_led(split);
        if (led != 0 && now_led != led)
            return;
        led = now_led;
        if (looks % SPIN_LOOKS == 0 && moult_clock_ns() > until_ns)
            return;
        relax();
    }
}
