/* Looking at sources.
 *
 * A look is a child, `moult pull --unless VALIDATOR`, so that neither a network nor a file system
 * can hold up the loop, and one that hangs is killed. It says what the source has now:
 *
 *   the look says     then                                              and the next look
 *   ───────────────── ───────────────────────────────────────────────── ─────────────────────────
 *   unchanged         nothing                                           after --update-every
 *   changed           an update is ordered, like any other              once that has ended
 *   incomplete        somebody is writing: it is waited for             after 1, 2, 4 … s
 *   failed            the reason is shown; what serves goes on          ever later, 15 min at most,
 *                                                                       and as Retry-After asks
 *
 * Times are spread by a tenth, so that servers that were started together do not
 * ask together. An update that cannot fetch counts as a look that failed; one that is refused for
 * what it fetched does not: it is looked at again when the source moves, and not before.
 *
 * What is known is a validator, source.h says of what. The update that takes the slot's own source
 * notes it in the state, whoever ordered it, and when it has ended, not before:
 * so a server that is killed in mid-update looks again, and one that is started anew fetches
 * nothing that it has, nor what was rolled back.
 *
 * The folders of a folder source are watched by inotify besides, as the look names them,
 * and a change in them brings the next look forward. Between a look and the watching of what
 * it named, something may have changed: so there is one more look after that. A network
 * file system tells nothing of what other machines do, and is only looked at. */
#include "front/poll.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/fetch.h"
#include "front/slot.h"
#include "source/source.h"

#define BACKOFF_MS_MAX (15ull * 60 * 1000)
#define PAUSE_MS_MAX (3600ull * 1000)    /* What a busy server may ask for. */
#define FIRST_MS_MAX 10000ull            /* What came while no server ran is soon found. */
#define SOON_MS 1000ull
#define BUSY_MS_MAX 10000ull             /* While another update of the slot runs. */
#define WATCHES_MAX (MOULT_LOOK_PATHS_MAX + 1)

enum poll_state { NEVER, UNCHANGED, WAITING, UPDATING, REFUSED, INCOMPLETE, FAILED };
static const char *const state_names[] = {"never looked", "unchanged", "waiting for another update",
                                          "updating", "refused", "incomplete", "failing"};

struct polled_slot {
    struct moult_poll *poll;
    struct moult_slot *slot;
    struct moult_state_slot *record;
    uv_timer_t timer;                    /* The next look. */
    struct moult_fetch *look;            /* The one under way, or NULL. */
    bool changed_meanwhile;              /* While it was under way, or an update. */
    bool by_event;                       /* The look is one that a change brought forward. */
    enum poll_state state;
    char known[MOULT_VALIDATOR_BYTES];   /* Of what needs no update. */
    char noted[MOULT_VALIDATOR_BYTES];   /* What the state said when `known` was taken from it. */
    char looked[MOULT_VALIDATOR_BYTES];  /* Of what is being taken. */
    struct moult_error error;            /* Why it fails, is incomplete, or was refused. */
    unsigned failures;                   /* In a row. */
    unsigned waits;                      /* Incomplete ones in a row. */
    unsigned vain_events;                /* Changes in a row that were none of the model. */
    uint64_t last_at, next_at;           /* Seconds since the epoch; 0: none. */
    /* Watches; the last is that of the folder above, where it has a path. */
    uv_fs_event_t watches[WATCHES_MAX];
    char *paths[WATCHES_MAX];
    bool watched;                        /* All that the look named. */
};

struct moult_poll {
    uv_loop_t *loop;
    struct moult_updates *updates;
    struct moult_keeper *keeper;
    uint64_t every_ms;
    uint64_t random;
    bool stopping;
    unsigned count;
    struct polled_slot slots[];
};

static void on_due(uv_timer_t *timer);
static void look(struct polled_slot *slot);
static void on_looked(void *context, uint64_t tag, const struct moult_fetch_result *result);
static void order(struct polled_slot *slot);
static void on_updated(void *context, const struct moult_update_result *result);
static void watch(struct polled_slot *slot, const struct moult_look *look);

/* When. */

/* Nobody must be unable to guess it. */
static uint64_t random_below(struct moult_poll *poll, uint64_t bound) {
    poll->random = poll->random * 6364136223846793005u + 1442695040888963407u;
    return bound > 0 ? (poll->random >> 20) % bound : 0;
}

