/* From a text to ids.
 *
 *   text ── added tokens of the text as it came ──> pieces
 *   piece ── normalised ──> characters with their kinds
 *         ── added tokens of normalised text ──> stretches
 *   stretch ── cut at spaces and around punctuation ──> words
 *   word ── WordPiece ──> ids
 *
 * All of it is done for a block of text at a time, so that a long text costs no
 * more than the tokens that fit. Where a block ends must not change the result,
 * so what is not decided yet waits:
 *
 * - A match of an added token is decided when it and the character behind it are
 *   there. The text as it came is all there; in normalised text a match may begin
 *   only as far from the end as the longest added token and one character.
 * - White space before a place where an added token with `lstrip` may still begin is not
 *   handed on, because the token would take it.
 * - The last word of a block waits for its end; its letters stay in the buffer and
 *   are not looked at twice. A word that is already too long waits without them.
 * - Combining marks wait in the normaliser for the next starter.
 *
 * lstrip and rstrip matter only for the text as it came: there the white space
 * that they take is kept away from the added tokens of normalised text. In normalised text
 * the next step drops all white space anyhow.
 *
 * Every word gives at least one id. So a text is truncated as soon as all places are
 * taken and one more word has begun. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "tokenizer/internal.h"

enum {
    BLOCK_BYTES = 1024,             /* Normalised at a time. */
    WINDOW_BYTES = 4096,            /* Searched for added tokens at a time. */
    CHARACTER_BYTES_MAX = 4,
    SCRATCH_KEPT_MAX = 1 << 20      /* Longer buffers are not kept for the next text. */
};

struct moult_tokenizer_scratch {
    struct moult_normal normal;
    uint32_t *ids;
    size_t ids_capacity;
    /* Where tokens are tracked. */
    struct moult_token_span *spans;
    uint32_t *ends;                 /* Of the pieces of a word, in it. */
    size_t spans_capacity, ends_capacity;
};

/* One text on its way. */
struct encoding {
    const struct moult_tokenizer *tokenizer;
    struct moult_tokenizer_scratch *scratch;
    const char *text;
    size_t text_size;

    size_t from;        /* The text before this place is handed on, */
    size_t search;      /* and no added token begins before this one. */
    size_t space_start, space_end;   /* White space that an rstrip has found. */
    bool all_parted;

    size_t word;        /* In the normalised piece: where the word begun starts, */
    size_t at;          /* how far it has been read, */
    size_t characters;  /* and how many characters it has until there. */
    bool has_dropped;   /* Letters of a word that is too long were dropped: */
    struct moult_origin dropped;   /* those. */
    size_t normal_search;   /* No added token of normalised text begins before this place. */

    size_t count;       /* Ids of the text so far. */
    size_t count_max;
    bool keeps_tail;    /* The last ids are kept, not the first. */
    bool tracked;       /* Spans are kept, too; never both. */
    bool truncated;
    bool full;          /* Nothing more can change. */
};

/* The next stretch of text as it came, and what comes behind it. */
struct part {
    size_t start, stop;
    bool ends_piece;
    const struct moult_added_token *token;   /* Or NULL. */
    size_t token_start, token_stop;          /* With the spaces that it takes. */
};

static void shrink(struct moult_tokenizer_scratch *scratch);
static bool next_part(struct encoding *encoding, struct part *part);
static void take_match(struct encoding *encoding, const struct moult_added_match *match,
                       struct part *part);
static void take_window(struct encoding *encoding, size_t limit, struct part *part);
static void add_text(struct encoding *encoding, size_t start, size_t stop);
static void end_piece(struct encoding *encoding);
static void split(struct encoding *encoding, bool final);
static void split_at_tokens(struct encoding *encoding, size_t limit);
static void cut_words(struct encoding *encoding, size_t limit, bool final);
static void put_word(struct encoding *encoding, size_t start, size_t stop, size_t characters);
static void put_spans(struct encoding *encoding, size_t start, size_t stop, size_t count);
static void drop_letters(struct encoding *encoding, size_t at);
static void put_id(struct encoding *encoding, uint32_t id, size_t begin, size_t end);
static void reserve_ids(struct encoding *encoding, size_t more);
static void settle(struct encoding *encoding);
static void compact(struct encoding *encoding);
static int encode(struct encoding *encoding, uint32_t tokens_max, struct moult_token_ids *out,
                  struct moult_error *error);
