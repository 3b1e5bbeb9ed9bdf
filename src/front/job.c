#include "front/job.h"

#include <stdlib.h>

#include "base/memory.h"
#include "front/slot.h"

struct moult_job *moult_job_open(void) {
    struct moult_job *job = moult_allocate(1, sizeof *job);
    job->channel_slot = -1;
    job->frame.before = job->frame.between = job->frame.after = "";
    return job;
}

void moult_job_close(struct moult_job *job) {
    MOULT_REQUIRE(job->list == NULL);
    moult_answer_view_release(&job->answer);
    if (job->process != NULL)
        moult_process_release_answer(job);
    if (job->generation != NULL) {
        /* Its block may have been what the next one waited for. */
        moult_generation_pump(job->generation);
        moult_generation_drop(job->generation);
    }
    if (job->pinned != NULL)
        moult_generation_drop(job->pinned);
    free(job->message);
    free(job);
}

void moult_job_list_append(struct moult_job_list *list, struct moult_job *job) {
    MOULT_REQUIRE(job->list == NULL);
    job->list = list;
    job->next = NULL;
    job->previous = list->last;
    if (list->last != NULL)
        list->last->next = job;
    else
        list->first = job;
    list->last = job;
}

void moult_job_list_prepend(struct moult_job_list *list, struct moult_job *job) {
    MOULT_REQUIRE(job->list == NULL);
    job->list = list;
    job->previous = NULL;
    job->next = list->first;
    if (list->first != NULL)
        list->first->previous = job;
    else
        list->last = job;
    list->first = job;
}

void moult_job_list_remove(struct moult_job *job) {
    struct moult_job_list *list = job->list;
    MOULT_REQUIRE(list != NULL);
    if (job->previous != NULL)
        job->previous->next = job->next;
    else
        list->first = job->next;
    if (job->next != NULL)
        job->next->previous = job->previous;
    else
        list->last = job->previous;
    job->list = NULL;
    job->next = job->previous = NULL;
}

static struct moult_queue *home(struct moult_job *job) {
    return job->pinned != NULL ? &job->pinned->queue : &job->slot->queue;
}

static struct moult_job_list *place(struct moult_job *job) {
    return job->searches ? &home(job)->searches : &home(job)->lanes[job->lane];
}

static void count(struct moult_job *job) {
    struct moult_queue *queue = home(job);
    if (job->own)
        return;
    queue->jobs++;
    queue->texts += job->count;
    queue->search_texts += job->searches ? job->count : 0;
    job->slot->slots->waiting_texts += job->count;
}

void moult_job_wait(struct moult_job *job) {
    moult_job_list_append(place(job), job);
    count(job);
}

void moult_job_wait_again(struct moult_job *job, bool suspect) {
    moult_job_list_prepend(suspect ? &home(job)->suspects : place(job), job);
    count(job);
}

void moult_job_unwait(struct moult_job *job) {
    struct moult_queue *queue = home(job);
    moult_job_list_remove(job);
    if (job->own)
        return;
    queue->jobs--;
    queue->texts -= job->count;
    queue->search_texts -= job->searches ? job->count : 0;
    job->slot->slots->waiting_texts -= job->count;
}

bool moult_queue_empty(const struct moult_queue *queue) {
    return queue->jobs == 0;
}
