/* A generation as the front sees it: a number, a fingerprint, one worker
 * process, and the jobs that it has. What is asked of one by name is here; how
 * it is started, watched, restarted and retired is below, for slots.c and
 * update*.c alone. */
#ifndef MOULT_FRONT_GENERATION_H
#define MOULT_FRONT_GENERATION_H

#include <stdint.h>

#include "ipc/channel.h"

struct moult_generation;

uint64_t moult_generation_number(const struct moult_generation *generation);
/* 64 hex digits; "" before the worker has reported. */
const char *moult_generation_fingerprint(const struct moult_generation *generation);
/* 64 hex digits of the installed revision. */
const char *moult_generation_revision(const struct moult_generation *generation);
/* "name@fp8", owned by the generation. */
const char *moult_generation_label(const struct moult_generation *generation);
const struct moult_worker_report *
moult_generation_report(const struct moult_generation *generation);
/* Seconds since the epoch when it first became ready. */
uint64_t moult_generation_ready_at(const struct moult_generation *generation);

/* Of its worker; 0 while it has none. */
int moult_generation_pid(const struct moult_generation *generation);

void moult_generation_hold(struct moult_generation *generation);
void moult_generation_drop(struct moult_generation *generation);

#endif