static const struct moult_token_span *mark_special(const struct encoding *encoding);

struct moult_tokenizer_scratch *moult_tokenizer_scratch_open(void) {
    return moult_allocate(1, sizeof(struct moult_tokenizer_scratch));
}

void moult_tokenizer_scratch_close(struct moult_tokenizer_scratch *scratch) {
    if (scratch == NULL)
        return;
    moult_normal_release(&scratch->normal);
    free(scratch->ids);
    free(scratch->spans);
    free(scratch->ends);
    free(scratch);
}

int moult_tokenizer_encode(const struct moult_tokenizer *tokenizer,
                           struct moult_tokenizer_scratch *scratch, const char *text,
                           size_t text_size, uint32_t tokens_max, struct moult_token_ids *out,
                           struct moult_error *error) {
    struct encoding encoding = {
        .tokenizer = tokenizer, .scratch = scratch, .text = text, .text_size = text_size};
    return encode(&encoding, tokens_max, out, error);
}

int moult_tokenizer_encode_spans(const struct moult_tokenizer *tokenizer,
                                 struct moult_tokenizer_scratch *scratch, const char *text,
                                 size_t text_size, uint32_t tokens_max,
                                 struct moult_token_ids *out, struct moult_error *error) {
    struct encoding encoding = {.tokenizer = tokenizer,
                                .scratch = scratch,
                                .text = text,
                                .text_size = text_size,
                                .tracked = true};
    MOULT_REQUIRE(text_size < UINT32_MAX);
    return encode(&encoding, tokens_max, out, error);
}

int moult_tokenizer_encode_tail(const struct moult_tokenizer *tokenizer,
                                struct moult_tokenizer_scratch *scratch, const char *text,
                                size_t text_size, uint32_t tokens_max,
                                struct moult_token_ids *out, struct moult_error *error) {
    struct encoding encoding = {.tokenizer = tokenizer,
                                .scratch = scratch,
                                .text = text,
                                .text_size = text_size,
                                .keeps_tail = true};
    return encode(&encoding, tokens_max, out, error);
}

static int encode(struct encoding *encoding, uint32_t tokens_max, struct moult_token_ids *out,
                  struct moult_error *error) {
    const struct moult_tokenizer *tokenizer = encoding->tokenizer;
    struct moult_tokenizer_scratch *scratch = encoding->scratch;
    uint32_t special = tokenizer->before_count + tokenizer->after_count;
    struct part part;

    if (tokens_max < special)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "At most %u tokens are asked for, but the tokenizer puts %u around "
                          "every text.",
                          tokens_max, special);
    encoding->count_max = tokens_max - special;
    shrink(scratch);
    scratch->normal.size = 0;
    scratch->normal.mark_count = 0;
    scratch->normal.tracked = encoding->tracked;

    while (!encoding->full && next_part(encoding, &part)) {
        add_text(encoding, part.start, part.stop);
        if (part.ends_piece)
            end_piece(encoding);
        if (part.token != NULL)
            put_id(encoding, part.token->id, part.token_start, part.token_stop);
    }

    reserve_ids(encoding, 0);
    uint32_t *ids = scratch->ids + tokenizer->before_count;
    if (encoding->count > encoding->count_max) {
        encoding->truncated = true;
        memmove(ids, ids + encoding->count - encoding->count_max,
                encoding->count_max * sizeof *ids);
        encoding->count = encoding->count_max;
    }
    if (tokenizer->before_count > 0)
        memcpy(scratch->ids, tokenizer->before, tokenizer->before_count * sizeof *ids);
    if (tokenizer->after_count > 0)
        memcpy(ids + encoding->count, tokenizer->after, tokenizer->after_count * sizeof *ids);
    *out = (struct moult_token_ids){.ids = scratch->ids,
                                    .count = (uint32_t)encoding->count + special,
                                    .truncated = encoding->truncated};
    if (encoding->tracked)
        out->spans = mark_special(encoding);
    return 0;
}

static const struct moult_token_span *mark_special(const struct encoding *encoding) {
    struct moult_token_span *spans = encoding->scratch->spans;
    size_t before = encoding->tokenizer->before_count, behind = before + encoding->count;

    for (size_t n = 0; n < before; n++)
        spans[n] = (struct moult_token_span){.special = true};
    for (size_t n = behind; n < behind + encoding->tokenizer->after_count; n++)
        spans[n] = (struct moult_token_span){.special = true};
    return spans;
}

