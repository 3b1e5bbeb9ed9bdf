#include "cli/importing.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/machine.h"
#include "base/memory.h"
#include "cli/exchange.h"
#include "cli/figures.h"
#include "cli/progress.h"
#include "cli/resume.h"

/* Two requests are under way, so that the server has the next one when it has answered one. Another
 * parcel is filled meanwhile, and one may be done before the one before it is. */
enum { LANES = 2, PARCELS = LANES + 2 };
#define SAVE_EVERY_NS 1000000000u
#define LOOK_EVERY_MS 100
#define HEAR_OUT_NS 5000000000u
#define REFUSED_AT_ONCE_MAX 20u   /* One after the other from the start: no document is at fault. */

enum use { FREE, FILLING, FULL, SENT, DONE };

/* `parcels` is a ring in the order of the file, from `oldest` on. One that is done is free when
 * all before it are, so what is on record never lies behind one that is not. */
struct import {
    const struct moult_import_options *options;
    struct moult_import_result *result;
    struct moult_error *error;
    struct moult_records *records;
    struct moult_exchange *exchange;
    struct moult_parcel *parcels;         /* [PARCELS] */
    enum use uses[PARCELS];
    unsigned lanes[PARCELS];               /* Of those that are sent. */
    unsigned oldest;
    struct moult_import_place read;         /* Up to here the file has been read. */
    struct moult_record record;             /* Read, and in no parcel yet. */
    bool has_record, read_ended;
    uint64_t refused;                       /* By the server: of parcels that are free again, */
    uint64_t refused_all, taken;            /* and of all, beside those that it took. */
    float *vector;
    struct moult_progress bar;
    uint64_t saved_ns;
};

static unsigned count_uses(const struct import *import, enum use use) {
    unsigned count = 0;
    for (unsigned i = 0; i < PARCELS; i++)
        count += import->uses[i] == use;
    return count;
}

/* The parcel in that use that comes first in the file, or PARCELS. */
static unsigned find_use(const struct import *import, enum use use) {
    for (unsigned i = 0; i < PARCELS; i++) {
        unsigned at = (import->oldest + i) % PARCELS;
        if (import->uses[at] == use)
            return at;
    }
    return PARCELS;
}

/* What is on record. */

static void settle(struct import *import) {
    struct moult_import_place *reached = &import->result->reached;
    const struct moult_parcel *oldest = &import->parcels[import->oldest];
    bool none = import->uses[import->oldest] == FREE;
    *reached = none ? import->read : oldest->taken;
    reached->skipped += import->refused + (none ? 0 : oldest->refused);
}

static int save(struct import *import, struct moult_error *error) {
    const struct moult_import_place *reached = &import->result->reached;
    char digest[MOULT_RESUME_DIGEST_HEX];
    settle(import);
    if (import->options->resume_path == NULL || reached->records == 0)
        return 0;
    if (moult_resume_digest(moult_records_fd(import->records), reached->offset,
                            moult_records_name(import->records), digest, error) != 0)
        return -1;
    json_t *state =
        json_pack("{s:I, s:I, s:I, s:I, s:s}", "offset", (json_int_t)reached->offset, "line",
                  (json_int_t)reached->line, "records", (json_int_t)reached->records, "skipped",
                  (json_int_t)reached->skipped, "digest", digest);
    MOULT_REQUIRE(state != NULL);
    import->saved_ns = moult_clock_ns();
    return moult_resume_write(import->options->resume_path, import->options->task, state, error);
}

static int read_place(const json_t *state, struct moult_import_place *place,
                      const char **digest) {
    json_int_t offset, line, records, skipped;
    if (json_unpack((json_t *)(uintptr_t)state, "{s:I, s:I, s:I, s:I, s:s}", "offset", &offset,
                    "line", &line, "records", &records, "skipped", &skipped, "digest",
                    digest) != 0 ||
        offset < 0 || line < 1 || records < 0 || skipped < 0 || skipped > records)
        return -1;
    *place = (struct moult_import_place){(uint64_t)offset, (uint64_t)line, (uint64_t)records,
                                         (uint64_t)skipped};
    return 0;
}

