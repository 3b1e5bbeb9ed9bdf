/* What a service manager gives and wants to hear, without its library: sockets that it keeps
 * open, as sd_listen_fds(3) describes them, and notifications, as sd_notify(3) does. Where
 * nobody set the variables, nothing happens. */
#ifndef MOULT_FRONT_SYSTEMD_H
#define MOULT_FRONT_SYSTEMD_H

#include <stdint.h>

#include "base/error.h"

/* The descriptor of the listening socket that LISTEN_FDS hands to this process: the only one,
 * or the one that LISTEN_FDNAMES calls "http". The variables are unset, so that children do not
 * take it for theirs. MOULT_ACTIVATION_NONE where there is none; MOULT_ACTIVATION_WRONG with
 * the error where it cannot be known which. */
#define MOULT_ACTIVATION_NONE (-1)
#define MOULT_ACTIVATION_WRONG (-2)
int moult_activation_fd(struct moult_error *error);

/* Lines such as "READY=1\nSTATUS=…", to NOTIFY_SOCKET. Never blocks, never fails. */
void moult_notify(const char *format, ...) MOULT_PRINTF(1, 2);
/* How often at least "WATCHDOG=1" is wanted from this process, in microseconds; 0: it is not. */
uint64_t moult_notify_watchdog_us(void);

#endif
