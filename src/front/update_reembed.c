/* Re-embedding: the phase in which a candidate makes vectors of all documents, and comes to have
 * whatever is acknowledged (follower.h). It leaves the phase with nothing missing, and from then on
 * writes wait for it, so that it stays so until it serves.
 *
 * Passed over where there is nothing to be embedded, and where waiting would help nobody: nothing
 * serves yet; --swap wait, where requests wait for the new model already; or what serves keeps
 * dying. Then the new model serves first, its documents follow, and searches by vector wait. */
#include <inttypes.h>
#include <stdio.h>

#include "base/buffer.h"
#include "base/fault.h"
#include "base/log.h"
#include "front/update_run.h"

/* What is in the way may go away; for so many tries, ever more slowly, it is waited for. */
#define FAILURES_MAX 4u

bool moult_update_wants_documents(const struct moult_update *update) {
    return moult_slot_current(update->slot) != NULL && !update->swapping &&
           update->asked_by != MOULT_ASKED_BY_TAKE_OVER &&
           moult_followers_have_documents(update->slot);
}

static void refuse(struct moult_update *update, const char *reason) {
    char sentences[600];
    snprintf(sentences, sizeof sentences, "The documents could not be embedded: %.500s", reason);
    moult_update_end(update, MOULT_UPDATE_REFUSED, sentences);
}

static void on_estimated(void *context, uint64_t id, const struct moult_follow_estimate *estimate,
                         const struct moult_error *error) {
    struct moult_update *update = moult_updates_find_in_phase(context, id, MOULT_PHASE_REEMBED);
    char reason[400];
    if (update == NULL)
        return;
    if (error != NULL) {
        refuse(update, error->message);
        return;
    }
    update->disk_bytes = estimate->disk_bytes;
    if (estimate->missing > 0 && estimate->disk_bytes > estimate->disk_free_bytes) {
        snprintf(reason, sizeof reason,
                 "%" PRIu64 " documents need about %.0f MB of disk, and %.0f MB are free.",
                 estimate->missing, (double)estimate->disk_bytes / 1e6,
                 (double)estimate->disk_free_bytes / 1e6);
        refuse(update, reason);
        return;
    }
    if (estimate->missing > 0)
        moult_log_info("Update %" PRIu64 " of %s embeds %" PRIu64 " of %" PRIu64
                       " documents; they will take about %.1f MB of disk.", update->id,
                       update->slot->name, estimate->missing, estimate->documents,
                       (double)estimate->disk_bytes / 1e6);
    update->candidate->persistent = update->candidate->phase == MOULT_GENERATION_CANDIDATE;
    moult_followers_lead(update->candidate);
}

void moult_update_reembed(struct moult_update *update) {
    moult_fault_point("reembed");
    moult_followers_estimate(update->candidate, on_estimated, update->updates, update->id);
}

static void arrive(struct moult_update *update) {
    struct moult_follow_progress progress;
    moult_followers_progress(update->candidate, &progress);
    update->figures.documents_embedded = progress.embedded;
    update->candidate->persistent = false;
    moult_update_measure_memory(update);
    if (progress.embedded > 0)
        moult_log_info("Update %" PRIu64 " of %s has embedded %" PRIu64 " documents.", update->id,
                       update->slot->name, progress.embedded);
    moult_update_advance(update);
}

void moult_update_followed(struct moult_update *update) {
    struct moult_follow_progress progress;
    if (update->phase < MOULT_PHASE_REEMBED || update->phase == MOULT_PHASE_PERSIST)
        return;
    moult_followers_progress(update->candidate, &progress);
    /* Where it is ready and waits, writes wait with it. */
    if (progress.failures >= FAILURES_MAX)
        refuse(update, progress.trouble);
    else if (update->phase == MOULT_PHASE_REEMBED && moult_followers_arrived(update->candidate))
        arrive(update);
}

void moult_update_let_documents_go(struct moult_update *update) {
    if (update->candidate == NULL)
        return;
    update->candidate->persistent = false;
    if (update->candidate->phase != MOULT_GENERATION_CURRENT)
        moult_followers_let_go(update->candidate);
}

double moult_update_documents_progress(const struct moult_update *update) {
    struct moult_follow_progress progress;
    moult_followers_progress(update->candidate, &progress);
    return progress.documents_total > 0
               ? (double)progress.documents / (double)progress.documents_total : 0;
}

json_t *moult_update_documents_json(const struct moult_update *update) {
    struct moult_follow_progress progress;
    moult_followers_progress(update->candidate, &progress);
    json_t *json = json_pack("{s:I, s:I, s:I, s:I}", "done", (json_int_t)progress.documents,
                             "total", (json_int_t)progress.documents_total, "embedded",
                             (json_int_t)progress.embedded, "disk_bytes",
                             (json_int_t)update->disk_bytes);
    if (progress.documents_per_second > 0) {
        json_object_set_new(json, "per_second", json_real(progress.documents_per_second));
        json_object_set_new(json, "seconds_left", json_real(progress.seconds_left));
    }
    if (progress.trouble[0] != '\0')
        json_object_set_new(json, "trouble", json_string(progress.trouble));
    return json;
}
