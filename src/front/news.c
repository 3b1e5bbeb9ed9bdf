/* From the steps of an update to the events of docs/hooks.md.
 *
 *   event               when                                              important
 *   ─────────────────── ───────────────────────────────────────────────── ─────────
 *   update.started      it is the first step of it that is told
 *   update.fetched      it leaves fetch for another phase
 *   update.loaded       it leaves check, or load where that is all
 *   update.ready        it waits for a person                             yes
 *   update.live         its end; update.rolled_back, for a rollback       yes
 *   update.unchanged, update.refused, update.superseded, update.cancelled yes */
#include "front/news.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/memory.h"
#include "front/slots.h"

/* One that runs, and one that comes next. */
#define UPDATES_PER_SLOT 2

/* What served when an update began; free where `update` is 0. */
struct before {
    uint64_t update, generation;
    char fingerprint[MOULT_SHA256_HEX];
};

struct moult_news {
    struct moult_hooks *hooks;
    struct moult_metrics *metrics;
    struct before before[MOULT_SLOTS_MAX][UPDATES_PER_SLOT];
};

static void set_text(json_t *data, const char *key, const char *text) {
    if (text != NULL && text[0] != '\0')
        json_object_set_new(data, key, json_string(text));
}

/* {"generation", "fingerprint", "model"}, or null where nothing served. */
static json_t *model_json(const struct moult_slot *slot, uint64_t generation,
                          const char *fingerprint) {
    if (generation == 0 || fingerprint[0] == '\0')
        return json_null();
    char *label = moult_format("%s@%.8s", moult_slot_name(slot), fingerprint);
    json_t *model = json_pack("{s:I, s:s, s:s}", "generation", (json_int_t)generation,
                              "fingerprint", fingerprint, "model", label);
    free(label);
    return model;
}

static json_t *data_of(const struct moult_update_event *event, const struct before *before) {
    json_t *data = json_pack("{s:s, s:I, s:s, s:b}", "slot", moult_slot_name(event->slot),
                             "update", (json_int_t)event->id, "asked_by",
                             moult_update_asker_name(event->asked_by), "rollback",
                             event->rollback);
    set_text(data, "source", event->source);
    set_text(data, "revision", event->revision);
    set_text(data, "reason", event->reason);
    json_t *model = model_json(event->slot, event->generation, event->fingerprint);
    /* Whoever keeps vectors elsewhere has to make them anew, or not. */
    if (json_is_object(model) && before->generation != 0)
        json_object_set_new(data, "same_vectors",
                            json_boolean(strcmp(event->fingerprint, before->fingerprint) == 0));
    if (event->report != NULL)
        json_object_set_new(data, "report", moult_report_json(event->report));
    json_object_set_new(data, "model", model);
    json_object_set_new(data, "previous",
                        model_json(event->slot, before->generation, before->fingerprint));
    return data;
}

static void tell(struct moult_news *news, const char *type, bool important,
                 const struct moult_update_event *event, const struct before *before) {
    if (news->hooks != NULL)
        moult_hooks_tell(news->hooks, type, important, data_of(event, before));
}

static const char *end_type(const struct moult_update_event *event) {
    switch (event->status) {
    case MOULT_UPDATE_LIVE: return event->rollback ? "update.rolled_back" : "update.live";
    case MOULT_UPDATE_UNCHANGED: return "update.unchanged";
    case MOULT_UPDATE_REFUSED: return "update.refused";
    case MOULT_UPDATE_SUPERSEDED: return "update.superseded";
    case MOULT_UPDATE_CANCELLED: return "update.cancelled";
    case MOULT_UPDATE_RUNNING:
    case MOULT_UPDATE_READY: break;
    }
    return NULL;
}

static bool has_loaded(const struct moult_update_event *event) {
    return event->from == MOULT_PHASE_CHECK ||
           (event->from == MOULT_PHASE_LOAD && event->to != MOULT_PHASE_CHECK);
}

/* What is remembered of this update; of one that is new, from now on. */
static struct before *find(struct moult_news *news, const struct moult_update_event *event) {
    struct before *all = news->before[moult_slot_index(event->slot)];
    struct before *free_one = all;
    for (unsigned i = 0; i < UPDATES_PER_SLOT; i++) {
        if (all[i].update == event->id)
            return &all[i];
        if (all[i].update == 0)
            free_one = &all[i];
    }
    const struct moult_generation *current = moult_slot_current(event->slot);
    *free_one = (struct before){0};
    if (current != NULL) {
        free_one->generation = moult_generation_number(current);
        snprintf(free_one->fingerprint, sizeof free_one->fingerprint, "%s",
                 moult_generation_fingerprint(current));
    }
    return free_one;
}

static void count(struct moult_news *news, const struct moult_update_event *event, bool ended) {
    struct moult_metrics_slot *counts = &news->metrics->slots[moult_slot_index(event->slot)];
    counts->is_updated = !ended;
    counts->phase = event->to;
    if (!ended)
        return;
    counts->updates[event->status]++;
    counts->rollbacks += event->status == MOULT_UPDATE_LIVE && event->rollback;
}

static void on_event(void *context, const struct moult_update_event *event) {
    struct moult_news *news = context;
    struct before *before = find(news, event);
    const char *end = end_type(event);
    count(news, event, end != NULL);
    if (before->update == 0) {
        before->update = event->id;
        tell(news, "update.started", false, event, before);
    }
    if (end != NULL) {
        tell(news, end, true, event, before);
        before->update = 0;
        return;
    }
    if (event->from == MOULT_PHASE_FETCH)
        tell(news, "update.fetched", false, event, before);
    if (has_loaded(event))
        tell(news, "update.loaded", false, event, before);
    if (event->to == MOULT_PHASE_READY)
        tell(news, "update.ready", true, event, before);
}

struct moult_news *moult_news_open(struct moult_updates *updates, struct moult_hooks *hooks,
                                   struct moult_metrics *metrics) {
    struct moult_news *news = moult_allocate(1, sizeof *news);
    news->hooks = hooks;
    news->metrics = metrics;
    moult_updates_observe(updates, on_event, news);
    return news;
}

void moult_news_close(struct moult_news *news) {
    free(news);
}
