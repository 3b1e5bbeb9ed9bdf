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

void moult_thread_yield_always(void) {
    struct sched_param none = {0};
    /* For Linux a thread is a process here: neither call touches the others. */
    setpriority(PRIO_PROCESS, 0, MOULT_LOADING_NICE);
    sched_setscheduler(0, SCHED_BATCH, &none);
}
