/* What the files of the documents' dialect share: how a document is read from JSON and written, and
 * the parameters behind the `?` of their paths. */
#ifndef MOULT_FRONT_DOCUMENTS_H
#define MOULT_FRONT_DOCUMENTS_H

#include "front/errand.h"

/* Documents as they came, apart from the JSON that they came in. */
struct moult_puts {
    struct moult_put *items;      /* [count], owned, as is what they point at. */
    uint32_t count;
    char *strings;                /* Ids and texts, end to end, each with a NUL. */
    char **metadata;              /* [count] */
    size_t bytes;
};

/* From one document or a list of them: all are sound, or it is refused, with the index of the first
 * that is not. `vectors`: they may have a "vector", which is left alone (given.h). Any thread. */
int moult_puts_read(struct moult_puts *puts, const json_t *body, bool vectors,
                    struct moult_refusal *refusal);
void moult_puts_release(struct moult_puts *puts);

/* `"id":…,"text":…,"metadata":…`, as far as they were asked for. Any thread. */
void moult_document_write(struct moult_buffer *out, const struct moult_document *document);

/* Says that there is no such document. Returns -1. */
int moult_documents_missing(const struct moult_errand *errand, const char *id,
                            struct moult_error *error);

/* Parameters of the URL. 0, or -1 after a refusal; *value stays what it is where absent. */
int moult_parameter_number(struct moult_errand *errand, const char *name, uint32_t least,
                           uint32_t most, uint32_t *value);
int moult_parameter_flag(struct moult_errand *errand, const char *name, bool *value);
/* A filter as JSON; *filter is the caller's to free. */
int moult_parameter_filter(struct moult_errand *errand, const char *name,
                           struct moult_filter **filter);

#endif
