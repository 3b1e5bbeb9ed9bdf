/* Misbehaviour on demand, for the tests: only in builds with -DMOULT_FAULTS, which
 * `make` never makes build/moult with.
 *
 * A fault point is a place with a name. Each time one is passed, the file that
 * MOULT_FAULTS_FILE names is read; where it says "POINT ACTION", this point is
 * noted in that file's name with ".reached", and the action is done: "crash",
 * "exit", "hang", "hold", which lasts as long as there is a file of that name with
 * ".hold", "sleep:MILLISECONDS", "grow:MIB", or "grow-unlimited:MIB", which no
 * limit of the process counts. A text that contains "\x01moult-fault:ACTION" does
 * the same in the thread that comes to it, and is noted as "text". */
#ifndef MOULT_BASE_FAULT_H
#define MOULT_BASE_FAULT_H

#include <stddef.h>

#ifdef MOULT_FAULTS

void moult_fault_point(const char *point);
void moult_fault_text(const char *text, size_t size);
/* What MOULT_FAULTS_<name>_S in the environment says, or else `preset`. */
unsigned moult_fault_seconds(const char *name, unsigned preset);

#else

static inline void moult_fault_point(const char *point) {
    (void)point;
}

static inline void moult_fault_text(const char *text, size_t size) {
    (void)text;
    (void)size;
}

static inline unsigned moult_fault_seconds(const char *name, unsigned preset) {
    (void)name;
    return preset;
}

#endif
#endif
