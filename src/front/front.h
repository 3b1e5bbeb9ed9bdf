/* What server.c and succession.c know of a front, and nobody else does. server.c is its life from
 * the command line to the exit code; succession.c is how one process follows another. */
#ifndef MOULT_FRONT_FRONT_H
#define MOULT_FRONT_FRONT_H

#include "front/handover.h"
#include "front/http.h"
#include "front/keeper.h"
#include "front/news.h"
#include "front/server.h"
#include "front/successor.h"
#include "front/takeover.h"

/* The life of a server, step by step; each is left when what it waits for has come. */
enum moult_stage {
    MOULT_STAGE_LOADING,     /* In a socket that was handed to us, clients wait for models. */
    MOULT_STAGE_SERVING,
    MOULT_STAGE_ANSWERING,   /* Open requests, and those that still come on open connections. */
    MOULT_STAGE_RETIRING,    /* Workers, updates, the last save. */
    MOULT_STAGE_CLOSING      /* Only handles are left. */
};

struct moult_front {
    struct moult_server server;
    uv_loop_t loop;
    struct moult_keeper *keeper;
    struct moult_http *http;
    struct moult_news *news;
    uv_signal_t terminate, interrupt, upgrade;
    uv_timer_t look, watchdog;
    enum moult_stage stage;
    uint64_t patience_until_ns, hooks_until_ns;
    int exit_code;
    bool chosen_by_us;               /* The model: nobody named one, and there was none. */

    struct moult_takeover *takeover; /* While another process owns the data folder. */
    struct moult_handover *handover; /* While a newer one may come. */
    struct moult_successor *successor;
    bool took_over, told_ready, handed_over;
};

/* server.c */
/* Brings up those slots that the state has a model of, or the others. */
int moult_front_raise(struct moult_front *front, bool restored, struct moult_error *error);
/* Begins to look for newer models, where that is wanted. */
void moult_front_open_poll(struct moult_front *front);
/* All of those that the state has a model of have it. */
bool moult_front_is_restored(const struct moult_front *front);
/* Says that it serves, once it does. */
void moult_front_announce(struct moult_front *front);
/* Answers what is there, ends workers and updates, and then the loop. */
void moult_front_stop(struct moult_front *front, int exit_code);
void moult_front_fail(struct moult_front *front, const struct moult_error *error);
/* Ends as soon as there is nothing to answer any more, or that long has passed. */
void moult_front_wind_up(struct moult_front *front, uint64_t patience_ns);

/* succession.c */
/* The listening socket, where one is handed to us; and, with --take-over, from whom. */
int moult_front_find_listener(struct moult_front *front, struct moult_error *error);
/* The data folder, as its owner or as the guest of whom we take over from. */
int moult_front_open_keeper(struct moult_front *front, struct moult_error *error);
/* Accepts connections, and successors. */
int moult_front_start_http(struct moult_front *front, struct moult_error *error);
/* In LOADING: begins to serve if the models are there. */
void moult_front_try_serving(struct moult_front *front);
/* In LOADING: begins to serve without them after a while. */
void moult_front_limit_loading(struct moult_front *front);
/* SIGUSR2. */
void moult_front_upgrade(struct moult_front *front);
/* Says to who waits for it that nothing comes of it. */
void moult_front_leave_succession(struct moult_front *front);

#endif
