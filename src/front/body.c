#include "front/body.h"

#include "base/limits.h"
#include "front/server.h"

static void go_on(struct moult_body_reader *reader) {
    reader->bytes = NULL;
    reader->size = 0;
    moult_http_drop_body(reader->request);
    reader->then(reader);
}

static void work_in_pool(uv_work_t *work) {
    struct moult_body_reader *reader = work->data;
    reader->read(reader);
}

static void after_pool(uv_work_t *work, int status) {
    (void)status;
    struct moult_body_reader *reader = work->data;
    moult_http_keep(reader->request, false);
    go_on(reader);
}

void moult_body_read(struct moult_body_reader *reader, struct moult_http_request *request,
                     void (*read)(struct moult_body_reader *reader),
                     void (*then)(struct moult_body_reader *reader)) {
    reader->request = request;
    reader->read = read;
    reader->then = then;
    reader->work.data = reader;
    reader->bytes = moult_http_body(request, &reader->size);
    if (reader->size > MOULT_BODY_BYTES_ON_LOOP) {
        moult_http_keep(request, true);
        uv_queue_work(moult_http_server(request)->loop, &reader->work, work_in_pool, after_pool);
        return;
    }
    reader->read(reader);
    go_on(reader);
}
