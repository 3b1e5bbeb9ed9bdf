/* Misbehaviour on demand, for the tests: only in builds with -DMOULT_FAULTS. A
 * text that contains "\x01moult-fault:crash" or "…:hang" does what it says when
 * a thread comes to it; MOULT_FAULT=PHASE:ACTION in the environment does it when the
 * worker reaches PHASE ("loading", "checking", "ready"), where ACTION is "crash", "hang"
 * or "exit". */
#ifndef MOULT_WORKER_FAULTS_H
#define MOULT_WORKER_FAULTS_H

#include <stddef.h>

#ifdef MOULT_FAULTS

void moult_fault_at_text(const char *text, size_t size);
void moult_fault_at_phase(const char *phase);

#else

static inline void moult_fault_at_text(const char *text, size_t size)
{
    (void)text;
    (void)size;
}

static inline void moult_fault_at_phase(const char *phase)
{
    (void)phase;
}

#endif
#endif
