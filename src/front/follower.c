/* One follower. follow.h says how its list of portions makes start, restart and repair the same.
 *
 * Telling. One request to the index at a time, in the order of the table, of portions whose changes
 * the space has. What the worker says of rows that it could not read is about their documents
 * alone: their cuts are forgotten, so that they are documents that were never embedded, and what
 * had been told behind them is told again (`again_to`: remove, then add).
 *
 * Synced. A generation that is to become the current one is led until its lag is small; from then
 * on writes wait for it too, so that it is never again behind what was acknowledged. The lag is
 * small when all that is left has been read, for few portions are read ahead; or when a lap (to
 * where the table's head was when the lap began) had more than half as many documents as the one
 * before: then writes outrun it, and only waiting for it will end that. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

/* Changes of one request: a worker makes them in a few milliseconds, and a reader of its index
 * waits no longer. */
#define TELL_MAX 16384u
#define STALL_NS 100000000ull
#define RETRY_NS 250000000ull
#define RETRY_NS_MAX (15 * 1000000000ull)

static void on_told(struct moult_job *job);

struct moult_follower *moult_follower_open(struct moult_followers *followers,
                                           struct moult_generation *generation) {
    struct moult_follower *follower = moult_allocate(1, sizeof *follower);
    follower->followers = followers;
    follower->generation = generation;
    follower->held = generation->phase == MOULT_GENERATION_CANDIDATE;
    followers->follower_count++;
    moult_generation_hold(generation);
    return follower;
}

static struct moult_followed_slot *followed(const struct moult_follower *follower) {
    return moult_followers_of(follower->followers, follower->generation->slot);
}

void moult_follower_free_if_done(struct moult_follower *follower) {
    if (!follower->left || follower->tasks > 0 || follower->telling != NULL)
        return;
    if (follower->file != NULL)
        moult_space_file_release(follower->file);
    moult_brought_close(follower->brought);
    moult_generation_drop(follower->generation);
    follower->followers->follower_count--;
    free(follower);
}

static void drop_all(struct moult_follower *follower) {
    while (follower->first != NULL)
        moult_portion_drop(follower->first);
}

void moult_follower_leave(struct moult_follower *follower) {
    struct moult_slots *slots = follower->followers->slots;
    moult_follower_end(follower, true);
    if (follower->telling != NULL)
        moult_slots_abandon(slots, follower->telling);
    follower->telling = NULL;
    follower->left = true;
    moult_space_files_unbind(follower);
    moult_follower_free_if_done(follower);
}

void moult_follower_disown(struct moult_follower *follower) {
    struct moult_portion *next;
    for (struct moult_portion *at = follower->first; at != NULL; at = next) {
        next = at->next;
        if (at->state != MOULT_PORTION_DONE)
            moult_portion_drop(at);
    }
}

void moult_follower_begin(struct moult_follower *follower) {
    follower->wakes = true;
    follower->lap_seq = follower->lap_from = follower->lap_documents = 0;
    moult_follower_out_of_trouble(follower);
}

static void tell_from(struct moult_follower *follower, uint64_t told) {
    follower->told = told;
    for (struct moult_portion *at = follower->first; at != NULL; at = at->next)
        at->told_changes = at->told_chunks = 0;
}

void moult_follower_end(struct moult_follower *follower, bool for_good) {
    follower->wakes = follower->complete = follower->synced = follower->doubts = false;
    follower->again_to = follower->caught_up = follower->documents = 0;
    tell_from(follower, 0);
    if (!for_good)
        return;
    drop_all(follower);
    if (follower->file != NULL)
        moult_space_file_release(follower->file);
    follower->file = NULL;
}

/* What it may do. */

bool moult_follower_can_submit(const struct moult_follower *follower) {
    const struct moult_generation *generation = follower->generation;
    return !follower->left && generation->phase < MOULT_GENERATION_RETIRING &&
           !generation->asleep && !follower->followers->slots->stopping;
}

/* A model that was raised for those who name it is followed when one of them searches: they may
 * only want vectors of texts. */
static bool is_wanted(const struct moult_follower *follower) {
    const struct moult_generation *generation = follower->generation;
    if (follower->held || !moult_follower_can_submit(follower))
        return false;
    return generation->phase != MOULT_GENERATION_WARM || !generation->by_name ||
           generation->kept || follower->complete || generation->queue.search_texts > 0;
}

static bool works(const struct moult_follower *follower) {
    const struct moult_space_file *file = follower->file;
    bool is_there = file != NULL && (file->number != 0 || !follower->followers->own);
    return follower->wakes && follower->equipped && is_there &&
           !follower->followers->stopping && is_wanted(follower);
}

