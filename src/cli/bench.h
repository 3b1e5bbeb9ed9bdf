/* The passes that `moult bench` times: of one thread, of several that share one, of several that
 * have one each. */
#ifndef MOULT_CLI_BENCH_H
#define MOULT_CLI_BENCH_H

#include "model/model.h"

enum { MOULT_BENCH_TOKENS_MAX = 4096, MOULT_BENCH_SEQUENCES_MAX = 32 };

struct moult_bench_work {
    uint32_t ids[MOULT_BENCH_TOKENS_MAX], lengths[MOULT_BENCH_SEQUENCES_MAX];
    uint32_t count, tokens;
    double operations;                  /* Of its products with weights. */
};

struct moult_bench_times {
    double median_ms, least_ms;
};

/* NULL: there is no memory left. */
struct moult_encoder *moult_bench_encoder(const struct moult_model *model);

/* Passes of the calling thread; at least five, and for so long. */
struct moult_bench_times moult_bench_alone(const struct moult_model *model,
                                           struct moult_encoder *encoder,
                                           const struct moult_bench_work *work,
                                           uint32_t milliseconds);

/* Threads that share each pass (model/split.h), as a single text is shared. NULL: they or their
 * memory cannot be had. */
struct moult_bench_gang;
struct moult_bench_gang *moult_bench_gang_open(const struct moult_model *model, uint32_t threads);
void moult_bench_gang_close(struct moult_bench_gang *gang);
struct moult_bench_times moult_bench_shared(struct moult_bench_gang *gang,
                                            const struct moult_bench_work *work,
                                            uint32_t milliseconds);

/* Passes a second of that many threads, each with its own; 0: they could not be started. */
double moult_bench_crowd(const struct moult_model *model, const struct moult_bench_work *work,
                         uint32_t threads, uint32_t milliseconds);

#endif
