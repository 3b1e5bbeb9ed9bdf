/* The loop's part of a search: which model it is asked of, and what comes after each step
 * (search.h). */
#include "front/search.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "front/answering.h"

static void ask(struct moult_search *search);
static void begin(struct moult_search *search);

/* ---- Its lifetime. */

static void let_go_of_generation(struct moult_search *search) {
    if (search->generation != NULL)
        moult_generation_drop(search->generation);
    search->generation = NULL;
    search->space = 0;
}

/* What the steps behind LOOK_UP have found. */
static void forget(struct moult_search *search) {
    moult_allowed_release(&search->allowed);
    free(search->words);
    free(search->word_ends);
    free(search->message);
    free(search->found);
    free(search->found_ends);
    free(search->vectors);
    free(search->hits);
    free(search->ends);
    search->allowed = (struct moult_allowed){0};
    search->words = NULL;
    search->message = NULL;
    search->word_ends = search->found_ends = search->ends = NULL;
    search->found = NULL;
    search->vectors = NULL;
    search->hits = NULL;
    search->words_done = search->shown = 0;
    search->words_ns = 0;
    search->missing = false;
    moult_buffer_release(&search->errand.answer);
}

static void search_release(struct moult_errand *errand) {
    struct moult_search *search = (struct moult_search *)errand;
    if (search->job != NULL)
        moult_job_close(search->job);
    forget(search);
    let_go_of_generation(search);
    moult_question_release(&search->question);
}

static void search_gone(struct moult_errand *errand) {
    struct moult_search *search = (struct moult_search *)errand;
    if (search->job != NULL)
        moult_slots_abandon(errand->server->slots, search->job);
    search->job = NULL;
}

static void hand_in(struct moult_search *search, enum moult_search_step step) {
    bool finds_words =
        step == MOULT_SEARCH_SELECT && search->question.mode != MOULT_SEARCH_VECTOR;
    search->step = step;
    search->errand.queue = finds_words ? MOULT_DESK_WORDS : MOULT_DESK_READ;
    moult_errand_hand_in(&search->errand);
}

/* Words take their time in a large collection, and one search after the other. */
static void select_rows(struct moult_search *search) {
    struct moult_errand *errand = &search->errand;
    unsigned waiting = moult_desk_waiting(errand->server->desk, MOULT_DESK_WORDS);
    bool is_new = search->attempts == 1;
    if (search->question.mode == MOULT_SEARCH_VECTOR || !is_new ||
        waiting < MOULT_WORD_SEARCHES_MAX) {
        hand_in(search, MOULT_SEARCH_SELECT);
        return;
    }
    moult_refuse(&errand->refusal, MOULT_HTTP_OVERLOADED, NULL,
                 "%u searches by words wait already; at most %u may. Try again in a moment.",
                 waiting, MOULT_WORD_SEARCHES_MAX);
    moult_errand_refuse(errand);
}

/* ---- Which model. */

/* The slot of the collection; of one that is yet to be made, that which is named, or the first. */
static int choose_slot(struct moult_search *search, struct moult_target *target) {
    struct moult_refusal *refusal = &search->errand.refusal;
    struct moult_slots *slots = search->errand.server->slots;
    const struct moult_collection *collection = &search->collection;
    const char *model = search->question.model;
    struct moult_error error;
    if (model == NULL && collection->number != 0)
        model = collection->slot;
    if (moult_slots_resolve(slots, model, target, &error) != 0)
        return moult_refuse(refusal,
                            error.code == MOULT_ERROR_UNAVAILABLE ? MOULT_HTTP_UNAVAILABLE
                                                                  : MOULT_HTTP_NO_MODEL,
                            "model", "%s", error.message);
    if (collection->number == 0 || strcmp(moult_slot_name(target->slot), collection->slot) == 0)
        return 0;
    if (target->pinned != NULL)
        moult_generation_drop(target->pinned);
    return moult_refuse(refusal, MOULT_HTTP_CONFLICT, "model",
                        "The documents of %s belong to the model %s, and have no vectors of %s.",
                        collection->name, collection->slot, moult_slot_name(target->slot));
}

