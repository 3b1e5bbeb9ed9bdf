/* All followers: their beginnings and ends, as the slots tell of generations; time; and what is
 * known of the store by counting. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

/* How often somebody else's writes are looked for, where the table is not ours alone. */
#define LOOK_NS 100000000ull
/* Removals are forgotten, and what was dropped is cleared away. */
#define TIDY_SECONDS 60u
#define PURGE_MAX 2000u
#define SWEEP_MAX 2000u
/* What an index needs for a row beside a byte for each dimension, about: the worker computes it. */
#define INDEX_ROW_BYTES 40u

static void on_timer(uv_timer_t *timer);
static void survey(struct moult_followers *followers);
static void tidy(struct moult_followers *followers);

struct moult_followed_slot *moult_followers_of(const struct moult_followers *followers,
                                               const struct moult_slot *slot) {
    return (struct moult_followed_slot *)&followers->followed[moult_slot_index(slot)];
}

struct moult_followed_slot *moult_followers_of_name(struct moult_followers *followers,
                                                    const char *name) {
    unsigned at = 0;
    while (strcmp(followers->followed[at].slot->name, name) != 0)
        at++;   /* Slots are not taken away. */
    return &followers->followed[at];
}

void moult_followers_wake_by(struct moult_followers *followers, uint64_t ns) {
    if (ns >= followers->timer_ns || uv_is_closing((uv_handle_t *)&followers->timer))
        return;
    uint64_t now_ns = moult_clock_ns();
    followers->timer_ns = ns;
    uv_update_time(followers->loop);
    uv_timer_start(&followers->timer, on_timer, ns > now_ns ? (ns - now_ns + 999999) / 1000000 : 0,
                   0);
}

/* Counting. */

struct survey {
    struct moult_desk_task task;
    struct moult_followers *followers;
    unsigned slot_count;
    struct {
        const char *name;
        uint64_t documents;
    } slots[MOULT_SLOTS_MAX];
    struct moult_space *spaces;
    unsigned space_count;
    struct moult_store_numbers numbers;
};

static int count_slot(struct survey *self, unsigned at, struct moult_store *store,
                      struct moult_error *error) {
    struct moult_collection *collections;
    unsigned count;
    if (moult_store_collections(store, self->slots[at].name, &collections, &count, error) != 0)
        return -1;
    self->slots[at].documents = 0;
    for (unsigned i = 0; i < count; i++)
        self->slots[at].documents += collections[i].documents;
    free(collections);
    return 0;
}

static int run_survey(struct moult_desk_task *task, struct moult_store *store,
                      struct moult_error *error) {
    struct survey *self = (struct survey *)task;
    free(self->spaces);
    self->spaces = NULL;
    for (unsigned i = 0; i < self->slot_count; i++)
        if (count_slot(self, i, store, error) != 0)
            return -1;
    if (moult_store_count(store, &self->numbers, error) != 0)
        return -1;
    return moult_store_spaces(store, NULL, &self->spaces, &self->space_count, error);
}

static struct survey *make_survey(struct moult_followers *followers) {
    struct survey *self = moult_allocate(1, sizeof *self);
    self->followers = followers;
    self->slot_count = followers->slots->count;
    for (unsigned i = 0; i < self->slot_count; i++)
        self->slots[i].name = followers->slots->slots[i].name;
    return self;
}

static void take_survey(struct survey *self) {
    struct moult_followers *followers = self->followers;
    moult_space_files_note(followers, self->spaces, self->space_count);
    for (unsigned i = 0; i < self->slot_count; i++) {
        struct moult_followed_slot *followed = &followers->followed[i];
        followed->documents = self->slots[i].documents;
        if (self->numbers.seq > followed->head && !followers->owed_known)
            followed->head = self->numbers.seq;
    }
    if (followers->own && !followers->owed_known) {
        followers->owed = self->numbers.seq;
        followers->owed_known = true;
        moult_space_files_clear(followers);
    }
}

static void on_survey(struct moult_desk_task *task, const struct moult_error *error) {
    struct survey *self = (struct survey *)task;
    struct moult_followers *followers = self->followers;
    followers->tasks--;
    if (error == NULL)
        take_survey(self);
    else if (!followers->stopping)
        moult_log_warning("The documents cannot be counted: %s", error->message);
    free(self->spaces);
    free(self);
    moult_followers_wake_by(followers, moult_clock_ns());
}

static void survey(struct moult_followers *followers) {
    struct survey *self = make_survey(followers);
    self->task.run = run_survey;
    self->task.done = on_survey;
    followers->tasks++;
    moult_desk_hand_in(followers->desk, MOULT_DESK_READ, &self->task);
}

/* At the start, before anything is served: workers are about to inherit what this finds. A store
 * that is not there yet has nothing. */
