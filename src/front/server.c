#include "front/server.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/http.h"
#include "front/keeper.h"
#include "front/news.h"
#include "front/slot.h"

/* How long a shutdown waits for admitted requests before it fails them, and then
 * for their answers to leave: Kubernetes kills what is there after 30 s. */
#define PATIENCE_NS (24ull * 1000000000)
#define FAREWELL_NS (2ull * 1000000000)
#define HOOKS_NS (500ull * 1000000)   /* And then, how long web hooks may be told. */
#define LOOK_MS 10
/* Connections, and what workers, their channels and libraries need. */
#define FILES_WANTED (MOULT_CONNECTIONS_MAX + 1024)

/* A shutdown, step by step; each is left when what it waits for has come. */
enum stage {
    SERVING,
    ANSWERING,   /* Requests that are open, and those that still come on open connections. */
    RETIRING,    /* Workers, updates, the last save. */
    CLOSING      /* Only handles are left. */
};

struct front {
    struct moult_server server;
    uv_loop_t loop;
    struct moult_keeper *keeper;
    struct moult_http *http;
    struct moult_news *news;
    uv_signal_t terminate, interrupt;
    uv_timer_t look;
    enum stage stage;
    uint64_t patience_until_ns, hooks_until_ns;
    int exit_code;
    bool chosen_by_us;   /* The model: nobody named one, and there was none. */
};

static int open_front(struct front *front, struct moult_error *error);
static int add_slots(struct front *front, struct moult_error *error);
static int raise_slots(struct front *front, struct moult_error *error);
static void stop(struct front *front, int exit_code);
static void free_front(struct front *front);
static void on_signal(uv_signal_t *handle, int number);
static void on_look(uv_timer_t *timer);
static void on_serving(void *context, struct moult_slot *slot);
static void on_first_update(void *context, const struct moult_update_result *result);

static void settle_process(void) {
    struct rlimit files;
    moult_log_setup("front", MOULT_LOG_INFO);
    prctl(PR_SET_NAME, "moult-front");
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);   /* A limit on file sizes is an error with a reason. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < FILES_WANTED) {
        files.rlim_cur = files.rlim_max < FILES_WANTED ? files.rlim_max : FILES_WANTED;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

int moult_serve(const struct moult_serve_options *options) {
    struct front front = {.server = {.options = options, .started_at = (uint64_t)time(NULL)}};
    struct moult_error error;
    settle_process();
    uv_loop_init(&front.loop);
    front.server.loop = &front.loop;
    if (open_front(&front, &error) != 0) {
        fprintf(stderr, "moult: %s\n", error.message);
        stop(&front, 1);
    }
    uv_run(&front.loop, UV_RUN_DEFAULT);
    free_front(&front);
    return front.exit_code;
}

static int open_news(struct front *front, struct moult_error *error) {
    struct moult_server *server = &front->server;
    const struct moult_serve_options *options = server->options;
    if (options->hook_count > 0) {
        server->hooks = moult_hooks_open(options->hook_urls, options->hook_count,
                                         &options->hook_keys, error);
        if (server->hooks == NULL)
            return -1;
    }
    front->news = moult_news_open(server->updates, server->hooks, &server->metrics);
    return 0;
}

/* What is made here in part is taken down by stop(), which knows how far it came. */
static int open_front(struct front *front, struct moult_error *error) {
    struct moult_server *server = &front->server;
    uv_signal_init(server->loop, &front->terminate);
    uv_signal_init(server->loop, &front->interrupt);
    uv_timer_init(server->loop, &front->look);
    front->terminate.data = front->interrupt.data = front->look.data = front;
    front->keeper = moult_keeper_open(server->loop, server->options->data, error);
    if (front->keeper == NULL)
        return -1;
    server->slots = moult_slots_open(server->loop, server->options,
                                     moult_keeper_models_folder(front->keeper));
    if (add_slots(front, error) != 0)
        return -1;
    server->shelf = moult_shelf_open(server->loop, server->slots, front->keeper);
    server->updates = moult_updates_open(server->loop, server->slots, front->keeper, server->shelf,
                                         on_serving, on_first_update, front);
    if (open_news(front, error) != 0)
        return -1;
    front->http = moult_http_open(server, error);
    if (front->http == NULL)
        return -1;
    uv_signal_start(&front->terminate, on_signal, SIGTERM);
    uv_signal_start(&front->interrupt, on_signal, SIGINT);
    if (raise_slots(front, error) != 0)
        return -1;
    if (server->options->update_every_s > 0)
        server->poll = moult_poll_open(server->loop, server->slots, server->updates, front->keeper,
                                       server->options->update_every_s);
    return 0;
}

