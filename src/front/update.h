/* Updates as the HTTP endpoints and the start-up ask for them; the state
 * machine itself, with its table of states, is update.c. */
#ifndef MOULT_FRONT_UPDATE_H
#define MOULT_FRONT_UPDATE_H

#include <jansson.h>
#include <uv.h>

#include "front/report.h"
#include "front/slots.h"

struct moult_updates;

enum moult_update_status {
    MOULT_UPDATE_RUNNING,
    MOULT_UPDATE_READY,       /* Waits for a person to say when: moult_updates_cut_over(). */
    /* The ends. */
    MOULT_UPDATE_LIVE,
    MOULT_UPDATE_UNCHANGED,
    MOULT_UPDATE_REFUSED,
    MOULT_UPDATE_SUPERSEDED,
    MOULT_UPDATE_CANCELLED
};
const char *moult_update_status_name(enum moult_update_status status);

/* The way of an update, in this order; each passes over what it has no need of. The table of
 * update.c says what happens in each. */
enum moult_update_phase {
    MOULT_PHASE_QUEUED,
    MOULT_PHASE_FETCH,
    MOULT_PHASE_VERIFY,
    MOULT_PHASE_ROOM,
    MOULT_PHASE_RESERVE,
    MOULT_PHASE_SWAP,
    MOULT_PHASE_LOAD,
    MOULT_PHASE_CHECK,
    MOULT_PHASE_REEMBED,
    MOULT_PHASE_COMPARE,
    MOULT_PHASE_TRIAL,
    MOULT_PHASE_READY,
    MOULT_PHASE_PERSIST,
    MOULT_PHASES
};
/* As people read it: "loading". */
const char *moult_update_phase_name(enum moult_update_phase phase);

enum moult_update_asker {
    MOULT_ASKED_BY_PERSON,
    MOULT_ASKED_BY_POLL,
    MOULT_ASKED_BY_START,     /* A slot that has never served anything. */
    MOULT_ASKED_BY_TAKE_OVER, /* The current model could not be restored, or kept dying. */
    MOULT_ASKERS
};
const char *moult_update_asker_name(enum moult_update_asker asker);

enum moult_cutover {
    MOULT_CUTOVER_DEFAULT,    /* As `moult serve --cutover` says. */
    MOULT_CUTOVER_AUTO,       /* As soon as it can serve. */
    MOULT_CUTOVER_MANUAL      /* When a person says so. */
};

enum moult_swap {
    MOULT_SWAP_DEFAULT,       /* As `moult serve --swap` says. */
    MOULT_SWAP_OVERLAP,       /* The new model loads beside the old one: nobody waits. */
    MOULT_SWAP_WAIT           /* It loads in the old one's place: requests wait. */
};

struct moult_update_order {
    struct moult_slot *slot;
    const char *model;        /* A place to take it from, which is allowed (allowed.h), or NULL:
                                 the slot's source, read anew. */
    bool rollback;            /* The previous model again; `model` is NULL then. */
    bool force;               /* Even a revision that serves already, or was refused before. */
    bool reject_if_busy;
    enum moult_cutover cutover;   /* A rollback never waits. */
    enum moult_swap swap;         /* WAIT and a manual cut-over exclude each other. */
    bool polled;              /* Nobody asked: looks for news in the slot's source, and is quiet
                                 where there are none. See moult_updates_start(). */
};

struct moult_update_result {
    uint64_t id;
    struct moult_slot *slot;
    enum moult_update_status status;
    uint64_t generation;      /* 0 where none came of it. */
    const char *reason;       /* "" or a finished sentence. */
    const struct moult_report *report;   /* What changes, or NULL. */
};
typedef void (*moult_update_listener)(void *context, const struct moult_update_result *result);

