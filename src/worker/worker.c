/* From the command line's descriptors to READY, and from there to the exit.
 *
 *     main thread        loading thread (low)       compute threads (N)
 *     map, open files
 *     enter the sandbox
 *     report LOADING ──> compute the footprint: does it fit?
 *                        load, pack
 *                        report CHECKING, check
 *                        N encoders, warm
 *     join <───────────┘
 *     start ───────────────────────────────────────> wait at the gate
 *     report READY, open the gate ─────────────────> take, answer, take, …
 *     join <─────────────────────────────────────────┘ when asked to exit
 *
 * Everything that costs time or memory is done by the loading thread, because beside a
 * generation that serves it has to be done in the background. For the same reason there may be
 * as many threads again, of low priority, for the third lane (batch.h): they get their
 * encoders when there is something to do, and give them back when there is nothing any more.
 *
 * Whatever fails on the way is reported as FAILED with its reason, and the
 * process exits with 1. */
#include "worker/worker.h"

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "ipc/port.h"
#include "model/footprint.h"
#include "model/model.h"
#include "worker/answer.h"
#include "worker/batch.h"
#include "worker/process.h"
#include "worker/sandbox.h"
#include "worker/vectors.h"

/* How often to look whether loading moves, and the CPU time between two looks that says so. */
#define LOADING_LOOK_NS 200000000u
#define LOADING_MOVES_NS 2000000u

/* A thread of the third lane that has had nothing to do for so long gives its memory back; one
 * that has none need not look at all. */
#define BACKGROUND_IDLE_NS 10000000000u
#define BACKGROUND_SLEEP_NS (3600 * 1000000000ull)
/* How long the exit waits for one that is in the middle of something. */
#define BACKGROUND_JOIN_NS 1000000000u

/* Where compute threads wait until all of them are there. */
enum gate { GATE_CLOSED, GATE_OPEN, GATE_NEVER };

struct seat {
    struct worker *worker;
    struct moult_answerer *answerer;
    pthread_t thread;
};

struct worker {
    struct moult_port *port;
    struct moult_worker_report report;   /* One thread at a time: the loading one, then main. */
    struct moult_model_files *files;
    enum moult_precision precision;
    double fidelity;
    struct moult_model *model;
    struct moult_vectors *vectors;
    struct moult_batch *batch;
    struct seat seats[MOULT_THREADS_MAX];
    struct seat background[MOULT_THREADS_MAX];
    uint32_t threads;                    /* Of the seats, so many are taken, … */
    uint32_t background_threads;         /* … and of the others. */
    unsigned follow_nice;
    uint64_t row_count;
    uint64_t memory_bytes;
    enum moult_haste haste;
    struct moult_error error;

    pthread_mutex_t lock;                /* Guards the gate. */
    pthread_cond_t changed;
    enum gate gate;
};

/* Who tells the front why, when memory is refused to one that cannot do without. */
static struct worker *last_speaker;

static int load(struct worker *worker);
static int serve(struct worker *worker);
static void report_state(struct worker *worker, enum moult_worker_state state);
static void worker_close(struct worker *worker);

int moult_worker_main(const struct moult_worker_options *options) {
    struct worker worker = {0};
    moult_process_settle();
    char who[96];
    snprintf(who, sizeof(who), "worker %.80s", options->label);
    moult_log_setup(who, MOULT_LOG_INFO);
    moult_fault_point("start");

    worker.haste = options->haste;
    worker.memory_bytes = options->memory_bytes;
    worker.precision = options->precision;
    worker.fidelity = options->fidelity;
    worker.threads = options->threads ? options->threads : moult_machine_threads();
    if (worker.threads > MOULT_THREADS_MAX)
        worker.threads = MOULT_THREADS_MAX;
    worker.row_count = options->row_count;
    worker.follow_nice = options->follow_nice;
    worker.background_threads = options->follow_nice > 0 ? worker.threads : 0;
    pthread_mutex_init(&worker.lock, NULL);
    pthread_cond_init(&worker.changed, NULL);
    worker.port = moult_port_open(options->channel_fds, &worker.error);
    if (!worker.port) {
        close(options->folder_fd);
        moult_log_error("%s", worker.error.message);
        return 1;
    }
    worker.vectors = moult_vectors_open(options->rows_fds, options->rows_count);
    worker.report.threads = worker.threads;
    worker.files = moult_model_files_open(options->folder_fd, &worker.error);
    close(options->folder_fd);

    int result = worker.files ? load(&worker) : -1;
    if (result == 0)
        result = serve(&worker);
    if (result != 0) {
        moult_log_error("%s", worker.error.message);
        snprintf(worker.report.failure, sizeof(worker.report.failure), "%s",
                 worker.error.message);
        report_state(&worker, MOULT_WORKER_FAILED);
    }
    worker_close(&worker);
    return result == 0 ? 0 : 1;
}

