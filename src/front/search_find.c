#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/limits.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/replaced.h"
#include "front/search.h"

/* Reciprocal rank fusion, as Cormack, Clarke and Büttcher have it (SIGIR 2009), with their
 * constant: a document has 1 / (60 + rank) from each list that it is in, ranks from 1. So neither
 * kind of score has to be made like the other. */
#define FUSION_CONSTANT 60
/* Of each kind, so many are fused: what stands low in both lists may be high in the result. */
#define FUSION_DEPTH_MIN 50
#define FUSION_DEPTH_PER_K 4

/* More than come while a search is under way. */
#define LATER_ROWS 65536u

/* Longer messages are written by the desk. */
#define TEXT_BYTES_ON_LOOP (64 * MOULT_KIB)

/* Worse than any cosine, and better. */
#define ANY_SCORE (-2.0)
#define BEST_SCORE 2.0

int moult_search_look_up(struct moult_search *search, struct moult_store *store,
                         struct moult_error *error) {
    return moult_errand_collection(&search->errand, store, &search->collection, error);
}

uint32_t moult_search_depth(const struct moult_search *search) {
    uint32_t depth = search->question.k;
    if (search->question.mode == MOULT_SEARCH_HYBRID) {
        depth *= FUSION_DEPTH_PER_K;
        depth = depth > FUSION_DEPTH_MIN ? depth : FUSION_DEPTH_MIN;
    }
    depth += search->spare;
    return depth < MOULT_HITS_MAX ? depth : MOULT_HITS_MAX;
}

bool moult_search_selects(const struct moult_question *question) {
    return question->mode != MOULT_SEARCH_VECTOR || question->filter != NULL ||
           question->text_bytes > TEXT_BYTES_ON_LOOP;
}

void moult_search_write_message(struct moult_search *search) {
    const struct moult_question *question = &search->question;
    double score_min = question->has_score_min ? question->score_min : ANY_SCORE;
    if (question->mode != MOULT_SEARCH_VECTOR || score_min < ANY_SCORE)
        score_min = ANY_SCORE;
    struct moult_search_options options = {
        .collection = search->collection.number,
        .hits_max = moult_search_depth(search),
        .score_min = (float)(score_min < BEST_SCORE ? score_min : BEST_SCORE),
        .allowed = search->allowed.words,
        .allowed_bits = search->allowed.bits,
        .overlong = search->errand.server->options->overlong_error ? MOULT_OVERLONG_ERROR
                                                                   : MOULT_OVERLONG_CUT_RIGHT,
        .with_vector = question->with_vector,
        .vectors = question->vector,
        .C = question->C,
    };
    search->message = moult_search_request_write(question->texts, question->count, &options,
                                                 &search->message_size);
}

/* ---- SELECT. */

static int find_words_of(struct moult_search *search, struct moult_store *store, uint32_t index,
                         struct moult_error *error) {
    const struct moult_question *question = &search->question;
    const struct moult_text *text = &question->texts[index];
    uint32_t begin = index > 0 ? search->word_ends[index - 1] : 0;
    uint32_t depth = moult_search_depth(search);
    search->words = moult_reallocate(search->words, begin + (size_t)depth, sizeof *search->words);
    struct moult_word_hit *hits = search->words + begin;
    int count = moult_store_find_words(store, search->collection.number, text->bytes, text->size,
                                       question->filter, depth, hits, error);
    if (count < 0)
        return -1;
    if (question->has_score_min)
        while (count > 0 && hits[count - 1].score < question->score_min)
            count--;
    search->word_ends[index] = begin + (uint32_t)count;
    return 0;
}

static int find_words(struct moult_search *search, struct moult_store *store,
                      struct moult_error *error) {
    uint32_t count = search->question.count;
    uint64_t begun_ns = moult_clock_ns();
    int result = 0;
    moult_fault_point("search-words");
    if (search->word_ends == NULL)
        search->word_ends = moult_allocate(count, sizeof *search->word_ends);
    while (result == 0 && search->words_done < count) {
        if (search->collection.number != 0)
            result = find_words_of(search, store, search->words_done, error);
        search->words_done++;
        if (moult_clock_ns() - begun_ns > MOULT_SEARCH_PORTION_NS)
            break;
    }
    search->words_ns += moult_clock_ns() - begun_ns;
    return result != 0 ? -1 : search->words_done < count;
}

/* Rows that come while the search is under way are let through: a document may be replaced
 * meanwhile, and then its new rows are all that the index has of it. Whether these match is seen
 * when they are shown. */
