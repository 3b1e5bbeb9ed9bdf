/* Sleep: a generation whose model stays installed needs no worker while nobody asks for it.
 *
 *            moult_generation_sleep()       the worker has ended        a job waits
 *     awake ─────────────────────────> falling asleep ─────────> asleep ──────────> wanted
 *       ^                                    (what waits meanwhile makes it wanted)    │
 *       └──────────────────────────────────── a worker is loaded <─── there is room ───┘
 *
 * Nothing is lost on the way: what the worker had begun it finishes, and whatever it had not
 * been handed yet waits in the generation's queue for the next worker, which gives the same bits.
 * So any generation but a candidate can be put to sleep at any time, at the cost of a wait. Who is,
 * and when: room.c where there is want of room, and time (moult_generation_rest_ns) elsewhere.
 *
 * A job waits at most MOULT_ROOM_SECONDS for room, and then, or where there can be none, is
 * refused with the reason. Loading itself takes as long as it takes, under the watchdog's eye. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/slot.h"

#define SECOND_NS 1000000000ull
/* Who was woken by name stays awake for a while, however short warmth is to be: those
 * who call an old model call it again. */
#define LINGER_SECONDS_MIN 10u

struct moult_generation *moult_generation_shelve(struct moult_slot *slot,
                                                 const struct moult_state_model *model) {
    struct moult_generation *generation = moult_allocate(1, sizeof *generation);
    generation->slot = slot;
    generation->references = 1;
    generation->number = model->generation;
    generation->phase = MOULT_GENERATION_WARM;
    generation->installed = generation->asleep = true;
    generation->file_bytes = model->bytes;
    generation->worker_bytes = model->memory_bytes;
    generation->ready_at = model->since;
    generation->report.dimensions = model->dimensions;
    generation->rung = model->rung;
    memcpy(generation->revision, model->revision, sizeof generation->revision);
    memcpy(generation->fingerprint, model->fingerprint, sizeof generation->fingerprint);
    snprintf(generation->label, sizeof generation->label, "%s@%.8s", slot->name,
             model->fingerprint);
    moult_generation_join(slot, generation);
    return generation;
}

bool moult_generation_rests(const struct moult_generation *generation) {
    return generation->asleep || generation->falling_asleep;
}

/* Falling asleep. */

void moult_generation_sleep(struct moult_generation *generation) {
    MOULT_REQUIRE(generation->phase != MOULT_GENERATION_CANDIDATE);
    if (moult_generation_rests(generation) || generation->phase >= MOULT_GENERATION_RETIRING)
        return;
    moult_log_info("The worker of %s is unloaded.", generation->label);
    if (generation->process == NULL) {
        moult_generation_fall_asleep(generation);
        return;
    }
    bool ready = generation->ready;
    generation->falling_asleep = true;
    generation->ready = false;
    if (ready)
        moult_process_ask_exit(generation->process);
    else
        moult_process_kill(generation->process, "It was unloaded while it loaded.");
    moult_generation_settle(generation);
}

void moult_generation_fall_asleep(struct moult_generation *generation) {
    struct moult_slot *slot = generation->slot;
    generation->asleep = true;
    generation->falling_asleep = generation->by_name = generation->ready = false;
    moult_followers_lost(generation);
    generation->strikes = 0;
    generation->restart_ns = generation->warm_until_ns = generation->kill_ns = 0;
    moult_generation_hold(generation);
    if (generation->phase == MOULT_GENERATION_DRAINING && moult_generation_idle(generation))
        moult_generation_settle(generation);
    bool wanted = generation->installed && generation->phase != MOULT_GENERATION_RETIRING;
    if (!wanted && moult_generation_idle(generation) && generation->phase != MOULT_GENERATION_GONE)
        moult_generation_leave(generation);   /* Which tells of the room as well. */
    else
        slot->slots->events->gone(slot->slots->events_context, slot);
    if (generation->phase != MOULT_GENERATION_GONE)
        moult_generation_pump(generation);
    if (generation->recalled)
        moult_generation_want(generation);
    moult_generation_drop(generation);
}

