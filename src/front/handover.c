/* handover.h has the words in their order. Here is the side that serves.
 *
 *   phase     what it waits for                  then
 *   ───────── ────────────────────────────────── ──────────────────────────────────────────────
 *   ALONE     a successor connects               it says HELLO: CALMING
 *   CALMING   nothing changes the state          OFFER: OFFERED
 *   OFFERED   READY                              STILLING
 *   STILLING  no document is being written       YOURS: GIVEN
 *   GIVEN     MINE                               gone
 *
 * From each but ALONE: the successor goes, or lets us wait too long: resume, ALONE. */
#include "front/handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"

#define LOOK_MS 10
/* A connection that says nothing, and a successor that loads. The models of a large server are
 * read and checked at low speed; meanwhile it takes no orders, so that must end some time. */
#define HELLO_NS (5 * 1000000000ull)
#define LOAD_NS (600 * 1000000000ull)

enum phase { ALONE, CALMING, OFFERED, STILLING, GIVEN };

struct moult_handover {
    struct moult_handover_goods goods;
    char *host;
    const struct moult_handover_events *events;
    void *context;
    uv_poll_t listening, peer;
    uv_timer_t look;
    unsigned handles_open;
    bool peer_open;                    /* The handle `peer` is in use, or being closed. */
    int listen_fd, peer_fd;
    pid_t peer_pid;
    enum phase phase;
    bool said_hello;
    uint64_t deadline_ns;
};

static void on_closed(uv_handle_t *handle) {
    struct moult_handover *handover = handle->data;
    if (--handover->handles_open > 0)
        return;
    free(handover->host);
    free(handover);
}

static void on_peer_closed(uv_handle_t *handle) {
    struct moult_handover *handover = handle->data;
    handover->peer_open = false;
    on_closed(handle);
}

static void drop_peer(struct moult_handover *handover) {
    if (handover->peer_fd < 0)
        return;
    uv_timer_stop(&handover->look);
    uv_close((uv_handle_t *)&handover->peer, on_peer_closed);
    close(handover->peer_fd);
    handover->peer_fd = -1;
}

/* Back to where it was. */
static void give_up(struct moult_handover *handover, const char *reason) {
    bool paused = handover->phase != ALONE;
    moult_handover_say(handover->peer_fd, MOULT_HANDOVER_NO, reason, -1);
    drop_peer(handover);
    handover->phase = ALONE;
    if (paused)
        handover->events->resume(handover->context, reason);
}

static void offer(struct moult_handover *handover) {
    struct moult_handover_message message = {.word = MOULT_HANDOVER_OFFER,
                                             .activated = handover->goods.activated,
                                             .port = handover->goods.port,
                                             .text = MOULT_VERSION};
    memcpy(message.magic, MOULT_HANDOVER_MAGIC, sizeof message.magic);
    snprintf(message.host, sizeof message.host, "%s", handover->host);
    handover->phase = OFFERED;
    handover->deadline_ns = moult_clock_ns() + LOAD_NS;
    moult_fault_point("handover-offer");
    if (moult_handover_send(handover->peer_fd, &message, handover->goods.listen_fd) != 0)
        give_up(handover, "The new program ended before it had loaded anything.");
}

static void give(struct moult_handover *handover) {
    handover->phase = GIVEN;
    moult_fault_point("handover-yours");
    if (moult_handover_say(handover->peer_fd, MOULT_HANDOVER_YOURS, "",
                           handover->goods.lock_fd) != 0)
        give_up(handover, "The new program ended before it had taken over.");
}

static void on_look(uv_timer_t *timer) {
    struct moult_handover *handover = timer->data;
    if (moult_clock_ns() >= handover->deadline_ns)
        give_up(handover, handover->said_hello ? "The new program took too long to load."
                                               : "It said nothing.");
    else if (handover->phase == CALMING && handover->events->calm(handover->context))
        offer(handover);
    else if (handover->phase == STILLING && handover->events->still(handover->context))
        give(handover);
}

