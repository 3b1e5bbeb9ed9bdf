/* Keeps the state on disk, and the data folder for one server alone.
 *
 * Saves happen in order, one at a time, on a pool thread. What is asked for
 * while one is under way is done by the next one together, so a burst of changes costs
 * two writes. */
#ifndef MOULT_FRONT_KEEPER_H
#define MOULT_FRONT_KEEPER_H

#include <uv.h>

#include "front/state.h"

struct moult_keeper;

/* NULL in `error`'s place: what was asked for is durable. Called from the loop. */
typedef void (*moult_keeper_listener)(void *context, uint64_t tag, const struct moult_error *error);

/* Makes the data folder where there is none, locks it, clears away what a killed
 * predecessor left, and reads the state. */
struct moult_keeper *moult_keeper_open(uv_loop_t *loop, const char *data_folder,
                                       struct moult_error *error);
struct moult_state *moult_keeper_state(struct moult_keeper *keeper);
const char *moult_keeper_models_folder(const struct moult_keeper *keeper);
const char *moult_keeper_data_folder(const struct moult_keeper *keeper);
/* Saves the state as it is now. The listener may be NULL. */
void moult_keeper_save(struct moult_keeper *keeper, moult_keeper_listener listener, void *context,
                       uint64_t tag);
/* Nothing is being saved. */
bool moult_keeper_quiet(const struct moult_keeper *keeper);
/* After the loop has run its last. Gives the lock back. */
void moult_keeper_close(struct moult_keeper *keeper);

#endif
