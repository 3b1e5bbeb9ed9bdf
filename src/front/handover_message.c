/* The words between an old and a new program, and the socket that carries them. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "front/handover.h"

#define CONTROL "control"

int moult_handover_send(int socket_fd, const struct moult_handover_message *message, int fd) {
    struct iovec bytes = {(void *)(uintptr_t)message, sizeof *message};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr parcel = {.msg_iov = &bytes, .msg_iovlen = 1};
    if (fd >= 0) {
        parcel.msg_control = control.room;
        parcel.msg_controllen = sizeof control.room;
        struct cmsghdr *head = CMSG_FIRSTHDR(&parcel);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(head), &fd, sizeof fd);
    }
    ssize_t sent;
    do
        sent = sendmsg(socket_fd, &parcel, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)sizeof *message ? 0 : -1;
}

int moult_handover_say(int socket_fd, enum moult_handover_word word, const char *text, int fd) {
    struct moult_handover_message message = {.word = word};
    memcpy(message.magic, MOULT_HANDOVER_MAGIC, sizeof message.magic);
    snprintf(message.text, sizeof message.text, "%s", text);
    return moult_handover_send(socket_fd, &message, fd);
}

static int take_fd(struct msghdr *parcel) {
    struct cmsghdr *head = CMSG_FIRSTHDR(parcel);
    int fd = -1;
    if (head != NULL && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
        head->cmsg_len == CMSG_LEN(sizeof fd))
        memcpy(&fd, CMSG_DATA(head), sizeof fd);
    return fd;
}

static bool is_well_formed(const struct moult_handover_message *message, ssize_t size) {
    return size == (ssize_t)sizeof *message &&
           memcmp(message->magic, MOULT_HANDOVER_MAGIC, sizeof message->magic) == 0 &&
           message->word < MOULT_HANDOVER_WORDS && message->port <= UINT16_MAX &&
           memchr(message->host, '\0', sizeof message->host) != NULL &&
           memchr(message->text, '\0', sizeof message->text) != NULL;
}

int moult_handover_receive(int socket_fd, struct moult_handover_message *message, int *fd) {
    struct iovec bytes = {message, sizeof *message};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr parcel = {.msg_iov = &bytes,
                            .msg_iovlen = 1,
                            .msg_control = control.room,
                            .msg_controllen = sizeof control.room};
    *fd = -1;
    ssize_t size = 0;
    bool was_reset = false;
    /* Who closes without having read all resets us: that is told once, and before its last
     * word. */
    do {
        was_reset = was_reset || (size < 0 && errno == ECONNRESET);
        size = recvmsg(socket_fd, &parcel, MSG_CMSG_CLOEXEC);
    } while (size < 0 && (errno == EINTR || (errno == ECONNRESET && !was_reset)));
    if (size < 0)
        return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    *fd = take_fd(&parcel);
    if (is_well_formed(message, size) && (parcel.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
        return 1;
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
    return -1;
}

/* A socket's path has room for 107 bytes, and folders may lie deeper: so by the descriptor. */
static struct sockaddr_un address_in(int folder_fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/" CONTROL, folder_fd);
    return address;
}

static int fail_and_close(int fd) {
    int code = errno;
    close(fd);
    errno = code;
    return -1;
}

int moult_handover_bind(int folder_fd) {
    struct sockaddr_un address = address_in(folder_fd);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (unlinkat(folder_fd, CONTROL, 0) != 0 && errno != ENOENT)
        return fail_and_close(fd);
    /* Before it has a name: the file gets this mode, and is never open to others. */
    if (fchmod(fd, S_IRUSR | S_IWUSR) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 8) != 0)
        return fail_and_close(fd);
    return fd;
}

int moult_handover_connect(int folder_fd) {
    struct sockaddr_un address = address_in(folder_fd);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    return connect(fd, (struct sockaddr *)&address, sizeof address) == 0 ? fd : fail_and_close(fd);
}
