/* What to ask: texts from a file, and requests of each dialect as bytes. */
#ifndef TESTS_TOOLS_REQUEST_H
#define TESTS_TOOLS_REQUEST_H

#include "answer.h"

/* Lines of a file, escaped for JSON. */
struct texts {
    char **escaped;              /* [count] */
    size_t count;
};

/* Exits with a message where the file cannot be read. */
void texts_read(struct texts *texts, const char *file_name);

/* Bytes that grow; all zero at first. */
struct bytes {
    char *at;
    size_t size, capacity;
};

struct request_form {
    const char *host;
    const char *model_name;      /* Or NULL: whatever the server has. */
    const char *key;             /* Or NULL. */
};

/* Replaces what `request` held by the whole request. `as_list`: one text as a list of one. */
void request_write(struct bytes *request, const struct request_form *form,
                   const struct texts *texts, const struct question *question, bool as_list);

#endif
