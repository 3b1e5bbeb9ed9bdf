/* When each request was due and how long its answer took, kept whole, and the
 * quantiles of those that were due in windows of a name.
 *
 * A window lasts from its mark to the next one. Windows of one name are pooled,
 * and a mark may come later than the time that it says: windows are told apart
 * when they are asked for, not when an answer comes. */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum { WINDOW_NAME_MAX = 32, MARKS_MAX = 65536 };

/* Times are nanoseconds of CLOCK_MONOTONIC. */
struct sample {
    uint64_t due_ns;
    uint64_t took_ns;            /* From due_ns to the last byte of the answer. */
    uint32_t lag_ns;             /* How late it was sent although a connection was free. */
    uint32_t generation;         /* 0: it failed. */
};

/* Room for so many; ends the program where there is no memory for them. */
void latency_open(uint64_t samples_max);
/* False: there is no room left. */
bool latency_keep(struct sample sample);
/* From `at_ns` on, what is due belongs to windows of that name. False: too many. */
bool latency_mark(const char *name, uint64_t at_ns);
/* {"NAME":{"windows","seconds","count","failed","p50",…,"max"},…}, times in milliseconds. */
void latency_print_windows(FILE *out, uint64_t end_ns);
/* A line per answer: seconds since `start_ns`, milliseconds, lag, generation, window. */
int latency_write(const char *file_name, uint64_t start_ns);
/* The quantile q of how late requests were sent, in milliseconds. */
double latency_lag_ms(double q);

#endif
