/* POST /search, and GET /?q= where there is something to search. */
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"
#include "front/api.h"
#include "front/search.h"

#define QUESTION_K 5

static struct moult_search *search_open(struct moult_http_request *request,
                                        const struct moult_errand_kind *kind) {
    struct moult_search *search = moult_errand_open(request, kind);
    if (search == NULL)
        return NULL;
    const char *model = moult_http_header(request, "x-moult-model");
    search->begun_ns = moult_http_begun_ns(request);
    if (model != NULL)
        search->question.model = moult_copy_string(model);
    return search;
}

void moult_search_ask(struct moult_http_request *request) {
    struct moult_search *search = search_open(request, &moult_search_kind);
    if (search != NULL)
        moult_errand_begin(&search->errand);
}

static int read_question(struct moult_search *search, const char *q, size_t size) {
    struct moult_question *question = &search->question;
    struct moult_refusal *refusal = &search->errand.refusal;
    question->k = QUESTION_K;
    question->plain = question->with_text = question->with_metadata = true;
    if (size == 0)
        return moult_refuse(refusal, MOULT_HTTP_EMPTY, "q", "\"q\" is empty.");
    if (!moult_utf8_valid(q, size))
        return moult_refuse(refusal, MOULT_HTTP_MALFORMED, "q", "\"q\" is not valid UTF-8.");
    question->count = 1;
    question->bytes = moult_copy_bytes(q, size);
    question->texts = moult_allocate(1, sizeof *question->texts);
    question->texts[0] = (struct moult_text){question->bytes, size};
    return moult_parameter_number(&search->errand, "k", 1, MOULT_HITS_MAX, &question->k);
}

void moult_search_question(struct moult_http_request *request, const char *q, size_t size) {
    struct moult_search *search = search_open(request, &moult_question_kind);
    if (search == NULL)
        return;
    read_question(search, q, size);
    moult_errand_begin(&search->errand);
}
