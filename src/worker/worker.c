/* From the command line's descriptors to READY, and from there to the exit.
 *
 *     main thread        loading thread (low)       compute threads (N)
 *     map, open files
 *     enter the sandbox
 *     report LOADING ──> load, pack
 *                        report CHECKING, check
 *     join <───────────┘
 *     start ───────────────────────────────────────> encoder, warm
 *     report READY, open the gate <────────────────┘
 *                                                    take, answer, take, …
 *     join <─────────────────────────────────────────┘ when asked to exit
 *
 * Whatever fails on the way is reported as FAILED with its reason, and the
 * process exits with 1. */
#include "worker/worker.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "ipc/port.h"
#include "model/model.h"
#include "worker/answer.h"
#include "worker/batch.h"
#include "worker/process.h"
#include "worker/sandbox.h"

/* How often to look whether loading moves, and the CPU time between two looks that says so. */
#define LOADING_LOOK_NS 200000000u
#define LOADING_MOVES_NS 2000000u

/* Where compute threads wait when they are warm. */
enum gate { GATE_CLOSED, GATE_OPEN, GATE_NEVER };

struct worker {
    struct moult_port *port;
    struct moult_worker_report report;   /* One thread at a time: the loading one, then main. */
    struct moult_model_files *files;
    struct moult_model *model;
    struct moult_batch *batch;
    uint32_t threads;
    bool urgent;
    struct moult_error error;

    pthread_mutex_t lock;                /* Guards the three below. */
    pthread_cond_t changed;
    uint32_t warm, unable;               /* Compute threads that are ready, or never will be. */
    enum gate gate;
};

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

    worker.urgent = options->urgent;
    worker.threads = options->threads ? options->threads : moult_machine_threads();
    if (worker.threads > MOULT_THREADS_MAX)
        worker.threads = MOULT_THREADS_MAX;
    pthread_mutex_init(&worker.lock, NULL);
    pthread_cond_init(&worker.changed, NULL);
    worker.port = moult_port_open(options->channel_fds, &worker.error);
    if (!worker.port) {
        close(options->folder_fd);
        moult_log_error("%s", worker.error.message);
        return 1;
    }
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
    moult_batch_close(worker->batch);
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

static void describe_model(struct worker *worker) {
    const struct moult_model_info *info = moult_model_info(worker->model);
    struct moult_worker_report *report = &worker->report;
    snprintf(report->fingerprint, sizeof(report->fingerprint), "%s", info->fingerprint);
    snprintf(report->architecture, sizeof(report->architecture), "%s", info->architecture);
    snprintf(report->pooling, sizeof(report->pooling), "%s", info->pooling);
    snprintf(report->kernels, sizeof(report->kernels), "%s", info->kernels);
    snprintf(report->precision, sizeof(report->precision), "%s", info->precision);
    report->normalized = info->normalized;
    report->has_query_prompt = info->query_prompt[0] != '\0';
    report->has_document_prompt = info->document_prompt[0] != '\0';
    report->dimensions = info->dimensions;
    report->tokens_max = info->tokens_max;
    report->vocabulary_size = info->vocabulary_size;
    report->layers = info->layers;
}

/* NULL, or `context` where it failed. */
static void *loading_thread(void *context) {
    struct worker *worker = context;
    struct moult_load_progress progress = {.advance = report_progress, .context = worker};
    if (!worker->urgent)
        moult_thread_yield_always();

    report_state(worker, MOULT_WORKER_LOADING);
    moult_fault_point("loading");
    worker->model = moult_model_load(worker->files, moult_kernels_best(), worker->threads,
                                     &progress, &worker->error);
    if (!worker->model)
        return context;
    describe_model(worker);
    worker->report.load_progress = 1;
    report_state(worker, MOULT_WORKER_CHECKING);
    moult_fault_point("checking");
    return moult_model_check(worker->model, &worker->error) == 0 ? NULL : context;
}

static int start_thread(pthread_t *thread, void *(*run)(void *), struct worker *worker) {
    int failure = pthread_create(thread, NULL, run, worker);
    if (failure == 0)
        return 0;
    return moult_fail(&worker->error, MOULT_ERROR_SYSTEM, "Cannot start a thread: %s",
                      strerror(failure));
}

static uint64_t read_clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Waits for the loading thread. Beside a server under load it is slow, and between two
 * reports of it (one large tensor, the self-check in plain C) more time may pass than
 * the front's watchdog grants; so as long as it computes, that is the sign of life. */
