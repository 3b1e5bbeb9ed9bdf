/* A bar on standard error, where that is a terminal and standard output is not:
 * otherwise the calls do nothing. */
#ifndef MOULT_CLI_PROGRESS_H
#define MOULT_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct moult_progress {
    bool shown;
    const char *what;       /* "loading", "embedding" */
    uint64_t began_ns;
    uint64_t drawn_ns;
};

void moult_progress_begin(struct moult_progress *progress, const char *what);
/* `done` from 0 to 1, or negative where nobody knows; `note` stands behind the bar. */
void moult_progress_draw(struct moult_progress *progress, double done, const char *note);
/* Clears the line. */
void moult_progress_end(struct moult_progress *progress);

#endif