/* The current one, one that is to be it, and then whoever is there. */
static unsigned rank(const struct moult_follower *follower) {
    switch (follower->generation->phase) {
    case MOULT_GENERATION_CURRENT: return 3;
    case MOULT_GENERATION_CANDIDATE: return 2;
    case MOULT_GENERATION_DRAINING: return 1;
    default: return 0;
    }
}

/* Else two would embed the same. The others wait until it has. */
bool moult_follower_leads(const struct moult_follower *follower) {
    const struct moult_slot *slot = follower->generation->slot;
    if (!follower->followers->own)
        return false;
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_follower *other = slot->generations[i]->follower;
        if (other == NULL || other == follower || other->file != follower->file || !works(other))
            continue;
        if (rank(other) > rank(follower) ||
            (rank(other) == rank(follower) &&
             other->generation->number > follower->generation->number))
            return false;
    }
    return true;
}

enum moult_lane moult_follower_lane(const struct moult_follower *follower) {
    return follower->generation->phase == MOULT_GENERATION_CURRENT ? MOULT_LANE_BATCH
                                                                   : MOULT_LANE_BACKGROUND;
}

/* Trouble. */

void moult_follower_has_news(struct moult_follower *follower) {
    follower->has_news = true;
    moult_followers_wake_by(follower->followers, moult_clock_ns());
}

void moult_follower_in_trouble(struct moult_follower *follower, const char *message) {
    uint64_t delay_ns = RETRY_NS << (follower->failures < 6 ? follower->failures : 6);
    delay_ns = delay_ns < RETRY_NS_MAX ? delay_ns : RETRY_NS_MAX;
    follower->failures++;
    follower->retry_ns = moult_clock_ns() + delay_ns;
    if (strncmp(follower->trouble, message, sizeof follower->trouble - 1) != 0)
        moult_log_warning("The documents of %s are not followed just now: %s",
                          follower->generation->label, message);
    snprintf(follower->trouble, sizeof follower->trouble, "%s", message);
    moult_followers_wake_by(follower->followers, follower->retry_ns);
    moult_follower_has_news(follower);
}

/* A portion that could not be written is trouble until it is, whatever went well beside it. */
void moult_follower_out_of_trouble(struct moult_follower *follower) {
    for (const struct moult_portion *at = follower->first; at != NULL; at = at->next)
        if (at->failures > 0 && at->state == MOULT_PORTION_WRITING)
            return;
    if (follower->trouble[0] != '\0')
        moult_log_info("The documents of %s are followed again.", follower->generation->label);
    follower->trouble[0] = '\0';
    follower->failures = 0;
    follower->retry_ns = 0;
}

uint64_t moult_follower_due_ns(const struct moult_follower *follower, uint64_t now_ns) {
    uint64_t due_ns = follower->retry_ns > now_ns ? follower->retry_ns : UINT64_MAX;
    for (const struct moult_portion *at = follower->first; at != NULL; at = at->next)
        if (at->retry_ns > now_ns && at->retry_ns < due_ns)
            due_ns = at->retry_ns;
    return due_ns;
}

/* Reading. */

/* The first gap of the list, or what lies behind it all; false: there is nothing to be read now. */
static bool find_gap(const struct moult_follower *follower, uint64_t *after, uint64_t *bound) {
    uint64_t at = follower->told;
    for (const struct moult_portion *portion = follower->first; portion != NULL;
         portion = portion->next) {
        if (portion->state == MOULT_PORTION_READING)
            return false;
        if (portion->after > at) {
            *after = at;
            *bound = portion->after;
            return true;
        }
        at = portion->through > at ? portion->through : at;
    }
    *after = at;
    *bound = UINT64_MAX;
    return follower->portion_count < MOULT_PORTIONS_MAX &&
           (follower->caught_up == 0 || followed(follower)->head > at);
}

static void read_on(struct moult_follower *follower) {
    uint64_t after, bound;
    if (moult_clock_ns() >= follower->retry_ns && find_gap(follower, &after, &bound))
        moult_portion_open(follower, after, bound);
}

/* Somebody else embeds it, or nobody may just now. */
static void stall(struct moult_follower *follower, struct moult_portion *portion) {
    const struct moult_store_change *first = portion->missing[0].change;
    uint32_t at = (uint32_t)(first - portion->changes.items);
    follower->retry_ns = moult_clock_ns() + STALL_NS;
    moult_followers_wake_by(follower->followers, follower->retry_ns);
    if (at == 0) {
        moult_portion_drop(portion);
        return;
    }
    moult_portion_cut_off(portion, at);
    portion->missing_count = 0;
    moult_portion_embed(portion);
}

