/* The two futex calls, on a word that threads share, or two processes. */
#ifndef MOULT_BASE_FUTEX_H
#define MOULT_BASE_FUTEX_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Returns at once where *word is no longer `seen`, and may return without reason. A
 * word in a read-only mapping will do. */
static inline void moult_futex_wait(const _Atomic uint32_t *word, uint32_t seen) {
    syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static inline void moult_futex_wake(const _Atomic uint32_t *word, int threads) {
    syscall(SYS_futex, word, FUTEX_WAKE, threads, NULL, NULL, 0);
}

#endif
