#include "front/successor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

struct moult_successor {
    uv_process_t child;
    void (*ended)(void *context, const char *reason);
    void *context;
};

extern char **environ;

/* Ours, but for what was meant for this process alone; and that it takes over. */
static char **make_environment(void) {
    static const char *const own[] = {"LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=",
                                      "WATCHDOG_PID=", "MOULT_TAKE_OVER="};
    unsigned count = 0, kept = 0;
    while (environ[count] != NULL)
        count++;
    char **environment = moult_allocate(count + 2, sizeof *environment);
    for (unsigned i = 0; i < count; i++) {
        bool keep = true;
        for (unsigned o = 0; o < sizeof own / sizeof own[0]; o++)
            keep = keep && strncmp(environ[i], own[o], strlen(own[o])) != 0;
        if (keep)
            environment[kept++] = environ[i];
    }
    environment[kept++] = (char *)(uintptr_t)"MOULT_TAKE_OVER=1";
    environment[kept] = NULL;
    return environment;
}

static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

static void on_exit_of_child(uv_process_t *child, int64_t code, int signal_number) {
    struct moult_successor *successor = child->data;
    char reason[96];
    if (signal_number != 0)
        snprintf(reason, sizeof reason, "The new program was ended by signal %d (%s).",
                 signal_number, strsignal(signal_number));
    else
        snprintf(reason, sizeof reason, "The new program ended with exit code %d.", (int)code);
    successor->ended(successor->context, reason);
}

struct moult_successor *moult_successor_start(uv_loop_t *loop, char **command,
                                              void (*ended)(void *context, const char *reason),
                                              void *context, struct moult_error *error) {
    struct moult_successor *successor = moult_allocate(1, sizeof *successor);
    uv_stdio_container_t descriptors[STDERR_FILENO + 1];
    for (int fd = 0; fd <= STDERR_FILENO; fd++) {
        descriptors[fd].flags = UV_INHERIT_FD;
        descriptors[fd].data.fd = fd;
    }
    successor->child.data = successor;
    successor->ended = ended;
    successor->context = context;
    char **environment = make_environment();
    /* By its name, and not /proc/self/exe: that is where the new one has been put. */
    uv_process_options_t options = {.file = command[0],
                                    .args = command,
                                    .env = environment,
                                    .stdio = descriptors,
                                    .stdio_count = STDERR_FILENO + 1,
                                    .exit_cb = on_exit_of_child};
    int spawned = uv_spawn(loop, &successor->child, &options);
    free(environment);
    if (spawned == 0)
        return successor;
    moult_fail(error, MOULT_ERROR_SYSTEM, "%s cannot be started: %s.", command[0],
               uv_strerror(spawned));
    uv_close((uv_handle_t *)&successor->child, on_closed);
    return NULL;
}

void moult_successor_close(struct moult_successor *successor) {
    uv_close((uv_handle_t *)&successor->child, on_closed);
}
