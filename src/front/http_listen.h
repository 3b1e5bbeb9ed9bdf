/* The listening socket, made by ourselves for the sake of its errors. */
#ifndef MOULT_FRONT_HTTP_LISTEN_H
#define MOULT_FRONT_HTTP_LISTEN_H

#include <stdint.h>

#include "base/error.h"

/* Returns a listening descriptor, non-blocking and closed on exec, or -1. *bound
 * is the port, also where `port` is 0 and the system chose one. */
int moult_listen(const char *host, uint16_t port, uint16_t *bound, struct moult_error *error);

#endif
