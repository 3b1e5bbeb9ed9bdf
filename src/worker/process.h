/* What a worker does to itself as a process: name, signals, no core, and how
 * readily the kernel may kill it. */
#ifndef MOULT_WORKER_PROCESS_H
#define MOULT_WORKER_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/channel.h"

/* Signals for the whole process group (Ctrl-C, a service manager's SIGTERM) are the
 * front's business: it lets the worker finish what was admitted, and asks it to
 * exit. So the worker ignores them; it dies with its front, or by SIGKILL. */
void moult_process_settle(void);

/* While a model loads beside one that serves, the worker offers itself first to
 * the out-of-memory killer. The file is opened at the beginning, not at the end:
 * by then a process may have given up its file system. */
struct moult_exposure {
    int fd;       /* -1: this machine does not let us. */
    int before;
};
struct moult_exposure moult_process_expose(void);
void moult_process_cover(struct moult_exposure *exposure);

/* While it loads, the process may hold so much memory of its own and no more: a request
 * beyond it fails, where the control group's limit would kill, and perhaps not this
 * process alone. Best effort: the front watches as well. */
struct moult_memory_limit {
    bool set;
    uint64_t before, most;
};
void moult_process_limit_memory(uint64_t bytes, struct moult_memory_limit *limit);
void moult_process_unlimit_memory(struct moult_memory_limit *limit);

/* The nice value of a thread that loads with some haste: a quarter to a third of a core where
 * all cores are busy. */
#define MOULT_HASTE_NICE 5

/* The calling thread, and all that it starts, give way to what serves. There is no
 * way back: without privilege nobody raises a priority. */
void moult_thread_lower(enum moult_haste haste);
/* The same by a nice value, or, with MOULT_NICE_IDLE, when nobody else wants the CPU. */
#define MOULT_NICE_IDLE 20u
void moult_thread_nice(unsigned nice);

#endif
