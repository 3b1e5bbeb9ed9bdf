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
/* As a guest (takeover.h): only reads, for the folder is another process's; what is saved waits
 * until it is owned and released. */
struct moult_keeper *moult_keeper_visit(uv_loop_t *loop, const char *data_folder,
                                        struct moult_error *error);
struct moult_state *moult_keeper_state(struct moult_keeper *keeper);
const char *moult_keeper_models_folder(const struct moult_keeper *keeper);
const char *moult_keeper_data_folder(const struct moult_keeper *keeper);
/* Saves the state as it is now. The listener may be NULL. */
void moult_keeper_save(struct moult_keeper *keeper, moult_keeper_listener listener, void *context,
                       uint64_t tag);
/* From now on saves wait, until moult_keeper_release(). False: one is under way; ask again. */
bool moult_keeper_hold(struct moult_keeper *keeper);
void moult_keeper_release(struct moult_keeper *keeper);
/* A guest becomes the owner: with the descriptor that it was given, or, where that is -1, by
 * locking the folder, which the owner has left by dying. Saves still wait for the release. */
int moult_keeper_own(struct moult_keeper *keeper, int lock_fd, struct moult_error *error);
int moult_keeper_folder_fd(const struct moult_keeper *keeper);
int moult_keeper_lock_fd(const struct moult_keeper *keeper);
/* Of one that holds: the folder belongs to who was given the lock. Nothing is saved any more,
 * and those who wait for a save hear so. */
void moult_keeper_give_away(struct moult_keeper *keeper);
/* Nothing is being saved. */
bool moult_keeper_quiet(const struct moult_keeper *keeper);
/* After the loop has run its last. Gives the lock back. */
void moult_keeper_close(struct moult_keeper *keeper);

#endif
