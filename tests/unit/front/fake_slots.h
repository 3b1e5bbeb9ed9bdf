/* Slots, updates and jobs without any worker, for the tests of what stands in
 * front of them. A text that begins with "wait" is kept until fake_answer_all(); "busy"
 * is not admitted; "kill", "down", "bad" and "fail" end as their names say. Any
 * other gets a cell of its own size. Included once, by a test or fuzz target. */
#ifndef TESTS_FAKE_SLOTS_H
#define TESTS_FAKE_SLOTS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "front/poll.h"
#include "front/server.h"

#define FAKE_KEPT_MAX 256
#define FAKE_LONG_CELL 10000u

static struct {
    unsigned opened, closed, submitted, abandoned;
    struct moult_job *kept[FAKE_KEPT_MAX];
    unsigned kept_count;
    bool unhealthy;
    moult_update_listener listener;
    void *listener_context;
    unsigned forgotten;
    struct moult_update_order last_order;
    enum moult_prompt last_prompt;
} fake;

/* --allow-model-from */
static const char *fake_allowed[] = {"slow/", "/nowhere"};
static char fake_cell_bytes[FAKE_LONG_CELL];
static int fake_slot, fake_generation;
static const struct moult_worker_report fake_report = {
    .state = MOULT_WORKER_READY, .pooling = "mean", .kernels = "c", .precision = "f32",
    .dimensions = 384, .tokens_max = 256, .threads = 1,
};

struct moult_job *moult_job_open(void) {
    fake.opened++;
    return moult_allocate(1, sizeof(struct moult_job));
}

void moult_job_close(struct moult_job *job) {
    fake.closed++;
    free(job->answer.cells);
    free(job->message);
    free(job);
}

static bool begins(const struct moult_request_view *view, const char *word) {
    size_t size = strlen(word);
    return view->text_sizes[0] >= size && memcmp(view->texts, word, size) == 0;
}

static void fake_answer(struct moult_job *job) {
    struct moult_request_view view;
    MOULT_REQUIRE(moult_request_read(job->message, job->message_size, &view, NULL) == 0);
    job->outcome = begins(&view, "kill")   ? MOULT_JOB_KILLED_WORKER
                   : begins(&view, "down") ? MOULT_JOB_UNAVAILABLE
                                           : MOULT_JOB_ANSWERED;
    struct moult_answer_view *answer = &job->answer;
    answer->status = begins(&view, "bad")    ? MOULT_ANSWER_INVALID
                     : begins(&view, "fail") ? MOULT_ANSWER_FAILED
                                             : MOULT_ANSWER_OK;
    if (answer->status != MOULT_ANSWER_OK)
        snprintf(answer->message, sizeof answer->message, "Said by the worker.");
    answer->message_text = answer->status == MOULT_ANSWER_INVALID ? 0 : UINT32_MAX;
    answer->count = view.count;
    answer->cells = moult_allocate(view.count, sizeof *answer->cells);
    answer->block = fake_cell_bytes;
    memset(fake_cell_bytes, '7', sizeof fake_cell_bytes);
    for (uint32_t i = 0; i < view.count; i++)
        answer->cells[i] = (struct moult_answer_cell){
            .offset = 0, .size = begins(&view, "long") ? FAKE_LONG_CELL : 1, .tokens = 3};
    answer->tokens = 3 * view.count;
    job->generation = (struct moult_generation *)&fake_generation;
    job->done(job);
}

static void fake_answer_all(void) {
    unsigned count = fake.kept_count;
    fake.kept_count = 0;
    for (unsigned i = 0; i < count; i++)
        fake_answer(fake.kept[i]);
}

int moult_slots_submit(struct moult_slots *slots, struct moult_job *job, uint32_t *retry_after_s,
                       struct moult_error *error) {
    (void)slots;
    struct moult_request_view view;
    MOULT_REQUIRE(moult_request_read(job->message, job->message_size, &view, error) == 0);
    MOULT_REQUIRE(view.count > 0 && view.count == job->count);
    size_t size = 0;
    for (uint32_t i = 0; i < view.count; i++) {
        MOULT_REQUIRE(view.text_sizes[i] > 0);
        MOULT_REQUIRE(moult_utf8_valid(view.texts + size, view.text_sizes[i]));
        size += view.text_sizes[i];
    }
    if (begins(&view, "busy")) {
        *retry_after_s = 7;
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Too much waits.");
    }
    fake.submitted++;
    fake.last_prompt = job->options.prompt;
    if (begins(&view, "wait") && fake.kept_count < FAKE_KEPT_MAX)
        fake.kept[fake.kept_count++] = job;
    else
        fake_answer(job);
    return 0;
}

