/* What `moult pull` tells its front: one JSON object a line on its standard output.
 *
 *     {"done": bytes, "all": bytes}
 *     {"revision": 64 hex digits, "bytes": N, "fetched": N, "was_there": false,
 *      "validator": "…"}                                                              or
 *     {"error": sentence, "code": number of enum moult_error_code, …}                 is the last
 *
 * And where it was only to look, as source.h has it:
 *
 *     {"look": "unchanged", "validator": "…", "reason": "", "above": "/models", "paths": […]}   or
 *     {"error": …, "code": …, "pause_s": seconds, "above": …, "paths": […]}           is the only
 *
 * The child is ours, but it speaks with the outside, so its lines are read with care. */
#ifndef MOULT_FRONT_FETCH_LINE_H
#define MOULT_FRONT_FETCH_LINE_H

#include <stddef.h>

#include "base/error.h"
#include "source/source.h"

enum moult_fetch_line_kind {
    MOULT_FETCH_LINE_NOTHING,    /* Not to be understood. */
    MOULT_FETCH_LINE_ADVANCE,
    MOULT_FETCH_LINE_INSTALLED,
    MOULT_FETCH_LINE_LOOKED,
    MOULT_FETCH_LINE_FAILED
};

struct moult_fetch_line {
    enum moult_fetch_line_kind kind;
    double progress;                       /* ADVANCE: 0 to 1. */
    struct moult_installed installed;      /* INSTALLED */
    struct moult_look look;                /* LOOKED, and what is known after a failure. */
    struct moult_error error;              /* FAILED */
};

/* To be released in any case. */
void moult_fetch_line_parse(struct moult_fetch_line *line, const char *bytes, size_t size);
void moult_fetch_line_release(struct moult_fetch_line *line);

#endif
