/* The life of a generation: its runs, one worker process after the other; the
 * jobs that it has; its phases (slot.h) until it is gone.
 *
 * A death. Embedding is pure, so whatever a dead worker had not answered is
 * asked again. A job that the worker had not begun goes back to the head of its queue. One
 * that was begun is a suspect, for it may be what killed the worker: suspects
 * run one at a time, before all others and with nothing beside them. A
 * suspect that ends its worker then is guilty: it alone fails, and its
 * neighbours have their answers. SIGKILL from outside, by a person or for want of memory,
 * proves little, so such a suspect gets one more try.
 *
 * A strike is a death within 10 s of being ready, or before. The first restart comes at
 * once, later ones ever more slowly. Five strikes in a row cost the generation
 * its place, if there is a previous one (update_restore.c). Deaths that a guilty job
 * explains are no strikes, and neither are those in which a request had been begun whose client
 * has gone: what a client sends must not decide which model serves. */
#include "front/generation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/precision.h"
#include "front/memory.h"
#include "front/slot.h"

#define SECOND_NS 1000000000ull
#define WATCHDOG_LOOK_NS SECOND_NS
#define BACKGROUND_PATIENCE 10u
/* In so much time it has to get a tenth of a core, or else be waiting for something else. */
#define HUNGER_LOOK_NS (2 * SECOND_NS)
#define HUNGER_SHARE 10
#define MEMORY_LOOK_NS (SECOND_NS / 100)
#define ROOM_LOOK_NS (SECOND_NS / 10)
#define EXIT_GRACE_S 5
#define LONG_RUN_NS (10 * SECOND_NS)
#define STRIKES_OUT 5
#define RESTART_DELAY_NS (SECOND_NS / 10)
#define RESTART_DELAY_MAX_NS (10 * SECOND_NS)
#define READY_DELAY_MAX_NS (SECOND_NS / 2)
#define DEATHS_FROM_OUTSIDE_MAX 3
/* Texts of one lane that a worker has at once: enough for the next batch of every
 * thread to be there when one ends, and no more, for here is where lanes
 * keep their order and where a death costs nothing. */
#define TEXTS_PER_THREAD 32u

static const struct moult_process_events process_events;

static void restart(struct moult_generation *generation, bool was_ready, const char *reason);

/* What others read. */

uint64_t moult_generation_number(const struct moult_generation *generation) {
    return generation->number;
}

const char *moult_generation_fingerprint(const struct moult_generation *generation) {
    return generation->fingerprint;
}

const char *moult_generation_revision(const struct moult_generation *generation) {
    return generation->revision;
}

const char *moult_generation_label(const struct moult_generation *generation) {
    return generation->label;
}

const struct moult_worker_report *
moult_generation_report(const struct moult_generation *generation) {
    return &generation->report;
}

uint64_t moult_generation_ready_at(const struct moult_generation *generation) {
    return generation->ready_at;
}

int moult_generation_pid(const struct moult_generation *generation) {
    return generation->process != NULL ? moult_process_pid(generation->process) : 0;
}

void moult_generation_hold(struct moult_generation *generation) {
    generation->references++;
}

void moult_generation_drop(struct moult_generation *generation) {
    MOULT_REQUIRE(generation->references > 0);
    if (--generation->references > 0)
        return;
    MOULT_REQUIRE(generation->phase == MOULT_GENERATION_GONE);
    free(generation);
}

void moult_generation_refresh(struct moult_generation *generation) {
    if (generation->process != NULL && !generation->was_ready)
        moult_process_report(generation->process, &generation->report);
}

bool moult_generation_idle(const struct moult_generation *generation) {
    return generation->running_count == generation->running_own &&
           moult_queue_empty(&generation->queue);
}

bool moult_generation_unasked(const struct moult_generation *generation) {
    return moult_generation_idle(generation) &&
           (generation->phase != MOULT_GENERATION_CURRENT ||
            (moult_queue_empty(&generation->slot->queue) &&
             generation->slot->writes_waiting == 0));
}

/* Birth. */

void moult_generation_join(struct moult_slot *slot, struct moult_generation *generation) {
    slot->generations = moult_reallocate(slot->generations, slot->generation_count + 1,
                                         sizeof(struct moult_generation *));
    slot->generations[slot->generation_count++] = generation;
}

