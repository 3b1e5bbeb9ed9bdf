/* The jobs of a portion: texts to be cut, and chunks to be embedded.
 *
 *     a short text ──────────────────────────────> embed ──> has vectors
 *          │ the worker says that it was too long    ^
 *          v                                         │
 *     a longer text ──> cut ──> its chunks ──────────┘
 *
 * A job is a few pieces, so that all threads of a worker have some, and little is done twice.
 * One that the worker cannot do is asked again in parts, and so down to a single document. That one
 * is refused: it has no vectors in this space, and whoever has just written it is told. So what
 * kills workers, or comes to nothing, costs a few tries, is found, and never holds up the rest. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fault.h"
#include "base/log.h"
#include "base/memory.h"
#include "front/follow.h"

#define PIECES_MAX 32u
#define PIECES_BYTES_MAX (256 * MOULT_KIB)
/* A job that fails is asked again in so many parts. */
#define PARTS 8u
/* A worker that has no memory just now may have some later. */
#define FAILURES_MAX 3
#define UNIT_MAX 1.001f
/* A text has no more tokens than bytes, beside special ones and the prompt. */
#define TOKENS_BESIDE 16u

struct piece {
    struct moult_followed *document;
    uint32_t chunk;
};

struct moult_piece_job {
    struct moult_piece_job *next;
    struct moult_portion *portion;
    struct moult_job *job;
    bool cuts;
    uint32_t count;
    struct piece pieces[];
};

/* Pieces on their way into jobs. */
struct gathering {
    struct moult_portion *portion;
    bool cuts;
    uint32_t count, count_max;
    size_t bytes;
    struct piece pieces[PIECES_MAX];
};

static void on_done(struct moult_job *job);

/* Making jobs. */

static struct moult_text text_of(const struct piece *piece, bool whole) {
    const struct moult_store_change *change = piece->document->change;
    if (whole)
        return (struct moult_text){change->text, change->text_size};
    const struct moult_chunk *chunk = &piece->document->chunks[piece->chunk];
    return (struct moult_text){change->text + chunk->begin, chunk->end - chunk->begin};
}

/* 0: texts are not cut. */
static uint32_t chunk_tokens(const struct moult_portion *portion) {
    uint32_t most = portion->follower->generation->report.tokens_max;
    uint32_t tokens = portion->file->key.chunk_tokens;
    tokens = tokens < most ? tokens : most;
    return tokens >= MOULT_CHUNK_TOKENS_MIN ? tokens : 0;
}

static void write_message(struct moult_job *job, const struct gathering *gathering) {
    struct moult_text texts[PIECES_MAX];
    for (uint32_t i = 0; i < gathering->count; i++)
        texts[i] = text_of(&gathering->pieces[i], gathering->cuts);
    if (gathering->cuts) {
        const struct moult_cut_options options = {chunk_tokens(gathering->portion),
                                                  gathering->portion->file->key.chunk_overlap};
        job->message = moult_cut_request_write(texts, job->count, &options, &job->message_size);
        return;
    }
    job->options = (struct moult_embed_options){.prompt = MOULT_PROMPT_DOCUMENT,
                                                .format = MOULT_VECTOR_F32,
                                                .overlong = MOULT_OVERLONG_CUT_RIGHT,
                                                .unit = true};
    job->message = moult_embed_request_write(texts, job->count, &job->options, &job->frame,
                                             &job->message_size);
}

static void submit(struct gathering *gathering) {
    struct moult_portion *portion = gathering->portion;
    struct moult_generation *generation = portion->follower->generation;
    struct moult_piece_job *pieces =
        moult_allocate(1, sizeof *pieces + gathering->count * sizeof *pieces->pieces);
    struct moult_job *job = moult_job_open();
    pieces->portion = portion;
    pieces->job = job;
    pieces->cuts = gathering->cuts;
    pieces->count = gathering->count;
    memcpy(pieces->pieces, gathering->pieces, gathering->count * sizeof *pieces->pieces);
    pieces->next = portion->jobs;
    portion->jobs = pieces;
    job->slot = generation->slot;
    job->pinned = generation;
    moult_generation_hold(generation);
    job->own = true;
    job->lane = moult_follower_lane(portion->follower);
    job->count = gathering->count;
    job->done = on_done;
    job->owner = pieces;
    write_message(job, gathering);
    gathering->count = 0;
    gathering->bytes = 0;
    moult_slots_submit_own(generation->slot->slots, job);
}