static void worker_close(struct worker *worker) {
    for (uint32_t i = 0; i < worker->threads; i++) {
        moult_answerer_close(worker->seats[i].answerer);
        moult_answerer_close(worker->background[i].answerer);
    }
    moult_batch_close(worker->batch);
    moult_vectors_close(worker->vectors);
    moult_model_close(worker->model);
    moult_model_files_close(worker->files);
    moult_port_close(worker->port);
    pthread_cond_destroy(&worker->changed);
    pthread_mutex_destroy(&worker->lock);
}

static void report_state(struct worker *worker, enum moult_worker_state state) {
    worker->report.state = state;
    moult_port_report(worker->port, &worker->report);
}

/* Loading. */

static void report_progress(void *context, double done) {
    struct worker *worker = context;
    worker->report.load_progress = done;
    report_state(worker, MOULT_WORKER_LOADING);
}

#define MIB_OF(bytes) ((unsigned long long)((bytes) >> 20))

/* What the process takes whatever the model, measured: program, libraries, heap, the pages of
 * the channel that are touched; and a thread's stack. */
#define PROGRAM_BYTES (12 * MOULT_MIB)
#define STACK_BYTES (128 * MOULT_KIB)

/* Files that do not say what they will take are refused by what loads them. */
static int check_memory(struct worker *worker, enum moult_precision precision) {
    struct moult_footprint footprint;
    struct moult_worker_report *report = &worker->report;
    struct moult_model_options options = {.precision = precision};
    uint32_t threads = worker->threads + worker->background_threads;
    uint64_t own_bytes = PROGRAM_BYTES + threads * STACK_BYTES;
    if (moult_footprint_compute(&footprint, worker->files, moult_kernels_best(), &options) != 0)
        return 0;
    uint64_t index_bytes =
        moult_vectors_bytes_for(worker->vectors, footprint.dimensions, worker->row_count);
    report->memory_bytes = own_bytes + moult_footprint_steady(&footprint, threads) + index_bytes;
    report->memory_peak_bytes = own_bytes + moult_footprint_peak(&footprint, threads);
    if (report->memory_peak_bytes < report->memory_bytes)
        report->memory_peak_bytes = report->memory_bytes;
    if (worker->memory_bytes == 0 || report->memory_peak_bytes <= worker->memory_bytes)
        return 0;
    return moult_fail(&worker->error, MOULT_ERROR_LIMIT,
                      "The model needs %llu MiB of memory while it loads (weights %llu, tokenizer "
                      "%llu, %u threads %llu, index %llu, loading %llu), and only %llu MiB are "
                      "free.%s",
                      MIB_OF(report->memory_peak_bytes), MIB_OF(footprint.weights),
                      MIB_OF(footprint.tokenizer), threads,
                      MIB_OF(threads * footprint.thread), MIB_OF(index_bytes),
                      MIB_OF(footprint.loading), MIB_OF(worker->memory_bytes),
                      worker->haste == MOULT_HASTE_FULL
                          ? ""
                          : " --swap wait unloads the old model first, and lets requests wait.");
}

static int reconsider(void *context, enum moult_precision precision, struct moult_error *error) {
    struct worker *worker = context;
    if (check_memory(worker, precision) == 0)
        return 0;
    *error = worker->error;
    return -1;
}

static void describe_model(struct worker *worker) {
    const struct moult_model_info *info = moult_model_info(worker->model);
    struct moult_worker_report *report = &worker->report;
    snprintf(report->fingerprint, sizeof(report->fingerprint), "%s", info->fingerprint);
    snprintf(report->architecture, sizeof(report->architecture), "%s", info->architecture);
    snprintf(report->pooling, sizeof(report->pooling), "%s", info->pooling);
    snprintf(report->kernels, sizeof(report->kernels), "%s", info->kernels);
    snprintf(report->precision, sizeof(report->precision), "%s", info->precision);
    report->fidelity = info->fidelity;
    report->normalized = info->normalized;
    report->has_query_prompt = info->query_prompt[0] != '\0';
    report->has_document_prompt = info->document_prompt[0] != '\0';
    report->dimensions = info->dimensions;
    report->tokens_max = info->tokens_max;
    report->vocabulary_size = info->vocabulary_size;
    report->layers = info->layers;
}

static struct moult_answerer *open_answerer(struct worker *worker) {
    return moult_answerer_open(worker->model, worker->vectors, worker->batch, worker->port);
}

