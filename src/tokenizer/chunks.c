/* A chunk at a time, from a window: the tokens of the text from where the chunk begins, a few more
 * than fit into it. Among the places between two words of the window one is chosen:
 *
 *     the last end of a sentence or line, if it lies in the last quarter of the chunk;
 *     else the last place between two words;
 *     else, within the only word, the last place between two tokens.
 *
 * A place lies before the first byte of the token behind it: what stands between two words, white
 * space and what the normalizer removes, goes to the chunk before.
 *
 * What is chosen is tried: the bytes of the chunk are tokenized alone, and have to give the tokens
 * of the window. Between two words of BERT they do, but for rare cases (an added token that wants
 * no letter behind it; marks whose canonical order reaches over the place), in which the place
 * before is tried. Where eight of them will not do, half of the way is tried, and half of that: a
 * single character always fits, so there is always a way on.
 *
 * The next chunk begins at the first word of the last `overlap` tokens, but never so early that the
 * word behind the end of this one would not fit: else it would end where this one ends. That is
 * why the window reaches a word further than the chunk. */
#include "tokenizer/chunks.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/utf8.h"

enum {
    WORD_TOKENS = 100,   /* Longer words exist in no model that is known; then nothing overlaps. */
    TRIES_MAX = 8        /* Of places of one kind. */
};

struct cutting {
    const struct moult_tokenizer *tokenizer;
    struct moult_tokenizer_scratch *scratch;
    const struct moult_chunking *chunking;
    const char *text;
    uint32_t text_size;
    uint32_t room;        /* Tokens of a chunk that are its text's. */
    uint32_t overlap;
    uint32_t special;
    char *prompted;       /* The prompt, and room for a chunk behind it; NULL: there is none. */
    size_t prompt_size, prompted_capacity;

    /* The window: tokens of the text without those around it. */
    uint32_t begin;       /* In the text; spans count from there. */
    uint32_t count;
    bool reaches_end;
    uint32_t *ids;                     /* [window_max], as below. */
    struct moult_token_span *spans;
    uint32_t window_max;
};

/* How a place was found: `tokens` of the window lie before it. */
struct place {
    uint32_t at;          /* In the text. */
    uint32_t tokens;
};

static int open_cutting(struct cutting *cutting, struct moult_error *error);
static int read_window(struct cutting *cutting, struct moult_error *error);
static bool is_last(struct cutting *cutting);
static struct place choose_end(struct cutting *cutting);
static uint32_t choose_next(const struct cutting *cutting, const struct place *end);

int64_t moult_tokenizer_cut(const struct moult_tokenizer *tokenizer,
                            struct moult_tokenizer_scratch *scratch,
                            const struct moult_chunking *chunking, const char *text,
                            size_t text_size, struct moult_chunk *chunks, size_t chunks_max,
                            struct moult_error *error) {
    struct cutting cutting = {.tokenizer = tokenizer,
                              .scratch = scratch,
                              .chunking = chunking,
                              .text = text,
                              .text_size = (uint32_t)text_size};
    uint32_t reached = 0;
    int64_t count = 0;
    int result = open_cutting(&cutting, error);

    while (result == 0) {
        struct place end = {0};
        if (read_window(&cutting, error) != 0) {
            result = -1;
            break;
        }
        if (is_last(&cutting))
            end.at = cutting.text_size;
        else
            end = choose_end(&cutting);
        if (end.at <= reached && end.at < cutting.text_size) {
            cutting.begin = reached;   /* Overlapping it got no further. */
            continue;
        }
        if ((size_t)count == chunks_max) {
            result = moult_fail(error, MOULT_ERROR_LIMIT, "The text has more than %zu chunks.",
                                chunks_max);
            break;
        }
        chunks[count++] = (struct moult_chunk){cutting.begin, end.at};
        if (chunking->advance != NULL)
            chunking->advance(chunking->context);
        if (end.at == cutting.text_size)
            break;
        cutting.begin = choose_next(&cutting, &end);
        reached = end.at;
    }
    free(cutting.prompted);
    free(cutting.ids);
    free(cutting.spans);
    return result == 0 ? count : -1;
}

/* -1 where it has more than `tokens_max`. */
static int64_t count_tokens(struct cutting *cutting, const char *text, size_t size,
                            uint32_t tokens_max, struct moult_token_ids *ids) {
    if (moult_tokenizer_encode(cutting->tokenizer, cutting->scratch, text, size,
                               tokens_max + cutting->special, ids, NULL) != 0 || ids->truncated)
        return -1;
    return ids->count - cutting->special;
}

