/* A trial, and how it keeps out of the way.
 *
 * Its searches go in portions of a few, one portion at a time: first to the old model, then to the
 * new one, and then the store says which documents were found. While anybody else is served, it
 * rests three times as long as its last portion took, as a comparison does (compare.c).
 *
 *   what is under way        goes on in
 *   ──────────────────────── ────────────────────────────────────────────────────────────────────
 *   the store: collections   on_resolved()
 *   a search of the portion  on_searched(): the other side's, or the store, or the next portion
 *   the store: which ids     on_named()
 *   nothing: it rests        on_timer()
 *
 * A search whose generation is not there just now is asked again, for a minute; a document that
 * was changed between a search and its name makes the portion be asked again. What still cannot be
 * asked then ends the trial, and a gate with a limit lets nothing through that it has not seen. */
#include "front/trial.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"
#include "front/desk.h"
#include "front/slot.h"
#include "store/store.h"

#define PORTION 4u
#define REST_FACTOR 3
#define RETRY_MS 50
#define PATIENCE_NS (60 * 1000000000ull)
#define ASKED_NS (5 * 1000000000ull)
#define CHANGED_MAX 5u     /* Tries of a portion whose documents change meanwhile. */
#define SAME_NDCG 1e-9

enum side { OLD, NEW, SIDES };

struct search {
    const char *text;
    size_t size;
    uint32_t collection;                      /* The store's number. */
    float score_min;
    const struct moult_judged_query *query;   /* NULL: a client's. */
};

struct found {
    uint32_t count;
    struct moult_hit_asked hits[MOULT_JUDGED_HITS];
};

struct moult_trial {
    struct moult_slots *slots;
    struct moult_desk *desk;
    struct moult_generation *generations[SIDES];   /* Referenced. */
    const struct moult_judgements *judgements;
    struct moult_asked_text *asked;                /* [asked_count] */
    uint32_t asked_count;
    moult_trial_listener listener;                 /* NULL: nobody wants to know any more. */
    void *context;
    uint64_t tag;
    struct search *searches;                       /* [count]: the gate's first. */
    uint32_t count, judged;
    struct moult_trial_result result;              /* Its nDCG are sums, until the end. */
    char trouble[320];
    bool hurried;
    uint64_t began_ns, asked_ns;                   /* The latter: when clients' searches began. */
    /* The portion under way. */
    uint32_t at, size;
    enum side side;
    unsigned changed;
    struct found found[SIDES][PORTION];
    double ndcg[SIDES][PORTION];
    uint32_t missing;
    struct moult_job *job;
    uint64_t submitted_ns, stuck_ns;               /* The latter: 0, or since when it is. */
    /* The store's work; what it fills is only read when that is done. */
    struct moult_desk_task task;
    bool is_at_desk, was_changed;
    struct moult_collection *collections;          /* [collection_count], the slot's. */
    unsigned collection_count;
    uv_timer_t timer;
};

static void go_on(struct moult_trial *trial);
static void on_timer(uv_timer_t *timer);
static void on_searched(struct moult_job *job);

/* Its end. */

static void on_closed(uv_handle_t *handle) {
    struct moult_trial *trial = handle->data;
    for (enum side side = OLD; side < SIDES; side++)
        moult_generation_drop(trial->generations[side]);
    moult_asked_texts_free(trial->asked, trial->asked_count);
    free(trial->searches);
    free(trial->collections);
    free(trial);
}

static void close_trial(struct moult_trial *trial) {
    uv_close((uv_handle_t *)&trial->timer, on_closed);
}

static void take_back(struct moult_trial *trial) {
    struct moult_job *job = trial->job;
    trial->job = NULL;
    if (job != NULL)
        moult_slots_abandon(trial->slots, job);
}

void moult_trial_cancel(struct moult_trial *trial) {
    trial->listener = NULL;
    take_back(trial);
    if (trial->is_at_desk && !moult_desk_withdraw(trial->desk, &trial->task))
        return;   /* The task's `done` closes it. */
    trial->is_at_desk = false;
    close_trial(trial);
}

static void conclude(struct moult_trial *trial) {
    struct moult_gate_figures *gate = &trial->result.gate;
    uint32_t asked = trial->at < trial->judged ? trial->at : trial->judged;
    gate->cut_short = asked < trial->judged;
    gate->queries = trial->trouble[0] != '\0' ? 0 : asked;
    if (asked > 0) {
        gate->old_ndcg /= asked;
        gate->new_ndcg /= asked;
    }
    trial->result.trouble = trial->trouble[0] != '\0' ? trial->trouble : NULL;
    trial->result.seconds = (double)(moult_clock_ns() - trial->began_ns) / 1e9;
    uv_timer_stop(&trial->timer);
    trial->listener(trial->context, trial->tag, &trial->result);
    close_trial(trial);
}

