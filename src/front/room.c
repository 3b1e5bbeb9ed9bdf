/* Room for one more worker.
 *
 * Two things are scarce. A slot has at most MOULT_GENERATIONS_PER_SLOT_MAX workers at a time, and
 * all workers together have the memory of --memory, and what the machine and its cgroup have free.
 * A new worker's need is what its model took when it was loaded before, or else an estimate by its
 * files; one that is still loading counts with its whole need. A candidate computes its need by
 * itself (front/memory.h) and keeps to the promise that moult_room_promise() makes; so the estimate
 * unloads others for it, and refuses it only where its files alone are too much.
 *
 * Who asks is either an update, for its candidate, or a sleeping generation that a job waits for.
 * An update goes first: from when it asks until its candidate has a worker, one place of the slot
 * is its own. Where there is no room, somebody is put to sleep, which costs those who call it a
 * wait and nothing else (sleep.c). Who that is:
 *
 *   1  was replaced, idle, still warm           the longest unused first, in each row
 *   2  was replaced, idle, woken by its name    for PAUSE_NS, or has had its slice of time, unless
 *   3  was replaced, idle, leased               an update or the current one asks
 *   4  another slot's current one, unused for IDLE_SECONDS          memory alone
 *   5  was replaced, and busy                   for its slice of time at least, the longest first;
 *                                               for memory by an update alone
 *
 * Row 5 is why nobody is kept out for ever by those who call old models without a pause: they
 * take turns, who has waited longest first. A candidate, a current one of the same slot and one
 * that drains are never put to sleep; a leased model is as callable as before, for its files stay.
 *
 * "Later" means that somebody is leaving, or may yet be put to sleep; "never" that all of that
 * would not do, or that an update has waited for memory as long as a request may. The error has
 * the figures of both. */
#include <inttypes.h>
#include <string.h>

#include "base/fault.h"
#include "base/machine.h"
#include "front/memory.h"
#include "front/slot.h"

#define SECOND_NS 1000000000ull
#define IDLE_SECONDS 10
#define PAUSE_NS (SECOND_NS / 4)
#define PATIENCE_NS SECOND_NS
#define SLICE_NS (5 * SECOND_NS)

/* Of models in F32: see front/memory.h. */
#define NEED_PER_FILE_BYTE 1.4

struct wish {
    struct moult_slot *slot;
    uint64_t need_bytes;       /* What it is unloaded for, … */
    uint64_t least_bytes;      /* … and what it is refused for. */
    uint64_t waited_ns, now_ns;
    bool first;                /* An update, or the current one: it need not take turns for long. */
    bool update;
    bool swap;                 /* Even the current one of the slot goes for it. */
};

static uint64_t need_of_files(uint64_t file_bytes) {
    return moult_memory_least((uint64_t)((double)file_bytes * NEED_PER_FILE_BYTE));
}

static uint64_t need_of(const struct moult_generation *generation) {
    return generation->worker_bytes != 0 ? generation->worker_bytes
                                         : need_of_files(generation->file_bytes);
}

static bool has_worker(const struct moult_generation *generation) {
    return !generation->asleep;
}

static bool is_leaving(const struct moult_generation *generation) {
    return generation->falling_asleep || generation->phase == MOULT_GENERATION_RETIRING;
}

static unsigned count_workers(const struct moult_slot *slot) {
    unsigned count = 0;
    for (unsigned i = 0; i < slot->generation_count; i++)
        count += has_worker(slot->generations[i]);
    return count;
}

/* Who is put to sleep. */

