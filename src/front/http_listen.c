#include "front/http_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
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
    return ntohs(((struct sockaddr_in *)&address)->sin_port);
}

int moult_listen(const char *host, uint16_t port, uint16_t *bound, struct moult_error *error) {
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
    } else {
        *bound = port_of(fd);
    }
    freeaddrinfo(address);
    return fd;
}