static int survey_now(struct moult_followers *followers, const char *path,
                      struct moult_error *error) {
    struct moult_store *store = moult_store_open(path, MOULT_STORE_READ, error);
    if (store == NULL)
        return error->code == MOULT_ERROR_MISSING ? 0 : -1;
    struct survey *self = make_survey(followers);
    int result = run_survey(&self->task, store, error);
    moult_store_close(store);
    if (result == 0)
        take_survey(self);
    free(self->spaces);
    free(self);
    return result;
}

/* Beginning and end. */

struct moult_followers *moult_followers_open(uv_loop_t *loop, struct moult_slots *slots,
                                             struct moult_desk *desk, const char *data_folder,
                                             bool own, struct moult_error *error) {
    struct moult_followers *followers = moult_allocate(1, sizeof *followers);
    followers->loop = loop;
    followers->slots = slots;
    followers->desk = desk;
    followers->folder = moult_format("%s/vectors", data_folder);
    followers->own = own;
    followers->timer_ns = UINT64_MAX;
    followers->tidy_ns = moult_clock_ns();
    for (unsigned i = 0; i < slots->count; i++)
        followers->followed[i].slot = &slots->slots[i];
    char *path = moult_format("%s/documents.db", data_folder);
    int result = 0;
    if (mkdir(followers->folder, 0777) != 0 && errno != EEXIST)
        result = moult_fail_errno(error, "The folder %s cannot be made", followers->folder);
    if (result == 0)
        result = survey_now(followers, path, error);
    free(path);
    if (result != 0) {
        moult_space_files_close(followers);
        free(followers->folder);
        free(followers);
        return NULL;
    }
    uv_timer_init(loop, &followers->timer);
    followers->timer.data = followers;
    slots->followers = followers;
    moult_followers_wake_by(followers, followers->tidy_ns);
    return followers;
}

/* What it has embedded and not written, somebody else will. */
static void disown(struct moult_followers *followers) {
    for (unsigned s = 0; s < followers->slots->count; s++) {
        const struct moult_slot *slot = &followers->slots->slots[s];
        for (unsigned i = 0; i < slot->generation_count; i++)
            if (slot->generations[i]->follower != NULL)
                moult_follower_disown(slot->generations[i]->follower);
    }
}

void moult_followers_own(struct moult_followers *followers, bool own) {
    followers->own = own;
    if (!own)
        disown(followers);
    if (own) {
        followers->owed_known = false;
        survey(followers);
    }
    moult_followers_wake_by(followers, moult_clock_ns());
}

bool moult_followers_stop(struct moult_followers *followers, bool at_once) {
    followers->stopping = followers->stopping || at_once;
    for (unsigned i = 0; at_once && i < followers->slots->count; i++)
        moult_writes_give_up(&followers->followed[i],
                             "It is stored, and the server is shutting down.");
    if (at_once)
        moult_reclaim_stop(followers);
    return followers->tasks == 0 && followers->follower_count == 0;
}

void moult_followers_close_handles(struct moult_followers *followers) {
    uv_close((uv_handle_t *)&followers->timer, NULL);
}

void moult_followers_free(struct moult_followers *followers) {
    followers->slots->followers = NULL;
    moult_space_files_close(followers);
    free(followers->folder);
    free(followers);
}

/* What the slots tell. */

void moult_followers_equip(struct moult_generation *generation,
                           struct moult_process_order *order) {
    struct moult_followers *followers = generation->slot->slots->followers;
    if (followers == NULL)
        return;
    if (generation->follower == NULL)
        generation->follower = moult_follower_open(followers, generation);
    moult_space_files_equip(generation->follower, order);
}

void moult_followers_ready(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    if (follower == NULL)
        return;
    moult_follower_begin(follower);
    moult_space_files_bind(follower);
    moult_followers_wake_by(follower->followers, moult_clock_ns());
}

void moult_followers_lost(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    if (follower == NULL)
        return;
    bool for_good = generation->asleep || generation->phase >= MOULT_GENERATION_RETIRING;
    moult_space_files_unbind(follower);
    generation->ends_follower = true;
    moult_follower_end(follower, for_good);
    generation->ends_follower = false;
    moult_followers_wake_by(follower->followers, moult_clock_ns());
}

bool moult_followers_doubt(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    if (follower == NULL || !follower->complete)
        return false;
    follower->doubts = true;
    moult_followers_wake_by(follower->followers, moult_clock_ns());
    return true;
}

void moult_followers_leave(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    generation->follower = NULL;
    if (follower != NULL)
        moult_follower_leave(follower);
}

void moult_followers_look(const struct moult_slot *slot) {
    struct moult_followers *followers = slot->slots->followers;
    if (followers != NULL)
        moult_followers_wake_by(followers, moult_clock_ns());
}

