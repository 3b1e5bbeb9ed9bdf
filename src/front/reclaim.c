/* Disk space of rows that nobody needs. A row's number is never given twice, so the file of a space
 * grows with each change of a document. What lies between living rows is given back to the file
 * system as holes, whole pages of it: numbers stay, and where a hole is read there is no row.
 *
 *   read      which rows are alive, one part of the table after another. A version that comes
 *             meanwhile has rows behind those that are looked at; the rows of one that goes count
 *             as alive
 *   wait      until every index has passed the last change that this may have seen: from then on
 *             no worker reads a row that was dead
 *   punch     holes, a few at a time
 *
 * Nothing of that is written down: a server that ends in between begins anew. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "front/follow.h"

/* It is worth its while from so many dead rows on, and from half as many as are alive. */
#define DEAD_ROWS_MIN 4096u
#define DEAD_PART 2u
#define CHANGES_MAX 4096u
#define BYTES_MAX MOULT_MIB
#define HOLES_MAX 256u

struct moult_reclaiming {
    struct moult_desk_task task;
    struct moult_followers *followers;
    struct moult_space_file *file;
    enum { READ, WAIT, PUNCH } step;
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    uint32_t space;
    uint64_t *alive;                  /* Bit r is row r of [rows]. */
    uint32_t rows;
    uint64_t cursor, seq;
    bool read_all;
    uint32_t at, dead;                /* Rows before it are done, and of those so many are dead. */
    uint64_t bytes;
};

static void finish(struct moult_reclaiming *self, const struct moult_error *error) {
    struct moult_followers *followers = self->followers;
    if (error != NULL && !followers->stopping)
        moult_log_warning("Space of vectors that nobody needs is not given back: %s",
                          error->message);
    else if (self->bytes > 0)
        moult_log_info("%.1f MB of vectors of %s@%.8s that nobody needs are given back.",
                       (double)self->bytes / 1e6, self->slot, self->file->key.fingerprint);
    followers->reclaiming = NULL;
    moult_space_file_release(self->file);
    free(self->alive);
    free(self);
}

static void hand_in(struct moult_reclaiming *self, enum moult_desk_queue queue,
                    int (*run)(struct moult_desk_task *, struct moult_store *,
                               struct moult_error *),
                    void (*done)(struct moult_desk_task *, const struct moult_error *)) {
    self->task = (struct moult_desk_task){.run = run, .done = done};
    self->followers->tasks++;
    moult_desk_hand_in(self->followers->desk, queue, &self->task);
}

/* Which are alive. */

static void note(struct moult_reclaiming *self, const struct moult_store_change *change) {
    for (uint32_t i = 0; i < change->chunk_count; i++) {
        uint32_t row = change->chunks[i].row;
        if (row < self->rows)
            self->alive[row / 64] |= (uint64_t)1 << row % 64;
    }
}

static int read_some(struct moult_desk_task *task, struct moult_store *store,
                     struct moult_error *error) {
    struct moult_reclaiming *self = (struct moult_reclaiming *)task;
    struct moult_changes changes;
    if (moult_store_changes(store, self->slot, self->space, self->cursor, CHANGES_MAX, BYTES_MAX,
                            &changes, error) != 0)
        return -1;
    for (uint32_t i = 0; i < changes.count; i++)
        note(self, &changes.items[i]);
    self->cursor = changes.cursor;
    self->read_all = changes.complete;
    moult_changes_release(&changes);
    return 0;
}

static void on_read(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_reclaiming *self = (struct moult_reclaiming *)task;
    struct moult_followers *followers = self->followers;
    followers->tasks--;
    if (error != NULL || followers->stopping || !followers->own) {
        finish(self, error);
    } else if (!self->read_all) {
        hand_in(self, MOULT_DESK_READ_LATER, read_some, on_read);
    } else {
        self->step = WAIT;
    }
}

