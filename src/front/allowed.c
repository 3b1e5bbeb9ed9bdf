#include "front/allowed.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "source/source.h"

static int fail(const char *model, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "Models are taken from the slot's own source and from places below "
                      "--allow-model-from; \"%.200s\" is neither.",
                      model);
}

/* In whole components; after a hub's name its revision may follow. */
static bool within(const char *place, const char *prefix, const char *ends) {
    size_t size = strlen(prefix);
    while (size > 1 && prefix[size - 1] == '/')
        size--;
    if (strncmp(place, prefix, size) != 0)
        return false;
    return prefix[size - 1] == '/' || place[size] == '\0' || strchr(ends, place[size]) != NULL;
}

static bool is_below_any(const struct moult_serve_options *options, const char *place) {
    enum moult_source_kind kind = moult_source_kind_of(place);
    const char *ends = kind == MOULT_SOURCE_HUB ? "/@" : "/";
    for (unsigned i = 0; i < options->allowed_source_count; i++)
        if (moult_source_kind_of(options->allowed_sources[i]) == kind &&
            within(place, options->allowed_sources[i], ends))
            return true;
    return false;
}

/* A client of HTTP takes "/a/../b" for "/b", and a server "%2e" for ".". */
static bool leads_astray(const char *url) {
    if (strpbrk(url, "%\\") != NULL)
        return true;
    for (const char *part = strchr(url, '/'); part != NULL; part = strchr(part, '/')) {
        size_t size = strcspn(++part, "/");
        if ((size == 1 && part[0] == '.') || (size == 2 && strncmp(part, "..", 2) == 0))
            return true;
    }
    return false;
}

/* Another revision of the slot's own. What is under refs/ may be by strangers: on a hub, everybody
 * may make a pull request. */
static bool is_own_revision(const char *slot_source, const char *model) {
    size_t size = strcspn(slot_source, "@");
    return moult_source_kind_of(slot_source) == MOULT_SOURCE_HUB &&
           strncmp(model, slot_source, size) == 0 && model[size] == '@' &&
           strncmp(model + size, "@refs/", 6) != 0;
}

enum moult_allowed moult_allowed_judge(const struct moult_serve_options *options,
                                       const char *slot_source, const char *model,
                                       struct moult_error *error) {
    enum moult_source_kind kind = moult_source_kind_of(model);
    if (strcmp(model, slot_source) == 0)
        return MOULT_ALLOWED;
    if (kind == MOULT_SOURCE_FOLDER)
        return MOULT_ALLOWED_ON_DISK;
    bool plain = moult_source_check(model, NULL) == 0 &&
                 (kind != MOULT_SOURCE_WEB || !leads_astray(model));
    if (plain && (is_below_any(options, model) || is_own_revision(slot_source, model)))
        return MOULT_ALLOWED;
    fail(model, error);
    return MOULT_ALLOWED_NOT;
}

/* None may lead out of what the operator has allowed, not by "..", nor by a link. A place that does
 * not exist is judged by its name, so that its absence becomes the reason of a refusal. */
char *moult_allowed_folder(const struct moult_serve_options *options, const char *slot_source,
                           const char *model, struct moult_error *error) {
    char *real = realpath(model, NULL);
    char *place = real != NULL                     ? real
                  : strstr(model, "/..") == NULL   ? moult_copy_string(model)
                                                   : NULL;
    if (place != NULL && (strcmp(place, slot_source) == 0 || is_below_any(options, place)))
        return place;
    free(place);
    fail(model, error);
    return NULL;
}

/* On a pool thread. */

struct look {
    uv_work_t work;
    const struct moult_serve_options *options;
    char *slot_source, *model;
    moult_allowed_listener listener;
    void *context;
    char *place;
    struct moult_error error;
};

static void look_on_pool(uv_work_t *work) {
    struct look *look = work->data;
    look->place =
        moult_allowed_folder(look->options, look->slot_source, look->model, &look->error);
}

static void on_looked(uv_work_t *work, int status) {
    struct look *look = work->data;
    (void)status;
    look->listener(look->context, look->place, look->place == NULL ? &look->error : NULL);
    free(look->slot_source);
    free(look->model);
    free(look);
}

void moult_allowed_look(uv_loop_t *loop, const struct moult_serve_options *options,
                        const char *slot_source, const char *model,
                        moult_allowed_listener listener, void *context) {
    struct look *look = moult_allocate(1, sizeof *look);
    look->work.data = look;
    look->options = options;
    look->slot_source = moult_copy_string(slot_source);
    look->model = moult_copy_string(model);
    look->listener = listener;
    look->context = context;
    int queued = uv_queue_work(loop, &look->work, look_on_pool, on_looked);
    MOULT_REQUIRE(queued == 0);
}
