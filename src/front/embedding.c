#include "front/embedding.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "front/answering.h"

/* Head and tail of an answer are a few hundred bytes; `q` comes back in one, where each
 * byte of it may need six. */
#define FRAME_BYTES_MAX (6 * MOULT_URL_BYTES_MAX + 8 * MOULT_KIB)
/* What fits on the stack of pieces; more are allocated. */
#define PIECES_AT_HAND 8

static void read_body(struct moult_body_reader *reader);
static void go_on(struct moult_embedding *embedding);
static void on_done(struct moult_job *job);

/* -------------------------------------------------------------- its lifetime */

static void embedding_free(struct moult_embedding *embedding) {
    if (embedding->job != NULL)
        moult_job_close(embedding->job);
    free(embedding->model);
    free(embedding->texts);
    free(embedding->message);
    moult_buffer_release(&embedding->head);
    moult_buffer_release(&embedding->tail);
    free(embedding);
}

static void release(void *context) {
    embedding_free(context);
}

/* The job is the slots' from its submission to `done`: they close an abandoned one. */
static void on_gone(void *context) {
    struct moult_embedding *embedding = context;
    struct moult_server *server = moult_http_server(embedding->request);
    if (embedding->job != NULL)
        moult_slots_abandon(server->slots, embedding->job);
    embedding->job = NULL;
    embedding_free(embedding);
}

/* ":query" or ":document" behind a model's name chooses the prompt. Slots have no
 * colon in their names. */
static void set_model(struct moult_embedding *embedding, const char *model) {
    static const struct {
        const char *suffix;
        enum moult_prompt prompt;
    } prompts[] = {{":query", MOULT_PROMPT_QUERY}, {":document", MOULT_PROMPT_DOCUMENT}};
    free(embedding->model);
    embedding->model = moult_copy_string(model);
    embedding->options.prompt = MOULT_PROMPT_NONE;   /* A name in the body replaces the header's. */
    size_t size = strlen(model);
    for (unsigned i = 0; i < sizeof prompts / sizeof prompts[0]; i++) {
        size_t suffix_size = strlen(prompts[i].suffix);
        if (size < suffix_size || strcmp(model + size - suffix_size, prompts[i].suffix) != 0)
            continue;
        embedding->model[size - suffix_size] = '\0';
        embedding->options.prompt = prompts[i].prompt;
    }
}

static struct moult_embedding *embedding_open(struct moult_http_request *request,
                                              const struct moult_embedding_dialect *dialect) {
    struct moult_embedding *embedding = moult_allocate(1, sizeof *embedding);
    const struct moult_serve_options *options = moult_http_server(request)->options;
    embedding->dialect = dialect;
    embedding->request = request;
    embedding->options.format = MOULT_VECTOR_DECIMAL;
    embedding->options.overlong =
        options->overlong_error ? MOULT_OVERLONG_ERROR : MOULT_OVERLONG_CUT_RIGHT;
    embedding->frame = (struct moult_cell_frame){"", "", "", false, false};
    moult_buffer_init(&embedding->head, FRAME_BYTES_MAX);
    moult_buffer_init(&embedding->tail, FRAME_BYTES_MAX);
    const char *model = moult_http_header(request, "x-moult-model");
    if (model != NULL)
        set_model(embedding, model);
    moult_http_on_gone(request, on_gone, embedding);
    return embedding;
}

/* ------------------------------------------------------------------ the way in */

static struct moult_embedding *embedding_of(struct moult_body_reader *reader) {
    return (struct moult_embedding *)((char *)reader - offsetof(struct moult_embedding, reader));
}

static void after_reading(struct moult_body_reader *reader) {
    go_on(embedding_of(reader));
}

void moult_embedding_from_body(struct moult_http_request *request,
                               const struct moult_embedding_dialect *dialect) {
    moult_body_read(&embedding_open(request, dialect)->reader, request, read_body, after_reading);
}

