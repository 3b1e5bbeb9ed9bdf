/* What an update asks of followers: what it will take, how far it is, and that it has arrived. */
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

/* In the table: a chunk, a cut with its place in two trees, and what the log takes at most. */
#define TABLE_CHUNK_BYTES 16u
#define TABLE_CUT_BYTES 64u
#define LOG_BYTES (8 * MOULT_MIB)

struct estimating {
    struct moult_desk_task task;
    struct moult_followers *followers;
    struct moult_followed_slot *followed;
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    char *folder;
    uint32_t C;
    uint32_t space, other_space;      /* The model's, and that of the current one; 0: none. */
    struct moult_follow_estimate estimate;
    moult_estimate_listener listener;
    void *context;
    uint64_t tag;
};

static int count_documents(struct estimating *self, struct moult_store *store,
                           struct moult_error *error) {
    struct moult_collection *collections;
    unsigned count;
    if (moult_store_collections(store, self->slot, &collections, &count, error) != 0)
        return -1;
    self->estimate.documents = 0;
    for (unsigned i = 0; i < count; i++)
        self->estimate.documents += collections[i].documents;
    free(collections);
    return 0;
}

/* How many chunks a document has is a guess: as many as the model that serves makes of it. */
static int count_space(struct moult_store *store, uint32_t number, struct moult_space *space,
                       struct moult_error *error) {
    *space = (struct moult_space){0};
    if (number == 0)
        return 0;
    int result = moult_store_space(store, number, space, error);
    return result != 0 && error->code == MOULT_ERROR_MISSING ? 0 : result;
}

/* In the desk's thread. */
static int estimate(struct moult_desk_task *task, struct moult_store *store,
                    struct moult_error *error) {
    struct estimating *self = (struct estimating *)task;
    struct moult_follow_estimate *found = &self->estimate;
    struct moult_space own, other;
    struct statvfs disk;
    if (count_documents(self, store, error) != 0 ||
        count_space(store, self->space, &own, error) != 0 ||
        count_space(store, self->other_space, &other, error) != 0)
        return -1;
    if (statvfs(self->folder, &disk) != 0)
        return moult_fail_errno(error, "What the disk of %s has free cannot be found out",
                                self->folder);
    found->missing = found->documents > own.documents ? found->documents - own.documents : 0;
    double chunks = other.documents > 0 ? (double)other.chunks / (double)other.documents : 1;
    uint64_t rows = (uint64_t)((double)found->missing * (chunks > 1 ? chunks : 1));
    found->disk_bytes = moult_rows_file_bytes(self->C, rows) - moult_rows_file_bytes(self->C, 0) +
                        rows * TABLE_CHUNK_BYTES + found->missing * TABLE_CUT_BYTES +
                        (found->missing > 0 ? LOG_BYTES : 0);
    found->disk_free_bytes = (uint64_t)disk.f_bavail * disk.f_frsize;
    return 0;
}

static void on_estimated(struct moult_desk_task *task, const struct moult_error *error) {
    struct estimating *self = (struct estimating *)task;
    self->followers->tasks--;
    if (error == NULL)
        self->followed->documents = self->estimate.documents;
    self->listener(self->context, self->tag, &self->estimate, error);
    free(self->folder);
    free(self);
}

void moult_followers_estimate(struct moult_generation *generation,
                              moult_estimate_listener listener, void *context, uint64_t tag) {
    struct moult_slot *slot = generation->slot;
    struct moult_followers *followers = slot->slots->followers;
    struct estimating *self = moult_allocate(1, sizeof *self);
    self->task = (struct moult_desk_task){.run = estimate, .done = on_estimated};
    self->followers = followers;
    self->followed = moult_followers_of(followers, slot);
    memcpy(self->slot, slot->name, strlen(slot->name));
    self->folder = moult_copy_string(followers->folder);
    self->C = generation->report.dimensions;
    self->space = moult_followers_space(followers, generation);
    self->other_space = moult_followers_space(followers, slot->current);
    self->listener = listener;
    self->context = context;
    self->tag = tag;
    followers->tasks++;
    moult_desk_hand_in(followers->desk, MOULT_DESK_READ, &self->task);
}

bool moult_followers_have_documents(const struct moult_slot *slot) {
    const struct moult_followers *followers = slot->slots->followers;
    if (followers == NULL)
        return false;
    const struct moult_followed_slot *followed = moult_followers_of(followers, slot);
    return followed->documents > 0 || followed->written;
}

void moult_followers_lead(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    MOULT_REQUIRE(follower != NULL);
    follower->held = false;
    follower->aims = true;
    follower->embedded_before = follower->embedded;
    follower->embedding_since_ns = 0;
    moult_followers_look(generation->slot);
}

void moult_followers_let_go(struct moult_generation *generation) {
    struct moult_follower *follower = generation->follower;
    if (follower == NULL)
        return;
    follower->aims = follower->synced = false;
    moult_followers_look(generation->slot);
}

bool moult_followers_arrived(const struct moult_generation *generation) {
    const struct moult_follower *follower = generation->follower;
    return follower != NULL && follower->synced && follower->told >= follower->sync_seq;
}

void moult_followers_progress(const struct moult_generation *generation,
                              struct moult_follow_progress *progress) {
    const struct moult_follower *follower = generation->follower;
    *progress = (struct moult_follow_progress){.trouble = ""};
    if (follower == NULL)
        return;
    progress->documents = follower->documents;
    progress->documents_total =
        moult_followers_of(follower->followers, generation->slot)->documents;
    if (progress->documents_total < progress->documents)
        progress->documents_total = progress->documents;
    progress->embedded = follower->embedded - follower->embedded_before;
    progress->failures = follower->failures;
    progress->trouble = follower->trouble;
    uint64_t made = progress->embedded + follower->spared;
    if (follower->embedding_since_ns == 0 || made == 0)
        return;
    double seconds = (double)(moult_clock_ns() - follower->embedding_since_ns) / 1e9;
    progress->documents_per_second = (double)made / seconds;
    progress->seconds_left = (double)(progress->documents_total - progress->documents) /
                             progress->documents_per_second;
}
