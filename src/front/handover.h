/* Handing over to a newer program: one moult serves, another has been started with --take-over
 * for the same data folder. They talk over a Unix socket in it, DATA/control, one message of
 * fixed size at a time; a descriptor may come with it.
 *
 *     old (handover.c)                             new (takeover.c)
 *     ────────────────────────────────────────     ───────────────────────────────────────────
 *     serves                                       HELLO
 *     takes no orders any more, cancels the
 *     updates, writes its state for the last time
 *     OFFER with the listening socket              reads the state, loads the models
 *     writes no documents any more, but serves     READY
 *     YOURS with the lock of the data folder       accepts connections, is the main process
 *     serves                                       MINE
 *     drops the lock, stops accepting, answers     writes the state, takes orders
 *     what it has, ends
 *
 * Until MINE has come the old one is the owner. Where the new one ends before it, however it
 * does, the old one takes orders again, as if nothing had been. Where the old one says NO, or
 * gives no answer for too long, the new one ends. Where the old one ends without a word, the
 * kernel has dropped its lock, and the new one takes it: it has the listening socket, so
 * connections only wait. Both hold the socket from OFFER on, so at no moment is one refused. */
#ifndef MOULT_FRONT_HANDOVER_H
#define MOULT_FRONT_HANDOVER_H

#include <stdbool.h>
#include <uv.h>

#include "front/http_listen.h"

/* The words. */

enum moult_handover_word {
    MOULT_HANDOVER_HELLO,
    MOULT_HANDOVER_OFFER,
    MOULT_HANDOVER_READY,
    MOULT_HANDOVER_YOURS,
    MOULT_HANDOVER_MINE,
    MOULT_HANDOVER_NO,
    MOULT_HANDOVER_WORDS
};

struct moult_handover_message {
    char magic[8];                     /* MOULT_HANDOVER_MAGIC: another version is refused. */
    uint32_t word;
    uint32_t activated;                /* Of OFFER: systemd keeps the socket open, too. */
    uint32_t port;                     /* Of OFFER: --port and --host of the old one. */
    char host[MOULT_HOST_BYTES_MAX];
    char text[512];                    /* The program's version, or why NO: a sentence. */
};
#define MOULT_HANDOVER_MAGIC "moult h1"

/* `fd` is -1 or goes with it as a copy. Returns 0, or -1: the other one has gone. */
int moult_handover_send(int socket_fd, const struct moult_handover_message *message, int fd);
int moult_handover_say(int socket_fd, enum moult_handover_word word, const char *text, int fd);
/* 1: a message, and *fd is -1 or the caller's. 0: none yet. -1: the other one has gone, or does
 * not speak as it should. */
int moult_handover_receive(int socket_fd, struct moult_handover_message *message, int *fd);
/* Binds (or connects to) `control` in the folder, however long its path is; -1 with errno. */
int moult_handover_bind(int folder_fd);
int moult_handover_connect(int folder_fd);

/* The side of the old one. */

struct moult_handover;

struct moult_handover_events {
    /* Take no more orders; called again until it is true: nothing changes the state any more,
     * and its last change is on disk. */
    bool (*calm)(void *context);
    /* It is about to serve: write no document any more; called again until none is being written.
     * Those that come wait. */
    bool (*still)(void *context);
    /* The other one has ended, and here is why. Take orders again. */
    void (*resume)(void *context, const char *reason);
    /* It serves. Drop the lock, answer what is there, and end. */
    void (*gone)(void *context);
};

struct moult_handover_goods {
    const char *host;                  /* As the options have them. */
    uint16_t port;
    bool activated;
    int listen_fd, lock_fd;            /* Stay the caller's. */
};

/* Listens for a successor. NULL with the error: this file system has no sockets, perhaps. */
struct moult_handover *moult_handover_open(uv_loop_t *loop, int folder_fd,
                                           const struct moult_handover_goods *goods,
                                           const struct moult_handover_events *events,
                                           void *context, struct moult_error *error);
/* A successor that waits is told NO. Frees itself when the loop has run once more. `reason` is
 * a sentence. The socket stays in the folder: the next server removes it. */
void moult_handover_close(struct moult_handover *handover, const char *reason);

#endif
