/* Newer models by themselves: looks at each slot's source every --update-every, and orders an
 * update where there is something else than before. */
#ifndef MOULT_FRONT_POLL_H
#define MOULT_FRONT_POLL_H

#include <jansson.h>
#include <uv.h>

#include "front/keeper.h"
#include "front/update.h"

struct moult_poll;

/* Begins to look at all slots that there are. */
struct moult_poll *moult_poll_open(uv_loop_t *loop, struct moult_slots *slots,
                                   struct moult_updates *updates, struct moult_keeper *keeper,
                                   uint32_t every_s);
/* "poll" of a slot in GET /update_model; a new reference. */
json_t *moult_poll_json(const struct moult_poll *poll, unsigned slot);
/* Looks no more; true once nothing is under way. */
bool moult_poll_stop(struct moult_poll *poll);
void moult_poll_close_handles(struct moult_poll *poll);
/* After the loop has run its last. */
void moult_poll_free(struct moult_poll *poll);

#endif