/* By construction nothing is missing that was acknowledged: a candidate that is not synced may
 * come to be the current one where nobody could wait for it, but then it answers no search yet. */
void moult_followers_cut_over(struct moult_generation *candidate) {
    struct moult_follower *follower = candidate->follower;
    if (follower == NULL)
        return;
    const struct moult_followed_slot *followed =
        moult_followers_of(follower->followers, candidate->slot);
    if (follower->told < followed->acknowledged)
        candidate->indexed = false;
    follower->held = follower->aims = follower->synced = false;
    moult_followers_look(candidate->slot);
}

void moult_followers_refuse(struct moult_slot *slot, const char *reason) {
    struct moult_followers *followers = slot->slots->followers;
    char message[512];
    if (followers == NULL)
        return;
    snprintf(message, sizeof message, "It is stored, and cannot be searched yet. %.400s", reason);
    moult_writes_give_up(moult_followers_of(followers, slot), message);
}

/* Time. */

static void tell_news(struct moult_generation *generation) {
    struct moult_slots *slots = generation->slot->slots;
    struct moult_follower *follower = generation->follower;
    if (follower == NULL || !follower->has_news)
        return;
    follower->has_news = false;
    slots->events->followed(slots->events_context, generation);
}

static void step_all(struct moult_slot *slot) {
    /* One may leave while another is told; from last to first none is missed. */
    for (unsigned i = slot->generation_count; i-- > 0;) {
        if (i >= slot->generation_count)
            continue;
        struct moult_generation *generation = slot->generations[i];
        moult_generation_hold(generation);
        tell_news(generation);
        if (generation->follower != NULL)
            moult_follower_step(generation->follower);
        moult_generation_drop(generation);
    }
}

static uint64_t due_of(const struct moult_slot *slot, uint64_t now_ns) {
    uint64_t due_ns = UINT64_MAX;
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_follower *follower = slot->generations[i]->follower;
        uint64_t ns =
            follower != NULL ? moult_follower_due_ns(follower, now_ns) : UINT64_MAX;
        due_ns = ns < due_ns ? ns : due_ns;
    }
    return due_ns;
}

static uint64_t tick(struct moult_followed_slot *followed, uint64_t now_ns) {
    struct moult_slot *slot = followed->slot;
    uint64_t writes_ns = moult_writes_tick(followed, now_ns);
    step_all(slot);
    if (slot->writes_waiting > 0 && slot->current != NULL)
        moult_generation_pump(slot->current);   /* It may be asleep. */
    uint64_t due_ns = due_of(slot, now_ns);
    return writes_ns < due_ns ? writes_ns : due_ns;
}

/* Somebody else writes to the table. */
static void look_for_others(struct moult_followers *followers) {
    for (unsigned s = 0; s < followers->slots->count; s++) {
        const struct moult_slot *slot = &followers->slots->slots[s];
        for (unsigned i = 0; i < slot->generation_count; i++)
            if (slot->generations[i]->follower != NULL)
                slot->generations[i]->follower->caught_up = 0;
    }
}

static void on_timer(uv_timer_t *timer) {
    struct moult_followers *followers = timer->data;
    uint64_t now_ns = moult_clock_ns(), due_ns = UINT64_MAX;
    followers->timer_ns = UINT64_MAX;
    if (!followers->own && now_ns >= followers->look_ns) {
        look_for_others(followers);
        followers->look_ns = now_ns + LOOK_NS;
    }
    if (followers->own && now_ns >= followers->tidy_ns)
        tidy(followers);
    for (unsigned i = 0; i < followers->slots->count; i++) {
        uint64_t ns = tick(&followers->followed[i], now_ns);
        due_ns = ns < due_ns ? ns : due_ns;
    }
    uint64_t look_ns = followers->own ? followers->tidy_ns : followers->look_ns;
    moult_followers_wake_by(followers, look_ns < due_ns ? look_ns : due_ns);
}

/* Tidying up: a few documents of what was dropped in each transaction, and removals that every
 * index has passed. A process that takes over reads from the beginning, and does not need them; one
 * that does so just now may, so none is forgotten before the next look. */

struct tidy_task {
    struct moult_desk_task task;
    struct moult_followers *followers;
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    uint64_t seq;
    int64_t count;
};

static void begin_tidying(struct moult_followers *followers,
                          int (*run)(struct moult_desk_task *, struct moult_store *,
                                     struct moult_error *),
                          const char *slot, uint64_t seq);

static int sweep_store(struct moult_desk_task *task, struct moult_store *store,
                       struct moult_error *error) {
    struct tidy_task *self = (struct tidy_task *)task;
    self->count = moult_store_sweep(store, SWEEP_MAX, error);
    return self->count < 0 ? -1 : 0;
}

