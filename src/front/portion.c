/* One portion of changes on its way: read by the desk, embedded by the worker (piece.c), written by
 * the desk, and then told to the index (follower.c).
 *
 * What the desk's threads touch: in READING, the changes; in WRITING, the documents that were
 * missing, and the file; in REPAIRING, the list of what is damaged. The loop leaves these alone
 * until the task is done, also where the portion was dropped meanwhile. */
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

/* Of what has to be embedded, and of what is only to be told. The first is small enough for the
 * cursor to move about once in a second, and large enough for all threads to have work. */
#define CHANGES_MAX 256u
#define CHANGES_MAX_PRESENT 4096u
#define BYTES_MAX MOULT_MIB
#define RETRY_NS 1000000000ull
#define RETRY_NS_MAX (30 * 1000000000ull)

static void free_portion(struct moult_portion *portion) {
    for (uint32_t i = 0; i < portion->missing_count; i++) {
        free(portion->missing[i].chunks);
        free(portion->missing[i].vectors);
    }
    free(portion->missing);
    free(portion->damaged);
    moult_spared_release(portion);
    moult_changes_release(&portion->changes);
    if (portion->file != NULL)
        moult_space_file_release(portion->file);
    free(portion);
}

/* Of the task that has just been done. Returns false where nobody wants the portion any more; it is
 * free then. */
static bool end_task(struct moult_portion *portion) {
    struct moult_follower *follower = portion->follower;
    follower->tasks--;
    if (!portion->dropped)
        return true;
    free_portion(portion);
    moult_follower_free_if_done(follower);
    return false;
}

static void begin_task(struct moult_portion *portion, enum moult_desk_queue queue,
                       int (*run)(struct moult_desk_task *, struct moult_store *,
                                  struct moult_error *),
                       void (*done)(struct moult_desk_task *, const struct moult_error *)) {
    portion->task = (struct moult_desk_task){.run = run, .done = done};
    for (uint32_t i = 0; i < portion->missing_count; i++)
        portion->task.bytes += portion->missing[i].count * sizeof(struct moult_chunk) + 64;
    portion->follower->tasks++;
    moult_desk_hand_in(portion->follower->followers->desk, queue, &portion->task);
}

static void unlink_portion(struct moult_portion *portion) {
    struct moult_follower *follower = portion->follower;
    struct moult_portion **at = &follower->first;
    while (*at != portion)
        at = &(*at)->next;
    *at = portion->next;
    follower->portion_count--;
}

void moult_portion_drop(struct moult_portion *portion) {
    bool has_task = portion->state == MOULT_PORTION_READING ||
                    portion->state == MOULT_PORTION_REPAIRING ||
                    (portion->state == MOULT_PORTION_WRITING && portion->retry_ns == 0);
    /* It is in no list any more when its jobs are given up: that may have the generation end its
     * follower, which drops all that are. */
    unlink_portion(portion);
    portion->dropped = true;
    moult_pieces_abandon(portion);
    if (has_task && moult_desk_withdraw(portion->follower->followers->desk, &portion->task)) {
        portion->follower->tasks--;
        has_task = false;
    }
    if (!has_task)
        free_portion(portion);
}

/* Reading. */

/* In the desk's thread. */
static int read_changes(struct moult_desk_task *task, struct moult_store *store,
                        struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    moult_spared_release(portion);
    moult_changes_release(&portion->changes);
    if (moult_store_changes(store, portion->slot, portion->space, portion->after,
                            portion->count_max, portion->bytes_max, &portion->changes,
                            error) != 0)
        return -1;
    moult_spared_look(portion);
    return 0;
}

void moult_portion_cut_off(struct moult_portion *portion, uint32_t at) {
    portion->through = portion->changes.items[at].seq - 1;
    portion->changes.count = at;
    portion->last = false;
}