void moult_follower_read(struct moult_portion *portion, const struct moult_error *error) {
    struct moult_follower *follower = portion->follower;
    if (error != NULL || !works(follower)) {
        portion->state = MOULT_PORTION_DONE;
        moult_portion_drop(portion);
        if (error != NULL)
            moult_follower_in_trouble(follower, error->message);
        return;
    }
    follower->present = portion->missing_count == 0;
    if (portion->last && portion->bound == UINT64_MAX)
        follower->caught_up = portion->through > 0 ? portion->through : 1;
    if (portion->missing_count > 0 && !moult_follower_leads(follower)) {
        portion->state = MOULT_PORTION_DONE;
        stall(follower, portion);
    } else {
        if (portion->missing_count > 0 && follower->embedding_since_ns == 0)
            follower->embedding_since_ns = moult_clock_ns();
        moult_portion_embed(portion);
    }
    moult_follower_step(follower);
}

void moult_follower_written(struct moult_portion *portion) {
    struct moult_follower *follower = portion->follower;
    const struct moult_slot *slot = follower->generation->slot;
    /* Those who follow with the same space have waited for that. */
    for (unsigned i = 0; i < slot->generation_count; i++) {
        struct moult_follower *other = slot->generations[i]->follower;
        if (other == NULL || other == follower || other->file != follower->file)
            continue;
        if (other->trouble[0] == '\0')
            other->retry_ns = 0;
        moult_follower_step(other);
    }
    moult_follower_step(follower);
}

/* Telling. */

struct telling {
    struct moult_change *changes;   /* [count] of TELL_MAX */
    struct moult_change *going;     /* [going_count] */
    uint32_t count, going_count;    /* Together at most TELL_MAX. */
    uint64_t again_to;
};

static uint32_t room_of(const struct telling *telling) {
    return TELL_MAX - telling->count - telling->going_count;
}

static struct moult_change make_change(enum moult_change_kind kind,
                                       const struct moult_store_change *change, uint64_t seq,
                                       uint32_t row, uint32_t chunk) {
    return (struct moult_change){
        .kind = kind, .collection = change->collection, .seq = seq, .row = row, .chunk = chunk};
}

static void say(struct telling *telling, enum moult_change_kind kind,
                const struct moult_store_change *change, uint64_t seq, uint32_t row,
                uint32_t chunk) {
    telling->changes[telling->count++] = make_change(kind, change, seq, row, chunk);
}

/* Behind all that comes: a search that runs meanwhile meets the old version of a document, the new
 * one or both, and not neither. */
static void say_last(struct telling *telling, enum moult_change_kind kind,
                     const struct moult_store_change *change, uint64_t seq) {
    telling->going[telling->going_count++] = make_change(kind, change, seq, 0, 0);
}

/* The chunks of a version, wherever they are; none of one that its model cannot embed. */
static uint32_t chunks_of(const struct moult_portion *portion,
                          const struct moult_store_change *change,
                          const struct moult_chunk **chunks) {
    uint32_t count = change->chunk_count;
    *chunks = change->chunks;
    if (change->puts && count == 0) {
        const struct moult_followed *document = moult_portion_find(portion, change);
        *chunks = document->chunks;
        count = document->gone || document->refused ? 0 : document->count;
    }
    return count == 1 && (*chunks)->begin == (*chunks)->end ? 0 : count;
}

/* False: it does not fit any more, and goes on in the next request. */
static bool say_change(struct telling *telling, struct moult_portion *portion,
                       const struct moult_store_change *change) {
    const struct moult_chunk *chunks;
    uint32_t count = chunks_of(portion, change, &chunks);
    if (room_of(telling) < 3)
        return false;
    if (portion->told_chunks == 0 && change->puts && change->seq <= telling->again_to)
        say(telling, MOULT_CHANGE_REMOVE, change, change->seq, 0, 0);
    while (portion->told_chunks < count && room_of(telling) > 1) {
        uint32_t i = portion->told_chunks++;
        say(telling, MOULT_CHANGE_ADD, change, change->seq, chunks[i].row, i);
    }
    if (portion->told_chunks < count)
        return false;
    if (change->drops)
        say_last(telling, MOULT_CHANGE_DROP, change, 0);
    else if (change->removes != 0)
        say_last(telling, MOULT_CHANGE_REMOVE, change, change->removes);
    return true;
}

