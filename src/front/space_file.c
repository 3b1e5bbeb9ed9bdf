/* Spaces and their files: DATA/vectors/SLOT-FP16-NUMBER.rows.
 *
 * A worker can open nothing any more when it knows which model it is, so it inherits what it may
 * need: the files of all spaces of its slot, or, where its model is known, of one; and a blank file
 * for a space that is not there yet. Once it has told its fingerprint, that one is claimed, or not
 * needed. A space is made in the store first and its file gets its name then, so a file without a
 * space is a leftover, and is removed at the next start. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

#define ROWS_SUFFIX ".rows"
#define BLANK_SUFFIX ".blank"
/* Beyond those that are known, for what comes while a worker runs. */
#define ROWS_MORE 1024u

void moult_space_file_hold(struct moult_space_file *file) {
    file->users++;
}

/* A file that nobody follows with is not kept open, but for one that has no name yet. */
void moult_space_file_release(struct moult_space_file *file) {
    file->users--;
    if (file->users <= 1 && file->rows != NULL && (file->number != 0 || file->users == 0)) {
        moult_rows_file_close(file->rows);
        file->rows = NULL;
    }
    if (file->users > 0)
        return;
    free(file->path);
    free(file);
}

static void take_out(struct moult_space_file *file) {
    struct moult_space_file **at = &file->followers->files;
    while (*at != file)
        at = &(*at)->next;
    *at = file->next;
    moult_space_file_release(file);
}

void moult_space_files_close(struct moult_followers *followers) {
    while (followers->files != NULL)
        take_out(followers->files);
}

static bool is_cut_so(const struct moult_followers *followers, const struct moult_space_key *key) {
    const struct moult_serve_options *options = followers->slots->options;
    return key->chunk_tokens == options->chunk_tokens &&
           key->chunk_overlap == options->chunk_overlap;
}