/* Of the gate; where a client's search is in the way, it is only left out. */
static void give_up(struct moult_trial *trial, const char *why) {
    if (trial->at < trial->judged)
        snprintf(trial->trouble, sizeof trial->trouble,
                 "The gate's queries could not be asked: %.255s", why);
    conclude(trial);
}

/* The store. */

static void hand_in(struct moult_trial *trial,
                    int (*run)(struct moult_desk_task *, struct moult_store *,
                               struct moult_error *),
                    void (*done)(struct moult_desk_task *, const struct moult_error *)) {
    trial->task = (struct moult_desk_task){.run = run, .done = done};
    trial->is_at_desk = true;
    moult_desk_hand_in(trial->desk, MOULT_DESK_READ_LATER, &trial->task);
}

static struct moult_trial *trial_of(struct moult_desk_task *task) {
    return (struct moult_trial *)((char *)task - offsetof(struct moult_trial, task));
}

/* True: it was cancelled meanwhile, and is gone. */
static bool is_back(struct moult_trial *trial) {
    trial->is_at_desk = false;
    if (trial->listener == NULL)
        close_trial(trial);
    return trial->listener == NULL;
}

static int run_resolve(struct moult_desk_task *task, struct moult_store *store,
                       struct moult_error *error) {
    struct moult_trial *trial = trial_of(task);
    free(trial->collections);
    trial->collections = NULL;
    trial->collection_count = 0;
    return moult_store_collections(store, trial->generations[OLD]->slot->name,
                                   &trial->collections, &trial->collection_count, error);
}

static const struct moult_collection *find_collection(const struct moult_trial *trial,
                                                      const char *name, uint32_t number) {
    for (unsigned i = 0; i < trial->collection_count; i++) {
        const struct moult_collection *collection = &trial->collections[i];
        if (name != NULL ? strcmp(collection->name, name) == 0 : collection->number == number)
            return collection;
    }
    return NULL;
}

/* Those of collections that the slot has: others are other models' affair, or gone. */
static void list_searches(struct moult_trial *trial) {
    const struct moult_judgements *judgements = trial->judgements;
    uint32_t judged = judgements != NULL ? judgements->count : 0;
    trial->searches =
        moult_allocate((size_t)judged + trial->asked_count + 1, sizeof *trial->searches);
    for (uint32_t i = 0; i < judged; i++) {
        const struct moult_judged_query *query = &judgements->queries[i];
        const struct moult_collection *collection =
            find_collection(trial, judgements->collections[query->collection], 0);
        if (collection == NULL)
            continue;
        trial->searches[trial->judged++] =
            (struct search){query->text, query->size, collection->number, -2, query};
    }
    trial->count = trial->judged;
    for (uint32_t i = 0; i < trial->asked_count; i++) {
        const struct moult_asked_text *text = &trial->asked[i];
        if (text->searched && find_collection(trial, NULL, text->collection) != NULL)
            trial->searches[trial->count++] = (struct search){text->bytes, text->size,
                                                              text->collection, text->score_min,
                                                              NULL};
    }
}

static void on_resolved(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_trial *trial = trial_of(task);
    if (is_back(trial))
        return;
    if (error != NULL) {
        trial->judged = 1;
        give_up(trial, error->message);
        return;
    }
    list_searches(trial);
    go_on(trial);
}

static double ndcg_of(const struct moult_judged_query *query, const struct found *found,
                      const struct moult_documents *documents, bool *changed) {
    const char *ids[MOULT_JUDGED_HITS];
    for (uint32_t i = 0; i < found->count; i++) {
        ids[i] = documents->items[i].seq != 0 ? documents->items[i].id : NULL;
        *changed = *changed || ids[i] == NULL;
    }
    return moult_judged_ndcg(query, ids, found->count);
}

static int name_hits(struct moult_trial *trial, struct moult_store *store, uint32_t i,
                     struct moult_error *error) {
    const struct search *search = &trial->searches[trial->at + i];
    for (enum side side = OLD; side < SIDES; side++) {
        const struct found *found = &trial->found[side][i];
        struct moult_documents documents = {.count = 0};
        if (found->count > 0 &&
            moult_store_get_hits(store, search->collection, 0, found->hits, found->count, 0,
                                 &documents, error) != 0)
            return -1;
        trial->ndcg[side][i] = ndcg_of(search->query, found, &documents, &trial->was_changed);
        moult_documents_release(&documents);
    }
    return 0;
}

