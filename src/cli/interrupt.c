#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile int came;

static void on_signal(int number) {
    came = number;
}

const volatile int *moult_interrupt_watch(void) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    return &came;
}

void moult_interrupt_end(void) {
    signal(came, SIG_DFL);
    raise(came);
}
