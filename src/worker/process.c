#include "worker/process.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
#define LOADING_NICE 10

void moult_process_settle(void)
{
    static const int ignored[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
        signal(ignored[i], SIG_IGN);
    prctl(PR_SET_NAME, "moult-worker");
    /* A core would hold texts of users, and take its time while requests wait. */
    setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
}

static int read_score(int *score)
{
    char text[16] = {0};
    int fd = open("/proc/self/oom_score_adj", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t size = read(fd, text, sizeof(text) - 1);
    close(fd);
    *score = (int)strtol(text, NULL, 10);
    return size > 0 ? 0 : -1;
}

static int write_score(int score)
{
    char text[16];
    int size = snprintf(text, sizeof(text), "%d", score);
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, text, (size_t)size);
    close(fd);
    return written == size ? 0 : -1;
}

int moult_process_expose_begin(void)
{
    int before;
    if (read_score(&before) != 0 || write_score(LOADING_OOM_SCORE) != 0)
        return INT_MIN;   /* No /proc: nothing to take back either. */
    return before;
}

void moult_process_expose_end(int before)
{
    if (before != INT_MIN && write_score(before) != 0)
        moult_log_warning("The out-of-memory score stays at %d: %s.", LOADING_OOM_SCORE,
                          strerror(errno));
}

void moult_thread_yield_always(void)
{
    struct sched_param none = {0};
    /* For Linux a thread is a process here: neither call touches the others. */
    setpriority(PRIO_PROCESS, 0, LOADING_NICE);
    sched_setscheduler(0, SCHED_BATCH, &none);
}
