#include "front/replaced.h"

#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/limits.h"
#include "base/memory.h"

/* Documents that are read at a time, before it is known how large they are. */
#define READ_AT_ONCE 16
/* Of one write, and of all together; beyond that a document is gone while it is replaced. The last
 * that are read of a write may go beyond its limit. */
#define LIST_BYTES_MAX (16 * MOULT_MIB)
#define TABLE_BYTES_MAX (64 * MOULT_MIB)

struct cut {
    struct moult_chunk *chunks;           /* [count], owned. */
    uint32_t count;
};

struct version {
    const struct moult_document *document;   /* In a portion of its list. */
    uint32_t put;                         /* Which put replaces it. */
    uint64_t successor;                   /* 0: it stays, for nothing of it has changed. */
    struct cut *cuts;                     /* [list->space_count], owned. */
};

struct moult_replaced_list {
    struct moult_replaced *table;
    uint32_t collection;
    struct moult_documents *portions;     /* [portion_count], owned. */
    unsigned portion_count;
    uint32_t *spaces;                     /* [space_count], owned. */
    unsigned space_count;
    struct version *versions;             /* [count], owned; by seq once published. */
    uint32_t count;
    size_t bytes;
    bool is_published;
    struct moult_replaced_list *next, *previous;
};

struct moult_replaced {
    uv_mutex_t lock;
    struct moult_replaced_list *lists;
    size_t bytes;
};

struct moult_replaced *moult_replaced_open(void) {
    struct moult_replaced *table = moult_allocate(1, sizeof *table);
    MOULT_REQUIRE(uv_mutex_init(&table->lock) == 0);
    return table;
}

void moult_replaced_close(struct moult_replaced *table) {
    MOULT_REQUIRE(table->lists == NULL);
    uv_mutex_destroy(&table->lock);
    free(table);
}

static void list_free(struct moult_replaced_list *list) {
    for (uint32_t i = 0; i < list->count; i++) {
        for (unsigned s = 0; s < list->space_count; s++)
            free(list->versions[i].cuts[s].chunks);
        free(list->versions[i].cuts);
    }
    for (unsigned i = 0; i < list->portion_count; i++)
        moult_documents_release(&list->portions[i]);
    free(list->portions);
    free(list->versions);
    free(list->spaces);
    free(list);
}

/* Reading. */

static int read_spaces(struct moult_replaced_list *list, struct moult_store *store,
                       const char *slot, struct moult_error *error) {
    struct moult_space *spaces;
    unsigned count;
    if (moult_store_spaces(store, slot, &spaces, &count, error) != 0)
        return -1;
    list->spaces = moult_allocate(count, sizeof *list->spaces);
    list->space_count = count;
    for (unsigned i = 0; i < count; i++)
        list->spaces[i] = spaces[i].number;
    free(spaces);
    return 0;
}

static int keep(struct moult_replaced_list *list, struct moult_store *store,
                const struct moult_document *document, uint32_t put, struct moult_error *error) {
    struct version *version = &list->versions[list->count++];
    *version = (struct version){.document = document, .put = put};
    version->cuts = moult_allocate(list->space_count, sizeof *version->cuts);
    list->bytes += document->text_size + document->metadata_size + strlen(document->id);
    for (unsigned s = 0; s < list->space_count; s++) {
        struct cut *cut = &version->cuts[s];
        if (moult_store_chunks(store, list->spaces[s], document->seq, &cut->chunks, &cut->count,
                               error) != 0)
            return -1;
        list->bytes += cut->count * sizeof *cut->chunks;
    }
    return 0;
}

static int read_portion(struct moult_replaced_list *list, struct moult_store *store,
                        const struct moult_put *puts, uint32_t begin, uint32_t end,
                        struct moult_error *error) {
    const char *ids[READ_AT_ONCE];
    uint32_t which[READ_AT_ONCE], count = 0;
    unsigned parts = MOULT_DOCUMENT_TEXT | MOULT_DOCUMENT_METADATA;
    for (uint32_t i = begin; i < end; i++)
        if (puts[i].id != NULL) {
            which[count] = i;
            ids[count++] = puts[i].id;
        }
    struct moult_documents *portion = &list->portions[list->portion_count];
    if (count == 0)
        return 0;
    if (moult_store_get(store, list->collection, ids, count, parts, portion, error) != 0)
        return -1;
    list->portion_count++;
    for (uint32_t i = 0; i < count; i++)
        if (portion->items[i].seq != 0 &&
            keep(list, store, &portion->items[i], which[i], error) != 0)
            return -1;
    return 0;
}

int moult_replaced_read(struct moult_replaced *table, struct moult_store *store,
                        const struct moult_collection *collection, const struct moult_put *puts,
                        uint32_t count, struct moult_replaced_list **result,
                        struct moult_error *error) {
    struct moult_replaced_list *list = moult_allocate(1, sizeof *list);
    int failed = 0;
    *result = NULL;
    list->table = table;
    list->collection = collection->number;
    list->portions =
        moult_allocate((count + READ_AT_ONCE - 1) / READ_AT_ONCE, sizeof *list->portions);
    list->versions = moult_allocate(count, sizeof *list->versions);
    failed = read_spaces(list, store, collection->slot, error);
    for (uint32_t at = 0; at < count && failed == 0 && list->bytes <= LIST_BYTES_MAX;
         at += READ_AT_ONCE) {
        uint32_t end = count - at < READ_AT_ONCE ? count : at + READ_AT_ONCE;
        failed = read_portion(list, store, puts, at, end, error);
    }
    if (failed == 0 && list->count > 0)
        *result = list;
    else
        list_free(list);
    return failed;
}

/* The table. */