static bool say_portion(struct telling *telling, struct moult_portion *portion) {
    while (portion->told_changes < portion->changes.count) {
        if (!say_change(telling, portion, &portion->changes.items[portion->told_changes]))
            return false;
        portion->told_changes++;
        portion->told_chunks = 0;
    }
    return true;
}

/* As many portions as follow without a gap and fit; returns how far the index is then. */
static uint64_t say_portions(struct moult_follower *follower, struct telling *telling) {
    uint64_t to = follower->told;
    for (struct moult_portion *at = follower->first; at != NULL; at = at->next) {
        if (at->after > to || at->state != MOULT_PORTION_DONE || !say_portion(telling, at))
            break;
        to = at->through > to ? at->through : to;
    }
    return to;
}

static void submit(struct moult_follower *follower, const struct telling *telling, bool complete) {
    struct moult_generation *generation = follower->generation;
    struct moult_job *job = moult_job_open();
    job->slot = generation->slot;
    job->pinned = generation;
    moult_generation_hold(generation);
    job->own = true;
    job->run = generation->run;
    job->lane = moult_follower_lane(follower) == MOULT_LANE_BATCH ? MOULT_LANE_SINGLE
                                                                  : MOULT_LANE_BACKGROUND;
    job->count = 1;
    job->done = on_told;
    job->owner = follower;
    job->message = moult_follow_request_write(telling->changes, telling->count, complete,
                                              &job->message_size);
    follower->telling = job;
    moult_slots_submit_own(generation->slot->slots, job);
}

static void advance(struct moult_follower *follower);

static bool may_be_complete(const struct moult_follower *follower, uint64_t to) {
    const struct moult_followers *followers = follower->followers;
    return followers->owed_known && to >= followers->owed;
}

static void tell(struct moult_follower *follower) {
    if (follower->telling != NULL || !follower->generation->ready)
        return;
    struct telling telling = {.again_to = follower->again_to};
    telling.changes = moult_allocate(TELL_MAX, sizeof *telling.changes);
    telling.going = moult_allocate(TELL_MAX, sizeof *telling.going);
    follower->telling_to = say_portions(follower, &telling);
    memcpy(telling.changes + telling.count, telling.going,
           telling.going_count * sizeof *telling.going);
    telling.count += telling.going_count;
    free(telling.going);
    follower->telling_complete =
        !follower->complete && may_be_complete(follower, follower->telling_to);
    follower->telling_doubts = follower->doubts && follower->complete;
    if (telling.count > 0 || follower->telling_complete || follower->telling_doubts)
        submit(follower, &telling, follower->telling_complete || follower->complete);
    else if (follower->telling_to > follower->told || follower->first != NULL)
        advance(follower);
    free(telling.changes);
}

static uint64_t puts_of(const struct moult_portion *portion) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < portion->changes.count; i++)
        count += portion->changes.items[i].puts;
    return count;
}

/* The index has what was told. */
static void advance(struct moult_follower *follower) {
    struct moult_portion *first;
    uint64_t before = follower->told;
    follower->told = follower->telling_to;
    while ((first = follower->first) != NULL && first->state == MOULT_PORTION_DONE &&
           first->through <= follower->told && first->told_changes == first->changes.count) {
        follower->documents += puts_of(first);
        moult_portion_drop(first);
    }
    if (follower->telling_complete)
        follower->complete = true;
    moult_follower_out_of_trouble(follower);
    if (follower->told > before || follower->telling_complete) {
        moult_writes_look(followed(follower));
        moult_follower_has_news(follower);
    }
}

static void tell_again(struct moult_follower *follower) {
    if (follower->telling_to > follower->again_to)
        follower->again_to = follower->telling_to;
    for (struct moult_portion *at = follower->first; at != NULL; at = at->next) {
        if (at->told_changes + at->told_chunks > 0 && at->through > follower->again_to)
            follower->again_to = at->through;
        at->told_changes = at->told_chunks = 0;
    }
}

/* Damage. */

static bool has_row(const struct moult_portion *portion, const struct moult_store_change *change,
                    uint32_t row) {
    const struct moult_chunk *chunks;
    uint32_t count = chunks_of(portion, change, &chunks);
    for (uint32_t i = 0; i < count; i++)
        if (chunks[i].row == row)
            return true;
    return false;
}

static bool note_damage(struct moult_portion *portion, uint32_t row) {
    for (uint32_t i = 0; i < portion->changes.count; i++) {
        if (!has_row(portion, &portion->changes.items[i], row))
            continue;
        if (portion->damaged == NULL)
            portion->damaged = moult_allocate(portion->changes.count, sizeof *portion->damaged);
        uint64_t seq = portion->changes.items[i].seq;
        uint32_t count = portion->damaged_count;
        if (count == 0 || portion->damaged[count - 1] != seq)
            portion->damaged[portion->damaged_count++] = seq;
        return true;
    }
    return false;
}