static void flush(struct gathering *gathering) {
    if (gathering->count > 0)
        submit(gathering);
}

static void gather(struct gathering *gathering, struct moult_followed *document, uint32_t chunk) {
    struct piece piece = {document, chunk};
    size_t size = text_of(&piece, gathering->cuts).size;
    if (gathering->count == gathering->count_max ||
        (gathering->count > 0 && gathering->bytes + size > PIECES_BYTES_MAX))
        flush(gathering);
    gathering->pieces[gathering->count++] = piece;
    gathering->bytes += size;
}

static struct gathering begin_gathering(struct moult_portion *portion, bool cuts) {
    return (struct gathering){.portion = portion, .cuts = cuts, .count_max = PIECES_MAX};
}

static void gather_chunks(struct gathering *gathering, struct moult_followed *document) {
    for (uint32_t i = 0; i < document->count; i++)
        gather(gathering, document, i);
}

static void set_chunks(struct moult_followed *document, uint32_t count, uint32_t C) {
    free(document->chunks);
    free(document->vectors);
    document->count = document->missing = count;
    document->chunks = moult_allocate(count, sizeof *document->chunks);
    document->vectors = moult_allocate((size_t)count * C, sizeof *document->vectors);
}

void moult_pieces_begin(struct moult_portion *portion) {
    struct gathering cuts = begin_gathering(portion, true);
    struct gathering embeds = begin_gathering(portion, false);
    uint32_t C = portion->file->key.dimensions, tokens = chunk_tokens(portion);
    for (uint32_t i = 0; i < portion->missing_count; i++) {
        struct moult_followed *document = &portion->missing[i];
        size_t size = document->change->text_size;
        document->whole = tokens == 0 || size + TOKENS_BESIDE <= tokens;
        if (!document->whole) {
            gather(&cuts, document, 0);
            continue;
        }
        set_chunks(document, 1, C);
        document->chunks[0].end = (uint32_t)size;
        if (!moult_spared_take(portion, document))
            gather(&embeds, document, 0);
    }
    flush(&cuts);
    flush(&embeds);
}

static void close_pieces(struct moult_piece_job *pieces) {
    struct moult_piece_job **at = &pieces->portion->jobs;
    while (*at != pieces)
        at = &(*at)->next;
    *at = pieces->next;
    free(pieces);
}

void moult_pieces_abandon(struct moult_portion *portion) {
    struct moult_slots *slots = portion->follower->followers->slots;
    struct moult_piece_job *pieces;
    while ((pieces = portion->jobs) != NULL) {
        struct moult_job *job = pieces->job;
        close_pieces(pieces);
        moult_slots_abandon(slots, job);
    }
}

/* Answers. */

static void refuse(struct moult_portion *portion, struct moult_followed *document,
                   bool killed_worker, const char *reason) {
    const struct moult_generation *generation = portion->follower->generation;
    char message[512];
    if (document->refused)
        return;
    snprintf(message, sizeof message, "%s cannot embed this document: %.300s", generation->label,
             reason);
    moult_log_warning("A document (seq %" PRIu64 ") has no vector: %s", document->change->seq,
                      message);
    portion->unfinished -= !(document->chunks != NULL && document->missing == 0);
    set_chunks(document, 1, 1);
    document->missing = 0;
    document->refused = true;
    moult_writes_refuse(moult_followers_of(portion->follower->followers, generation->slot),
                        document->change->seq, killed_worker, message);
}

/* Memory that the worker can write: what is taken from it is copied first, and then checked. */
static bool take_vector(const struct moult_job *job, uint32_t i, float *vector, uint32_t C) {
    const struct moult_answer_cell *cell = &job->answer.cells[i];
    if (cell->size != C * sizeof(float))
        return false;
    memcpy(vector, job->answer.block + cell->offset, cell->size);
    for (uint32_t c = 0; c < C; c++)
        if (!(fabsf(vector[c]) <= UNIT_MAX))
            return false;
    return true;
}

