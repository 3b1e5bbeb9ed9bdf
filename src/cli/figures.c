#include "cli/figures.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const char *moult_figure_count(char text[MOULT_FIGURE_BYTES], uint64_t count) {
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%" PRIu64, count);
    char *out = text;
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0)
            *out++ = ',';
        *out++ = digits[i];
    }
    *out = '\0';
    return text;
}

const char *moult_figure_documents(char text[MOULT_FIGURE_BYTES], uint64_t count) {
    moult_figure_count(text, count);
    size_t size = strlen(text);
    snprintf(text + size, MOULT_FIGURE_BYTES - size, count == 1 ? " document" : " documents");
    return text;
}

const char *moult_figure_seconds(char text[MOULT_FIGURE_BYTES], double seconds) {
    uint64_t whole = seconds < 1e15 ? (uint64_t)(seconds + 0.5) : (uint64_t)1e15;
    if (seconds < 9.95)
        snprintf(text, MOULT_FIGURE_BYTES, "%.1f s", seconds);
    else if (whole < 120)
        snprintf(text, MOULT_FIGURE_BYTES, "%" PRIu64 " s", whole);
    else if (whole < 7200)
        snprintf(text, MOULT_FIGURE_BYTES, "%" PRIu64 " min %" PRIu64 " s", whole / 60, whole % 60);
    else
        snprintf(text, MOULT_FIGURE_BYTES, "%" PRIu64 " h %" PRIu64 " min", whole / 3600,
                 whole / 60 % 60);
    return text;
}