static int purge_store(struct moult_desk_task *task, struct moult_store *store,
                       struct moult_error *error) {
    struct tidy_task *self = (struct tidy_task *)task;
    self->count = moult_store_purge(store, self->slot, self->seq, PURGE_MAX, error);
    return self->count < 0 ? -1 : 0;
}

static void on_tidied(struct moult_desk_task *task, const struct moult_error *error) {
    struct tidy_task *self = (struct tidy_task *)task;
    struct moult_followers *followers = self->followers;
    followers->tasks--;
    if (error == NULL && self->count > 0 && followers->own && !followers->stopping)
        begin_tidying(followers, task->run, self->slot, self->seq);
    free(self);
}

static void begin_tidying(struct moult_followers *followers,
                          int (*run)(struct moult_desk_task *, struct moult_store *,
                                     struct moult_error *),
                          const char *slot, uint64_t seq) {
    struct tidy_task *self = moult_allocate(1, sizeof *self);
    self->task = (struct moult_desk_task){.run = run, .done = on_tidied};
    self->followers = followers;
    self->seq = seq;
    snprintf(self->slot, sizeof self->slot, "%s", slot);
    followers->tasks++;
    moult_desk_hand_in(followers->desk, MOULT_DESK_WRITE, &self->task);
}

/* How far all have come that have begun; who begins later begins at 0. */
static uint64_t passed_by_all(const struct moult_followed_slot *followed) {
    const struct moult_slot *slot = followed->slot;
    uint64_t least = followed->head;
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_follower *follower = slot->generations[i]->follower;
        bool has_begun = follower != NULL && (follower->told > 0 || follower->first != NULL);
        if (has_begun && follower->told < least)
            least = follower->told;
    }
    return least;
}

static void tidy(struct moult_followers *followers) {
    uint64_t seconds = moult_fault_seconds("TIDY", TIDY_SECONDS);
    followers->tidy_ns = moult_clock_ns() + seconds * 1000000000ull;
    if (followers->stopping || !followers->owed_known || followers->keeps_removals)
        return;
    survey(followers);
    moult_reclaim_look(followers);
    moult_reclaim_begin(followers);
    begin_tidying(followers, sweep_store, "", 0);
    for (unsigned i = 0; i < followers->slots->count; i++) {
        struct moult_followed_slot *followed = &followers->followed[i];
        uint64_t now_passed = passed_by_all(followed);
        uint64_t seq = followed->passed < now_passed ? followed->passed : now_passed;
        if (seq > followed->purged)
            begin_tidying(followers, purge_store, followed->slot->name, seq);
        followed->purged = seq > followed->purged ? seq : followed->purged;
        followed->passed = now_passed;
    }
}

/* What is asked of one. */

uint64_t moult_followers_index_bytes(const struct moult_slot *slot) {
    struct moult_followers *followers = slot->slots->followers;
    const struct moult_generation *current = slot->current;
    if (followers == NULL || current == NULL)
        return 0;
    return moult_space_files_rows(followers, slot) *
           (current->report.dimensions + INDEX_ROW_BYTES);
}

uint32_t moult_followers_space(const struct moult_followers *followers,
                               const struct moult_generation *generation) {
    const struct moult_follower *follower = generation->follower;
    if (follower != NULL && follower->file != NULL)
        return follower->file->number;
    const struct moult_space_file *file =
        moult_space_file_find(followers, generation->slot, generation->fingerprint);
    return file != NULL ? file->number : 0;
}

void moult_followers_keep_removals(struct moult_followers *followers, bool keep) {
    followers->keeps_removals = keep;
}

static json_t *follower_json(const struct moult_follower *follower, uint64_t documents) {
    const struct moult_generation *generation = follower->generation;
    return json_pack("{s:I, s:s, s:I, s:I, s:I, s:b, s:b, s:o}", "generation",
                     (json_int_t)generation->number, "fingerprint", generation->fingerprint, "seq",
                     (json_int_t)follower->told, "documents", (json_int_t)follower->documents,
                     "documents_total", (json_int_t)documents, "synced", follower->synced,
                     "complete", generation->indexed, "trouble",
                     follower->trouble[0] != '\0' ? json_string(follower->trouble) : json_null());
}

json_t *moult_followers_json(const struct moult_followers *followers,
                             const struct moult_slot *slot) {
    const struct moult_followed_slot *followed = moult_followers_of(followers, slot);
    json_t *list = json_array();
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_follower *follower = slot->generations[i]->follower;
        if (follower != NULL && follower->wakes)
            json_array_append_new(list, follower_json(follower, followed->documents));
    }
    return list;
}