static void leave_slot(struct moult_slot *slot, struct moult_generation *generation) {
    unsigned at = 0;
    while (slot->generations[at] != generation)
        at++;
    slot->generation_count--;
    memmove(&slot->generations[at], &slot->generations[at + 1],
            (slot->generation_count - at) * sizeof(struct moult_generation *));
    if (slot->current == generation)
        slot->current = NULL;
}

/* A run that was ready is worth having back soon; one that never was may never be. */
static void schedule_restart(struct moult_generation *generation, bool was_ready) {
    uint64_t delay_max_ns = was_ready ? READY_DELAY_MAX_NS : RESTART_DELAY_MAX_NS;
    uint64_t delay_ns = generation->strikes < 2 ? 0 : RESTART_DELAY_NS;
    for (unsigned i = 2; i < generation->strikes && delay_ns < delay_max_ns; i++)
        delay_ns *= 2;
    generation->restart_ns =
        moult_clock_ns() + (delay_ns < delay_max_ns ? delay_ns : delay_max_ns);
    moult_slots_wake_by(generation->slot->slots, generation->restart_ns);
}

struct moult_generation *moult_generation_open(struct moult_slot *slot,
                                               const struct moult_state_model *model,
                                               enum moult_generation_phase phase,
                                               struct moult_error *error) {
    struct moult_generation *generation = moult_allocate(1, sizeof *generation);
    generation->slot = slot;
    generation->references = 1;
    generation->number = model->generation;
    generation->phase = phase;
    generation->file_bytes = model->bytes;
    generation->installed = phase == MOULT_GENERATION_CURRENT;
    generation->used_ns = moult_clock_ns();
    generation->rung = model->rung;
    memcpy(generation->revision, model->revision, sizeof generation->revision);
    memcpy(generation->fingerprint, model->fingerprint, sizeof generation->fingerprint);
    snprintf(generation->label, sizeof generation->label, "%s", slot->name);
    if (moult_generation_run(generation, error) != 0) {
        if (phase == MOULT_GENERATION_CANDIDATE) {
            moult_followers_leave(generation);
            free(generation);
            return NULL;
        }
        generation->strikes++;
        schedule_restart(generation, false);
    }
    moult_generation_join(slot, generation);
    return generation;
}

void moult_generation_set_number(struct moult_generation *generation, uint64_t number) {
    generation->number = number;
}

/* What a run before has found, or the same model on the same CPU: a generation keeps its rung, and
 * nothing is measured twice. */
static void choose_rung(const struct moult_generation *generation,
                        struct moult_process_order *order) {
    const struct moult_slots *slots = generation->slot->slots;
    const struct moult_rung *rung = &generation->rung;
    bool known = rung->precision != MOULT_PRECISION_AUTO && strcmp(rung->cpu, slots->cpu) == 0;
    order->precision = slots->options->precision;
    if (known && (order->precision == MOULT_PRECISION_AUTO ||
                  order->precision == rung->precision)) {
        order->precision = rung->precision;
        order->fidelity = rung->fidelity;
    }
}

static void note_rung(struct moult_generation *generation) {
    struct moult_rung *rung = &generation->rung;
    if (!moult_precision_parse(generation->report.precision, &rung->precision))
        rung->precision = MOULT_PRECISION_AUTO;
    rung->fidelity = generation->report.fidelity;
    memcpy(rung->cpu, generation->slot->slots->cpu, sizeof rung->cpu);
}

