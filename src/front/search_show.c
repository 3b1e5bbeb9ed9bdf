#include <inttypes.h>
#include <string.h>

#include "base/machine.h"
#include "front/replaced.h"
#include "front/search.h"
#include "ipc/digits.h"

/* Documents that are read at a time: a text may have 1 MiB. */
#define READ_AT_ONCE 16
/* Where hits are too few, at least so many more are asked for. */
#define SPARE_MIN 8u
/* What is gone may have been acknowledged as gone meanwhile: so often it is asked again. */
#define AGAIN_MAX 2

static void write_number(struct moult_buffer *out, double number) {
    char digits[MOULT_DIGITS_BYTES_MAX];
    moult_buffer_append(out, digits, moult_digits_write(digits, (float)number));
}

/* The passage that was found, where it is not all that is shown anyway. */
static void write_chunk(struct moult_buffer *out, const struct moult_search_hit *hit,
                        const struct moult_document *document) {
    uint32_t begin = document->chunk_begin, end = document->chunk_end;
    bool is_all = document->text != NULL && begin == 0 && end == document->text_size;
    if (!hit->has_chunk || end <= begin || is_all)
        return;
    moult_buffer_format(out,
                        ",\"chunk\":{\"index\":%" PRIu32 ",\"begin\":%" PRIu32 ",\"end\":%" PRIu32,
                        hit->chunk, begin, end);
    if (document->text != NULL && end <= document->text_size) {
        moult_buffer_text(out, ",\"text\":");
        moult_buffer_json_string(out, document->text + begin, end - begin);
    }
    moult_buffer_text(out, "}");
}

static void write_hit(struct moult_buffer *out, const struct moult_question *question,
                      const struct moult_search_hit *hit, const struct moult_document *document,
                      bool first) {
    struct moult_document shown = *document;
    if (!question->with_metadata)
        shown.metadata = NULL;
    moult_buffer_text(out, first ? "{" : ",{");
    moult_document_write(out, &shown);
    moult_buffer_text(out, ",\"score\":");
    write_number(out, hit->score);
    write_chunk(out, hit, document);
    moult_buffer_text(out, "}");
}

/* The hits of one query, and how many of them have been written. */
struct showing {
    const struct moult_search_hit *hits;
    uint32_t count, shown;
};

static bool is_among(const struct showing *showing, uint64_t seq) {
    for (uint32_t i = 0; i < showing->count; i++)
        if (showing->hits[i].seq == seq)
            return true;
    return false;
}

static void show(struct moult_search *search, struct showing *showing,
                 const struct moult_search_hit *hit, const struct moult_document *document) {
    const struct moult_question *question = &search->question;
    if (question->filter == NULL ||
        moult_filter_matches(question->filter, document->metadata, document->metadata_size))
        write_hit(&search->errand.answer, question, hit, document, showing->shown++ == 0);
}

/* The store has it no more. While its successor is not acknowledged it is shown all the same,
 * unless that is among the hits, too. False: nobody has it. */
static bool show_replaced(struct moult_search *search, struct showing *showing,
                          const struct moult_search_hit *hit) {
    struct moult_hit_asked asked = {hit->seq, hit->chunk};
    struct moult_replaced_copy copy;
    if (!moult_replaced_find(search->errand.server->replaced, search->collection.number,
                             search->space, &asked, &copy))
        return false;
    if (!search->question.with_text)
        copy.document.text = NULL;
    if (!is_among(showing, copy.successor))
        show(search, showing, hit, &copy.document);
    moult_replaced_release(&copy);
    return true;
}

static int show_some(struct moult_search *search, struct moult_store *store,
                     struct showing *showing, uint32_t at, uint32_t count,
                     struct moult_error *error) {
    const struct moult_question *question = &search->question;
    const struct moult_search_hit *hits = showing->hits + at;
    struct moult_hit_asked asked[READ_AT_ONCE];
    struct moult_documents documents;
    bool metadata = question->with_metadata || question->filter != NULL;
    unsigned parts = (question->with_text ? MOULT_DOCUMENT_TEXT : 0u) |
                     (metadata ? MOULT_DOCUMENT_METADATA : 0u);
    for (uint32_t i = 0; i < count; i++)
        asked[i] = (struct moult_hit_asked){hits[i].seq, hits[i].chunk};
    if (moult_store_get_hits(store, search->collection.number, search->space, asked, count, parts,
                             &documents, error) != 0)
        return -1;
    for (uint32_t i = 0; i < count && showing->shown < question->k; i++) {
        if (documents.items[i].seq != 0)
            show(search, showing, &hits[i], &documents.items[i]);
        else if (!show_replaced(search, showing, &hits[i]))
            search->missing = search->missing || search->attempts <= AGAIN_MAX;
    }
    moult_documents_release(&documents);
    return 0;
}

