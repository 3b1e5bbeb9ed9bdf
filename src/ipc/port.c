#include "ipc/port.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/machine.h"
#include "base/memory.h"
#include "base/futex.h"
#include "ipc/layout.h"

struct moult_port {
    int wake_fd;
    const char *requests;
    char *answers;
    const struct moult_request_head *head;   /* The front's. */
    struct moult_answer_head *answer;        /* Ours. */
    uint32_t taken;                          /* Position in the submission ring. */
    pthread_mutex_t completing;              /* Guards the two below and the ring. */
    uint32_t completed;
    uint32_t rung;                           /* The `armed` that was last rung for. */
    pthread_mutex_t reporting;
    enum moult_worker_state state;           /* As last reported. */
};

/* Opening and closing. */

static void *map_area(int fd, size_t size, int protection, const char *what,
                      struct moult_error *error) {
    struct stat status;
    if (fstat(fd, &status) != 0) {
        moult_fail_errno(error, "Cannot look at the %s area", what);
        return NULL;
    }
    if ((uint64_t)status.st_size != size) {
        moult_fail(error, MOULT_ERROR_INVALID,
                   "The %s area has %lld bytes and not %zu: the front is another version of moult.",
                   what, (long long)status.st_size, size);
        return NULL;
    }
    void *bytes = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) {
        moult_fail_errno(error, "Cannot map the %s area", what);
        return NULL;
    }
    return bytes;
}

static int check_head(const struct moult_request_head *head, struct moult_error *error) {
    if (head->magic == MOULT_LAYOUT_MAGIC && head->version == MOULT_LAYOUT_VERSION &&
        head->slots == MOULT_CHANNEL_SLOTS && head->request_bytes == MOULT_REQUEST_AREA_BYTES &&
        head->answer_bytes == MOULT_ANSWER_AREA_BYTES &&
        strncmp(head->program, MOULT_VERSION, sizeof(head->program)) == 0)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "The front is another version of moult than this worker (%s).",
                      MOULT_VERSION);
}

struct moult_port *moult_port_open(const int fds[MOULT_CHANNEL_FDS], struct moult_error *error) {
    struct moult_port *port = moult_allocate(1, sizeof(*port));
    pthread_mutex_init(&port->completing, NULL);
    pthread_mutex_init(&port->reporting, NULL);
    port->wake_fd = fds[2];
    port->requests = map_area(fds[0], MOULT_REQUEST_AREA_BYTES, PROT_READ, "request", error);
    if (port->requests)
        port->answers = map_area(fds[1], MOULT_ANSWER_AREA_BYTES, PROT_READ | PROT_WRITE,
                                 "answer", error);
    close(fds[0]);
    close(fds[1]);
    port->head = (const struct moult_request_head *)port->requests;
    port->answer = (struct moult_answer_head *)port->answers;
    if (!port->answers || check_head(port->head, error) != 0) {
        moult_port_close(port);
        return NULL;
    }
    return port;
}

void moult_port_close(struct moult_port *port) {
    if (!port)
        return;
    if (port->requests)
        munmap((void *)(uintptr_t)port->requests, MOULT_REQUEST_AREA_BYTES);
    if (port->answers)
        munmap(port->answers, MOULT_ANSWER_AREA_BYTES);
    close(port->wake_fd);
    pthread_mutex_destroy(&port->completing);
    pthread_mutex_destroy(&port->reporting);
    free(port);
}

/* Requests. */