static void finish(struct moult_handover *handover) {
    moult_log_info("Process %d serves now; this one answers what it has, and ends.",
                   (int)handover->peer_pid);
    moult_fault_point("handover-gone");
    drop_peer(handover);
    handover->phase = ALONE;
    handover->events->gone(handover->context);
}

/* What is not the word that is due ends the talk. */
static void hear(struct moult_handover *handover, const struct moult_handover_message *message) {
    switch (message->word) {
    case MOULT_HANDOVER_HELLO:
        if (handover->said_hello)
            break;
        moult_log_info("Process %d, moult %.32s, is to take over.", (int)handover->peer_pid,
                       message->text);
        handover->said_hello = true;
        handover->phase = CALMING;
        handover->deadline_ns = moult_clock_ns() + LOAD_NS;
        on_look(&handover->look);
        return;
    case MOULT_HANDOVER_READY:
        if (handover->phase != OFFERED)
            break;
        handover->phase = STILLING;
        on_look(&handover->look);
        return;
    case MOULT_HANDOVER_MINE:
        if (handover->phase != GIVEN)
            break;
        finish(handover);
        return;
    default:
        break;
    }
    give_up(handover, "The new program did not speak as it should.");
}

static void on_peer(uv_poll_t *poll, int status, int events) {
    struct moult_handover *handover = poll->data;
    struct moult_handover_message message;
    int fd;
    (void)status;
    (void)events;
    int received = moult_handover_receive(handover->peer_fd, &message, &fd);
    if (fd >= 0)
        close(fd);
    if (received > 0)
        hear(handover, &message);
    else if (received < 0)
        give_up(handover, "The new program ended before it had taken over.");
}

static bool is_ours(int fd, pid_t *pid) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    *pid = peer.pid;
    return peer.uid == geteuid() || peer.uid == 0;
}

static void on_listening(uv_poll_t *poll, int status, int events) {
    struct moult_handover *handover = poll->data;
    pid_t pid;
    (void)status;
    (void)events;
    int fd = accept4(handover->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (!is_ours(fd, &pid) || handover->peer_open) {
        moult_handover_say(fd, MOULT_HANDOVER_NO, "Another process is about to take over already.",
                           -1);
        close(fd);
        return;
    }
    handover->peer_fd = fd;
    handover->peer_pid = pid;
    handover->said_hello = false;
    handover->deadline_ns = moult_clock_ns() + HELLO_NS;
    handover->peer_open = true;
    handover->handles_open++;
    MOULT_REQUIRE(uv_poll_init(handover->look.loop, &handover->peer, fd) == 0);
    handover->peer.data = handover;
    uv_poll_start(&handover->peer, UV_READABLE | UV_DISCONNECT, on_peer);
    uv_timer_start(&handover->look, on_look, LOOK_MS, LOOK_MS);
}

struct moult_handover *moult_handover_open(uv_loop_t *loop, int folder_fd,
                                           const struct moult_handover_goods *goods,
                                           const struct moult_handover_events *events,
                                           void *context, struct moult_error *error) {
    int fd = moult_handover_bind(folder_fd);
    if (fd < 0) {
        moult_fail_errno(error, "No socket can be made in the data folder");
        return NULL;
    }
    struct moult_handover *handover = moult_allocate(1, sizeof *handover);
    handover->goods = *goods;
    handover->host = moult_copy_string(goods->host);
    handover->events = events;
    handover->context = context;
    handover->listen_fd = fd;
    handover->peer_fd = -1;
    handover->handles_open = 2;
    MOULT_REQUIRE(uv_poll_init(loop, &handover->listening, fd) == 0);
    MOULT_REQUIRE(uv_timer_init(loop, &handover->look) == 0);
    handover->listening.data = handover->look.data = handover;
    uv_poll_start(&handover->listening, UV_READABLE, on_listening);
    return handover;
}

void moult_handover_close(struct moult_handover *handover, const char *reason) {
    if (handover->peer_fd >= 0)
        moult_handover_say(handover->peer_fd, MOULT_HANDOVER_NO, reason, -1);
    drop_peer(handover);
    uv_close((uv_handle_t *)&handover->listening, on_closed);
    uv_close((uv_handle_t *)&handover->look, on_closed);
    close(handover->listen_fd);
}
