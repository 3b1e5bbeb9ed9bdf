#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/machine.h"

enum { BAR_COLUMNS = 30 };

/* Faster than this nobody sees, and slow terminals hold up what they show. */
#define REDRAW_NS (100u * 1000u * 1000u)

void moult_progress_begin(struct moult_progress *progress, const char *what) {
    *progress = (struct moult_progress){
        .shown = isatty(STDERR_FILENO) && !isatty(STDOUT_FILENO),
        .what = what,
        .began_ns = moult_clock_ns(),
    };
}

void moult_progress_draw(struct moult_progress *progress, double done, const char *note) {
    static const char full[] = "##############################";
    uint64_t now = moult_clock_ns();

    if (!progress->shown || now - progress->drawn_ns < REDRAW_NS)
        return;
    progress->drawn_ns = now;
    if (done < 0) {
        fprintf(stderr, "\r\033[K%s  %s", progress->what, note);
    } else {
        int filled = (int)(done * BAR_COLUMNS);

        if (filled > BAR_COLUMNS)
            filled = BAR_COLUMNS;
        fprintf(stderr, "\r\033[K%s [%-*.*s] %3.0f %%  %s", progress->what, BAR_COLUMNS, filled,
                full, done * 100, note);
    }
    fflush(stderr);
}

void moult_progress_end(struct moult_progress *progress) {
    if (progress->shown && progress->drawn_ns != 0)
        fputs("\r\033[K", stderr);
}
