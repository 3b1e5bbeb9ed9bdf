/* A comparison, and how it keeps out of the way.
 *
 * The texts go in portions, first to the old model, then to the new one, in the lane of batches.
 * One portion at a time is under way, so at most one thread of one worker has anything to do with
 * it, and that for a few texts only. While anybody else is served, it rests three times as long
 * as its last portion took: a quarter of one thread is the most that it takes from a busy server.
 *
 * It never fails. A portion that either model does not answer is left out; where a generation
 * ends, or time does, what is there by then is compared. */
#include "front/compare.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"
#include "front/slot.h"

#define PORTION_TEXTS 4u
#define PORTION_BYTES 512u
#define REST_FACTOR 3
#define RETRY_MS 20
#define UNIT_MAX 1.001f

enum side { OLD, NEW, SIDES };

struct moult_comparison {
    struct moult_slots *slots;
    struct moult_generation *generations[SIDES];   /* Referenced. */
    uint32_t dimensions[SIDES];
    moult_comparison_listener listener;            /* NULL: nobody wants to know any more. */
    void *context;
    uint64_t tag;
    struct moult_asked_text *texts;                /* [count] */
    uint32_t count;
    float *vectors[SIDES];                         /* [kept][dimensions] */
    struct moult_report report;                    /* Its `texts` are those kept so far. */
    /* The portion under way. */
    uint32_t at, size;
    enum side side;
    struct moult_job *job;                         /* NULL: it rests. */
    uint64_t began_ns, submitted_ns, due_ns;
    uv_timer_t timer;                              /* The next portion, or the end of its time. */
    uv_work_t work;
    bool is_computed;                              /* By the pool: the texts are through. */
};

static void go_on(struct moult_comparison *comparison);
static void conclude(struct moult_comparison *comparison);
static void on_timer(uv_timer_t *timer);
static void on_done(struct moult_job *job);

struct moult_comparison *moult_comparison_start(struct moult_generation *old,
                                                struct moult_generation *candidate,
                                                const struct moult_asked *asked,
                                                unsigned seconds_max,
                                                moult_comparison_listener listener, void *context,
                                                uint64_t tag) {
    struct moult_comparison *comparison = moult_allocate(1, sizeof *comparison);
    comparison->slots = old->slot->slots;
    comparison->listener = listener;
    comparison->context = context;
    comparison->tag = tag;
    comparison->texts = moult_asked_copy(asked, &comparison->count);
    comparison->began_ns = moult_clock_ns();
    comparison->due_ns = comparison->began_ns + seconds_max * 1000000000ull;
    comparison->generations[OLD] = old;
    comparison->generations[NEW] = candidate;
    for (enum side side = OLD; side < SIDES; side++) {
        moult_generation_hold(comparison->generations[side]);
        comparison->dimensions[side] = comparison->generations[side]->report.dimensions;
        comparison->vectors[side] = moult_allocate(
            (size_t)comparison->count * comparison->dimensions[side] + 1, sizeof(float));
    }
    comparison->report.old_dimensions = comparison->dimensions[OLD];
    comparison->report.new_dimensions = comparison->dimensions[NEW];
    uv_timer_init(comparison->slots->loop, &comparison->timer);
    comparison->timer.data = comparison->work.data = comparison;
    uv_timer_start(&comparison->timer, on_timer, 0, 0);
    return comparison;
}

static void on_closed(uv_handle_t *handle) {
    struct moult_comparison *comparison = handle->data;
    moult_asked_texts_free(comparison->texts, comparison->count);
    for (enum side side = OLD; side < SIDES; side++) {
        free(comparison->vectors[side]);
        moult_generation_drop(comparison->generations[side]);
    }
    free(comparison);
}

static void close_comparison(struct moult_comparison *comparison) {
    uv_close((uv_handle_t *)&comparison->timer, on_closed);
}

static void take_back(struct moult_comparison *comparison) {
    struct moult_job *job = comparison->job;
    comparison->job = NULL;
    if (job != NULL)
        moult_slots_abandon(comparison->slots, job);
}

void moult_comparison_cancel(struct moult_comparison *comparison) {
    comparison->listener = NULL;
    if (comparison->is_computed)
        return;   /* after_compute() closes it. */
    take_back(comparison);
    close_comparison(comparison);
}

void moult_comparison_hurry(struct moult_comparison *comparison) {
    if (comparison->is_computed)
        return;
    comparison->due_ns = 0;
    uv_timer_start(&comparison->timer, on_timer, 0, 0);
}

double moult_comparison_progress(const struct moult_comparison *comparison) {
    return comparison->count > 0 ? (double)comparison->at / comparison->count : 1;
}

/* Portions. */

static uint64_t left_ms(const struct moult_comparison *comparison) {
    uint64_t now_ns = moult_clock_ns();
    return comparison->due_ns > now_ns ? (comparison->due_ns - now_ns) / 1000000 + 1 : 0;
}

static void wake_after(struct moult_comparison *comparison, uint64_t ms) {
    uint64_t left = left_ms(comparison);
    uv_update_time(comparison->slots->loop);
    uv_timer_start(&comparison->timer, on_timer, ms < left ? ms : left, 0);
}

static bool is_anybody_served(const struct moult_slots *slots) {
    if (slots->waiting_texts > 0)
        return true;
    for (unsigned i = 0; i < slots->count; i++)
        for (unsigned g = 0; g < slots->slots[i].generation_count; g++)
            if (slots->slots[i].generations[g]->running_count >
                slots->slots[i].generations[g]->running_own)
                return true;
    return false;
}