void moult_slots_abandon(struct moult_slots *slots, struct moult_job *job) {
    (void)slots;
    fake.abandoned++;
    for (unsigned i = 0; i < fake.kept_count; i++)
        if (fake.kept[i] == job)
            fake.kept[i] = fake.kept[--fake.kept_count];
    moult_job_close(job);
}

int moult_slots_resolve(struct moult_slots *slots, const char *model, struct moult_target *target,
                        struct moult_error *error) {
    (void)slots;
    *target = (struct moult_target){.slot = (struct moult_slot *)&fake_slot};
    if (model != NULL && strcmp(model, "tiny@01234567") == 0)
        target->pinned = (struct moult_generation *)&fake_generation;
    else if (model != NULL && strchr(model, '@') != NULL)
        return moult_fail(error, MOULT_ERROR_MISSING, "There is no model \"%.40s\".", model);
    return 0;
}

void moult_slots_note_asked(const struct moult_job *job) {
    (void)job;
}

bool moult_slots_healthy(const struct moult_slots *slots) {
    (void)slots;
    return !fake.unhealthy;
}

unsigned moult_slots_count(const struct moult_slots *slots) {
    (void)slots;
    return 1;
}

struct moult_slot *moult_slots_at(const struct moult_slots *slots, unsigned index) {
    (void)slots;
    return index == 0 ? (struct moult_slot *)&fake_slot : NULL;
}

unsigned moult_slot_index(const struct moult_slot *slot) {
    (void)slot;
    return 0;
}

struct moult_generation *moult_slot_worker_at(const struct moult_slot *slot, unsigned index) {
    return moult_slot_generation_at(slot, index);
}

uint64_t moult_slot_restarts(const struct moult_slot *slot) {
    (void)slot;
    return 2;
}

uint32_t moult_slots_waiting(const struct moult_slots *slots) {
    (void)slots;
    return fake.kept_count;
}

int moult_generation_pid(const struct moult_generation *generation) {
    (void)generation;
    return 0;
}

const char *moult_slot_name(const struct moult_slot *slot) {
    (void)slot;
    return "tiny";
}

const char *moult_slot_source(const struct moult_slot *slot) {
    (void)slot;
    return "/models/tiny";
}

struct moult_generation *moult_slot_current(const struct moult_slot *slot) {
    (void)slot;
    return (struct moult_generation *)&fake_generation;
}

struct moult_generation *moult_slot_generation_at(const struct moult_slot *slot, unsigned index) {
    return index == 0 ? moult_slot_current(slot) : NULL;
}

uint64_t moult_generation_retires_at(const struct moult_generation *generation) {
    (void)generation;
    return 0;
}

uint64_t moult_generation_replaced_at(const struct moult_generation *generation) {
    (void)generation;
    return 0;
}

bool moult_generation_loaded(const struct moult_generation *generation) {
    (void)generation;
    return true;
}

/* One lease at most; it is "saved" at once, and cannot be where it ends after 13 s. */
static struct moult_state_lease fake_lease;

const struct moult_state_lease *moult_shelf_find_lease(const struct moult_shelf *shelf,
                                                       const char *id) {
    (void)shelf;
    return fake_lease.expires != 0 && strcmp(id, fake_lease.id) == 0 ? &fake_lease : NULL;
}

const struct moult_state_lease *moult_shelf_lease_at(const struct moult_shelf *shelf,
                                                     unsigned index) {
    return index == 0 ? moult_shelf_find_lease(shelf, fake_lease.id) : NULL;
}

const struct moult_state_lease *moult_shelf_lease(struct moult_shelf *shelf,
                                                  const struct moult_generation *generation,
                                                  uint64_t seconds, struct moult_error *error) {
    (void)shelf;
    if (fake_lease.expires != 0) {
        moult_fail(error, MOULT_ERROR_LIMIT, "There is one lease, and no more are given.");
        return NULL;
    }
    snprintf(fake_lease.id, sizeof fake_lease.id, "0123456789abcdef");
    snprintf(fake_lease.slot, sizeof fake_lease.slot, "tiny");
    snprintf(fake_lease.fingerprint, sizeof fake_lease.fingerprint, "%s",
             moult_generation_fingerprint(generation));
    fake_lease.made = 1700000000;
    fake_lease.expires = fake_lease.made + seconds;
    return &fake_lease;
}

const struct moult_state_lease *moult_shelf_renew(struct moult_shelf *shelf, const char *id,
                                                  uint64_t seconds) {
    if (moult_shelf_find_lease(shelf, id) == NULL)
        return NULL;
    fake_lease.expires = 1700000000 + seconds;
    return &fake_lease;
}

bool moult_shelf_end_lease(struct moult_shelf *shelf, const char *id,
                           struct moult_state_lease *lease) {
    if (moult_shelf_find_lease(shelf, id) == NULL)
        return false;
    *lease = fake_lease;
    fake_lease.expires = 0;
    return true;
}

