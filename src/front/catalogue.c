#include "front/catalogue.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "store/store.h"

struct moult_catalogue {
    struct moult_desk *desk;
    struct moult_desk_task task;
    bool at_desk, again;
    struct moult_collection *collections;   /* [count], by name. */
    unsigned count;
    struct moult_collection *read;          /* By the task. */
    unsigned read_count;
};

static int run(struct moult_desk_task *task, struct moult_store *store, struct moult_error *error);
static void done(struct moult_desk_task *task, const struct moult_error *error);

struct moult_catalogue *moult_catalogue_open(struct moult_desk *desk) {
    struct moult_catalogue *catalogue = moult_allocate(1, sizeof *catalogue);
    catalogue->desk = desk;
    catalogue->task.run = run;
    catalogue->task.done = done;
    moult_catalogue_refresh(catalogue);
    return catalogue;
}

void moult_catalogue_free(struct moult_catalogue *catalogue) {
    free(catalogue->collections);
    free(catalogue);
}

void moult_catalogue_refresh(struct moult_catalogue *catalogue) {
    catalogue->again = catalogue->at_desk;
    if (catalogue->at_desk)
        return;
    catalogue->at_desk = true;
    moult_desk_hand_in(catalogue->desk, MOULT_DESK_READ, &catalogue->task);
}

static struct moult_catalogue *catalogue_of(struct moult_desk_task *task) {
    return (struct moult_catalogue *)((char *)task - offsetof(struct moult_catalogue, task));
}

static int run(struct moult_desk_task *task, struct moult_store *store,
               struct moult_error *error) {
    struct moult_catalogue *catalogue = catalogue_of(task);
    return moult_store_collections(store, NULL, &catalogue->read, &catalogue->read_count, error);
}

/* What was read before the last write is not what it has left. On failure the old one is as good as
 * any; whoever asks the store is told what is wrong. */
static void done(struct moult_desk_task *task, const struct moult_error *error) {
    struct moult_catalogue *catalogue = catalogue_of(task);
    bool again = catalogue->again;
    catalogue->at_desk = catalogue->again = false;
    if (error == NULL && !again) {
        free(catalogue->collections);
        catalogue->collections = catalogue->read;
        catalogue->count = catalogue->read_count;
    } else if (error == NULL) {
        free(catalogue->read);
    } else if (error->code != MOULT_ERROR_MISSING && error->code != MOULT_ERROR_UNAVAILABLE) {
        moult_log_warning("The collections cannot be read: %s", error->message);
    }
    if (again)
        moult_catalogue_refresh(catalogue);
}

/* Where a name is, or belongs. */
static unsigned place_of(const struct moult_catalogue *catalogue, const char *name, bool *found) {
    unsigned begin = 0, end = catalogue->count;
    *found = false;
    while (begin < end) {
        unsigned middle = begin + (end - begin) / 2;
        int order = strcmp(name, catalogue->collections[middle].name);
        *found = *found || order == 0;
        if (order <= 0)
            end = middle;
        else
            begin = middle + 1;
    }
    return begin;
}

void moult_catalogue_note(struct moult_catalogue *catalogue,
                          const struct moult_collection *collection, bool dropped) {
    bool found;
    unsigned place = place_of(catalogue, collection->name, &found);
    if (!found && !dropped) {
        catalogue->collections = moult_reallocate(
            catalogue->collections, catalogue->count + 1, sizeof *catalogue->collections);
        memmove(&catalogue->collections[place + 1], &catalogue->collections[place],
                (catalogue->count++ - place) * sizeof *collection);
    }
    if (found && dropped)
        memmove(&catalogue->collections[place], &catalogue->collections[place + 1],
                (--catalogue->count - place) * sizeof *collection);
    if (!dropped)
        catalogue->collections[place] = *collection;
    moult_catalogue_refresh(catalogue);
}

const struct moult_collection *moult_catalogue_find(const struct moult_catalogue *catalogue,
                                                    const char *name) {
    bool found;
    unsigned place = place_of(catalogue, name, &found);
    return found ? &catalogue->collections[place] : NULL;
}

const struct moult_collection *moult_catalogue_at(const struct moult_catalogue *catalogue,
                                                  unsigned index) {
    return index < catalogue->count ? &catalogue->collections[index] : NULL;
}

uint64_t moult_catalogue_documents(const struct moult_catalogue *catalogue, const char *slot) {
    uint64_t documents = 0;
    for (unsigned i = 0; i < catalogue->count; i++)
        if (slot == NULL || strcmp(catalogue->collections[i].slot, slot) == 0)
            documents += catalogue->collections[i].documents;
    return documents;
}