/* It was taken for short, and its end is not in its vector. */
static bool was_too_long(const struct moult_portion *portion, const struct moult_followed *document,
                         const struct moult_answer_cell *cell) {
    uint32_t tokens = chunk_tokens(portion);
    return document->whole && tokens > 0 && (cell->truncated || cell->tokens > tokens);
}

static void take_vectors(struct moult_piece_job *pieces, const struct moult_job *job,
                         struct gathering *cuts) {
    struct moult_portion *portion = pieces->portion;
    uint32_t C = portion->file->key.dimensions;
    for (uint32_t i = 0; i < pieces->count; i++) {
        struct moult_followed *document = pieces->pieces[i].document;
        if (document->refused)
            continue;
        if (was_too_long(portion, document, &job->answer.cells[i])) {
            document->whole = false;
            gather(cuts, document, 0);
        } else if (!take_vector(job, i, document->vectors + (size_t)pieces->pieces[i].chunk * C,
                                C)) {
            refuse(portion, document, false, "What came of it is no vector.");
        } else if (--document->missing == 0) {
            portion->unfinished--;
        }
    }
}

static void take_cuts(struct moult_piece_job *pieces, const struct moult_job *job,
                      struct gathering *embeds) {
    struct moult_portion *portion = pieces->portion;
    uint32_t begin = 0;
    for (uint32_t i = 0; i < pieces->count; begin = job->answer.ends[i++]) {
        struct moult_followed *document = pieces->pieces[i].document;
        set_chunks(document, job->answer.ends[i] - begin, portion->file->key.dimensions);
        for (uint32_t k = 0; k < document->count; k++) {
            document->chunks[k].begin = job->answer.ranges[begin + k].begin;
            document->chunks[k].end = job->answer.ranges[begin + k].end;
        }
        if (!moult_spared_take(portion, document))
            gather_chunks(embeds, document);
    }
}

/* Once more, in parts. */
static void split(struct moult_piece_job *pieces) {
    struct gathering parts = begin_gathering(pieces->portion, pieces->cuts);
    parts.count_max = (pieces->count + PARTS - 1) / PARTS;
    for (uint32_t i = 0; i < pieces->count; i++)
        if (!pieces->pieces[i].document->refused)
            gather(&parts, pieces->pieces[i].document, pieces->pieces[i].chunk);
    flush(&parts);
}

static void fail(struct moult_piece_job *pieces, bool killed_worker, bool for_good,
                 const char *reason) {
    struct moult_followed *document = pieces->pieces[0].document;
    if (pieces->count == 1 && (for_good || ++document->failures >= FAILURES_MAX))
        refuse(pieces->portion, document, killed_worker, reason);
    else
        split(pieces);
}

/* The request's own fault is that of one text, where the worker says of which. */
static void take_fault(struct moult_piece_job *pieces, const struct moult_job *job) {
    uint32_t at = job->answer.message_text;
    if (at < pieces->count)
        refuse(pieces->portion, pieces->pieces[at].document, false, job->answer.message);
    fail(pieces, false, true, job->answer.message);
}

static void take_answer(struct moult_piece_job *pieces, const struct moult_job *job) {
    struct gathering next = begin_gathering(pieces->portion, !pieces->cuts);
    switch (job->answer.status) {
    case MOULT_ANSWER_OK:
        if (pieces->cuts)
            take_cuts(pieces, job, &next);
        else
            take_vectors(pieces, job, &next);
        flush(&next);
        break;
    case MOULT_ANSWER_INVALID: take_fault(pieces, job); break;
    default: fail(pieces, false, false, job->answer.message); break;
    }
}

static void on_done(struct moult_job *job) {
    struct moult_piece_job *pieces = job->owner;
    struct moult_portion *portion = pieces->portion;
    struct moult_follower *follower = portion->follower;
    bool lost = job->outcome == MOULT_JOB_UNAVAILABLE || !moult_follower_can_submit(follower);
    if (!lost && job->outcome == MOULT_JOB_KILLED_WORKER)
        fail(pieces, true, true, "It ends the worker, each time that it is tried.");
    else if (!lost)
        take_answer(pieces, job);
    close_pieces(pieces);
    moult_job_close(job);
    if (lost) {
        moult_portion_drop(portion);
        moult_follower_step(follower);
    } else if (portion->jobs == NULL) {
        MOULT_REQUIRE(portion->unfinished == 0);
        moult_portion_embedded(portion);
    }
}