static int check_vector(struct moult_search *search, const struct moult_generation *generation) {
    const struct moult_question *question = &search->question;
    const char *fingerprint = moult_generation_fingerprint(generation);
    uint32_t C = moult_generation_report(generation)->dimensions;
    if (strncmp(fingerprint, question->fingerprint, strlen(question->fingerprint)) != 0)
        return moult_refuse(&search->errand.refusal, MOULT_HTTP_CONFLICT, "fingerprint",
                            "The vector was made by the model %.8s, and this is searched in "
                            "vectors of %s. Embed the query again, or, where that model is still "
                            "installed, name it: \"model\": \"%s@%.8s\".",
                            question->fingerprint, moult_generation_label(generation),
                            moult_slot_name(search->slot), question->fingerprint);
    if (C == 0 || C == question->C)
        return 0;
    return moult_refuse(&search->errand.refusal, MOULT_HTTP_INVALID, "vector",
                        "\"vector\" has %" PRIu32 " numbers; those of %s have %" PRIu32 ".",
                        question->C, moult_generation_label(generation), C);
}

/* A filter's rows are of a generation's space, which is not known before its worker has told which
 * model it is, nor before the space has been made: at a first start, or with other chunks. The
 * search is early then: it is asked as it would be without its filter, and so waits for what all
 * others wait for. Once that is answered there is a space, and all is done again. */
static int choose_space(struct moult_search *search) {
    struct moult_followers *followers = search->errand.server->followers;
    search->space = moult_followers_space(followers, search->generation);
    search->early = search->space == 0;
    if (!search->early || search->attempts < MOULT_SEARCH_ATTEMPTS)
        return 0;
    return moult_refuse(&search->errand.refusal, MOULT_HTTP_UNAVAILABLE, NULL,
                        "The vectors of %s are not there yet. Until they are, \"mode\": \"text\" "
                        "searches by words.", moult_generation_label(search->generation));
}

/* A question that belongs to one exact model holds it: it names it, brings a vector of it, or has
 * a filter, whose rows are of its space. */
static int choose_generation(struct moult_search *search) {
    const struct moult_question *question = &search->question;
    struct moult_target target;
    let_go_of_generation(search);
    search->early = false;
    if (choose_slot(search, &target) != 0)
        return -1;
    search->slot = target.slot;
    search->generation = target.pinned;
    bool is_exact = question->vector != NULL || question->filter != NULL;
    if (is_exact && search->generation == NULL) {
        search->generation = moult_slot_current(target.slot);
        if (search->generation == NULL)
            return moult_refuse(&search->errand.refusal, MOULT_HTTP_UNAVAILABLE, NULL,
                                "The model %s is still loading.", moult_slot_name(target.slot));
        moult_generation_hold(search->generation);
    }
    if (question->vector != NULL && check_vector(search, search->generation) != 0)
        return -1;
    if (question->filter == NULL || search->collection.number == 0)
        return 0;
    return choose_space(search);
}

/* ---- From step to step. */

/* Behind LOOK_UP, and again where the table or the model has changed meanwhile. */
static void begin(struct moult_search *search) {
    const struct moult_question *question = &search->question;
    forget(search);
    search->attempts++;
    if (question->mode != MOULT_SEARCH_TEXT && choose_generation(search) != 0)
        moult_errand_refuse(&search->errand);
    else if (moult_search_selects(question) && !search->early)
        select_rows(search);
    else
        ask(search);
}

/* What names no model means the one that serves. */
static bool is_overtaken(const struct moult_search *search) {
    const struct moult_question *question = &search->question;
    bool free_to_choose = question->model == NULL || strchr(question->model, '@') == NULL;
    return question->filter != NULL && free_to_choose &&
           search->attempts < MOULT_SEARCH_ATTEMPTS &&
           moult_slot_current(search->slot) != search->generation;
}

static void after_select(struct moult_search *search) {
    if (search->question.mode == MOULT_SEARCH_TEXT)
        hand_in(search, MOULT_SEARCH_SHOW);
    else if (is_overtaken(search))
        begin(search);
    else
        ask(search);
}

static void after_show(struct moult_search *search) {
    struct moult_errand *errand = &search->errand;
    if (search->missing) {
        begin(search);
        return;
    }
    if (search->generation != NULL && errand->request != NULL)
        moult_answering_headers(errand->request, search->generation, search->truncated);
    moult_metrics_count_search(&errand->server->metrics, search->question.mode,
                               search->question.count);
    moult_errand_answer(errand);
}

