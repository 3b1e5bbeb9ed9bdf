#include "front/metrics.h"

#include <inttypes.h>
#include <string.h>

#include "front/routes.h"
#include "front/slots.h"

/* Whatever the server answers; the last stands for all others. */
static const unsigned statuses[] = {200, 202, 204, 400, 401, 403, 404, 405, 409, 413, 415,
                                    422, 424, 429, 431, 500, 501, 503, 507, 0};
enum { STATUSES = sizeof statuses / sizeof statuses[0] };
_Static_assert(STATUSES <= MOULT_METRICS_STATUSES_MAX, "One counter for each.");

static const uint64_t bounds_us[MOULT_METRICS_BUCKETS - 1] = {
    500,    1000,   2500,    5000,    10000,   25000,   50000,
    100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000,
};

const char *const moult_search_mode_names[MOULT_SEARCH_MODES] = {
    [MOULT_SEARCH_VECTOR] = "vector",
    [MOULT_SEARCH_TEXT] = "text",
    [MOULT_SEARCH_HYBRID] = "hybrid",
};

static unsigned index_of(const struct moult_route *route) {
    unsigned index = route != NULL ? moult_routes_index(route) : MOULT_METRICS_ROUTES_MAX - 1;
    return index < MOULT_METRICS_ROUTES_MAX ? index : MOULT_METRICS_ROUTES_MAX - 1;
}

void moult_metrics_count_request(struct moult_metrics *metrics, const struct moult_route *route,
                                 unsigned status, uint64_t ns) {
    struct moult_metrics_route *counts = &metrics->routes[index_of(route)];
    unsigned at = 0, bucket = 0;
    while (at < STATUSES - 1 && statuses[at] != status)
        at++;
    while (bucket < MOULT_METRICS_BUCKETS - 1 && ns > bounds_us[bucket] * 1000)
        bucket++;
    counts->statuses[at]++;
    counts->buckets[bucket]++;
    counts->count++;
    counts->sum_ns += ns;
}

void moult_metrics_count_job(struct moult_metrics *metrics, const struct moult_job *job) {
    struct moult_metrics_slot *counts = &metrics->slots[moult_slot_index(job->slot)];
    counts->texts += job->count;
    counts->tokens += job->answer.tokens;
    counts->truncated += job->answer.truncated;
}

void moult_metrics_count_search(struct moult_metrics *metrics, enum moult_search_mode mode,
                                uint32_t queries) {
    metrics->queries[mode] += queries;
}

/* Writing. */

void moult_metrics_head(struct moult_buffer *out, const char *name, const char *type,
                        const char *help) {
    moult_buffer_format(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void moult_metrics_label(struct moult_buffer *out, const char *text) {
    moult_buffer_text(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '\n')
            moult_buffer_text(out, "\\n");
        else if (*text == '"' || *text == '\\')
            moult_buffer_format(out, "\\%c", *text);
        else
            moult_buffer_append(out, text, 1);
    }
    moult_buffer_text(out, "\"");
}

static const struct moult_route *route_at(unsigned index) {
    return index < MOULT_METRICS_ROUTES_MAX - 1 ? moult_routes_at(index) : NULL;
}

/* Paths that clients make up are one endpoint, "other": else they could fill the memory. */
static void write_labels(struct moult_buffer *out, unsigned index) {
    const struct moult_route *route = route_at(index);
    size_t size = route != NULL ? strlen(route->path) : 0;
    moult_buffer_format(out, "method=\"%s\",endpoint=\"%s%s\"",
                        route != NULL ? route->method : "other",
                        route != NULL ? route->path : "other",
                        size > 1 && route->path[size - 1] == '/' ? "{id}" : "");
}

static void write_statuses(struct moult_buffer *out, unsigned index,
                           const struct moult_metrics_route *counts) {
    for (unsigned i = 0; i < STATUSES; i++) {
        if (counts->statuses[i] == 0)
            continue;
        moult_buffer_text(out, "moult_http_requests_total{");
        write_labels(out, index);
        if (statuses[i] != 0)
            moult_buffer_format(out, ",status=\"%u\"} %" PRIu64 "\n", statuses[i],
                                counts->statuses[i]);
        else
            moult_buffer_format(out, ",status=\"other\"} %" PRIu64 "\n", counts->statuses[i]);
    }
}

static void write_histogram(struct moult_buffer *out, unsigned index,
                            const struct moult_metrics_route *counts) {
    const char *name = "moult_http_request_duration_seconds";
    uint64_t up_to = 0;
    for (unsigned i = 0; i < MOULT_METRICS_BUCKETS; i++) {
        up_to += counts->buckets[i];
        moult_buffer_format(out, "%s_bucket{", name);
        write_labels(out, index);
        if (i < MOULT_METRICS_BUCKETS - 1)
            moult_buffer_format(out, ",le=\"%g\"} %" PRIu64 "\n", (double)bounds_us[i] / 1e6,
                                up_to);
        else
            moult_buffer_format(out, ",le=\"+Inf\"} %" PRIu64 "\n", up_to);
    }
    moult_buffer_format(out, "%s_sum{", name);
    write_labels(out, index);
    moult_buffer_format(out, "} %.6f\n%s_count{", (double)counts->sum_ns / 1e9, name);
    write_labels(out, index);
    moult_buffer_format(out, "} %" PRIu64 "\n", counts->count);
}

void moult_metrics_write_requests(const struct moult_metrics *metrics, struct moult_buffer *out) {
    moult_metrics_head(out, "moult_http_requests_total", "counter", "Requests answered.");
    for (unsigned i = 0; i < MOULT_METRICS_ROUTES_MAX; i++)
        write_statuses(out, i, &metrics->routes[i]);
    moult_metrics_head(out, "moult_http_request_duration_seconds", "histogram",
                       "From a request's first line to its answer.");
    for (unsigned i = 0; i < MOULT_METRICS_ROUTES_MAX; i++)
        if (metrics->routes[i].count > 0)
            write_histogram(out, i, &metrics->routes[i]);
}