static void *join_loading(struct worker *worker, pthread_t thread) {
    void *failed = NULL;
    uint64_t cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID), deadline_ns;
    struct timespec deadline;
    do {
        uint64_t now_cpu_ns = read_clock_ns(CLOCK_PROCESS_CPUTIME_ID);
        if (now_cpu_ns - cpu_ns >= LOADING_MOVES_NS) {
            moult_port_advance(worker->port);
            cpu_ns = now_cpu_ns;
        }
        deadline_ns = read_clock_ns(CLOCK_REALTIME) + LOADING_LOOK_NS;
        deadline.tv_sec = (time_t)(deadline_ns / 1000000000u);
        deadline.tv_nsec = (long)(deadline_ns % 1000000000u);
    } while (pthread_timedjoin_np(thread, &failed, &deadline) == ETIMEDOUT);
    return failed;
}

/* A machine without such filters still gets its server; docs/decisions/0008 says why. */
static int confine(struct worker *worker) {
    if (moult_sandbox_enter(&worker->error) == 0)
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
    pthread_t thread;
    if (confine(worker) != 0)
        return -1;
    if (start_thread(&thread, loading_thread, worker) != 0)
        return -1;
    void *failed = join_loading(worker, thread);
    moult_model_files_close(worker->files);
    worker->files = NULL;
    if (failed)
        return -1;   /* The process is about to exit: no need to cover it. */
    moult_process_cover(&exposure);
    moult_log_info("Loaded and checked %.8s (%s, %s) in %.0f ms.", worker->report.fingerprint,
                   worker->report.kernels, worker->report.precision,
                   (double)(moult_clock_ns() - begun_ns) / 1e6);
    return 0;
}

/* Serving. */

/* Says how the thread's preparation went; true if it shall serve. */
static bool pass_gate(struct worker *worker, bool able) {
    pthread_mutex_lock(&worker->lock);
    if (able)
        worker->warm++;
    else
        worker->unable++;
    pthread_cond_broadcast(&worker->changed);
    while (worker->gate == GATE_CLOSED)
        pthread_cond_wait(&worker->changed, &worker->lock);
    bool serve_now = able && worker->gate == GATE_OPEN;
    pthread_mutex_unlock(&worker->lock);
    return serve_now;
}

static void *compute_thread(void *context) {
    struct worker *worker = context;
    struct moult_answerer *answerer =
        moult_answerer_open(worker->model, worker->batch, worker->port);
    if (answerer)
        moult_answerer_warm(answerer);
    if (pass_gate(worker, answerer != NULL)) {
        struct moult_portion *portion = moult_allocate(1, sizeof(*portion));
        while (moult_batch_take(worker->batch, portion)) {
            moult_fault_point("batch");
            moult_answerer_run(answerer, portion);
            moult_fault_point("answer");
            moult_batch_finish(worker->batch, portion);
        }
        free(portion);
    }
    moult_answerer_close(answerer);
    return NULL;
}

/* Waits until `count` threads are warm; false where one cannot be. */
static bool wait_until_warm(struct worker *worker, uint32_t count) {
    pthread_mutex_lock(&worker->lock);
    while (worker->warm + worker->unable < count)
        pthread_cond_wait(&worker->changed, &worker->lock);
    bool all = worker->unable == 0;
    pthread_mutex_unlock(&worker->lock);
    return all;
}

static void set_gate(struct worker *worker, enum gate gate) {
    pthread_mutex_lock(&worker->lock);
    worker->gate = gate;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
}

static int serve(struct worker *worker) {
    pthread_t threads[MOULT_THREADS_MAX];
    uint32_t started = 0;
    int result = 0;
    worker->batch = moult_batch_open(worker->port, worker->threads, worker->report.dimensions,
                                     worker->report.tokens_max);
    while (result == 0 && started < worker->threads) {
        result = start_thread(&threads[started], compute_thread, worker);
        if (result == 0)
            started++;
    }
    if (!wait_until_warm(worker, started))
        result = moult_fail(&worker->error, MOULT_ERROR_SYSTEM,
                            "There is not enough memory for %u compute threads.", started);
    if (result == 0) {
        moult_fault_point("ready");
        report_state(worker, MOULT_WORKER_READY);
    }
    set_gate(worker, result == 0 ? GATE_OPEN : GATE_NEVER);
    while (started > 0)
        pthread_join(threads[--started], NULL);
    return result;
}