static int open_cutting(struct cutting *cutting, struct moult_error *error) {
    const struct moult_chunking *chunking = cutting->chunking;
    struct moult_token_ids ids;

    cutting->special = moult_tokenizer_special_count(cutting->tokenizer);
    cutting->prompt_size = strlen(chunking->prompt);
    int64_t prompt =
        count_tokens(cutting, chunking->prompt, cutting->prompt_size, chunking->tokens, &ids);
    uint32_t half = chunking->tokens / 2;
    if (prompt < 0 || (uint32_t)prompt + cutting->special + half > chunking->tokens || half == 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Chunks of %u tokens are too short for this model: its prompt and "
                          "special tokens take more than half of them.", chunking->tokens);
    cutting->room = chunking->tokens - cutting->special - (uint32_t)prompt;
    cutting->overlap =
        chunking->overlap < cutting->room / 2 ? chunking->overlap : cutting->room / 2;
    cutting->window_max = cutting->room + 1 + (cutting->overlap > 0 ? WORD_TOKENS : 0);
    cutting->ids = moult_allocate(cutting->window_max, sizeof *cutting->ids);
    cutting->spans = moult_allocate(cutting->window_max, sizeof *cutting->spans);
    if (cutting->prompt_size > 0)
        cutting->prompted = moult_copy_bytes(chunking->prompt, cutting->prompt_size);
    cutting->prompted_capacity = cutting->prompt_size;
    return 0;
}

static int read_window(struct cutting *cutting, struct moult_error *error) {
    struct moult_token_ids ids;

    if (moult_tokenizer_encode_spans(cutting->tokenizer, cutting->scratch,
                                     cutting->text + cutting->begin,
                                     cutting->text_size - cutting->begin,
                                     cutting->window_max + cutting->special, &ids, error) != 0)
        return -1;
    uint32_t from = 0;
    while (from < ids.count && ids.spans[from].special)
        from++;
    cutting->count = ids.count - cutting->special;
    cutting->reaches_end = !ids.truncated;
    if (cutting->count > 0) {
        memcpy(cutting->ids, ids.ids + from, cutting->count * sizeof *cutting->ids);
        memcpy(cutting->spans, ids.spans + from, cutting->count * sizeof *cutting->spans);
    }
    return 0;
}

/* Trying. */

/* Whether the chunk that ends there has no more tokens than fit, behind its prompt as well. */
static bool fits(struct cutting *cutting, uint32_t end, struct moult_token_ids *ids) {
    const char *chunk = cutting->text + cutting->begin;
    size_t size = end - cutting->begin, needed = cutting->prompt_size + size;

    if (cutting->prompted != NULL) {
        if (needed > cutting->prompted_capacity) {
            cutting->prompted = moult_reallocate(cutting->prompted, needed + needed / 2, 1);
            cutting->prompted_capacity = needed + needed / 2;
        }
        memcpy(cutting->prompted + cutting->prompt_size, chunk, size);
        if (count_tokens(cutting, cutting->prompted, needed,
                         cutting->chunking->tokens - cutting->special, ids) < 0)
            return false;
    }
    return count_tokens(cutting, chunk, size, cutting->room, ids) >= 0;
}

/* The same, and its tokens are those of the window. */
static bool is_exact(struct cutting *cutting, const struct place *place) {
    struct moult_token_ids ids;
    if (place->at <= cutting->begin || !fits(cutting, place->at, &ids) ||
        ids.count != place->tokens + cutting->special)
        return false;
    const uint32_t *own = ids.ids;
    /* Special tokens before the text are as many as are not behind it. */
    for (uint32_t before = 0; before <= cutting->special; before++)
        if (memcmp(own + before, cutting->ids, place->tokens * sizeof *own) == 0)
            return true;
    return false;
}

/* Whether all the rest is one chunk. */
static bool is_last(struct cutting *cutting) {
    struct moult_token_ids ids;
    return cutting->reaches_end && cutting->count <= cutting->room &&
           (cutting->prompted == NULL || cutting->count <= 1 ||
            fits(cutting, cutting->text_size, &ids));
}

/* Choosing. */

static struct place place_before(const struct cutting *cutting, uint32_t token) {
    return (struct place){cutting->begin + cutting->spans[token].begin, token};
}

static bool is_one_of(const char *at, size_t size, const char *const *strings, size_t count) {
    for (size_t n = 0; n < count; n++)
        if (size == strlen(strings[n]) && memcmp(at, strings[n], size) == 0)
            return true;
    return false;
}