int moult_generation_run(struct moult_generation *generation, struct moult_error *error) {
    struct moult_slots *slots = generation->slot->slots;
    char *folder = moult_format("%s/%s", slots->models_folder, generation->revision);
    char *label = moult_format("%s %llu", generation->slot->name,
                               (unsigned long long)generation->number);
    const struct moult_generation *current = generation->slot->current;
    bool nobody_serves = current == NULL || current == generation || !current->ready;
    struct moult_process_order order = {
        .folder = folder,
        .label = label,
        .threads = slots->threads,
        .haste = nobody_serves      ? MOULT_HASTE_FULL
                 : generation->starved ? MOULT_HASTE_SOME
                                       : MOULT_HASTE_NONE,
    };
    choose_rung(generation, &order);
    /* A limit is for one that nobody needs yet. What serves, or has served, starts whatever the
     * machine says: there is nothing to be lost by it. */
    generation->promised_bytes =
        generation->phase == MOULT_GENERATION_CANDIDATE ? moult_room_promise(generation) : 0;
    order.memory_bytes = generation->promised_bytes == UINT64_MAX ? 0 : generation->promised_bytes;
    generation->restart_ns = generation->hunger_ns = 0;
    generation->ready = generation->indexed = false;
    generation->run++;
    moult_followers_equip(generation, &order);
    generation->process =
        moult_process_start(slots->loop, &order, &process_events, generation, error);
    free(folder);
    free(label);
    if (generation->process == NULL)
        return -1;
    moult_slots_wake_by(slots, moult_clock_ns() + (generation->promised_bytes > 0
                                                       ? MEMORY_LOOK_NS : WATCHDOG_LOOK_NS));
    return 0;
}

static void become_ready(struct moult_generation *generation) {
    struct moult_slots *slots = generation->slot->slots;
    generation->ready = true;
    generation->promised_bytes = 0;
    generation->worker_bytes = generation->report.memory_peak_bytes;
    generation->ready_ns = moult_clock_ns();
    generation->lost_ns = 0;
    if (generation->ready_at == 0)
        generation->ready_at = (uint64_t)time(NULL);
    generation->was_ready = true;
    note_rung(generation);
    snprintf(generation->fingerprint, sizeof generation->fingerprint, "%s",
             generation->report.fingerprint);
    snprintf(generation->label, sizeof generation->label, "%s@%.8s", generation->slot->name,
             generation->fingerprint);
    moult_log_info("Generation %llu of %s is ready: %s, %u dimensions, %s %s, %u threads.",
                   (unsigned long long)generation->number, generation->slot->name,
                   generation->label, generation->report.dimensions, generation->report.kernels,
                   generation->report.precision, generation->report.threads);
    moult_followers_ready(generation);
    slots->events->ready(slots->events_context, generation);
    moult_generation_pump(generation);
}

void moult_generation_accept(struct moult_generation *generation) {
    if (generation->process != NULL && !generation->ready)
        become_ready(generation);
}

static void on_reported(void *owner, const struct moult_worker_report *report) {
    struct moult_generation *generation = owner;
    struct moult_slots *slots = generation->slot->slots;
    bool same = strcmp(generation->fingerprint, report->fingerprint) == 0;
    switch (report->state) {
    case MOULT_WORKER_READY:
        if (!same && (generation->was_ready || generation->by_name)) {
            moult_process_kill(generation->process,
                               "Its installed files are no longer those that it began with.");
            return;
        }
        generation->report = *report;
        if (same || generation->fingerprint[0] == '\0')
            become_ready(generation);
        else
            slots->events->differs(slots->events_context, generation);
        break;
    case MOULT_WORKER_FAILED:
        /* The exit follows, and with it the reason. */
        generation->kill_ns = moult_clock_ns() + EXIT_GRACE_S * SECOND_NS;
        moult_slots_wake_by(slots, generation->kill_ns);
        break;
    default:
        /* A restart keeps showing the report of the run before. */
        if (!generation->was_ready)
            generation->report = *report;
        if (generation->phase == MOULT_GENERATION_CANDIDATE)
            slots->events->reported(slots->events_context, generation);
        break;
    }
}

/* Handing over. */

static const struct moult_queue *slot_queue(const struct moult_generation *generation) {
    return generation->phase == MOULT_GENERATION_CURRENT ? &generation->slot->queue : NULL;
}

/* A search is none before the new worker has an index. */
static struct moult_job *suspect_of(const struct moult_generation *generation,
                                    const struct moult_queue *queue) {
    struct moult_job *job = queue != NULL ? queue->suspects.first : NULL;
    while (job != NULL && job->searches && !generation->indexed)
        job = job->next;
    return job;
}

static struct moult_job *next_suspect(const struct moult_generation *generation) {
    struct moult_job *own = suspect_of(generation, &generation->queue);
    return own != NULL ? own : suspect_of(generation, slot_queue(generation));
}

static void prefer_earlier(struct moult_job **best, struct moult_job *job) {
    if (job != NULL && (*best == NULL || job->admitted_ns < (*best)->admitted_ns))
        *best = job;
}

