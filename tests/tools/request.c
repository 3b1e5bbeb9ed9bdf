/* See request.h. */
#include "request.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static void append(struct bytes *bytes, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void append(struct bytes *bytes, const char *format, ...) {
    va_list arguments;
    int n;

    for (;;) {
        va_start(arguments, format);
        n = vsnprintf(bytes->at ? bytes->at + bytes->size : NULL, bytes->capacity - bytes->size,
                      format, arguments);
        va_end(arguments);
        if ((size_t)n < bytes->capacity - bytes->size)
            break;
        bytes->capacity = bytes->capacity * 2 + (size_t)n + 1024;
        bytes->at = realloc(bytes->at, bytes->capacity);
    }
    bytes->size += (size_t)n;
}

static void append_body(struct bytes *body, const struct request_form *form,
                        const struct texts *texts, const struct question *question, bool as_list) {
    bool embed = question->dialect == DIALECT_EMBED;
    bool list = question->count > 1 || as_list;

    append(body, embed ? "{\"inputs\":%s" : "{\"input\":%s", list ? "[" : "");
    for (unsigned i = 0; i < question->count; i++)
        append(body, "%s\"%s\"", i ? "," : "", texts->escaped[question->texts[i]]);
    append(body, list ? "]" : "");
    if (!embed)
        append(body, ",\"model\":\"%s\",\"encoding_format\":\"%s\"",
               form->model_name ? form->model_name : "text-embedding-3-small",
               question->dialect == DIALECT_OPENAI_BASE64 ? "base64" : "float");
    append(body, "}");
}

void request_write(struct bytes *request, const struct request_form *form,
                   const struct texts *texts, const struct question *question, bool as_list) {
    static struct bytes body;
    bool embed = question->dialect == DIALECT_EMBED;

    body.size = request->size = 0;
    append_body(&body, form, texts, question, as_list);
    append(request, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\n",
           embed ? "/embed" : "/v1/embeddings", form->host);
    if (embed && form->model_name)
        append(request, "x-moult-model: %s\r\n", form->model_name);
    if (form->key)
        append(request, "Authorization: Bearer %s\r\n", form->key);
    append(request, "Content-Length: %zu\r\n\r\n%s", body.size, body.at);
}

static char *escape(const char *text, size_t size) {
    char *out = malloc(size * 6 + 1), *to = out;

    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20) {
            to += snprintf(to, 7, "\\u%04x", (unsigned)text[i]);
            continue;
        }
        if (text[i] == '"' || text[i] == '\\')
            *to++ = '\\';
        *to++ = text[i];
    }
    *to = 0;
    return out;
}

void texts_read(struct texts *texts, const char *file_name) {
    FILE *file = fopen(file_name, "r");
    char *line = NULL;
    size_t capacity = 0, room = 0;
    ssize_t n;

    if (!file) {
        perror(file_name);
        exit(2);
    }
    while ((n = getline(&line, &capacity, file)) > 0) {
        n -= line[n - 1] == '\n';
        if (texts->count == room)
            texts->escaped = realloc(texts->escaped, (room = room * 2 + 256) * sizeof(char *));
        texts->escaped[texts->count++] = escape(line, (size_t)n);
    }
    free(line);
    fclose(file);
}