/* The texts leave as one message; what they were read from may go. */
static void write_message(struct moult_embedding *embedding) {
    for (uint32_t i = 0; i < embedding->count; i++)
        for (size_t at = 0; at < embedding->texts[i].size; at++)
            embedding->characters += ((unsigned char)embedding->texts[i].bytes[at] & 0xC0) != 0x80;
    embedding->message =
        moult_embed_request_write(embedding->texts, embedding->count, &embedding->options,
                                  &embedding->frame, &embedding->message_size);
    free(embedding->texts);
    embedding->texts = NULL;
}

static void read_body(struct moult_body_reader *reader) {
    struct moult_embedding *embedding = embedding_of(reader);
    struct moult_error error;
    json_t *body = moult_json_read_object(reader->bytes, reader->size, &error);
    if (body == NULL) {
        moult_embedding_refuse(embedding, MOULT_HTTP_MALFORMED, NULL, "%s", error.message);
        return;
    }
    if (embedding->dialect->read(embedding, body) == 0)
        write_message(embedding);
    json_decref(body);
}

void moult_embedding_from_text(struct moult_http_request *request,
                               const struct moult_embedding_dialect *dialect, const char *text,
                               size_t size) {
    struct moult_embedding *embedding = embedding_open(request, dialect);
    if (size == 0) {
        moult_embedding_refuse(embedding, MOULT_HTTP_EMPTY, NULL, "\"%s\" is empty.",
                               dialect->texts_name);
    } else if (!moult_utf8_valid(text, size)) {
        moult_embedding_refuse(embedding, MOULT_HTTP_MALFORMED, NULL,
                               "\"%s\" is not valid UTF-8.", dialect->texts_name);
    } else {
        embedding->options.format = MOULT_VECTOR_F32;
        embedding->texts = moult_allocate(1, sizeof *embedding->texts);
        embedding->texts[0] = (struct moult_text){text, size};
        embedding->count = 1;
        write_message(embedding);
    }
    go_on(embedding);
}

/* Ends with an error. Frees the embedding, and its job with it. */
static void refuse(struct moult_embedding *embedding) {
    const struct moult_refusal *refusal = &embedding->refusal;
    if (refusal->retry_after_s > 0)
        moult_answering_number(embedding->request, "Retry-After", refusal->retry_after_s);
    moult_http_fail(embedding->request, refusal->kind, refusal->param, "%s", refusal->message);
    embedding_free(embedding);
}

/* The check of here and now, for the sake of an early and exact answer: the
 * worker has the last word, for the generation may change before the job's turn. */
static int check_dimensions(struct moult_embedding *embedding, const struct moult_target *target) {
    const struct moult_generation *generation =
        target->pinned != NULL ? target->pinned : moult_slot_current(target->slot);
    if (generation == NULL)
        return 0;
    uint32_t dimensions = moult_generation_report(generation)->dimensions;
    if (dimensions == 0 || embedding->options.dimensions <= dimensions)
        return 0;
    return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "dimensions",
                                  "\"dimensions\" is %" PRIu32 "; the vectors of %s have %" PRIu32
                                  ".", embedding->options.dimensions,
                                  moult_generation_label(generation), dimensions);
}

static struct moult_job *make_job(struct moult_embedding *embedding,
                                  const struct moult_target *target) {
    struct moult_job *job = moult_job_open();
    job->slot = target->slot;
    job->pinned = target->pinned;
    job->lane = embedding->count == 1 ? MOULT_LANE_SINGLE : MOULT_LANE_BATCH;
    job->count = embedding->count;
    job->message = embedding->message;
    job->message_size = embedding->message_size;
    job->options = embedding->options;
    job->frame = embedding->frame;
    job->done = on_done;
    job->owner = embedding;
    embedding->message = NULL;
    return job;
}

static void submit(struct moult_embedding *embedding, const struct moult_target *target) {
    embedding->job = make_job(embedding, target);
    struct moult_server *server = moult_http_server(embedding->request);
    if (moult_answering_submit(server, embedding->job, &embedding->refusal) != 0)
        refuse(embedding);
}

