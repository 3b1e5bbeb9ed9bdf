/* Clears away the installed revisions that nothing refers to any more, on a pool
 * thread. No pull may run meanwhile: what it has just installed would go, too. */
#ifndef MOULT_FRONT_SWEEP_H
#define MOULT_FRONT_SWEEP_H

#include <uv.h>

#include "base/hash.h"

struct moult_sweep;

/* `keep` is taken over: malloc'ed, [count]. `done` is called from the loop and
 * ends the sweep. */
struct moult_sweep *moult_sweep_start(uv_loop_t *loop, const char *models_folder,
                                      char (*keep)[MOULT_SHA256_HEX], unsigned count,
                                      void (*done)(void *context), void *context);

#endif
