/* Updates as the HTTP endpoints and the start-up ask for them; the state
 * machine itself, with its table of states, is update.c. */
#ifndef MOULT_FRONT_UPDATE_H
#define MOULT_FRONT_UPDATE_H

#include <jansson.h>
#include <uv.h>

#include "front/slots.h"

struct moult_updates;

enum moult_update_status {
    MOULT_UPDATE_RUNNING,
    MOULT_UPDATE_LIVE,
    MOULT_UPDATE_UNCHANGED,
    MOULT_UPDATE_REFUSED,
    MOULT_UPDATE_SUPERSEDED,
    MOULT_UPDATE_CANCELLED
};
const char *moult_update_status_name(enum moult_update_status status);

struct moult_update_order {
    struct moult_slot *slot;
    const char *model;        /* A place to take it from, or NULL: the slot's source, read anew. */
    bool rollback;            /* The previous model again; `model` is NULL then. */
    bool force;               /* Even a revision that serves already, or was refused before. */
    bool reject_if_busy;
};

struct moult_update_result {
    uint64_t id;
    struct moult_slot *slot;
    enum moult_update_status status;
    uint64_t generation;      /* 0 where none came of it. */
    const char *reason;       /* "" or a finished sentence. */
};
typedef void (*moult_update_listener)(void *context, const struct moult_update_result *result);

/* Starts an update, joins the running one of the same target, or supersedes one
 * of another. Fails at once with MOULT_ERROR_INVALID (a place that is not allowed:
 * 403), MOULT_ERROR_UNAVAILABLE (busy and reject_if_busy; or no previous model for
 * a rollback: 409). `listener`, if not NULL, is called once, when the update has
 * ended; after MOULT_UPDATE_LIVE every later request is answered by the new one. */
int moult_updates_start(struct moult_updates *updates, const struct moult_update_order *order,
                        moult_update_listener listener, void *context, uint64_t *id,
                        struct moult_error *error);
/* The listener's client has gone. */
void moult_updates_forget(struct moult_updates *updates, uint64_t id,
                          moult_update_listener listener, void *context);
/* DELETE: false where no such update is running. */
bool moult_updates_cancel(struct moult_updates *updates, uint64_t id);

/* The answers of GET /update_model and GET /update_model/{id} (NULL: unknown); new references. */
json_t *moult_updates_json(struct moult_updates *updates);
json_t *moult_updates_one_json(struct moult_updates *updates, uint64_t id);

/* What server.c makes of it. */
struct moult_keeper;

/* `serving` is told when a slot has its first generation that is ready, `failed`
 * how the update that was to bring a slot up has ended. */
struct moult_updates *moult_updates_open(uv_loop_t *loop, struct moult_slots *slots,
                                         struct moult_keeper *keeper,
                                         void (*serving)(void *context, struct moult_slot *slot),
                                         moult_update_listener failed, void *context);
/* Brings a slot up: its current generation from the state, or else its source's. */
int moult_updates_raise(struct moult_updates *updates, struct moult_slot *slot,
                        struct moult_error *error);
/* Cancels what runs and takes no more; true once nothing is under way. */
bool moult_updates_stop(struct moult_updates *updates);
void moult_updates_close_handles(struct moult_updates *updates);
void moult_updates_free(struct moult_updates *updates);

#endif
