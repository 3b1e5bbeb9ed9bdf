#include "worker/batch.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "model/model.h"

/* Every so many portions the batch lane goes first. */
#define BATCH_LANE_TURN 4

/* A pass of fewer tokens waits for the weights and not for arithmetic: two threads that take one
 * short text each read them twice, for hardly less time than one thread with both. */
#define PORTION_LEAST 48u

/* What takes as long as a token of a small model: reading so many bytes of an index, cutting so
 * many bytes of a text. And an item of changes. */
#define SCAN_BYTES_PER_TOKEN (512 * MOULT_KIB)
#define CUT_BYTES_PER_TOKEN 512u
#define CHANGES_TOKENS 16u

enum { LANES = MOULT_LANE_BACKGROUND + 1 };

struct lane {
    struct moult_request *first, *last;
    uint64_t tokens;                   /* Estimated, of the items that nobody has taken. */
};

struct moult_batch {
    struct moult_port *port;
    uint32_t threads, C, tokens_max, share_tokens;
    bool background;
    struct moult_split *split;
    _Atomic uint64_t scan_bytes;
    pthread_mutex_t lock;              /* Guards all below. */
    pthread_cond_t left_aside;         /* There is something in the third lane, or it is over. */
    bool over;
    struct lane lanes[LANES];
    uint32_t turn;
    struct moult_request requests[MOULT_CHANNEL_SLOTS];
};