/* What lies behind the bound another portion has. */
static void keep_to_bound(struct moult_portion *portion) {
    struct moult_changes *changes = &portion->changes;
    portion->through = changes->cursor;
    portion->last = changes->complete;
    while (changes->count > 0 && changes->items[changes->count - 1].seq > portion->bound)
        changes->count--;
    if (portion->through > portion->bound)
        portion->through = portion->bound;
}

static void find_missing(struct moult_portion *portion) {
    for (uint32_t i = 0; i < portion->changes.count; i++) {
        const struct moult_store_change *change = &portion->changes.items[i];
        if (!change->puts || change->chunk_count > 0)
            continue;
        if (portion->missing == NULL)
            portion->missing = moult_allocate(portion->changes.count - i, sizeof *portion->missing);
        portion->missing[portion->missing_count++].change = change;
    }
}

static void on_read(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    struct moult_follower *follower = portion->follower;
    if (!end_task(portion))
        return;
    if (error == NULL) {
        keep_to_bound(portion);
        find_missing(portion);
    }
    moult_follower_read(portion, error);
    moult_follower_free_if_done(follower);
}

struct moult_portion *moult_portion_open(struct moult_follower *follower, uint64_t after,
                                         uint64_t bound) {
    struct moult_portion *portion = moult_allocate(1, sizeof *portion);
    struct moult_portion **at = &follower->first;
    bool in_a_hurry = follower->generation->phase == MOULT_GENERATION_CURRENT || follower->synced;
    portion->follower = follower;
    portion->file = follower->file;
    moult_space_file_hold(portion->file);
    portion->state = MOULT_PORTION_READING;
    portion->after = after;
    portion->bound = portion->through = bound;
    portion->count_max = follower->present ? CHANGES_MAX_PRESENT : CHANGES_MAX;
    portion->bytes_max = BYTES_MAX;
    portion->asks_brought = follower->brought_is != MOULT_BROUGHT_WRONG;
    memcpy(portion->slot, portion->file->key.slot, sizeof portion->slot);
    portion->space = portion->file->number;
    while (*at != NULL && (*at)->after < bound)
        at = &(*at)->next;
    portion->next = *at;
    *at = portion;
    follower->portion_count++;
    begin_task(portion, in_a_hurry ? MOULT_DESK_READ : MOULT_DESK_READ_LATER, read_changes,
               on_read);
    return portion;
}

const struct moult_followed *moult_portion_find(const struct moult_portion *portion,
                                                const struct moult_store_change *change) {
    /* Both lists are in the same order. */
    uint32_t low = 0, high = portion->missing_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (portion->missing[middle].change < change)
            low = middle + 1;
        else
            high = middle;
    }
    return low < portion->missing_count && portion->missing[low].change == change
               ? &portion->missing[low] : NULL;
}

/* Writing. */

static void set_rows(struct moult_followed *document, uint32_t *row) {
    for (uint32_t i = 0; i < document->count; i++)
        document->chunks[i].row = (*row)++;
}

static int write_vectors(const struct moult_portion *portion, const struct moult_followed *document,
                         struct moult_error *error) {
    uint64_t *seqs = moult_allocate(document->count, sizeof *seqs);
    uint32_t *chunks = moult_allocate(document->count, sizeof *chunks);
    for (uint32_t i = 0; i < document->count; i++) {
        seqs[i] = document->change->seq;
        chunks[i] = i;
    }
    int result =
        moult_rows_file_write(portion->file->rows, document->chunks[0].row, document->count, seqs,
                              chunks, document->vectors, error);
    free(seqs);
    free(chunks);
    return result;
}

/* A document that its model cannot embed has a chunk without bytes, and no row in the file. */
static int write_document(struct moult_store *store, const struct moult_portion *portion,
                          struct moult_followed *document, struct moult_error *error) {
    if (!document->refused && write_vectors(portion, document, error) != 0)
        return -1;
    int result = moult_store_cut(store, portion->space, document->change->seq, document->chunks,
                                 document->count, error);
    document->gone = result != 0 && error->code == MOULT_ERROR_MISSING;
    return document->gone ? 0 : result;
}