bool moult_port_take(struct moult_port *port, struct moult_port_request *request) {
    if (atomic_load(&port->head->tail) == port->taken)
        return false;
    uint32_t slot = port->head->ring[port->taken % MOULT_CHANNEL_SLOTS];
    MOULT_REQUIRE(slot < MOULT_CHANNEL_SLOTS);
    const struct moult_layout_slot *entry = &port->head->entries[slot];
    MOULT_REQUIRE(entry->message_offset >= MOULT_REQUEST_DATA &&
                  entry->message_offset <= MOULT_REQUEST_AREA_BYTES &&
                  entry->message_size <= MOULT_REQUEST_AREA_BYTES - entry->message_offset);
    MOULT_REQUIRE(entry->block_offset >= MOULT_ANSWER_DATA &&
                  entry->block_offset <= MOULT_ANSWER_AREA_BYTES &&
                  entry->block_capacity <= MOULT_ANSWER_AREA_BYTES - entry->block_offset);
    port->taken++;
    *request = (struct moult_port_request){
        .slot = (int)slot,
        .lane = entry->lane <= MOULT_LANE_BACKGROUND ? (enum moult_lane)entry->lane
                                                     : MOULT_LANE_BATCH,
        .message = port->requests + entry->message_offset,
        .size = entry->message_size,
        .block = port->answers + entry->block_offset,
        .capacity = entry->block_capacity,
        .submitted_ns = entry->submitted_ns,
    };
    return true;
}

uint32_t moult_port_bell(const struct moult_port *port) {
    return atomic_load(&port->head->bell);
}

void moult_port_wait(struct moult_port *port, uint32_t seen) {
    atomic_fetch_add(&port->answer->sleepers, 1);
    moult_futex_wait(&port->head->bell, seen);
    atomic_fetch_sub(&port->answer->sleepers, 1);
}

uint32_t moult_port_sleepers(const struct moult_port *port) {
    return atomic_load(&port->answer->sleepers);
}

void moult_port_wake_others(struct moult_port *port, uint32_t threads) {
    if (moult_port_sleepers(port) > 0)
        moult_futex_wake(&port->head->bell, (int)threads);
}

bool moult_port_exit_asked(const struct moult_port *port) {
    return atomic_load(&port->head->exit_asked) != 0;
}

/* Answers. */

static void wake_front(struct moult_port *port) {
    uint64_t one = 1;
    ssize_t size = write(port->wake_fd, &one, sizeof(one));
    (void)size;   /* It can only fail when 2^64 - 2 wake-ups are pending. */
}

void moult_port_started(struct moult_port *port, int slot) {
    atomic_store_explicit(&port->answer->started[slot], port->head->entries[slot].use,
                          memory_order_relaxed);
}

void moult_port_complete(struct moult_port *port, const int *slots, unsigned count) {
    if (count == 0)
        return;
    pthread_mutex_lock(&port->completing);
    for (unsigned i = 0; i < count; i++)
        atomic_store_explicit(&port->answer->ring[(port->completed + i) % MOULT_CHANNEL_SLOTS],
                              (uint32_t)slots[i], memory_order_relaxed);
    port->completed += count;
    atomic_store(&port->answer->tail, port->completed);
    uint32_t armed = atomic_load(&port->head->armed);
    bool ring = armed != port->rung;
    port->rung = armed;
    pthread_mutex_unlock(&port->completing);
    if (ring)
        wake_front(port);
}

void moult_port_report(struct moult_port *port, const struct moult_worker_report *report) {
    struct moult_answer_head *answer = port->answer;
    uint64_t words[MOULT_REPORT_WORDS] = {0};
    memcpy(words, report, sizeof(*report));

    pthread_mutex_lock(&port->reporting);
    uint32_t turn = atomic_load_explicit(&answer->report_turn, memory_order_relaxed);
    /* Who sees one of the new words sees the odd turn as well. */
    atomic_store_explicit(&answer->report_turn, turn + 1, memory_order_relaxed);
    for (size_t i = 0; i < MOULT_REPORT_WORDS; i++)
        atomic_store_explicit(&answer->report[i], words[i], memory_order_release);
    atomic_store_explicit(&answer->report_turn, turn + 2, memory_order_release);
    bool changed = report->state != port->state;
    port->state = report->state;
    pthread_mutex_unlock(&port->reporting);

    moult_port_advance(port);
    if (changed)
        wake_front(port);
}

void moult_port_advance(struct moult_port *port) {
    atomic_fetch_add_explicit(&port->answer->progress, 1, memory_order_relaxed);
}