static void look_in(struct polled_slot *slot, uint64_t ms) {
    if (slot->poll->stopping)
        return;
    slot->next_at = (uint64_t)time(NULL) + (ms + 500) / 1000;
    uv_timer_start(&slot->timer, on_due, ms, 0);
}

static void look_around(struct polled_slot *slot, uint64_t ms) {
    look_in(slot, ms - ms / 10 + random_below(slot->poll, ms / 5));
}

static uint64_t least(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* `ms` doubled so often. */
static uint64_t doubled(uint64_t ms, unsigned times, uint64_t most) {
    return least(ms << least(times, 20), most);
}

/* A slot that has no model yet is being brought its first. */
static void on_due(uv_timer_t *timer) {
    struct polled_slot *slot = timer->data;
    slot->by_event = false;
    if (moult_slot_current(slot->slot) == NULL)
        look_in(slot, SOON_MS);
    else
        look(slot);
}

/* The look. */

/* Somebody's update may have taken what the source had; or the person has cancelled ours. */
static void refresh_known(struct polled_slot *slot) {
    if (strcmp(slot->noted, slot->record->seen) == 0)
        return;
    memcpy(slot->noted, slot->record->seen, sizeof slot->noted);
    memcpy(slot->known, slot->record->seen, sizeof slot->known);
}

static void look(struct polled_slot *slot) {
    static const struct moult_fetch_events events = {NULL, on_looked};
    struct moult_error error;
    slot->next_at = 0;
    slot->changed_meanwhile = false;
    refresh_known(slot);
    slot->look = moult_fetch_look(slot->poll->loop, slot->slot->source, slot->known, &events, slot,
                                  0, &error);
    if (slot->look == NULL) {
        const struct moult_fetch_result result = {.error = error};
        on_looked(slot, 0, &result);
    }
}

static void note_failure(struct polled_slot *slot, const char *reason) {
    bool is_new = slot->failures == 0 || strcmp(slot->error.message, reason) != 0;
    slot->state = FAILED;
    slot->failures++;
    moult_fail(&slot->error, MOULT_ERROR_UNAVAILABLE, "%s", reason);
    if (is_new)
        moult_log_warning("%s: whether its source has something newer cannot be told. %s",
                          slot->slot->name, reason);
}

static void take_failure(struct polled_slot *slot, const struct moult_fetch_result *result) {
    uint64_t every_ms = slot->poll->every_ms;
    uint64_t pause_ms = result->look != NULL ? result->look->pause_s * 1000 : 0;
    note_failure(slot, result->error.message);
    uint64_t most_ms = every_ms > BACKOFF_MS_MAX ? every_ms : BACKOFF_MS_MAX;
    uint64_t ms = doubled(every_ms, slot->failures - 1, most_ms);
    pause_ms = least(pause_ms, PAUSE_MS_MAX);
    /* A little later than it asks, and never earlier. */
    if (pause_ms > ms - ms / 10)
        look_in(slot, pause_ms + random_below(slot->poll, pause_ms / 10 + SOON_MS));
    else
        look_around(slot, ms);
}

static void note_success(struct polled_slot *slot) {
    if (slot->failures > 0)
        moult_log_info("%s: its source answers again.", slot->slot->name);
    slot->failures = slot->waits = 0;
    slot->error.message[0] = '\0';
}

/* The validator may tell the same by a better ETag. */
static void take_unchanged(struct polled_slot *slot, const struct moult_look *look) {
    note_success(slot);
    if (slot->state != REFUSED)
        slot->state = UNCHANGED;
    if (strcmp(slot->known, slot->record->seen) == 0)
        memcpy(slot->record->seen, look->validator, sizeof slot->record->seen);
    memcpy(slot->known, look->validator, sizeof slot->known);
    memcpy(slot->noted, slot->record->seen, sizeof slot->noted);
    slot->vain_events = slot->by_event ? slot->vain_events + 1 : 0;
    look_around(slot, slot->poll->every_ms);
}

static void take_incomplete(struct polled_slot *slot, const struct moult_look *look) {
    unsigned waits = slot->waits;
    note_success(slot);
    slot->waits = waits + 1;
    slot->state = INCOMPLETE;
    slot->error = look->reason;
    slot->vain_events = 0;
    look_in(slot, doubled(SOON_MS, waits, slot->poll->every_ms));
}

/* An update may have brought meanwhile what the look found. */
static bool is_known(struct polled_slot *slot, const struct moult_look *look) {
    refresh_known(slot);
    return look->result == MOULT_LOOK_UNCHANGED ||
           (look->result == MOULT_LOOK_CHANGED && strcmp(look->validator, slot->known) == 0);
}

static void on_looked(void *context, uint64_t tag, const struct moult_fetch_result *result) {
    struct polled_slot *slot = context;
    (void)tag;
    slot->look = NULL;
    slot->last_at = (uint64_t)time(NULL);
    if (slot->poll->stopping)
        return;
    if (!result->looked) {
        take_failure(slot, result);
    } else if (is_known(slot, result->look)) {
        take_unchanged(slot, result->look);
    } else if (result->look->result == MOULT_LOOK_INCOMPLETE) {
        take_incomplete(slot, result->look);
    } else {
        memcpy(slot->looked, result->look->validator, sizeof slot->looked);
        note_success(slot);
        order(slot);
    }
    if (result->look != NULL)
        watch(slot, result->look);
    if (slot->changed_meanwhile && slot->state != UPDATING)
        look_in(slot, SOON_MS);
}

/* The update. */

static void order(struct polled_slot *slot) {
    const struct moult_update_order order = {.slot = slot->slot, .polled = true};
    struct moult_error error;
    uint64_t id;
    slot->vain_events = 0;
    slot->state = UPDATING;
    if (moult_updates_start(slot->poll->updates, &order, on_updated, slot, &id, &error) == 0)
        return;
    slot->state = WAITING;   /* Another is under way: afterwards. */
    look_in(slot, least(slot->poll->every_ms, BUSY_MS_MAX));
}

/* Whether it came to know what the source has: then the state says so. */
static void on_updated(void *context, const struct moult_update_result *result) {
    struct polled_slot *slot = context;
    bool fetched = strcmp(slot->noted, slot->record->seen) != 0 ||
                   strcmp(slot->looked, slot->record->seen) == 0;
    if (slot->poll->stopping)
        return;
    refresh_known(slot);
    if (result->status == MOULT_UPDATE_REFUSED && !fetched) {
        struct moult_fetch_result failure = {.error.code = MOULT_ERROR_UNAVAILABLE};
        moult_fail(&failure.error, MOULT_ERROR_UNAVAILABLE, "%s", result->reason);
        take_failure(slot, &failure);
        return;
    }
    slot->state = UNCHANGED;
    if (fetched && result->reason[0] != '\0' && result->status != MOULT_UPDATE_LIVE) {
        slot->state = REFUSED;   /* By this update, or by one before. */
        moult_fail(&slot->error, MOULT_ERROR_INVALID, "%s", result->reason);
    } else if (!fetched) {
        /* It waits for a person, or a person has stopped it. */
        memcpy(slot->known, slot->looked, sizeof slot->known);
    }
    if (slot->watched || slot->changed_meanwhile)
        look_in(slot, SOON_MS);
    else
        look_around(slot, slot->poll->every_ms);
}

/* Watching. */

static uint64_t pause_after_event_ms(const struct polled_slot *slot) {
    return doubled(SOON_MS / 4, slot->vain_events, slot->poll->every_ms);
}

static void on_due_by_event(uv_timer_t *timer) {
    struct polled_slot *slot = timer->data;
    slot->by_event = true;
    look(slot);
}

static void on_change(uv_fs_event_t *handle, const char *name, int events, int status) {
    struct polled_slot *slot = handle->data;
    const char *last = strrchr(slot->slot->source, '/') + 1;
    bool is_above = handle == &slot->watches[WATCHES_MAX - 1];
    (void)events;
    if (slot->poll->stopping || status != 0 ||
        (is_above && (name == NULL || strcmp(name, last) != 0)))
        return;
    if (slot->look != NULL || slot->state == UPDATING) {
        slot->changed_meanwhile = true;
        return;
    }
    uint64_t ms = pause_after_event_ms(slot);
    if (uv_is_active((uv_handle_t *)&slot->timer) && uv_timer_get_due_in(&slot->timer) <= ms)
        return;
    slot->next_at = (uint64_t)time(NULL) + (ms + 500) / 1000;
    uv_timer_start(&slot->timer, on_due_by_event, ms, 0);
}

static const char *path_at(const struct moult_look *look, unsigned i) {
    if (i == WATCHES_MAX - 1)
        return look->above;
    return i < look->path_count ? look->paths[i] : NULL;
}

static bool is_watched(const struct polled_slot *slot, const struct moult_look *look) {
    for (unsigned i = 0; i < WATCHES_MAX; i++) {
        const char *path = path_at(look, i);
        if ((path == NULL) != (slot->paths[i] == NULL) ||
            (path != NULL && strcmp(path, slot->paths[i]) != 0))
            return false;
    }
    return true;
}

/* The child has just been in these folders: looking them up finds them in the kernel's memory. */
static void watch(struct polled_slot *slot, const struct moult_look *look) {
    if (is_watched(slot, look) &&
        (slot->state == UNCHANGED || slot->state == REFUSED || slot->state == FAILED))
        return;
    slot->watched = look->path_count > 0;
    for (unsigned i = 0; i < WATCHES_MAX; i++) {
        const char *path = path_at(look, i);
        uv_fs_event_stop(&slot->watches[i]);
        free(slot->paths[i]);
        slot->paths[i] = path != NULL ? moult_copy_string(path) : NULL;
        if (path != NULL && uv_fs_event_start(&slot->watches[i], on_change, path, 0) != 0)
            slot->watched = false;
    }
    if (slot->watched && slot->state == UNCHANGED)
        look_in(slot, SOON_MS);
}

/* For server.c. */

static void open_slot(struct moult_poll *poll, struct polled_slot *polled,
                      struct moult_slot *slot) {
    polled->poll = poll;
    polled->slot = slot;
    polled->record = moult_state_find(moult_keeper_state(poll->keeper), slot->name);
    MOULT_REQUIRE(polled->record != NULL);
    uv_timer_init(poll->loop, &polled->timer);
    polled->timer.data = polled;
    for (unsigned i = 0; i < WATCHES_MAX; i++) {
        uv_fs_event_init(poll->loop, &polled->watches[i]);
        polled->watches[i].data = polled;
    }
    /* A folder is watched from its first look on, and nobody else is asked for that. */
    bool is_folder = moult_source_kind_of(slot->source) == MOULT_SOURCE_FOLDER;
    uint64_t first_ms_max = is_folder ? SOON_MS : FIRST_MS_MAX;
    look_in(polled, random_below(poll, least(poll->every_ms, first_ms_max)));
}

struct moult_poll *moult_poll_open(uv_loop_t *loop, struct moult_slots *slots,
                                   struct moult_updates *updates, struct moult_keeper *keeper,
                                   uint32_t every_s) {
    struct moult_poll *poll = moult_allocate(
        1, sizeof *poll + moult_slots_count(slots) * sizeof poll->slots[0]);
    poll->loop = loop;
    poll->updates = updates;
    poll->keeper = keeper;
    poll->every_ms = (uint64_t)every_s * 1000;
    poll->random = moult_clock_ns() ^ (uint64_t)getpid() << 32;
    poll->count = moult_slots_count(slots);
    for (unsigned i = 0; i < poll->count; i++)
        open_slot(poll, &poll->slots[i], moult_slots_at(slots, i));
    return poll;
}

bool moult_poll_stop(struct moult_poll *poll) {
    bool quiet = true;
    poll->stopping = true;
    for (unsigned i = 0; i < poll->count; i++) {
        uv_timer_stop(&poll->slots[i].timer);
        if (poll->slots[i].look != NULL) {
            moult_fetch_cancel(poll->slots[i].look);
            quiet = false;
        }
    }
    return quiet;
}

void moult_poll_close_handles(struct moult_poll *poll) {
    for (unsigned i = 0; i < poll->count; i++) {
        uv_close((uv_handle_t *)&poll->slots[i].timer, NULL);
        for (unsigned w = 0; w < WATCHES_MAX; w++)
            uv_close((uv_handle_t *)&poll->slots[i].watches[w], NULL);
    }
}

void moult_poll_free(struct moult_poll *poll) {
    for (unsigned i = 0; i < poll->count; i++)
        for (unsigned w = 0; w < WATCHES_MAX; w++)
            free(poll->slots[i].paths[w]);
    free(poll);
}

json_t *moult_poll_json(const struct moult_poll *poll, unsigned index) {
    const struct polled_slot *slot = &poll->slots[index];
    return json_pack("{s:s, s:I, s:b, s:I, s:I, s:I, s:s}", "state", state_names[slot->state],
                     "every_s", (json_int_t)(poll->every_ms / 1000), "watched", slot->watched,
                     "last_at", (json_int_t)slot->last_at, "next_at", (json_int_t)slot->next_at,
                     "failures", (json_int_t)slot->failures, "error", slot->error.message);
}