/* In the desk's thread. Vectors first, then what names their rows: a row that nobody names harms
 * nobody. Rows that are given again after a transaction was lost had not been told to anybody. */
static int write_portion(struct moult_desk_task *task, struct moult_store *store,
                         struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    uint32_t count = 0, row;
    for (uint32_t i = 0; i < portion->missing_count; i++)
        count += portion->missing[i].count;
    if (moult_store_rows_take(store, portion->space, count, &row, error) != 0)
        return -1;
    for (uint32_t i = 0; i < portion->missing_count; i++)
        set_rows(&portion->missing[i], &row);
    for (uint32_t i = 0; i < portion->missing_count; i++)
        if (write_document(store, portion, &portion->missing[i], error) != 0)
            return -1;
    return 0;
}

static uint64_t retry_at(struct moult_portion *portion) {
    uint64_t delay_ns = RETRY_NS << (portion->failures < 5 ? portion->failures : 5);
    portion->failures++;
    return moult_clock_ns() + (delay_ns < RETRY_NS_MAX ? delay_ns : RETRY_NS_MAX);
}

static void on_written(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    struct moult_follower *follower = portion->follower;
    if (!end_task(portion))
        return;
    if (error != NULL) {
        portion->retry_ns = retry_at(portion);
        moult_followers_wake_by(follower->followers, portion->retry_ns);
        moult_follower_in_trouble(follower, error->message);
        return;
    }
    moult_fault_point("portion-written");
    for (uint32_t i = 0; i < portion->missing_count; i++) {
        follower->embedded += !portion->missing[i].refused && !portion->missing[i].spared;
        follower->spared += portion->missing[i].spared;
        follower->embedded_bytes += portion->missing[i].change->text_size;
        free(portion->missing[i].vectors);
        portion->missing[i].vectors = NULL;
    }
    portion->state = MOULT_PORTION_DONE;
    moult_follower_out_of_trouble(follower);
    moult_follower_written(portion);
}

static void write_it(struct moult_portion *portion) {
    portion->state = MOULT_PORTION_WRITING;
    portion->retry_ns = 0;
    begin_task(portion, MOULT_DESK_WRITE, write_portion, on_written);
}

void moult_portion_embed(struct moult_portion *portion) {
    portion->state = MOULT_PORTION_EMBEDDING;
    portion->unfinished = portion->missing_count;
    if (portion->missing_count == 0) {
        portion->state = MOULT_PORTION_DONE;
        return;
    }
    moult_pieces_begin(portion);
    if (portion->jobs == NULL)   /* All vectors were there. */
        moult_portion_embedded(portion);
}

void moult_portion_embedded(struct moult_portion *portion) {
    moult_fault_point("portion-embedded");
    moult_spared_judge(portion);
    write_it(portion);
}

void moult_portion_retry(struct moult_portion *portion) {
    if (portion->state == MOULT_PORTION_WRITING)
        write_it(portion);
}

/* Repairing. */

/* In the desk's thread: these are documents that were never cut. */
static int forget_cuts(struct moult_desk_task *task, struct moult_store *store,
                       struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    for (uint32_t i = 0; i < portion->damaged_count; i++)
        if (moult_store_cut(store, portion->space, portion->damaged[i], NULL, 0, error) != 0 &&
            error->code != MOULT_ERROR_MISSING)
            return -1;
    return 0;
}

static void on_forgotten(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_portion *portion = (struct moult_portion *)task;
    struct moult_follower *follower = portion->follower;
    if (!end_task(portion))
        return;
    if (error != NULL)
        moult_follower_in_trouble(follower, error->message);
    portion->state = MOULT_PORTION_DONE;
    moult_portion_drop(portion);
    moult_follower_step(follower);
}

void moult_portion_repair(struct moult_portion *portion) {
    portion->state = MOULT_PORTION_REPAIRING;
    begin_task(portion, MOULT_DESK_WRITE, forget_cuts, on_forgotten);
}