/* Dead, and not known to be a hole; of one that is followed. */
static bool has_dead_rows(const struct moult_space_file *file) {
    uint64_t known = file->chunks + file->holes;
    uint64_t dead = file->next_row > known ? file->next_row - known : 0;
    return file->rows != NULL && file->number != 0 && dead >= DEAD_ROWS_MIN &&
           dead >= file->chunks / DEAD_PART;
}

void moult_reclaim_begin(struct moult_followers *followers) {
    struct moult_space_file *file = followers->files;
    if (followers->reclaiming != NULL || !followers->own || followers->stopping)
        return;
    while (file != NULL && !has_dead_rows(file))
        file = file->next;
    if (file == NULL)
        return;
    struct moult_reclaiming *self = moult_allocate(1, sizeof *self);
    self->followers = followers;
    self->file = file;
    moult_space_file_hold(file);
    memcpy(self->slot, file->key.slot, sizeof self->slot);
    self->space = file->number;
    self->rows = file->next_row;
    self->alive = moult_allocate(self->rows / 64 + 1ul, sizeof *self->alive);
    followers->reclaiming = self;
    hand_in(self, MOULT_DESK_READ_LATER, read_some, on_read);
}

/* Holes. */

static bool is_alive(const struct moult_reclaiming *self, uint32_t row) {
    return (self->alive[row / 64] >> row % 64 & 1) != 0;
}

static int punch_some(struct moult_desk_task *task, struct moult_store *store,
                      struct moult_error *error) {
    struct moult_reclaiming *self = (struct moult_reclaiming *)task;
    (void)store;
    for (unsigned holes = 0; self->at < self->rows && holes < HOLES_MAX; holes++) {
        uint32_t begin = self->at;
        while (begin < self->rows && is_alive(self, begin))
            begin++;
        uint32_t end = begin;
        while (end < self->rows && !is_alive(self, end))
            end++;
        if (end > begin &&
            moult_rows_file_punch(self->file->rows, begin, end - begin, &self->bytes, error) != 0)
            return -1;
        self->at = end;
        self->dead += end - begin;
    }
    return 0;
}

static void on_punched(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_reclaiming *self = (struct moult_reclaiming *)task;
    struct moult_followers *followers = self->followers;
    followers->tasks--;
    moult_fault_point("reclaim-punched");
    if (error == NULL && self->at >= self->rows)
        self->file->holes = self->dead;
    if (error != NULL || self->at >= self->rows || followers->stopping || !followers->own)
        finish(self, error);
    else
        hand_in(self, MOULT_DESK_WRITE, punch_some, on_punched);
}

/* Who has not begun reads what the table says then. */
static bool have_all_passed(const struct moult_reclaiming *self) {
    const struct moult_slots *slots = self->followers->slots;
    for (unsigned s = 0; s < slots->count; s++)
        for (unsigned i = 0; i < slots->slots[s].generation_count; i++) {
            const struct moult_follower *follower = slots->slots[s].generations[i]->follower;
            if (follower != NULL && follower->file == self->file &&
                (follower->told > 0 || follower->first != NULL) && follower->told < self->seq)
                return false;
        }
    return true;
}

/* Once in a while. At the first look, all changes that were read are known here, too. */
void moult_reclaim_look(struct moult_followers *followers) {
    struct moult_reclaiming *self = followers->reclaiming;
    if (self == NULL || self->step != WAIT)
        return;
    if (self->seq == 0) {
        self->seq = moult_followers_of_name(followers, self->slot)->head;
        return;
    }
    if (!have_all_passed(self))
        return;
    if (followers->stopping || !followers->own || followers->keeps_removals ||
        self->file->rows == NULL) {
        finish(self, NULL);   /* Another time. */
        return;
    }
    self->step = PUNCH;
    hand_in(self, MOULT_DESK_WRITE, punch_some, on_punched);
}

/* Of one that waits: nobody will call. */
void moult_reclaim_stop(struct moult_followers *followers) {
    if (followers->reclaiming != NULL && followers->reclaiming->step == WAIT)
        finish(followers->reclaiming, NULL);
}
