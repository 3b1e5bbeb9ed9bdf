#include "front/slots.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/slot.h"

#define CLAIM_LOOK_NS 100000000ull

static void on_deliver(uv_timer_t *timer);
static void on_clock(uv_timer_t *timer);

/* The bits of a rung depend on the CPU, on which of its instructions may be used, and on moult. */
static void name_cpu(char name[MOULT_CPU_BYTES]) {
    const char *level = getenv("MOULT_CPU");
    char cpu[100];
    moult_machine_cpu("", cpu, sizeof cpu);
    snprintf(name, MOULT_CPU_BYTES, "%s%s%.16s, moult " MOULT_VERSION, cpu[0] ? cpu : "unknown",
             level != NULL ? " as " : "", level != NULL ? level : "");
}

struct moult_slots *moult_slots_open(uv_loop_t *loop, const struct moult_serve_options *options,
                                     const char *models_folder) {
    struct moult_slots *slots = moult_allocate(1, sizeof *slots);
    slots->loop = loop;
    slots->options = options;
    slots->models_folder = moult_copy_string(models_folder);
    slots->threads = options->threads > 0 ? options->threads : moult_machine_threads();
    slots->slots = moult_allocate(MOULT_SLOTS_MAX, sizeof *slots->slots);
    slots->clock_ns = UINT64_MAX;
    name_cpu(slots->cpu);
    uv_timer_init(loop, &slots->deliver);
    uv_timer_init(loop, &slots->clock);
    slots->deliver.data = slots->clock.data = slots;
    return slots;
}

void moult_slots_listen(struct moult_slots *slots, const struct moult_slots_events *events,
                        void *context) {
    slots->events = events;
    slots->events_context = context;
}

struct moult_slot *moult_slots_add(struct moult_slots *slots, const char *name,
                                   const char *source) {
    MOULT_REQUIRE(slots->count < MOULT_SLOTS_MAX);
    struct moult_slot *slot = &slots->slots[slots->count++];
    slot->slots = slots;
    slot->name = moult_copy_string(name);
    slot->source = moult_copy_string(source);
    if (slots->options->report_texts > 0)
        slot->asked = moult_asked_open(slots->options->report_texts);
    return slot;
}

/* Admission. */

static bool has_room(const struct moult_slots *slots, const struct moult_job *job) {
    return slots->waiting_texts == 0 || job->slot->swapping ||
           slots->waiting_texts + (uint64_t)job->count <= slots->options->waiting_texts_max;
}

static int check_generation(const struct moult_job *job, struct moult_error *error) {
    const struct moult_generation *generation =
        job->pinned != NULL ? job->pinned : job->slot->current;
    if (generation == NULL || (!generation->was_ready && job->pinned == NULL))
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The model %s is still loading.",
                          job->slot->name);
    if (generation->phase >= MOULT_GENERATION_RETIRING)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The model %s has just been retired.",
                          generation->label);
    size_t capacity = moult_answer_bytes_max(job->message, job->message_size,
                                             generation->report.dimensions);
    if (!moult_channel_fits(job->message_size, capacity))
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "The request or its answer is too large: send fewer texts at once.");
    return 0;
}

/* Those who name a model that has to be loaded first must not take all of the waiting room from
 * those who name one that serves. */
static int check_share(const struct moult_job *job, struct moult_error *error) {
    const struct moult_generation *pinned = job->pinned;
    uint32_t most = job->slot->slots->options->waiting_texts_max / 2;
    if (pinned == NULL || pinned->ready || job->slot->swapping || pinned->queue.texts == 0 ||
        pinned->queue.texts + (uint64_t)job->count <= most)
        return 0;
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "%s is being loaded, and %u texts wait for it already. Try again in a "
                      "moment.",
                      pinned->label, pinned->queue.texts);
}

