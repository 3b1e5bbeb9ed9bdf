/* How one process follows another: in a socket that systemd keeps open, or from a moult that
 * serves to a newer one (handover.h has the words). Both ends of it are here. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/machine.h"
#include "front/front.h"
#include "front/slot.h"
#include "front/systemd.h"

/* How long connections wait in a socket that was handed to us for models that do not come. */
#define RESTORE_MS 30000
/* After a hand-over nobody is in a hurry: connections that stay idle are let alone until
 * libmicrohttpd closes them. */
#define HANDED_OVER_PATIENCE_NS ((MOULT_IDLE_SECONDS_MAX + 24) * 1000000000ull)

/* Sockets and the data folder, ours or handed over. */

static void on_yours(void *context, int lock_fd);
static void on_refused(void *context, const char *reason);

/* The socket of the one that serves, unless this one is told to listen elsewhere. */
static int take_listener(struct moult_front *front, const struct moult_takeover_offer *offer,
                         struct moult_error *error) {
    const struct moult_serve_options *options = front->server.options;
    struct moult_listener *listener = &front->server.listener;
    bool same = strcmp(offer->host, options->host) == 0 && offer->port == options->port;
    if (listener->fd >= 0 || (!same && !offer->activated)) {
        close(offer->listen_fd);
        return 0;
    }
    if (moult_listener_adopt(listener, offer->listen_fd, error) != 0)
        return -1;
    listener->activated = offer->activated;
    if (!offer->activated)
        snprintf(listener->host, sizeof listener->host, "%s", offer->host);
    return 0;
}

int moult_front_find_listener(struct moult_front *front, struct moult_error *error) {
    static const struct moult_takeover_events events = {on_yours, on_refused};
    const struct moult_serve_options *options = front->server.options;
    int fd = moult_activation_fd(error);
    if (fd == MOULT_ACTIVATION_WRONG ||
        (fd >= 0 && moult_listener_adopt(&front->server.listener, fd, error) != 0))
        return -1;
    front->server.listener.activated = fd >= 0;
    if (!options->take_over)
        return 0;
    struct moult_takeover_offer offer;
    int asked = moult_takeover_ask(options->data, &offer, error);
    if (asked <= 0)
        return asked;
    front->takeover = moult_takeover_open(front->server.loop, &offer, &events, front);
    return take_listener(front, &offer, error);
}

int moult_front_open_keeper(struct moult_front *front, struct moult_error *error) {
    const char *data = front->server.options->data;
    front->keeper = front->takeover != NULL
                        ? moult_keeper_visit(front->server.loop, data, error)
                        : moult_keeper_open(front->server.loop, data, error);
    return front->keeper != NULL ? 0 : -1;
}

/* From loading to serving. */

static bool calm(void *context);
static bool still(void *context);
static void resume(void *context, const char *reason);
static void on_gone(void *context);

/* A server that nobody can take over from serves all the same. */
static void await_successor(struct moult_front *front) {
    static const struct moult_handover_events events = {calm, still, resume, on_gone};
    const struct moult_server *server = &front->server;
    const struct moult_handover_goods goods = {
        .host = server->options->host,
        .port = server->options->port,
        .activated = server->listener.activated,
        .listen_fd = server->listener.fd,
        .lock_fd = moult_keeper_lock_fd(front->keeper),
    };
    struct moult_error error;
    front->handover = moult_handover_open(server->loop, moult_keeper_folder_fd(front->keeper),
                                          &goods, &events, front, &error);
    if (front->handover == NULL)
        moult_log_warning("Nobody can take over from this server: %s", error.message);
}

/* The socket for successors has one name, so who is about to become the owner must leave it to
 * who still is. */
int moult_front_start_http(struct moult_front *front, struct moult_error *error) {
    front->http = moult_http_open(&front->server, error);
    if (front->http == NULL)
        return -1;
    front->stage = MOULT_STAGE_SERVING;
    if (front->takeover == NULL)
        await_successor(front);
    return 0;
}

void moult_front_try_serving(struct moult_front *front) {
    struct moult_error error;
    if (front->stage != MOULT_STAGE_LOADING || !moult_front_is_restored(front))
        return;
    if (front->takeover != NULL) {
        if (!front->told_ready)
            moult_takeover_ready(front->takeover);
        front->told_ready = true;
        return;
    }
    uv_timer_stop(&front->look);
    if (moult_front_start_http(front, &error) != 0)
        moult_front_fail(front, &error);
    else
        moult_front_announce(front);
}

/* Clients have waited long enough: they are told that no model is ready yet. */
static void on_restore_timeout(uv_timer_t *timer) {
    struct moult_front *front = timer->data;
    struct moult_error error;
    if (front->stage == MOULT_STAGE_LOADING && moult_front_start_http(front, &error) != 0)
        moult_front_fail(front, &error);
}

