/* A trial of a slot's next model beside its present one: searches are asked of both, each in the
 * vectors that it has made, while clients are served. Those of a person's gate (judgements.h), and
 * those that clients asked with a min_score. */
#ifndef MOULT_FRONT_TRIAL_H
#define MOULT_FRONT_TRIAL_H

#include "front/asked.h"
#include "front/judgements.h"
#include "front/report.h"
#include "front/slots.h"

struct moult_desk;
struct moult_trial;

struct moult_trial_result {
    struct moult_gate_figures gate;      /* `least` is not set. */
    struct moult_unmatched unmatched;
    double seconds;
    const char *trouble;                 /* NULL, or a sentence: the gate's queries were not all
                                            asked, and `gate` says nothing. */
};
/* From the loop, once, never from within moult_trial_start(). */
typedef void (*moult_trial_listener)(void *context, uint64_t tag,
                                     const struct moult_trial_result *result);

/* Both indexes must have all documents. `judgements` and `asked` may be NULL; the former must
 * outlive the trial. The gate's queries take their time, those of clients a few seconds at most. */
struct moult_trial *moult_trial_start(struct moult_generation *old,
                                      struct moult_generation *candidate, struct moult_desk *desk,
                                      const struct moult_judgements *judgements,
                                      const struct moult_asked *asked,
                                      moult_trial_listener listener, void *context, uint64_t tag);
/* The listener will not be called. */
void moult_trial_cancel(struct moult_trial *trial);
/* Nobody has time for it any more: what was asked so far counts. */
void moult_trial_hurry(struct moult_trial *trial);
/* 0 to 1 */
double moult_trial_progress(const struct moult_trial *trial);

#endif