int moult_slots_submit(struct moult_slots *slots, struct moult_job *job, uint32_t *retry_after_s,
                       struct moult_error *error) {
    *retry_after_s = 1;
    if (slots->stopping)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "The server is shutting down.");
    if (check_generation(job, error) != 0)
        return -1;
    if (!has_room(slots, job))
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "%u texts wait already; at most %u may. Try again in a moment.",
                          slots->waiting_texts, slots->options->waiting_texts_max);
    struct moult_generation *generation = job->pinned != NULL ? job->pinned : job->slot->current;
    if (check_share(job, error) != 0 || moult_generation_check_gate(generation, job, error) != 0)
        return -1;
    job->admitted_ns = generation->used_ns = moult_clock_ns();
    moult_job_wait(job);
    if (job->searches && !generation->indexed) {
        moult_slots_wake_by(slots, job->admitted_ns);
        moult_followers_look(job->slot);
    }
    moult_generation_pump(generation);
    return 0;
}

void moult_slots_submit_own(struct moult_slots *slots, struct moult_job *job) {
    MOULT_REQUIRE(job->own && job->pinned->phase < MOULT_GENERATION_RETIRING && !slots->stopping);
    job->admitted_ns = moult_clock_ns();
    moult_job_wait(job);
    moult_generation_pump(job->pinned);
}

void moult_slots_note_asked(const struct moult_job *job) {
    if (job->slot->asked != NULL)
        moult_asked_note_job(job->slot->asked, job);
}

static bool is_waiting(const struct moult_slots *slots, const struct moult_job *job) {
    return job->process == NULL && job->list != &slots->finished;
}

void moult_slots_abandon(struct moult_slots *slots, struct moult_job *job) {
    struct moult_generation *generation = job->pinned != NULL ? job->pinned : job->slot->current;
    bool own = job->own;   /* No generation waits for it to go. */
    MOULT_REQUIRE(job->list != NULL);
    if (generation != NULL)
        moult_generation_hold(generation);
    if (is_waiting(slots, job))
        moult_job_unwait(job);
    else if (job->process == NULL)
        moult_job_list_remove(job);
    else
        moult_generation_take_back(moult_process_owner(job->process), job);
    moult_job_close(job);
    if (generation != NULL) {
        moult_generation_pump(generation);
        if (!own)
            moult_generation_settle(generation);
        moult_generation_drop(generation);
    }
}

void moult_slots_finish(struct moult_job *job, enum moult_job_outcome outcome) {
    struct moult_slots *slots = job->slot->slots;
    job->outcome = outcome;
    moult_job_list_append(&slots->finished, job);
    if (!uv_is_active((uv_handle_t *)&slots->deliver))
        uv_timer_start(&slots->deliver, on_deliver, 0, 0);
}

static void refuse_all(struct moult_job_list *list, const char *message) {
    struct moult_job *job;
    while ((job = list->first) != NULL) {
        moult_job_unwait(job);
        snprintf(job->answer.message, sizeof job->answer.message, "%s", message);
        moult_slots_finish(job, MOULT_JOB_UNAVAILABLE);
    }
}

void moult_slots_refuse(struct moult_queue *queue, const char *message) {
    refuse_all(&queue->suspects, message);
    refuse_all(&queue->searches, message);
    for (unsigned lane = 0; lane < MOULT_LANES; lane++)
        refuse_all(&queue->lanes[lane], message);
}

static void on_deliver(uv_timer_t *timer) {
    struct moult_slots *slots = timer->data;
    struct moult_job *job;
    while ((job = slots->finished.first) != NULL) {
        moult_job_list_remove(job);
        job->done(job);
    }
}

/* Cut-over. */

void moult_slot_cut_over(struct moult_slot *slot, struct moult_generation *candidate) {
    struct moult_generation *old = slot->current;
    MOULT_REQUIRE(candidate->ready && candidate != old);
    candidate->phase = MOULT_GENERATION_CURRENT;
    candidate->installed = true;
    candidate->by_name = false;
    candidate->replaced_at = candidate->retires_at = 0;
    candidate->used_ns = moult_clock_ns();
    candidate->warm_until_ns = candidate->drain_until_ns = 0;
    slot->current = candidate;
    if (old != NULL)
        old->replaced_at = (uint64_t)time(NULL);
    if (old != NULL && old->was_ready)
        moult_generation_drain(old);
    else if (old != NULL)
        moult_generation_retire(old);
    moult_followers_cut_over(candidate);
    moult_generation_pump(candidate);
}