/* The row of the table above; 0: none. */
static unsigned row_of(const struct moult_generation *generation, const struct wish *wish) {
    if (!has_worker(generation) || is_leaving(generation) || generation->kept)
        return 0;
    bool idle = moult_generation_unasked(generation);
    uint64_t idle_ns = moult_fault_seconds("IDLE", IDLE_SECONDS) * SECOND_NS;
    if (generation->phase == MOULT_GENERATION_CURRENT)
        return generation->slot != wish->slot && idle && generation->ready &&
                       wish->now_ns >= generation->used_ns + idle_ns
                   ? 4 : 0;
    if (generation->phase != MOULT_GENERATION_WARM)
        return 0;
    bool sliced = generation->ready && wish->now_ns >= generation->ready_ns + SLICE_NS;
    bool paused = wish->now_ns >= generation->used_ns + PAUSE_NS;
    if (!idle)
        return sliced ? 5 : 0;
    if (!generation->by_name && !generation->leased)
        return 1;
    /* Between two requests of a caller it is idle as well. */
    return !wish->first && !paused && !sliced ? 0 : generation->leased ? 3 : 2;
}

struct choice {
    struct moult_generation *generation;
    unsigned row;
};

static void consider(struct choice *best, struct moult_generation *generation,
                     const struct wish *wish, unsigned row_max) {
    unsigned row = row_of(generation, wish);
    if (row == 0 || row > row_max)
        return;
    bool earlier = best->generation == NULL || row < best->row;
    if (!earlier && row == best->row)
        earlier = row == 5 ? generation->ready_ns < best->generation->ready_ns
                           : generation->used_ns < best->generation->used_ns;
    if (earlier)
        *best = (struct choice){generation, row};
}

static struct moult_generation *choose_of_slot(struct moult_slot *slot, const struct wish *wish,
                                               unsigned row_max) {
    struct choice best = {0};
    for (unsigned i = 0; i < slot->generation_count; i++)
        consider(&best, slot->generations[i], wish, row_max);
    return best.generation;
}

static struct moult_generation *choose_of_all(struct moult_slots *slots, const struct wish *wish,
                                              unsigned row_max) {
    struct choice best = {0};
    for (unsigned s = 0; s < slots->count; s++)
        for (unsigned i = 0; i < slots->slots[s].generation_count; i++)
            consider(&best, slots->slots[s].generations[i], wish, row_max);
    return best.generation;
}

/* One that is not installed has nothing to come back to. */
static void send_off(struct moult_generation *generation) {
    if (generation->installed)
        moult_generation_sleep(generation);
    else
        moult_generation_retire(generation);
}

/* Places. */

static bool has_place(const struct wish *wish) {
    unsigned others = count_workers(wish->slot);
    others += !wish->update && wish->slot->claim.since_ns != 0;
    return others < MOULT_GENERATIONS_PER_SLOT_MAX;
}

static bool is_somebody_leaving(const struct moult_slot *slot) {
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (has_worker(slot->generations[i]) && is_leaving(slot->generations[i]))
            return true;
    return false;
}

static enum moult_room find_place(const struct wish *wish, struct moult_error *error) {
    if (has_place(wish))
        return MOULT_ROOM_GIVEN;
    moult_fail(error, MOULT_ERROR_UNAVAILABLE,
               "%d models of %s have a worker already, and none could be unloaded. Try again in a "
               "moment.",
               MOULT_GENERATIONS_PER_SLOT_MAX, wish->slot->name);
    if (is_somebody_leaving(wish->slot))
        return MOULT_ROOM_LATER;
    bool impatient = wish->waited_ns >= (wish->first ? PATIENCE_NS : SLICE_NS);
    struct moult_generation *chosen = choose_of_slot(wish->slot, wish, impatient ? 5 : 3);
    if (chosen != NULL)
        send_off(chosen);
    return has_place(wish) ? MOULT_ROOM_GIVEN : MOULT_ROOM_LATER;
}

/* Memory. */

struct memory {
    uint64_t used_bytes;       /* Of all workers, as they will be when they have loaded. */
    uint64_t promised_bytes;   /* What of that is not there yet. */
    uint64_t leaving_bytes;    /* Of those that are about to end. */
    uint64_t movable_bytes;    /* Of those that are, and of those that may yet be put to sleep. */
};

