#include "front/http_error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/limits.h"
#include "front/routes.h"

/* OpenAI's `type` and `code`, TEI's `error_type`, our own `code`. TEI's 422 where
 * others say 400, and its 424 where others say 500, are what its clients expect. */
static const struct {
    unsigned status, tei_status;
    const char *openai_type, *openai_code, *tei_type, *own_code;
} errors[MOULT_HTTP_ERRORS] = {
    [MOULT_HTTP_MALFORMED] = {400, 400, "invalid_request_error", NULL, "Validation", "malformed"},
    [MOULT_HTTP_INVALID] = {400, 422, "invalid_request_error", NULL, "Validation", "invalid"},
    [MOULT_HTTP_EMPTY] = {400, 400, "invalid_request_error", NULL, "Empty", "empty"},
    [MOULT_HTTP_UNAUTHORIZED] = {401, 401, "invalid_request_error", "invalid_api_key",
                                 "Unauthorized", "unauthorized"},
    [MOULT_HTTP_FORBIDDEN] = {403, 403, "invalid_request_error", "forbidden", "Forbidden",
                              "forbidden"},
    [MOULT_HTTP_NOT_FOUND] = {404, 404, "invalid_request_error", "unknown_url", "NotFound",
                              "not_found"},
    [MOULT_HTTP_NO_MODEL] = {404, 404, "invalid_request_error", "model_not_found", "NotFound",
                             "model_not_found"},
    [MOULT_HTTP_METHOD] = {405, 405, "invalid_request_error", "method_not_allowed",
                           "MethodNotAllowed", "method_not_allowed"},
    [MOULT_HTTP_CONFLICT] = {409, 409, "invalid_request_error", "conflict", "Conflict",
                             "conflict"},
    [MOULT_HTTP_TOO_LARGE] = {413, 413, "invalid_request_error", "request_too_large",
                              "Validation", "too_large"},
    [MOULT_HTTP_MEDIA_TYPE] = {415, 415, "invalid_request_error", "unsupported_media_type",
                               "Validation", "unsupported_media_type"},
    [MOULT_HTTP_OVERLOADED] = {429, 429, "rate_limit_error", "rate_limit_exceeded", "Overloaded",
                               "overloaded"},
    [MOULT_HTTP_BACKEND] = {500, 424, "server_error", NULL, "Backend", "worker_failed"},
    [MOULT_HTTP_UNAVAILABLE] = {503, 503, "server_error", "unavailable", "Unhealthy",
                                "unavailable"},
    [MOULT_HTTP_NOT_EMBEDDED] = {422, 422, "invalid_request_error", "not_embedded", "Validation",
                                 "not_embedded"},
    [MOULT_HTTP_STORAGE] = {507, 507, "server_error", "insufficient_storage", "Storage",
                            "insufficient_storage"},
};

static void text_or_null(struct moult_buffer *body, const char *text) {
    if (text == NULL)
        moult_buffer_text(body, "null");
    else
        moult_buffer_json_string(body, text, strlen(text));
}

unsigned moult_http_error_status(enum moult_dialect dialect, enum moult_http_error error) {
    MOULT_REQUIRE(error < MOULT_HTTP_ERRORS);
    return dialect == MOULT_DIALECT_TEI ? errors[error].tei_status : errors[error].status;
}

char *moult_http_error_body(enum moult_dialect dialect, enum moult_http_error error,
                            const char *param, const char *message, size_t *size) {
    struct moult_buffer body;
    moult_buffer_init(&body, 64 * MOULT_KIB);
    switch (dialect) {
    case MOULT_DIALECT_OPENAI:
        moult_buffer_text(&body, "{\"error\":{\"message\":");
        text_or_null(&body, message);
        moult_buffer_format(&body, ",\"type\":\"%s\",\"param\":", errors[error].openai_type);
        text_or_null(&body, param);
        moult_buffer_text(&body, ",\"code\":");
        text_or_null(&body, errors[error].openai_code);
        moult_buffer_text(&body, "}}");
        break;
    case MOULT_DIALECT_TEI:
        moult_buffer_text(&body, "{\"error\":");
        text_or_null(&body, message);
        moult_buffer_format(&body, ",\"error_type\":\"%s\"}", errors[error].tei_type);
        break;
    case MOULT_DIALECT_OWN:
    case MOULT_DIALECTS:
        moult_buffer_format(&body, "{\"error\":{\"code\":\"%s\",\"message\":",
                            errors[error].own_code);
        text_or_null(&body, message);
        moult_buffer_text(&body, "}}");
        break;
    }
    return moult_buffer_take(&body, size);
}

void moult_refuse_with(struct moult_refusal *refusal, enum moult_http_error kind,
                       const char *param, const char *format, va_list arguments) {
    refusal->refused = true;
    refusal->kind = kind;
    refusal->param = param;
    refusal->retry_after_s = 0;
    vsnprintf(refusal->message, sizeof refusal->message, format, arguments);
}

int moult_refuse(struct moult_refusal *refusal, enum moult_http_error kind, const char *param,
                 const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    moult_refuse_with(refusal, kind, param, format, arguments);
    va_end(arguments);
    return -1;
}

void moult_http_fail(struct moult_http_request *request, enum moult_http_error error,
                     const char *param, const char *format, ...) {
    char message[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    const struct moult_route *route = moult_http_route(request);
    enum moult_dialect dialect =
        route != NULL ? route->dialect : moult_routes_dialect(moult_http_path(request));
    size_t size;
    char *body = moult_http_error_body(dialect, error, param, message, &size);
    if (error == MOULT_HTTP_UNAUTHORIZED)
        moult_http_add_header(request, "WWW-Authenticate", "Bearer");
    moult_http_answer(request, moult_http_error_status(dialect, error), "application/json", body,
                      size);
}
