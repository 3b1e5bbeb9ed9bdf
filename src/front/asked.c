#include "front/asked.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"

#define TEXTS_PER_JOB 8u
#define NONE UINT32_MAX
/* ipc/message.h: a search that wants whatever there is. */
#define ANY_SCORE (-2.0f)

/* Entries are linked from the one that was asked last to the one that was asked first. */
struct entry {
    struct moult_asked_text text;
    uint32_t newer, older;
};

struct moult_asked {
    uint32_t texts_max, count;
    size_t bytes;
    uint32_t newest, oldest;
    uint64_t *hashes;        /* [texts_max]: looked through for every text, so they lie together. */
    struct entry *entries;   /* [texts_max] */
};

struct moult_asked *moult_asked_open(uint32_t texts_max) {
    struct moult_asked *asked = moult_allocate(1, sizeof *asked);
    asked->texts_max = texts_max;
    asked->newest = asked->oldest = NONE;
    asked->hashes = moult_allocate(texts_max, sizeof *asked->hashes);
    asked->entries = moult_allocate(texts_max, sizeof *asked->entries);
    return asked;
}

void moult_asked_close(struct moult_asked *asked) {
    for (uint32_t i = 0; i < asked->count; i++)
        free(asked->entries[i].text.bytes);
    free(asked->hashes);
    free(asked->entries);
    free(asked);
}

/* The list. */

static void unlink_entry(struct moult_asked *asked, uint32_t at) {
    struct entry *entry = &asked->entries[at];
    if (entry->newer != NONE)
        asked->entries[entry->newer].older = entry->older;
    else
        asked->newest = entry->older;
    if (entry->older != NONE)
        asked->entries[entry->older].newer = entry->newer;
    else
        asked->oldest = entry->newer;
}

static void link_newest(struct moult_asked *asked, uint32_t at) {
    struct entry *entry = &asked->entries[at];
    entry->newer = NONE;
    entry->older = asked->newest;
    if (asked->newest != NONE)
        asked->entries[asked->newest].newer = at;
    else
        asked->oldest = at;
    asked->newest = at;
}

/* The last entry moves into the place that becomes free. */
static void forget(struct moult_asked *asked, uint32_t at) {
    uint32_t last = asked->count - 1;
    unlink_entry(asked, at);
    asked->bytes -= asked->entries[at].text.size;
    free(asked->entries[at].text.bytes);
    asked->count--;
    if (at == last)
        return;
    struct entry *entry = &asked->entries[at];
    *entry = asked->entries[last];
    asked->hashes[at] = asked->hashes[last];
    if (entry->newer != NONE)
        asked->entries[entry->newer].older = at;
    else
        asked->newest = at;
    if (entry->older != NONE)
        asked->entries[entry->older].newer = at;
    else
        asked->oldest = at;
}

/* Texts. */

/* FNV-1a. Who makes two texts collide gains nothing: texts are compared as well. */
static uint64_t hash_of(enum moult_prompt prompt, const char *bytes, size_t size) {
    uint64_t hash = (0xcbf29ce484222325u ^ (unsigned)prompt) * 0x100000001b3u;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (unsigned char)bytes[i]) * 0x100000001b3u;
    return hash;
}

static uint32_t find(const struct moult_asked *asked, uint64_t hash, enum moult_prompt prompt,
                     const char *bytes, size_t size) {
    for (uint32_t i = 0; i < asked->count; i++) {
        const struct moult_asked_text *text = &asked->entries[i].text;
        if (asked->hashes[i] == hash && text->prompt == prompt && text->size == size &&
            memcmp(text->bytes, bytes, size) == 0)
            return i;
    }
    return NONE;
}

/* Its entry, the newest from now on, or NULL. */
static struct moult_asked_text *note(struct moult_asked *asked, enum moult_prompt prompt,
                                     const char *bytes, size_t size) {
    if (asked->texts_max == 0 || size > MOULT_ASKED_TEXT_BYTES_MAX)
        return NULL;
    uint64_t hash = hash_of(prompt, bytes, size);
    uint32_t at = find(asked, hash, prompt, bytes, size);
    if (at != NONE) {
        unlink_entry(asked, at);
        link_newest(asked, at);
        return &asked->entries[at].text;
    }
    while (asked->count == asked->texts_max ||
           (asked->count > 0 && asked->bytes + size > MOULT_ASKED_BYTES_MAX))
        forget(asked, asked->oldest);
    at = asked->count++;
    asked->hashes[at] = hash;
    asked->entries[at].text = (struct moult_asked_text){
        .prompt = prompt, .bytes = moult_copy_bytes(bytes, size), .size = size};
    asked->bytes += size;
    link_newest(asked, at);
    return &asked->entries[at].text;
}

void moult_asked_note(struct moult_asked *asked, enum moult_prompt prompt, const char *bytes,
                      size_t size) {
    note(asked, prompt, bytes, size);
}

static void note_of_job(struct moult_asked *asked, const struct moult_request_view *view,
                        const char *bytes, size_t size) {
    struct moult_asked_text *text = note(asked, view->options.prompt, bytes, size);
    if (text == NULL || view->kind != MOULT_REQUEST_SEARCH)
        return;
    text->searched = view->search.score_min > ANY_SCORE;
    text->score_min = view->search.score_min;
    text->collection = view->search.collection;
}

void moult_asked_note_job(struct moult_asked *asked, const struct moult_job *job) {
    struct moult_request_view view;
    size_t offset = 0;
    if (asked->texts_max == 0 ||
        moult_request_read(job->message, job->message_size, &view, NULL) != 0 ||
        view.text_sizes == NULL)
        return;
    uint32_t stride = (view.count + TEXTS_PER_JOB - 1) / TEXTS_PER_JOB;
    for (uint32_t i = 0; i < view.count; i++) {
        if (i % stride == 0)
            note_of_job(asked, &view, view.texts + offset, view.text_sizes[i]);
        offset += view.text_sizes[i];
    }
}

uint32_t moult_asked_count(const struct moult_asked *asked) {
    return asked->count;
}

uint32_t moult_asked_searches(const struct moult_asked *asked) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < asked->count; i++)
        count += asked->entries[i].text.searched;
    return count;
}

struct moult_asked_text *moult_asked_copy(const struct moult_asked *asked, uint32_t *count) {
    struct moult_asked_text *texts = moult_allocate(asked->count + 1u, sizeof *texts);
    *count = 0;
    for (uint32_t at = asked->newest; at != NONE; at = asked->entries[at].older) {
        const struct moult_asked_text *text = &asked->entries[at].text;
        texts[*count] = *text;
        texts[(*count)++].bytes = moult_copy_bytes(text->bytes, text->size);
    }
    return texts;
}

void moult_asked_texts_free(struct moult_asked_text *texts, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        free(texts[i].bytes);
    free(texts);
}
