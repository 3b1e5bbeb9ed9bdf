#include "ipc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/futex.h"
#include "base/machine.h"
#include "base/memory.h"
#include "ipc/blocks.h"
#include "ipc/layout.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

/* Pages of small blocks that an idle channel keeps, for they will be used again. */
#define KEPT_BYTES MOULT_MIB
/* A report that is torn this often is torn on purpose: the last good one stands. */
#define REPORT_TRIES 64

enum slot_state { SLOT_FREE, SLOT_OUT, SLOT_COMPLETED };

struct slot {
    enum slot_state state;
    uint32_t use;
    uint64_t message_offset, message_size;
    uint64_t block_offset, block_capacity;
};

struct area {
    int fd;                /* The front's own, for writing or for giving pages back. */
    char *bytes;
    size_t size;
    struct moult_blocks blocks;
};

struct moult_channel {
    struct area requests, answers;
    struct moult_request_head *head;          /* Ours to write. */
    const struct moult_answer_head *answer;   /* Theirs. */
    int request_fd_readonly;
    int wake_fd;
    uint32_t submitted, taken;                /* Ring positions. */
    uint32_t free_count;
    uint32_t free_slots[MOULT_CHANNEL_SLOTS]; /* A stack: what was used last is warm. */
    struct slot slots[MOULT_CHANNEL_SLOTS];
    struct moult_worker_report report;        /* The last one that was read whole. */
};

/* Opening and closing. */

static int memory_file(const char *name, size_t size, struct moult_error *error) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)   /* Linux before 6.3. */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return moult_fail_errno(error, "Cannot make shared memory for a worker");
    if (ftruncate(fd, (off_t)size) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
        moult_fail_errno(error, "Cannot size shared memory for a worker");
        close(fd);
        return -1;
    }
    return fd;
}

static int area_open(struct area *area, const char *name, size_t size, size_t data, int protection,
                     struct moult_error *error) {
    area->fd = memory_file(name, size, error);
    if (area->fd < 0)
        return -1;
    void *bytes = mmap(NULL, size, protection, MAP_SHARED, area->fd, 0);
    if (bytes == MAP_FAILED)
        return moult_fail_errno(error, "Cannot map shared memory for a worker");
    area->bytes = bytes;
    area->size = size;
    moult_blocks_init(&area->blocks, data, size);
    return 0;
}

static void area_close(struct area *area) {
    if (area->bytes)
        munmap(area->bytes, area->size);
    if (area->fd >= 0)
        close(area->fd);
}

/* The worker's descriptor of the request area cannot be mapped for writing.
 * F_SEAL_FUTURE_WRITE would do as well, but it also forbids punching holes, and
 * the largest burst of a channel would stay resident for ever; so it is only for
 * places without /proc. */
static int open_readonly(int fd, struct moult_error *error) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int readonly = open(path, O_RDONLY | O_CLOEXEC);
    if (readonly < 0) {
        if (fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) == 0)
            readonly = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    }
    if (readonly < 0)
        return moult_fail_errno(error, "Cannot make shared memory read-only for a worker");
    return readonly;
}

static void head_init(struct moult_request_head *head) {
    head->magic = MOULT_LAYOUT_MAGIC;
    head->version = MOULT_LAYOUT_VERSION;
    head->slots = MOULT_CHANNEL_SLOTS;
    head->request_bytes = MOULT_REQUEST_AREA_BYTES;
    head->answer_bytes = MOULT_ANSWER_AREA_BYTES;
    snprintf(head->program, sizeof(head->program), "%s", MOULT_VERSION);
    atomic_store(&head->armed, 1);
}

struct moult_channel *moult_channel_open(struct moult_error *error) {
    struct moult_channel *channel = moult_allocate(1, sizeof(*channel));
    channel->requests.fd = channel->answers.fd = -1;
    channel->request_fd_readonly = channel->wake_fd = -1;

