/* GET /metrics, in Prometheus's text format: what was counted (metrics.h), and what is so now.
 *
 * All of it is written in the loop's thread: a few kilobytes, and for each worker one read of
 * /proc/PID/statm, which takes some microseconds. */
#include <inttypes.h>
#include <time.h>

#include "base/limits.h"
#include "base/machine.h"
#include "front/api.h"
#include "front/http.h"
#include "front/metrics.h"

/* Routes with all their statuses, slots with all their generations. */
#define METRICS_BYTES_MAX MOULT_MIB

/* The lines of one family, for every slot. */
static void for_slots(struct moult_buffer *out, const struct moult_server *server,
                      void (*write)(struct moult_buffer *out, const struct moult_server *server,
                                    struct moult_slot *slot)) {
    for (unsigned i = 0; i < moult_slots_count(server->slots); i++)
        write(out, server, moult_slots_at(server->slots, i));
}

static void begin_line(struct moult_buffer *out, const char *name, const struct moult_slot *slot) {
    moult_buffer_format(out, "%s{slot=", name);
    moult_metrics_label(out, moult_slot_name(slot));
}

static const struct moult_metrics_slot *counts_of(const struct moult_server *server,
                                                  const struct moult_slot *slot) {
    return &server->metrics.slots[moult_slot_index(slot)];
}

/* What was embedded. */

