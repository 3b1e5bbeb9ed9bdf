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
#include "front/front.h"
#include "front/replaced.h"
#include "front/slot.h"
#include "front/systemd.h"

/* How long a shutdown waits for admitted requests before it fails them, and then
 * for their answers to leave: Kubernetes kills what is there after 30 s. */
#define PATIENCE_NS (24ull * 1000000000)
#define FAREWELL_NS (2ull * 1000000000)
#define HOOKS_NS (500ull * 1000000)   /* And then, how long web hooks may be told. */
#define LOOK_MS 10
#define SHUTTING_DOWN "The server is shutting down."
/* Connections, and what workers, their channels and libraries need. */
#define FILES_WANTED (MOULT_CONNECTIONS_MAX + 1024)

static int open_front(struct moult_front *front, struct moult_error *error);
static int add_slots(struct moult_front *front, struct moult_error *error);
static void free_front(struct moult_front *front);
static void on_signal(uv_signal_t *handle, int number);
static void on_upgrade(uv_signal_t *handle, int number);
static void on_look(uv_timer_t *timer);
static void on_watchdog(uv_timer_t *timer);
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

void moult_front_fail(struct moult_front *front, const struct moult_error *error) {
    fprintf(stderr, "moult: %s\n", error->message);
    moult_front_stop(front, 1);
}

int moult_serve(const struct moult_serve_options *options) {
    struct moult_front front = {.server = {.options = options,
                                           .listener = {.fd = -1},
                                           .started_at = (uint64_t)time(NULL)}};
    struct moult_error error;
    settle_process();
    uv_loop_init(&front.loop);
    front.server.loop = &front.loop;
    if (open_front(&front, &error) != 0)
        moult_front_fail(&front, &error);
    uv_run(&front.loop, UV_RUN_DEFAULT);
    free_front(&front);
    return front.exit_code;
}

static void open_handles(struct moult_front *front) {
    uv_loop_t *loop = &front->loop;
    uv_signal_init(loop, &front->terminate);
    uv_signal_init(loop, &front->interrupt);
    uv_signal_init(loop, &front->upgrade);
    uv_timer_init(loop, &front->look);
    uv_timer_init(loop, &front->watchdog);
    front->terminate.data = front->interrupt.data = front->upgrade.data = front;
    front->look.data = front->watchdog.data = front;
}

static void start_handles(struct moult_front *front) {
    uint64_t watchdog_ms = moult_notify_watchdog_us() / 2000;
    uv_signal_start(&front->terminate, on_signal, SIGTERM);
    uv_signal_start(&front->interrupt, on_signal, SIGINT);
    uv_signal_start(&front->upgrade, on_upgrade, SIGUSR2);
    if (watchdog_ms > 0)
        uv_timer_start(&front->watchdog, on_watchdog, watchdog_ms, watchdog_ms);
}

/* Clients may wait already in a socket that was handed to us. They are not told that no model is
 * loaded yet: they wait until it is. */
static int start_or_load(struct moult_front *front, struct moult_error *error) {
    struct moult_server *server = &front->server;
    if (server->listener.fd < 0 &&
        moult_listener_bind(&server->listener, server->options->host, server->options->port,
                            error) != 0)
        return -1;
    if (front->takeover == NULL && !server->listener.activated &&
        moult_front_start_http(front, error) != 0)
        return -1;
    start_handles(front);
    if (moult_front_raise(front, true, error) != 0)
        return -1;
    if (front->takeover == NULL) {
        moult_front_limit_loading(front);
        if (moult_front_raise(front, false, error) != 0)
            return -1;
        moult_front_open_poll(front);
    }
    moult_front_try_serving(front);
    return 0;
}

void moult_front_open_poll(struct moult_front *front) {
    struct moult_server *server = &front->server;
    if (server->options->update_every_s > 0)
        server->poll = moult_poll_open(server->loop, server->slots, server->updates, front->keeper,
                                       server->options->update_every_s);
}

