/* How much memory a worker may take: what the machine and the control groups have left, less a
 * reserve for those that serve. The worker computes what it will need from the model itself
 * (model/footprint.h), which the front does not read, refuses what is more than it was
 * promised, and keeps a limit; the front looks at it while it loads, for a worker that a
 * hostile model has taken over keeps no limits.
 *
 * What is counted of a worker, at the height of its loading: weights as packed, the tokenizer,
 * what each thread computes in, what loading needs beside them and frees, 12 MiB for the program
 * and the channel. docs/decisions has it against measurements. */
#ifndef MOULT_FRONT_MEMORY_H
#define MOULT_FRONT_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

/* What one more worker may take just now, at least 1; UINT64_MAX where nobody can say. */
uint64_t moult_memory_promise(void);

/* What the worker of a revision of so many bytes (update.h) takes at the least: its files in
 * memory, and the program. An F32 model takes 1.1 to 1.5 times its files; once a worker has
 * run, its report's memory_peak_bytes and memory_bytes are better. */
uint64_t moult_memory_least(uint64_t revision_bytes);

/* Looks at a worker that loads: true where it is to be killed, with the reason. */
bool moult_memory_exceeds(int pid, uint64_t promised_bytes, char *reason, unsigned long size);

#endif
