/* What of the state stays installed beside the model that serves, and until when.
 *
 *   current ─> previous ─> kept, newest first ─> beyond --keep: its end is settled ─> gone
 *      ^──────────┴──────────┘                     (whatever becomes current again leaves the kept)
 *
 * A model's end is settled when it is beyond the newest --keep and nobody leases it, and then it
 * is the whole notice away. Once told, an end only ever moves to later: a lease, or room among the
 * newest, takes it back to "not settled", from where it is the whole notice away again. Room is
 * bounded by MOULT_KEPT_MAX; where more were replaced within one notice, the oldest goes at once
 * that nobody leases. So few of a slot can be leased that there always is such a one. */
#include "front/state.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"

static_assert(MOULT_KEEP_MAX + MOULT_LEASED_MODELS_MAX < MOULT_KEPT_MAX,
              "One that may go is always among the kept.");

static void remove_kept(struct moult_state_kept *kept, unsigned at) {
    kept->count--;
    memmove(&kept->models[at], &kept->models[at + 1],
            (kept->count - at) * sizeof kept->models[0]);
}

uint64_t moult_state_leased_until(const struct moult_state *state, const char *slot,
                                  const char *fingerprint) {
    uint64_t until = 0;
    for (unsigned i = 0; i < state->lease_count; i++) {
        const struct moult_state_lease *lease = &state->leases[i];
        if (lease->expires > until && strcmp(lease->slot, slot) == 0 &&
            strcmp(lease->fingerprint, fingerprint) == 0)
            until = lease->expires;
    }
    return until;
}

/* Nobody can call one of the same fingerprint as a newer model: the name means that. */
static void remove_shadowed(struct moult_state_slot *slot) {
    for (unsigned i = slot->kept.count; i-- > 0;) {
        const char *fingerprint = slot->kept.models[i].fingerprint;
        bool shadowed = strcmp(fingerprint, slot->current.fingerprint) == 0 ||
                        strcmp(fingerprint, slot->previous.fingerprint) == 0;
        for (unsigned newer = 0; newer < i && !shadowed; newer++)
            shadowed = strcmp(fingerprint, slot->kept.models[newer].fingerprint) == 0;
        if (shadowed)
            remove_kept(&slot->kept, i);
    }
}

static void make_space(const struct moult_state *state, struct moult_state_slot *slot) {
    unsigned at = slot->kept.count;
    while (slot->kept.count == MOULT_KEPT_MAX && at-- > 0) {
        const struct moult_state_model *model = &slot->kept.models[at];
        if (moult_state_leased_until(state, slot->name, model->fingerprint) != 0)
            continue;
        moult_log_warning("%s@%.8s is cleared away before its time: %d models of %s are kept.",
                          slot->name, model->fingerprint, MOULT_KEPT_MAX, slot->name);
        remove_kept(&slot->kept, at);
    }
    if (slot->kept.count == MOULT_KEPT_MAX)   /* Only by a state that we did not write. */
        remove_kept(&slot->kept, MOULT_KEPT_MAX - 1);
}

static void push_previous(const struct moult_state *state, struct moult_state_slot *slot) {
    struct moult_state_kept *kept = &slot->kept;
    if (slot->previous.generation == 0)
        return;
    make_space(state, slot);
    memmove(&kept->models[1], &kept->models[0], kept->count * sizeof kept->models[0]);
    kept->models[0] = slot->previous;
    kept->count++;
}

void moult_state_succeed(struct moult_state *state, struct moult_state_slot *slot,
                         const struct moult_state_model *model,
                         const struct moult_state_keeping *keeping) {
    if (strcmp(slot->current.revision, model->revision) != 0) {
        push_previous(state, slot);
        slot->previous = slot->current;
        slot->previous.until = model->since;
    }
    slot->current = *model;
    for (unsigned i = slot->kept.count; i-- > 0;)
        if (strcmp(slot->kept.models[i].revision, model->revision) == 0)
            remove_kept(&slot->kept, i);
    remove_shadowed(slot);
    moult_state_settle_kept(state, slot, keeping, model->since);
}

void moult_state_settle_kept(const struct moult_state *state, struct moult_state_slot *slot,
                             const struct moult_state_keeping *keeping, uint64_t now) {
    slot->current.retires_at = slot->previous.retires_at = 0;
    for (unsigned i = 0; i < slot->kept.count; i++) {
        struct moult_state_model *model = &slot->kept.models[i];
        if (i < keeping->models ||
            moult_state_leased_until(state, slot->name, model->fingerprint) != 0)
            model->retires_at = 0;
        else if (model->retires_at == 0)
            model->retires_at = now + keeping->notice_s;
    }
}

/* Time. */

static bool expire_leases(struct moult_state *state, uint64_t now) {
    bool changed = false;
    for (unsigned i = state->lease_count; i-- > 0;) {
        struct moult_state_lease *lease = &state->leases[i];
        if (lease->expires > now)
            continue;
        moult_log_info("The lease %s of %s@%.8s has ended.", lease->id, lease->slot,
                       lease->fingerprint);
        moult_state_lease_remove(state, lease);
        changed = true;
    }
    return changed;
}

