/* Bodies of searches and of documents: whatever they are, they are either refused with a sentence
 * or give a sound question, and documents that the store would take. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "front/documents.h"
#include "front/json.h"
#include "front/search.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_refusal(const struct moult_refusal *refusal) {
    size_t size = strlen(refusal->message);
    MOULT_REQUIRE(refusal->refused && size > 0 && size < sizeof refusal->message);
}

static void check_question(const struct moult_question *question) {
    MOULT_REQUIRE(question->count >= 1 && question->count <= MOULT_TEXTS_PER_REQUEST_MAX);
    MOULT_REQUIRE((question->texts == NULL) == (question->vector != NULL));
    MOULT_REQUIRE(question->k >= 1 && question->k <= MOULT_HITS_MAX);
    size_t bytes = 0;
    for (uint32_t i = 0; question->texts != NULL && i < question->count; i++) {
        MOULT_REQUIRE(question->texts[i].size > 0);
        MOULT_REQUIRE(question->texts[i].bytes == question->bytes + bytes);
        bytes += question->texts[i].size;
    }
    MOULT_REQUIRE(bytes == question->text_bytes);
    struct moult_search search = {.question = *question};
    static struct moult_serve_options options;
    static struct moult_server server = {.options = &options};
    search.errand.server = &server;
    MOULT_REQUIRE(moult_search_depth(&search) >= question->k);
    moult_search_write_message(&search);
    struct moult_request_view view;
    MOULT_REQUIRE(moult_request_read(search.message, search.message_size, &view, NULL) == 0);
    MOULT_REQUIRE(view.count == question->count && view.kind == MOULT_REQUEST_SEARCH);
    free(search.message);
}

static void try_question(const json_t *body) {
    struct moult_question question = {0};
    struct moult_refusal refusal = {0};
    if (moult_search_read(&question, body, &refusal) == 0)
        check_question(&question);
    else
        check_refusal(&refusal);
    moult_question_release(&question);
}

static void try_documents(const json_t *body, bool vectors) {
    struct moult_puts puts = {0};
    struct moult_refusal refusal = {0};
    struct moult_error error;
    if (moult_puts_read(&puts, body, vectors, &refusal) != 0)
        check_refusal(&refusal);
    else
        for (uint32_t i = 0; i < puts.count; i++)
            MOULT_REQUIRE(moult_put_check(&puts.items[i], i, &error) == 0);
    moult_puts_release(&puts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_error error;
    json_t *body = moult_json_read((const char *)data, size, &error);
    if (body == NULL)
        return 0;
    if (json_is_object(body))
        try_question(body);
    try_documents(body, false);
    try_documents(body, true);
    json_decref(body);
    return 0;
}
