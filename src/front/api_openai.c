/* POST /v1/embeddings, as OpenAI's clients ask it. */
#include <inttypes.h>
#include <string.h>

#include "front/api.h"
#include "front/embedding.h"

static int read_format(struct moult_embedding *embedding, const json_t *body) {
    const char *format = "float";
    struct moult_error error;
    if (moult_json_string(body, "encoding_format", &format, &error) < 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "encoding_format", "%s",
                                      error.message);
    if (strcmp(format, "float") != 0 && strcmp(format, "base64") != 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "encoding_format",
                                      "\"encoding_format\" must be \"float\" or \"base64\".");
    embedding->options.format =
        strcmp(format, "base64") == 0 ? MOULT_VECTOR_BASE64 : MOULT_VECTOR_DECIMAL;
    return 0;
}

static int read_request(struct moult_embedding *embedding, const json_t *body) {
    embedding->frame = (struct moult_cell_frame){
        .before = "{\"object\":\"embedding\",\"embedding\":",
        .between = ",\"index\":",
        .after = "}",
        .numbered = true,
        .commas = true,
    };
    if (moult_embedding_read_model(embedding, body) != 0 || read_format(embedding, body) != 0 ||
        moult_embedding_read_dimensions(embedding, body) != 0)
        return -1;
    return moult_embedding_read_texts(embedding, json_object_get(body, "input"));
}

static void frame(const struct moult_embedding *embedding, struct moult_buffer *head,
                  struct moult_buffer *tail) {
    const char *label = moult_generation_label(embedding->job->generation);
    uint64_t tokens = embedding->job->answer.tokens;
    moult_buffer_text(head, "{\"object\":\"list\",\"data\":[");
    moult_buffer_text(tail, "],\"model\":");
    moult_buffer_json_string(tail, label, strlen(label));
    moult_buffer_format(tail,
                        ",\"usage\":{\"prompt_tokens\":%" PRIu64 ",\"total_tokens\":%" PRIu64 "}}",
                        tokens, tokens);
}

static const struct moult_embedding_dialect dialect = {
    .texts_name = "input",
    .read = read_request,
    .frame = frame,
};

void moult_openai_embeddings(struct moult_http_request *request) {
    moult_embedding_from_body(request, &dialect);
}