static int open_seats(struct worker *worker) {
    moult_vectors_begin(worker->vectors, worker->report.fingerprint, worker->report.dimensions,
                        moult_kernels_best());
    worker->batch = moult_batch_open(worker->port, worker->threads, worker->report.dimensions,
                                     worker->report.tokens_max,
                                     moult_encoder_share_tokens(worker->model),
                                     worker->background_threads > 0);
    for (uint32_t i = 0; i < worker->threads; i++) {
        struct seat *seat = &worker->seats[i];
        seat->worker = worker;
        seat->answerer = open_answerer(worker);
        if (!seat->answerer)
            return moult_fail(&worker->error, MOULT_ERROR_SYSTEM,
                              "There is not enough memory for %u compute threads.",
                              worker->threads);
        moult_answerer_warm(seat->answerer);
    }
    return 0;
}

static int load_and_check(struct worker *worker) {
    struct moult_load_progress progress = {.advance = report_progress, .context = worker};
    struct moult_model_options options = {.threads = worker->threads,
                                          .precision = worker->precision,
                                          .fidelity = worker->fidelity,
                                          .reconsider = reconsider,
                                          .context = worker};
    report_state(worker, MOULT_WORKER_LOADING);
    moult_fault_point("loading");
    if (check_memory(worker, worker->precision) != 0)
        return -1;
    worker->model = moult_model_load(worker->files, moult_kernels_best(), &options, &progress,
                                     &worker->error);
    if (!worker->model)
        return -1;
    describe_model(worker);
    worker->report.load_progress = 1;
    report_state(worker, MOULT_WORKER_CHECKING);
    moult_fault_point("checking");
    if (moult_model_check(worker->model, &worker->error) != 0)
        return -1;
    /* What the check took is not needed again: the heap would keep it. */
    malloc_trim(0);
    return open_seats(worker);
}

/* NULL, or `context` where it failed. */
static void *loading_thread(void *context) {
    struct worker *worker = context;
    moult_thread_lower(worker->haste);
    return load_and_check(worker) == 0 ? NULL : context;
}

/* There is no memory: nothing here may ask for any. */
static void speak_last_words(size_t bytes) {
    struct moult_worker_report *report = &last_speaker->report;
    snprintf(report->failure, sizeof(report->failure),
             "There is no memory left: %zu bytes were refused while the model loaded.", bytes);
    report_state(last_speaker, MOULT_WORKER_FAILED);
}

static int start_thread(pthread_t *thread, void *(*run)(void *), void *context,
                        struct moult_error *error) {
    int failure = pthread_create(thread, NULL, run, context);
    if (failure == 0)
        return 0;
    return moult_fail(error, MOULT_ERROR_SYSTEM, "Cannot start a thread: %s", strerror(failure));
}

static uint64_t read_clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* As pthread_timedjoin_np() wants it. */
static struct timespec time_after(uint64_t ns) {
    uint64_t deadline_ns = read_clock_ns(CLOCK_REALTIME) + ns;
    return (struct timespec){.tv_sec = (time_t)(deadline_ns / 1000000000u),
                             .tv_nsec = (long)(deadline_ns % 1000000000u)};
}

/* Waits for the loading thread. Beside a server under load it is slow, and between two
 * reports of it (one large tensor, the self-check in plain C) more time may pass than
 * the front's watchdog grants; so as long as it computes, that is the sign of life. */
static void *join_loading(struct worker *worker, pthread_t thread) {
    void *failed = NULL;
    uint64_t cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    struct timespec deadline;
    do {
        uint64_t now_cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (now_cpu_ns - cpu_ns >= LOADING_MOVES_NS) {
            moult_port_advance(worker->port);
            cpu_ns = now_cpu_ns;
        }
        deadline = time_after(LOADING_LOOK_NS);
    } while (pthread_timedjoin_np(thread, &failed, &deadline) == ETIMEDOUT);
    return failed;
}

/* A machine without such filters still gets its server; docs/decisions/0008 says why. */
static int confine(struct worker *worker) {
    if (moult_sandbox_enter(worker->follow_nice, &worker->error) == 0)
        return 0;
    if (worker->error.code != MOULT_ERROR_UNAVAILABLE)
        return -1;
    moult_log_warning("There is no sandbox here, so trust in the model must do: %s",
                      worker->error.message);
    return 0;
}

static int load(struct worker *worker) {
    uint64_t begun_ns = moult_clock_ns();
    struct moult_exposure exposure = moult_process_expose();
    struct moult_memory_limit limit = {0};
    pthread_t thread;
    if (worker->memory_bytes > 0)
        moult_process_limit_memory(worker->memory_bytes, &limit);
    if (confine(worker) != 0)
        return -1;
    last_speaker = worker;
    moult_memory_on_exhausted(speak_last_words);
    if (start_thread(&thread, loading_thread, worker, &worker->error) != 0)
        return -1;
    void *failed = join_loading(worker, thread);
    moult_memory_on_exhausted(NULL);
    moult_model_files_close(worker->files);
    worker->files = NULL;
    if (failed)
        return -1;   /* The process is about to exit: no need to cover it. */
    moult_process_unlimit_memory(&limit);
    moult_process_cover(&exposure);
    moult_log_info("Loaded and checked %.8s (%s, %s, fidelity %.6f) in %.0f ms; %llu MiB of "
                   "memory, and up to %llu MiB meanwhile.", worker->report.fingerprint,
                   worker->report.kernels, worker->report.precision, worker->report.fidelity,
                   (double)(moult_clock_ns() - begun_ns) / 1e6,
                   MIB_OF(worker->report.memory_bytes), MIB_OF(worker->report.memory_peak_bytes));
    return 0;
}

