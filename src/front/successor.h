/* The upgrade that a signal asks for (SIGUSR2): the program is started once more, by the name
 * and with the arguments that this one was started with, and takes over. */
#ifndef MOULT_FRONT_SUCCESSOR_H
#define MOULT_FRONT_SUCCESSOR_H

#include <uv.h>

#include "base/error.h"

struct moult_successor;

/* `command` ends in NULL, and outlives it. `ended` is called if it ends before this process
 * does, with a sentence. */
struct moult_successor *moult_successor_start(uv_loop_t *loop, char **command,
                                              void (*ended)(void *context, const char *reason),
                                              void *context, struct moult_error *error);
/* Lets it live on its own. Frees itself when the loop has run once more. */
void moult_successor_close(struct moult_successor *successor);

#endif
