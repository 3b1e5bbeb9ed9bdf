/* Which places callers may name as the source of a model: the slot's own, on a hub in any revision
 * but those under refs/, and what lies below one of --allow-model-from, which are
 *
 *     /models                 a folder, by its real path
 *     org/, org/name          models of a hub
 *     https://host/models     models of a model server
 *
 * in whole components: /models is not above /models-old, org/name not above org/name-2. */
#ifndef MOULT_FRONT_ALLOWED_H
#define MOULT_FRONT_ALLOWED_H

#include <uv.h>

#include "base/error.h"
#include "front/options.h"

enum moult_allowed {
    MOULT_ALLOWED,
    MOULT_ALLOWED_NOT,
    MOULT_ALLOWED_ON_DISK   /* A folder: only moult_allowed_look() can tell. */
};

/* Looks at no disk. The error of what is not allowed says so. */
enum moult_allowed moult_allowed_judge(const struct moult_serve_options *options,
                                       const char *slot_source, const char *model,
                                       struct moult_error *error);

/* Called once, from the loop. `place` is malloc'ed and handed over: the folder's real path, to be
 * opened without following links. NULL with the error: it is not allowed. */
typedef void (*moult_allowed_listener)(void *context, char *place, const struct moult_error *error);
/* Finds out on a pool thread, for disks may hang. The strings are copied; the options stay. */
void moult_allowed_look(uv_loop_t *loop, const struct moult_serve_options *options,
                        const char *slot_source, const char *model,
                        moult_allowed_listener listener, void *context);

/* The same at once, from any thread: NULL with the error. */
char *moult_allowed_folder(const struct moult_serve_options *options, const char *slot_source,
                           const char *model, struct moult_error *error);

#endif
