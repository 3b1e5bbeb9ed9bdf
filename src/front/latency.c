#include "front/latency.h"

#include <math.h>
#include <string.h>

#define HALF_MINUTE_NS (30 * 1000000000ull)
#define BUCKETS_PER_OCTAVE 16
/* With fewer, one request would be the percentile. */
#define REQUESTS_MIN 100

/* Histograms. */

static unsigned bucket_of(uint64_t ns) {
    double octaves = log2((double)ns / 1000.0);
    int bucket = ns > 1000 ? (int)(octaves * BUCKETS_PER_OCTAVE) : 0;
    return bucket < MOULT_LATENCY_BUCKETS ? (unsigned)bucket : MOULT_LATENCY_BUCKETS - 1;
}

/* The middle of it. */
static double bucket_ms(unsigned bucket) {
    return exp2(((double)bucket + 0.5) / BUCKETS_PER_OCTAVE) / 1000.0;
}

static void add(struct moult_histogram *to, const struct moult_histogram *from) {
    to->total += from->total;
    for (unsigned i = 0; i < MOULT_LATENCY_BUCKETS; i++)
        to->counts[i] += from->counts[i];
}

static double p99_ms(const struct moult_histogram *histogram) {
    if (histogram->total < REQUESTS_MIN)
        return 0;
    uint64_t slower = histogram->total / 100;
    unsigned at = MOULT_LATENCY_BUCKETS - 1;
    for (uint64_t seen = histogram->counts[at]; seen <= slower && at > 0;)
        seen += histogram->counts[--at];
    return bucket_ms(at);
}

/* The two states. */

void moult_latency_begin(struct moult_latency *latency) {
    memset(&latency->during, 0, sizeof latency->during);
    latency->is_during = true;
}

void moult_latency_during(struct moult_latency *latency, bool is_during) {
    latency->is_during = is_during;
}

void moult_latency_undo(struct moult_latency *latency) {
    add(&latency->steady[0], &latency->during);
    latency->is_during = false;
}

void moult_latency_count(struct moult_latency *latency, uint64_t ns, uint64_t now_ns) {
    struct moult_histogram *histogram = &latency->during;
    if (!latency->is_during) {
        histogram = &latency->steady[0];
        if (now_ns - latency->steady_since_ns >= HALF_MINUTE_NS) {
            latency->steady[1] = latency->steady[0];
            memset(histogram, 0, sizeof *histogram);
            latency->steady_since_ns = now_ns;
        }
    }
    histogram->counts[bucket_of(ns)]++;
    histogram->total++;
}

double moult_latency_p99_before_ms(const struct moult_latency *latency) {
    struct moult_histogram both = latency->steady[0];
    add(&both, &latency->steady[1]);
    return p99_ms(&both);
}

double moult_latency_p99_during_ms(const struct moult_latency *latency) {
    return p99_ms(&latency->during);
}
