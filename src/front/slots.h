/* The served names, what stands behind each, and the way of a job through them.
 *
 * A slot has generations: one current, at most one candidate, and old ones
 * that drain or stay warm; at most MOULT_GENERATIONS_PER_SLOT_MAX at a time.
 * The loop's thread is the only one here. */
#ifndef MOULT_FRONT_SLOTS_H
#define MOULT_FRONT_SLOTS_H

#include "base/limits.h"
#include "front/generation.h"
#include "front/job.h"

struct moult_slots;

/* What a `model` field, path or header of a request means. */
struct moult_target {
    struct moult_slot *slot;
    struct moult_generation *pinned;   /* Referenced; handed to a job or dropped by
                                          moult_generation_drop(). NULL: the current one. */
    enum moult_prompt prompt;          /* From a ":query" or ":document" behind the name. */
};

/* A generation is asleep while it has no worker: the next job that it is to answer wakes it, and
 * waits so long. */

/* Resolves NAME, NAME@fp8, either with :query or :document. NULL or "" means the
 * first slot, and so does an unknown name where there is one slot and no
 * --strict-models; an unknown name with "@" is always an error (MOULT_ERROR_MISSING,
 * and the message lists what exists). */
int moult_slots_resolve(struct moult_slots *slots, const char *model,
                        struct moult_target *target, struct moult_error *error);

/* Admits the job: from now on `done` will be called. Fails with
 * MOULT_ERROR_UNAVAILABLE when more than --max-waiting texts wait already (a
 * larger request is admitted when none waits) or the server is shutting down;
 * then the job stays the caller's. *retry_after_s: what to tell the client. */
int moult_slots_submit(struct moult_slots *slots, struct moult_job *job,
                       uint32_t *retry_after_s, struct moult_error *error);
/* A client's job was answered: a few of its texts are remembered, for reports of what an update
 * changes. */
void moult_slots_note_asked(const struct moult_job *job);
/* The client has gone: `done` will not be called, the job is closed when it can be. */
void moult_slots_abandon(struct moult_slots *slots, struct moult_job *job);

/* Every slot has a current generation that is ready, or sleeps, or lost its worker less than
 * MOULT_UNHEALTHY_SECONDS ago. Never false because a candidate loads or failed. */
bool moult_slots_healthy(const struct moult_slots *slots);

unsigned moult_slots_count(const struct moult_slots *slots);
struct moult_slot *moult_slots_at(const struct moult_slots *slots, unsigned index);
/* By its name alone; NULL: there is none. */
struct moult_slot *moult_slots_find(const struct moult_slots *slots, const char *name);
/* 0 for the first. */
unsigned moult_slot_index(const struct moult_slot *slot);
const char *moult_slot_name(const struct moult_slot *slot);
const char *moult_slot_source(const struct moult_slot *slot);
/* NULL before the first. */
struct moult_generation *moult_slot_current(const struct moult_slot *slot);
/* Every generation of the slot that can be called by name@fp8 now, the current one first, then
 * newest first; some are asleep. */
struct moult_generation *moult_slot_generation_at(const struct moult_slot *slot, unsigned index);
/* Seconds since the epoch: when it ceases to be callable, and since when it is not the current one;
 * 0 where that is not settled, or not so. */
uint64_t moult_generation_retires_at(const struct moult_generation *generation);
uint64_t moult_generation_replaced_at(const struct moult_generation *generation);
/* False while it is asleep. */
bool moult_generation_loaded(const struct moult_generation *generation);

/* Every generation of the slot that may have a worker, oldest first; NULL behind the last. */
struct moult_generation *moult_slot_worker_at(const struct moult_slot *slot, unsigned index);
/* How often a worker that had ended unasked was started again. */
uint64_t moult_slot_restarts(const struct moult_slot *slot);

uint32_t moult_slots_waiting(const struct moult_slots *slots);       /* Texts. */
uint32_t moult_slots_waiting_max(const struct moult_slots *slots);

#endif