static void write_texts(struct moult_buffer *out, const struct moult_server *server,
                        struct moult_slot *slot) {
    begin_line(out, "moult_texts_total", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n", counts_of(server, slot)->texts);
}

static void write_tokens(struct moult_buffer *out, const struct moult_server *server,
                         struct moult_slot *slot) {
    begin_line(out, "moult_tokens_total", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n", counts_of(server, slot)->tokens);
}

static void write_truncated(struct moult_buffer *out, const struct moult_server *server,
                            struct moult_slot *slot) {
    begin_line(out, "moult_truncated_texts_total", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n", counts_of(server, slot)->truncated);
}

static void write_work(struct moult_buffer *out, const struct moult_server *server) {
    moult_metrics_head(out, "moult_texts_total", "counter", "Texts embedded.");
    for_slots(out, server, write_texts);
    moult_metrics_head(out, "moult_tokens_total", "counter",
                       "Their tokens, special ones included, after truncation.");
    for_slots(out, server, write_tokens);
    moult_metrics_head(out, "moult_truncated_texts_total", "counter",
                       "Texts that were longer than the model reads, and were cut.");
    for_slots(out, server, write_truncated);
    moult_metrics_head(out, "moult_waiting_texts", "gauge", "Texts that wait for a worker now.");
    moult_buffer_format(out, "moult_waiting_texts %" PRIu32 "\n",
                        moult_slots_waiting(server->slots));
    moult_metrics_head(out, "moult_waiting_texts_max", "gauge",
                       "Beyond so many, requests are answered with 429.");
    moult_buffer_format(out, "moult_waiting_texts_max %" PRIu32 "\n",
                        moult_slots_waiting_max(server->slots));
}

/* Documents and searches. */

static void write_documents_of(struct moult_buffer *out, const struct moult_server *server,
                               struct moult_slot *slot) {
    begin_line(out, "moult_documents", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n",
                        moult_catalogue_documents(server->catalogue, moult_slot_name(slot)));
}

static void write_documents(struct moult_buffer *out, const struct moult_server *server) {
    static const char *const queues[] = {"write", "read", "read_later", "words"};
    if (server->desk == NULL)
        return;
    moult_metrics_head(out, "moult_documents", "gauge", "Documents that are stored.");
    for_slots(out, server, write_documents_of);
    moult_metrics_head(out, "moult_queries_total", "counter", "Queries answered with documents.");
    for (unsigned mode = 0; mode < MOULT_SEARCH_MODES; mode++)
        moult_buffer_format(out, "moult_queries_total{mode=\"%s\"} %" PRIu64 "\n",
                            moult_search_mode_names[mode], server->metrics.queries[mode]);
    moult_metrics_head(out, "moult_store_waiting", "gauge",
                       "What waits for the store's threads, or is being done by them, now.");
    for (unsigned queue = 0; queue < MOULT_DESK_QUEUES; queue++)
        moult_buffer_format(out, "moult_store_waiting{queue=\"%s\"} %u\n", queues[queue],
                            moult_desk_waiting(server->desk, (enum moult_desk_queue)queue));
}

/* Generations and their workers. */

static void write_current(struct moult_buffer *out, const struct moult_server *server,
                          struct moult_slot *slot) {
    const struct moult_generation *current = moult_slot_current(slot);
    (void)server;
    begin_line(out, "moult_generation", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n",
                        current != NULL ? moult_generation_number(current) : 0);
}

static void write_current_info(struct moult_buffer *out, const struct moult_server *server,
                               struct moult_slot *slot) {
    const struct moult_generation *current = moult_slot_current(slot);
    (void)server;
    if (current == NULL)
        return;
    const struct moult_worker_report *report = moult_generation_report(current);
    begin_line(out, "moult_generation_info", slot);
    moult_buffer_text(out, ",model=");
    moult_metrics_label(out, moult_generation_label(current));
    moult_buffer_format(out, ",fingerprint=\"%s\",precision=",
                        moult_generation_fingerprint(current));
    moult_metrics_label(out, report->precision);
    moult_buffer_text(out, ",kernels=");
    moult_metrics_label(out, report->kernels);
    moult_buffer_text(out, "} 1\n");
}

static void write_fidelity(struct moult_buffer *out, const struct moult_server *server,
                           struct moult_slot *slot) {
    const struct moult_generation *current = moult_slot_current(slot);
    (void)server;
    if (current == NULL || moult_generation_report(current)->precision[0] == '\0')
        return;
    begin_line(out, "moult_generation_fidelity", slot);
    moult_buffer_format(out, "} %.9g\n", moult_generation_report(current)->fidelity);
}

static void write_memory(struct moult_buffer *out, const struct moult_server *server,
                         struct moult_slot *slot) {
    const struct moult_generation *generation;
    (void)server;
    for (unsigned i = 0; (generation = moult_slot_worker_at(slot, i)) != NULL; i++) {
        int pid = moult_generation_pid(generation);
        uint64_t bytes = pid != 0 ? moult_machine_resident_bytes(pid) : 0;
        if (bytes == 0)
            continue;   /* It sleeps, or is just ending. */
        begin_line(out, "moult_worker_resident_bytes", slot);
        moult_buffer_format(out, ",generation=\"%" PRIu64 "\"} %" PRIu64 "\n",
                            moult_generation_number(generation), bytes);
    }
}

static void write_restarts(struct moult_buffer *out, const struct moult_server *server,
                           struct moult_slot *slot) {
    (void)server;
    begin_line(out, "moult_worker_restarts_total", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n", moult_slot_restarts(slot));
}

static void write_generations(struct moult_buffer *out, const struct moult_server *server) {
    moult_metrics_head(out, "moult_generation", "gauge",
                       "The number of the generation that answers; 0 while there is none.");
    for_slots(out, server, write_current);
    moult_metrics_head(out, "moult_generation_info", "gauge", "The exact model that answers.");
    for_slots(out, server, write_current_info);
    moult_metrics_head(out, "moult_generation_fidelity", "gauge",
                       "The least cosine between its vectors and those of f32, as measured.");
    for_slots(out, server, write_fidelity);
    moult_metrics_head(out, "moult_worker_resident_bytes", "gauge",
                       "Resident memory of each worker.");
    for_slots(out, server, write_memory);
    moult_metrics_head(out, "moult_worker_restarts_total", "counter",
                       "Workers that ended unasked and were started again.");
    for_slots(out, server, write_restarts);
}

/* Updates and hooks. */

static void write_updates_of(struct moult_buffer *out, const struct moult_server *server,
                             struct moult_slot *slot) {
    for (enum moult_update_status status = MOULT_UPDATE_LIVE; status <= MOULT_UPDATE_CANCELLED;
         status++) {
        begin_line(out, "moult_updates_total", slot);
        moult_buffer_format(out, ",result=\"%s\"} %" PRIu64 "\n",
                            moult_update_status_name(status),
                            counts_of(server, slot)->updates[status]);
    }
}

static void write_rollbacks(struct moult_buffer *out, const struct moult_server *server,
                            struct moult_slot *slot) {
    begin_line(out, "moult_rollbacks_total", slot);
    moult_buffer_format(out, "} %" PRIu64 "\n", counts_of(server, slot)->rollbacks);
}

static void write_phase(struct moult_buffer *out, const struct moult_server *server,
                        struct moult_slot *slot) {
    const struct moult_metrics_slot *counts = counts_of(server, slot);
    if (!counts->is_updated)
        return;
    begin_line(out, "moult_update_phase", slot);
    moult_buffer_format(out, ",phase=\"%s\"} 1\n", moult_update_phase_name(counts->phase));
}

static void write_updates(struct moult_buffer *out, const struct moult_server *server) {
    moult_metrics_head(out, "moult_updates_total", "counter",
                       "Updates that ended; polls that found nothing new are not among them.");
    for_slots(out, server, write_updates_of);
    moult_metrics_head(out, "moult_rollbacks_total", "counter", "Rollbacks that went live.");
    for_slots(out, server, write_rollbacks);
    moult_metrics_head(out, "moult_update_phase", "gauge",
                       "How far the update is that is under way; absent while there is none.");
    for_slots(out, server, write_phase);
}

static void write_hook_line(struct moult_buffer *out, const char *name, const char *result,
                            unsigned index, const char *receiver, uint64_t value) {
    moult_buffer_format(out, "%s{hook=\"%u\",receiver=", name, index);
    moult_metrics_label(out, receiver);
    if (result != NULL)
        moult_buffer_format(out, ",result=\"%s\"", result);
    moult_buffer_format(out, "} %" PRIu64 "\n", value);
}

/* Families may not be mixed, so there are as many rounds as families. */
static void write_hooks(struct moult_buffer *out, const struct moult_server *server) {
    struct moult_hook_counts counts;
    unsigned count = moult_hooks_count(server->hooks);
    if (count == 0)
        return;
    moult_metrics_head(out, "moult_hook_messages_total", "counter",
                       "What became of messages to web hooks.");
    for (unsigned i = 0; i < count; i++) {
        const char *name = "moult_hook_messages_total";
        moult_hooks_counts(server->hooks, i, &counts);
        write_hook_line(out, name, "delivered", i, counts.receiver, counts.delivered);
        write_hook_line(out, name, "given_up", i, counts.receiver, counts.given_up);
        write_hook_line(out, name, "dropped", i, counts.receiver, counts.dropped);
    }
    moult_metrics_head(out, "moult_hook_failed_attempts_total", "counter",
                       "Attempts to deliver one that failed.");
    for (unsigned i = 0; i < count; i++) {
        moult_hooks_counts(server->hooks, i, &counts);
        write_hook_line(out, "moult_hook_failed_attempts_total", NULL, i, counts.receiver,
                        counts.failed_attempts);
    }
    moult_metrics_head(out, "moult_hook_pending", "gauge", "Messages that wait to be delivered.");
    for (unsigned i = 0; i < count; i++) {
        moult_hooks_counts(server->hooks, i, &counts);
        write_hook_line(out, "moult_hook_pending", NULL, i, counts.receiver, counts.pending);
    }
}

/* The process. */

static void write_process(struct moult_buffer *out, const struct moult_server *server) {
    moult_metrics_head(out, "moult_build_info", "gauge", "The program.");
    moult_buffer_text(out, "moult_build_info{version=\"" MOULT_VERSION "\"} 1\n");
    moult_metrics_head(out, "process_start_time_seconds", "gauge",
                       "When the server was started, in seconds since the epoch.");
    moult_buffer_format(out, "process_start_time_seconds %" PRIu64 "\n", server->started_at);
    moult_metrics_head(out, "process_resident_memory_bytes", "gauge",
                       "Resident memory of the front, without its workers.");
    moult_buffer_format(out, "process_resident_memory_bytes %" PRIu64 "\n",
                        moult_machine_resident_bytes(0));
}

void moult_metrics_show(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    struct moult_buffer body;
    moult_buffer_init(&body, METRICS_BYTES_MAX);
    write_process(&body, server);
    moult_metrics_write_requests(&server->metrics, &body);
    write_work(&body, server);
    write_documents(&body, server);
    write_generations(&body, server);
    write_updates(&body, server);
    write_hooks(&body, server);
    size_t size;
    char *text = moult_buffer_take(&body, &size);
    moult_http_answer(request, 200, "text/plain; version=0.0.4; charset=utf-8", text, size);
}