#define IS_ONE_OF(at, size, strings) \
    is_one_of(at, size, strings, sizeof(strings) / sizeof *(strings))

/* Whether a sentence or a line ends before that token. */
static bool ends_sentence(const struct cutting *cutting, uint32_t token) {
    static const char *const closing[] = {"\"", "'", ")", "]", "\xe2\x80\x9d", "\xe2\x80\x99",
                                          "\xc2\xbb"};
    static const char *const stops[] = {".", "!", "?", "\xe2\x80\xa6"};
    static const char *const full_stops[] = {"\xe3\x80\x82", "\xef\xbc\x81", "\xef\xbc\x9f",
                                             "\xef\xbd\xa1"};
    const struct moult_token_span *spans = cutting->spans;
    const char *text = cutting->text + cutting->begin;
    uint32_t gap = spans[token - 1].end, last = token - 1;

    if (gap < spans[token].begin && memchr(text + gap, '\n', spans[token].begin - gap) != NULL)
        return true;
    if (last > 0 && IS_ONE_OF(text + spans[last].begin, spans[last].end - spans[last].begin,
                              closing))
        last--;
    const char *at = text + spans[last].begin;
    size_t size = spans[last].end - spans[last].begin;
    return IS_ONE_OF(at, size, full_stops) ||
           (gap < spans[token].begin && IS_ONE_OF(at, size, stops));
}

/* The last place from `most` tokens down to `least` that is between words, if it has to be, and
 * ends a sentence, if it has to, and turns out to be one. */
static bool find_place(struct cutting *cutting, uint32_t most, uint32_t least, bool words,
                       bool sentences, struct place *place) {
    unsigned tries = 0;
    struct moult_token_ids ids;

    for (uint32_t token = most; token >= least && token > 0 && tries < TRIES_MAX; token--) {
        if ((words && !cutting->spans[token].begins_word) ||
            (sentences && !ends_sentence(cutting, token)))
            continue;
        *place = place_before(cutting, token);
        if (words ? is_exact(cutting, place)
                  : place->at > cutting->begin && fits(cutting, place->at, &ids))
            return true;
        tries++;
    }
    return false;
}

/* Where no place between two tokens will do, half of the way to the last may, or half of that. */
static struct place halve(struct cutting *cutting, uint32_t far) {
    const char *at = cutting->text + cutting->begin;
    struct moult_token_ids ids;

    moult_utf8_next(&at);
    uint32_t least = (uint32_t)(at - cutting->text);
    for (uint32_t way = far > least ? far - cutting->begin : 0; way > 0; way /= 2) {
        uint32_t end = cutting->begin + way;
        while (end > least && end < cutting->text_size &&
               ((unsigned char)cutting->text[end] & 0xC0) == 0x80)
            end--;
        if (end > least && fits(cutting, end, &ids))
            return (struct place){end, 0};
    }
    return (struct place){least, 0};
}

static struct place choose_end(struct cutting *cutting) {
    uint32_t most = cutting->room < cutting->count - 1 ? cutting->room : cutting->count - 1;
    struct place place;

    if (find_place(cutting, most, most - most / 4, true, true, &place) ||
        find_place(cutting, most, 1, true, false, &place) ||
        find_place(cutting, most, 1, false, false, &place))
        return place;
    return halve(cutting, place_before(cutting, most).at);
}

/* Where the first word behind that token ends, in tokens; 0: not in the window. */
static uint32_t end_of_word(const struct cutting *cutting, uint32_t token) {
    for (uint32_t next = token + 1; next < cutting->count; next++)
        if (cutting->spans[next].begins_word)
            return next;
    return cutting->reaches_end ? cutting->count : 0;
}

static uint32_t choose_next(const struct cutting *cutting, const struct place *end) {
    uint32_t first = end->tokens > cutting->overlap ? end->tokens - cutting->overlap : 1;
    uint32_t behind = cutting->overlap > 0 && end->tokens > 0
                          ? end_of_word(cutting, end->tokens) : 0;

    if (behind > cutting->room && behind - cutting->room > first)
        first = behind - cutting->room;
    for (uint32_t token = first; behind > 0 && token < end->tokens; token++) {
        uint32_t at = cutting->begin + cutting->spans[token].begin;
        if (cutting->spans[token].begins_word && at > cutting->begin && at < end->at)
            return at;
    }
    return end->at;
}