static int count_missing(struct moult_trial *trial, struct moult_store *store,
                         const struct search *search, struct moult_error *error) {
    const struct moult_judged_query *query = search->query;
    const char **ids = moult_allocate(query->relevant_count, sizeof *ids);
    struct moult_documents documents;
    for (uint32_t i = 0; i < query->relevant_count; i++)
        ids[i] = query->relevant[i].id;
    int result = moult_store_get(store, search->collection, ids, query->relevant_count, 0,
                                 &documents, error);
    for (uint32_t i = 0; result == 0 && i < query->relevant_count; i++)
        trial->missing += documents.items[i].seq == 0;
    moult_documents_release(&documents);
    free(ids);
    return result;
}

static int run_name(struct moult_desk_task *task, struct moult_store *store,
                    struct moult_error *error) {
    struct moult_trial *trial = trial_of(task);
    trial->was_changed = false;
    trial->missing = 0;
    for (uint32_t i = 0; i < trial->size; i++)
        if (name_hits(trial, store, i, error) != 0 ||
            count_missing(trial, store, &trial->searches[trial->at + i], error) != 0)
            return -1;
    return 0;
}

/* Portions. */

static void wake_after(struct moult_trial *trial, uint64_t ms) {
    uv_update_time(trial->slots->loop);
    uv_timer_start(&trial->timer, on_timer, ms, 0);
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

static void finish_portion(struct moult_trial *trial) {
    uint64_t took_ms = (moult_clock_ns() - trial->submitted_ns) / 1000000;
    trial->at += trial->size;
    trial->size = 0;
    trial->stuck_ns = 0;
    wake_after(trial, is_anybody_served(trial->slots) ? REST_FACTOR * took_ms + 1 : 0);
}

static void on_named(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_trial *trial = trial_of(task);
    struct moult_gate_figures *gate = &trial->result.gate;
    if (is_back(trial))
        return;
    if (error != NULL) {
        give_up(trial, error->message);
        return;
    }
    if (trial->was_changed && ++trial->changed < CHANGED_MAX) {
        trial->size = 0;
        wake_after(trial, 0);
        return;
    }
    for (uint32_t i = 0; i < trial->size; i++) {
        gate->documents += trial->searches[trial->at + i].query->relevant_count;
        gate->old_ndcg += trial->ndcg[OLD][i];
        gate->new_ndcg += trial->ndcg[NEW][i];
        gate->better += trial->ndcg[NEW][i] > trial->ndcg[OLD][i] + SAME_NDCG;
        gate->worse += trial->ndcg[NEW][i] < trial->ndcg[OLD][i] - SAME_NDCG;
    }
    gate->missing += trial->missing;
    trial->changed = 0;
    finish_portion(trial);
}

static void choose_portion(struct moult_trial *trial) {
    const struct search *first = &trial->searches[trial->at];
    uint32_t end = trial->at < trial->judged ? trial->judged : trial->count;
    trial->size = 1;
    while (trial->size < PORTION && trial->at + trial->size < end &&
           first[trial->size].collection == first->collection &&
           first[trial->size].score_min == first->score_min)
        trial->size++;
    trial->side = OLD;
}

static struct moult_job *make_job(struct moult_trial *trial) {
    const struct search *first = &trial->searches[trial->at];
    struct moult_text texts[PORTION];
    struct moult_job *job = moult_job_open();
    for (uint32_t i = 0; i < trial->size; i++)
        texts[i] = (struct moult_text){first[i].text, first[i].size};
    struct moult_search_options options = {
        .collection = first->collection,
        .hits_max = first->query != NULL ? MOULT_JUDGED_HITS : 1,
        .score_min = first->score_min,
        .overlong = MOULT_OVERLONG_CUT_RIGHT,
    };
    job->pinned = trial->generations[trial->side];
    moult_generation_hold(job->pinned);
    job->slot = job->pinned->slot;
    job->lane = MOULT_LANE_BATCH;
    job->searches = true;
    job->count = trial->size;
    job->message = moult_search_request_write(texts, job->count, &options, &job->message_size);
    job->done = on_searched;
    job->owner = trial;
    return job;
}

static void try_again(struct moult_trial *trial, const char *why) {
    uint64_t now_ns = moult_clock_ns();
    if (trial->stuck_ns == 0)
        trial->stuck_ns = now_ns;
    if (now_ns - trial->stuck_ns >= PATIENCE_NS)
        give_up(trial, why[0] != '\0' ? why : "a model could not answer.");
    else
        wake_after(trial, RETRY_MS);
}

static bool is_through(struct moult_trial *trial) {
    if (trial->at == trial->count || trial->hurried)
        return true;
    if (trial->at < trial->judged)
        return false;
    if (trial->asked_ns == 0)
        trial->asked_ns = moult_clock_ns();
    return moult_clock_ns() - trial->asked_ns >= ASKED_NS;
}

/* The next search of the portion under way, or the next portion. */
static void go_on(struct moult_trial *trial) {
    struct moult_error error = {0};
    uint32_t retry_after_s;
    if (is_through(trial)) {
        conclude(trial);
        return;
    }
    if (trial->size == 0)
        choose_portion(trial);
    if (trial->generations[trial->side]->phase >= MOULT_GENERATION_RETIRING) {
        give_up(trial, "one of the models has ended.");
        return;
    }
    struct moult_job *job = make_job(trial);
    trial->submitted_ns = moult_clock_ns();
    trial->job = job;
    if (moult_slots_submit(trial->slots, job, &retry_after_s, &error) == 0)
        return;
    trial->job = NULL;
    moult_job_close(job);
    try_again(trial, error.message);
}

static void on_timer(uv_timer_t *timer) {
    go_on(timer->data);
}

/* Scores of what a client's search found do not matter: only whether it found anything. */
static void keep_hits(struct moult_trial *trial, const struct moult_job *job) {
    for (uint32_t i = 0; i < job->count; i++) {
        struct found *found = &trial->found[trial->side][i];
        uint32_t begin = i > 0 ? job->answer.ends[i - 1] : 0;
        found->count = job->answer.ends[i] - begin;
        MOULT_REQUIRE(found->count <= MOULT_JUDGED_HITS);
        for (uint32_t hit = 0; hit < found->count; hit++)
            found->hits[hit] = (struct moult_hit_asked){job->answer.found[begin + hit].seq,
                                                        job->answer.found[begin + hit].chunk};
    }
}

static void count_unmatched(struct moult_trial *trial) {
    for (uint32_t i = 0; i < trial->size; i++) {
        trial->result.unmatched.searches++;
        trial->result.unmatched.old_none += trial->found[OLD][i].count == 0;
        trial->result.unmatched.new_none += trial->found[NEW][i].count == 0;
    }
    finish_portion(trial);
}

static void on_searched(struct moult_job *job) {
    struct moult_trial *trial = job->owner;
    bool answered = job->outcome == MOULT_JOB_ANSWERED && job->answer.status == MOULT_ANSWER_OK;
    char why[sizeof job->answer.message];
    trial->job = NULL;
    memcpy(why, job->answer.message, sizeof why);
    if (answered)
        keep_hits(trial, job);
    moult_job_close(job);
    if (!answered) {
        try_again(trial, why);
    } else if (trial->side == OLD) {
        trial->side = NEW;
        wake_after(trial, 0);
    } else if (trial->at < trial->judged) {
        hand_in(trial, run_name, on_named);
    } else {
        count_unmatched(trial);
    }
}

/* Its beginning. */

struct moult_trial *moult_trial_start(struct moult_generation *old,
                                      struct moult_generation *candidate, struct moult_desk *desk,
                                      const struct moult_judgements *judgements,
                                      const struct moult_asked *asked,
                                      moult_trial_listener listener, void *context, uint64_t tag) {
    struct moult_trial *trial = moult_allocate(1, sizeof *trial);
    trial->slots = old->slot->slots;
    trial->desk = desk;
    trial->judgements = judgements;
    trial->listener = listener;
    trial->context = context;
    trial->tag = tag;
    trial->began_ns = moult_clock_ns();
    trial->generations[OLD] = old;
    trial->generations[NEW] = candidate;
    for (enum side side = OLD; side < SIDES; side++)
        moult_generation_hold(trial->generations[side]);
    if (asked != NULL)
        trial->asked = moult_asked_copy(asked, &trial->asked_count);
    uv_timer_init(trial->slots->loop, &trial->timer);
    trial->timer.data = trial;
    hand_in(trial, run_resolve, on_resolved);
    return trial;
}

void moult_trial_hurry(struct moult_trial *trial) {
    trial->hurried = true;
}

double moult_trial_progress(const struct moult_trial *trial) {
    return trial->count > 0 ? (double)trial->at / trial->count : 0;
}
