/* What became of the updates of a slot: an entry each, as state.json keeps it and as GET
 * /update_model shows it, which is the same:
 *
 *     {"id": 12, "generation": 7, "result": "live", "reason": "", "asked_by": "person",
 *      "rollback": false, "at": seconds since the epoch, "seconds": 2.31,
 *      "revision": 64 hex digits, "phases": {"fetching": 0.42, "loading": 1.63, …},
 *      "fetched_bytes": 90868376, "documents_embedded": 50000,
 *      "memory": {"candidate_bytes": 118000000, "both_bytes": 239000000},
 *      "latency": {"p99_before_ms": 3.1, "p99_during_ms": 4.0},
 *      "report": as report.h has it}
 *
 * Only the first three, `reason` and `at` are always there: what was not measured is left out, and
 * so it is in states that an older moult has written. */
#ifndef MOULT_FRONT_HISTORY_H
#define MOULT_FRONT_HISTORY_H

#include <jansson.h>

#include "base/hash.h"
#include "front/update.h"

/* What an update took. 0: it was not measured, or there was too little to measure. */
struct moult_update_figures {
    double seconds;                        /* From the order to the end. */
    double phase_seconds[MOULT_PHASES];
    uint64_t fetched_bytes;
    uint64_t documents_embedded;           /* For it. */
    uint64_t candidate_bytes;              /* Most that its worker had resident. */
    uint64_t both_bytes;                   /* That, and what the current one had resident then. */
    double p99_before_ms, p99_during_ms;   /* Of requests of one text: latency.h. */
};

struct moult_state_event {
    uint64_t id;
    uint64_t generation;                   /* 0: none came of it. */
    enum moult_update_status result;
    char *reason;
    uint64_t at;                           /* When it ended: seconds since the epoch. */
    enum moult_update_asker asked_by;
    bool rollback;
    char revision[MOULT_SHA256_HEX];       /* "": it came to none. */
    struct moult_update_figures figures;
    struct moult_report *report;           /* What changes by it; NULL: that is not known. Owned. */
};

/* A new reference. */
json_t *moult_event_json(const struct moult_state_event *event);
/* On success event->reason is malloc'ed, and so is the report where there is one; on failure both
 * are NULL. Members that are not known are passed over. */
int moult_event_read(const json_t *object, struct moult_state_event *event,
                     struct moult_error *error);

#endif