static int go_on(struct import *import) {
    const struct moult_import_options *options = import->options;
    const char *digest;
    char now[MOULT_RESUME_DIGEST_HEX];
    struct moult_error reason = {.code = MOULT_OK};
    json_t *state = options->resume_path != NULL
                        ? moult_resume_read(options->resume_path, options->task, &reason)
                        : NULL;
    if (state == NULL && reason.code == MOULT_OK)
        return 0;
    if (state == NULL) {
        *import->error = reason;
        return -1;
    }
    int result = read_place(state, &import->read, &digest);
    if (result != 0)
        moult_fail(import->error, MOULT_ERROR_INVALID,
                   "%s is damaged: begin anew with --restart. Documents that are imported again "
                   "replace themselves.",
                   options->resume_path);
    else if (moult_resume_digest(moult_records_fd(import->records), import->read.offset,
                                 options->file, now, &reason) != 0 ||
             strcmp(now, digest) != 0)
        result = moult_fail(import->error, MOULT_ERROR_INVALID,
                            "%s is not any more what it was when its import broke off: begin anew "
                            "with --restart, or remove %s.",
                            options->file, options->resume_path);
    if (result == 0)
        result = moult_records_seek(import->records, import->read.offset, import->read.line,
                                    import->error);
    json_decref(state);
    import->result->resumed = import->result->reached = import->read;
    return result;
}

/* Records that are wrong. */

static void note_bad(struct import *import, uint64_t line, const char *why) {
    struct moult_import_result *result = import->result;
    if (result->bad_count < MOULT_IMPORT_BAD_SHOWN)
        result->bad[result->bad_count++] = (struct moult_import_bad){line, moult_copy_string(why)};
}

static int fail_bad(struct import *import, uint64_t line, const char *why) {
    import->result->bad_line = line;
    return moult_fail(import->error, MOULT_ERROR_INVALID, "Line %" PRIu64 " of %s: %s", line,
                      moult_records_name(import->records), why);
}

/* Filling parcels. */

static bool is_full(const struct import *import, const struct moult_parcel *parcel) {
    return parcel->count >= import->options->batch ||
           parcel->json.size >= import->options->batch_bytes;
}

static void move_behind(struct import *import, const struct moult_record *record) {
    import->read.offset = record->end;
    import->read.line = record->line_end;
    import->read.records++;
}

static int skip_record(struct import *import, const struct moult_error *reason) {
    unsigned filling = find_use(import, FILLING);
    if (!import->options->skip_bad) {
        import->read_ended = true;
        return fail_bad(import, import->record.line, reason->message);
    }
    note_bad(import, import->record.line, reason->message);
    move_behind(import, &import->record);
    import->read.skipped++;
    if (filling != PARCELS)
        moult_parcel_skip(&import->parcels[filling], &import->read);
    return 0;
}

/* The record goes into the parcel that is being filled, unless one with its id is under way. */
static int add_record(struct import *import) {
    const struct moult_import_options *options = import->options;
    const struct moult_record *record = &import->record;
    unsigned filling = find_use(import, FILLING);
    for (unsigned i = 0; i < PARCELS; i++)
        if (import->uses[i] != FREE &&
            moult_parcel_has(&import->parcels[i], record->id, record->id_size)) {
            if (filling != PARCELS)
                import->uses[filling] = FULL;
            return 0;
        }
    if (options->vector != NULL && options->vector(options->vector_context, import->read.records,
                                                   import->vector, import->error) != 0)
        return -1;
    if (record->ignored != NULL && import->result->ignored == NULL)
        import->result->ignored = moult_copy_string(record->ignored);
    if (filling == PARCELS) {
        filling = find_use(import, FREE);
        moult_parcel_begin(&import->parcels[filling], &import->read);
        import->uses[filling] = FILLING;
    }
    move_behind(import, record);
    moult_parcel_add(&import->parcels[filling], record, &import->read,
                      options->vector != NULL ? import->vector : NULL, options->C);
    import->has_record = false;
    if (is_full(import, &import->parcels[filling]))
        import->uses[filling] = FULL;
    return 0;
}

/* Reads until every parcel is full, or the file has no more, or not just now: then *later. */
static int fill(struct import *import, bool *later) {
    struct moult_error reason;
    *later = false;
    while (!import->read_ended || import->has_record) {
        bool room = find_use(import, FILLING) != PARCELS || find_use(import, FREE) != PARCELS;
        if (!room)
            return 0;
        if (import->has_record) {
            uint64_t before = import->read.records;
            if (add_record(import) != 0)
                return -1;
            if (import->read.records == before)
                return 0;   /* It waits. */
            continue;
        }
        switch (moult_records_next(import->records, false, &import->record, &reason)) {
        case MOULT_RECORD_GOOD:
            import->has_record = true;
            break;
        case MOULT_RECORD_BAD:
            if (skip_record(import, &reason) != 0)
                return -1;
            break;
        case MOULT_RECORD_NONE:
            import->read_ended = true;
            break;
        case MOULT_RECORD_LATER:
            *later = true;
            return 0;
        case MOULT_RECORD_FAILED:
            import->read_ended = true;
            *import->error = reason;
            return -1;
        }
    }
    return 0;
}

/* Sending them. */

static void send_parcel(struct import *import, unsigned at) {
    size_t size;
    char *body =
        moult_parcel_body(&import->parcels[at], import->options->fingerprint, &size);
    moult_exchange_send(import->exchange, import->lanes[at], import->options->path, body, size);
}