    if (area_open(&channel->requests, "moult-requests", MOULT_REQUEST_AREA_BYTES,
                  MOULT_REQUEST_DATA, PROT_READ | PROT_WRITE, error) != 0 ||
        area_open(&channel->answers, "moult-answers", MOULT_ANSWER_AREA_BYTES, MOULT_ANSWER_DATA,
                  PROT_READ, error) != 0)
        goto failed;
    channel->request_fd_readonly = open_readonly(channel->requests.fd, error);
    if (channel->request_fd_readonly < 0)
        goto failed;
    if (fcntl(channel->requests.fd, F_ADD_SEALS, F_SEAL_SEAL) != 0 ||
        fcntl(channel->answers.fd, F_ADD_SEALS, F_SEAL_SEAL) != 0) {
        moult_fail_errno(error, "Cannot seal shared memory for a worker");
        goto failed;
    }
    channel->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (channel->wake_fd < 0) {
        moult_fail_errno(error, "Cannot make an eventfd for a worker");
        goto failed;
    }
    channel->head = (struct moult_request_head *)channel->requests.bytes;
    channel->answer = (const struct moult_answer_head *)channel->answers.bytes;
    head_init(channel->head);
    for (uint32_t i = 0; i < MOULT_CHANNEL_SLOTS; i++)
        channel->free_slots[i] = MOULT_CHANNEL_SLOTS - 1 - i;
    channel->free_count = MOULT_CHANNEL_SLOTS;
    return channel;

failed:
    moult_channel_close(channel);
    return NULL;
}

void moult_channel_close(struct moult_channel *channel) {
    if (!channel)
        return;
    area_close(&channel->requests);
    area_close(&channel->answers);
    if (channel->request_fd_readonly >= 0)
        close(channel->request_fd_readonly);
    if (channel->wake_fd >= 0)
        close(channel->wake_fd);
    free(channel);
}

void moult_channel_worker_fds(const struct moult_channel *channel, int fds[MOULT_CHANNEL_FDS]) {
    fds[0] = channel->request_fd_readonly;
    fds[1] = channel->answers.fd;
    fds[2] = channel->wake_fd;
}

int moult_channel_wake_fd(const struct moult_channel *channel) {
    return channel->wake_fd;
}

/* Submitting. */

static void wake_worker(struct moult_channel *channel, int threads) {
    atomic_fetch_add(&channel->head->bell, 1);
    if (atomic_load(&channel->answer->sleepers) > 0)
        moult_futex_wake(&channel->head->bell, threads);
}

static bool take_blocks(struct moult_channel *channel, struct slot *slot, size_t size,
                        size_t answer_capacity) {
    if (!moult_blocks_take(&channel->requests.blocks, size, &slot->message_offset))
        return false;
    if (!moult_blocks_take(&channel->answers.blocks, answer_capacity, &slot->block_offset)) {
        moult_blocks_give(&channel->requests.blocks, slot->message_offset, size);
        return false;
    }
    slot->message_size = size;
    slot->block_capacity = answer_capacity;
    return true;
}

int moult_channel_submit(struct moult_channel *channel, enum moult_lane lane, const void *message,
                         size_t size, size_t answer_capacity) {
    if (channel->free_count == 0)
        return -1;
    uint32_t number = channel->free_slots[channel->free_count - 1];
    struct slot *slot = &channel->slots[number];
    if (!take_blocks(channel, slot, size, answer_capacity))
        return -1;
    channel->free_count--;
    slot->state = SLOT_OUT;
    slot->use = slot->use == UINT32_MAX ? 1 : slot->use + 1;

    memcpy(channel->requests.bytes + slot->message_offset, message, size);
    channel->head->entries[number] = (struct moult_layout_slot){
        .message_offset = slot->message_offset,
        .message_size = size,
        .block_offset = slot->block_offset,
        .block_capacity = answer_capacity,
        .submitted_ns = moult_clock_ns(),
        .lane = (uint32_t)lane,
        .use = slot->use,
    };
    channel->head->ring[channel->submitted % MOULT_CHANNEL_SLOTS] = number;
    channel->submitted++;
    atomic_store(&channel->head->tail, channel->submitted);
    wake_worker(channel, 1);
    return (int)number;
}

