#include "worker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"

#define LOADING_OOM_SCORE 1000

void moult_process_settle(void) {
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "moult-worker");
    /* A core would hold texts of users, and take its time while requests wait. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static int write_score(int fd, int score) {
    char text[16];
    int size = snprintf(text, sizeof(text), "%d", score);
    return pwrite(fd, text, (size_t)size, 0) == size ? 0 : -1;
}

struct moult_exposure moult_process_expose(void) {
    char text[16] = "";
    struct moult_exposure exposure = {.fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC)};
    if (exposure.fd < 0)
        return exposure;
    if (pread(exposure.fd, text, sizeof(text) - 1, 0) > 0) {
        exposure.before = (int)strtol(text, NULL, 10);
        if (write_score(exposure.fd, LOADING_OOM_SCORE) == 0)
            return exposure;
    }
    close(exposure.fd);
    exposure.fd = -1;
    return exposure;
}

void moult_process_cover(struct moult_exposure *exposure) {
    if (exposure->fd < 0)
        return;
    if (write_score(exposure->fd, exposure->before) != 0)
        moult_log_warning("The out-of-memory score stays at %d: %s.", LOADING_OOM_SCORE,
                          strerror(errno));
    close(exposure->fd);
    exposure->fd = -1;
}

/* The limit counts what is asked for, touched or not: the stack of the loading thread, and what
 * the heap keeps in store. */
#define MEMORY_UNTOUCHED_BYTES (32 * MOULT_MIB)

/* What the limit counts, as it is now: of a sanitizer's shadow, terabytes; a limit below it would
 * refuse the next page. 0: nobody says. */
static uint64_t counted_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    if (file == NULL)
        return 0;
    if (fscanf(file, "%*u %*u %*u %*u %*u %llu", &pages) != 1)
        pages = 0;
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

void moult_process_limit_memory(uint64_t bytes, struct moult_memory_limit *limit) {
    struct rlimit now;
    *limit = (struct moult_memory_limit){0};
    bytes += MEMORY_UNTOUCHED_BYTES;
    if (getrlimit(RLIMIT_DATA, &now) != 0 || bytes >= now.rlim_cur || bytes <= counted_bytes())
        return;
    limit->before = now.rlim_cur;
    limit->most = now.rlim_max;
    now.rlim_cur = bytes;
    limit->set = setrlimit(RLIMIT_DATA, &now) == 0;
}

/* The soft limit alone was lowered, so the way back needs no privilege. */
void moult_process_unlimit_memory(struct moult_memory_limit *limit) {
    if (limit->set && setrlimit(RLIMIT_DATA, &(struct rlimit){limit->before, limit->most}) != 0)
        moult_log_warning("The limit of memory stays as it was while loading: %s.",
                          strerror(errno));
    limit->set = false;
}

/* For Linux a thread is a process here: neither call touches the others. */
void moult_thread_nice(unsigned nice) {
    struct sched_param none = {0};
    if (nice >= MOULT_NICE_IDLE)
        sched_setscheduler(0, SCHED_IDLE, &none);
    else
        setpriority(PRIO_PROCESS, 0, (int)nice);
}

void moult_thread_lower(enum moult_haste haste) {
    if (haste == MOULT_HASTE_NONE)
        moult_thread_nice(MOULT_NICE_IDLE);
    else if (haste == MOULT_HASTE_SOME)
        moult_thread_nice(MOULT_HASTE_NICE);
}
