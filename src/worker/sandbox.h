/* What a worker gives up before it reads the first byte of a model. A hostile model
 * that takes the process over holds its memory, the answer area and its open
 * descriptors, and nothing else: no file by name, no network, no program, no other process. */
#ifndef MOULT_WORKER_SANDBOX_H
#define MOULT_WORKER_SANDBOX_H

#include "base/error.h"

/* Confines all threads of the process, those that run already too, for good. Whatever
 * has to be opened is open by then. Threads may lower themselves as far as loading does, and to the
 * nice value `nice`. MOULT_ERROR_UNAVAILABLE: this kernel, or what
 * runs the container, grants no such filter, and nothing is confined; any
 * other failure is one of this program. */
int moult_sandbox_enter(unsigned nice, struct moult_error *error);

#endif