/* Slots. */

static int add_slot(struct front *front, const struct moult_serve_model *model,
                    struct moult_error *error) {
    struct moult_state *state = moult_keeper_state(front->keeper);
    struct moult_state_slot *record = moult_state_find(state, model->name);
    if (record == NULL)
        record = moult_state_add(state, model->name, model->source);
    if (record == NULL)
        return moult_fail(error, MOULT_ERROR_LIMIT, "The data folder %s has %d slots already.",
                          front->server.options->data, MOULT_SLOTS_MAX);
    if (strcmp(record->source, model->source) != 0) {
        if (record->current.generation != 0)
            moult_log_info("%s goes on with generation %llu; what %s has is taken by moult "
                           "update%s.",
                           model->name, (unsigned long long)record->current.generation,
                           model->source,
                           front->server.options->update_every_s > 0 ? ", or soon" : "");
        free(record->source);
        record->source = moult_copy_string(model->source);
        record->seen[0] = '\0';
    }
    moult_slots_add(front->server.slots, record->name, record->source);
    return 0;
}

/* Those of the command line; or else those of the state; or else the one that we choose. */
static int add_slots(struct front *front, struct moult_error *error) {
    const char *name = strchr(MOULT_DEFAULT_MODEL, '/') + 1;
    const struct moult_serve_model ours = {(char *)name, (char *)MOULT_DEFAULT_MODEL};
    const struct moult_serve_options *options = front->server.options;
    struct moult_state *state = moult_keeper_state(front->keeper);
    for (unsigned i = 0; i < options->model_count; i++)
        if (add_slot(front, &options->models[i], error) != 0)
            return -1;
    if (options->model_count > 0) {
        moult_keeper_save(front->keeper, NULL, NULL, 0);
        return 0;
    }
    for (unsigned i = 0; i < state->count; i++)
        if (state->slots[i].current.generation != 0)
            moult_slots_add(front->server.slots, state->slots[i].name, state->slots[i].source);
    if (moult_slots_count(front->server.slots) > 0)
        return 0;
    front->chosen_by_us = true;
    return add_slot(front, &ours, error);
}

static int raise_slots(struct front *front, struct moult_error *error) {
    for (unsigned i = 0; i < moult_slots_count(front->server.slots); i++)
        if (moult_updates_raise(front->server.updates, moult_slots_at(front->server.slots, i),
                                error) != 0)
            return -1;
    return 0;
}

/* A server that cannot serve what it was started for says so and ends; not where
 * somebody has ordered something else meanwhile. */
static void on_first_update(void *context, const struct moult_update_result *result) {
    struct front *front = context;
    if (result->status == MOULT_UPDATE_LIVE || result->status == MOULT_UPDATE_SUPERSEDED ||
        front->stage != SERVING || moult_slot_current(result->slot) != NULL)
        return;
    fprintf(stderr, "moult: %s cannot be served from %s: %s\n", moult_slot_name(result->slot),
            moult_slot_source(result->slot), result->reason);
    if (front->chosen_by_us)
        fputs("moult: No model was named, and the data folder has none yet. `moult serve MODEL` "
              "takes one from a folder, a hub or a model server; `make run` fetches one and "
              "serves it.\n", stderr);
    stop(front, 1);
}

static void print_slot(struct moult_slot *slot) {
    const struct moult_generation *current = moult_slot_current(slot);
    const struct moult_worker_report *report = moult_generation_report(current);
    printf("moult %s serves %s: generation %llu of %s\n", MOULT_VERSION,
           moult_generation_label(current),
           (unsigned long long)moult_generation_number(current), moult_slot_source(slot));
    printf("  %u dimensions, up to %u tokens, kernels %s %s, %u threads\n", report->dimensions,
           report->tokens_max, report->kernels, report->precision, report->threads);
}

static void on_serving(void *context, struct moult_slot *slot) {
    struct front *front = context;
    const struct moult_serve_options *options = front->server.options;
    (void)slot;
    if (!moult_slots_healthy(front->server.slots) || front->stage != SERVING)
        return;
    bool any = strcmp(options->host, "0.0.0.0") == 0 || strcmp(options->host, "::") == 0;
    bool v6 = !any && strchr(options->host, ':') != NULL;
    for (unsigned i = 0; i < moult_slots_count(front->server.slots); i++)
        print_slot(moult_slots_at(front->server.slots, i));
    printf("Try it:\n\n  curl %s'http://%s%s%s:%u/?q=How+big+is+London'\n\n",
           options->api_key != NULL ? "-H \"Authorization: Bearer $KEY\" " : "", v6 ? "[" : "",
           any ? "127.0.0.1" : options->host, v6 ? "]" : "", options->port);
    fflush(stdout);
}

