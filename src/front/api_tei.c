/* POST /embed, as text-embeddings-inference has it. */
#include <string.h>
#include <strings.h>

#include "front/api.h"
#include "front/embedding.h"

static int refuse(struct moult_embedding *embedding, const char *param,
                  const struct moult_error *error) {
    return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, param, "%s", error->message);
}

/* What the request does not say, --overlong has decided. */
static int read_truncation(struct moult_embedding *embedding, const json_t *body) {
    struct moult_error error;
    bool truncate = embedding->options.overlong != MOULT_OVERLONG_ERROR;
    const char *direction = "Right";
    if (moult_json_boolean(body, "truncate", &truncate, &error) < 0)
        return refuse(embedding, "truncate", &error);
    if (moult_json_string(body, "truncation_direction", &direction, &error) < 0)
        return refuse(embedding, "truncation_direction", &error);
    bool left = strcasecmp(direction, "Left") == 0;
    if (!left && strcasecmp(direction, "Right") != 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "truncation_direction",
                                      "\"truncation_direction\" must be \"Left\" or \"Right\".");
    if (!truncate)
        embedding->options.overlong = MOULT_OVERLONG_ERROR;
    else
        embedding->options.overlong = left ? MOULT_OVERLONG_CUT_LEFT : MOULT_OVERLONG_CUT_RIGHT;
    return 0;
}

/* sentence-transformers knows "query" and "document" for every model, empty
 * where the model has none; "passage" is what E5 and its like call a document. */
static int read_prompt(struct moult_embedding *embedding, const json_t *body) {
    struct moult_error error;
    const char *name;
    int found = moult_json_string(body, "prompt_name", &name, &error);
    if (found < 0)
        return refuse(embedding, "prompt_name", &error);
    if (found == 0)
        return 0;
    if (strcmp(name, "query") == 0)
        embedding->options.prompt = MOULT_PROMPT_QUERY;
    else if (strcmp(name, "document") == 0 || strcmp(name, "passage") == 0)
        embedding->options.prompt = MOULT_PROMPT_DOCUMENT;
    else
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "prompt_name",
                                      "\"prompt_name\" must be \"query\" or \"document\".");
    return 0;
}

static int read_request(struct moult_embedding *embedding, const json_t *body) {
    struct moult_error error;
    bool normalize = true;
    embedding->frame.commas = true;
    if (moult_json_boolean(body, "normalize", &normalize, &error) < 0)
        return refuse(embedding, "normalize", &error);
    embedding->options.unit = normalize;
    embedding->options.raw = !normalize;
    if (read_truncation(embedding, body) != 0 || read_prompt(embedding, body) != 0 ||
        moult_embedding_read_dimensions(embedding, body) != 0)
        return -1;
    return moult_embedding_read_texts(embedding, json_object_get(body, "inputs"));
}

static void frame(const struct moult_embedding *embedding, struct moult_buffer *head,
                  struct moult_buffer *tail) {
    (void)embedding;
    moult_buffer_text(head, "[");
    moult_buffer_text(tail, "]");
}

static const struct moult_embedding_dialect dialect = {
    .texts_name = "inputs",
    .timing_headers = true,
    .read = read_request,
    .frame = frame,
};

void moult_tei_embed(struct moult_http_request *request) {
    moult_embedding_from_body(request, &dialect);
}