/* Whether there may be more hits than those of one query, of which some are not shown. */
static bool may_have_more(const struct moult_search *search, uint32_t hits) {
    return hits >= search->question.k + search->spare && search->attempts < MOULT_SEARCH_ATTEMPTS &&
           moult_search_depth(search) < MOULT_HITS_MAX;
}

static int show_query(struct moult_search *search, struct moult_store *store, uint32_t index,
                      struct moult_error *error) {
    uint32_t begin = index > 0 ? search->ends[index - 1] : 0;
    struct showing showing = {search->hits + begin, search->ends[index] - begin, 0};
    uint32_t k = search->question.k;
    for (uint32_t at = 0, count; at < showing.count && showing.shown < k; at += count) {
        if (search->errand.answer.overflowed || search->missing)
            return 0;
        count = showing.count - at < READ_AT_ONCE ? showing.count - at : READ_AT_ONCE;
        if (show_some(search, store, &showing, at, count, error) != 0)
            return -1;
    }
    if (showing.shown < k && may_have_more(search, showing.count)) {
        search->missing = true;
        search->spare += 2 * (k - showing.shown) + SPARE_MIN;
    }
    return 0;
}

static void write_model(struct moult_buffer *out, const struct moult_search *search) {
    if (search->generation == NULL) {
        moult_buffer_text(out, "],\"model\":null");
        return;
    }
    const char *name = moult_slot_name(search->slot);
    moult_buffer_text(out, "],\"model\":{\"name\":");
    moult_buffer_json_string(out, name, strlen(name));
    moult_buffer_format(out, ",\"generation\":%" PRIu64 ",\"fingerprint\":\"%s\"}",
                        moult_generation_number(search->generation),
                        moult_generation_fingerprint(search->generation));
}

static void write_vectors(struct moult_buffer *out, const struct moult_search *search) {
    const struct moult_question *question = &search->question;
    const float *at = search->vectors;
    uint32_t C = search->C;
    moult_buffer_text(out, question->many ? ",\"vectors\":[" : ",\"vector\":");
    for (uint32_t i = 0; i < question->count; i++) {
        moult_buffer_text(out, i > 0 ? "," : "");
        for (uint32_t c = 0; c < C; c++) {
            moult_buffer_text(out, c > 0 ? "," : "[");
            write_number(out, *at++);
        }
        moult_buffer_text(out, "]");
    }
    moult_buffer_text(out, question->many ? "]" : "");
}

static void write_end(struct moult_buffer *out, const struct moult_search *search) {
    const struct moult_answer_times *times = &search->times;
    write_model(out, search);
    moult_buffer_format(out,
                        ",\"timing\":{\"queue_ms\":%.3f,\"model_ms\":%.3f,\"search_ms\":%.3f,"
                        "\"total_ms\":%.3f}",
                        (double)times->queue_ns / 1e6,
                        (double)(times->tokenize_ns + times->compute_ns) / 1e6,
                        (double)(times->search_ns + search->words_ns) / 1e6,
                        (double)(moult_clock_ns() - search->begun_ns) / 1e6);
    if (search->vectors != NULL)
        write_vectors(out, search);
    moult_buffer_text(out, "}");
}

static void write_begin(struct moult_buffer *out, const struct moult_question *question) {
    moult_buffer_text(out, "{");
    if (question->plain) {
        moult_buffer_text(out, "\"status\":\"ok\",\"query\":");
        moult_buffer_json_string(out, question->texts[0].bytes, question->texts[0].size);
        moult_buffer_text(out, ",");
    }
    moult_buffer_text(out, "\"results\":[");
}

int moult_search_show(struct moult_search *search, struct moult_store *store,
                      struct moult_error *error) {
    const struct moult_question *question = &search->question;
    struct moult_buffer *out = &search->errand.answer;
    uint64_t begun_ns = moult_clock_ns();
    if (search->ends == NULL) {
        moult_search_merge(search);
        write_begin(out, question);
    }
    while (search->shown < question->count) {
        uint32_t index = search->shown;
        if (question->many)
            moult_buffer_text(out, index > 0 ? ",[" : "[");
        if (show_query(search, store, index, error) != 0)
            return -1;
        if (search->missing)
            return 0;
        moult_buffer_text(out, question->many ? "]" : "");
        search->shown++;
        if (search->shown < question->count &&
            moult_clock_ns() - begun_ns > MOULT_SEARCH_PORTION_NS)
            return 1;
    }
    write_end(out, search);
    return 0;
}
