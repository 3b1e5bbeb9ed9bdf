/* Threads that help with one piece of work after the other. Between pieces they
 * sleep; within one they share nothing but what the work itself shares, such as
 * a counter of items that are not yet taken. */
#ifndef MOULT_MODEL_TEAM_H
#define MOULT_MODEL_TEAM_H

#include <stdint.h>

struct moult_team;

/* `helpers` threads; fewer, down to none, where the machine refuses more. */
struct moult_team *moult_team_open(uint32_t helpers);
/* No work may be running. */
void moult_team_close(struct moult_team *team);

/* Runs work(context) here and on up to `helpers` idle threads at once, and returns
 * when all of those that began have ended. A helper that was busy until the end
 * never begins: work must be done when any one call of it returns. Several
 * threads may call this at once. */
void moult_team_run(struct moult_team *team, uint32_t helpers, void (*work)(void *context),
                    void *context);

#endif
