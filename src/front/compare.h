/* The comparison of a slot's next model with its present one, over texts that were really asked:
 * both encode them while clients are served, and the figures are made on a pool thread. */
#ifndef MOULT_FRONT_COMPARE_H
#define MOULT_FRONT_COMPARE_H

#include "front/asked.h"
#include "front/report.h"
#include "front/slots.h"

struct moult_comparison;

/* From the loop, once, never from within moult_comparison_start(). The report is the caller's
 * for the time of the call. */
typedef void (*moult_comparison_listener)(void *context, uint64_t tag,
                                          const struct moult_report *report);

/* Both generations must be ready. It takes `seconds_max` at most; the texts that both have encoded
 * by then are what is compared. */
struct moult_comparison *moult_comparison_start(struct moult_generation *old,
                                                struct moult_generation *candidate,
                                                const struct moult_asked *asked,
                                                unsigned seconds_max,
                                                moult_comparison_listener listener, void *context,
                                                uint64_t tag);
/* The listener will not be called. */
void moult_comparison_cancel(struct moult_comparison *comparison);
/* Nobody has time for it any more: what is there is compared, and the listener called soon. */
void moult_comparison_hurry(struct moult_comparison *comparison);
/* 0 to 1 */
double moult_comparison_progress(const struct moult_comparison *comparison);

#endif