/* Starts an update, joins the running one of the same target, or supersedes one
 * of another. Fails at once with MOULT_ERROR_UNAVAILABLE (busy and reject_if_busy; or no previous
 * model for a rollback: 409). `listener`, if not NULL, is called once, from the loop, when the
 * update has ended or waits for a person (MOULT_UPDATE_READY); after MOULT_UPDATE_LIVE every later
 * request is answered by the new one.
 *
 * A polled one supersedes nothing and joins nothing: it fails with MOULT_ERROR_UNAVAILABLE
 * where another of the slot runs, unless that waits for a person; then it looks whether there
 * is something newer still. It ends as MOULT_UPDATE_UNCHANGED, without a line in log or history,
 * where its revision serves already, or waits for a person, or was refused or rolled back before
 * (with a reason, in these cases). Where it cannot fetch, it ends as MOULT_UPDATE_REFUSED, and of
 * several such ends in a row the history keeps the last. */
int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error);
/* The listener's client has gone. */
void moult_updates_forget(struct moult_updates *updates, uint64_t id,
                          moult_update_listener listener, void *context);
/* DELETE. Fails with MOULT_ERROR_MISSING (there is no such update) or MOULT_ERROR_UNAVAILABLE (it
 * has ended, or cuts over just now). */
int moult_updates_cancel(struct moult_updates *updates, uint64_t id, struct moult_error *error);
/* A person says that it may serve: at once where it is ready, else as soon as it is. Errors as
 * above. The listener is called when it has ended. */
int moult_updates_cut_over(struct moult_updates *updates, uint64_t id,
                           moult_update_listener listener, void *context,
                           struct moult_error *error);

/* The slot of one that has not ended, or NULL. */
struct moult_slot *moult_updates_slot_of(struct moult_updates *updates, uint64_t id);

/* What has just happened to an update, for those who tell others of it (web hooks). */
struct moult_update_event {
    uint64_t id;
    struct moult_slot *slot;
    enum moult_update_asker asked_by;
    bool rollback;
    const char *source;                /* NULL: a rollback. */
    enum moult_update_phase from, to;  /* Equal at its end. */
    enum moult_update_status status;   /* RUNNING, READY, or the end. */
    uint64_t generation;               /* 0 before one was reserved. */
    const char *revision, *fingerprint;   /* 64 hex digits, or "" where it is not known yet. */
    const char *reason;                /* At its end: "" or a finished sentence. */
    const struct moult_report *report; /* What changes; NULL: not known, or nobody wants to. */
    double phase_seconds;              /* How long `from` took. */
};
typedef void (*moult_update_observer)(void *context, const struct moult_update_event *event);
/* From now on every step of every update is told, in order, from within the machine: an observer
 * takes note, and starts or cancels nothing. A poll that finds no news is not told. */
void moult_updates_observe(struct moult_updates *updates, moult_update_observer observer,
                           void *context);
#define MOULT_UPDATE_OBSERVERS_MAX 4

/* The answers of GET /update_model and GET /update_model/{id} (NULL: unknown); new references. */
json_t *moult_updates_json(struct moult_updates *updates);
json_t *moult_updates_one_json(struct moult_updates *updates, uint64_t id);

/* What server.c makes of it. */
struct moult_desk;
struct moult_keeper;
struct moult_shelf;

/* `serving` is told when a slot has its first generation that is ready, `failed`
 * how the update that was to bring a slot up has ended. */
struct moult_updates *moult_updates_open(uv_loop_t *loop, struct moult_slots *slots,
                                         struct moult_keeper *keeper, struct moult_shelf *shelf,
                                         void (*serving)(void *context, struct moult_slot *slot),
                                         moult_update_listener failed, void *context);
/* Where there are documents; without it no update is tried on searches. */
void moult_updates_use_desk(struct moult_updates *updates, struct moult_desk *desk);
/* Brings a slot up: its current generation from the state, or else its source's. */
int moult_updates_raise(struct moult_updates *updates, struct moult_slot *slot,
                        struct moult_error *error);
/* Cancels what runs and takes no more; true once nothing is under way. `why`, a constant, is
 * the reason of both. */
bool moult_updates_stop(struct moult_updates *updates, const char *why);
void moult_updates_resume(struct moult_updates *updates);
/* Stopped from the start, until it is resumed: the state is another process's still. A model
 * that cannot be restored meanwhile is told to `failed`. */
void moult_updates_be_guest(struct moult_updates *updates, const char *why);
void moult_updates_close_handles(struct moult_updates *updates);
void moult_updates_free(struct moult_updates *updates);

#endif
