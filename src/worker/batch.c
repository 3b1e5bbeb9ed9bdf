#include "worker/batch.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/machine.h"
#include "base/memory.h"

/* Every so many portions the batch lane goes first. */
#define BATCH_LANE_TURN 4

struct lane {
    struct moult_request *first, *last;
    uint64_t tokens;                   /* Estimated, of the texts that nobody has taken. */
};

struct moult_batch {
    struct moult_port *port;
    uint32_t threads, C, tokens_max;
    pthread_mutex_t lock;              /* Guards all below. */
    struct lane lanes[2];              /* By enum moult_lane; BACKGROUND is BATCH. */
    uint32_t turn;
    struct moult_request requests[MOULT_CHANNEL_SLOTS];
};

struct moult_batch *moult_batch_open(struct moult_port *port, uint32_t threads, uint32_t C,
                                     uint32_t tokens_max) {
    struct moult_batch *batch = moult_allocate(1, sizeof(*batch));
    batch->port = port;
    batch->threads = threads;
    batch->C = C;
    batch->tokens_max = tokens_max;
    pthread_mutex_init(&batch->lock, NULL);
    return batch;
}

void moult_batch_close(struct moult_batch *batch) {
    if (!batch)
        return;
    pthread_mutex_destroy(&batch->lock);
    free(batch);
}

/* Requests in. */

/* English has 4 bytes to a token and many scripts less; a guess that is wrong
 * costs balance, never memory. */
static uint32_t estimate(const struct moult_batch *batch, size_t text_bytes) {
    size_t tokens = text_bytes / 3 + 3;
    return tokens < batch->tokens_max ? (uint32_t)tokens : batch->tokens_max;
}

static uint64_t estimate_rest(const struct moult_batch *batch,
                              const struct moult_request *request) {
    uint64_t tokens = 0;
    for (uint32_t i = request->next; i < request->view.count; i++)
        tokens += estimate(batch, request->view.text_sizes[i]);
    return tokens;
}

static void lane_append(struct lane *lane, struct moult_request *request) {
    request->behind = NULL;
    if (lane->last)
        lane->last->behind = request;
    else
        lane->first = request;
    lane->last = request;
}

static void lane_remove(struct lane *lane, struct moult_request *request) {
    struct moult_request **link = &lane->first, *before = NULL;
    while (*link != request) {
        before = *link;
        link = &before->behind;
    }
    *link = request->behind;
    if (lane->last == request)
        lane->last = before;
}

static bool is_exhausted(const struct moult_request *request) {
    return request->next == request->view.count;
}

/* What does not depend on the texts. Fills the request's status and message where it is wrong. */
static void check_request(const struct moult_batch *batch, struct moult_request *request) {
    const struct moult_embed_options *options = &request->view.options;
    struct moult_error error;

    if (moult_request_read(request->port.message, request->port.size, &request->view,
                           &error) != 0) {
        request->status = MOULT_ANSWER_FAILED;
        snprintf(request->message, sizeof(request->message), "%.255s", error.message);
        request->view.count = 0;
    } else if (request->view.kind != MOULT_REQUEST_EMBED) {
        request->status = MOULT_ANSWER_FAILED;
        snprintf(request->message, sizeof(request->message), "This worker has no index.");
    } else if (options->dimensions > batch->C) {
        request->status = MOULT_ANSWER_INVALID;
        snprintf(request->message, sizeof(request->message),
                 "%u dimensions were asked for, but the model's vectors have %u.",
                 options->dimensions, batch->C);
    } else if (request->port.capacity < moult_answer_room(&request->view, batch->C)) {
        request->status = MOULT_ANSWER_FAILED;
        snprintf(request->message, sizeof(request->message),
                 "The answer does not fit into the %zu bytes that were set aside for it.",
                 request->port.capacity);
    }
}

static void write_answer(struct moult_request *request) {
    uint64_t now_ns = moult_clock_ns();
    uint64_t begun_ns = request->begun_ns ? request->begun_ns : now_ns;
    uint64_t work_ns = now_ns - begun_ns;
    /* Several threads may have tokenised at once. */
    uint64_t tokenize_ns = request->tokenize_ns < work_ns ? request->tokenize_ns : work_ns;
    struct moult_answer_times times = {
        .queue_ns = begun_ns > request->port.submitted_ns ? begun_ns - request->port.submitted_ns
                                                          : 0,
        .tokenize_ns = tokenize_ns,
        .compute_ns = work_ns - tokenize_ns,
    };
    moult_answer_write(request->port.block, request->port.capacity, request->status,
                       request->view.count, &times, request->message, request->message_text);
}

