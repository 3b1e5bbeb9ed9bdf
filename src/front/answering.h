/* What all dialects say alike of a job: that it is not admitted, that it came to nothing, and who
 * has answered it. */
#ifndef MOULT_FRONT_ANSWERING_H
#define MOULT_FRONT_ANSWERING_H

#include "front/http_error.h"
#include "front/job.h"

/* moult_slots_submit(). -1: it is refused, and still the caller's. */
int moult_answering_submit(struct moult_server *server, struct moult_job *job,
                           struct moult_refusal *refusal);

/* In its `done`: 0 where it was answered with what it asked for, else refused. `texts_name` is what
 * the dialect calls the texts. */
int moult_answering_check(const struct moult_job *job, const char *texts_name,
                          struct moult_refusal *refusal);

/* x-moult-… of the generation that has answered, Deprecation and Sunset. */
void moult_answering_headers(struct moult_http_request *request,
                             const struct moult_generation *generation, uint32_t truncated);
/* "NAME: NUMBER" */
void moult_answering_number(struct moult_http_request *request, const char *name, uint64_t number);

#endif
