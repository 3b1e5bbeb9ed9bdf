/* Both sides of a channel: the front's here, the worker's in threads or a child. */
#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ipc/layout.h"
#include "ipc/port.h"

static struct moult_channel *open_channel(void) {
    struct moult_error error = {.message = ""};
    struct moult_channel *channel = moult_channel_open(&error);
    if (!channel)
        fail_msg("%s", error.message);
    return channel;
}

/* A port on duplicates of the descriptors, as a worker would have them. */
static struct moult_port *open_port(struct moult_channel *channel) {
    int fds[MOULT_CHANNEL_FDS];
    struct moult_error error = {.message = ""};
    moult_channel_worker_fds(channel, fds);
    for (int i = 0; i < MOULT_CHANNEL_FDS; i++)
        fds[i] = dup(fds[i]);
    struct moult_port *port = moult_port_open(fds, &error);
    if (!port)
        fail_msg("%s", error.message);
    return port;
}

static bool is_rung(struct moult_channel *channel, int wait_ms) {
    struct pollfd poller = {.fd = moult_channel_wake_fd(channel), .events = POLLIN};
    return poll(&poller, 1, wait_ms) == 1;
}

static void a_request_goes_there_and_back(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_port_request request;
    const char *block;
    size_t capacity;
    bool broken;

    assert_false(moult_port_take(port, &request));
    int slot = moult_channel_submit(channel, MOULT_LANE_BATCH, "question", 8, 100);
    assert_in_range(slot, 0, MOULT_CHANNEL_SLOTS - 1);
    assert_int_equal(-1, moult_channel_completed(channel, &block, &capacity, &broken));
    assert_false(broken);
    assert_true(moult_port_take(port, &request));
    assert_false(moult_port_take(port, &request));
    assert_int_equal(slot, request.slot);
    assert_int_equal(MOULT_LANE_BATCH, request.lane);
    assert_int_equal(8, request.size);
    assert_memory_equal("question", request.message, 8);
    assert_int_equal(100, request.capacity);
    assert_true(request.submitted_ns > 0);

    assert_false(moult_channel_started(channel, slot));
    moult_port_started(port, slot);
    assert_true(moult_channel_started(channel, slot));

    memcpy(request.block, "answer", 7);
    assert_false(is_rung(channel, 0));
    moult_port_complete(port, &request.slot, 1);
    assert_true(is_rung(channel, 0));
    moult_channel_wake_clear(channel);
    assert_false(is_rung(channel, 0));
    assert_int_equal(slot, moult_channel_completed(channel, &block, &capacity, &broken));
    assert_string_equal("answer", block);
    assert_int_equal(100, capacity);
    moult_channel_release(channel, slot);

    /* The same slot again: what was begun then is not begun now. */
    assert_int_equal(slot, moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 100));
    assert_false(moult_channel_started(channel, slot));
    moult_port_close(port);
    moult_channel_close(channel);
}

/* While the front drains it is not rung; between two looks it is rung once. */
static void the_front_is_rung_once(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_port_request request[3];
    const char *block;
    size_t capacity;
    bool broken;
    for (int i = 0; i < 3; i++) {
        assert_true(moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 100) >= 0);
        assert_true(moult_port_take(port, &request[i]));
    }
    moult_port_complete(port, &request[0].slot, 1);
    moult_channel_wake_clear(channel);
    assert_int_equal(request[0].slot,
                     moult_channel_completed(channel, &block, &capacity, &broken));
    moult_port_complete(port, &request[1].slot, 1);
    assert_false(is_rung(channel, 0));
    assert_int_equal(request[1].slot,
                     moult_channel_completed(channel, &block, &capacity, &broken));
    assert_int_equal(-1, moult_channel_completed(channel, &block, &capacity, &broken));
    moult_port_complete(port, &request[2].slot, 1);
    assert_true(is_rung(channel, 0));
    moult_port_close(port);
    moult_channel_close(channel);
}