bool moult_channel_fits(size_t size, size_t answer_capacity) {
    return moult_blocks_rounded(size) <= MOULT_REQUEST_AREA_BYTES - MOULT_REQUEST_DATA &&
           moult_blocks_rounded(answer_capacity) <= MOULT_ANSWER_AREA_BYTES - MOULT_ANSWER_DATA;
}

void moult_channel_ask_exit(struct moult_channel *channel) {
    atomic_store(&channel->head->exit_asked, 1);
    wake_worker(channel, INT_MAX);
}

/* Completions. */

void moult_channel_wake_clear(struct moult_channel *channel) {
    uint64_t times;
    ssize_t size = read(channel->wake_fd, &times, sizeof(times));
    (void)size;   /* EAGAIN: nothing to clear. */
}

/* Whether there is a completion; where there is none the worker will ring for the next. */
static bool look(struct moult_channel *channel, uint32_t *tail) {
    *tail = atomic_load(&channel->answer->tail);
    if (*tail != channel->taken)
        return true;
    atomic_fetch_add(&channel->head->armed, 1);
    *tail = atomic_load(&channel->answer->tail);
    return *tail != channel->taken;
}

int moult_channel_completed(struct moult_channel *channel, const char **block, size_t *capacity,
                            bool *broken) {
    uint32_t tail;
    *broken = false;
    if (!look(channel, &tail))
        return -1;
    uint32_t number = atomic_load_explicit(
        &channel->answer->ring[channel->taken % MOULT_CHANNEL_SLOTS], memory_order_relaxed);
    if (tail - channel->taken > MOULT_CHANNEL_SLOTS || number >= MOULT_CHANNEL_SLOTS ||
        channel->slots[number].state != SLOT_OUT) {
        *broken = true;
        return -1;
    }
    channel->taken++;
    struct slot *slot = &channel->slots[number];
    slot->state = SLOT_COMPLETED;
    *block = channel->answers.bytes + slot->block_offset;
    *capacity = slot->block_capacity;
    return (int)number;
}

/* Small pages stay for the next request until the area is empty; then all but a few go. */
static void give_pages_back(struct area *area, uint64_t offset, uint64_t size) {
    const int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    struct moult_blocks *blocks = &area->blocks;
    if (size >= MOULT_BLOCK_LARGE_BYTES)
        fallocate(area->fd, punch, (off_t)offset, (off_t)moult_blocks_rounded(size));
    uint64_t kept = blocks->begin + KEPT_BYTES;
    if (blocks->taken == 0 && blocks->touched > kept) {
        fallocate(area->fd, punch, (off_t)kept, (off_t)MOULT_PAGE_UP(blocks->touched - kept));
        blocks->touched = kept;
    }
}

static void area_give(struct area *area, uint64_t offset, uint64_t size) {
    moult_blocks_give(&area->blocks, offset, size);
    give_pages_back(area, offset, size);
}

void moult_channel_release(struct moult_channel *channel, int number) {
    MOULT_REQUIRE(number >= 0 && number < MOULT_CHANNEL_SLOTS);
    struct slot *slot = &channel->slots[number];
    MOULT_REQUIRE(slot->state == SLOT_COMPLETED);
    area_give(&channel->requests, slot->message_offset, slot->message_size);
    area_give(&channel->answers, slot->block_offset, slot->block_capacity);
    slot->state = SLOT_FREE;
    channel->free_slots[channel->free_count++] = (uint32_t)number;
}

/* What the worker says about itself. */

