/* The trial of a candidate beside what serves, as a phase of an update: what the gate's queries and
 * those of clients find under either model. With --gate-min it refuses a candidate that finds too
 * little of what a person wants found. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "front/update_run.h"

static const struct moult_judgements *judgements_of(const struct moult_update *update) {
    return update->updates->slots->options->judgements;
}

static const struct moult_gate_limit *limit_of(const struct moult_update *update) {
    return &update->updates->slots->options->gate_limit;
}

static bool wants_gate(const struct moult_update *update) {
    return judgements_of(update) != NULL &&
           (update->report == NULL || update->report->gate.queries == 0);
}

static bool wants_asked(const struct moult_update *update) {
    const struct moult_asked *asked = update->slot->asked;
    return asked != NULL && moult_asked_searches(asked) > 0 &&
           strcmp(update->slot->current->fingerprint, update->candidate->fingerprint) != 0 &&
           (update->report == NULL || update->report->unmatched.searches == 0);
}

/* Where a model is swapped in the place of the old one, or follows one that keeps dying, there is
 * nothing to compare it with. */
bool moult_update_wants_trial(const struct moult_update *update) {
    return update->updates->desk != NULL && update->source != NULL &&
           update->asked_by != MOULT_ASKED_BY_TAKE_OVER && !update->swapping &&
           moult_slot_current(update->slot) != NULL &&
           (wants_gate(update) || wants_asked(update));
}

static void keep(struct moult_update *update, const struct moult_trial_result *result) {
    struct moult_report *report = moult_update_report(update);
    char *sentence;
    if (result->gate.queries > 0)
        report->gate = result->gate;
    if (result->unmatched.searches > 0)
        report->unmatched = result->unmatched;
    report->seconds += result->seconds;
    report->gate.least = moult_gate_limit_least(limit_of(update), report->gate.old_ndcg);
    sentence = moult_report_sentence(report);
    moult_log_info("Update %" PRIu64 " of %s: %s", update->id, update->slot->name, sentence);
    free(sentence);
}

static bool is_nothing_stored(const struct moult_gate_figures *gate) {
    return gate->missing == gate->documents;
}

static bool is_too_low(const struct moult_gate_figures *gate) {
    return gate->new_ndcg < gate->least - 1e-9 && !is_nothing_stored(gate);
}

static void refuse(struct moult_update *update, const char *reason) {
    moult_state_refuse(update->record, update->revision);
    moult_update_end(update, MOULT_UPDATE_REFUSED, reason);
}

static void refuse_as_too_low(struct moult_update *update) {
    const struct moult_gate_figures *gate = &update->report->gate;
    char reason[256];
    snprintf(reason, sizeof reason,
             "The gate refuses it: nDCG@10 of %u queries is %.4f, and --gate-min wants %.4f at "
             "least, where the present model has %.4f.",
             gate->queries, gate->new_ndcg, gate->least, gate->old_ndcg);
    refuse(update, reason);
}

static void on_tried(void *context, uint64_t id, const struct moult_trial_result *result) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_TRIAL);
    MOULT_REQUIRE(update != NULL);   /* Its end cancels the trial. */
    bool limited = judgements_of(update) != NULL && limit_of(update)->kind != MOULT_GATE_ANY;
    update->trial = NULL;
    if (result->trouble != NULL) {
        moult_log_warning("Update %" PRIu64 " of %s: %s", update->id, update->slot->name,
                          result->trouble);
        if (limited) {
            moult_update_end(update, MOULT_UPDATE_REFUSED, result->trouble);
            return;
        }
    }
    if (result->gate.queries > 0 || result->unmatched.searches > 0)
        keep(update, result);
    if (limited && result->gate.queries > 0 && is_too_low(&update->report->gate)) {
        refuse_as_too_low(update);
        return;
    }
    if (limited && (result->gate.queries == 0 || is_nothing_stored(&result->gate)))
        moult_log_warning("Update %" PRIu64 " of %s: the gate could judge nothing, for none of the "
                          "documents that its queries want is stored.",
                          update->id, update->slot->name);
    moult_update_advance(update);
}

void moult_update_begin_trial(struct moult_update *update) {
    struct moult_updates *updates = update->updates;
    update->trial = moult_trial_start(
        update->slot->current, update->candidate, updates->desk,
        wants_gate(update) ? judgements_of(update) : NULL,
        wants_asked(update) ? update->slot->asked : NULL, on_tried, updates, update->id);
}

void moult_update_stop_trial(struct moult_update *update) {
    if (update->trial != NULL)
        moult_trial_cancel(update->trial);
    update->trial = NULL;
}

/* A gate with a limit sees all of its queries, whoever waits. */
void moult_update_hurry_trial(struct moult_update *update) {
    if (judgements_of(update) == NULL || limit_of(update)->kind == MOULT_GATE_ANY)
        moult_trial_hurry(update->trial);
}