static int open_news(struct moult_front *front, struct moult_error *error) {
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

/* A guest only reads: the store is another process's still. */
static int open_store(struct moult_front *front, struct moult_error *error) {
    struct moult_server *server = &front->server;
    const char *data = server->options->data;
    bool own = front->takeover == NULL;
    if (server->options->no_store) {
        moult_log_info("No documents are kept: vectors are somebody else's%s.",
                       server->options->cutover_manual
                           ? ", and a new model serves when a person says so (moult cutover)" : "");
        return 0;
    }
    server->desk = moult_desk_open(server->loop, data, !own, error);
    if (server->desk == NULL)
        return -1;
    server->catalogue = moult_catalogue_open(server->desk);
    server->replaced = moult_replaced_open();
    server->followers =
        moult_followers_open(server->loop, server->slots, server->desk, data, own, error);
    return server->followers != NULL ? 0 : -1;
}

/* What is made here in part is taken down by moult_front_stop(), which knows how far it
 * came. */
static int open_front(struct moult_front *front, struct moult_error *error) {
    struct moult_server *server = &front->server;
    open_handles(front);
    if (moult_front_find_listener(front, error) != 0 || moult_front_open_keeper(front, error) != 0)
        return -1;
    server->slots = moult_slots_open(server->loop, server->options,
                                     moult_keeper_models_folder(front->keeper));
    if (add_slots(front, error) != 0 || open_store(front, error) != 0)
        return -1;
    server->shelf = moult_shelf_open(server->loop, server->slots, front->keeper);
    server->updates = moult_updates_open(server->loop, server->slots, front->keeper, server->shelf,
                                         on_serving, on_first_update, front);
    moult_updates_use_desk(server->updates, server->desk);
    if (open_news(front, error) != 0)
        return -1;
    if (front->takeover != NULL)
        moult_updates_be_guest(server->updates, "The server is about to take over.");
    return start_or_load(front, error);
}

/* Slots. */

static int add_slot(struct moult_front *front, const struct moult_serve_model *model,
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
static int add_slots(struct moult_front *front, struct moult_error *error) {
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

static bool has_model(const struct moult_front *front, const struct moult_slot *slot) {
    struct moult_state *state = moult_keeper_state(front->keeper);
    return moult_state_find(state, moult_slot_name(slot))->current.generation != 0;
}

int moult_front_raise(struct moult_front *front, bool restored, struct moult_error *error) {
    for (unsigned i = 0; i < moult_slots_count(front->server.slots); i++) {
        struct moult_slot *slot = moult_slots_at(front->server.slots, i);
        if (has_model(front, slot) == restored &&
            moult_updates_raise(front->server.updates, slot, error) != 0)
            return -1;
    }
    return 0;
}

bool moult_front_is_restored(const struct moult_front *front) {
    for (unsigned i = 0; i < moult_slots_count(front->server.slots); i++) {
        const struct moult_slot *slot = moult_slots_at(front->server.slots, i);
        if (has_model(front, slot) && moult_slot_current(slot) == NULL)
            return false;
    }
    return true;
}

/* A server that cannot serve what it was started for says so and ends; not where
 * somebody has ordered something else meanwhile. */
static void on_first_update(void *context, const struct moult_update_result *result) {
    struct moult_front *front = context;
    if (result->status == MOULT_UPDATE_LIVE || result->status == MOULT_UPDATE_SUPERSEDED ||
        front->stage > MOULT_STAGE_SERVING || moult_slot_current(result->slot) != NULL)
        return;
    fprintf(stderr, "moult: %s cannot be served from %s: %s\n", moult_slot_name(result->slot),
            moult_slot_source(result->slot), result->reason);
    if (front->took_over)
        return;   /* The one before has gone: what it served goes on. */
    if (front->chosen_by_us)
        fputs("moult: No model was named, and the data folder has none yet. `moult serve MODEL` "
              "takes one from a folder, a hub or a model server; `make run` fetches one and "
              "serves it.\n", stderr);
    moult_front_stop(front, 1);
}

static void print_slot(struct moult_slot *slot) {
    const struct moult_generation *current = moult_slot_current(slot);
    const struct moult_worker_report *report = moult_generation_report(current);
    printf("moult %s serves %s: generation %llu of %s\n", MOULT_VERSION,
           moult_generation_label(current),
           (unsigned long long)moult_generation_number(current), moult_slot_source(slot));
    printf("  %u dimensions, up to %u tokens, kernels %s, %s (cosine to f32 at least %.6f), "
           "%u threads\n",
           report->dimensions, report->tokens_max, report->kernels, report->precision,
           report->fidelity, report->threads);
}

static void print_invitation(const struct moult_server *server) {
    const struct moult_listener *listener = &server->listener;
    bool any = strcmp(listener->host, "0.0.0.0") == 0 || strcmp(listener->host, "::") == 0;
    bool v6 = !any && strchr(listener->host, ':') != NULL;
    const char *key =
        server->options->api_key != NULL ? "-H \"Authorization: Bearer $KEY\" " : "";
    if (listener->host[0] == '/')
        printf("Try it:\n\n  curl %s--unix-socket %s 'http://localhost/?q=How+big+is+London'\n\n",
               key, listener->host);
    else
        printf("Try it:\n\n  curl %s'http://%s%s%s:%u/?q=How+big+is+London'\n\n", key,
               v6 ? "[" : "", any ? "127.0.0.1" : listener->host, v6 ? "]" : "", listener->port);
}

void moult_front_announce(struct moult_front *front) {
    if (front->stage != MOULT_STAGE_SERVING || !moult_slots_healthy(front->server.slots))
        return;
    for (unsigned i = 0; i < moult_slots_count(front->server.slots); i++)
        print_slot(moult_slots_at(front->server.slots, i));
    print_invitation(&front->server);
    fflush(stdout);
    moult_notify("READY=1\nSTATUS=Serving %u models.", moult_slots_count(front->server.slots));
}

static void on_serving(void *context, struct moult_slot *slot) {
    struct moult_front *front = context;
    (void)slot;
    if (front->stage == MOULT_STAGE_LOADING)
        moult_front_try_serving(front);
    else
        moult_front_announce(front);
}

static void on_upgrade(uv_signal_t *handle, int number) {
    (void)number;
    moult_front_upgrade(handle->data);
}

static void on_watchdog(uv_timer_t *timer) {
    (void)timer;
    moult_notify("WATCHDOG=1");
}

/* The end. */

static void on_signal(uv_signal_t *handle, int number) {
    struct moult_front *front = handle->data;
    (void)number;
    if (front->stage <= MOULT_STAGE_SERVING) {
        moult_log_info("Asked to stop: what was admitted is answered first.");
        moult_notify("STOPPING=1");
        moult_front_stop(front, 0);
    } else if (front->stage == MOULT_STAGE_ANSWERING && front->handed_over) {
        front->handed_over = false;
        front->patience_until_ns = moult_clock_ns() + PATIENCE_NS;
        moult_http_drain(front->http);
    } else {
        moult_log_warning("Asked again: stopping at once.");
        _exit(1);   /* Workers die with their front. */
    }
}

void moult_front_stop(struct moult_front *front, int exit_code) {
    if (front->stage > MOULT_STAGE_SERVING)
        return;
    front->exit_code = exit_code;
    front->server.stopping = true;
    moult_front_leave_succession(front);
    moult_front_wind_up(front, PATIENCE_NS);
    if (front->http != NULL)
        moult_http_drain(front->http);
    if (front->server.updates != NULL)
        moult_updates_stop(front->server.updates, SHUTTING_DOWN);
    if (front->server.poll != NULL)
        moult_poll_stop(front->server.poll);
}

void moult_front_wind_up(struct moult_front *front, uint64_t patience_ns) {
    front->stage = MOULT_STAGE_ANSWERING;
    front->patience_until_ns = moult_clock_ns() + patience_ns;
    uv_timer_start(&front->look, on_look, 0, LOOK_MS);
}

static void close_handle(uv_handle_t *handle) {
    uv_close(handle, NULL);
}

static void close_front(struct moult_front *front) {
    front->stage = MOULT_STAGE_CLOSING;
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
    if (front->server.followers != NULL)
        moult_followers_close_handles(front->server.followers);
    if (front->server.desk != NULL)
        moult_desk_close_handles(front->server.desk);
    if (front->successor != NULL)
        moult_successor_close(front->successor);
    close_handle((uv_handle_t *)&front->terminate);
    close_handle((uv_handle_t *)&front->interrupt);
    close_handle((uv_handle_t *)&front->upgrade);
    close_handle((uv_handle_t *)&front->look);
    close_handle((uv_handle_t *)&front->watchdog);
}

static bool is_store_quiet(struct moult_server *server) {
    if (server->followers != NULL && !moult_followers_stop(server->followers, true))
        return false;
    return server->desk == NULL || moult_desk_stop(server->desk, false);
}

static bool is_retired(struct moult_front *front) {
    struct moult_server *server = &front->server;
    bool retired = server->updates == NULL || moult_slots_retire_all(server->slots);
    bool quiet = server->updates == NULL || moult_updates_stop(server->updates, SHUTTING_DOWN);
    quiet = (server->poll == NULL || moult_poll_stop(server->poll)) && quiet;
    quiet = quiet && (front->http == NULL || moult_http_quiet(front->http));
    quiet = is_store_quiet(server) && quiet;
    return retired && quiet && (front->keeper == NULL || moult_keeper_quiet(front->keeper));
}

/* The last that may take its time, and not much of it. */
static bool hooks_are_over(struct moult_front *front) {
    uint64_t now_ns = moult_clock_ns();
    if (front->server.hooks == NULL)
        return true;
    if (front->hooks_until_ns == 0)
        front->hooks_until_ns = now_ns + HOOKS_NS;
    return moult_hooks_stop(front->server.hooks, now_ns >= front->hooks_until_ns);
}

static void give_up_waiting(struct moult_front *front) {
    moult_slots_stop(front->server.slots, true);
    if (front->server.followers != NULL)
        moult_followers_stop(front->server.followers, true);
    if (front->server.desk != NULL)
        moult_desk_stop(front->server.desk, true);
}

static void on_look(uv_timer_t *timer) {
    struct moult_front *front = timer->data;
    if (front->stage == MOULT_STAGE_ANSWERING) {
        uint64_t now_ns = moult_clock_ns();
        bool open = front->http != NULL && moult_http_open_requests(front->http) > 0;
        if (open && now_ns >= front->patience_until_ns)
            give_up_waiting(front);
        if (open && now_ns < front->patience_until_ns + FAREWELL_NS)
            return;
        front->stage = MOULT_STAGE_RETIRING;
        if (front->server.slots != NULL)
            moult_slots_stop(front->server.slots, false);
    }
    if (front->stage == MOULT_STAGE_RETIRING && is_retired(front) && hooks_are_over(front))
        close_front(front);
}

static void free_front(struct moult_front *front) {
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
    if (front->server.followers != NULL)
        moult_followers_free(front->server.followers);
    if (front->server.slots != NULL)
        moult_slots_free(front->server.slots);
    if (front->server.replaced != NULL)
        moult_replaced_close(front->server.replaced);
    if (front->server.catalogue != NULL)
        moult_catalogue_free(front->server.catalogue);
    if (front->server.desk != NULL)
        moult_desk_free(front->server.desk);
    if (front->keeper != NULL)
        moult_keeper_close(front->keeper);
    moult_listener_close(&front->server.listener);
    int closed = uv_loop_close(&front->loop);
    MOULT_REQUIRE(closed == 0);
    uv_library_shutdown();
}
