/* What the front must remember: DATA/state.json. The document itself, in
 * memory and as JSON; keeping it on disk is keeper.h's.
 *
 *     {"version": 1, "slots": [{
 *        "name": "minilm", "source": "/models/minilm", "next_generation": 8,
 *        "current": {"generation": 7, "revision": 64 hex digits, "fingerprint": 64 hex digits,
 *                    "since": seconds since the epoch},
 *        "previous": the same, or null,
 *        "refused": [revision, …],
 *        "seen": the validator of what an update has found in the source last, whatever came of it,
 *        "history": [{"id": 12, "generation": 7, "result": "live", "reason": "", "at": seconds},
 *                    …]}]} */
#ifndef MOULT_FRONT_STATE_H
#define MOULT_FRONT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/limits.h"
#include "front/update.h"
#include "source/source.h"

#define MOULT_STATE_BYTES_MAX (16 * MOULT_MIB)
#define MOULT_STATE_REFUSED_MAX 32

struct moult_state_model {
    uint64_t generation;                 /* 0: there is none. */
    char revision[MOULT_SHA256_HEX];
    char fingerprint[MOULT_SHA256_HEX];
    uint64_t since;                      /* Seconds since the epoch. */
};

struct moult_state_event {
    uint64_t id;
    uint64_t generation;                 /* 0: none came of it. */
    enum moult_update_status result;
    char *reason;
    uint64_t at;                         /* When it ended: seconds since the epoch. */
    enum moult_update_asker asked_by;
    char revision[MOULT_SHA256_HEX];     /* "": it came to none. */
};

struct moult_state_slot {
    char *name, *source;
    uint64_t next_generation;
    struct moult_state_model current, previous;
    char refused[MOULT_STATE_REFUSED_MAX][MOULT_SHA256_HEX];   /* Oldest first. */
    unsigned refused_count;
    char seen[MOULT_VALIDATOR_BYTES];    /* "" where none did. */
    struct moult_state_event *history;   /* [MOULT_HISTORY_MAX], oldest first. */
    unsigned history_count;
};

struct moult_state {
    struct moult_state_slot *slots;      /* [MOULT_SLOTS_MAX]: they never move. */
    unsigned count;
};

void moult_state_init(struct moult_state *state);
void moult_state_release(struct moult_state *state);
/* Fills a state that was just initialised; on failure it must still be released. */
int moult_state_parse(struct moult_state *state, const char *bytes, size_t size,
                      struct moult_error *error);
/* malloc'ed. */
char *moult_state_format(const struct moult_state *state, size_t *size);

struct moult_state_slot *moult_state_find(struct moult_state *state, const char *name);
/* NULL: there are MOULT_SLOTS_MAX already. */
struct moult_state_slot *moult_state_add(struct moult_state *state, const char *name,
                                         const char *source);
/* Whether a slot may be called so: [A-Za-z0-9._-]{1,64}. */
bool moult_slot_name_valid(const char *name);
/* The oldest event goes where there are too many. */
struct moult_state_event *moult_state_note(struct moult_state_slot *slot, uint64_t id,
                                           uint64_t generation, enum moult_update_status result,
                                           const char *reason, uint64_t at);
/* NULL: it is not in the history. */
struct moult_state_event *moult_state_event_find(struct moult_state_slot *slot, uint64_t id);
void moult_state_refuse(struct moult_state_slot *slot, const char *revision);
void moult_state_forgive(struct moult_state_slot *slot, const char *revision);
bool moult_state_refused(const struct moult_state_slot *slot, const char *revision);
/* The largest id of an update in it. */
uint64_t moult_state_last_id(const struct moult_state *state);

#endif
