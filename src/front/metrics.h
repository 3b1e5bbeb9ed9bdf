/* What GET /metrics shows, as far as it must be counted while it happens. The rest is looked up
 * when somebody asks (api_metrics.c). One of these belongs to the server; only the loop's thread
 * touches it, and each count costs it some nanoseconds. */
#ifndef MOULT_FRONT_METRICS_H
#define MOULT_FRONT_METRICS_H

#include "base/buffer.h"
#include "base/limits.h"
#include "front/job.h"
#include "front/update.h"

struct moult_route;

#define MOULT_METRICS_ROUTES_MAX 64
#define MOULT_METRICS_STATUSES_MAX 20
#define MOULT_METRICS_BUCKETS 15      /* The last is what is slower than all bounds. */

enum moult_search_mode {
    MOULT_SEARCH_VECTOR,
    MOULT_SEARCH_TEXT,
    MOULT_SEARCH_HYBRID,
    MOULT_SEARCH_MODES
};
extern const char *const moult_search_mode_names[MOULT_SEARCH_MODES];

struct moult_metrics_route {
    uint64_t statuses[MOULT_METRICS_STATUSES_MAX];
    uint64_t buckets[MOULT_METRICS_BUCKETS];
    uint64_t count, sum_ns;
};

struct moult_metrics_slot {
    uint64_t texts, tokens, truncated;
    uint64_t updates[MOULT_UPDATE_CANCELLED + 1];
    uint64_t rollbacks;               /* Of the updates that went live. */
    bool is_updated;                  /* Now, */
    enum moult_update_phase phase;    /* and this far. */
};

struct moult_metrics {
    struct moult_metrics_route routes[MOULT_METRICS_ROUTES_MAX];   /* The last: nobody's paths. */
    struct moult_metrics_slot slots[MOULT_SLOTS_MAX];
    uint64_t queries[MOULT_SEARCH_MODES];
};

/* A request of this route (NULL: of none) is answered, so long after its first line had come. */
void moult_metrics_count_request(struct moult_metrics *metrics, const struct moult_route *route,
                                 unsigned status, uint64_t ns);
/* A job was answered with vectors. */
void moult_metrics_count_job(struct moult_metrics *metrics, const struct moult_job *job);
/* So many queries were answered with documents. */
void moult_metrics_count_search(struct moult_metrics *metrics, enum moult_search_mode mode,
                                uint32_t queries);

/* Requests by route, in Prometheus's text format. */
void moult_metrics_write_requests(const struct moult_metrics *metrics, struct moult_buffer *out);

/* The first lines of a family: `# HELP` and `# TYPE`. */
void moult_metrics_head(struct moult_buffer *out, const char *name, const char *type,
                        const char *help);
/* `text` as the value of a label, with what needs it escaped. */
void moult_metrics_label(struct moult_buffer *out, const char *text);

#endif
