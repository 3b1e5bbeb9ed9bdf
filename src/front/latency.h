/* How long requests of one text take, from their admission to their vector: what an update adds to
 * it is the difference of two figures, the 99th percentile in the steady state before it and
 * while it was under way.
 *
 * A histogram whose buckets grow by a sixteenth of an octave: a percentile is right within 4.5 %.
 * The steady state is that of the last half minute or minute in which no update was under way. */
#ifndef MOULT_FRONT_LATENCY_H
#define MOULT_FRONT_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

enum { MOULT_LATENCY_BUCKETS = 16 * 27 };

struct moult_histogram {
    uint32_t total;
    uint32_t counts[MOULT_LATENCY_BUCKETS];   /* From 1 µs to 134 s. */
};

struct moult_latency {
    struct moult_histogram steady[2];   /* This half minute, and the one before it. */
    uint64_t steady_since_ns;
    struct moult_histogram during;      /* The update that is under way, or was last. */
    bool is_during;
};

/* An update is under way from now on: what came before is steady. */
void moult_latency_begin(struct moult_latency *latency);
/* It rests, or goes on. */
void moult_latency_during(struct moult_latency *latency, bool is_during);
/* It was nothing: what has been counted since its begin is steady, too. */
void moult_latency_undo(struct moult_latency *latency);
void moult_latency_count(struct moult_latency *latency, uint64_t ns, uint64_t now_ns);

/* 99th percentiles in milliseconds; 0 where there were too few requests to tell. */
double moult_latency_p99_before_ms(const struct moult_latency *latency);
double moult_latency_p99_during_ms(const struct moult_latency *latency);

#endif
