/* What the front must remember: DATA/state.json. The document itself, in
 * memory and as JSON; keeping it on disk is keeper.h's.
 *
 *     {"version": 1, "slots": [{
 *        "name": "minilm", "source": "/models/minilm", "next_generation": 8,
 *        "current": {"generation": 7, "revision": 64 hex digits, "fingerprint": 64 hex digits,
 *                    "since": seconds since the epoch, "until", "retires_at", "bytes",
 *                    "memory_bytes", "dimensions", "precision", "fidelity", "cpu"},
 *        "previous": the same, or null,
 *        "kept": [older ones, still installed; newest first],
 *        "refused": [revision, …],
 *        "seen": the validator of what an update has found in the source last, whatever came of it,
 *        "history": [entries of history.h, oldest first]}],
 *     "leases": [{"id": 16 hex digits, "slot": "minilm", "fingerprint": 64 hex digits,
 *                 "made": seconds, "expires": seconds}, …]}
 *
 * What came later than version 1 itself may be absent: "kept" and "leases" are empty then,
 * numbers 0. */
#ifndef MOULT_FRONT_STATE_H
#define MOULT_FRONT_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/hash.h"
#include "base/limits.h"
#include "front/history.h"
#include "source/source.h"

#define MOULT_CPU_BYTES 160

/* The precision that a model had, so that nobody measures it twice. */
struct moult_rung {
    enum moult_precision precision;      /* AUTO: not known. */
    double fidelity;
    char cpu[MOULT_CPU_BYTES];           /* Where: the CPU and the version of moult. */
};

#define MOULT_STATE_BYTES_MAX (16 * MOULT_MIB)
#define MOULT_STATE_REFUSED_MAX 32
#define MOULT_STATE_REPORTS_MAX 10

struct moult_state_model {
    uint64_t generation;                 /* 0: there is none. */
    char revision[MOULT_SHA256_HEX];
    char fingerprint[MOULT_SHA256_HEX];
    uint64_t since;                      /* It went live; seconds since the epoch. */
    uint64_t until;                      /* It was replaced; 0: not yet. */
    uint64_t retires_at;                 /* When it goes; 0: not settled. */
    uint64_t bytes;                      /* Of its files; 0: not known. */
    uint64_t memory_bytes;               /* What its worker takes to load; 0: not known. */
    uint32_t dimensions;                 /* 0: not known. */
    struct moult_rung rung;
};

/* Models that have served, and that neither serve nor are the previous one, but stay
 * installed; newest first. */
struct moult_state_kept {
    struct moult_state_model models[MOULT_KEPT_MAX];
    unsigned count;
};

#define MOULT_LEASE_ID_BYTES 17

/* A promise that a model stays installed until then. */
struct moult_state_lease {
    char id[MOULT_LEASE_ID_BYTES];       /* 16 hex digits. */
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    char fingerprint[MOULT_SHA256_HEX];
    uint64_t made, expires;              /* Seconds since the epoch. */
};

struct moult_state_slot {
    char *name, *source;
    bool failed_start;                   /* It has never served, and its start came to nothing: it
                                            is not written. */
    uint64_t next_generation;
    struct moult_state_model current, previous;
    struct moult_state_kept kept;
    char refused[MOULT_STATE_REFUSED_MAX][MOULT_SHA256_HEX];   /* Oldest first. */
    unsigned refused_count;
    char seen[MOULT_VALIDATOR_BYTES];    /* "" where none did. */
    struct moult_state_event *history;   /* [MOULT_HISTORY_MAX], oldest first. */
    unsigned history_count;
};

struct moult_state {
    struct moult_state_slot *slots;      /* [MOULT_SLOTS_MAX]: they never move. */
    unsigned count;
    struct moult_state_lease leases[MOULT_LEASES_MAX];   /* Oldest first. */
    unsigned lease_count;
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
/* The report is copied. A slot keeps those of its last MOULT_STATE_REPORTS_MAX events that have
 * one. */
void moult_state_note_report(struct moult_state_slot *slot, struct moult_state_event *event,
                             const struct moult_report *report);
/* NULL: it is not in the history. */
struct moult_state_event *moult_state_event_find(struct moult_state_slot *slot, uint64_t id);
void moult_state_refuse(struct moult_state_slot *slot, const char *revision);
void moult_state_forgive(struct moult_state_slot *slot, const char *revision);
bool moult_state_refused(const struct moult_state_slot *slot, const char *revision);
/* state_kept.c */

/* How long an operator keeps what has been replaced. */
struct moult_state_keeping {
    unsigned models;                     /* Beside current and previous: --keep. */
    uint64_t notice_s;                   /* Between the settling of a model's end and the end. */
};
/* `model` becomes current, the current one previous, and the previous one the newest of the kept.
 * The same files once more leave the previous ones where they are. */
void moult_state_succeed(struct moult_state *state, struct moult_state_slot *slot,
                         const struct moult_state_model *model,
                         const struct moult_state_keeping *keeping);
/* Settles the end of those that are beyond the newest `keeping->models` and that nobody leases,
 * and takes it back for the rest. */
void moult_state_settle_kept(const struct moult_state *state, struct moult_state_slot *slot,
                             const struct moult_state_keeping *keeping, uint64_t now);
/* Takes out what has had its time, leases first. True where anything went. */
bool moult_state_expire(struct moult_state *state, const struct moult_state_keeping *keeping,
                        uint64_t now);
/* When the next lease or model ends; UINT64_MAX: none does. */
uint64_t moult_state_next_end(const struct moult_state *state);
/* The current, previous or kept model of that revision, or NULL. */
const struct moult_state_model *moult_state_model_of(const struct moult_state_slot *slot,
                                                     const char *revision);
/* The largest `expires` of its leases; 0: there is none. */
uint64_t moult_state_leased_until(const struct moult_state *state, const char *slot,
                                  const char *fingerprint);
/* Fails with MOULT_ERROR_LIMIT where there are too many. */
struct moult_state_lease *moult_state_lease_add(struct moult_state *state, const char *slot,
                                                const char *fingerprint,
                                                struct moult_error *error);
struct moult_state_lease *moult_state_lease_find(struct moult_state *state, const char *id);
void moult_state_lease_remove(struct moult_state *state, struct moult_state_lease *lease);

/* The largest id of an update in it. */
uint64_t moult_state_last_id(const struct moult_state *state);

#endif
