#include "front/takeover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/handover.h"

/* An update that is just being written, a download that is being ended: both take moments. The
 * answer of one that hangs is not worth waiting for. */
#define OFFER_NS (30 * 1000000000ull)

struct moult_takeover {
    uv_poll_t poll;
    int socket_fd;
    const struct moult_takeover_events *events;
    void *context;
};

static int fail_without_words(struct moult_error *error, const char *data_folder) {
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "The moult that serves from %s does not hand over: it is of a version that "
                      "cannot, or it has just ended. Stop it, and start this one.", data_folder);
}

static int wait_for(int fd, uint64_t deadline_ns) {
    for (;;) {
        uint64_t now_ns = moult_clock_ns();
        struct pollfd polled = {.fd = fd, .events = POLLIN};
        int wait_ms = now_ns < deadline_ns ? (int)((deadline_ns - now_ns) / 1000000) + 1 : 0;
        int ready = poll(&polled, 1, wait_ms);
        if (ready > 0 || (ready == 0 && wait_ms == 0))
            return ready;
        if (ready < 0 && errno != EINTR)
            return -1;
    }
}

static int receive_offer(int socket_fd, const char *data_folder,
                         struct moult_takeover_offer *offer, struct moult_error *error) {
    struct moult_handover_message message;
    int fd = -1;
    /* Who does not want to talk has said so, and closed, before it hears this. */
    moult_handover_say(socket_fd, MOULT_HANDOVER_HELLO, MOULT_VERSION, -1);
    int ready = wait_for(socket_fd, moult_clock_ns() + OFFER_NS);
    if (ready == 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "The moult that serves from %s gives no answer.", data_folder);
    if (ready < 0 || moult_handover_receive(socket_fd, &message, &fd) <= 0)
        return fail_without_words(error, data_folder);
    if (message.word == MOULT_HANDOVER_OFFER && fd >= 0) {
        offer->socket_fd = socket_fd;
        offer->listen_fd = fd;
        offer->activated = message.activated != 0;
        offer->port = (uint16_t)message.port;
        memcpy(offer->host, message.host, sizeof offer->host);
        return 1;
    }
    if (fd >= 0)
        close(fd);
    if (message.word != MOULT_HANDOVER_NO)
        return fail_without_words(error, data_folder);
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "The moult that serves from %s does not hand over: %s", data_folder,
                      message.text);
}

int moult_takeover_ask(const char *data_folder, struct moult_takeover_offer *offer,
                       struct moult_error *error) {
    int folder_fd = open(data_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder_fd < 0)
        return 0;
    int socket_fd = moult_handover_connect(folder_fd);
    close(folder_fd);
    if (socket_fd < 0)
        return 0;   /* Who serves nevertheless is met at the lock. */
    int result = receive_offer(socket_fd, data_folder, offer, error);
    if (result <= 0)
        close(socket_fd);
    return result;
}

static void on_message(uv_poll_t *poll, int status, int events) {
    struct moult_takeover *takeover = poll->data;
    struct moult_handover_message message;
    int fd;
    (void)status;
    (void)events;
    int received = moult_handover_receive(takeover->socket_fd, &message, &fd);
    if (received == 0)
        return;
    uv_poll_stop(poll);
    if (received > 0 && message.word == MOULT_HANDOVER_YOURS && fd >= 0) {
        moult_fault_point("takeover-yours");
        takeover->events->yours(takeover->context, fd);
        return;
    }
    if (fd >= 0)
        close(fd);
    if (received < 0)
        takeover->events->yours(takeover->context, -1);
    else
        takeover->events->refused(takeover->context, message.text);
}

struct moult_takeover *moult_takeover_open(uv_loop_t *loop,
                                           const struct moult_takeover_offer *offer,
                                           const struct moult_takeover_events *events,
                                           void *context) {
    struct moult_takeover *takeover = moult_allocate(1, sizeof *takeover);
    takeover->socket_fd = offer->socket_fd;
    takeover->events = events;
    takeover->context = context;
    MOULT_REQUIRE(uv_poll_init(loop, &takeover->poll, takeover->socket_fd) == 0);
    takeover->poll.data = takeover;
    uv_poll_start(&takeover->poll, UV_READABLE | UV_DISCONNECT, on_message);
    return takeover;
}

void moult_takeover_ready(struct moult_takeover *takeover) {
    moult_fault_point("takeover-ready");
    /* Where it fails, the end of the socket is heard next. */
    moult_handover_say(takeover->socket_fd, MOULT_HANDOVER_READY, "", -1);
}

void moult_takeover_done(struct moult_takeover *takeover) {
    moult_fault_point("takeover-mine");
    moult_handover_say(takeover->socket_fd, MOULT_HANDOVER_MINE, "", -1);
}

static void on_closed(uv_handle_t *handle) {
    struct moult_takeover *takeover = handle->data;
    close(takeover->socket_fd);
    free(takeover);
}

void moult_takeover_close(struct moult_takeover *takeover) {
    uv_close((uv_handle_t *)&takeover->poll, on_closed);
}