/* Of the generation's queue and the slot's, whichever head was admitted first: else
 * those who name an exact model could keep all others from it. */
static struct moult_job *next_of_lane(const struct moult_generation *generation,
                                      enum moult_lane lane) {
    const struct moult_queue *queues[] = {&generation->queue, slot_queue(generation)};
    struct moult_job *best = NULL;
    for (unsigned i = 0; i < sizeof queues / sizeof queues[0] && queues[i] != NULL; i++) {
        prefer_earlier(&best, queues[i]->lanes[lane].first);
        if (lane == MOULT_LANE_SINGLE && generation->indexed)
            prefer_earlier(&best, queues[i]->searches.first);
    }
    return best;
}

static bool has_window(const struct moult_generation *generation, const struct moult_job *job) {
    uint32_t threads = generation->report.threads > 0 ? generation->report.threads : 1;
    uint32_t texts = generation->running_texts[job->lane];
    return texts == 0 || texts + job->count <= threads * TEXTS_PER_THREAD;
}

static void start_running(struct moult_generation *generation, struct moult_job *job) {
    moult_job_list_append(&generation->running, job);
    generation->running_count++;
    generation->running_own += job->own;
    generation->running_texts[job->lane] += job->count;
}

static void stop_running(struct moult_generation *generation, struct moult_job *job) {
    moult_job_list_remove(job);
    generation->running_count--;
    generation->running_own -= job->own;
    generation->running_texts[job->lane] -= job->count;
    if (generation->alone == job)
        generation->alone = NULL;
}

/* The job leaves its queue: for the worker, or, where it can never fit, for
 * good. False: there is no room for it now. */
static bool hand_over(struct moult_generation *generation, struct moult_job *job) {
    if (job->run != 0 && job->run != generation->run) {
        moult_job_unwait(job);
        moult_slots_finish(job, MOULT_JOB_UNAVAILABLE);
        return true;
    }
    size_t capacity = moult_answer_bytes_max(job->message, job->message_size,
                                             generation->report.dimensions);
    if (!moult_channel_fits(job->message_size, capacity)) {
        moult_job_unwait(job);
        job->answer.status = MOULT_ANSWER_INVALID;
        job->answer.message_text = UINT32_MAX;
        snprintf(job->answer.message, sizeof job->answer.message,
                 "The request or its answer is too large: send fewer texts at once.");
        moult_generation_hold(generation);
        job->generation = generation;
        moult_slots_finish(job, MOULT_JOB_ANSWERED);
        return true;
    }
    bool was_idle = generation->running_count == 0;
    if (!moult_process_submit(generation->process, job, capacity))
        return false;
    moult_job_unwait(job);
    start_running(generation, job);
    if (was_idle)
        moult_slots_wake_by(generation->slot->slots, moult_clock_ns() + WATCHDOG_LOOK_NS);
    return true;
}

void moult_generation_pump(struct moult_generation *generation) {
    if (generation->asleep && !moult_generation_unasked(generation))
        moult_generation_want(generation);
    if (!generation->ready || generation->alone != NULL)
        return;
    for (struct moult_job *suspect; (suspect = next_suspect(generation)) != NULL;) {
        if (generation->running_count > 0 || !hand_over(generation, suspect))
            return;
        if (generation->running_count > 0) {
            generation->alone = suspect;
            return;
        }
    }
    for (unsigned lane = 0; lane < MOULT_LANES; lane++)
        for (struct moult_job *job; (job = next_of_lane(generation, lane)) != NULL;)
            if (!has_window(generation, job) || !hand_over(generation, job))
                break;
}

void moult_generation_take_back(struct moult_generation *generation, struct moult_job *job) {
    stop_running(generation, job);
    moult_process_take_back(generation->process, job);
    if (!job->own)
        moult_generation_settle(generation);
}

/* The index lacks what it had: the search waits at the gate until that has been made again. */
static bool comes_again(struct moult_generation *generation, struct moult_job *job) {
    struct moult_slots *slots = generation->slot->slots;
    if (!job->searches || job->answer.status != MOULT_ANSWER_NOT_YET || slots->stopping ||
        !moult_followers_doubt(generation))
        return false;
    generation->indexed = false;
    moult_answer_view_release(&job->answer);
    memset(&job->answer, 0, sizeof job->answer);
    moult_process_release_answer(job);
    moult_job_wait_again(job, false);
    moult_slots_wake_by(slots, moult_clock_ns());
    return true;
}