static void send_full(struct import *import) {
    unsigned at;
    while (count_uses(import, SENT) < LANES && (at = find_use(import, FULL)) != PARCELS) {
        unsigned lane = 0;
        for (unsigned i = 0; i < PARCELS; i++)
            if (import->uses[i] == SENT && import->lanes[i] == lane) {
                lane++;
                i = UINT32_MAX;   /* From the beginning. */
            }
        import->lanes[at] = lane;
        import->uses[at] = SENT;
        send_parcel(import, at);
    }
}

/* Whether a document may be at fault; 500: it is stored, and the model cannot embed it. */
static bool refuses(long status) {
    return status == 400 || status == 413 || status == 422 || status == 424 || status == 500;
}

static int take_refusal(struct import *import, struct moult_parcel *parcel,
                        const struct moult_reply *reply) {
    const struct moult_parcel_item *item = moult_parcel_refused(parcel);
    if (item == NULL)
        return 0;
    if (!import->options->skip_bad) {
        parcel->taken = parcel->items == item ? parcel->begin : (item - 1)->after;
        return fail_bad(import, item->line, reply->error.message);
    }
    if (import->taken == 0 && import->refused_all >= REFUSED_AT_ONCE_MAX)
        return moult_fail(import->error, MOULT_ERROR_INVALID,
                          "The server refuses one document like the other: %s",
                          reply->error.message);
    note_bad(import, item->line, reply->error.message);
    parcel->refused++;
    import->refused_all++;
    return 0;
}

static int take_success(struct import *import, struct moult_parcel *parcel,
                        const struct moult_reply *reply, struct moult_error *error) {
    uint32_t count = moult_parcel_took(parcel);
    const json_t *upserted = json_object_get(reply->value, "upserted");
    if (json_integer_value(upserted) != count)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The server took %" JSON_INTEGER_FORMAT " of %" PRIu32
                          " documents; is it a moult?",
                          json_integer_value(upserted), count);
    import->taken += count;
    import->result->vectors +=
        (uint64_t)json_integer_value(json_object_get(reply->value, "vectors"));
    return 0;
}

static void free_done(struct import *import) {
    while (import->uses[import->oldest] == DONE) {
        import->refused += import->parcels[import->oldest].refused;
        import->uses[import->oldest] = FREE;
        import->oldest = (import->oldest + 1) % PARCELS;
    }
}

static int take_reply(struct import *import, unsigned at, const struct moult_reply *reply) {
    struct moult_parcel *parcel = &import->parcels[at];
    if (!refuses(reply->status) && reply->error.code != MOULT_OK)
        return moult_fail(import->error, MOULT_ERROR_UNAVAILABLE, "%s", reply->error.message);
    if ((refuses(reply->status) ? take_refusal(import, parcel, reply)
                                : take_success(import, parcel, reply, import->error)) != 0)
        return -1;
    if (parcel->range_count > 0) {
        send_parcel(import, at);
        return 0;
    }
    import->uses[at] = DONE;
    free_done(import);
    return 0;
}

/* The parcel that is answered; PARCELS when none is, for a while. */
static unsigned await_reply(struct import *import, struct moult_reply *reply) {
    unsigned at = 0;
    int lane = moult_exchange_wait(import->exchange, LOOK_EVERY_MS, reply);
    if (lane < 0)
        return PARCELS;
    while (import->uses[at] != SENT || import->lanes[at] != (unsigned)lane)
        at++;
    return at;
}

static int await_and_take(struct import *import) {
    struct moult_reply reply;
    unsigned at = await_reply(import, &reply);
    if (at == PARCELS)
        return 0;
    int result = take_reply(import, at, &reply);
    moult_reply_release(&reply);
    return result;
}

/* One has failed for good: what the server says meanwhile of the others is noted, so that what it
 * has taken need not be sent once more. Nothing else is sent. */
static void hear_out(struct import *import, const volatile int *stop) {
    uint64_t until_ns = moult_clock_ns() + HEAR_OUT_NS;
    struct moult_reply reply;
    struct moult_error second;
    while (*stop == 0 && moult_clock_ns() < until_ns &&
           moult_exchange_is_under_way(import->exchange)) {
        unsigned at = await_reply(import, &reply);
        if (at == PARCELS)
            continue;
        struct moult_parcel *parcel = &import->parcels[at];
        if (reply.error.code == MOULT_OK && take_success(import, parcel, &reply, &second) == 0 &&
            parcel->range_count == 0)
            import->uses[at] = DONE;
        moult_reply_release(&reply);
    }
    free_done(import);
}

