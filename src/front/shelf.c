#include "front/shelf.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/slot.h"
#include "source/source.h"

/* Ends are times of day, and clocks are set: no sleep is longer than this. */
#define LOOK_SECONDS_MAX 60

struct moult_shelf {
    struct moult_slots *slots;
    struct moult_keeper *keeper;
    struct moult_state_keeping keeping;
    void (*cleared)(void *context);
    void *context;
    uv_timer_t clock;
};

static void set_clock(struct moult_shelf *shelf);

struct moult_shelf *moult_shelf_open(uv_loop_t *loop, struct moult_slots *slots,
                                     struct moult_keeper *keeper) {
    struct moult_shelf *shelf = moult_allocate(1, sizeof *shelf);
    shelf->slots = slots;
    shelf->keeper = keeper;
    shelf->keeping.models = slots->options->keep_models;
    shelf->keeping.notice_s = slots->options->retire_after_s;
    uv_timer_init(loop, &shelf->clock);
    shelf->clock.data = shelf;
    return shelf;
}

void moult_shelf_listen(struct moult_shelf *shelf, void (*cleared)(void *context), void *context) {
    shelf->cleared = cleared;
    shelf->context = context;
}

void moult_shelf_close_handles(struct moult_shelf *shelf) {
    uv_close((uv_handle_t *)&shelf->clock, NULL);
}

void moult_shelf_free(struct moult_shelf *shelf) {
    free(shelf);
}

const struct moult_state_keeping *moult_shelf_keeping(const struct moult_shelf *shelf) {
    return &shelf->keeping;
}

static struct moult_state_slot *record_of(const struct moult_shelf *shelf, const char *slot) {
    return moult_state_find(moult_keeper_state(shelf->keeper), slot);
}

/* The state and the generations. */

static bool is_of(const struct moult_generation *generation, const char *revision) {
    return generation->phase < MOULT_GENERATION_RETIRING &&
           strcmp(generation->revision, revision) == 0;
}

static bool has_generation(const struct moult_slot *slot, const char *revision) {
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (slot->generations[i]->phase != MOULT_GENERATION_CANDIDATE &&
            is_of(slot->generations[i], revision))
            return true;
    return false;
}

static void shelve(struct moult_slot *slot, const struct moult_state_model *model) {
    if (model->generation != 0 && !has_generation(slot, model->revision))
        moult_generation_shelve(slot, model);
}

static void take_off(struct moult_generation *generation) {
    generation->installed = generation->leased = false;
    if (generation->phase == MOULT_GENERATION_WARM)
        moult_generation_retire(generation);
}

static void place(struct moult_shelf *shelf, const struct moult_state_slot *record,
                  struct moult_generation *generation) {
    struct moult_slot *slot = generation->slot;
    const struct moult_state *state = moult_keeper_state(shelf->keeper);
    const struct moult_state_model *model = moult_state_model_of(record, generation->revision);
    if (slot->current != NULL && is_of(slot->current, generation->revision)) {
        /* The same files serve again, under another number. */
        if (generation->phase == MOULT_GENERATION_WARM)
            moult_generation_hand_on(generation, slot->current);
        take_off(generation);
    } else if (model == NULL) {
        take_off(generation);
    } else {
        generation->installed = true;
        generation->leased = moult_state_leased_until(state, slot->name, model->fingerprint) != 0;
        generation->file_bytes = model->bytes;
        generation->replaced_at = model->until;
        generation->retires_at = model->retires_at;
    }
}

static bool is_on_the_shelf(const struct moult_generation *generation) {
    return generation != generation->slot->current && !generation->kept &&
           (generation->phase == MOULT_GENERATION_DRAINING ||
            generation->phase == MOULT_GENERATION_WARM);
}

static void note_report(struct moult_state_model *model,
                        const struct moult_generation *generation) {
    const struct moult_worker_report *report = &generation->report;
    if (report->dimensions == 0)
        return;   /* It still loads. */
    model->dimensions = report->dimensions;
    model->memory_bytes = report->memory_peak_bytes;
    model->rung = generation->rung;
}

void moult_shelf_settle(struct moult_shelf *shelf, struct moult_slot *slot) {
    struct moult_state_slot *record = record_of(shelf, slot->name);
    const struct moult_generation *current = slot->current;
    if (slot->slots->stopping)
        return;
    if (current != NULL && current->number == record->current.generation)
        note_report(&record->current, current);
    moult_state_settle_kept(moult_keeper_state(shelf->keeper), record, &shelf->keeping,
                            (uint64_t)time(NULL));
    /* From last to first, for some may leave. */
    for (unsigned i = slot->generation_count; i-- > 0;)
        if (i < slot->generation_count && is_on_the_shelf(slot->generations[i]))
            place(shelf, record, slot->generations[i]);
    for (unsigned i = record->kept.count; i-- > 0;)
        shelve(slot, &record->kept.models[i]);
    shelve(slot, &record->previous);
    for (unsigned i = 0; i < slot->generation_count; i++)
        if (is_on_the_shelf(slot->generations[i]))
            place(shelf, record, slot->generations[i]);
    moult_slots_wake_by(shelf->slots, moult_clock_ns());
    set_clock(shelf);
}