/* Back in the loop: what is asked is known, or why it cannot be. */
static void go_on(struct moult_embedding *embedding) {
    if (embedding->refusal.refused) {
        refuse(embedding);
        return;
    }
    struct moult_slots *slots = moult_http_server(embedding->request)->slots;
    struct moult_target target;
    struct moult_error error;
    if (moult_slots_resolve(slots, embedding->model, &target, &error) != 0) {
        moult_embedding_refuse(embedding,
                               error.code == MOULT_ERROR_UNAVAILABLE ? MOULT_HTTP_UNAVAILABLE
                                                                     : MOULT_HTTP_NO_MODEL,
                               "model", "%s", error.message);
        refuse(embedding);
        return;
    }
    if (check_dimensions(embedding, &target) != 0) {
        if (target.pinned != NULL)
            moult_generation_drop(target.pinned);
        refuse(embedding);
        return;
    }
    submit(embedding, &target);
}

/* ----------------------------------------------------------------- the way out */

static void add_headers(const struct moult_embedding *embedding) {
    struct moult_http_request *request = embedding->request;
    const struct moult_job *job = embedding->job;
    moult_answering_headers(request, job->generation, job->answer.truncated);
    if (!embedding->dialect->timing_headers)
        return;
    const struct moult_answer_times *times = &job->answer.times;
    uint64_t total_ms = (moult_clock_ns() - moult_http_begun_ns(request)) / 1000000;
    moult_http_add_header(request, "x-compute-type", "cpu");
    moult_answering_number(request, "x-compute-time", total_ms);
    moult_answering_number(request, "x-compute-characters", embedding->characters);
    moult_answering_number(request, "x-compute-tokens", job->answer.tokens);
    moult_answering_number(request, "x-total-time", total_ms);
    moult_answering_number(request, "x-tokenization-time", times->tokenize_ns / 1000000);
    moult_answering_number(request, "x-queue-time", times->queue_ns / 1000000);
    moult_answering_number(request, "x-inference-time", times->compute_ns / 1000000);
}

/* Cells that lie end to end go as one piece. Returns how many pieces there are. */
static unsigned gather_cells(const struct moult_answer_view *answer, struct iovec *pieces) {
    unsigned count = 0;
    for (uint32_t i = 0; i < answer->count; i++) {
        char *cell = (char *)(uintptr_t)answer->block + answer->cells[i].offset;
        if (count > 0 && (char *)pieces[count - 1].iov_base + pieces[count - 1].iov_len == cell)
            pieces[count - 1].iov_len += answer->cells[i].size;
        else
            pieces[count++] = (struct iovec){cell, answer->cells[i].size};
    }
    return count;
}

static void send_cells(struct moult_embedding *embedding) {
    struct iovec at_hand[PIECES_AT_HAND];
    const struct moult_answer_view *answer = &embedding->job->answer;
    size_t room = (size_t)answer->count + 2;
    struct iovec *pieces =
        room <= PIECES_AT_HAND ? at_hand : moult_allocate(room, sizeof *pieces);
    embedding->dialect->frame(embedding, &embedding->head, &embedding->tail);
    pieces[0] = (struct iovec){embedding->head.bytes, embedding->head.size};
    unsigned count = 1 + gather_cells(answer, pieces + 1);
    pieces[count++] = (struct iovec){embedding->tail.bytes, embedding->tail.size};
    moult_http_answer_pieces(embedding->request, 200, "application/json", pieces, count, release,
                             embedding);
    if (pieces != at_hand)
        free(pieces);
}

static void send_body(struct moult_embedding *embedding) {
    embedding->dialect->body(embedding, &embedding->head);
    size_t size;
    char *body = moult_buffer_take(&embedding->head, &size);
    moult_http_answer(embedding->request, 200, "application/json", body, size);
    embedding_free(embedding);
}

