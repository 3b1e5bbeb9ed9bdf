#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A message that did not fit may end in the middle of a UTF-8 sequence; JSON
 * answers carry messages, so the broken sequence goes. */
static void trim_cut_message(char *message, size_t capacity) {
    size_t size = strlen(message);
    if (size + 1 < capacity)
        return;
    while (size > 0 && ((unsigned char)message[size - 1] & 0xC0) == 0x80)
        size--;
    if (size > 0 && (unsigned char)message[size - 1] >= 0xC0)
        size--;
    else
        size = strlen(message);
    message[size] = '\0';
}

int moult_fail(struct moult_error *error, enum moult_error_code code, const char *format, ...) {
    if (error == NULL)
        return -1;
    error->code = code;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
    trim_cut_message(error->message, sizeof error->message);
    return -1;
}

static enum moult_error_code code_of_errno(int number) {
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return MOULT_ERROR_MISSING;
    case EAGAIN:
    case EBUSY:
        return MOULT_ERROR_UNAVAILABLE;
    default:
        return MOULT_ERROR_SYSTEM;
    }
}

int moult_fail_errno(struct moult_error *error, const char *format, ...) {
    int number = errno;
    if (error == NULL)
        return -1;
    char what[sizeof error->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    moult_fail(error, code_of_errno(number), "%s: %s.", what, strerror(number));
    errno = number;
    return -1;
}

int moult_fail_within(struct moult_error *error, const char *format, ...) {
    if (error == NULL)
        return -1;
    char prefix[sizeof error->message];
    char inner[sizeof error->message];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(prefix, sizeof prefix, format, arguments);
    va_end(arguments);
    memcpy(inner, error->message, sizeof inner);
    inner[sizeof inner - 1] = '\0';
    return moult_fail(error, error->code, "%s: %s", prefix, inner);
}

void moult_bug(const char *file, int line, const char *what) {
    fprintf(stderr, "moult: bug at %s:%d: %s does not hold.\n", file, line, what);
    fflush(stderr);
    abort();
}