struct moult_generation *moult_slot_find_warm(const struct moult_slot *slot, const char *revision) {
    for (unsigned i = slot->generation_count; i-- > 0;) {
        struct moult_generation *generation = slot->generations[i];
        if (generation->phase == MOULT_GENERATION_WARM && generation->ready &&
            strcmp(generation->revision, revision) == 0)
            return generation;
    }
    return NULL;
}

/* Time. One timer for all: it is set to the least of what the generations want. */

void moult_slots_wake_by(struct moult_slots *slots, uint64_t ns) {
    if (ns >= slots->clock_ns || uv_is_closing((uv_handle_t *)&slots->clock))
        return;
    uint64_t now_ns = moult_clock_ns();
    slots->clock_ns = ns;
    uv_update_time(slots->loop);
    uv_timer_start(&slots->clock, on_clock, ns > now_ns ? (ns - now_ns + 999999) / 1000000 : 0, 0);
}

static void on_clock(uv_timer_t *timer) {
    struct moult_slots *slots = timer->data;
    uint64_t now_ns = moult_clock_ns();
    uint64_t due_ns = UINT64_MAX;
    slots->clock_ns = UINT64_MAX;
    for (unsigned s = 0; s < slots->count; s++) {
        struct moult_slot *slot = &slots->slots[s];
        /* A generation may leave while it is looked at; from last to first none is missed. */
        for (unsigned i = slot->generation_count; i-- > 0;) {
            if (i >= slot->generation_count)
                continue;
            struct moult_generation *generation = slot->generations[i];
            moult_generation_hold(generation);
            uint64_t ns = moult_generation_tick(generation, now_ns);
            due_ns = ns < due_ns ? ns : due_ns;
            moult_generation_drop(generation);
        }
        if (slot->claim.since_ns != 0 && !slot->claim.given) {
            /* Time may give what nobody's going does: see room.c. */
            slots->events->drained(slots->events_context, slot);
            due_ns = now_ns + CLAIM_LOOK_NS < due_ns ? now_ns + CLAIM_LOOK_NS : due_ns;
        }
    }
    if (due_ns != UINT64_MAX)
        moult_slots_wake_by(slots, due_ns);
}

/* The end. */

static void fail_running(struct moult_generation *generation) {
    struct moult_job *job;
    moult_slots_refuse(&generation->queue, "The server is shutting down.");
    while ((job = generation->running.first) != NULL) {
        moult_generation_take_back(generation, job);
        moult_slots_finish(job, MOULT_JOB_UNAVAILABLE);
    }
}

void moult_slots_stop(struct moult_slots *slots, bool at_once) {
    slots->stopping = true;
    if (!at_once)
        return;
    for (unsigned s = 0; s < slots->count; s++) {
        struct moult_slot *slot = &slots->slots[s];
        moult_slots_refuse(&slot->queue, "The server is shutting down.");
        for (unsigned i = slot->generation_count; i-- > 0;) {
            if (i >= slot->generation_count)
                continue;
            struct moult_generation *generation = slot->generations[i];
            moult_generation_hold(generation);
            fail_running(generation);
            moult_generation_drop(generation);
        }
    }
}

bool moult_slots_retire_all(struct moult_slots *slots) {
    bool none = true;
    for (unsigned s = 0; s < slots->count; s++) {
        struct moult_slot *slot = &slots->slots[s];
        for (unsigned i = slot->generation_count; i-- > 0;)
            if (i < slot->generation_count)
                moult_generation_retire(slot->generations[i]);
        none = none && slot->generation_count == 0;
    }
    return none;
}