/* Some time or other, not only now. */
static bool is_movable(const struct moult_generation *generation, const struct wish *wish) {
    if (generation->slot != wish->slot || is_leaving(generation))
        return true;
    if (generation->phase == MOULT_GENERATION_CURRENT)
        return wish->swap;
    return generation->phase == MOULT_GENERATION_WARM ||
           generation->phase == MOULT_GENERATION_DRAINING;
}

static void add_worker(struct memory *memory, struct moult_generation *generation,
                       const struct wish *wish) {
    if (generation->process == NULL)
        return;
    uint64_t bytes = moult_machine_resident_bytes(moult_process_pid(generation->process));
    bool loading = !generation->ready && !is_leaving(generation);
    uint64_t used = loading && need_of(generation) > bytes ? need_of(generation) : bytes;
    memory->used_bytes += used;
    memory->promised_bytes += used - bytes;
    memory->leaving_bytes += is_leaving(generation) ? used : 0;
    memory->movable_bytes += is_movable(generation, wish) ? used : 0;
}

static struct memory measure(struct moult_slots *slots, const struct wish *wish) {
    struct memory memory = {0};
    for (unsigned s = 0; s < slots->count; s++) {
        struct moult_slot *slot = &slots->slots[s];
        for (unsigned i = 0; i < slot->generation_count; i++)
            add_worker(&memory, slot->generations[i], wish);
        bool own = wish->update && slot == wish->slot;
        if (slot->claim.given && !own) {
            memory.used_bytes += slot->claim.bytes;
            memory.promised_bytes += slot->claim.bytes;
            memory.movable_bytes += slot->claim.bytes;
        }
    }
    return memory;
}

/* What one more worker may take. */
static uint64_t left_bytes(const struct moult_slots *slots, const struct memory *memory) {
    uint64_t budget = slots->options->memory_bytes != 0 ? slots->options->memory_bytes : UINT64_MAX;
    uint64_t free_bytes = moult_memory_promise();
    uint64_t of_budget = budget > memory->used_bytes ? budget - memory->used_bytes : 0;
    uint64_t of_machine =
        free_bytes > memory->promised_bytes ? free_bytes - memory->promised_bytes : 0;
    return of_budget < of_machine ? of_budget : of_machine;
}

/* Where an update is refused for what the old model has. */
static const char *way_out(const struct wish *wish) {
    bool helps = wish->update && !wish->slot->swapping && !wish->swap &&
                 moult_slot_current(wish->slot) != NULL;
    return helps ? " --swap wait unloads the old model first, and lets requests wait." : "";
}

static void explain(const struct wish *wish, const struct memory *memory, uint64_t left,
                    struct moult_error *error) {
    uint64_t budget_bytes = wish->slot->slots->options->memory_bytes;
    unsigned long long need_mib = wish->least_bytes >> 20, used_mib = memory->used_bytes >> 20;
    if (budget_bytes != 0 && memory->used_bytes + left >= budget_bytes)
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "The model needs %llu MiB of memory or more beside the %llu MiB that other "
                   "workers have, and --memory allows all of them %llu MiB.%s",
                   need_mib, used_mib, (unsigned long long)(budget_bytes >> 20), way_out(wish));
    else
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "The model needs %llu MiB of memory or more beside what is running, and only "
                   "%llu MiB are free.%s",
                   need_mib, (unsigned long long)(left >> 20), way_out(wish));
}

static enum moult_room find_memory(const struct wish *wish, struct moult_error *error) {
    struct moult_slots *slots = wish->slot->slots;
    struct memory memory = measure(slots, wish);
    uint64_t left = left_bytes(slots, &memory);
    if (wish->need_bytes <= left)
        return MOULT_ROOM_GIVEN;
    explain(wish, &memory, left, error);
    if (wish->least_bytes > left + memory.movable_bytes)
        return MOULT_ROOM_NEVER;   /* Nobody is put to sleep in vain. */
    if (wish->need_bytes <= left + memory.leaving_bytes)
        return MOULT_ROOM_LATER;
    struct moult_generation *chosen = choose_of_all(slots, wish, wish->update ? 5 : 4);
    if (chosen != NULL)
        send_off(chosen);
    else if (wish->least_bytes <= left && memory.leaving_bytes == 0)
        return MOULT_ROOM_GIVEN;
    return MOULT_ROOM_LATER;
}

