/* What is served: /health, /info in TEI's shape, /v1/models in OpenAI's. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "front/api.h"
#include "front/embedding.h"

/* All the models of a server fit: 64 slots of 36 generations, 350 bytes each. */
#define INFO_BYTES_MAX (2 * MOULT_MIB)

static void answer(struct moult_http_request *request, unsigned status, struct moult_buffer *body) {
    size_t size;
    char *text = moult_buffer_take(body, &size);
    moult_http_answer(request, status, "application/json", text, size);
}

static void add_text(struct moult_buffer *body, const char *text) {
    moult_buffer_json_string(body, text, strlen(text));
}

/* Never false because of an update: a failed or loading candidate is nobody's illness. */
void moult_info_health(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    struct moult_buffer body;
    moult_buffer_init(&body, MOULT_KIB);
    bool healthy = moult_slots_healthy(server->slots) && !server->stopping;
    if (!healthy)
        moult_buffer_text(&body, "{\"error\":\"unhealthy\",\"error_type\":\"Unhealthy\"}");
    answer(request, healthy ? 200 : 503, &body);
}

/* The same in the words of the Open Inference Protocol. */
void moult_info_ready(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    struct moult_buffer body;
    moult_buffer_init(&body, MOULT_KIB);
    bool ready = moult_slots_healthy(server->slots) && !server->stopping;
    moult_buffer_format(&body, "{\"ready\":%s}", ready ? "true" : "false");
    answer(request, ready ? 200 : 503, &body);
}

/* The loop runs: a server that drains, or has no model yet, must not be killed for it. */
void moult_info_live(struct moult_http_request *request) {
    struct moult_buffer body;
    moult_buffer_init(&body, MOULT_KIB);
    moult_buffer_text(&body, "{\"live\":true}");
    answer(request, 200, &body);
}

/* --------------------------------------------------------------------- /info */

static void add_limits(struct moult_buffer *body, const struct moult_server *server,
                       const struct moult_worker_report *report) {
    moult_buffer_format(body, ",\"max_concurrent_requests\":%" PRIu32,
                        moult_slots_waiting_max(server->slots));
    moult_buffer_format(body, ",\"max_input_length\":%" PRIu32, report->tokens_max);
    moult_buffer_format(body, ",\"max_batch_tokens\":%" PRIu32,
                        report->tokens_max * MOULT_TEXTS_PER_REQUEST_MAX);
    moult_buffer_format(body, ",\"max_batch_requests\":null,\"max_client_batch_size\":%d",
                        MOULT_TEXTS_PER_REQUEST_MAX);
    moult_buffer_format(body, ",\"auto_truncate\":%s,\"tokenization_workers\":%" PRIu32,
                        server->options->overlong_error ? "false" : "true", report->threads);
    moult_buffer_text(body, ",\"version\":\"" MOULT_VERSION "\"");
    moult_buffer_text(body, ",\"sha\":null,\"docker_label\":null");
}

/* Which slot or generation is asked about: ?model= or x-moult-model, else the first. */
void moult_info_show(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    size_t size;
    const char *model = moult_http_parameter(request, "model", &size);
    if (model == NULL)
        model = moult_http_header(request, "x-moult-model");
    struct moult_target target;
    struct moult_error error;
    if (moult_slots_resolve(server->slots, model, &target, &error) != 0) {
        moult_http_fail(request, MOULT_HTTP_NO_MODEL, "model", "%s", error.message);
        return;
    }
    const struct moult_generation *generation =
        target.pinned != NULL ? target.pinned : moult_slot_current(target.slot);
    if (generation == NULL) {
        moult_http_fail(request, MOULT_HTTP_UNAVAILABLE, NULL, "No model is ready yet.");
        return;
    }
    const struct moult_worker_report *report = moult_generation_report(generation);
    struct moult_buffer body;
    moult_buffer_init(&body, INFO_BYTES_MAX);
    moult_buffer_text(&body, "{\"model_id\":");
    add_text(&body, moult_slot_source(target.slot));
    moult_buffer_format(&body, ",\"model_sha\":\"%s\",\"model_dtype\":\"float32\"",
                        moult_generation_revision(generation));
    moult_buffer_text(&body, ",\"served_model_name\":");
    add_text(&body, moult_slot_name(target.slot));
    moult_buffer_text(&body, ",\"model_type\":{\"embedding\":{\"pooling\":");
    add_text(&body, report->pooling);
    moult_buffer_text(&body, "}}");
    add_limits(&body, server, report);
    moult_buffer_format(&body, ",\"generation\":%" PRIu64 ",\"fingerprint\":\"%s\"",
                        moult_generation_number(generation),
                        moult_generation_fingerprint(generation));
    moult_buffer_text(&body, ",\"precision\":");
    add_text(&body, report->precision);
    moult_buffer_format(&body, ",\"fidelity\":%.9g,\"kernels\":", report->fidelity);
    add_text(&body, report->kernels);
    moult_buffer_format(&body, ",\"dimensions\":%" PRIu32 ",\"normalized\":%s,\"loaded\":%s}",
                        report->dimensions, report->normalized ? "true" : "false",
                        moult_generation_loaded(generation) ? "true" : "false");
    if (target.pinned != NULL)
        moult_generation_drop(target.pinned);
    answer(request, 200, &body);
}

