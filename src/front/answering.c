#include "front/answering.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "front/server.h"
#include "front/slots.h"

int moult_answering_submit(struct moult_server *server, struct moult_job *job,
                           struct moult_refusal *refusal) {
    struct moult_error error;
    uint32_t retry_after_s = 1;
    if (moult_slots_submit(server->slots, job, &retry_after_s, &error) == 0)
        return 0;
    if (error.code == MOULT_ERROR_LIMIT)
        return moult_refuse(refusal, MOULT_HTTP_TOO_LARGE, NULL, "%s", error.message);
    bool unavailable = server->stopping || moult_slot_current(job->slot) == NULL;
    moult_refuse(refusal, unavailable ? MOULT_HTTP_UNAVAILABLE : MOULT_HTTP_OVERLOADED, NULL, "%s",
                 error.message);
    refusal->retry_after_s = retry_after_s > 0 ? retry_after_s : 1;
    return -1;
}

static int refuse_invalid(const struct moult_job *job, const char *texts_name,
                          struct moult_refusal *refusal) {
    const struct moult_answer_view *answer = &job->answer;
    if (answer->message_text < job->count && job->count > 1)
        return moult_refuse(refusal, MOULT_HTTP_INVALID, texts_name, "\"%s\"[%" PRIu32 "]: %s",
                            texts_name, answer->message_text, answer->message);
    return moult_refuse(refusal, MOULT_HTTP_INVALID, texts_name, "%s", answer->message);
}

static int refuse_for_now(const char *message, struct moult_refusal *refusal) {
    moult_refuse(refusal, MOULT_HTTP_UNAVAILABLE, NULL, "%s",
                 message[0] != '\0' ? message
                                    : "No model is ready to answer this just now.");
    refusal->retry_after_s = 5;
    return -1;
}

int moult_answering_check(const struct moult_job *job, const char *texts_name,
                          struct moult_refusal *refusal) {
    const struct moult_answer_view *answer = &job->answer;
    switch (job->outcome) {
    case MOULT_JOB_KILLED_WORKER:
        return moult_refuse(refusal, MOULT_HTTP_BACKEND, NULL,
                            "The worker died of this request, twice; it is not tried again.");
    case MOULT_JOB_UNAVAILABLE:
        return refuse_for_now(answer->message, refusal);
    case MOULT_JOB_ANSWERED:
        break;
    }
    switch (answer->status) {
    case MOULT_ANSWER_OK:
        return 0;
    case MOULT_ANSWER_INVALID:
        return refuse_invalid(job, texts_name, refusal);
    case MOULT_ANSWER_NOT_YET:
        return refuse_for_now(answer->message, refusal);
    case MOULT_ANSWER_FAILED:
        break;
    }
    return moult_refuse(refusal, MOULT_HTTP_BACKEND, NULL, "%s", answer->message);
}

/* A model that has been replaced says so, and when it ceases to be callable, once that is settled:
 * RFC 9745 and RFC 8594. */
static void add_lifetime(struct moult_http_request *request,
                         const struct moult_generation *generation) {
    time_t retires_at = (time_t)moult_generation_retires_at(generation);
    uint64_t replaced_at = moult_generation_replaced_at(generation);
    char text[48];
    struct tm date;
    if (replaced_at != 0) {
        snprintf(text, sizeof text, "@%" PRIu64, replaced_at);
        moult_http_add_header(request, "Deprecation", text);
    }
    if (retires_at != 0 && gmtime_r(&retires_at, &date) != NULL &&
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &date) > 0)
        moult_http_add_header(request, "Sunset", text);
}

void moult_answering_number(struct moult_http_request *request, const char *name,
                            uint64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    moult_http_add_header(request, name, text);
}

void moult_answering_headers(struct moult_http_request *request,
                             const struct moult_generation *generation, uint32_t truncated) {
    char fingerprint[17];
    snprintf(fingerprint, sizeof fingerprint, "%.16s", moult_generation_fingerprint(generation));
    moult_answering_number(request, "x-moult-generation", moult_generation_number(generation));
    moult_http_add_header(request, "x-moult-fingerprint", fingerprint);
    add_lifetime(request, generation);
    moult_answering_number(request, "x-moult-truncated", truncated);
}