uint64_t moult_channel_progress(const struct moult_channel *channel) {
    return atomic_load_explicit(&channel->answer->progress, memory_order_relaxed);
}

bool moult_channel_started(const struct moult_channel *channel, int number) {
    MOULT_REQUIRE(number >= 0 && number < MOULT_CHANNEL_SLOTS);
    uint32_t use = atomic_load_explicit(&channel->answer->started[number], memory_order_relaxed);
    return use == channel->slots[number].use;
}

/* The acquire loads keep the second look at the turn behind the copying. */
static bool copy_report(const struct moult_answer_head *answer,
                        struct moult_worker_report *report) {
    uint64_t words[MOULT_REPORT_WORDS];
    for (int try = 0; try < REPORT_TRIES; try++) {
        uint32_t turn = atomic_load_explicit(&answer->report_turn, memory_order_acquire);
        if (turn % 2 != 0)
            continue;
        for (size_t i = 0; i < MOULT_REPORT_WORDS; i++)
            words[i] = atomic_load_explicit(&answer->report[i], memory_order_acquire);
        if (atomic_load_explicit(&answer->report_turn, memory_order_relaxed) == turn) {
            memcpy(report, words, sizeof(*report));
            return true;
        }
    }
    return false;
}

/* Ends the string, and takes the teeth out of what would move a terminal's cursor. */
static void clean_string(char *text, size_t capacity) {
    text[capacity - 1] = '\0';
    for (char *at = text; *at; at++)
        if ((unsigned char)*at < 0x20 || *at == 0x7f)
            *at = '?';
}

static bool is_fingerprint(const char *text) {
    return strlen(text) == MOULT_SHA256_HEX - 1 &&
           strspn(text, "0123456789abcdef") == MOULT_SHA256_HEX - 1;
}

/* A bool of another process may hold any byte; reading it as a bool would be undefined. */
static void clean_flag(bool *flag) {
    unsigned char byte;
    memcpy(&byte, flag, 1);
    *flag = byte != 0;
}

static void clean_report(struct moult_worker_report *report) {
    clean_string(report->failure, sizeof(report->failure));
    clean_string(report->fingerprint, sizeof(report->fingerprint));
    clean_string(report->architecture, sizeof(report->architecture));
    clean_string(report->pooling, sizeof(report->pooling));
    clean_string(report->kernels, sizeof(report->kernels));
    clean_string(report->precision, sizeof(report->precision));
    clean_flag(&report->normalized);
    clean_flag(&report->has_query_prompt);
    clean_flag(&report->has_document_prompt);
    if (!(report->load_progress >= 0))   /* NaN as well. */
        report->load_progress = 0;
    if (report->load_progress > 1)
        report->load_progress = 1;
    if (!(report->fidelity >= 0 && report->fidelity <= 1))
        report->fidelity = 0;

    bool known = (unsigned)report->state <= MOULT_WORKER_FAILED;
    bool sane = report->dimensions >= 1 && report->dimensions <= MOULT_DIMENSIONS_MAX &&
                report->tokens_max >= 1 && report->tokens_max <= MOULT_TOKENS_PER_TEXT_MAX &&
                report->vocabulary_size <= MOULT_VOCABULARY_MAX &&
                report->layers <= MOULT_LAYERS_MAX && report->threads <= MOULT_THREADS_MAX &&
                is_fingerprint(report->fingerprint);
    if (!known || (report->state == MOULT_WORKER_READY && !sane)) {
        memset(report, 0, sizeof(*report));
        report->state = MOULT_WORKER_FAILED;
        snprintf(report->failure, sizeof(report->failure),
                 "The worker reported numbers that no model has.");
    }
}

void moult_channel_report(struct moult_channel *channel, struct moult_worker_report *report) {
    struct moult_worker_report fresh;
    if (copy_report(channel->answer, &fresh)) {
        clean_report(&fresh);
        channel->report = fresh;
    }
    *report = channel->report;
}
