/* The process of one generation: `moult worker`, started by the front and by
 * nobody else. It loads and checks the model whose installed folder it is
 * given, reports, and then turns requests into answers until told to stop. */
#ifndef MOULT_WORKER_WORKER_H
#define MOULT_WORKER_WORKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "ipc/channel.h"

struct moult_worker_options {
    int channel_fds[MOULT_CHANNEL_FDS];
    int folder_fd;              /* The installed revision; closed once its files are open. */
    const char *label;          /* "minilm 7", for the log. */
    uint32_t threads;           /* 0: what the machine gives. */
    enum moult_precision precision;
    double fidelity;            /* Of that precision, where the front remembers it; 0: measure. */
    uint64_t memory_bytes;      /* To be kept to until it is ready; 0: no limit. */
    enum moult_haste haste;
    int rows_fds[MOULT_ROWS_FILES_MAX];   /* Files of vectors, its own among them. */
    unsigned rows_count;
    uint64_t row_count;         /* Rows that its index may come to have. */
    unsigned follow_nice;       /* Of threads for the BACKGROUND lane; 0: none, 20: SCHED_IDLE. */
};

/* Returns the exit code. */
int moult_worker_main(const struct moult_worker_options *options);

#endif
