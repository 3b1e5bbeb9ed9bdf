/* The listening socket: made by ourselves for the sake of its errors, or handed to us, by
 * systemd or by the moult that served before. */
#ifndef MOULT_FRONT_HTTP_LISTEN_H
#define MOULT_FRONT_HTTP_LISTEN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

#define MOULT_HOST_BYTES_MAX 256

struct moult_listener {
    int fd;                            /* Non-blocking and closed on exec; -1: none. */
    char host[MOULT_HOST_BYTES_MAX];   /* What it is bound to; a path for a Unix socket. */
    uint16_t port;                     /* 0 for a Unix socket. */
    bool activated;                    /* Somebody keeps it open, whether we serve or not. */
};

/* Binds and listens; `port` may be 0, and the system chooses one. Returns 0 or -1. */
int moult_listener_bind(struct moult_listener *listener, const char *host, uint16_t port,
                        struct moult_error *error);
/* Takes over a descriptor that must be a listening stream socket. On failure it is closed. */
int moult_listener_adopt(struct moult_listener *listener, int fd, struct moult_error *error);
void moult_listener_close(struct moult_listener *listener);

#endif