/* Serving. */

static bool pass_gate(struct worker *worker) {
    pthread_mutex_lock(&worker->lock);
    while (worker->gate == GATE_CLOSED)
        pthread_cond_wait(&worker->changed, &worker->lock);
    bool open = worker->gate == GATE_OPEN;
    pthread_mutex_unlock(&worker->lock);
    return open;
}

static void *compute_thread(void *context) {
    const struct seat *seat = context;
    struct worker *worker = seat->worker;
    if (!pass_gate(worker))
        return NULL;
    struct moult_portion *portion = moult_allocate(1, sizeof(*portion));
    enum moult_batch_turn turn;
    while ((turn = moult_batch_take(worker->batch, portion)) != MOULT_BATCH_OVER) {
        if (turn == MOULT_BATCH_ASKED) {
            moult_answerer_help(seat->answerer, portion);
            continue;
        }
        moult_fault_point("batch");
        moult_answerer_run(seat->answerer, portion);
        moult_fault_point("answer");
        moult_batch_finish(worker->batch, portion);
    }
    free(portion);
    return NULL;
}

static void refuse_all(struct worker *worker, struct moult_portion *portion) {
    for (uint32_t i = 0; i < portion->count; i++)
        moult_batch_refuse(worker->batch, portion->items[i].request, MOULT_ANSWER_FAILED,
                           portion->items[i].index,
                           "There is not enough memory for another thread that encodes.");
}

static void *background_thread(void *context) {
    struct seat *seat = context;
    struct worker *worker = seat->worker;
    struct moult_portion *portion = moult_allocate(1, sizeof(*portion));
    enum moult_batch_turn turn;
    moult_thread_nice(worker->follow_nice);
    while ((turn = moult_batch_take_background(
                worker->batch, seat->answerer ? BACKGROUND_IDLE_NS : BACKGROUND_SLEEP_NS,
                portion)) != MOULT_BATCH_OVER) {
        if (turn == MOULT_BATCH_IDLE) {
            moult_answerer_close(seat->answerer);
            seat->answerer = NULL;
            continue;
        }
        moult_fault_point("background");
        if (!seat->answerer)
            seat->answerer = open_answerer(worker);
        if (seat->answerer)
            moult_answerer_run(seat->answerer, portion);
        else
            refuse_all(worker, portion);
        moult_batch_finish(worker->batch, portion);
    }
    free(portion);
    return NULL;
}

static void set_gate(struct worker *worker, enum gate gate) {
    pthread_mutex_lock(&worker->lock);
    worker->gate = gate;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

/* Starts threads for the seats [count] until one fails; returns how many there are. */
static uint32_t start_threads(struct worker *worker, struct seat *seats, uint32_t count,
                              void *(*run)(void *)) {
    uint32_t started = 0;
    while (started < count) {
        seats[started].worker = worker;
        if (start_thread(&seats[started].thread, run, &seats[started], &worker->error) != 0)
            break;
        started++;
    }
    return started;
}

static void join_threads(struct seat *seats, uint32_t count) {
    while (count > 0)
        pthread_join(seats[--count].thread, NULL);
}

/* A low thread may be in the middle of something, on a machine that leaves it no CPU. Nobody waits
 * for what it makes, so the process need not either. */
static void join_background(struct worker *worker, uint32_t count) {
    struct timespec deadline = time_after(BACKGROUND_JOIN_NS);
    for (uint32_t i = 0; i < count; i++)
        if (pthread_timedjoin_np(worker->background[i].thread, NULL, &deadline) != 0)
            _exit(0);
}

static int serve(struct worker *worker) {
    uint32_t background = 0;
    uint32_t started = start_threads(worker, worker->seats, worker->threads, compute_thread);
    int result = started == worker->threads ? 0 : -1;
    if (result == 0) {
        background = start_threads(worker, worker->background, worker->background_threads,
                                   background_thread);
        result = background == worker->background_threads ? 0 : -1;
    }
    if (result == 0) {
        moult_fault_point("ready");
        report_state(worker, MOULT_WORKER_READY);
    }
    set_gate(worker, result == 0 ? GATE_OPEN : GATE_NEVER);
    join_threads(worker->seats, started);
    moult_batch_end(worker->batch);
    join_background(worker, background);
    return result;
}
