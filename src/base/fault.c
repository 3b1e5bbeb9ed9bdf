#include "base/fault.h"

#ifdef MOULT_FAULTS

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/memory.h"

/* "crash", … at the start of `action`, which need not end there. */
static int says(const char *action, const char *word) {
    return strncmp(action, word, strlen(word)) == 0;
}

/* Takes that many MiB and holds them for a second. Shared memory is what RLIMIT_DATA does not
 * count. */
static void grow(const char *mebibytes, int kind) {
    for (long left = strtol(mebibytes, NULL, 10); left > 0; left--) {
        char *memory = kind == MAP_PRIVATE ? moult_allocate(1, MOULT_MIB)
                                           : mmap(NULL, MOULT_MIB, PROT_READ | PROT_WRITE,
                                                  kind | MAP_ANONYMOUS, -1, 0);
        if (memory != MAP_FAILED)
            memset(memory, 1, MOULT_MIB);
        nanosleep(&(struct timespec){0, 4000000}, NULL);
    }
    nanosleep(&(struct timespec){1, 0}, NULL);
}

static int holds(void) {
    char path[4096];
    snprintf(path, sizeof(path), "%s.hold", getenv("MOULT_FAULTS_FILE"));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

static void act(const char *action, const char *where) {
    moult_log_warning("An injected fault at %s.", where);
    if (says(action, "crash"))
        abort();
    if (says(action, "exit"))
        _exit(3);
    while (says(action, "hang"))
        pause();
    while (says(action, "hold") && holds())
        nanosleep(&(struct timespec){0, 2000000}, NULL);
    if (says(action, "grow:"))
        grow(action + strlen("grow:"), MAP_PRIVATE);
    if (says(action, "grow-unlimited:"))
        grow(action + strlen("grow-unlimited:"), MAP_SHARED);
    if (says(action, "sleep:")) {
        long milliseconds = strtol(action + strlen("sleep:"), NULL, 10);
        struct timespec time = {milliseconds / 1000, milliseconds % 1000 * 1000000};
        nanosleep(&time, NULL);
    }
}

static void note_reached(const char *file, const char *point) {
    char path[4096], line[80];
    snprintf(path, sizeof(path), "%s.reached", file);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return;
    int size = snprintf(line, sizeof(line), "%s\n", point);
    ssize_t written = write(fd, line, (size_t)size);
    (void)written;
    close(fd);
}

void moult_fault_point(const char *point) {
    const char *file = getenv("MOULT_FAULTS_FILE");
    int fd = file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    char line[256] = "";
    ssize_t size = read(fd, line, sizeof(line) - 1);
    close(fd);
    size_t length = strlen(point);
    if (size <= 0 || strncmp(line, point, length) != 0 || line[length] != ' ')
        return;
    const char *action = line + length + 1;
    note_reached(file, point);
    if (says(action, "once:")) {
        close(open(file, O_WRONLY | O_TRUNC | O_CLOEXEC));   /* truncate() is not in the sandbox. */
        action += strlen("once:");
    }
    act(action, point);
}

void moult_fault_text(const char *text, size_t size) {
    static const char mark[] = "\x01moult-fault:";
    char action[32] = "";
    const char *at = memmem(text, size, mark, strlen(mark));
    if (!at)
        return;
    at += strlen(mark);
    size_t left = size - (size_t)(at - text);
    memcpy(action, at, left < sizeof(action) ? left : sizeof(action) - 1);
    if (getenv("MOULT_FAULTS_FILE"))
        note_reached(getenv("MOULT_FAULTS_FILE"), "text");
    act(action, "a text");
}

unsigned moult_fault_seconds(const char *name, unsigned preset) {
    char variable[64];
    snprintf(variable, sizeof(variable), "MOULT_FAULTS_%s_S", name);
    const char *value = getenv(variable);
    return value ? (unsigned)strtoul(value, NULL, 10) : preset;
}

#endif