struct moult_space_file *moult_space_file_find(const struct moult_followers *followers,
                                               const struct moult_slot *slot,
                                               const char *fingerprint) {
    for (struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (strcmp(file->key.slot, slot->name) == 0 && is_cut_so(followers, &file->key) &&
            strcmp(file->key.fingerprint, fingerprint) == 0)
            return file;
    return NULL;
}

static char *path_of(const struct moult_followers *followers, const struct moult_space_key *key,
                     uint32_t number) {
    return moult_format("%s/%s-%.16s-%u" ROWS_SUFFIX, followers->folder, key->slot,
                        key->fingerprint, number);
}

static struct moult_space_file *add(struct moult_followers *followers,
                                    const struct moult_space_key *key) {
    struct moult_space_file *file = moult_allocate(1, sizeof *file);
    file->followers = followers;
    file->key = *key;
    file->users = 1;
    file->next = followers->files;
    followers->files = file;
    return file;
}

static struct moult_space_file *find_number(const struct moult_followers *followers,
                                            uint32_t number) {
    for (struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (file->number == number)
            return file;
    return NULL;
}

void moult_space_files_note(struct moult_followers *followers, const struct moult_space *spaces,
                            unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct moult_space_file *file = find_number(followers, spaces[i].number);
        if (file == NULL) {
            file = add(followers, &spaces[i].key);
            file->number = spaces[i].number;
            file->path = path_of(followers, &file->key, file->number);
        }
        file->chunks = spaces[i].chunks;
        file->next_row = spaces[i].next_row;
        file->created_at = spaces[i].created_at;
    }
}

/* What a worker inherits. */

/* A file that is none costs time and no document: all of its vectors are made anew. */
static int open_rows(struct moult_space_file *file, struct moult_error *error) {
    if (file->rows != NULL)
        return 0;
    file->rows =
        moult_rows_file_create(file->path, file->key.fingerprint, file->key.dimensions, error);
    if (file->rows == NULL && error->code == MOULT_ERROR_INVALID && file->followers->own) {
        moult_log_warning("%s Its vectors are made anew.", error->message);
        unlink(file->path);
        file->rows =
            moult_rows_file_create(file->path, file->key.fingerprint, file->key.dimensions, error);
    }
    return file->rows != NULL ? 0 : -1;
}

static void inherit(struct moult_follower *follower, struct moult_process_order *order,
                    struct moult_space_file *file) {
    struct moult_error error;
    if (order->rows_count == MOULT_ROWS_FILES_MAX)
        return;
    if (open_rows(file, &error) != 0) {
        moult_follower_in_trouble(follower, error.message);
        return;
    }
    moult_space_file_hold(file);
    follower->inherited[follower->inherited_count++] = file;
    order->rows_fds[order->rows_count++] = moult_rows_file_fd(file->rows);
}

static void inherit_blank(struct moult_follower *follower, struct moult_process_order *order) {
    struct moult_followers *followers = follower->followers;
    const struct moult_generation *generation = follower->generation;
    struct moult_error error;
    follower->blank_path =
        moult_format("%s/%s-%llu-%llu-%d" BLANK_SUFFIX, followers->folder, generation->slot->name,
                     (unsigned long long)generation->number, (unsigned long long)generation->run,
                     (int)getpid());
    follower->blank = moult_rows_file_create_blank(follower->blank_path, &error);
    if (follower->blank == NULL)
        moult_follower_in_trouble(follower, error.message);
    else
        order->rows_fds[order->rows_count++] = moult_rows_file_fd(follower->blank);
}

/* Those of the slot, the one that it is likely to be first; newer ones come before older ones. */
static void inherit_all(struct moult_follower *follower, struct moult_process_order *order) {
    struct moult_followers *followers = follower->followers;
    const struct moult_generation *generation = follower->generation;
    struct moult_space_file *likely =
        moult_space_file_find(followers, generation->slot, generation->fingerprint);
    if (likely != NULL)
        inherit(follower, order, likely);
    for (struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (file != likely && file->number != 0 && is_cut_so(followers, &file->key) &&
            strcmp(file->key.slot, generation->slot->name) == 0 &&
            order->rows_count + 1 < MOULT_ROWS_FILES_MAX)
            inherit(follower, order, file);
    inherit_blank(follower, order);
}

uint64_t moult_space_files_rows(const struct moult_followers *followers,
                                const struct moult_slot *slot) {
    uint64_t rows = moult_followers_of(followers, slot)->documents;
    for (const struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (strcmp(file->key.slot, slot->name) == 0 && file->chunks > rows)
            rows = file->chunks;
    return rows > 0 ? rows + rows / 8 + ROWS_MORE : 0;
}

void moult_space_files_equip(struct moult_follower *follower, struct moult_process_order *order) {
    moult_space_files_unbind(follower);
    follower->equipped = false;
    if (follower->file != NULL)
        inherit(follower, order, follower->file);
    else
        inherit_all(follower, order);
    order->row_count =
        moult_space_files_rows(follower->followers, follower->generation->slot);
    order->follow_nice = follower->followers->slots->options->follow_nice;
}

void moult_space_files_unbind(struct moult_follower *follower) {
    while (follower->inherited_count > 0)
        moult_space_file_release(follower->inherited[--follower->inherited_count]);
    if (follower->blank != NULL) {
        moult_rows_file_close(follower->blank);
        unlink(follower->blank_path);
    }
    follower->blank = NULL;
    free(follower->blank_path);
    follower->blank_path = NULL;
}

/* It is known. */

static void follow_with(struct moult_follower *follower, struct moult_space_file *file) {
    if (file != NULL)
        moult_space_file_hold(file);
    if (follower->file != NULL)
        moult_space_file_release(follower->file);
    follower->file = file;
    if (file != NULL)
        moult_space_file_make(file);
}

static struct moult_space_file *claim_blank(struct moult_follower *follower) {
    struct moult_followers *followers = follower->followers;
    const struct moult_generation *generation = follower->generation;
    const struct moult_serve_options *options = followers->slots->options;
    struct moult_space_key key = {.dimensions = generation->report.dimensions,
                                  .chunk_tokens = options->chunk_tokens,
                                  .chunk_overlap = options->chunk_overlap};
    struct moult_error error;
    snprintf(key.slot, sizeof key.slot, "%s", generation->slot->name);
    snprintf(key.fingerprint, sizeof key.fingerprint, "%s", generation->report.fingerprint);
    if (moult_rows_file_claim(follower->blank, key.fingerprint, key.dimensions, &error) != 0) {
        moult_follower_in_trouble(follower, error.message);
        return NULL;
    }
    struct moult_space_file *file = add(followers, &key);
    file->rows = follower->blank;
    file->path = follower->blank_path;
    follower->blank = NULL;
    follower->blank_path = NULL;
    return file;
}

void moult_space_files_bind(struct moult_follower *follower) {
    const struct moult_generation *generation = follower->generation;
    struct moult_space_file *file = moult_space_file_find(follower->followers, generation->slot,
                                                          generation->report.fingerprint);
    bool is_new = file == NULL && follower->blank != NULL;
    if (is_new)
        file = claim_blank(follower);
    follower->equipped = is_new && file != NULL;
    for (unsigned i = 0; i < follower->inherited_count; i++)
        follower->equipped = follower->equipped || follower->inherited[i] == file;
    follow_with(follower, file);
    moult_space_files_unbind(follower);
}

/* What it could not be given when it was started, it can be given when it is started again. */
void moult_space_files_mend(struct moult_follower *follower) {
    struct moult_generation *generation = follower->generation;
    struct moult_process_order order = {.rows_count = 0};
    struct moult_space_file *file = moult_space_file_find(follower->followers, generation->slot,
                                                          generation->report.fingerprint);
    if (file == NULL) {
        inherit_blank(follower, &order);
        file = follower->blank != NULL ? claim_blank(follower) : NULL;
    } else {
        inherit(follower, &order, file);
    }
    bool mended = file != NULL && file->rows != NULL;
    if (mended)
        follow_with(follower, file);
    moult_space_files_unbind(follower);
    if (mended)
        moult_process_kill(generation->process,
                           "It is started again, with the file of its vectors.");
}

/* In the store. */

struct space_task {
    struct moult_desk_task task;
    struct moult_space_file *file;
    struct moult_space_key key;
    struct moult_space space;
    uint32_t number;
};

static void begin_task(struct moult_space_file *file,
                       int (*run)(struct moult_desk_task *, struct moult_store *,
                                  struct moult_error *),
                       void (*done)(struct moult_desk_task *, const struct moult_error *)) {
    struct space_task *task = moult_allocate(1, sizeof *task);
    task->task = (struct moult_desk_task){.run = run, .done = done};
    task->file = file;
    task->key = file->key;
    task->number = file->number;
    moult_space_file_hold(file);
    file->followers->tasks++;
    moult_desk_hand_in(file->followers->desk, MOULT_DESK_WRITE, &task->task);
}

static void end_task(struct space_task *task) {
    task->file->followers->tasks--;
    moult_space_file_release(task->file);
    free(task);
}

static int make_space(struct moult_desk_task *task, struct moult_store *store,
                      struct moult_error *error) {
    struct space_task *self = (struct space_task *)task;
    return moult_store_space_make(store, &self->key, &self->space, error);
}

static void tell_users(struct moult_space_file *file, const struct moult_error *error) {
    struct moult_slots *slots = file->followers->slots;
    for (unsigned s = 0; s < slots->count; s++)
        for (unsigned i = 0; i < slots->slots[s].generation_count; i++) {
            struct moult_follower *follower = slots->slots[s].generations[i]->follower;
            if (follower == NULL || follower->file != file)
                continue;
            if (error != NULL)
                moult_follower_in_trouble(follower, error->message);
            else
                moult_follower_step(follower);
        }
}

static void on_made(struct moult_desk_task *task, const struct moult_error *error) {
    struct space_task *self = (struct space_task *)task;
    struct moult_space_file *file = self->file;
    struct moult_error rename_error;
    file->in_the_making = false;
    if (error == NULL) {
        char *path = path_of(file->followers, &file->key, self->space.number);
        if (rename(file->path, path) != 0) {
            moult_fail_errno(&rename_error, "%s cannot be named %s", file->path, path);
            error = &rename_error;
            free(path);
        } else {
            free(file->path);
            file->path = path;
            file->number = self->space.number;
            file->created_at = self->space.created_at;
        }
    }
    tell_users(file, error);
    end_task(self);
}

void moult_space_file_make(struct moult_space_file *file) {
    if (file->number != 0 || file->in_the_making || !file->followers->own)
        return;
    file->in_the_making = true;
    begin_task(file, make_space, on_made);
}

static int drop_space(struct moult_desk_task *task, struct moult_store *store,
                      struct moult_error *error) {
    const struct space_task *self = (struct space_task *)task;
    if (moult_store_space_drop(store, self->number, error) == 0 ||
        error->code == MOULT_ERROR_MISSING)
        return 0;
    return -1;
}

static void on_dropped(struct moult_desk_task *task, const struct moult_error *error) {
    struct space_task *self = (struct space_task *)task;
    moult_fault_point("space-dropped");
    if (error == NULL)
        unlink(self->file->path);
    else
        moult_log_warning("The vectors of %s@%.8s, which nobody needs, stay: %s",
                          self->key.slot, self->key.fingerprint, error->message);
    end_task(self);
}

void moult_space_file_drop(struct moult_space_file *file) {
    moult_log_info("The vectors of %s@%.8s are dropped: nobody needs them any more.",
                   file->key.slot, file->key.fingerprint);
    begin_task(file, drop_space, on_dropped);
    take_out(file);
}

static bool is_needed(const struct moult_space_file *file, char (*fingerprints)[MOULT_SHA256_HEX],
                      unsigned count) {
    if (file->number == 0 || !is_cut_so(file->followers, &file->key))
        return file->number == 0;
    for (unsigned i = 0; i < count; i++)
        if (strcmp(file->key.fingerprint, fingerprints[i]) == 0)
            return true;
    return false;
}

void moult_followers_sweep(struct moult_followers *followers, const struct moult_slot *slot,
                           char (*fingerprints)[MOULT_SHA256_HEX], unsigned count,
                           bool keep_newest) {
    struct moult_space_file *newest = NULL, *next;
    if (!followers->own || followers->stopping)
        return;
    for (struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (strcmp(file->key.slot, slot->name) == 0 && !is_needed(file, fingerprints, count) &&
            (newest == NULL || file->number > newest->number))
            newest = file;
    for (struct moult_space_file *file = followers->files; file != NULL; file = next) {
        next = file->next;
        if (strcmp(file->key.slot, slot->name) == 0 && !is_needed(file, fingerprints, count) &&
            !(keep_newest && file == newest))
            moult_space_file_drop(file);
    }
}

/* Leftovers. */

static bool ends_with(const char *name, const char *end) {
    size_t size = strlen(name), end_size = strlen(end);
    return size > end_size && strcmp(name + size - end_size, end) == 0;
}

static bool is_in_use(const struct moult_followers *followers, const char *path) {
    for (const struct moult_space_file *file = followers->files; file != NULL; file = file->next)
        if (file->path != NULL && strcmp(file->path, path) == 0)
            return true;
    for (unsigned s = 0; s < followers->slots->count; s++) {
        const struct moult_slot *slot = &followers->slots->slots[s];
        for (unsigned i = 0; i < slot->generation_count; i++) {
            const struct moult_follower *follower = slot->generations[i]->follower;
            if (follower != NULL && follower->blank_path != NULL &&
                strcmp(follower->blank_path, path) == 0)
                return true;
        }
    }
    return false;
}

void moult_space_files_clear(struct moult_followers *followers) {
    DIR *folder = opendir(followers->folder);
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (!ends_with(entry->d_name, ROWS_SUFFIX) && !ends_with(entry->d_name, BLANK_SUFFIX))
            continue;
        char *path = moult_format("%s/%s", followers->folder, entry->d_name);
        if (!is_in_use(followers, path))
            unlink(path);
        free(path);
    }
    closedir(folder);
}