static int compare_versions(const void *left, const void *right) {
    const struct version *a = left, *b = right;
    return (a->document->seq > b->document->seq) - (a->document->seq < b->document->seq);
}

void moult_replaced_publish(struct moult_replaced_list *list, const struct moult_put *puts) {
    if (list == NULL)
        return;
    struct moult_replaced *table = list->table;
    for (uint32_t i = 0; i < list->count; i++) {
        const struct moult_put *put = &puts[list->versions[i].put];
        list->versions[i].successor = put->unchanged ? 0 : put->seq;
    }
    qsort(list->versions, list->count, sizeof *list->versions, compare_versions);
    /* Of two puts with one id the later stays: that is what replaces it. */
    for (uint32_t i = 1; i < list->count; i++)
        if (list->versions[i].document->seq == list->versions[i - 1].document->seq &&
            list->versions[i].successor < list->versions[i - 1].successor)
            list->versions[i].successor = list->versions[i - 1].successor;
    for (uint32_t i = list->count; i-- > 1;)
        if (list->versions[i].document->seq == list->versions[i - 1].document->seq)
            list->versions[i - 1].successor = list->versions[i].successor;
    uv_mutex_lock(&table->lock);
    if (table->bytes + list->bytes <= TABLE_BYTES_MAX) {
        table->bytes += list->bytes;
        list->is_published = true;
        list->next = table->lists;
        if (table->lists != NULL)
            table->lists->previous = list;
        table->lists = list;
    }
    uv_mutex_unlock(&table->lock);
}

void moult_replaced_withdraw(struct moult_replaced_list *list) {
    if (list == NULL)
        return;
    struct moult_replaced *table = list->table;
    if (list->is_published) {
        uv_mutex_lock(&table->lock);
        table->bytes -= list->bytes;
        if (list->next != NULL)
            list->next->previous = list->previous;
        if (list->previous != NULL)
            list->previous->next = list->next;
        else
            table->lists = list->next;
        uv_mutex_unlock(&table->lock);
    }
    list_free(list);
}

static const struct cut *cut_of(const struct moult_replaced_list *list,
                                const struct version *version, uint32_t space) {
    for (unsigned s = 0; s < list->space_count; s++)
        if (list->spaces[s] == space)
            return &version->cuts[s];
    return NULL;
}

static const struct version *find_in(const struct moult_replaced_list *list, uint64_t seq) {
    uint32_t begin = 0, end = list->count;
    while (begin < end) {
        uint32_t middle = begin + (end - begin) / 2;
        uint64_t found = list->versions[middle].document->seq;
        if (found == seq)
            return list->versions[middle].successor != 0 ? &list->versions[middle] : NULL;
        if (found > seq)
            end = middle;
        else
            begin = middle + 1;
    }
    return NULL;
}

static const char *put(char **at, const char *bytes, size_t size) {
    char *put = memcpy(*at, bytes, size + 1);
    *at += size + 1;
    return put;
}

static void make_copy(const struct version *version, const struct cut *cut, uint32_t chunk,
                      struct moult_replaced_copy *copy) {
    const struct moult_document *from = version->document;
    size_t id_size = strlen(from->id);
    char *at = moult_allocate(id_size + from->text_size + from->metadata_size + 3, 1);
    *copy = (struct moult_replaced_copy){.successor = version->successor, .bytes = at};
    struct moult_document *to = &copy->document;
    to->seq = from->seq;
    to->text_size = from->text_size;
    to->metadata_size = from->metadata_size;
    to->id = put(&at, from->id, id_size);
    to->text = put(&at, from->text, from->text_size);
    to->metadata = put(&at, from->metadata, from->metadata_size);
    if (cut != NULL && chunk < cut->count) {
        to->chunk_begin = cut->chunks[chunk].begin;
        to->chunk_end = cut->chunks[chunk].end;
    }
}

bool moult_replaced_find(struct moult_replaced *table, uint32_t collection, uint32_t space,
                         const struct moult_hit_asked *hit, struct moult_replaced_copy *copy) {
    const struct version *version = NULL;
    uv_mutex_lock(&table->lock);
    for (const struct moult_replaced_list *list = table->lists; list != NULL && version == NULL;
         list = list->next) {
        version = list->collection == collection ? find_in(list, hit->seq) : NULL;
        if (version != NULL)
            make_copy(version, cut_of(list, version, space), hit->chunk, copy);
    }
    uv_mutex_unlock(&table->lock);
    return version != NULL;
}

void moult_replaced_release(struct moult_replaced_copy *copy) {
    free(copy->bytes);
    *copy = (struct moult_replaced_copy){0};
}

static void allow(const struct moult_replaced_list *list, uint32_t space,
                  const struct moult_filter *filter, struct moult_allowed *allowed) {
    for (uint32_t i = 0; i < list->count; i++) {
        const struct version *version = &list->versions[i];
        const struct cut *cut = cut_of(list, version, space);
        if (version->successor == 0 || cut == NULL ||
            !moult_filter_matches(filter, version->document->metadata,
                                  version->document->metadata_size))
            continue;
        for (uint32_t c = 0; c < cut->count; c++)
            if (cut->chunks[c].row < allowed->bits)
                allowed->words[cut->chunks[c].row / 64] |= 1ull << cut->chunks[c].row % 64;
    }
}

void moult_replaced_allow(struct moult_replaced *table, uint32_t collection, uint32_t space,
                          const struct moult_filter *filter, struct moult_allowed *allowed) {
    uv_mutex_lock(&table->lock);
    for (const struct moult_replaced_list *list = table->lists; list != NULL; list = list->next)
        if (list->collection == collection)
            allow(list, space, filter, allowed);
    uv_mutex_unlock(&table->lock);
}
