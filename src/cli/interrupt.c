#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>
#include <time.h>

#define TWICE_MS 500   /* timeout(1), and shells, may send one twice. */

static volatile int came;
static struct timespec came_at;

static void on_signal(int number) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (came == 0) {
        came_at = now;
        came = number;
    } else if ((now.tv_sec - came_at.tv_sec) * 1000 + (now.tv_nsec - came_at.tv_nsec) / 1000000 >
               TWICE_MS) {
        signal(number, SIG_DFL);
        raise(number);
    }
}

const volatile int *moult_interrupt_watch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = 0};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &came;
}

void moult_interrupt_end(void) {
    signal(came, SIG_DFL);
    raise(came);
}
