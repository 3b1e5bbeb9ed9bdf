#include "front/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int fail_to_bind(const char *host, uint16_t port, struct moult_error *error) {
    if (errno == EADDRINUSE)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "Port %u of %s is taken by another program; choose another one with "
                          "--port.", port, host);
    if (errno == EACCES)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "Port %u of %s needs a privilege that this user has not; choose one "
                          "above 1023 with --port.", port, host);
    if (errno == EADDRNOTAVAIL)
        return moult_fail(error, MOULT_ERROR_SYSTEM,
                          "This machine has no address %s; --host 0.0.0.0 means all it has.", host);
    return moult_fail_errno(error, "Port %u of %s cannot be listened on", port, host);
}

static uint16_t port_of(int fd) {
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        return 0;
    if (address.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
    if (address.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&address)->sin_port);
    return 0;
}

int moult_listener_bind(struct moult_listener *listener, const char *host, uint16_t port,
                        struct moult_error *error) {
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *address;
    int code = getaddrinfo(host, service, &hints, &address);
    if (code != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "The host %s has no address here: %s.", host,
                          gai_strerror(code));
    int one = 1;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, SOMAXCONN) != 0) {
        fail_to_bind(host, port, error);
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(address);
    *listener = (struct moult_listener){.fd = fd};
    if (fd < 0)
        return -1;
    listener->port = port_of(fd);
    snprintf(listener->host, sizeof listener->host, "%s", host);
    return 0;
}

static int option_of(int fd, int option) {
    int value = 0;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

static void name_host(struct moult_listener *listener) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(listener->fd, (struct sockaddr *)&address, &size) != 0)
        return;
    if (address.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((struct sockaddr_in6 *)&address)->sin6_addr, listener->host,
                  sizeof listener->host);
    else if (address.ss_family == AF_INET)
        inet_ntop(AF_INET, &((struct sockaddr_in *)&address)->sin_addr, listener->host,
                  sizeof listener->host);
    else if (address.ss_family == AF_UNIX)
        snprintf(listener->host, sizeof listener->host, "%s",
                 ((struct sockaddr_un *)&address)->sun_path);
}

int moult_listener_adopt(struct moult_listener *listener, int fd, struct moult_error *error) {
    *listener = (struct moult_listener){.fd = fd};
    if (option_of(fd, SO_TYPE) != SOCK_STREAM || option_of(fd, SO_ACCEPTCONN) != 1) {
        moult_fail(error, MOULT_ERROR_INVALID,
                   "Descriptor %d, which was handed over, is not a listening stream socket "
                   "(ListenStream= with Accept=no).", fd);
        moult_listener_close(listener);
        return -1;
    }
    int flags = fcntl(fd, F_GETFL);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) != 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
        moult_fail_errno(error, "The socket that was handed over cannot be used");
        moult_listener_close(listener);
        return -1;
    }
    listener->port = port_of(fd);
    name_host(listener);
    return 0;
}

void moult_listener_close(struct moult_listener *listener) {
    if (listener->fd >= 0)
        close(listener->fd);
    listener->fd = -1;
}