/* As many of the texts that come next as share a prompt and are short together. */
static void choose_portion(struct moult_comparison *comparison) {
    const struct moult_asked_text *first = &comparison->texts[comparison->at];
    size_t bytes = first->size;
    uint32_t size = 1;
    while (size < PORTION_TEXTS && comparison->at + size < comparison->count &&
           first[size].prompt == first->prompt && bytes + first[size].size <= PORTION_BYTES)
        bytes += first[size++].size;
    comparison->size = size;
    comparison->side = OLD;
}

static struct moult_job *make_job(struct moult_comparison *comparison) {
    const struct moult_asked_text *first = &comparison->texts[comparison->at];
    struct moult_text texts[PORTION_TEXTS];
    struct moult_job *job = moult_job_open();
    for (uint32_t i = 0; i < comparison->size; i++)
        texts[i] = (struct moult_text){first[i].bytes, first[i].size};
    job->pinned = comparison->generations[comparison->side];
    moult_generation_hold(job->pinned);
    job->slot = job->pinned->slot;
    job->lane = MOULT_LANE_BATCH;
    job->count = comparison->size;
    job->options = (struct moult_embed_options){.prompt = first->prompt,
                                                .format = MOULT_VECTOR_F32,
                                                .overlong = MOULT_OVERLONG_CUT_RIGHT,
                                                .unit = true};
    job->message = moult_embed_request_write(texts, job->count, &job->options, &job->frame,
                                             &job->message_size);
    job->done = on_done;
    job->owner = comparison;
    return job;
}

/* The next step of the portion under way, or the next portion. */
static void go_on(struct moult_comparison *comparison) {
    uint32_t retry_after_s;
    if (comparison->at == comparison->count || left_ms(comparison) == 0) {
        conclude(comparison);
        return;
    }
    if (comparison->size == 0)
        choose_portion(comparison);
    const struct moult_generation *generation = comparison->generations[comparison->side];
    if (generation->phase >= MOULT_GENERATION_RETIRING) {
        conclude(comparison);
        return;
    }
    struct moult_job *job = generation->ready ? make_job(comparison) : NULL;
    comparison->submitted_ns = moult_clock_ns();
    comparison->job = job;
    if (job != NULL && moult_slots_submit(comparison->slots, job, &retry_after_s, NULL) == 0) {
        wake_after(comparison, UINT64_MAX);
        return;
    }
    comparison->job = NULL;
    if (job != NULL)
        moult_job_close(job);
    wake_after(comparison, RETRY_MS);
}

static void on_timer(uv_timer_t *timer) {
    struct moult_comparison *comparison = timer->data;
    take_back(comparison);   /* It is too late for what is still under way. */
    go_on(comparison);
}

/* Copies the vectors out of memory that the worker can write. False: they are none. */
static bool keep_vectors(struct moult_comparison *comparison, const struct moult_job *job) {
    uint32_t C = comparison->dimensions[comparison->side];
    float *vectors = comparison->vectors[comparison->side] + (size_t)comparison->report.texts * C;
    if (job->outcome != MOULT_JOB_ANSWERED || job->answer.status != MOULT_ANSWER_OK)
        return false;
    for (uint32_t i = 0; i < job->count; i++) {
        const struct moult_answer_cell *cell = &job->answer.cells[i];
        if (cell->size != C * sizeof(float))
            return false;
        memcpy(vectors + (size_t)i * C, job->answer.block + cell->offset, cell->size);
    }
    for (size_t i = 0; i < (size_t)job->count * C; i++)
        if (!(fabsf(vectors[i]) <= UNIT_MAX))
            return false;
    return true;
}

static void count_portion(struct moult_comparison *comparison) {
    struct moult_report *report = &comparison->report;
    enum moult_prompt prompt = comparison->texts[comparison->at].prompt;
    report->texts += comparison->size;
    if (prompt == MOULT_PROMPT_QUERY)
        report->queries += comparison->size;
    else if (prompt == MOULT_PROMPT_DOCUMENT)
        report->documents += comparison->size;
}

static void on_done(struct moult_job *job) {
    struct moult_comparison *comparison = job->owner;
    uint64_t took_ns = moult_clock_ns() - comparison->submitted_ns;
    bool kept = keep_vectors(comparison, job);
    comparison->job = NULL;
    moult_job_close(job);
    if (kept && comparison->side == OLD) {
        comparison->side = NEW;
    } else {
        if (kept)
            count_portion(comparison);
        comparison->at += comparison->size;
        comparison->size = 0;
    }
    bool busy = is_anybody_served(comparison->slots);
    wake_after(comparison, busy ? REST_FACTOR * took_ns / 1000000 + 1 : 0);
}

/* The end. */

static void compute(uv_work_t *work) {
    struct moult_comparison *comparison = work->data;
    moult_report_compute(&comparison->report, comparison->vectors[OLD], comparison->vectors[NEW]);
}

static void after_compute(uv_work_t *work, int status) {
    struct moult_comparison *comparison = work->data;
    (void)status;
    comparison->report.seconds = (double)(moult_clock_ns() - comparison->began_ns) / 1e9;
    if (comparison->listener != NULL)
        comparison->listener(comparison->context, comparison->tag, &comparison->report);
    close_comparison(comparison);
}

static void conclude(struct moult_comparison *comparison) {
    comparison->report.cut_short = comparison->at < comparison->count;
    comparison->is_computed = true;
    uv_timer_stop(&comparison->timer);
    int queued = uv_queue_work(comparison->slots->loop, &comparison->work, compute, after_compute);
    MOULT_REQUIRE(queued == 0);
}
