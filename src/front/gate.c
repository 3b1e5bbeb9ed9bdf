/* The gate: searches wait in a queue of their own until the generation that is to answer them has
 * an index with all that they are promised (generation->indexed, which the followers set).
 *
 * Ordinarily it is open, for an index that has once been read keeps up with the documents, and
 * writes are acknowledged only when it has. It is closed while a worker is new, and after the
 * cut-over to a model that nobody could wait for (--swap wait; the one before keeps dying). */
#include <stdio.h>

#include "base/fault.h"
#include "base/machine.h"
#include "front/slot.h"

void moult_generation_open_gate(struct moult_generation *generation) {
    if (generation->indexed || !generation->ready)
        return;
    generation->indexed = true;
    moult_generation_pump(generation);
}

static uint64_t limit_ns(void) {
    return moult_fault_seconds("SEARCH", MOULT_SEARCH_SECONDS_MAX) * 1000000000ull;
}

/* They must not take all of the waiting room from those who only want vectors. */
int moult_generation_check_gate(const struct moult_generation *generation,
                                const struct moult_job *job, struct moult_error *error) {
    const struct moult_queue *queue =
        job->pinned != NULL ? &job->pinned->queue : &job->slot->queue;
    uint32_t most = job->slot->slots->options->waiting_texts_max / 2;
    if (!job->searches || generation->indexed || queue->search_texts == 0 ||
        queue->search_texts + (uint64_t)job->count <= most)
        return 0;
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "The vectors of %s are still being made or read, and %u searches wait for "
                      "that already. Try again in a moment.",
                      generation->label, queue->search_texts);
}

/* The oldest come first, but for those that have had their turn in a worker that died. */
static void refuse_old(const struct moult_generation *generation, struct moult_job_list *list,
                       uint64_t now_ns) {
    for (struct moult_job *job = list->first, *next; job != NULL; job = next) {
        next = job->next;
        if (!job->searches || now_ns < job->admitted_ns + limit_ns())
            continue;
        moult_job_unwait(job);
        snprintf(job->answer.message, sizeof job->answer.message,
                 "The vectors of %s are still being made or read. Until they are, \"mode\": "
                 "\"text\" searches by words.", generation->label);
        moult_slots_finish(job, MOULT_JOB_UNAVAILABLE);
    }
}

static uint64_t oldest_ns(const struct moult_queue *queue) {
    const struct moult_job *job = queue->searches.first;
    return job != NULL ? job->admitted_ns : UINT64_MAX;
}

uint64_t moult_generation_watch_gate(struct moult_generation *generation, uint64_t now_ns) {
    if (generation->indexed)
        return 0;
    struct moult_queue *queues[] = {&generation->queue,
                                    generation->phase == MOULT_GENERATION_CURRENT
                                        ? &generation->slot->queue : NULL};
    uint64_t first_ns = UINT64_MAX;
    for (unsigned i = 0; i < sizeof queues / sizeof queues[0] && queues[i] != NULL; i++) {
        refuse_old(generation, &queues[i]->suspects, now_ns);
        refuse_old(generation, &queues[i]->searches, now_ns);
        uint64_t ns = oldest_ns(queues[i]);
        first_ns = ns < first_ns ? ns : first_ns;
    }
    return first_ns != UINT64_MAX ? first_ns + limit_ns() : 0;
}