static void it_says_when_there_is_no_room(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_port_request request;
    const char *block;
    size_t capacity;
    bool broken;
    for (int i = 0; i < MOULT_CHANNEL_SLOTS; i++)
        assert_true(moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 1000) >= 0);
    assert_int_equal(-1, moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 1000));
    assert_true(moult_port_take(port, &request));
    moult_port_complete(port, &request.slot, 1);
    int slot = moult_channel_completed(channel, &block, &capacity, &broken);
    moult_channel_release(channel, slot);
    assert_int_equal(slot, moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 1000));

    assert_true(moult_channel_fits(1000, 1000));
    assert_true(moult_channel_fits(MOULT_REQUEST_AREA_BYTES - MOULT_REQUEST_DATA,
                                   MOULT_ANSWER_AREA_BYTES - MOULT_ANSWER_DATA));
    assert_false(moult_channel_fits(MOULT_REQUEST_AREA_BYTES, 1000));
    assert_false(moult_channel_fits(1000, MOULT_ANSWER_AREA_BYTES));
    assert_false(moult_channel_fits(SIZE_MAX, SIZE_MAX));
    moult_port_close(port);
    moult_channel_close(channel);
}

static uint64_t resident_bytes(struct moult_channel *channel) {
    int fds[MOULT_CHANNEL_FDS];
    struct stat requests, answers;
    moult_channel_worker_fds(channel, fds);
    assert_int_equal(0, fstat(fds[0], &requests));
    assert_int_equal(0, fstat(fds[1], &answers));
    return (uint64_t)(requests.st_blocks + answers.st_blocks) * 512;
}

static void memory_goes_back(void **state) {
    (void)state;
    enum { BIG = 10 << 20, SMALL = 40000, SMALLS = 200 };
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_port_request request;
    const char *block;
    size_t capacity;
    bool broken;
    char *message = malloc(BIG);
    memset(message, 1, BIG);
    for (int round = 0; round < 2; round++) {
        assert_true(moult_channel_submit(channel, MOULT_LANE_BATCH, message, BIG, BIG) >= 0);
        for (int i = 0; i < SMALLS; i++)
            assert_true(
                moult_channel_submit(channel, MOULT_LANE_BATCH, message, SMALL, SMALL) >= 0);
        while (moult_port_take(port, &request)) {
            memset(request.block, 2, request.capacity);
            moult_port_complete(port, &request.slot, 1);
        }
        assert_true(resident_bytes(channel) > 2 * (uint64_t)BIG + 2 * SMALL * SMALLS);
        int slot;
        while ((slot = moult_channel_completed(channel, &block, &capacity, &broken)) >= 0)
            moult_channel_release(channel, slot);
        assert_true(resident_bytes(channel) < 3 * MOULT_MIB);
    }
    free(message);
    moult_port_close(port);
    moult_channel_close(channel);
}

/* What a worker's descriptors do not allow. */
static void the_worker_cannot_write_requests(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    int fds[MOULT_CHANNEL_FDS];
    moult_channel_worker_fds(channel, fds);
    assert_ptr_equal(MAP_FAILED, mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0));
    void *readable = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fds[0], 0);
    assert_ptr_not_equal(MAP_FAILED, readable);
    assert_int_equal(-1, mprotect(readable, 4096, PROT_READ | PROT_WRITE));
    assert_int_equal(-1, pwrite(fds[0], "x", 1, 0));
    assert_int_equal(-1, fallocate(fds[0], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(-1, ftruncate(fds[i], 4096));
        assert_int_equal(-1, ftruncate(fds[i], 1l << 30));
        assert_int_equal(-1, fcntl(fds[i], F_ADD_SEALS, F_SEAL_WRITE));
    }
    munmap(readable, 4096);
    moult_channel_close(channel);
}