static void on_done(struct moult_job *job) {
    struct moult_embedding *embedding = job->owner;
    if (moult_answering_check(job, embedding->dialect->texts_name, &embedding->refusal) != 0) {
        refuse(embedding);
        return;
    }
    add_headers(embedding);
    moult_slots_note_asked(job);
    moult_metrics_count_job(&moult_http_server(embedding->request)->metrics, job);
    if (embedding->dialect->frame != NULL)
        send_cells(embedding);
    else
        send_body(embedding);
}

/* --------------------------------------------------------------- for the dialects */

int moult_embedding_refuse(struct moult_embedding *embedding, enum moult_http_error kind,
                           const char *param, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    moult_refuse_with(&embedding->refusal, kind, param, format, arguments);
    va_end(arguments);
    return -1;
}

static int refuse_item(struct moult_embedding *embedding, const json_t *item, size_t index) {
    const char *name = embedding->dialect->texts_name;
    if (json_is_integer(item) || (json_is_array(item) && json_array_size(item) > 0 &&
                                  json_is_integer(json_array_get(item, 0))))
        return moult_embedding_refuse(
            embedding, MOULT_HTTP_INVALID, name,
            "\"%s\" has token ids. They belong to the vocabulary of another model, so this server "
            "takes texts alone: switch off the client's own tokenizing (LangChain: "
            "OpenAIEmbeddings(check_embedding_ctx_length=False)).", name);
    return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, name,
                                  "\"%s\"[%zu] must be a string, not %s.", name, index,
                                  moult_json_type_name(item));
}

int moult_embedding_read_texts(struct moult_embedding *embedding, const json_t *value) {
    const char *name = embedding->dialect->texts_name;
    if (value == NULL)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, name,
                                      "\"%s\" is missing: a string or a list of strings.", name);
    if (!json_is_string(value) && !json_is_array(value))
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, name,
                                      "\"%s\" must be a string or a list of strings, not %s.", name,
                                      moult_json_type_name(value));
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count == 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_EMPTY, name,
                                      "\"%s\" is an empty list.", name);
    const json_t *first = json_is_array(value) ? json_array_get(value, 0) : value;
    if (!json_is_string(first))
        return refuse_item(embedding, first, 0);
    if (count > MOULT_TEXTS_PER_REQUEST_MAX)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, name,
                                      "\"%s\" has %zu texts; a request takes %d at most.", name,
                                      count, MOULT_TEXTS_PER_REQUEST_MAX);
    embedding->texts = moult_allocate(count, sizeof *embedding->texts);
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_string(item))
            return refuse_item(embedding, item, i);
        embedding->texts[i] = (struct moult_text){json_string_value(item),
                                                  json_string_length(item)};
        if (embedding->texts[i].size == 0 && json_is_string(value))
            return moult_embedding_refuse(embedding, MOULT_HTTP_EMPTY, name, "\"%s\" is empty.",
                                          name);
        if (embedding->texts[i].size == 0)
            return moult_embedding_refuse(embedding, MOULT_HTTP_EMPTY, name,
                                          "\"%s\"[%zu] is empty.", name, i);
    }
    embedding->count = (uint32_t)count;
    return 0;
}

int moult_embedding_read_dimensions(struct moult_embedding *embedding, const json_t *body) {
    struct moult_error error;
    int found = moult_json_count(body, "dimensions", &embedding->options.dimensions, &error);
    if (found < 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "dimensions", "%s",
                                      error.message);
    if (found > 0 && embedding->options.dimensions == 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "dimensions",
                                      "\"dimensions\" must be at least 1.");
    return 0;
}

int moult_embedding_read_model(struct moult_embedding *embedding, const json_t *body) {
    struct moult_error error;
    const char *model;
    int found = moult_json_string(body, "model", &model, &error);
    if (found < 0)
        return moult_embedding_refuse(embedding, MOULT_HTTP_INVALID, "model", "%s", error.message);
    if (found > 0)
        set_model(embedding, model);
    return 0;
}