/* ---------------------------------------------------------------- /v1/models */

static void add_time(struct moult_buffer *body, const char *key, uint64_t seconds) {
    if (seconds == 0)
        moult_buffer_format(body, ",\"%s\":null", key);
    else
        moult_buffer_format(body, ",\"%s\":%" PRIu64, key, seconds);
}

/* One that has been asleep since the start has not said it. */
static void add_rung(struct moult_buffer *body, const struct moult_worker_report *report) {
    if (report->precision[0] == '\0')
        return;
    moult_buffer_text(body, ",\"precision\":");
    add_text(body, report->precision);
    moult_buffer_format(body, ",\"fidelity\":%.9g", report->fidelity);
}

static void add_model(struct moult_buffer *body, const struct moult_server *server, const char *id,
                      const struct moult_generation *generation) {
    moult_buffer_text(body, "{\"id\":");
    add_text(body, id);
    uint64_t created = generation != NULL ? moult_generation_ready_at(generation) : 0;
    moult_buffer_format(body, ",\"object\":\"model\",\"created\":%" PRIu64,
                        created != 0 ? created : server->started_at);
    moult_buffer_text(body, ",\"owned_by\":\"moult\"");
    if (generation == NULL) {
        moult_buffer_text(body, "}");
        return;
    }
    moult_buffer_format(body, ",\"generation\":%" PRIu64 ",\"fingerprint\":\"%s\"",
                        moult_generation_number(generation),
                        moult_generation_fingerprint(generation));
    uint32_t dimensions = moult_generation_report(generation)->dimensions;
    if (dimensions != 0)   /* One that is asleep since an older version may not know. */
        moult_buffer_format(body, ",\"dimensions\":%" PRIu32, dimensions);
    add_rung(body, moult_generation_report(generation));
    moult_buffer_format(body, ",\"loaded\":%s",
                        moult_generation_loaded(generation) ? "true" : "false");
    add_time(body, "replaced_at", moult_generation_replaced_at(generation));
    add_time(body, "retires_at", moult_generation_retires_at(generation));
    moult_buffer_text(body, "}");
}

void moult_openai_models(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    struct moult_buffer body;
    moult_buffer_init(&body, INFO_BYTES_MAX);
    moult_buffer_text(&body, "{\"object\":\"list\",\"data\":[");
    unsigned count = moult_slots_count(server->slots);
    for (unsigned i = 0; i < count; i++) {
        const struct moult_slot *slot = moult_slots_at(server->slots, i);
        if (i > 0)
            moult_buffer_text(&body, ",");
        add_model(&body, server, moult_slot_name(slot), moult_slot_current(slot));
    }
    for (unsigned i = 0; i < count; i++) {
        const struct moult_slot *slot = moult_slots_at(server->slots, i);
        const struct moult_generation *generation;
        for (unsigned j = 0; (generation = moult_slot_generation_at(slot, j)) != NULL; j++) {
            moult_buffer_text(&body, ",");
            add_model(&body, server, moult_generation_label(generation), generation);
        }
    }
    moult_buffer_text(&body, "]}");
    answer(request, 200, &body);
}

/* Asked for by its own name, an unknown model is a 404 even where there is one slot. */
void moult_openai_model(struct moult_http_request *request) {
    const struct moult_server *server = moult_http_server(request);
    const char *id = moult_http_rest(request);
    struct moult_buffer body;
    moult_buffer_init(&body, INFO_BYTES_MAX);
    for (unsigned i = 0; i < moult_slots_count(server->slots) && body.size == 0; i++) {
        const struct moult_slot *slot = moult_slots_at(server->slots, i);
        if (strcmp(moult_slot_name(slot), id) == 0)
            add_model(&body, server, id, moult_slot_current(slot));
        const struct moult_generation *generation;
        for (unsigned j = 0; (generation = moult_slot_generation_at(slot, j)) != NULL; j++)
            if (body.size == 0 && strcmp(moult_generation_label(generation), id) == 0)
                add_model(&body, server, id, generation);
    }
    if (body.size > 0) {
        answer(request, 200, &body);
        return;
    }
    moult_http_fail(request, MOULT_HTTP_NO_MODEL, "model",
                    "There is no model \"%.100s\"; GET /v1/models lists what there is.", id);
}
