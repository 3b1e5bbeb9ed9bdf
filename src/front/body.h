/* The body of a request is read where it does no harm: at once where it is small, and in a pool
 * thread where it is large, for jansson does 72 MB/s and the loop waits for nobody. */
#ifndef MOULT_FRONT_BODY_H
#define MOULT_FRONT_BODY_H

#include <uv.h>

#include "front/http.h"

/* Part of its owner's struct. */
struct moult_body_reader {
    const char *bytes;             /* Until `then`. */
    size_t size;

    /* body.c's own. */
    struct moult_http_request *request;
    void (*read)(struct moult_body_reader *reader);
    void (*then)(struct moult_body_reader *reader);
    uv_work_t work;
};

/* Calls `read`, which may run in a pool thread and touches its owner alone, and then, in the loop,
 * `then`, for which the body is gone. Until then the client does not go, either. Both may have been
 * called when this returns. */
void moult_body_read(struct moult_body_reader *reader, struct moult_http_request *request,
                     void (*read)(struct moult_body_reader *reader),
                     void (*then)(struct moult_body_reader *reader));

#endif
