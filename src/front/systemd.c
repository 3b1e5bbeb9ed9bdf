#include "front/systemd.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3
#define FDS_MAX 1024

static bool read_number(const char *name, uint64_t *number) {
    const char *text = getenv(name);
    char *end;
    if (text == NULL || text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *end == '\0';
}

/* The place of "http" in "metrics:http", or -1. */
static int place_of_http(const char *names) {
    static const char wanted[] = "http";
    for (int place = 0;; place++) {
        size_t size = strcspn(names, ":");
        if (size == sizeof wanted - 1 && strncmp(names, wanted, size) == 0)
            return place;
        if (names[size] == '\0')
            return -1;
        names += size + 1;
    }
}

int moult_activation_fd(struct moult_error *error) {
    uint64_t pid, count;
    int fd = MOULT_ACTIVATION_NONE;
    if (read_number("LISTEN_PID", &pid) && pid == (uint64_t)getpid() &&
        read_number("LISTEN_FDS", &count) && count > 0 && count <= FDS_MAX) {
        const char *names = getenv("LISTEN_FDNAMES");
        int place = count == 1 ? 0 : place_of_http(names != NULL ? names : "");
        fd = place >= 0 && (uint64_t)place < count ? FIRST_FD + place : MOULT_ACTIVATION_WRONG;
        if (fd == MOULT_ACTIVATION_WRONG)
            moult_fail(error, MOULT_ERROR_INVALID,
                       "%u sockets were handed over (LISTEN_FDS), and moult listens on one: give "
                       "the unit one ListenStream=, or FileDescriptorName=http to that one.",
                       (unsigned)count);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
    return fd;
}

/* A path, or with "@" a name in the abstract space. */
static socklen_t address_of(const char *name, struct sockaddr_un *address) {
    size_t size = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof address->sun_path)
        return 0;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, name, size);
    if (name[0] == '@')
        address->sun_path[0] = '\0';
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
}

void moult_notify(const char *format, ...) {
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address;
    socklen_t address_size = name != NULL ? address_of(name, &address) : 0;
    if (address_size == 0)
        return;
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (size > 0 && (size_t)size < sizeof text)
        sendto(fd, text, (size_t)size, MSG_NOSIGNAL, (struct sockaddr *)&address, address_size);
    close(fd);
}

uint64_t moult_notify_watchdog_us(void) {
    uint64_t us, pid;
    if (getenv("NOTIFY_SOCKET") == NULL || !read_number("WATCHDOG_USEC", &us))
        return 0;
    bool for_another = read_number("WATCHDOG_PID", &pid) && pid != (uint64_t)getpid();
    return for_another ? 0 : us;
}