static void another_front_is_refused(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    int fds[MOULT_CHANNEL_FDS], other[MOULT_CHANNEL_FDS];
    struct moult_error error;
    moult_channel_worker_fds(channel, fds);

    int empty = memfd_create("empty", MFD_CLOEXEC);
    assert_int_equal(0, ftruncate(empty, (off_t)MOULT_REQUEST_AREA_BYTES));
    for (int i = 0; i < MOULT_CHANNEL_FDS; i++)
        other[i] = dup(i == 0 ? empty : fds[i]);
    assert_null(moult_port_open(other, &error));
    assert_non_null(strstr(error.message, "another version"));

    assert_int_equal(0, ftruncate(empty, 4096));
    for (int i = 0; i < MOULT_CHANNEL_FDS; i++)
        other[i] = dup(i == 0 ? empty : fds[i]);
    assert_null(moult_port_open(other, &error));
    assert_non_null(strstr(error.message, "4096"));
    close(empty);
    moult_channel_close(channel);
}

static const struct moult_worker_report good = {
    .state = MOULT_WORKER_READY,
    .load_progress = 1,
    .fingerprint = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    .architecture = "bert",
    .pooling = "mean",
    .kernels = "avx2",
    .precision = "f32",
    .normalized = true,
    .dimensions = 384,
    .tokens_max = 256,
    .vocabulary_size = 30522,
    .layers = 6,
    .threads = 2,
};

static void a_report_arrives(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_worker_report report = good, seen;
    moult_channel_report(channel, &seen);
    assert_int_equal(MOULT_WORKER_STARTING, seen.state);

    report.state = MOULT_WORKER_LOADING;
    uint64_t progress = moult_channel_progress(channel);
    moult_port_report(port, &report);
    assert_true(moult_channel_progress(channel) > progress);
    assert_true(is_rung(channel, 0));
    moult_channel_wake_clear(channel);
    moult_port_report(port, &report);
    assert_false(is_rung(channel, 0));
    moult_port_report(port, &good);
    assert_true(is_rung(channel, 0));
    moult_channel_report(channel, &seen);
    assert_memory_equal(&good, &seen, sizeof(seen));
    moult_port_close(port);
    moult_channel_close(channel);
}

static void expect_refused(struct moult_worker_report report) {
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_worker_report seen;
    moult_port_report(port, &report);
    moult_channel_report(channel, &seen);
    assert_int_equal(MOULT_WORKER_FAILED, seen.state);
    assert_true(strlen(seen.failure) > 0);
    moult_port_close(port);
    moult_channel_close(channel);
}

static void a_strange_report_is_a_failure(void **state) {
    (void)state;
    struct moult_worker_report report = good;
    report.dimensions = UINT32_MAX;
    expect_refused(report);
    report = good;
    report.tokens_max = 0;
    expect_refused(report);
    report = good;
    report.fingerprint[5] = 'X';
    expect_refused(report);
    report = good;
    report.fingerprint[10] = '\0';
    expect_refused(report);
    report = good;
    report.state = (enum moult_worker_state)77;
    expect_refused(report);
}

static void strings_and_numbers_are_cleaned(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_worker_report report = good, seen;
    report.state = MOULT_WORKER_FAILED;
    memset(report.failure, 'x', sizeof(report.failure));
    report.failure[1] = '\x1b';
    memset(report.kernels, 'y', sizeof(report.kernels));
    memset(&report.normalized, 0x55, 1);
    report.load_progress = NAN;
    moult_port_report(port, &report);
    moult_channel_report(channel, &seen);
    assert_int_equal(sizeof(seen.failure) - 1, strlen(seen.failure));
    assert_memory_equal("x?x", seen.failure, 3);
    assert_int_equal(sizeof(seen.kernels) - 1, strlen(seen.kernels));
    assert_true(seen.normalized == true);
    assert_true(seen.load_progress >= 0 && seen.load_progress <= 1);
    moult_port_close(port);
    moult_channel_close(channel);
}

