/* The comparison of a candidate with what serves, as a phase of an update: a report of what changes
 * for those who ask, and never a reason to refuse. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/precision.h"
#include "front/update_run.h"

/* An update is held up for so long at most; where a person looks at it first, it may take its
 * time. */
#define SECONDS_MAX 5
#define SECONDS_MAX_MANUAL 60

bool moult_update_wants_comparison(const struct moult_update *update) {
    const struct moult_generation *current = moult_slot_current(update->slot);
    return update->source != NULL && update->asked_by != MOULT_ASKED_BY_TAKE_OVER &&
           update->slot->asked != NULL && update->report == NULL && current != NULL &&
           current->ready && update->candidate->ready &&
           strcmp(current->fingerprint, update->candidate->fingerprint) != 0;
}

static enum moult_precision precision_of(const struct moult_generation *generation) {
    enum moult_precision precision;
    return moult_precision_parse(generation->report.precision, &precision) ? precision
                                                                           : MOULT_PRECISION_AUTO;
}

struct moult_report *moult_update_report(struct moult_update *update) {
    const struct moult_generation *current = update->slot->current;
    if (update->report == NULL) {
        update->report = moult_allocate(1, sizeof *update->report);
        *update->report = (struct moult_report){
            .old_dimensions = current->report.dimensions,
            .new_dimensions = update->candidate->report.dimensions,
            .old_precision = precision_of(current),
            .new_precision = precision_of(update->candidate)};
    }
    return update->report;
}

static void keep_report(struct moult_update *update, const struct moult_report *compared) {
    struct moult_report *report = moult_update_report(update);
    enum moult_precision old = report->old_precision, new = report->new_precision;
    *report = *compared;
    report->old_precision = old;
    report->new_precision = new;
    if (report->texts < MOULT_REPORT_TEXTS_MIN)
        return;
    char *sentence = moult_report_sentence(report);
    moult_log_info("Update %llu of %s: %s", (unsigned long long)update->id, update->slot->name,
                   sentence);
    free(sentence);
}

static void on_compared(void *context, uint64_t id, const struct moult_report *report) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_COMPARE);
    MOULT_REQUIRE(update != NULL);   /* Its end cancels the comparison. */
    update->comparison = NULL;
    keep_report(update, report);
    moult_update_advance(update);
}

void moult_update_compare(struct moult_update *update) {
    struct moult_generation *current = update->slot->current;
    uint32_t count = moult_asked_count(update->slot->asked);
    if (count < MOULT_REPORT_TEXTS_MIN) {
        struct moult_report report = {.texts = count,
                                      .old_dimensions = current->report.dimensions,
                                      .new_dimensions = update->candidate->report.dimensions};
        keep_report(update, &report);
        moult_update_advance(update);
        return;
    }
    unsigned seconds_max =
        moult_update_is_manual(update) ? SECONDS_MAX_MANUAL : SECONDS_MAX;
    update->comparison = moult_comparison_start(current, update->candidate, update->slot->asked,
                                                seconds_max, on_compared, update->updates,
                                                update->id);
}

void moult_update_stop_comparing(struct moult_update *update) {
    if (update->comparison != NULL)
        moult_comparison_cancel(update->comparison);
    update->comparison = NULL;
}

void moult_update_note_report(const struct moult_update *update,
                              struct moult_state_event *event) {
    if (update->report != NULL)
        moult_state_note_report(update->record, event, update->report);
}
