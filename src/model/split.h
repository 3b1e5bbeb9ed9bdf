/* Computing in stages that several threads share, and that others may join and leave at any time.
 *
 * One thread leads. It goes from stage to stage; a stage has items, which may be worked off in any
 * order by anyone, and it ends when all of them are done. Whoever has a hand free claims some of
 * what is left: half of it while there are two, a third while there are three. So a helper that
 * does not come, or comes late, costs nothing, for the leader works off what nobody has claimed.
 * What it has to wait for is an item that a helper has claimed and not finished.
 *
 * That wait is bounded, because a thread that spins beside a busy neighbour may hold up the very
 * one that it waits for: first it spins, for about as long as an item takes, then it sleeps. When
 * it had to sleep, or waited for much of what the help was worth, a helper has lost its CPU to
 * somebody; when the leader itself did not run all the time, somebody wants that CPU, and it may
 * have been a helper. Both are likely to happen again: so for a while nothing is shared, and for
 * twice as long after the next time. */
#ifndef MOULT_MODEL_SPLIT_H
#define MOULT_MODEL_SPLIT_H

#include <stdbool.h>
#include <stdint.h>

struct moult_split;

/* Items [first, end) of a stage; `own` is what the thread brings that works on them. */
typedef void moult_split_work(void *context, uint32_t first, uint32_t end, void *own);

/* More items than that are never shared. */
#define MOULT_SPLIT_ITEMS_MAX 0xFFFFu

struct moult_split *moult_split_open(void);
/* Nobody may lead or help any more. */
void moult_split_close(struct moult_split *split);

/* For the leader. */

/* The time, and how much of it the calling thread has run. */
struct moult_split_time {
    uint64_t ns, ran_ns;
};
struct moult_split_time moult_split_now(void);

/* False where sharing has not paid of late. */
bool moult_split_is_worth(const struct moult_split *split, uint64_t now_ns);
/* Makes the caller the leader, of `threads` that share at most. False where another one leads, or
 * it is not worth while. */
bool moult_split_begin(struct moult_split *split, uint32_t threads, struct moult_split_time now);
uint32_t moult_split_threads(const struct moult_split *split);
/* One stage, until it is done. Its items become visible to the leader, and all before it was
 * visible to those who helped. */
void moult_split_stage(struct moult_split *split, uint32_t count, moult_split_work *work,
                       void *context, void *own);
void moult_split_end(struct moult_split *split, struct moult_split_time now);

/* For helpers. */

/* The number of what is led at the moment; 0: nothing. */
uint32_t moult_split_led(const struct moult_split *split);
/* Helps until that ends, or `leave`, asked before each claim, says so; where nothing was led, until
 * something is. Never waits long: where there is nothing to claim for a tenth of a millisecond, it
 * returns. */
void moult_split_help(struct moult_split *split, void *own, bool (*leave)(void *context),
                      void *context);

#endif
