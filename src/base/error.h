/* How failures travel: an int (0, or -1) or a NULL pointer says that something
 * failed, and the caller's struct moult_error (include/moult.h) says what, in a
 * finished sentence. A bug is not an error: it calls moult_bug() and aborts. */
#ifndef MOULT_BASE_ERROR_H
#define MOULT_BASE_ERROR_H

#include "moult.h"

#if defined(__GNUC__)
#define MOULT_PRINTF(format_at, arguments_at) \
    __attribute__((format(printf, format_at, arguments_at)))
#else
#define MOULT_PRINTF(format_at, arguments_at)
#endif

/* Fills `error` (which may be NULL) and returns -1, so that a failing function
 * can end with `return moult_fail(…)`. Longer messages are cut. */
int moult_fail(struct moult_error *error, enum moult_error_code code, const char *format, ...)
    MOULT_PRINTF(3, 4);

/* The same for a failed system call: appends ": " and what errno says. */
int moult_fail_errno(struct moult_error *error, const char *format, ...) MOULT_PRINTF(2, 3);

/* Puts "PREFIX: " before a message that a deeper function has written. Returns -1. */
int moult_fail_within(struct moult_error *error, const char *format, ...) MOULT_PRINTF(2, 3);

/* Says where the program contradicts itself, and aborts. */
_Noreturn void moult_bug(const char *file, int line, const char *what);
#define MOULT_REQUIRE(condition) \
    ((condition) ? (void)0 : moult_bug(__FILE__, __LINE__, #condition))

#endif
