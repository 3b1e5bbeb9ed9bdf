#include "front/memory.h"

#include <stdio.h>

#include "base/limits.h"
#include "base/machine.h"

/* Requests in flight, the answers of the serving worker, page tables, what the kernel counts and
 * we do not. A thirty-second part of all there is, within bounds. */
#define RESERVE_BYTES_MIN (16 * MOULT_MIB)
#define RESERVE_BYTES_MAX (64 * MOULT_MIB)
#define RESERVE_SHARE 32

#define WORKER_BYTES (12 * MOULT_MIB)

static uint64_t reserve_bytes(void) {
    uint64_t bytes = moult_machine_memory_bytes() / RESERVE_SHARE;
    if (bytes < RESERVE_BYTES_MIN)
        return RESERVE_BYTES_MIN;
    return bytes < RESERVE_BYTES_MAX ? bytes : RESERVE_BYTES_MAX;
}

uint64_t moult_memory_promise(void) {
    uint64_t free_bytes = moult_machine_memory_free_bytes();
    uint64_t reserve = reserve_bytes();
    if (free_bytes == UINT64_MAX)
        return UINT64_MAX;
    return free_bytes > reserve ? free_bytes - reserve : 1;
}

uint64_t moult_memory_least(uint64_t revision_bytes) {
    return revision_bytes + WORKER_BYTES;
}

bool moult_memory_exceeds(int pid, uint64_t promised_bytes, char *reason, unsigned long size) {
    uint64_t resident = moult_machine_resident_bytes(pid);
    if (promised_bytes == 0 || resident <= promised_bytes)
        return false;
    snprintf(reason, size,
             "Its worker took %llu MiB of memory while it loaded, where %llu MiB were free.",
             (unsigned long long)(resident / MOULT_MIB),
             (unsigned long long)(promised_bytes / MOULT_MIB));
    return true;
}
