/* Which places callers may name. */
#include "front/update_run.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static bool within(const char *path, const char *folder) {
    size_t size = strlen(folder);
    while (size > 1 && folder[size - 1] == '/')
        size--;
    if (strncmp(path, folder, size) != 0)
        return false;
    return size == 1 || path[size] == '/' || path[size] == '\0';
}

/* Callers name paths: none may lead out of what the operator has allowed, not
 * by "..", nor by a link. A place that does not exist is judged by its name, so that its
 * absence becomes the reason of a refusal. */
char *moult_update_place(struct moult_updates *updates, struct moult_slot *slot, const char *model,
                         struct moult_error *error) {
    const struct moult_serve_options *options = updates->slots->options;
    if (strcmp(model, slot->source) == 0)
        return moult_copy_string(model);
    char real[PATH_MAX];
    const char *place = realpath(model, real) != NULL ? real : model;
    bool plain = place == real || (model[0] == '/' && strstr(model, "/..") == NULL);
    if (plain && strcmp(place, slot->source) == 0)
        return moult_copy_string(place);
    for (unsigned i = 0; plain && i < options->allowed_source_count; i++)
        if (within(place, options->allowed_sources[i]))
            return moult_copy_string(place);
    moult_fail(error, MOULT_ERROR_INVALID,
               "Models are taken from the slot's own source and from places below "
               "--allow-model-from; \"%.200s\" is neither.",
               model);
    return NULL;
}