void moult_front_limit_loading(struct moult_front *front) {
    if (front->stage == MOULT_STAGE_LOADING)
        uv_timer_start(&front->look, on_restore_timeout, RESTORE_MS, 0);
}

static void leave_takeover(struct moult_front *front) {
    if (front->takeover != NULL)
        moult_takeover_close(front->takeover);
    front->takeover = NULL;
}

/* Nothing is written before the other one has been told: it may still have to go on. */
static void on_yours(void *context, int lock_fd) {
    struct moult_front *front = context;
    struct moult_error error;
    bool died = lock_fd < 0;
    if (moult_keeper_own(front->keeper, lock_fd, &error) != 0 ||
        (!died && moult_front_start_http(front, &error) != 0)) {
        moult_front_fail(front, &error);
        return;
    }
    if (died) {
        moult_log_warning("The server that was to be taken over from has died.");
    } else {
        moult_notify("MAINPID=%d\nREADY=1", (int)getpid());
        moult_takeover_done(front->takeover);
        await_successor(front);
    }
    leave_takeover(front);
    front->took_over = true;
    moult_keeper_release(front->keeper);
    if (front->server.desk != NULL) {
        moult_desk_release(front->server.desk);
        moult_followers_own(front->server.followers, true);
        moult_catalogue_refresh(front->server.catalogue);
    }
    moult_updates_resume(front->server.updates);
    moult_front_try_serving(front);
    if (moult_front_raise(front, false, &error) != 0)
        moult_log_error("%s", error.message);
    moult_front_open_poll(front);
    moult_front_announce(front);
}

static void on_refused(void *context, const char *reason) {
    struct moult_front *front = context;
    fprintf(stderr, "moult: The server that was to be taken over from goes on: %s\n", reason);
    moult_front_stop(front, 1);
}

/* From serving to having been taken over from. */

static bool calm(void *context) {
    struct moult_front *front = context;
    front->server.handing_over = true;
    if (front->server.followers != NULL)
        moult_followers_keep_removals(front->server.followers, true);
    return moult_updates_stop(front->server.updates,
                              "A newer program is about to take over: order it again.") &&
           moult_keeper_hold(front->keeper);
}

/* From here on the table is the other one's to write. What was written before is acknowledged when
 * it has embedded it, which is seen in the table. */
static bool still(void *context) {
    struct moult_front *front = context;
    return front->server.desk == NULL || moult_desk_hold(front->server.desk);
}

static void go_on(const char *reason) {
    moult_log_warning("This program goes on serving: %s", reason);
    moult_notify("READY=1\nSTATUS=Goes on. %s", reason);
}

static void resume(void *context, const char *reason) {
    struct moult_front *front = context;
    front->server.handing_over = false;
    moult_keeper_release(front->keeper);
    if (front->server.desk != NULL) {
        moult_desk_release(front->server.desk);
        moult_followers_keep_removals(front->server.followers, false);
    }
    moult_updates_resume(front->server.updates);
    go_on(reason);
}

static void on_gone(void *context) {
    struct moult_front *front = context;
    moult_keeper_give_away(front->keeper);
    if (front->server.desk != NULL) {
        moult_desk_give_away(front->server.desk);
        moult_followers_own(front->server.followers, false);
    }
    moult_handover_close(front->handover, "");
    front->handover = NULL;
    front->handed_over = true;
    uv_timer_stop(&front->watchdog);
    if (front->server.poll != NULL)
        moult_poll_stop(front->server.poll);
    moult_http_hand_over(front->http);
    moult_front_wind_up(front, HANDED_OVER_PATIENCE_NS);
}

static void on_successor_ended(void *context, const char *reason) {
    struct moult_front *front = context;
    moult_successor_close(front->successor);
    front->successor = NULL;
    if (front->stage == MOULT_STAGE_SERVING)
        go_on(reason);
}

void moult_front_upgrade(struct moult_front *front) {
    struct moult_error error;
    if (front->stage != MOULT_STAGE_SERVING || front->successor != NULL || front->handover == NULL)
        return;
    char **command = front->server.options->command;
    moult_log_info("Asked to upgrade: %s is started, and takes over.", command[0]);
    moult_notify("RELOADING=1\nMONOTONIC_USEC=%llu",
                 (unsigned long long)(moult_clock_ns() / 1000));
    front->successor =
        moult_successor_start(front->server.loop, command, on_successor_ended, front, &error);
    if (front->successor == NULL)
        go_on(error.message);
}

void moult_front_leave_succession(struct moult_front *front) {
    if (front->handover != NULL)
        moult_handover_close(front->handover, "It was asked to stop.");
    if (front->handover != NULL && front->server.desk != NULL)
        moult_desk_release(front->server.desk);
    front->handover = NULL;
    leave_takeover(front);
}
