/* What this process may use: the machine, cut down to its cpuset and cgroup. */
#ifndef MOULT_BASE_MACHINE_H
#define MOULT_BASE_MACHINE_H

#include <stddef.h>
#include <stdint.h>

/* Threads that can run at once: affinity mask and cpu.max (rounded up), at least 1. */
uint32_t moult_machine_threads(void);
/* The least of physical memory and memory.max and memory.high of every enclosing cgroup (v2
 * and v1). */
uint64_t moult_machine_memory_bytes(void);
/* What is left of it for a new allocation just now. */
uint64_t moult_machine_memory_free_bytes(void);
/* Resident bytes of a process (0 for this one), 0 when it is gone. */
uint64_t moult_machine_resident_bytes(int pid);
/* The most that it ever was. */
uint64_t moult_machine_peak_bytes(int pid);
/* Nanoseconds for which the threads of a process have run, and for which they wanted to
 * and somebody else did; 0 where the machine does not say, or it is gone. */
struct moult_process_times {
    uint64_t ran_ns, waited_ns;
};
void moult_machine_times(int pid, struct moult_process_times *times);
/* The model of CPU, as the machine calls it in `root`/proc/cpuinfo; "" where it does not. `root`
 * is "" but in tests. */
void moult_machine_cpu(const char *root, char *name, size_t capacity);
/* CLOCK_MONOTONIC. */
uint64_t moult_clock_ns(void);

/* What the cgroups say alone, read below `root`, which is "" but in tests:
 * `root`/proc/self/cgroup and mountinfo, and what they name. UINT64_MAX: no limit. */
struct moult_cgroup_limits {
    uint64_t milli_cpus;         /* Thousandths of a CPU. */
    uint64_t memory_bytes;
    uint64_t memory_free_bytes;  /* Page cache that can be dropped counts as free. */
};
void moult_cgroup_read(const char *root, struct moult_cgroup_limits *limits);
/* Of `cpus` threads, as many as the limits let run at once: fractions rounded up, at least 1. */
uint32_t moult_cgroup_threads(const struct moult_cgroup_limits *limits, uint32_t cpus);

#endif
