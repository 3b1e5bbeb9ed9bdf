#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

static char process[48] = "moult";
static _Atomic int least_level = MOULT_LOG_INFO;

void moult_log_setup(const char *who, enum moult_log_level least) {
    /* gmtime_r() would otherwise read the zone file at the first line, which a
     * sandboxed worker cannot. */
    tzset();
    snprintf(process, sizeof process, "%s", who);
    least_level = (int)least;
}

/* A message quotes names that came from outside: nothing in it may start a new
 * line or drive a terminal. */
static void mask_controls(char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            text[i] = ' ';
}

static size_t format_head(char *line, size_t capacity, enum moult_log_level level) {
    static const char *const names[] = {"debug", "info", "warning", "error"};
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t size = strftime(line, capacity, "%Y-%m-%dT%H:%M:%S", &utc);
    int more = snprintf(line + size, capacity - size, ".%03ldZ %-7s %s: ",
                        now.tv_nsec / 1000000, names[level], process);
    return size + (more > 0 ? (size_t)more : 0);
}

void moult_log(enum moult_log_level level, const char *format, ...) {
    if ((int)level < least_level)
        return;
    int errno_before = errno;
    char line[LINE_BYTES_MAX];
    size_t head = format_head(line, sizeof line - 1, level);
    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + head, sizeof line - 1 - head, format, arguments);
    va_end(arguments);
    size_t size = head;
    if (wanted > 0) {
        size_t room = sizeof line - 2 - head;
        size += (size_t)wanted < room ? (size_t)wanted : room;
    }
    mask_controls(line + head, size - head);
    line[size++] = '\n';
    /* One write per line: lines of several processes on one terminal stay whole. */
    ssize_t written = write(STDERR_FILENO, line, size);
    (void)written;
    errno = errno_before;
}