static void on_answered(void *owner, struct moult_job *job) {
    struct moult_generation *generation = owner;
    stop_running(generation, job);
    if (comes_again(generation, job))
        return;
    moult_generation_hold(generation);   /* For the job, … */
    moult_generation_hold(generation);   /* … and for what follows. */
    uint64_t now_ns = moult_clock_ns();
    if (!job->own || generation->phase == MOULT_GENERATION_CURRENT)
        generation->used_ns = now_ns;
    if (job->count == 1 && !job->own)
        moult_latency_count(&generation->slot->latency, now_ns - job->admitted_ns, now_ns);
    job->generation = generation;
    job->outcome = MOULT_JOB_ANSWERED;
    job->done(job);
    moult_generation_settle(generation);
    moult_generation_drop(generation);
}

static void on_drained(void *owner) {
    moult_generation_pump(owner);
}

/* Death. */

static bool is_guilty(const struct moult_generation *generation, const struct moult_job *job,
                      const struct moult_process_end *end) {
    if (generation->alone != job || moult_process_orphans(generation->process) > 0)
        return false;
    return !end->killed_from_outside || job->deaths >= DEATHS_FROM_OUTSIDE_MAX;
}

static void blame(struct moult_generation *generation, struct moult_job *job) {
    moult_log_warning("A request of %u texts ended the worker of %s while it ran alone; it fails.",
                      job->count, generation->label);
    generation->strikes -= job->deaths < generation->strikes ? job->deaths : generation->strikes;
    moult_generation_hold(generation);
    job->generation = generation;
    moult_slots_finish(job, MOULT_JOB_KILLED_WORKER);
}

/* From last to first, so that each goes to the head of its queue and the order stays. */
static void take_jobs_back(struct moult_generation *generation,
                           const struct moult_process_end *end) {
    struct moult_job *job;
    while ((job = generation->running.last) != NULL) {
        bool began = moult_process_began(generation->process, job);
        job->deaths += began;
        bool guilty = began && is_guilty(generation, job, end);
        stop_running(generation, job);
        moult_process_take_back(generation->process, job);
        if (guilty)
            blame(generation, job);
        else
            moult_job_wait_again(job, began);
    }
}

/* Where a request was begun whose client has gone, that may have been what killed the worker; as
 * with those that are found guilty, it must not cost the generation its place. */
static void count_strike(struct moult_generation *generation) {
    if (moult_process_orphan_began(generation->process))
        return;
    bool long_run = generation->ready && moult_clock_ns() - generation->ready_ns >= LONG_RUN_NS;
    generation->strikes = long_run ? 0 : generation->strikes + 1;
}

void moult_generation_leave(struct moult_generation *generation) {
    struct moult_slot *slot = generation->slot;
    generation->phase = MOULT_GENERATION_GONE;
    generation->restart_ns = generation->drain_until_ns = 0;
    generation->warm_until_ns = generation->kill_ns = generation->wanted_ns = 0;
    moult_followers_leave(generation);
    leave_slot(slot, generation);
    moult_generation_drop(generation);
    slot->slots->events->gone(slot->slots->events_context, slot);
}

static void end_candidate(struct moult_generation *generation, const char *reason) {
    struct moult_slots *slots = generation->slot->slots;
    generation->phase = MOULT_GENERATION_GONE;   /* Nobody needs to retire it. */
    slots->events->candidate_failed(slots->events_context, generation, reason);
    moult_generation_leave(generation);
}

/* It was ended for that alone, and runs again. */
static bool begin_with_haste(struct moult_generation *generation) {
    struct moult_error error;
    if (!generation->starved || generation->hasty)
        return false;
    moult_log_info("Generation %llu of %s got no CPU while it loaded: it begins anew, with haste.",
                   (unsigned long long)generation->number, generation->slot->name);
    generation->hasty = true;
    return moult_generation_run(generation, &error) == 0;
}