/* Moves everything from the ring into the lanes. */
static void drain_port(struct moult_batch *batch) {
    struct moult_port_request taken;
    while (moult_port_take(batch->port, &taken)) {
        struct moult_request *request = &batch->requests[taken.slot];
        *request = (struct moult_request){.port = taken, .message_text = UINT32_MAX};
        check_request(batch, request);
        if (request->status != MOULT_ANSWER_OK) {
            write_answer(request);
            moult_port_complete(batch->port, &taken.slot, 1);
            continue;
        }
        uint32_t count = request->view.count;
        request->cells = moult_answer_cells(taken.block, taken.capacity, count);
        request->cells_begin = moult_answer_cells_begin(count);
        request->cell_stride =
            moult_cell_bytes_max(&request->view.options, &request->view.frame, batch->C);
        if (taken.lane == MOULT_LANE_BACKGROUND)
            request->port.lane = MOULT_LANE_BATCH;
        struct lane *lane = &batch->lanes[request->port.lane];
        lane_append(lane, request);
        lane->tokens += estimate_rest(batch, request);
    }
}

/* Portions out. */

static void take_text(struct moult_batch *batch, struct moult_request *request,
                      struct moult_portion *portion) {
    uint32_t size = request->view.text_sizes[request->next];
    if (!request->begun_ns) {
        request->begun_ns = moult_clock_ns();
        moult_port_started(batch->port, request->port.slot);
    }
    portion->texts[portion->count++] = (struct moult_portion_text){
        .request = request,
        .index = request->next,
        .bytes = request->view.texts + request->next_offset,
        .size = size,
    };
    request->next++;
    request->next_offset += size;
    request->running++;
}

/* Fills the portion from the first request of the lane and those behind it. Who
 * has texts left then goes to the end of the lane. */
static void take_from_lane(struct moult_batch *batch, struct lane *lane, uint64_t share,
                           struct moult_portion *portion) {
    struct moult_request *last = NULL;
    uint64_t taken = 0;
    while (lane->first && portion->count < MOULT_PORTION_TEXTS_MAX) {
        struct moult_request *request = lane->first;
        uint32_t tokens = estimate(batch, request->view.text_sizes[request->next]);
        if (portion->count > 0 && taken + tokens > share)
            break;
        take_text(batch, request, portion);
        last = request;
        taken += tokens;
        lane->tokens -= tokens;
        if (is_exhausted(request))
            lane_remove(lane, request);
    }
    if (last && last == lane->first && last != lane->last) {
        lane_remove(lane, last);
        lane_append(lane, last);
    }
}

static void take_portion(struct moult_batch *batch, struct moult_portion *portion) {
    struct lane *single = &batch->lanes[MOULT_LANE_SINGLE];
    struct lane *many = &batch->lanes[MOULT_LANE_BATCH];
    uint64_t share = (single->tokens + many->tokens + batch->threads - 1) / batch->threads;
    if (share > MOULT_PORTION_TOKENS)
        share = MOULT_PORTION_TOKENS;

    bool batch_first = false;
    if (single->first && many->first)
        batch_first = ++batch->turn % BATCH_LANE_TURN == 0;
    take_from_lane(batch, batch_first || !single->first ? many : single, share, portion);
}

bool moult_batch_take(struct moult_batch *batch, struct moult_portion *portion) {
    for (;;) {
        portion->count = 0;
        uint32_t seen = moult_port_bell(batch->port);
        pthread_mutex_lock(&batch->lock);
        drain_port(batch);
        take_portion(batch, portion);
        bool left = batch->lanes[0].first || batch->lanes[1].first;
        pthread_mutex_unlock(&batch->lock);
        if (left)
            moult_port_wake_other(batch->port);
        if (portion->count > 0)
            return true;
        if (moult_port_exit_asked(batch->port) && moult_port_bell(batch->port) == seen)
            return false;
        moult_port_wait(batch->port, seen);
    }
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
    if (!is_exhausted(request)) {
        struct lane *lane = &batch->lanes[request->port.lane];
        lane->tokens -= estimate_rest(batch, request);
        lane_remove(lane, request);
        request->next = request->view.count;
    }
    pthread_mutex_unlock(&batch->lock);
}

void moult_batch_finish(struct moult_batch *batch, const struct moult_portion *portion) {
    int complete[MOULT_PORTION_TEXTS_MAX];
    unsigned count = 0;

    pthread_mutex_lock(&batch->lock);
    for (uint32_t i = 0; i < portion->count; i++) {
        struct moult_request *request = portion->texts[i].request;
        request->running--;
        request->tokenize_ns += portion->texts[i].tokenize_ns;
        if (request->running == 0 && is_exhausted(request)) {
            write_answer(request);
            complete[count++] = request->port.slot;
        }
    }
    pthread_mutex_unlock(&batch->lock);
    /* From here on the slots are the front's, and may come back out of the ring. */
    moult_port_complete(batch->port, complete, count);
}
