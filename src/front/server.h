/* The front process: what `moult serve` runs. */
#ifndef MOULT_FRONT_SERVER_H
#define MOULT_FRONT_SERVER_H

#include <uv.h>

#include "front/catalogue.h"
#include "front/desk.h"
#include "front/follower.h"
#include "front/hook.h"
#include "front/http_listen.h"
#include "front/metrics.h"
#include "front/options.h"
#include "front/poll.h"
#include "front/shelf.h"
#include "front/slots.h"
#include "front/update.h"

struct moult_replaced;

/* What every part of the front is handed: one of each, made by moult_serve(). */
struct moult_server {
    uv_loop_t *loop;
    const struct moult_serve_options *options;
    struct moult_slots *slots;
    struct moult_desk *desk;         /* NULL with --store none: there are no documents. */
    struct moult_followers *followers;   /* The same, as with the next. */
    struct moult_catalogue *catalogue;
    struct moult_replaced *replaced;
    struct moult_shelf *shelf;
    struct moult_updates *updates;
    struct moult_poll *poll;         /* NULL without --update-every. */
    struct moult_listener listener;  /* Where connections come from. */
    bool stopping;                   /* SIGTERM came: what was admitted is answered, no more. */
    struct moult_hooks *hooks;       /* NULL: nobody is told. */
    bool handing_over;               /* A newer program loads: nothing may change the state. */
    uint64_t started_at;             /* Seconds since the epoch. */
    struct moult_metrics metrics;
};

/* Serves until SIGTERM or SIGINT, or until a newer program has taken over. Returns the exit
 * code. */
int moult_serve(const struct moult_serve_options *options);

#endif