static void draw(struct import *import) {
    char count[MOULT_FIGURE_BYTES], left[MOULT_FIGURE_BYTES], note[160];
    const char *trouble = moult_exchange_trouble(import->exchange);
    const struct moult_import_result *result = import->result;
    uint64_t size, begun = result->resumed.offset;
    bool known = moult_records_size(import->records, &size) && size > 0;
    double seconds = (double)(moult_clock_ns() - import->bar.began_ns) * 1e-9;
    double rate = (double)import->taken / seconds;
    settle(import);
    uint64_t done = result->reached.offset < size ? result->reached.offset : size;
    int used = snprintf(note, sizeof note, "%s, %.0f/s",
                        moult_figure_documents(count, result->reached.records -
                                                          result->reached.skipped), rate);
    if (trouble != NULL)
        snprintf(note + used, sizeof note - (size_t)used, "; waiting: %.90s", trouble);
    else if (known && done > begun && seconds > 1)
        snprintf(note + used, sizeof note - (size_t)used, ", %s left",
                 moult_figure_seconds(left, (double)(size - done) * seconds /
                                                (double)(done - begun)));
    moult_progress_draw(&import->bar, known ? (double)done / (double)size : -1, note);
}

/* One turn; returns 1 when nothing is left to do. */
static int turn(struct import *import, bool *failed) {
    bool later = false;
    if (!*failed && fill(import, &later) != 0)
        *failed = true;
    bool last = *failed || (import->read_ended && !import->has_record) ||
                (later && count_uses(import, SENT) == 0);
    unsigned filling = find_use(import, FILLING);
    if (last && filling != PARCELS)
        import->uses[filling] = FULL;
    send_full(import);
    if (count_uses(import, SENT) > 0)
        return await_and_take(import);
    if (!later)
        return 1;
    struct pollfd ready = {.fd = moult_records_fd(import->records), .events = POLLIN};
    poll(&ready, 1, LOOK_EVERY_MS);
    return 0;
}

/* A bad line ends the reading; what lies before it is sent, so that the import goes on behind it
 * once it is mended. */
static int import_all(struct import *import, const volatile int *stop) {
    bool failed = false;
    int ended = 0;
    while (ended == 0 && *stop == 0) {
        ended = turn(import, &failed);
        draw(import);
        if (ended >= 0 && moult_clock_ns() - import->saved_ns > SAVE_EVERY_NS &&
            save(import, import->error) != 0)
            return -1;
    }
    if (*stop != 0) {
        import->result->interrupted = true;
        return moult_fail(import->error, MOULT_ERROR_UNAVAILABLE, "Broken off.");
    }
    if (ended < 0)
        hear_out(import, stop);
    if (ended < 0 || failed)
        return -1;
    settle(import);
    return 0;
}

/* Whatever ended it: a failure to save is no news beside another one. */
static int end(struct import *import, int result) {
    struct moult_error second;
    if (result == 0 && import->options->resume_path != NULL)
        return moult_resume_remove(import->options->resume_path, import->error);
    if (save(import, &second) != 0 && import->result->interrupted)
        *import->error = second;
    return result;
}

static int compare_lines(const void *a, const void *b) {
    const struct moult_import_bad *x = a, *y = b;
    return (x->line > y->line) - (x->line < y->line);
}

int moult_import(const struct moult_import_options *options, const volatile int *stop,
                 struct moult_import_result *result, struct moult_error *error) {
    struct import import = {.options = options, .result = result, .error = error};
    *result = (struct moult_import_result){.seconds = 0};
    import.read.line = 1;
    import.records = moult_records_open(options->file, &options->reading, error);
    if (import.records == NULL || go_on(&import) != 0 ||
        (import.exchange = moult_exchange_open(&options->client, LANES, options->retry_s,
                                               error)) == NULL) {
        moult_records_close(import.records);
        return -1;
    }
    import.parcels = moult_allocate(PARCELS, sizeof *import.parcels);
    import.vector = moult_allocate(options->C > 0 ? options->C : 1, sizeof *import.vector);
    import.saved_ns = moult_clock_ns();
    moult_progress_begin(&import.bar, "importing");
    import.bar.shown = isatty(STDERR_FILENO) != 0;
    int ended = end(&import, import_all(&import, stop));
    qsort(result->bad, result->bad_count, sizeof result->bad[0], compare_lines);
    moult_progress_end(&import.bar);
    result->seconds = (double)(moult_clock_ns() - import.bar.began_ns) * 1e-9;
    for (unsigned i = 0; i < PARCELS; i++)
        moult_parcel_release(&import.parcels[i]);
    free(import.parcels);
    free(import.vector);
    moult_exchange_close(import.exchange);
    moult_records_close(import.records);
    return ended;
}

void moult_import_result_release(struct moult_import_result *result) {
    for (unsigned i = 0; i < result->bad_count; i++)
        free(result->bad[i].why);
    free(result->ignored);
    result->bad_count = 0;
    result->ignored = NULL;
}