static void shrink(struct moult_tokenizer_scratch *scratch) {
    if (scratch->normal.capacity > SCRATCH_KEPT_MAX ||
        scratch->normal.mark_capacity > SCRATCH_KEPT_MAX)
        moult_normal_release(&scratch->normal);
    if (scratch->ids_capacity > SCRATCH_KEPT_MAX) {
        free(scratch->ids);
        free(scratch->spans);
        scratch->ids = NULL;
        scratch->spans = NULL;
        scratch->ids_capacity = scratch->spans_capacity = 0;
    }
}

/* The end of the character that `place` lies in. */
static size_t character_border(const char *text, size_t size, size_t place) {
    while (place < size && ((unsigned char)text[place] & 0xC0) == 0x80)
        place++;
    return place;
}

static size_t lesser(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t greater(size_t a, size_t b) {
    return a > b ? a : b;
}

static bool next_part(struct encoding *encoding, struct part *part) {
    const struct moult_added_set *set = &encoding->tokenizer->added_raw;
    const char *text = encoding->text;
    size_t size = encoding->text_size;
    struct moult_added_match match;

    while (!encoding->all_parted) {
        size_t limit = size - encoding->search <= WINDOW_BYTES
                           ? size
                           : character_border(text, size, encoding->search + WINDOW_BYTES);
        bool found = moult_added_set_find(set, text, size, encoding->search, limit, &match);
        if (found && moult_added_match_stands(&match, text, size)) {
            take_match(encoding, &match, part);
            return true;
        }
        take_window(encoding, found ? match.stop : limit, part);
        if (part->start < part->stop || part->ends_piece)
            return true;
    }
    return false;
}

static void take_match(struct encoding *encoding, const struct moult_added_match *match,
                       struct part *part) {
    const char *text = encoding->text;
    size_t start = match->start, stop = match->stop;

    if (match->token->lstrip)
        start = moult_space_start(text, encoding->from, start);
    if (match->token->rstrip) {
        if (stop < encoding->space_start || stop > encoding->space_end) {
            encoding->space_start = stop;
            encoding->space_end = moult_space_end(text, encoding->text_size, stop);
        }
        stop = encoding->space_end;
    }
    *part = (struct part){.start = encoding->from,
                          .stop = greater(start, encoding->from),
                          .ends_piece = true,
                          .token = match->token,
                          .token_start = greater(start, encoding->from),
                          .token_stop = greater(stop, greater(start, encoding->from))};
    encoding->from = stop;
    encoding->search = match->stop;
}

/* Hands on what lies before `limit`, where no added token has been found. White space
 * that an added token may still take is kept back; what has been kept back before
 * lies between `from` and `search`. */
static void take_window(struct encoding *encoding, size_t limit, struct part *part) {
    size_t from = encoding->from, begin = encoding->search, stop = greater(limit, from);

    encoding->all_parted = limit == encoding->text_size;
    if (!encoding->all_parted && encoding->tokenizer->added_raw.any_lstrip) {
        size_t start = greater(begin, from);
        stop = moult_space_start(encoding->text, start, stop);
        if (stop == start)
            stop = from;
    }
    *part = (struct part){.start = from, .stop = stop, .ends_piece = encoding->all_parted};
    encoding->from = stop;
    encoding->search = limit;
}

static void add_text(struct encoding *encoding, size_t start, size_t stop) {
    while (start < stop && !encoding->full) {
        size_t end = stop - start <= BLOCK_BYTES
                         ? stop
                         : character_border(encoding->text, stop, start + BLOCK_BYTES);
        moult_normalize(&encoding->tokenizer->normalizer, &encoding->scratch->normal,
                        encoding->text + start, end - start, start);
        split(encoding, false);
        compact(encoding);
        start = end;
    }
}

static void end_piece(struct encoding *encoding) {
    if (encoding->full)
        return;
    moult_normalize_end(&encoding->tokenizer->normalizer, &encoding->scratch->normal);
    split(encoding, true);
    encoding->word = encoding->at = encoding->characters = encoding->normal_search = 0;
    encoding->scratch->normal.size = 0;
}

/* Cuts what is decided of the normalised piece; all of it when it is final. */
static void split(struct encoding *encoding, bool final) {
    const struct moult_added_set *set = &encoding->tokenizer->added_normalized;
    const struct moult_normal *normal = &encoding->scratch->normal;
    size_t decided = normal->size;

    if (set->trie.nodes != NULL) {
        size_t ahead = set->pattern_size_max + CHARACTER_BYTES_MAX;
        if (!final)
            decided = normal->size > ahead
                          ? character_border(normal->bytes, normal->size, normal->size - ahead)
                          : 0;
        split_at_tokens(encoding, decided);
        decided = final ? normal->size : encoding->normal_search;
    }
    if (!encoding->full)
        cut_words(encoding, decided, final);
}

static void split_at_tokens(struct encoding *encoding, size_t limit) {
    const struct moult_added_set *set = &encoding->tokenizer->added_normalized;
    const struct moult_normal *normal = &encoding->scratch->normal;
    struct moult_added_match match;

    while (!encoding->full && moult_added_set_find(set, normal->bytes, normal->size,
                                                   encoding->normal_search, limit, &match)) {
        encoding->normal_search = match.stop;
        if (!moult_added_match_stands(&match, normal->bytes, normal->size))
            continue;
        cut_words(encoding, match.start, true);
        const struct moult_origin *origins = normal->origins;
        put_id(encoding, match.token->id, encoding->tracked ? origins[match.start].begin : 0,
               encoding->tracked ? origins[match.stop - 1].end : 0);
        encoding->word = encoding->at = match.stop;
    }
    encoding->normal_search = greater(encoding->normal_search, limit);
}

static void cut_words(struct encoding *encoding, size_t limit, bool final) {
    const uint8_t *kinds = encoding->scratch->normal.kinds;
    size_t at = encoding->at;

    while (at < limit && !encoding->full) {
        uint8_t kind = kinds[at];
        if (kind <= MOULT_KIND_FOLLOWING) {
            encoding->characters += kind == MOULT_KIND_CHARACTER;
            at++;
            continue;
        }
        put_word(encoding, encoding->word, at, encoding->characters);
        size_t start = at++;
        if (kind == MOULT_KIND_PUNCTUATION) {
            while (at < limit && kinds[at] == MOULT_KIND_FOLLOWING)
                at++;
            put_word(encoding, start, at, 1);
        }
        encoding->word = at;
        encoding->characters = 0;
    }
    encoding->at = at;

    if (final) {
        put_word(encoding, encoding->word, at, encoding->characters);
        encoding->word = at;
        encoding->characters = 0;
    } else if (encoding->characters > 0 && encoding->count >= encoding->count_max &&
               !encoding->keeps_tail) {
        encoding->truncated = encoding->full = true;
    } else if (encoding->characters > encoding->tokenizer->wordpiece.characters_max) {
        drop_letters(encoding, at);
    }
}

/* The least that holds all that normalised text [start, stop) comes from: its marks may be in
 * another order than in the text. */
static struct moult_origin origin_of(const struct encoding *encoding, size_t start, size_t stop) {
    const struct moult_origin *origins = encoding->scratch->normal.origins;
    struct moult_origin whole = {UINT32_MAX, 0};

    for (size_t at = start; at < stop; at++) {
        whole.begin = origins[at].begin < whole.begin ? origins[at].begin : whole.begin;
        whole.end = origins[at].end > whole.end ? origins[at].end : whole.end;
    }
    return whole;
}

/* Of a word that is too long only its place is wanted. */
static void drop_letters(struct encoding *encoding, size_t at) {
    if (encoding->tracked && at > encoding->word) {
        struct moult_origin origin = origin_of(encoding, encoding->word, at);
        if (!encoding->has_dropped)
            encoding->dropped = origin;
        if (origin.end > encoding->dropped.end)
            encoding->dropped.end = origin.end;
        encoding->has_dropped = true;
    }
    encoding->word = at;
}

static void put_word(struct encoding *encoding, size_t start, size_t stop, size_t characters) {
    const struct moult_wordpiece *wordpiece = &encoding->tokenizer->wordpiece;

    if (characters == 0 || encoding->full)
        return;
    reserve_ids(encoding, characters <= wordpiece->characters_max ? characters : 1);
    size_t count = moult_wordpiece_encode(
        wordpiece, encoding->scratch->normal.bytes + start, stop - start, characters,
        encoding->scratch->ids + encoding->tokenizer->before_count + encoding->count,
        encoding->tracked ? encoding->scratch->ends : NULL);
    if (encoding->tracked)
        put_spans(encoding, start, stop, count);
    encoding->count += count;
    settle(encoding);
}

/* Of the word's `count` ids, whose ends in it are in the scratch. */
static void put_spans(struct encoding *encoding, size_t start, size_t stop, size_t count) {
    const uint32_t *ends = encoding->scratch->ends;
    struct moult_token_span *spans =
        encoding->scratch->spans + encoding->tokenizer->before_count + encoding->count;

    if (encoding->has_dropped) {
        encoding->word = start;
        drop_letters(encoding, stop);
        spans[0] = (struct moult_token_span){encoding->dropped.begin, encoding->dropped.end,
                                             .begins_word = true};
        encoding->has_dropped = false;
        return;
    }
    for (size_t n = 0; n < count; n++) {
        struct moult_origin origin =
            origin_of(encoding, start + (n > 0 ? ends[n - 1] : 0), start + ends[n]);
        spans[n] = (struct moult_token_span){origin.begin, origin.end, .begins_word = n == 0};
    }
}

/* An added token, from there. */
static void put_id(struct encoding *encoding, uint32_t id, size_t begin, size_t end) {
    if (encoding->full)
        return;
    reserve_ids(encoding, 1);
    size_t at = encoding->tokenizer->before_count + encoding->count++;
    encoding->scratch->ids[at] = id;
    if (encoding->tracked)
        encoding->scratch->spans[at] = (struct moult_token_span){
            .begin = (uint32_t)begin, .end = (uint32_t)end, .begins_word = true};
    settle(encoding);
}

/* Makes room for `more` ids of the text and those around it. */
static void reserve_ids(struct encoding *encoding, size_t more) {
    struct moult_tokenizer_scratch *scratch = encoding->scratch;
    size_t needed = encoding->tokenizer->before_count + encoding->count + more +
                    encoding->tokenizer->after_count;

    if (needed > scratch->ids_capacity || scratch->ids == NULL) {
        scratch->ids_capacity = needed + needed / 2 + 64;
        scratch->ids = moult_reallocate(scratch->ids, scratch->ids_capacity, sizeof *scratch->ids);
    }
    if (!encoding->tracked)
        return;
    if (needed > scratch->spans_capacity || scratch->spans == NULL) {
        scratch->spans_capacity = needed + needed / 2 + 64;
        scratch->spans =
            moult_reallocate(scratch->spans, scratch->spans_capacity, sizeof *scratch->spans);
    }
    if (more > scratch->ends_capacity) {
        scratch->ends_capacity = more + more / 2 + 64;
        scratch->ends =
            moult_reallocate(scratch->ends, scratch->ends_capacity, sizeof *scratch->ends);
    }
}

/* Cuts the ids where there are too many. The tail is moved to the front only now and then, so that
 * every id is moved once on average. */
static void settle(struct encoding *encoding) {
    uint32_t *ids = encoding->scratch->ids + encoding->tokenizer->before_count;

    if (encoding->count <= encoding->count_max)
        return;
    if (!encoding->keeps_tail) {
        encoding->count = encoding->count_max;
        encoding->truncated = encoding->full = true;
    } else if (encoding->count - encoding->count_max > encoding->count_max + BLOCK_BYTES) {
        memmove(ids, ids + encoding->count - encoding->count_max,
                encoding->count_max * sizeof *ids);
        encoding->count = encoding->count_max;
        encoding->truncated = true;
    }
}

/* Drops normalised text that is done with. One character stays before what is not, for
 * the question whether it is part of a word. More than half goes at a time, so that
 * every byte is moved once on average. */
static void compact(struct encoding *encoding) {
    struct moult_normal *normal = &encoding->scratch->normal;
    size_t done = encoding->word;

    if (encoding->tokenizer->added_normalized.trie.nodes != NULL) {
        done = lesser(done, encoding->normal_search);
        done = done < CHARACTER_BYTES_MAX ? 0 : done - CHARACTER_BYTES_MAX;
        while (done > 0 && ((unsigned char)normal->bytes[done] & 0xC0) == 0x80)
            done--;
    }
    if (done <= normal->size / 2)
        return;
    normal->size -= done;
    memmove(normal->bytes, normal->bytes + done, normal->size);
    memmove(normal->kinds, normal->kinds + done, normal->size);
    if (encoding->tracked)
        memmove(normal->origins, normal->origins + done, normal->size * sizeof *normal->origins);
    encoding->word -= done;
    encoding->at -= done;
    encoding->normal_search -= lesser(done, encoding->normal_search);
}
