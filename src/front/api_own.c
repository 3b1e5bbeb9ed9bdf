/* The question's own endpoint: GET /?q=. Updates are in api_update.c. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/limits.h"
#include "front/api.h"
#include "front/embedding.h"

/* --------------------------------------------------------------------- GET / */

static void add_text(struct moult_buffer *body, const char *text) {
    moult_buffer_json_string(body, text, strlen(text));
}

static void write_query_answer(const struct moult_embedding *embedding, struct moult_buffer *body) {
    size_t size;
    const char *q = moult_http_parameter(embedding->request, "q", &size);
    const struct moult_job *job = embedding->job;
    const struct moult_answer_times *times = &job->answer.times;
    moult_buffer_text(body, "{\"status\":\"ok\",\"query\":");
    moult_buffer_json_string(body, q, size);
    moult_buffer_text(body, ",\"model\":{\"name\":");
    add_text(body, moult_slot_name(job->slot));
    moult_buffer_format(body, ",\"generation\":%" PRIu64 ",\"fingerprint\":\"%s\"}",
                        moult_generation_number(job->generation),
                        moult_generation_fingerprint(job->generation));
    moult_buffer_format(body, ",\"timing\":{\"queue_ms\":%.3f,\"model_ms\":%.3f,\"search_ms\":0}",
                        (double)times->queue_ns / 1e6,
                        (double)(times->tokenize_ns + times->compute_ns) / 1e6);
    moult_buffer_text(body, ",\"results\":[]}");
}

/* There are no documents yet, so the vector finds nothing; it is made all the same. */
static const struct moult_embedding_dialect query_dialect = {
    .texts_name = "q",
    .body = write_query_answer,
};

static void write_documents(struct moult_buffer *body, const struct moult_server *server) {
    unsigned collections = 0;
    if (server->catalogue == NULL)
        return;
    while (moult_catalogue_at(server->catalogue, collections) != NULL)
        collections++;
    uint64_t documents = moult_catalogue_documents(server->catalogue, NULL);
    moult_buffer_format(body, "%" PRIu64 " document%s in %u collection%s\n", documents,
                        documents == 1 ? "" : "s", collections, collections == 1 ? "" : "s");
}

/* What a load balancer, or a person with a browser, sees. Computes nothing. */
static void answer_status(struct moult_http_request *request) {
    const struct moult_slots *slots = moult_http_server(request)->slots;
    struct moult_buffer body;
    moult_buffer_init(&body, 64 * MOULT_KIB);
    moult_buffer_text(&body, "moult " MOULT_VERSION "\n\n");
    for (unsigned i = 0; i < moult_slots_count(slots); i++) {
        struct moult_slot *slot = moult_slots_at(slots, i);
        struct moult_generation *current = moult_slot_current(slot);
        if (current == NULL)
            moult_buffer_format(&body, "%s: no model yet\n", moult_slot_name(slot));
        else
            moult_buffer_format(&body, "%s: generation %" PRIu64 ", %s%s\n", moult_slot_name(slot),
                                moult_generation_number(current), moult_generation_label(current),
                                moult_generation_loaded(current) ? "" : ", unloaded");
    }
    write_documents(&body, moult_http_server(request));
    moult_buffer_text(&body, "\nGET /?q=TEXT embeds a text; GET /info says what with.\n");
    size_t size;
    char *text = moult_buffer_take(&body, &size);
    moult_http_answer(request, moult_slots_healthy(slots) ? 200 : 503,
                      "text/plain; charset=utf-8", text, size);
}

void moult_own_query(struct moult_http_request *request) {
    size_t size;
    const char *q = moult_http_parameter(request, "q", &size);
    if (q == NULL) {
        answer_status(request);
        return;
    }
    const struct moult_server *server = moult_http_server(request);
    if (server->desk != NULL) {
        moult_search_question(request, q, size);
        return;
    }
    size_t k_size;
    const char *k = moult_http_parameter(request, "k", &k_size);
    if (k != NULL && (k_size == 0 || k_size > 5 || strspn(k, "0123456789") != k_size)) {
        moult_http_fail(request, MOULT_HTTP_INVALID, "k", "\"k\" must be a number up to 99999.");
        return;
    }
    moult_embedding_from_text(request, &query_dialect, q, size);
}