static void allow_later_rows(struct moult_allowed *allowed) {
    uint32_t room = MOULT_FILTER_ROWS_MAX - allowed->bits;
    uint32_t bits = allowed->bits + (room < LATER_ROWS ? room : LATER_ROWS);
    size_t before = ((size_t)allowed->bits + 63) / 64, after = ((size_t)bits + 63) / 64;
    allowed->words = moult_reallocate(allowed->words, after, sizeof *allowed->words);
    memset(allowed->words + before, 0xFF, (after - before) * sizeof *allowed->words);
    if (allowed->bits % 64 != 0)
        allowed->words[allowed->bits / 64] |= UINT64_MAX << allowed->bits % 64;
    allowed->bits = bits;
}

static int select_rows(struct moult_search *search, struct moult_store *store,
                       struct moult_error *error) {
    uint32_t collection = search->collection.number;
    const struct moult_filter *filter = search->question.filter;
    struct moult_allowed *allowed = &search->allowed;
    if (moult_store_allowed(store, collection, search->space, filter, allowed, error) != 0)
        return -1;
    if (allowed->bits > MOULT_FILTER_ROWS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "There are more vectors than a filter can be used with: %u.",
                          MOULT_FILTER_ROWS_MAX);
    moult_replaced_allow(search->errand.server->replaced, collection, search->space, filter,
                         allowed);
    allow_later_rows(allowed);
    return 0;
}

int moult_search_select(struct moult_search *search, struct moult_store *store,
                        struct moult_error *error) {
    const struct moult_question *question = &search->question;
    bool by_rows = question->filter != NULL && question->mode != MOULT_SEARCH_TEXT &&
                   search->collection.number != 0;
    if (by_rows && search->allowed.words == NULL && select_rows(search, store, error) != 0)
        return -1;
    int more = question->mode != MOULT_SEARCH_VECTOR ? find_words(search, store, error) : 0;
    if (more == 0 && question->mode != MOULT_SEARCH_TEXT)
        moult_search_write_message(search);
    return more;
}

/* ---- What is found. */

static int compare_hits(const void *left, const void *right) {
    const struct moult_search_hit *a = left, *b = right;
    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

static int compare_seqs(const void *left, const void *right) {
    const struct moult_search_hit *a = left, *b = right;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

static double score_of_rank(uint32_t index) {
    return 1.0 / (FUSION_CONSTANT + 1.0 + index);
}

/* Joins neighbours of one seq. Returns how many are left. */
static uint32_t join(struct moult_search_hit *hits, uint32_t count) {
    uint32_t left = 0;
    qsort(hits, count, sizeof *hits, compare_seqs);
    for (uint32_t i = 0; i < count; i++) {
        if (left == 0 || hits[left - 1].seq != hits[i].seq) {
            hits[left++] = hits[i];
            continue;
        }
        struct moult_search_hit *one = &hits[left - 1];
        one->score += hits[i].score;
        if (hits[i].has_chunk)
            one->chunk = hits[i].chunk;
        one->has_chunk = one->has_chunk || hits[i].has_chunk;
    }
    qsort(hits, left, sizeof *hits, compare_hits);
    return left;
}

/* Those from begin to end of either kind, at `hits`, which has room. Returns how many. */
static uint32_t merge_one(const struct moult_search *search, uint32_t found_begin,
                          uint32_t found_end, uint32_t word_begin, uint32_t word_end,
                          struct moult_search_hit *hits) {
    bool fused = search->question.mode == MOULT_SEARCH_HYBRID;
    uint32_t count = 0, k = search->question.k + search->spare;
    for (uint32_t i = found_begin; i < found_end; i++) {
        const struct moult_found *found = &search->found[i];
        double score = fused ? score_of_rank(i - found_begin) : (double)found->score;
        hits[count++] = (struct moult_search_hit){found->seq, score, found->chunk, true};
    }
    for (uint32_t i = word_begin; i < word_end; i++) {
        const struct moult_word_hit *word = &search->words[i];
        double score = fused ? score_of_rank(i - word_begin) : word->score;
        hits[count++] = (struct moult_search_hit){.seq = word->seq, .score = score};
    }
    if (fused)
        count = join(hits, count);
    return count < k ? count : k;
}

static uint32_t end_of(const uint32_t *ends, uint32_t index) {
    return ends != NULL ? ends[index] : 0;
}

void moult_search_merge(struct moult_search *search) {
    uint32_t count = search->question.count;
    const uint32_t *found = search->found_ends, *words = search->word_ends;
    size_t room = (size_t)end_of(found, count - 1) + end_of(words, count - 1);
    search->hits = moult_allocate(room, sizeof *search->hits);
    search->ends = moult_allocate(count, sizeof *search->ends);
    uint32_t at = 0, found_at = 0, words_at = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t found_end = end_of(found, i), words_end = end_of(words, i);
        at += merge_one(search, found_at, found_end, words_at, words_end, search->hits + at);
        search->ends[i] = at;
        found_at = found_end;
        words_at = words_end;
    }
}
