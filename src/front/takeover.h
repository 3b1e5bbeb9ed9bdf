/* Taking over from a moult that serves from the same data folder (`moult serve --take-over`);
 * handover.h has the words that the two exchange. */
#ifndef MOULT_FRONT_TAKEOVER_H
#define MOULT_FRONT_TAKEOVER_H

#include <stdbool.h>
#include <uv.h>

#include "front/http_listen.h"

struct moult_takeover;

struct moult_takeover_offer {
    int socket_fd;
    int listen_fd;                     /* The caller's to close. */
    bool activated;
    uint16_t port;
    char host[MOULT_HOST_BYTES_MAX];
};

struct moult_takeover_events {
    /* The data folder is ours: with this descriptor of its lock, or, where that is -1, because
     * the other one has died. */
    void (*yours)(void *context, int lock_fd);
    /* The other one goes on. */
    void (*refused)(void *context, const char *reason);
};

/* Asks the moult that serves from the data folder, and waits until it has written its state for
 * the last time. 1: here is the offer. 0: nobody serves. -1: it does not hand over. */
int moult_takeover_ask(const char *data_folder, struct moult_takeover_offer *offer,
                       struct moult_error *error);
/* Takes the offer's socket over, and watches it. */
struct moult_takeover *moult_takeover_open(uv_loop_t *loop,
                                           const struct moult_takeover_offer *offer,
                                           const struct moult_takeover_events *events,
                                           void *context);
/* The models are loaded: `yours` follows. */
void moult_takeover_ready(struct moult_takeover *takeover);
/* It serves: the other one may go. */
void moult_takeover_done(struct moult_takeover *takeover);
/* Frees itself when the loop has run once more. */
void moult_takeover_close(struct moult_takeover *takeover);

#endif
