/* See latency.h. */
#include "latency.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct mark {
    uint64_t at_ns;
    char name[WINDOW_NAME_MAX];
};

static struct sample *samples;
static uint64_t sample_count, sample_room;
static struct mark marks[MARKS_MAX];     /* In the order of their times. */
static unsigned mark_count;

/* Untouched pages cost nothing: there may be room for a day. */
void latency_open(uint64_t samples_max) {
    sample_room = samples_max;
    samples = mmap(NULL, samples_max * sizeof(*samples), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (samples == MAP_FAILED) {
        perror("load: mmap");
        exit(2);
    }
}

bool latency_keep(struct sample sample) {
    if (sample_count == sample_room)
        return false;
    samples[sample_count++] = sample;
    return true;
}

bool latency_mark(const char *name, uint64_t at_ns) {
    unsigned at = mark_count;

    if (mark_count == MARKS_MAX)
        return false;
    while (at && marks[at - 1].at_ns > at_ns)
        at--;
    memmove(&marks[at + 1], &marks[at], (mark_count++ - at) * sizeof(*marks));
    marks[at].at_ns = at_ns;
    snprintf(marks[at].name, sizeof(marks[at].name), "%s", name);
    return true;
}

/* The last mark at or before that time. */
static const struct mark *mark_of(uint64_t ns) {
    unsigned low = 0, high = mark_count;

    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (marks[middle].at_ns <= ns)
            low = middle;
        else
            high = middle;
    }
    return &marks[low];
}

static int compare(const void *one, const void *other) {
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;

    return (a > b) - (a < b);
}

/* `took` is sorted. The least value that a share of q of all does not exceed. */
static double quantile_ms(const uint64_t *took, uint64_t count, double q) {
    uint64_t rank = (uint64_t)(q * (double)count);

    return (double)took[rank < count ? rank : count - 1] * 1e-6;
}

static void print_window(FILE *out, const char *name, uint64_t end_ns, uint64_t *took) {
    uint64_t count = 0, failed = 0, ns = 0;
    unsigned windows = 0;

    for (unsigned i = 0; i < mark_count; i++)
        if (strcmp(marks[i].name, name) == 0) {
            ns += (i + 1 < mark_count ? marks[i + 1].at_ns : end_ns) - marks[i].at_ns;
            windows += !i || strcmp(marks[i - 1].name, name) != 0;
        }
    for (uint64_t i = 0; i < sample_count; i++)
        if (strcmp(mark_of(samples[i].due_ns)->name, name) == 0) {
            failed += !samples[i].generation;
            if (samples[i].generation)
                took[count++] = samples[i].took_ns;
        }
    qsort(took, count, sizeof(*took), compare);
    fprintf(out, "\"%s\":{\"windows\":%u,\"seconds\":%.3f,\"count\":%llu,\"failed\":%llu", name,
            windows, (double)ns * 1e-9, (unsigned long long)count, (unsigned long long)failed);
    if (count)
        fprintf(out, ",\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f",
                quantile_ms(took, count, 0.5), quantile_ms(took, count, 0.9),
                quantile_ms(took, count, 0.99), quantile_ms(took, count, 0.999),
                quantile_ms(took, count, 1));
    fprintf(out, "}");
}

static bool seen_before(unsigned mark) {
    for (unsigned i = 0; i < mark; i++)
        if (strcmp(marks[i].name, marks[mark].name) == 0)
            return true;
    return false;
}

void latency_print_windows(FILE *out, uint64_t end_ns) {
    uint64_t *took = malloc((sample_count + 1) * sizeof(*took));
    const char *comma = "";

    fprintf(out, "{");
    for (unsigned i = 0; i < mark_count; i++) {
        if (seen_before(i))
            continue;
        fprintf(out, "%s", comma);
        print_window(out, marks[i].name, end_ns, took);
        comma = ",";
    }
    fprintf(out, "}");
    free(took);
}

int latency_write(const char *file_name, uint64_t start_ns) {
    FILE *file = fopen(file_name, "w");

    if (!file)
        return -1;
    for (uint64_t i = 0; i < sample_count; i++)
        fprintf(file, "%.6f %.3f %.3f %u %s\n",
                ((double)samples[i].due_ns - (double)start_ns) * 1e-9,
                (double)samples[i].took_ns * 1e-6, (double)samples[i].lag_ns * 1e-6,
                samples[i].generation, mark_of(samples[i].due_ns)->name);
    return fclose(file);
}

double latency_lag_ms(double q) {
    uint64_t *lags = malloc((sample_count + 1) * sizeof(*lags));
    double ms;

    for (uint64_t i = 0; i < sample_count; i++)
        lags[i] = samples[i].lag_ns;
    qsort(lags, sample_count, sizeof(*lags), compare);
    ms = sample_count ? quantile_ms(lags, sample_count, q) : 0;
    free(lags);
    return ms;
}
