/* Vectors that need not be made, because they are there: a document came with its own (given.h), or
 * the model brings one for its text (brought.h).
 *
 * Of what a model brings, the first TRIED are made all the same and compared: an array in another
 * order, or of another model of the same width, would be believed for ever. Both kinds fit a
 * document that is one chunk, and no other. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "front/follow.h"
#include "front/given.h"

#define TRIED 256u
#define COSINE_LEAST 0.999

/* In the desk's thread, which alone has follower->brought. */
static struct moult_brought *look_once(struct moult_follower *follower, uint32_t C) {
    const struct moult_generation *generation = follower->generation;
    struct moult_error error;
    if (follower->brought_looked)
        return follower->brought;
    char *folder = moult_format("%s/%s", generation->slot->slots->models_folder,
                                moult_generation_revision(generation));
    follower->brought = moult_brought_open(folder, C, &error);
    follower->brought_looked = true;
    free(folder);
    if (follower->brought != NULL)
        moult_log_info("%s brings the vectors of %" PRIu64 " texts.", generation->label,
                       moult_brought_count(follower->brought));
    else if (error.code != MOULT_ERROR_MISSING)
        moult_log_warning("The vectors that %s brings are not used: %s", generation->label,
                          error.message);
    return follower->brought;
}

void moult_spared_look(struct moult_portion *portion) {
    uint32_t C = portion->file->key.dimensions;
    const struct moult_changes *changes = &portion->changes;
    struct moult_brought *brought =
        portion->asks_brought ? look_once(portion->follower, C) : NULL;
    if (brought == NULL || changes->count == 0)
        return;
    portion->brought_count = changes->count;
    portion->brought = moult_allocate(changes->count, sizeof *portion->brought);
    for (uint32_t i = 0; i < changes->count; i++) {
        const struct moult_store_change *change = &changes->items[i];
        if (!change->puts || change->chunk_count > 0)
            continue;
        float *vector = moult_allocate(C, sizeof *vector);
        if (moult_brought_find(brought, change->text, change->text_size, vector))
            portion->brought[i] = vector;
        else
            free(vector);
    }
}

void moult_spared_release(struct moult_portion *portion) {
    for (uint32_t i = 0; i < portion->brought_count; i++)
        free(portion->brought[i]);
    free(portion->brought);
    portion->brought = NULL;
    portion->brought_count = 0;
}

static const float *brought_of(const struct moult_portion *portion,
                               const struct moult_followed *document) {
    return portion->brought != NULL
               ? portion->brought[document->change - portion->changes.items]
               : NULL;
}

bool moult_spared_take(struct moult_portion *portion, struct moult_followed *document) {
    const struct moult_follower *follower = portion->follower;
    uint32_t C = portion->file->key.dimensions;
    const float *brought = brought_of(portion, document);
    if (document->count != 1)
        return false;
    if (!moult_given_take(follower->followers->slots->given, portion->file->key.fingerprint,
                          document->change->seq, C, document->vectors)) {
        if (brought == NULL || follower->brought_is != MOULT_BROUGHT_RIGHT)
            return false;
        memcpy(document->vectors, brought, C * sizeof *brought);
    }
    document->spared = true;
    document->missing = 0;
    portion->unfinished--;
    return true;
}

void moult_spared_judge(struct moult_portion *portion) {
    struct moult_follower *follower = portion->follower;
    uint32_t C = portion->file->key.dimensions;
    if (follower->brought_is != MOULT_BROUGHT_UNTRIED)
        return;
    for (uint32_t i = 0; i < portion->missing_count; i++) {
        const struct moult_followed *document = &portion->missing[i];
        const float *brought = brought_of(portion, document);
        double cosine = 0;
        if (brought == NULL || document->count != 1 || document->refused || document->spared)
            continue;
        for (uint32_t c = 0; c < C; c++)
            cosine += (double)brought[c] * (double)document->vectors[c];
        follower->brought_tried++;
        if (follower->brought_tried == 1 || cosine < follower->brought_least)
            follower->brought_least = cosine;
    }
    if (follower->brought_tried > 0 && follower->brought_least < COSINE_LEAST) {
        follower->brought_is = MOULT_BROUGHT_WRONG;
        moult_log_warning("The vectors that %s brings are not those that it makes, and are not "
                          "used: of %u, the lowest cosine is %.4f.",
                          follower->generation->label, follower->brought_tried,
                          follower->brought_least);
    } else if (follower->brought_tried >= TRIED) {
        follower->brought_is = MOULT_BROUGHT_RIGHT;
        moult_log_info("The vectors that %s brings are those that it makes: of %u, the lowest "
                       "cosine is %.6f.", follower->generation->label, follower->brought_tried,
                       follower->brought_least);
    }
}
