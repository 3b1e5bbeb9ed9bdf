/* What can be wrong with a request, and how each dialect says so. */
#ifndef MOULT_FRONT_HTTP_ERROR_H
#define MOULT_FRONT_HTTP_ERROR_H

#include <stdarg.h>

#include "front/http.h"

enum moult_dialect { MOULT_DIALECT_OWN, MOULT_DIALECT_OPENAI, MOULT_DIALECT_TEI, MOULT_DIALECTS };

/* The table in http_error.c gives each its status and names. */
enum moult_http_error {
    MOULT_HTTP_MALFORMED,      /* The body cannot be read. */
    MOULT_HTTP_INVALID,        /* It can, and asks for what cannot be. */
    MOULT_HTTP_EMPTY,          /* A text or list without anything in it. */
    MOULT_HTTP_UNAUTHORIZED,
    MOULT_HTTP_FORBIDDEN,
    MOULT_HTTP_NOT_FOUND,
    MOULT_HTTP_NO_MODEL,
    MOULT_HTTP_METHOD,
    MOULT_HTTP_CONFLICT,
    MOULT_HTTP_TOO_LARGE,
    MOULT_HTTP_MEDIA_TYPE,
    MOULT_HTTP_OVERLOADED,
    MOULT_HTTP_BACKEND,        /* The request killed its worker, or the worker failed. */
    MOULT_HTTP_UNAVAILABLE,
    MOULT_HTTP_NOT_EMBEDDED,   /* A document is stored, and the model can make no vector of it. */
    MOULT_HTTP_STORAGE,        /* What was to be stored could not be: no space, or a bad disk. */
    MOULT_HTTP_ERRORS
};

unsigned moult_http_error_status(enum moult_dialect dialect, enum moult_http_error error);

/* The body alone, malloc'ed. `param` is the field it is about, or NULL. */
char *moult_http_error_body(enum moult_dialect dialect, enum moult_http_error error,
                            const char *param, const char *message, size_t *size);

/* Why a request is not done, noted where it cannot be answered: in another thread. */
struct moult_refusal {
    bool refused;
    enum moult_http_error kind;
    const char *param;         /* A constant, or NULL. */
    uint32_t retry_after_s;    /* 0: as the one who answers sees fit. */
    char message[512];
};
/* Returns -1. */
int moult_refuse(struct moult_refusal *refusal, enum moult_http_error kind, const char *param,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
void moult_refuse_with(struct moult_refusal *refusal, enum moult_http_error kind,
                       const char *param, const char *format, va_list arguments)
    __attribute__((format(printf, 4, 0)));

/* Answers the request in the dialect of its route. */
void moult_http_fail(struct moult_http_request *request, enum moult_http_error error,
                     const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