struct moult_batch *moult_batch_open(struct moult_port *port, uint32_t threads, uint32_t C,
                                     uint32_t tokens_max, uint32_t share_tokens, bool background) {
    struct moult_batch *batch = moult_allocate(1, sizeof(*batch));
    pthread_condattr_t monotonic;
    batch->port = port;
    batch->threads = threads;
    batch->C = C;
    batch->tokens_max = tokens_max;
    batch->share_tokens = share_tokens;
    batch->background = background;
    batch->split = moult_split_open();
    pthread_mutex_init(&batch->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&batch->left_aside, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return batch;
}

void moult_batch_close(struct moult_batch *batch) {
    if (!batch)
        return;
    pthread_cond_destroy(&batch->left_aside);
    pthread_mutex_destroy(&batch->lock);
    moult_split_close(batch->split);
    free(batch);
}

struct moult_split *moult_batch_split(struct moult_batch *batch) {
    return batch->split;
}

void moult_batch_set_scan(struct moult_batch *batch, uint64_t bytes) {
    atomic_store_explicit(&batch->scan_bytes, bytes, memory_order_relaxed);
}

/* Estimates. */

/* English has 4 bytes to a token and many scripts less; a guess that is wrong
 * costs balance, never memory. */
static uint32_t estimate_text(const struct moult_batch *batch, size_t text_bytes) {
    size_t tokens = text_bytes / 3 + 3;
    return tokens < batch->tokens_max ? (uint32_t)tokens : batch->tokens_max;
}

static uint32_t estimate(const struct moult_batch *batch, const struct moult_request *request,
                         uint32_t item) {
    const uint32_t *sizes = request->view.text_sizes;
    switch (request->view.kind) {
    case MOULT_REQUEST_EMBED:
        return estimate_text(batch, sizes[item]);
    case MOULT_REQUEST_SEARCH:
        return (sizes ? estimate_text(batch, sizes[item]) : 1) + request->scan_tokens;
    case MOULT_REQUEST_CUT:
        return sizes[item] / CUT_BYTES_PER_TOKEN + 1;
    case MOULT_REQUEST_FOLLOW:
        return CHANGES_TOKENS;
    }
    return 1;
}

static uint64_t estimate_rest(const struct moult_batch *batch,
                              const struct moult_request *request) {
    uint64_t tokens = 0;
    for (uint32_t i = request->next; i < request->items; i++)
        tokens += estimate(batch, request, i);
    return tokens;
}

/* Requests in. */

static struct lane *lane_of(struct moult_batch *batch, const struct moult_request *request) {
    return &batch->lanes[request->port.lane];
}

static void append(struct lane *lane, struct moult_request *request) {
    request->behind = NULL;
    if (lane->last)
        lane->last->behind = request;
    else
        lane->first = request;
    lane->last = request;
}

static void take_out(struct lane *lane, struct moult_request *request) {
    struct moult_request **link = &lane->first, *before = NULL;
    while (*link != request) {
        before = *link;
        link = &before->behind;
    }
    *link = request->behind;
    if (lane->last == request)
        lane->last = before;
}

static void enter_lane(struct moult_batch *batch, struct moult_request *request) {
    struct lane *lane = lane_of(batch, request);
    request->waits = true;
    append(lane, request);
    lane->tokens += estimate_rest(batch, request);
    if (request->port.lane == MOULT_LANE_BACKGROUND)
        pthread_cond_signal(&batch->left_aside);
}

static void leave_lane(struct moult_batch *batch, struct moult_request *request) {
    struct lane *lane = lane_of(batch, request);
    lane->tokens -= estimate_rest(batch, request);
    take_out(lane, request);
    request->waits = false;
}

static bool is_exhausted(const struct moult_request *request) {
    return request->next == request->items;
}

static void reject(struct moult_request *request, enum moult_answer_status status,
                   const char *format, ...) __attribute__((format(printf, 3, 4)));

static void reject(struct moult_request *request, enum moult_answer_status status,
                   const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(request->message, sizeof(request->message), format, arguments);
    va_end(arguments);
    request->status = status;
}

/* What does not depend on the texts. Fills the request's status and message where it is wrong. */
static void check_request(const struct moult_batch *batch, struct moult_request *request) {
    const struct moult_request_view *view = &request->view;
    struct moult_error error;

    if (moult_request_read(request->port.message, request->port.size, &request->view,
                           &error) != 0) {
        request->view = (struct moult_request_view){0};
        reject(request, MOULT_ANSWER_FAILED, "%.255s", error.message);
    } else if (request->port.capacity < moult_answer_room(view, batch->C)) {
        reject(request, MOULT_ANSWER_FAILED,
               "The answer does not fit into the %zu bytes that were set aside for it.",
               request->port.capacity);
    } else if (view->options.dimensions > batch->C) {
        reject(request, MOULT_ANSWER_INVALID,
               "%u dimensions were asked for, but the model's vectors have %u.",
               view->options.dimensions, batch->C);
    } else if (view->search.vectors && view->search.C != batch->C) {
        reject(request, MOULT_ANSWER_INVALID,
               "The vector has %u numbers, but the model's vectors have %u.", view->search.C,
               batch->C);
    } else if (view->cut.tokens > batch->tokens_max) {
        reject(request, MOULT_ANSWER_INVALID,
               "Chunks of %u tokens were asked for, but the model takes %u.", view->cut.tokens,
               batch->tokens_max);
    }
}

static void write_answer(struct moult_request *request) {
    uint64_t now_ns = moult_clock_ns();
    uint64_t begun_ns = request->begun_ns ? request->begun_ns : now_ns;
    uint64_t work_ns = now_ns - begun_ns;
    /* Several threads may have done so at once. */
    uint64_t tokenize_ns = request->tokenize_ns < work_ns ? request->tokenize_ns : work_ns;
    uint64_t left_ns = work_ns - tokenize_ns;
    uint64_t search_ns = request->search_ns < left_ns ? request->search_ns : left_ns;
    struct moult_answer_times times = {
        .queue_ns = begun_ns > request->port.submitted_ns ? begun_ns - request->port.submitted_ns
                                                          : 0,
        .tokenize_ns = tokenize_ns,
        .compute_ns = left_ns - search_ns,
        .search_ns = search_ns,
    };
    moult_answer_write(request->port.block, request->port.capacity, request->status,
                       moult_answer_cells_of(&request->view), &times, request->message,
                       request->message_text);
}

/* One that is to be worked off: lays out its answer. */
static void begin_request(struct moult_batch *batch, struct moult_request *request) {
    const struct moult_request_view *view = &request->view;
    uint32_t cells = moult_answer_cells_of(view);
    uint64_t scan_bytes = atomic_load_explicit(&batch->scan_bytes, memory_order_relaxed);
    request->cells = moult_answer_cells(request->port.block, request->port.capacity, cells);
    request->next_cell = moult_answer_cells_begin(cells);
    request->scan_tokens = (uint32_t)(scan_bytes / SCAN_BYTES_PER_TOKEN);
    request->items = view->count;
    if (view->kind == MOULT_REQUEST_FOLLOW) {
        /* One also where all that it says is that the index is complete. */
        request->items = (view->count + MOULT_PORTION_CHANGES - 1) / MOULT_PORTION_CHANGES;
        request->items = request->items > 0 ? request->items : 1;
        request->cells[0] = (struct moult_answer_cell){.offset = (uint32_t)request->next_cell};
    }
    enter_lane(batch, request);
}

/* Moves everything from the ring into the lanes. */
static void drain_port(struct moult_batch *batch) {
    struct moult_port_request taken;
    while (moult_port_take(batch->port, &taken)) {
        struct moult_request *request = &batch->requests[taken.slot];
        if (taken.lane == MOULT_LANE_BACKGROUND && !batch->background)
            taken.lane = MOULT_LANE_BATCH;
        *request = (struct moult_request){.port = taken, .message_text = UINT32_MAX};
        check_request(batch, request);
        if (request->status == MOULT_ANSWER_OK) {
            begin_request(batch, request);
            continue;
        }
        write_answer(request);
        moult_port_complete(batch->port, &taken.slot, 1);
    }
}

/* Portions out. */

static void take_item(struct moult_batch *batch, struct moult_request *request,
                      struct moult_portion *portion) {
    const struct moult_request_view *view = &request->view;
    if (!request->begun_ns) {
        request->begun_ns = moult_clock_ns();
        moult_port_started(batch->port, request->port.slot);
    }
    struct moult_portion_item *item = &portion->items[portion->count++];
    *item = (struct moult_portion_item){
        .request = request, .index = request->next, .cell = request->next_cell};
    if (view->text_sizes) {
        item->bytes = view->texts + request->next_offset;
        item->size = view->text_sizes[request->next];
        request->next_offset += item->size;
    }
    if (view->kind != MOULT_REQUEST_FOLLOW)
        request->next_cell += moult_answer_cell_room(view, request->next, batch->C);
    request->next++;
    request->running++;
}

/* Fills the portion from the first request of the lane and those behind it. Who
 * has items left then goes to the end of the lane. */
static void take_from_lane(struct moult_batch *batch, struct lane *lane, uint64_t share,
                           struct moult_portion *portion) {
    struct moult_request *last = NULL;
    uint64_t taken = 0;
    while (lane->first && portion->count < MOULT_PORTION_TEXTS_MAX) {
        struct moult_request *request = lane->first;
        uint32_t tokens = estimate(batch, request, request->next);
        if (portion->count > 0 && taken + tokens > share)
            break;
        take_item(batch, request, portion);
        last = request;
        taken += tokens;
        lane->tokens -= tokens;
        /* Changes have an order: the next ones wait until these are made. */
        if (is_exhausted(request) || request->view.kind == MOULT_REQUEST_FOLLOW)
            leave_lane(batch, request);
    }
    if (last && last == lane->first && last != lane->last) {
        take_out(lane, last);
        append(lane, last);
    }
}

static uint64_t share_of(const struct moult_batch *batch, uint64_t tokens) {
    uint64_t share = (tokens + batch->threads - 1) / batch->threads;
    share = share > PORTION_LEAST ? share : PORTION_LEAST;
    return share < MOULT_PORTION_TOKENS ? share : MOULT_PORTION_TOKENS;
}

static void take_portion(struct moult_batch *batch, struct moult_portion *portion) {
    struct lane *single = &batch->lanes[MOULT_LANE_SINGLE];
    struct lane *many = &batch->lanes[MOULT_LANE_BATCH];
    uint64_t share = share_of(batch, single->tokens + many->tokens);
    bool batch_first = false;
    if (single->first && many->first)
        batch_first = ++batch->turn % BATCH_LANE_TURN == 0;
    take_from_lane(batch, batch_first || !single->first ? many : single, share, portion);
}

/* Becomes the leader with it, of those who have nothing to do, where it is one text that is long
 * enough. Returns how many may help. */
static uint32_t share_portion(struct moult_batch *batch, struct moult_portion *portion) {
    const struct moult_portion_item *item = &portion->items[0];
    uint32_t threads = 1 + moult_port_sleepers(batch->port);
    if (portion->count != 1 || threads == 1 || !item->bytes ||
        item->request->view.kind == MOULT_REQUEST_CUT ||
        estimate_text(batch, item->size) < batch->share_tokens)
        return 0;
    threads = threads < MOULT_SHARE_THREADS_MAX ? threads : MOULT_SHARE_THREADS_MAX;
    portion->shared = moult_split_begin(batch->split, threads, moult_split_now());
    return portion->shared ? threads - 1 : 0;
}

static bool is_asked(struct moult_batch *batch, struct moult_portion *portion) {
    uint32_t led = moult_split_led(batch->split);
    if (led == 0 || led == portion->led)
        return false;
    portion->led = led;
    return true;
}

enum moult_batch_turn moult_batch_take(struct moult_batch *batch, struct moult_portion *portion) {
    for (;;) {
        portion->count = 0;
        portion->shared = false;
        portion->bell = moult_port_bell(batch->port);
        pthread_mutex_lock(&batch->lock);
        drain_port(batch);
        take_portion(batch, portion);
        bool left = batch->lanes[MOULT_LANE_SINGLE].first || batch->lanes[MOULT_LANE_BATCH].first;
        pthread_mutex_unlock(&batch->lock);
        uint32_t wanted = left ? 1 : share_portion(batch, portion);
        if (wanted > 0)
            moult_port_wake_others(batch->port, wanted);
        if (portion->count > 0)
            return MOULT_BATCH_TAKEN;
        if (is_asked(batch, portion))
            return MOULT_BATCH_ASKED;
        if (moult_port_exit_asked(batch->port) && moult_port_bell(batch->port) == portion->bell)
            return MOULT_BATCH_OVER;
        moult_port_wait(batch->port, portion->bell);
    }
}

static struct timespec time_after(uint64_t ns) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ns += (uint64_t)now.tv_nsec;
    return (struct timespec){.tv_sec = now.tv_sec + (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
}

enum moult_batch_turn moult_batch_take_background(struct moult_batch *batch, uint64_t idle_ns,
                                                  struct moult_portion *portion) {
    struct lane *lane = &batch->lanes[MOULT_LANE_BACKGROUND];
    struct timespec deadline = time_after(idle_ns);
    int waited = 0;
    portion->count = 0;
    pthread_mutex_lock(&batch->lock);
    while (!batch->over && !lane->first && waited == 0)
        waited = pthread_cond_timedwait(&batch->left_aside, &batch->lock, &deadline);
    bool over = batch->over;
    if (!over)
        take_from_lane(batch, lane, share_of(batch, lane->tokens), portion);
    if (lane->first)
        pthread_cond_signal(&batch->left_aside);
    pthread_mutex_unlock(&batch->lock);
    return over                   ? MOULT_BATCH_OVER
           : portion->count > 0 ? MOULT_BATCH_TAKEN
                                  : MOULT_BATCH_IDLE;
}

void moult_batch_end(struct moult_batch *batch) {
    pthread_mutex_lock(&batch->lock);
    batch->over = true;
    pthread_cond_broadcast(&batch->left_aside);
    pthread_mutex_unlock(&batch->lock);
}

/* Answers out. */

void moult_batch_refuse(struct moult_batch *batch, struct moult_request *request,
                        enum moult_answer_status status, uint32_t text, const char *message) {
    pthread_mutex_lock(&batch->lock);
    if (request->status == MOULT_ANSWER_OK || text < request->message_text) {
        request->status = status;
        request->message_text = text;
        snprintf(request->message, sizeof(request->message), "%.255s", message);
    }
    if (request->waits)
        leave_lane(batch, request);
    request->next = request->items;
    pthread_mutex_unlock(&batch->lock);
}

void moult_batch_finish(struct moult_batch *batch, const struct moult_portion *portion) {
    int complete[MOULT_PORTION_TEXTS_MAX];
    unsigned count = 0;

    pthread_mutex_lock(&batch->lock);
    for (uint32_t i = 0; i < portion->count; i++) {
        struct moult_request *request = portion->items[i].request;
        request->running--;
        request->tokenize_ns += portion->items[i].tokenize_ns;
        request->search_ns += portion->items[i].search_ns;
        if (request->running == 0 && is_exhausted(request)) {
            write_answer(request);
            complete[count++] = request->port.slot;
        } else if (request->running == 0 && !request->waits) {
            enter_lane(batch, request);   /* The next changes. */
        }
    }
    pthread_mutex_unlock(&batch->lock);
    /* From here on the slots are the front's, and may come back out of the ring. */
    moult_port_complete(batch->port, complete, count);
}