uint64_t moult_room_promise(const struct moult_generation *candidate) {
    struct wish wish = {.slot = candidate->slot, .update = true};
    struct memory memory = measure(candidate->slot->slots, &wish);
    uint64_t left = left_bytes(candidate->slot->slots, &memory);
    return left > 0 ? left : 1;
}

/* Who asks. */

enum moult_room moult_room_claim(struct moult_slot *slot, uint64_t file_bytes,
                                 struct moult_error *error) {
    uint64_t now_ns = moult_clock_ns();
    if (slot->claim.since_ns == 0)
        slot->claim.since_ns = now_ns;
    uint64_t index_bytes = moult_followers_index_bytes(slot);
    slot->claim.bytes = need_of_files(file_bytes) + index_bytes;
    struct wish wish = {.slot = slot,
                        .need_bytes = slot->claim.bytes,
                        .least_bytes = moult_memory_least(file_bytes) + index_bytes,
                        .waited_ns = now_ns - slot->claim.since_ns,
                        .now_ns = now_ns,
                        .first = true,
                        .update = true};
    enum moult_room room = find_place(&wish, error);
    if (room == MOULT_ROOM_GIVEN)
        room = find_memory(&wish, error);
    if (room == MOULT_ROOM_LATER && has_place(&wish) &&
        wish.waited_ns > MOULT_ROOM_SECONDS * SECOND_NS)
        room = MOULT_ROOM_NEVER;
    slot->claim.given = room == MOULT_ROOM_GIVEN;
    if (room == MOULT_ROOM_NEVER)
        moult_room_let_go(slot);
    else if (room == MOULT_ROOM_LATER)
        moult_slots_wake_by(slot->slots, now_ns + PATIENCE_NS / 10);
    return room;
}

bool moult_room_is_hopeless(struct moult_slot *slot, uint64_t file_bytes,
                            struct moult_error *error) {
    struct wish wish = {
        .slot = slot, .least_bytes = moult_memory_least(file_bytes), .update = true, .swap = true};
    struct memory memory = measure(slot->slots, &wish);
    uint64_t left = left_bytes(slot->slots, &memory);
    if (wish.least_bytes <= left + memory.movable_bytes)
        return false;
    explain(&wish, &memory, left + memory.movable_bytes, error);
    return true;
}

void moult_room_let_go(struct moult_slot *slot) {
    memset(&slot->claim, 0, sizeof slot->claim);
    moult_slots_wake_by(slot->slots, moult_clock_ns());
}

/* Else those who have just been put to sleep for somebody would be back before him. */
static bool is_another_before(const struct moult_generation *generation) {
    const struct moult_slot *slot = generation->slot;
    if (generation == slot->current)
        return false;
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_generation *other = slot->generations[i];
        if (other != generation && other->wanted_ns != 0 &&
            (other == slot->current || other->wanted_ns < generation->wanted_ns))
            return true;
    }
    return false;
}

enum moult_room moult_room_for(struct moult_generation *generation, uint64_t waited_ns,
                               struct moult_error *error) {
    struct wish wish = {.slot = generation->slot,
                        .need_bytes = need_of(generation),
                        .least_bytes = need_of(generation),
                        .waited_ns = waited_ns,
                        .now_ns = moult_clock_ns(),
                        .first = generation->phase == MOULT_GENERATION_CURRENT};
    if (is_another_before(generation)) {
        moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                   "Others have waited longer for a worker of %s. Try again in a moment.",
                   generation->slot->name);
        return MOULT_ROOM_LATER;
    }
    enum moult_room place = find_place(&wish, error);
    return place == MOULT_ROOM_GIVEN ? find_memory(&wish, error) : place;
}
