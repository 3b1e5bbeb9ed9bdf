#include "worker/faults.h"

#ifdef MOULT_FAULTS

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

static void act(const char *action, const char *where)
{
    moult_log_warning("An injected fault at %s: %s.", where, action);
    if (strcmp(action, "crash") == 0)
        abort();
    if (strcmp(action, "exit") == 0)
        _exit(3);
    for (;;)
        pause();
}

void moult_fault_at_text(const char *text, size_t size)
{
    static const char *const actions[] = {"crash", "hang"};
    static const char mark[] = "\x01moult-fault:";
    const char *at = memmem(text, size, mark, strlen(mark));
    if (!at)
        return;
    at += strlen(mark);
    size_t left = size - (size_t)(at - text);
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++)
        if (left >= strlen(actions[i]) && memcmp(at, actions[i], strlen(actions[i])) == 0)
            act(actions[i], "a text");
}

void moult_fault_at_phase(const char *phase)
{
    const char *fault = getenv("MOULT_FAULT");
    size_t size = strlen(phase);
    if (fault && strncmp(fault, phase, size) == 0 && fault[size] == ':')
        act(fault + size + 1, phase);
}

#endif