void moult_shelf_restore_lease(struct moult_shelf *shelf, const struct moult_state_lease *lease) {
    (void)shelf;
    fake_lease = *lease;
}

void moult_shelf_save(struct moult_shelf *shelf, moult_keeper_listener listener, void *context) {
    struct moult_error error = {.message = "No space is left."};
    (void)shelf;
    listener(context, 0, fake_lease.expires == 1700000013 ? &error : NULL);
}

uint32_t moult_slots_waiting_max(const struct moult_slots *slots) {
    (void)slots;
    return 512;
}

uint64_t moult_generation_number(const struct moult_generation *generation) {
    (void)generation;
    return 4;
}

const char *moult_generation_fingerprint(const struct moult_generation *generation) {
    (void)generation;
    return "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
}

const char *moult_generation_revision(const struct moult_generation *generation) {
    return moult_generation_fingerprint(generation);
}

const char *moult_generation_label(const struct moult_generation *generation) {
    (void)generation;
    return "tiny@01234567";
}

const struct moult_worker_report *
moult_generation_report(const struct moult_generation *generation) {
    (void)generation;
    return &fake_report;
}

uint64_t moult_generation_ready_at(const struct moult_generation *generation) {
    (void)generation;
    return 1700000000;
}

/* Nothing is stored here, so nobody follows. */
struct moult_slot *moult_slots_find(const struct moult_slots *slots, const char *name) {
    (void)slots;
    (void)name;
    return NULL;
}

void moult_followers_wrote(struct moult_followers *followers, struct moult_slot *slot,
                           uint64_t first_seq, uint64_t last_seq, moult_write_listener listener,
                           void *context) {
    (void)followers;
    (void)slot;
    (void)first_seq;
    (void)last_seq;
    (void)listener;
    (void)context;
}

int moult_followers_admit(const struct moult_followers *followers, const struct moult_slot *slot,
                          uint32_t documents, struct moult_error *error) {
    (void)followers;
    (void)slot;
    (void)documents;
    (void)error;
    return 0;
}

uint32_t moult_followers_space(const struct moult_followers *followers,
                               const struct moult_generation *generation) {
    (void)followers;
    (void)generation;
    return 0;
}

void moult_generation_hold(struct moult_generation *generation) {
    (void)generation;
}

void moult_generation_drop(struct moult_generation *generation) {
    (void)generation;
}

const char *moult_update_status_name(enum moult_update_status status) {
    return status == MOULT_UPDATE_LIVE ? "live" : "running";
}

const char *moult_update_phase_name(enum moult_update_phase phase) {
    return phase == MOULT_PHASE_LOAD ? "loading" : "queued";
}

int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error) {
    (void)updates;
    fake.last_order = *order;
    fake.last_order.model = NULL;
    if (order->reject_if_busy)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE, "Another update is running.");
    *id = 9;
    if (listener == NULL)
        return 0;
    fake.listener = listener;
    fake.listener_context = context;
    struct moult_update_result result = {.id = 9, .slot = order->slot,
                                         .status = MOULT_UPDATE_LIVE, .generation = 5,
                                         .reason = ""};
    if (order->model == NULL || strcmp(order->model, "slow/model") != 0)
        listener(context, &result);
    return 0;
}

void moult_updates_forget(struct moult_updates *updates, uint64_t id,
                          moult_update_listener listener, void *context) {
    (void)updates;
    MOULT_REQUIRE(id == 9 && listener == fake.listener && context == fake.listener_context);
    fake.forgotten++;
}

int moult_updates_cancel(struct moult_updates *updates, uint64_t id, struct moult_error *error) {
    (void)updates;
    return id == 9 ? 0 : moult_fail(error, MOULT_ERROR_MISSING, "There is no such update.");
}

int moult_updates_cut_over(struct moult_updates *updates, uint64_t id,
                           moult_update_listener listener, void *context,
                           struct moult_error *error) {
    struct moult_update_order order = {.slot = (struct moult_slot *)&fake_slot};
    return moult_updates_cancel(updates, id, error) != 0
               ? -1
               : moult_updates_start(updates, &order, listener, context, &id, error);
}

struct moult_slot *moult_updates_slot_of(struct moult_updates *updates, uint64_t id) {
    (void)updates;
    return id == 9 ? (struct moult_slot *)&fake_slot : NULL;
}

json_t *moult_poll_json(const struct moult_poll *poll, unsigned slot) {
    (void)poll;
    (void)slot;
    return json_null();
}

json_t *moult_updates_json(struct moult_updates *updates) {
    (void)updates;
    return json_pack("{s:[]}", "slots");
}

json_t *moult_updates_one_json(struct moult_updates *updates, uint64_t id) {
    (void)updates;
    return id == 9 ? json_pack("{s:i}", "id", 9) : NULL;
}

#endif