/* Its documents are being embedded, and which of them did it shows when they are tried again. */
static bool begin_once_more(struct moult_generation *generation,
                            const struct moult_process_end *end) {
    if (!generation->persistent || !generation->was_ready ||
        generation->strikes >= STRIKES_OUT || generation->slot->slots->stopping)
        return false;
    restart(generation, true, end->reason);
    return true;
}

static bool is_needed(const struct moult_generation *generation) {
    if (generation->phase == MOULT_GENERATION_CURRENT && !generation->slot->slots->stopping)
        return true;
    return !moult_generation_unasked(generation);
}

/* What waits for the current generation may have come from this one. */
static void pump_slot(struct moult_slot *slot) {
    if (slot->current != NULL)
        moult_generation_pump(slot->current);
}

static void restart(struct moult_generation *generation, bool was_ready, const char *reason) {
    struct moult_slots *slots = generation->slot->slots;
    if (generation->lost_ns == 0)
        generation->lost_ns = moult_clock_ns();
    moult_log_warning("Generation %llu of %s lost its worker: %s It is restarted.",
                      (unsigned long long)generation->number, generation->slot->name, reason);
    generation->slot->restarts++;
    schedule_restart(generation, was_ready);
    if (generation->phase == MOULT_GENERATION_CURRENT && generation->strikes >= STRIKES_OUT)
        slots->events->keeps_dying(slots->events_context, generation, reason);
}

void moult_generation_run_later(struct moult_generation *generation, const char *reason) {
    generation->strikes++;
    restart(generation, false, reason);
}

/* What was raised for those who name it, and cannot be loaded, is not tried for ever:
 * only where it was killed from outside may the next try be a better one. */
static bool is_hopeless(const struct moult_generation *generation, bool was_ready,
                        const struct moult_process_end *end) {
    return generation->by_name && !was_ready && !generation->falling_asleep &&
           (!end->killed_from_outside || generation->strikes >= DEATHS_FROM_OUTSIDE_MAX);
}

/* One whose files stay need not go with its worker. */
static bool may_sleep(const struct moult_generation *generation) {
    return generation->falling_asleep ||
           (generation->phase == MOULT_GENERATION_WARM && generation->installed &&
            moult_generation_idle(generation));
}

static void on_ended(void *owner, const struct moult_process_end *end) {
    struct moult_generation *generation = owner;
    struct moult_slot *slot = generation->slot;
    bool was_ready = generation->ready;
    moult_generation_hold(generation);
    if (!generation->falling_asleep)
        count_strike(generation);
    take_jobs_back(generation, end);
    moult_process_drop(generation->process);
    generation->process = NULL;
    generation->ready = generation->indexed = false;
    generation->kill_ns = 0;
    moult_followers_lost(generation);   /* Before another run gets what it needs to be followed. */
    if (generation->phase == MOULT_GENERATION_CANDIDATE) {
        if (!begin_with_haste(generation) && !begin_once_more(generation, end))
            end_candidate(generation, end->reason);
    } else if (is_hopeless(generation, was_ready, end)) {
        moult_generation_give_up(generation, end->reason);
    } else if (may_sleep(generation)) {
        moult_generation_fall_asleep(generation);
    } else if (is_needed(generation)) {
        restart(generation, was_ready, end->reason);
    } else {
        moult_log_info("Generation %llu of %s has ended%s%s",
                       (unsigned long long)generation->number,
                       slot->name, end->asked ? "." : ": ", end->asked ? "" : end->reason);
        moult_generation_leave(generation);
    }
    if (generation->phase != MOULT_GENERATION_GONE && generation->process == NULL)
        moult_followers_lost(generation);   /* Perhaps for good: it sleeps now, or ends. */
    pump_slot(slot);
    moult_generation_drop(generation);
}

static const struct moult_process_events process_events = {
    .reported = on_reported,
    .answered = on_answered,
    .drained = on_drained,
    .ended = on_ended,
};

/* Draining, warmth, retirement. */