void moult_slots_close_handles(struct moult_slots *slots) {
    uv_close((uv_handle_t *)&slots->deliver, NULL);
    uv_close((uv_handle_t *)&slots->clock, NULL);
}

void moult_slots_free(struct moult_slots *slots) {
    for (unsigned s = 0; s < slots->count; s++) {
        free(slots->slots[s].name);
        free(slots->slots[s].source);
        free(slots->slots[s].generations);
        if (slots->slots[s].asked != NULL)
            moult_asked_close(slots->slots[s].asked);
    }
    free(slots->slots);
    free(slots->models_folder);
    free(slots);
}

/* What others read. */

/* A worker that died is back before long, and requests wait for it; one that does not come back
 * is an illness, however often it is still tried. */
static bool is_well(const struct moult_generation *current) {
    uint64_t patience_ns =
        moult_fault_seconds("UNHEALTHY", MOULT_UNHEALTHY_SECONDS) * 1000000000ull;
    return current != NULL &&
           (current->lost_ns == 0 || moult_clock_ns() - current->lost_ns < patience_ns);
}

bool moult_slots_healthy(const struct moult_slots *slots) {
    for (unsigned s = 0; s < slots->count; s++)
        if (!is_well(moult_slot_current(&slots->slots[s])))
            return false;
    return slots->count > 0;
}

unsigned moult_slots_count(const struct moult_slots *slots) {
    return slots->count;
}

struct moult_slot *moult_slots_at(const struct moult_slots *slots, unsigned index) {
    return index < slots->count ? &slots->slots[index] : NULL;
}

struct moult_slot *moult_slots_find(const struct moult_slots *slots, const char *name) {
    for (unsigned s = 0; s < slots->count; s++)
        if (strcmp(slots->slots[s].name, name) == 0)
            return &slots->slots[s];
    return NULL;
}

unsigned moult_slot_index(const struct moult_slot *slot) {
    return (unsigned)(slot - slot->slots->slots);
}

struct moult_generation *moult_slot_worker_at(const struct moult_slot *slot, unsigned index) {
    return index < slot->generation_count ? slot->generations[index] : NULL;
}

uint64_t moult_slot_restarts(const struct moult_slot *slot) {
    return slot->restarts;
}

const char *moult_slot_name(const struct moult_slot *slot) {
    return slot->name;
}

const char *moult_slot_source(const struct moult_slot *slot) {
    return slot->source;
}

struct moult_generation *moult_slot_current(const struct moult_slot *slot) {
    return slot->current != NULL && slot->current->was_ready ? slot->current : NULL;
}

static bool is_callable(const struct moult_generation *generation) {
    return (generation->was_ready || generation->installed) &&
           generation->fingerprint[0] != '\0' &&
           generation->phase >= MOULT_GENERATION_CURRENT &&
           generation->phase <= MOULT_GENERATION_WARM;
}

struct moult_generation *moult_slot_generation_at(const struct moult_slot *slot, unsigned index) {
    /* The current one may be an old one that a rollback has taken back: it comes first. */
    struct moult_generation *current = moult_slot_current(slot);
    if (current != NULL && index-- == 0)
        return current;
    for (unsigned i = slot->generation_count; i-- > 0;) {
        struct moult_generation *generation = slot->generations[i];
        if (generation != current && is_callable(generation) && index-- == 0)
            return generation;
    }
    return NULL;
}

uint64_t moult_generation_retires_at(const struct moult_generation *generation) {
    return generation->retires_at;
}

uint64_t moult_generation_replaced_at(const struct moult_generation *generation) {
    return generation->phase != MOULT_GENERATION_CURRENT ? generation->replaced_at : 0;
}

bool moult_generation_loaded(const struct moult_generation *generation) {
    return !moult_generation_rests(generation);
}

uint32_t moult_slots_waiting(const struct moult_slots *slots) {
    return slots->waiting_texts;
}

uint32_t moult_slots_waiting_max(const struct moult_slots *slots) {
    return slots->options->waiting_texts_max;
}