/* False where its files are not there. */
static bool look_at(const struct moult_shelf *shelf, struct moult_state_model *model) {
    uint64_t bytes;
    if (moult_installed_bytes(moult_keeper_data_folder(shelf->keeper), model->revision, &bytes) !=
        0)
        return false;
    model->bytes = bytes;
    return true;
}

void moult_shelf_restore(struct moult_shelf *shelf, struct moult_slot *slot) {
    struct moult_state_slot *record = record_of(shelf, slot->name);
    struct moult_state_kept *kept = &record->kept;
    unsigned count = 0;
    if (record->current.generation != 0)
        look_at(shelf, &record->current);
    if (record->previous.generation != 0)
        look_at(shelf, &record->previous);
    for (unsigned i = 0; i < kept->count; i++) {
        if (look_at(shelf, &kept->models[i]))
            kept->models[count++] = kept->models[i];
        else
            moult_log_warning("%s@%.8s is not installed any more.", slot->name,
                              kept->models[i].fingerprint);
    }
    kept->count = count;
    moult_shelf_settle(shelf, slot);
}

/* Time. */

static void on_clock(uv_timer_t *timer) {
    struct moult_shelf *shelf = timer->data;
    if (moult_state_expire(moult_keeper_state(shelf->keeper), &shelf->keeping,
                           (uint64_t)time(NULL))) {
        moult_keeper_save(shelf->keeper, NULL, NULL, 0);
        for (unsigned i = 0; i < shelf->slots->count; i++)
            moult_shelf_settle(shelf, &shelf->slots->slots[i]);
        shelf->cleared(shelf->context);
    }
    set_clock(shelf);
}

static void set_clock(struct moult_shelf *shelf) {
    uint64_t next = moult_state_next_end(moult_keeper_state(shelf->keeper));
    uint64_t now = (uint64_t)time(NULL);
    if (uv_is_closing((uv_handle_t *)&shelf->clock))
        return;
    if (next == UINT64_MAX) {
        uv_timer_stop(&shelf->clock);
        return;
    }
    uint64_t seconds = next > now ? next - now : 0;
    uint64_t ms = (seconds < LOOK_SECONDS_MAX ? seconds : LOOK_SECONDS_MAX) * 1000;
    uv_timer_start(&shelf->clock, on_clock, ms, 0);
}

/* Leases. */

static void settle_slot(struct moult_shelf *shelf, const char *name) {
    for (unsigned i = 0; i < shelf->slots->count; i++)
        if (strcmp(shelf->slots->slots[i].name, name) == 0)
            moult_shelf_settle(shelf, &shelf->slots->slots[i]);
    set_clock(shelf);
}

const struct moult_state_lease *moult_shelf_lease(struct moult_shelf *shelf,
                                                  const struct moult_generation *generation,
                                                  uint64_t seconds, struct moult_error *error) {
    struct moult_state_lease *lease =
        moult_state_lease_add(moult_keeper_state(shelf->keeper), generation->slot->name,
                              generation->fingerprint, error);
    if (lease == NULL)
        return NULL;
    lease->made = (uint64_t)time(NULL);
    lease->expires = lease->made + seconds;
    settle_slot(shelf, generation->slot->name);
    return lease;
}

const struct moult_state_lease *moult_shelf_renew(struct moult_shelf *shelf, const char *id,
                                                  uint64_t seconds) {
    struct moult_state_lease *lease = moult_state_lease_find(moult_keeper_state(shelf->keeper), id);
    if (lease == NULL)
        return NULL;
    lease->expires = (uint64_t)time(NULL) + seconds;
    settle_slot(shelf, lease->slot);
    return lease;
}

bool moult_shelf_end_lease(struct moult_shelf *shelf, const char *id,
                           struct moult_state_lease *lease) {
    struct moult_state *state = moult_keeper_state(shelf->keeper);
    struct moult_state_lease *found = moult_state_lease_find(state, id);
    if (found == NULL)
        return false;
    *lease = *found;
    moult_state_lease_remove(state, found);
    settle_slot(shelf, lease->slot);
    return true;
}

void moult_shelf_restore_lease(struct moult_shelf *shelf, const struct moult_state_lease *lease) {
    struct moult_state *state = moult_keeper_state(shelf->keeper);
    struct moult_state_lease *found = moult_state_lease_find(state, lease->id);
    if (found != NULL && lease->expires == 0)
        moult_state_lease_remove(state, found);
    else if (found != NULL)
        *found = *lease;
    else if (lease->expires != 0 && state->lease_count < MOULT_LEASES_MAX)
        state->leases[state->lease_count++] = *lease;
    settle_slot(shelf, lease->slot);
}

const struct moult_state_lease *moult_shelf_find_lease(const struct moult_shelf *shelf,
                                                       const char *id) {
    return moult_state_lease_find(moult_keeper_state(shelf->keeper), id);
}

const struct moult_state_lease *moult_shelf_lease_at(const struct moult_shelf *shelf,
                                                     unsigned index) {
    const struct moult_state *state = moult_keeper_state(shelf->keeper);
    return index < state->lease_count ? &state->leases[index] : NULL;
}

void moult_shelf_save(struct moult_shelf *shelf, moult_keeper_listener listener, void *context) {
    moult_keeper_save(shelf->keeper, listener, context, 0);
}