/* The end. */

static void on_signal(uv_signal_t *handle, int number) {
    struct front *front = handle->data;
    (void)number;
    if (front->stage == SERVING) {
        moult_log_info("Asked to stop: what was admitted is answered first.");
        stop(front, 0);
    } else {
        moult_log_warning("Asked again: stopping at once.");
        _exit(1);   /* Workers die with their front. */
    }
}

static void stop(struct front *front, int exit_code) {
    if (front->stage != SERVING)
        return;
    front->exit_code = exit_code;
    front->server.stopping = true;
    front->stage = ANSWERING;
    front->patience_until_ns = moult_clock_ns() + PATIENCE_NS;
    if (front->http != NULL)
        moult_http_drain(front->http);
    if (front->server.updates != NULL)
        moult_updates_stop(front->server.updates);
    if (front->server.poll != NULL)
        moult_poll_stop(front->server.poll);
    uv_timer_start(&front->look, on_look, 0, LOOK_MS);
}

static void close_handle(uv_handle_t *handle) {
    uv_close(handle, NULL);
}

static void close_front(struct front *front) {
    front->stage = CLOSING;
    if (front->http != NULL)
        moult_http_close(front->http);
    if (front->server.poll != NULL)
        moult_poll_close_handles(front->server.poll);
    if (front->server.updates != NULL)
        moult_updates_close_handles(front->server.updates);
    if (front->server.shelf != NULL)
        moult_shelf_close_handles(front->server.shelf);
    if (front->server.slots != NULL)
        moult_slots_close_handles(front->server.slots);
    close_handle((uv_handle_t *)&front->terminate);
    close_handle((uv_handle_t *)&front->interrupt);
    close_handle((uv_handle_t *)&front->look);
}

static bool is_retired(struct front *front) {
    struct moult_server *server = &front->server;
    bool retired = server->updates == NULL || moult_slots_retire_all(server->slots);
    bool quiet = server->updates == NULL || moult_updates_stop(server->updates);
    quiet = (server->poll == NULL || moult_poll_stop(server->poll)) && quiet;
    quiet = quiet && (front->http == NULL || moult_http_quiet(front->http));
    return retired && quiet && (front->keeper == NULL || moult_keeper_quiet(front->keeper));
}

/* The last that may take its time, and not much of it. */
static bool hooks_are_over(struct front *front) {
    uint64_t now_ns = moult_clock_ns();
    if (front->server.hooks == NULL)
        return true;
    if (front->hooks_until_ns == 0)
        front->hooks_until_ns = now_ns + HOOKS_NS;
    return moult_hooks_stop(front->server.hooks, now_ns >= front->hooks_until_ns);
}

static void on_look(uv_timer_t *timer) {
    struct front *front = timer->data;
    if (front->stage == ANSWERING) {
        uint64_t now_ns = moult_clock_ns();
        bool open = front->http != NULL && moult_http_open_requests(front->http) > 0;
        if (open && now_ns >= front->patience_until_ns)
            moult_slots_stop(front->server.slots, true);
        if (open && now_ns < front->patience_until_ns + FAREWELL_NS)
            return;
        front->stage = RETIRING;
        if (front->server.slots != NULL)
            moult_slots_stop(front->server.slots, false);
    }
    if (front->stage == RETIRING && is_retired(front) && hooks_are_over(front))
        close_front(front);
}

static void free_front(struct front *front) {
    if (front->server.poll != NULL)
        moult_poll_free(front->server.poll);
    if (front->news != NULL)
        moult_news_close(front->news);
    if (front->server.hooks != NULL)
        moult_hooks_close(front->server.hooks);
    if (front->server.updates != NULL)
        moult_updates_free(front->server.updates);
    if (front->server.shelf != NULL)
        moult_shelf_free(front->server.shelf);
    if (front->server.slots != NULL)
        moult_slots_free(front->server.slots);
    if (front->keeper != NULL)
        moult_keeper_close(front->keeper);
    int closed = uv_loop_close(&front->loop);
    MOULT_REQUIRE(closed == 0);
    uv_library_shutdown();
}