/* Those that it was not told of just now, it has met in a search: it is told of all once more. */
static void find_damage(struct moult_follower *follower, const uint32_t *rows, uint32_t count) {
    bool found_all = true;
    for (uint32_t i = 0; i < count; i++) {
        bool found = false;
        for (struct moult_portion *at = follower->first; at != NULL && !found; at = at->next)
            found = at->state == MOULT_PORTION_DONE && note_damage(at, rows[i]);
        found_all = found_all && found;
    }
    if (!found_all)
        follower->told = follower->documents = 0;
}

static void repair(struct moult_follower *follower, const uint32_t *rows, uint32_t count) {
    struct moult_portion *next;
    moult_log_warning("%u vectors of %s are damaged on the disk: their documents are embedded "
                      "again.", count, follower->generation->label);
    tell_again(follower);
    find_damage(follower, rows, count);
    for (struct moult_portion *at = follower->first; at != NULL; at = next) {
        next = at->next;
        if (at->damaged_count > 0 && follower->followers->own)
            moult_portion_repair(at);
        else if (at->damaged_count > 0)
            moult_portion_drop(at);
    }
    if (!follower->followers->own)
        moult_follower_in_trouble(follower, "Its vectors are damaged on the disk.");
}

static void on_told(struct moult_job *job) {
    struct moult_follower *follower = job->owner;
    bool answered = job->outcome == MOULT_JOB_ANSWERED && job->run == follower->generation->run &&
                    follower->wakes;
    follower->telling = NULL;
    if (answered && follower->telling_doubts)
        follower->doubts = false;
    if (answered && job->answer.status != MOULT_ANSWER_OK) {
        tell_again(follower);
        moult_follower_in_trouble(follower, job->answer.message);
    } else if (answered && job->answer.unread_count > 0) {
        repair(follower, job->answer.unread, job->answer.unread_count);
    } else if (answered) {
        advance(follower);
    }
    moult_job_close(job);
    moult_follower_step(follower);
}

/* Gate and lag. */

static void look_at_gate(struct moult_follower *follower) {
    if (follower->complete && !follower->doubts &&
        follower->told >= followed(follower)->acknowledged)
        moult_generation_open_gate(follower->generation);
}

static bool is_to_sync(const struct moult_follower *follower) {
    return follower->aims && !follower->synced && follower->complete;
}

/* Nothing is left that has not been read. */
static bool is_near(const struct moult_follower *follower, uint64_t head) {
    uint64_t read_to = follower->told;
    for (const struct moult_portion *at = follower->first; at != NULL; at = at->next) {
        if (at->state == MOULT_PORTION_READING || at->after > read_to)
            return false;
        read_to = at->through > read_to ? at->through : read_to;
    }
    return read_to >= head;
}

/* False: writes outrun it. */
static bool end_lap(struct moult_follower *follower, uint64_t head) {
    uint64_t documents = follower->documents - follower->lap_from;
    bool first = follower->lap_seq == 0;
    bool outrun = !first && documents > follower->lap_documents / 2;
    follower->lap_seq = head;
    follower->lap_from = follower->documents;
    follower->lap_documents = documents;
    return !outrun;
}

static void look_at_lag(struct moult_follower *follower) {
    uint64_t head = followed(follower)->head;
    if (!is_to_sync(follower))
        return;
    bool outrun = follower->told >= follower->lap_seq && !end_lap(follower, head);
    if (!outrun && !is_near(follower, head))
        return;
    follower->synced = true;
    follower->sync_seq = head;
    moult_follower_has_news(follower);
}

static void retry(struct moult_follower *follower) {
    uint64_t now_ns = moult_clock_ns();
    for (struct moult_portion *at = follower->first; at != NULL; at = at->next)
        if (at->retry_ns != 0 && now_ns >= at->retry_ns)
            moult_portion_retry(at);
}

void moult_follower_step(struct moult_follower *follower) {
    bool may_try = moult_clock_ns() >= follower->retry_ns && !follower->followers->stopping;
    if (may_try && follower->file != NULL)
        moult_space_file_make(follower->file);
    if (may_try && follower->wakes && !follower->equipped && is_wanted(follower))
        moult_space_files_mend(follower);
    if (!works(follower))
        return;
    retry(follower);
    if (moult_clock_ns() >= follower->retry_ns)
        tell(follower);
    look_at_gate(follower);
    look_at_lag(follower);
    read_on(follower);
}