/* A worker that never finishes writing: the front keeps what it had, and does not hang. */
static void a_torn_report_is_not_taken(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct moult_port *port = open_port(channel);
    struct moult_worker_report seen;
    int fds[MOULT_CHANNEL_FDS];
    moult_port_report(port, &good);
    moult_channel_report(channel, &seen);
    moult_channel_worker_fds(channel, fds);
    struct moult_answer_head *head =
        mmap(NULL, MOULT_ANSWER_DATA, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
    assert_ptr_not_equal(MAP_FAILED, head);
    atomic_fetch_add(&head->report_turn, 1);
    atomic_store(&head->report[0], UINT64_MAX);
    moult_channel_report(channel, &seen);
    assert_memory_equal(&good, &seen, sizeof(seen));
    munmap(head, MOULT_ANSWER_DATA);
    moult_port_close(port);
    moult_channel_close(channel);
}

/* Each way of naming a slot that is not out must break the channel, not the front. */
static void a_hostile_ring_is_broken(void **state) {
    (void)state;
    const int strange[] = {5, -1, MOULT_CHANNEL_SLOTS, 1 << 30};
    for (size_t i = 0; i < sizeof(strange) / sizeof(strange[0]) + 2; i++) {
        struct moult_channel *channel = open_channel();
        struct moult_port *port = open_port(channel);
        const char *block;
        size_t capacity;
        bool broken;
        int slot = moult_channel_submit(channel, MOULT_LANE_SINGLE, "q", 1, 100);
        assert_int_equal(0, slot);
        if (i < sizeof(strange) / sizeof(strange[0])) {
            moult_port_complete(port, &strange[i], 1);
        } else if (i % 2 == 0) {   /* Twice. */
            moult_port_complete(port, &slot, 1);
            moult_port_complete(port, &slot, 1);
            assert_int_equal(slot, moult_channel_completed(channel, &block, &capacity, &broken));
        } else {                   /* A tail beyond all slots. */
            int fds[MOULT_CHANNEL_FDS];
            moult_channel_worker_fds(channel, fds);
            struct moult_answer_head *head =
                mmap(NULL, MOULT_ANSWER_DATA, PROT_READ | PROT_WRITE, MAP_SHARED, fds[1], 0);
            assert_ptr_not_equal(MAP_FAILED, head);
            atomic_store(&head->tail, MOULT_CHANNEL_SLOTS + 1);
            munmap(head, MOULT_ANSWER_DATA);
        }
        assert_int_equal(-1, moult_channel_completed(channel, &block, &capacity, &broken));
        assert_true(broken);
        moult_port_close(port);
        moult_channel_close(channel);
    }
}

/* Many threads take, wait and complete while the front submits in bursts: a lost
 * wake-up on either side hangs the test. */

enum { ECHO_THREADS = 4, ECHO_REQUESTS = 200000, ECHO_BYTES = 300 };

struct echo {
    struct moult_port *port;
    pthread_mutex_t lock;
    unsigned count;
};

static bool echo_take(struct echo *echo, struct moult_port_request *request) {
    pthread_mutex_lock(&echo->lock);
    bool taken = moult_port_take(echo->port, request);
    echo->count += taken;
    pthread_mutex_unlock(&echo->lock);
    return taken;
}

static void *echo_thread(void *context) {
    struct echo *echo = context;
    struct moult_port_request request;
    for (;;) {
        uint32_t seen = moult_port_bell(echo->port);
        while (echo_take(echo, &request)) {
            moult_port_wake_others(echo->port, 1);
            moult_port_started(echo->port, request.slot);
            memcpy(request.block, request.message, request.size);
            moult_port_advance(echo->port);
            moult_port_complete(echo->port, &request.slot, 1);
        }
        if (moult_port_exit_asked(echo->port) && moult_port_bell(echo->port) == seen)
            return NULL;
        moult_port_wait(echo->port, seen);
    }
}

static uint32_t random_number(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static unsigned drain_echoes(struct moult_channel *channel, uint64_t sent[MOULT_CHANNEL_SLOTS]) {
    const char *block;
    size_t capacity;
    bool broken;
    unsigned count = 0;
    int slot;
    moult_channel_wake_clear(channel);
    while ((slot = moult_channel_completed(channel, &block, &capacity, &broken)) >= 0) {
        uint64_t first;
        memcpy(&first, block, sizeof(first));
        assert_int_equal(sent[slot], first);
        assert_int_equal((unsigned char)sent[slot], (unsigned char)block[capacity - 1]);
        moult_channel_release(channel, slot);
        count++;
    }
    assert_false(broken);
    return count;
}

static void no_wake_up_is_lost(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    struct echo echo = {.port = open_port(channel)};
    pthread_mutex_init(&echo.lock, NULL);
    pthread_t threads[ECHO_THREADS];
    for (int i = 0; i < ECHO_THREADS; i++)
        assert_int_equal(0, pthread_create(&threads[i], NULL, echo_thread, &echo));

    static uint64_t sent[MOULT_CHANNEL_SLOTS];
    unsigned submitted = 0, completed = 0;
    uint32_t seed = 1;
    while (completed < ECHO_REQUESTS) {
        unsigned burst = 1 + random_number(&seed) % (random_number(&seed) % 8 == 0 ? 200 : 3);
        for (; burst > 0 && submitted < ECHO_REQUESTS; burst--) {
            unsigned char message[ECHO_BYTES];
            uint64_t number = submitted + 1;
            size_t size = sizeof(number) + random_number(&seed) % (ECHO_BYTES - sizeof(number));
            memset(message, (int)(number & 0xff), sizeof(message));
            memcpy(message, &number, sizeof(number));
            if (size == sizeof(number))
                size++;
            int slot = moult_channel_submit(channel, MOULT_LANE_SINGLE, message, size, size);
            if (slot < 0)
                break;
            sent[slot] = number;
            submitted++;
        }
        if (!is_rung(channel, 20000))
            fail_msg("A wake-up was lost with %u of %u completed.", completed, submitted);
        completed += drain_echoes(channel, sent);
    }
    moult_channel_ask_exit(channel);
    for (int i = 0; i < ECHO_THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(ECHO_REQUESTS, completed);
    assert_int_equal(ECHO_REQUESTS, echo.count);
    assert_true(moult_channel_progress(channel) >= ECHO_REQUESTS);
    pthread_mutex_destroy(&echo.lock);
    moult_port_close(echo.port);
    moult_channel_close(channel);
}

/* What a dead worker has written can still be sent. */
static void answers_outlive_their_worker(void **state) {
    (void)state;
    struct moult_channel *channel = open_channel();
    const char *block;
    size_t capacity;
    bool broken;
    int first = moult_channel_submit(channel, MOULT_LANE_SINGLE, "1", 1, 100);
    int second = moult_channel_submit(channel, MOULT_LANE_SINGLE, "2", 1, 100);
    pid_t child = fork();
    if (child == 0) {
        struct moult_port *port = open_port(channel);
        struct moult_port_request request;
        if (moult_port_take(port, &request)) {
            moult_port_started(port, request.slot);
            memcpy(request.block, "whole", 6);
            moult_port_complete(port, &request.slot, 1);
        }
        if (moult_port_take(port, &request))
            moult_port_started(port, request.slot);
        _exit(0);
    }
    assert_int_equal(child, waitpid(child, NULL, 0));
    assert_int_equal(first, moult_channel_completed(channel, &block, &capacity, &broken));
    assert_string_equal("whole", block);
    assert_int_equal(-1, moult_channel_completed(channel, &block, &capacity, &broken));
    assert_false(broken);
    assert_true(moult_channel_started(channel, second));
    moult_channel_close(channel);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_there_and_back),
        cmocka_unit_test(the_front_is_rung_once),
        cmocka_unit_test(it_says_when_there_is_no_room),
        cmocka_unit_test(memory_goes_back),
        cmocka_unit_test(the_worker_cannot_write_requests),
        cmocka_unit_test(another_front_is_refused),
        cmocka_unit_test(a_report_arrives),
        cmocka_unit_test(a_strange_report_is_a_failure),
        cmocka_unit_test(strings_and_numbers_are_cleaned),
        cmocka_unit_test(a_torn_report_is_not_taken),
        cmocka_unit_test(a_hostile_ring_is_broken),
        cmocka_unit_test(answers_outlive_their_worker),
        cmocka_unit_test(no_wake_up_is_lost),
    };
    return cmocka_run_group_tests_name("channel", tests, NULL, NULL);
}