/* Once more in the queue of the same model's other generation, in their order. */
void moult_generation_hand_on(struct moult_generation *generation,
                              struct moult_generation *other) {
    struct moult_job_list *lists[2 + MOULT_LANES] = {&generation->queue.suspects,
                                                     &generation->queue.searches};
    for (unsigned lane = 0; lane < MOULT_LANES; lane++)
        lists[2 + lane] = &generation->queue.lanes[lane];
    moult_generation_hold(generation);
    for (unsigned i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (struct moult_job *job = lists[i]->last, *previous; job != NULL; job = previous) {
            previous = job->previous;
            if (job->own)
                continue;   /* Its follower's, who does the same for the other. */
            moult_job_unwait(job);
            moult_generation_drop(job->pinned);
            job->pinned = other;
            moult_generation_hold(other);
            moult_job_wait_again(job, i == 0);
        }
    moult_generation_drop(generation);
    moult_generation_pump(other);
}

static uint64_t set_alarm(struct moult_generation *generation, uint64_t seconds) {
    uint64_t ns = moult_clock_ns() + seconds * SECOND_NS;
    moult_slots_wake_by(generation->slot->slots, ns);
    return ns;
}

static void become_warm(struct moult_generation *generation) {
    struct moult_slots *slots = generation->slot->slots;
    generation->drain_until_ns = 0;
    generation->phase = MOULT_GENERATION_WARM;
    if (generation->process != NULL)
        generation->warm_until_ns = set_alarm(generation, slots->options->keep_warm_s);
    else if (generation->installed)
        moult_generation_fall_asleep(generation);
    else
        moult_generation_leave(generation);
    slots->events->drained(slots->events_context, generation->slot);
}

void moult_generation_settle(struct moult_generation *generation) {
    if (generation->ends_follower)
        return;
    if (generation->falling_asleep && generation->running_count == 0 && generation->kill_ns == 0)
        generation->kill_ns = set_alarm(generation, EXIT_GRACE_S);
    if (!moult_generation_idle(generation))
        return;
    if (generation->phase == MOULT_GENERATION_DRAINING) {
        become_warm(generation);
    } else if (generation->phase == MOULT_GENERATION_RETIRING) {
        generation->kill_ns = generation->kill_ns != 0 ? generation->kill_ns
                                                       : set_alarm(generation, EXIT_GRACE_S);
        if (generation->process == NULL)
            moult_generation_leave(generation);
        else if (generation->ready || generation->falling_asleep)
            moult_process_ask_exit(generation->process);
        else
            moult_process_kill(generation->process, "It was no longer wanted while it loaded.");
    }
}

void moult_generation_drain(struct moult_generation *generation) {
    generation->phase = MOULT_GENERATION_DRAINING;
    generation->drain_until_ns =
        set_alarm(generation, moult_fault_seconds("STRAGGLER", MOULT_STRAGGLER_SECONDS));
    moult_generation_settle(generation);
}

void moult_generation_retire(struct moult_generation *generation) {
    if (generation->phase == MOULT_GENERATION_GONE)
        return;
    /* Once more for one that retires already: its last job may just have been failed. */
    generation->phase = MOULT_GENERATION_RETIRING;
    generation->drain_until_ns = generation->warm_until_ns = 0;
    moult_generation_settle(generation);
}

/* Their clients have waited long enough for a worker that may never answer. */
static void hand_on_stragglers(struct moult_generation *generation) {
    struct moult_slot *slot = generation->slot;
    struct moult_job *previous;
    unsigned count = 0;
    generation->drain_until_ns = 0;
    moult_generation_hold(generation);
    for (struct moult_job *job = generation->running.last; job != NULL; job = previous) {
        previous = job->previous;
        if (job->pinned != NULL || job->searches)
            continue;
        moult_generation_take_back(generation, job);
        moult_job_wait_again(job, false);
        count++;
    }
    if (count > 0)
        moult_log_warning("%u requests of generation %llu of %s go to its successor.", count,
                          (unsigned long long)generation->number, slot->name);
    pump_slot(slot);
    moult_generation_drop(generation);
}

/* Also at what nobody waits for any more: a thread that hangs in it is lost to the others. */
static bool is_at_work(const struct moult_generation *generation) {
    return !generation->ready || generation->running_count > 0 ||
           moult_process_orphans(generation->process) > 0;
}

/* Threads of low priority get what others leave, and on a machine that is busy with something
 * else that may be nothing for a while. */
static bool is_in_the_background(const struct moult_generation *generation) {
    return generation->ready && generation->running_texts[MOULT_LANE_SINGLE] == 0 &&
           generation->running_texts[MOULT_LANE_BATCH] == 0 &&
           moult_process_orphans(generation->process) == 0;
}

static void watch(struct moult_generation *generation, uint64_t now_ns) {
    unsigned seconds = moult_fault_seconds("WATCHDOG", MOULT_WATCHDOG_SECONDS);
    if (is_in_the_background(generation))
        seconds *= BACKGROUND_PATIENCE;
    char reason[80];
    if (moult_process_still_ns(generation->process, now_ns) < seconds * SECOND_NS)
        return;
    snprintf(reason, sizeof reason, "Its worker stood still for %u seconds.", seconds);
    moult_process_kill(generation->process, reason);
}

/* A candidate begins with threads that run when nobody else wants to, which the one that serves
 * does not feel. Where the machine is never idle it would never be ready. No thread can raise
 * itself; so it is started again, with some haste. What is lost is little: it had got nowhere. */
static bool starves(struct moult_generation *generation, uint64_t now_ns) {
    struct moult_process_times before = generation->times, *times = &generation->times;
    if (generation->starved || now_ns < generation->hunger_ns)
        return false;
    bool first = generation->hunger_ns == 0;
    generation->hunger_ns = now_ns + HUNGER_LOOK_NS;
    moult_machine_times(moult_process_pid(generation->process), times);
    return !first && times->ran_ns - before.ran_ns < HUNGER_LOOK_NS / HUNGER_SHARE &&
           times->waited_ns - before.waited_ns > HUNGER_LOOK_NS / 2;
}

static void watch_hunger(struct moult_generation *generation, uint64_t now_ns) {
    if (!starves(generation, now_ns))
        return;
    generation->starved = true;
    moult_process_kill(generation->process, "Its worker was started again, with some haste.");
}

static void watch_memory(struct moult_generation *generation) {
    char reason[160];
    if (moult_memory_exceeds(moult_process_pid(generation->process), generation->promised_bytes,
                             reason, sizeof reason))
        moult_process_kill(generation->process, reason);
}

static void lower(uint64_t *due_ns, uint64_t ns) {
    if (ns != 0 && ns < *due_ns)
        *due_ns = ns;
}

static bool is_due(uint64_t alarm_ns, uint64_t now_ns) {
    return alarm_ns != 0 && alarm_ns <= now_ns;
}

static void try_restart(struct moult_generation *generation) {
    struct moult_error error;
    if (moult_generation_run(generation, &error) != 0)
        moult_generation_run_later(generation, error.message);
}

/* Its worker has been idle for long enough. */
static void rest(struct moult_generation *generation) {
    if (generation->installed)
        moult_generation_sleep(generation);
    else
        moult_generation_retire(generation);
}

uint64_t moult_generation_tick(struct moult_generation *generation, uint64_t now_ns) {
    if (is_due(generation->restart_ns, now_ns))
        try_restart(generation);
    if (is_due(generation->drain_until_ns, now_ns))
        hand_on_stragglers(generation);
    if (is_due(moult_generation_rest_ns(generation), now_ns))
        rest(generation);
    if (generation->wanted_ns != 0)
        moult_generation_try_wake(generation, now_ns);
    if (is_due(generation->kill_ns, now_ns) && generation->process != NULL) {
        moult_process_kill(generation->process, "Its worker did not exit when asked to.");
        generation->kill_ns = 0;
    }
    uint64_t due_ns = UINT64_MAX;
    if (generation->process != NULL && is_at_work(generation)) {
        watch(generation, now_ns);
        due_ns = now_ns + WATCHDOG_LOOK_NS;
    }
    if (generation->process != NULL && generation->promised_bytes > 0) {
        watch_memory(generation);
        watch_hunger(generation, now_ns);
        due_ns = now_ns + MEMORY_LOOK_NS;
    }
    lower(&due_ns, generation->restart_ns);
    lower(&due_ns, generation->drain_until_ns);
    lower(&due_ns, moult_generation_rest_ns(generation));
    lower(&due_ns, generation->wanted_ns != 0 ? now_ns + ROOM_LOOK_NS : 0);
    lower(&due_ns, generation->kill_ns);
    lower(&due_ns, moult_generation_watch_gate(generation, now_ns));
    return due_ns;
}
