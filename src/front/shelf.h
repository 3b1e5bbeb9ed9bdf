/* The shelf: models that do not serve any more and stay installed all the same, as what may be
 * gone back to and called by name@fp8; and the leases that hold them there.
 *
 * state.h has the rules of who stays for how long, as a document. Here they meet the generations:
 * each model on the shelf is one, asleep or warm (sleep.c). */
#ifndef MOULT_FRONT_SHELF_H
#define MOULT_FRONT_SHELF_H

#include <uv.h>

#include "front/keeper.h"
#include "front/slots.h"

struct moult_shelf;

struct moult_shelf *moult_shelf_open(uv_loop_t *loop, struct moult_slots *slots,
                                     struct moult_keeper *keeper);
/* `cleared` is told, from the loop, when revisions have lost their place on it. */
void moult_shelf_listen(struct moult_shelf *shelf, void (*cleared)(void *context), void *context);
void moult_shelf_close_handles(struct moult_shelf *shelf);
void moult_shelf_free(struct moult_shelf *shelf);

const struct moult_state_keeping *moult_shelf_keeping(const struct moult_shelf *shelf);
/* At the start: what a former run has left of the slot. Looks at the disk. */
void moult_shelf_restore(struct moult_shelf *shelf, struct moult_slot *slot);
/* Whenever the slot's models have changed, in the state or in life. */
void moult_shelf_settle(struct moult_shelf *shelf, struct moult_slot *slot);

/* Leases. Each of these changes the state in memory, and moult_shelf_save() brings it to the
 * disk. */

/* A lease of that generation's model for `seconds` from now, or NULL: too many. */
const struct moult_state_lease *moult_shelf_lease(struct moult_shelf *shelf,
                                                  const struct moult_generation *generation,
                                                  uint64_t seconds, struct moult_error *error);
/* It ends that many seconds from now, which may be earlier than before. NULL: there is no such. */
const struct moult_state_lease *moult_shelf_renew(struct moult_shelf *shelf, const char *id,
                                                  uint64_t seconds);
/* Ends it; *lease is what it was. False: there is no such. */
bool moult_shelf_end_lease(struct moult_shelf *shelf, const char *id,
                           struct moult_state_lease *lease);
/* The lease is again what it was before a change that could not be saved: gone, where `expires` is
 * 0. */
void moult_shelf_restore_lease(struct moult_shelf *shelf, const struct moult_state_lease *lease);
const struct moult_state_lease *moult_shelf_find_lease(const struct moult_shelf *shelf,
                                                       const char *id);
/* Oldest first; NULL behind the last. */
const struct moult_state_lease *moult_shelf_lease_at(const struct moult_shelf *shelf,
                                                     unsigned index);
void moult_shelf_save(struct moult_shelf *shelf, moult_keeper_listener listener, void *context);

#endif