static bool expire_kept(struct moult_state_slot *slot, uint64_t now) {
    bool changed = false;
    for (unsigned i = slot->kept.count; i-- > 0;) {
        const struct moult_state_model *model = &slot->kept.models[i];
        if (model->retires_at == 0 || model->retires_at > now)
            continue;
        moult_log_info("%s@%.8s retires.", slot->name, model->fingerprint);
        remove_kept(&slot->kept, i);
        changed = true;
    }
    return changed;
}

bool moult_state_expire(struct moult_state *state, const struct moult_state_keeping *keeping,
                        uint64_t now) {
    bool changed = expire_leases(state, now);
    for (unsigned i = 0; i < state->count; i++) {
        moult_state_settle_kept(state, &state->slots[i], keeping, now);
        changed |= expire_kept(&state->slots[i], now);
    }
    return changed;
}

uint64_t moult_state_next_end(const struct moult_state *state) {
    uint64_t next = UINT64_MAX;
    for (unsigned i = 0; i < state->lease_count; i++)
        if (state->leases[i].expires < next)
            next = state->leases[i].expires;
    for (unsigned s = 0; s < state->count; s++)
        for (unsigned i = 0; i < state->slots[s].kept.count; i++) {
            uint64_t end = state->slots[s].kept.models[i].retires_at;
            if (end != 0 && end < next)
                next = end;
        }
    return next;
}

const struct moult_state_model *moult_state_model_of(const struct moult_state_slot *slot,
                                                     const char *revision) {
    if (slot->current.generation != 0 && strcmp(slot->current.revision, revision) == 0)
        return &slot->current;
    if (slot->previous.generation != 0 && strcmp(slot->previous.revision, revision) == 0)
        return &slot->previous;
    for (unsigned i = 0; i < slot->kept.count; i++)
        if (strcmp(slot->kept.models[i].revision, revision) == 0)
            return &slot->kept.models[i];
    return NULL;
}

/* Leases. */

static bool is_leased_before(const struct moult_state *state, unsigned at) {
    for (unsigned i = 0; i < at; i++)
        if (strcmp(state->leases[i].slot, state->leases[at].slot) == 0 &&
            strcmp(state->leases[i].fingerprint, state->leases[at].fingerprint) == 0)
            return true;
    return false;
}

static unsigned count_leased_models(const struct moult_state *state, const char *slot) {
    unsigned count = 0;
    for (unsigned i = 0; i < state->lease_count; i++)
        count += strcmp(state->leases[i].slot, slot) == 0 && !is_leased_before(state, i);
    return count;
}

static void choose_id(struct moult_state *state, char id[MOULT_LEASE_ID_BYTES]) {
    unsigned char random[(MOULT_LEASE_ID_BYTES - 1) / 2];
    do {
        ssize_t got = getrandom(random, sizeof random, 0);
        MOULT_REQUIRE(got == (ssize_t)sizeof random);
        for (unsigned i = 0; i < sizeof random; i++)
            snprintf(id + 2 * (size_t)i, 3, "%02x", random[i]);
    } while (moult_state_lease_find(state, id) != NULL);
}

struct moult_state_lease *moult_state_lease_add(struct moult_state *state, const char *slot,
                                                const char *fingerprint,
                                                struct moult_error *error) {
    if (state->lease_count == MOULT_LEASES_MAX) {
        moult_fail(error, MOULT_ERROR_LIMIT,
                   "There are %d leases, and no more are given: let one end, or renew it.",
                   MOULT_LEASES_MAX);
        return NULL;
    }
    if (moult_state_leased_until(state, slot, fingerprint) == 0 &&
        count_leased_models(state, slot) == MOULT_LEASED_MODELS_MAX) {
        moult_fail(error, MOULT_ERROR_LIMIT,
                   "%d models of %s are leased, and no more can be: let one of them go.",
                   MOULT_LEASED_MODELS_MAX, slot);
        return NULL;
    }
    struct moult_state_lease *lease = &state->leases[state->lease_count];
    *lease = (struct moult_state_lease){0};
    choose_id(state, lease->id);
    snprintf(lease->slot, sizeof lease->slot, "%s", slot);
    snprintf(lease->fingerprint, sizeof lease->fingerprint, "%s", fingerprint);
    state->lease_count++;
    return lease;
}

struct moult_state_lease *moult_state_lease_find(struct moult_state *state, const char *id) {
    for (unsigned i = 0; i < state->lease_count; i++)
        if (strcmp(state->leases[i].id, id) == 0)
            return &state->leases[i];
    return NULL;
}

void moult_state_lease_remove(struct moult_state *state, struct moult_state_lease *lease) {
    size_t at = (size_t)(lease - state->leases);
    state->lease_count--;
    memmove(lease, lease + 1, (state->lease_count - at) * sizeof *lease);
}