static void search_then(struct moult_errand *errand) {
    struct moult_search *search = (struct moult_search *)errand;
    if (errand->request == NULL)
        moult_errand_answer(errand);
    else if (search->more)
        moult_errand_hand_in(errand);
    else if (search->step == MOULT_SEARCH_LOOK_UP)
        begin(search);
    else if (search->step == MOULT_SEARCH_SELECT)
        after_select(search);
    else
        after_show(search);
}

static int search_run(struct moult_errand *errand, struct moult_store *store,
                      struct moult_error *error) {
    struct moult_search *search = (struct moult_search *)errand;
    int result = search->step == MOULT_SEARCH_LOOK_UP ? moult_search_look_up(search, store, error)
                 : search->step == MOULT_SEARCH_SELECT ? moult_search_select(search, store, error)
                                                       : moult_search_show(search, store, error);
    search->more = result > 0;
    return result < 0 ? -1 : 0;
}

/* ---- ASK. */

static void on_done(struct moult_job *job) {
    struct moult_search *search = job->owner;
    struct moult_errand *errand = &search->errand;
    struct moult_answer_view *answer = &job->answer;
    if (moult_answering_check(job, search->question.many ? "queries" : "query",
                              &errand->refusal) != 0) {
        moult_errand_refuse(&search->errand);
        return;
    }
    search->job = NULL;
    if (search->early) {
        moult_job_close(job);
        begin(search);
        return;
    }
    moult_slots_note_asked(job);
    moult_metrics_count_job(&errand->server->metrics, job);
    let_go_of_generation(search);
    search->generation = job->generation;
    moult_generation_hold(search->generation);
    search->space = moult_followers_space(search->errand.server->followers, search->generation);
    search->C = moult_generation_report(search->generation)->dimensions;
    search->times = answer->times;
    search->truncated = answer->truncated;
    search->found = answer->found;
    search->found_ends = answer->ends;
    search->vectors = answer->vectors;
    answer->found = NULL;
    answer->ends = NULL;
    answer->vectors = NULL;
    moult_job_close(job);
    hand_in(search, MOULT_SEARCH_SHOW);
}

static void ask(struct moult_search *search) {
    struct moult_errand *errand = &search->errand;
    struct moult_job *job = moult_job_open();
    job->slot = search->slot;
    job->pinned = search->generation;
    if (job->pinned != NULL)
        moult_generation_hold(job->pinned);
    job->lane = search->question.count == 1 ? MOULT_LANE_SINGLE : MOULT_LANE_BATCH;
    job->searches = true;
    job->count = search->question.count;
    job->done = on_done;
    job->owner = search;
    if (search->message == NULL)
        moult_search_write_message(search);
    job->message = search->message;
    job->message_size = search->message_size;
    search->message = NULL;
    search->job = job;
    if (moult_answering_submit(errand->server, job, &errand->refusal) != 0)
        moult_errand_refuse(&search->errand);
}

/* ---- The beginning. */

/* What the catalogue knows nobody need look up. */
static int search_check(struct moult_errand *errand) {
    struct moult_search *search = (struct moult_search *)errand;
    const struct moult_collection *collection =
        moult_catalogue_find(errand->server->catalogue, errand->collection);
    if (collection == NULL)
        return 0;
    search->collection = *collection;
    return 1;
}

static int question_read(struct moult_errand *errand, const json_t *body) {
    struct moult_search *search = (struct moult_search *)errand;
    return moult_search_read(&search->question, body, &errand->refusal);
}

const struct moult_errand_kind moult_search_kind = {
    .size = sizeof(struct moult_search),
    .queue = MOULT_DESK_READ,
    .read = question_read,
    .check = search_check,
    .run = search_run,
    .then = search_then,
    .gone = search_gone,
    .release = search_release,
};

const struct moult_errand_kind moult_question_kind = {
    .size = sizeof(struct moult_search),
    .queue = MOULT_DESK_READ,
    .check = search_check,
    .run = search_run,
    .then = search_then,
    .gone = search_gone,
    .release = search_release,
};