uint64_t moult_generation_rest_ns(const struct moult_generation *generation) {
    const struct moult_serve_options *options = generation->slot->slots->options;
    if (moult_generation_rests(generation) || generation->kept)
        return 0;
    if (generation->phase == MOULT_GENERATION_CURRENT)
        return options->idle_unload_s > 0 && generation->ready &&
                       moult_generation_unasked(generation)
                   ? generation->used_ns + options->idle_unload_s * SECOND_NS
                   : 0;
    if (generation->phase != MOULT_GENERATION_WARM || generation->leased)
        return 0;
    if (!generation->installed)
        return generation->warm_until_ns;
    if (!moult_generation_idle(generation) || !generation->ready)
        return 0;
    uint64_t linger_s = options->keep_warm_s;
    if (generation->by_name && options->idle_unload_s > 0)
        linger_s = options->idle_unload_s;
    if (generation->by_name && linger_s < LINGER_SECONDS_MIN)
        linger_s = LINGER_SECONDS_MIN;
    uint64_t until_ns = generation->used_ns + linger_s * SECOND_NS;
    return until_ns > generation->warm_until_ns ? until_ns : generation->warm_until_ns;
}

/* Waking. */

void moult_generation_want(struct moult_generation *generation) {
    if (!generation->asleep || generation->wanted_ns != 0)
        return;
    /* From the loop: whoever has just submitted a job must not be answered within that. */
    generation->wanted_ns = moult_clock_ns();
    moult_slots_wake_by(generation->slot->slots, generation->wanted_ns);
}

void moult_generation_recall(struct moult_generation *generation) {
    if (!moult_generation_rests(generation))
        return;
    generation->recalled = true;
    moult_generation_want(generation);
}

static bool has_other_workers(const struct moult_generation *generation) {
    const struct moult_slot *slot = generation->slot;
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (slot->generations[i]->process != NULL)
            return true;
    return false;
}

static void refuse(struct moult_generation *generation, const char *message) {
    generation->wanted_ns = 0;
    moult_slots_refuse(&generation->queue, message);
    if (generation->phase == MOULT_GENERATION_CURRENT) {
        moult_slots_refuse(&generation->slot->queue, message);
        moult_followers_refuse(generation->slot, message);
    }
    moult_generation_settle(generation);
}

void moult_generation_give_up(struct moult_generation *generation, const char *reason) {
    char message[512];
    snprintf(message, sizeof message, "%s cannot be loaded: %.400s", generation->label, reason);
    moult_log_warning("%s", message);
    moult_slots_refuse(&generation->queue, message);
    moult_generation_fall_asleep(generation);
}

static void wake(struct moult_generation *generation) {
    struct moult_error error;
    generation->wanted_ns = 0;
    generation->asleep = generation->recalled = false;
    generation->by_name = generation->phase != MOULT_GENERATION_CURRENT;
    if (moult_generation_run(generation, &error) == 0)
        return;
    if (generation->by_name)
        moult_generation_give_up(generation, error.message);
    else
        moult_generation_run_later(generation, error.message);
}

void moult_generation_try_wake(struct moult_generation *generation, uint64_t now_ns) {
    bool stopping = generation->slot->slots->stopping;
    if (generation->slot->swapping)
        return;
    if (generation->recalled && !(stopping && moult_generation_unasked(generation))) {
        if (!has_other_workers(generation))
            wake(generation);
        return;
    }
    if (moult_generation_unasked(generation)) {
        generation->wanted_ns = 0;   /* They have gone. */
        return;
    }
    struct moult_error error = {0};
    uint64_t waited_ns = now_ns > generation->wanted_ns ? now_ns - generation->wanted_ns : 0;
    enum moult_room room = moult_room_for(generation, waited_ns, &error);
    unsigned patience_s = moult_fault_seconds("ROOM", MOULT_ROOM_SECONDS);
    if (room == MOULT_ROOM_GIVEN)
        wake(generation);
    else if (room == MOULT_ROOM_NEVER || waited_ns > patience_s * SECOND_NS)
        refuse(generation, error.message);
}
