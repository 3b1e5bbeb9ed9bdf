/* moult_model_encode(): many texts at once, on as many threads as the model has.
 *
 * First every text becomes ids, then texts of like length are put into groups, and
 * each group goes through the encoder on one thread. Both steps hand out their
 * items by a counter, so no thread waits for another before the step's end. The
 * longest come first, so that the last item is a small one. Threads for which there is no group
 * left help with the last one (split.h), which may be the only one. */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/machine.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "model/parts.h"

/* Where several texts are tokenised, at least so many per thread: less is done
 * before a sleeping thread is awake. */
enum {
    TEXTS_PER_HELPER = 8,
    GROUP_TOKENS = 512      /* What a group aims at: several spans of the encoder. */
};

struct item {
    uint32_t *ids;          /* Owned. NULL where tokenising failed. */
    uint32_t count;
    size_t text;            /* Its place in the call's arrays. */
};

struct batch {
    const struct moult_model *model;
    const struct moult_text *texts;
    size_t count;
    const char *prompt;
    float *vectors;
    struct moult_text_report *reports;
    struct item *items;     /* [count] */
    size_t *groups;         /* [group_count + 1]: the first item of each. */
    size_t group_count;
    bool shares;            /* The last group. */
    atomic_size_t next;     /* The first item, or group, that nobody has taken. */
    atomic_size_t groups_done;
};

static int tokenize_all(struct batch *batch, struct moult_error *error);
static void group_items(struct batch *batch);
static void encode_groups(void *context);
static void run(struct batch *batch, size_t shares, void (*work)(void *context));

int moult_model_encode(const struct moult_model *model, const struct moult_text *texts,
                       size_t count, enum moult_prompt prompt, float *vectors,
                       struct moult_text_report *reports, struct moult_error *error) {
    struct batch batch = {
        .model = model,
        .texts = texts,
        .count = count,
        .prompt = moult_model_prompt(model, prompt),
        .vectors = vectors,
        .reports = reports,
    };
    int result;

    if (count == 0)
        return 0;
    batch.items = moult_allocate(count, sizeof *batch.items);
    batch.groups = moult_allocate(count + 1, sizeof *batch.groups);
    result = tokenize_all(&batch, error);
    if (result == 0) {
        group_items(&batch);
        run(&batch, batch.group_count + (batch.shares ? MOULT_SHARE_THREADS_MAX - 1 : 0),
            encode_groups);
        if (atomic_load(&batch.groups_done) < batch.group_count)
            result = moult_fail(error, MOULT_ERROR_SYSTEM,
                                "There is no memory left to encode %zu texts.", count);
    }
    for (size_t i = 0; i < count; i++)
        free(batch.items[i].ids);
    free(batch.items);
    free(batch.groups);
    return result;
}

/* Seats. */

struct moult_crew *moult_crew_open(void) {
    struct moult_crew *crew = moult_allocate(1, sizeof *crew);

    pthread_mutex_init(&crew->lock, NULL);
    crew->split = moult_split_open();
    return crew;
}

void moult_crew_close(struct moult_crew *crew) {
    moult_team_close(crew->team);
    moult_split_close(crew->split);
    while (crew->free_seats != NULL) {
        struct moult_seat *seat = crew->free_seats;

        crew->free_seats = seat->next;
        moult_encoder_close(seat->encoder);
        moult_tokenizer_scratch_close(seat->scratch);
        free(seat->prompted);
        free(seat);
    }
    pthread_mutex_destroy(&crew->lock);
    free(crew);
}

static struct moult_seat *take_seat(const struct moult_model *model) {
    struct moult_crew *crew = model->crew;
    struct moult_seat *seat;

    pthread_mutex_lock(&crew->lock);
    seat = crew->free_seats;
    if (seat != NULL)
        crew->free_seats = seat->next;
    pthread_mutex_unlock(&crew->lock);
    if (seat == NULL) {
        seat = moult_allocate(1, sizeof *seat);
        seat->scratch = moult_tokenizer_scratch_open();
    }
    return seat;
}

static void give_seat_back(const struct moult_model *model, struct moult_seat *seat) {
    struct moult_crew *crew = model->crew;

    pthread_mutex_lock(&crew->lock);
    seat->next = crew->free_seats;
    crew->free_seats = seat;
    pthread_mutex_unlock(&crew->lock);
}

static struct moult_team *find_team(const struct moult_model *model) {
    struct moult_crew *crew = model->crew;

    pthread_mutex_lock(&crew->lock);
    if (crew->team == NULL)
        crew->team = moult_team_open(model->threads - 1);
    pthread_mutex_unlock(&crew->lock);
    return crew->team;
}

/* Runs `work`, which has use for so many threads, here and on as many helpers as there are. */
static void run(struct batch *batch, size_t shares, void (*work)(void *context)) {
    uint32_t helpers = batch->model->threads - 1;

    atomic_store(&batch->next, 0);
    if (shares <= helpers)
        helpers = shares > 0 ? (uint32_t)shares - 1 : 0;
    if (helpers == 0)
        work(batch);
    else
        moult_team_run(find_team(batch->model), helpers, work, batch);
}

/* The first step. */

/* ST and moult alike put a prompt before the text, and tokenise both as one. */
static struct moult_text with_prompt(struct moult_seat *seat, const char *prompt,
                                     struct moult_text text) {
    size_t prompt_size = strlen(prompt);

    if (prompt_size == 0)
        return text;
    if (prompt_size + text.size > seat->prompted_capacity) {
        seat->prompted_capacity = prompt_size + text.size;
        seat->prompted = moult_reallocate(seat->prompted, seat->prompted_capacity, 1);
    }
    memcpy(seat->prompted, prompt, prompt_size);
    if (text.size > 0)
        memcpy(seat->prompted + prompt_size, text.bytes, text.size);
    return (struct moult_text){.bytes = seat->prompted, .size = prompt_size + text.size};
}

static int tokenize(struct batch *batch, struct moult_seat *seat, size_t i,
                    struct moult_error *error) {
    struct item *item = &batch->items[i];
    struct moult_text text = batch->texts[i];
    struct moult_token_ids ids;

    if (!moult_utf8_valid(text.bytes, text.size))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Text %zu, counted from 0, is not valid UTF-8.", i);
    text = with_prompt(seat, batch->prompt, text);
    if (moult_tokenizer_encode(batch->model->tokenizer, seat->scratch, text.bytes, text.size,
                               batch->model->config.tokens_max, &ids, error) != 0)
        return moult_fail_within(error, "Text %zu, counted from 0", i);
    if (ids.count == 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Text %zu, counted from 0, has nothing in it that the model's tokenizer "
                          "keeps.", i);
    item->ids = moult_allocate(ids.count, sizeof *item->ids);
    memcpy(item->ids, ids.ids, ids.count * sizeof *item->ids);
    item->count = ids.count;
    item->text = i;
    if (batch->reports != NULL)
        batch->reports[i] =
            (struct moult_text_report){.tokens = ids.count, .truncated = ids.truncated};
    return 0;
}

static void tokenize_some(void *context) {
    struct batch *batch = context;
    struct moult_seat *seat = take_seat(batch->model);
    size_t i;

    while ((i = atomic_fetch_add(&batch->next, 1)) < batch->count)
        tokenize(batch, seat, i, NULL);
    give_seat_back(batch->model, seat);
}

/* The failure of the first text that has one is the failure of the call, whichever
 * thread met it first; it is made once more, now with its message. */
static int tokenize_all(struct batch *batch, struct moult_error *error) {
    int result = 0;

    run(batch, (batch->count + TEXTS_PER_HELPER - 1) / TEXTS_PER_HELPER, tokenize_some);
    for (size_t i = 0; result == 0 && i < batch->count; i++) {
        if (batch->items[i].ids == NULL) {
            struct moult_seat *seat = take_seat(batch->model);

            result = tokenize(batch, seat, i, error);
            give_seat_back(batch->model, seat);
        }
    }
    return result;
}

/* The second step. */

static int compare_items(const void *a, const void *b) {
    const struct item *x = a, *y = b;

    if (x->count != y->count)
        return x->count > y->count ? -1 : 1;
    return x->text < y->text ? -1 : x->text > y->text;
}

static size_t count_tokens(const struct batch *batch, size_t group) {
    size_t tokens = 0;

    for (size_t i = batch->groups[group]; i < batch->groups[group + 1]; i++)
        tokens += batch->items[i].count;
    return tokens;
}

/* Groups are smaller where there are too few texts to fill every thread. */
static void group_items(struct batch *batch) {
    const struct moult_model *model = batch->model;
    size_t tokens = 0, tokens_max, at = 0;

    for (size_t i = 0; i < batch->count; i++)
        tokens += batch->items[i].count;
    tokens_max = (tokens + model->threads - 1) / model->threads;
    if (tokens_max > GROUP_TOKENS)
        tokens_max = GROUP_TOKENS;
    qsort(batch->items, batch->count, sizeof *batch->items, compare_items);
    while (at < batch->count) {
        size_t sum = batch->items[at].count;

        batch->groups[batch->group_count++] = at++;
        while (at < batch->count && sum + batch->items[at].count <= tokens_max)
            sum += batch->items[at++].count;
    }
    batch->groups[batch->group_count] = batch->count;
    batch->shares = model->threads > 1 &&
                    count_tokens(batch, batch->group_count - 1) >=
                        moult_encoder_share_tokens(model) &&
                    moult_split_is_worth(model->crew->split, moult_clock_ns());
}

/* `split`: what this thread leads, or NULL. */
static void encode_group(struct batch *batch, struct moult_seat *seat, size_t group,
                         struct moult_split *split) {
    const struct moult_model *model = batch->model;
    size_t first = batch->groups[group];
    size_t C = model->config.width, B = batch->groups[group + 1] - first, T = 0, at = 0;
    uint32_t *lengths = moult_allocate(B, sizeof *lengths), *ids;
    float *vectors = moult_allocate(B * C, sizeof *vectors);

    for (size_t i = 0; i < B; i++)
        T += lengths[i] = batch->items[first + i].count;
    ids = moult_allocate(T, sizeof *ids);
    for (size_t i = 0; i < B; i++) {
        memcpy(ids + at, batch->items[first + i].ids, lengths[i] * sizeof *ids);
        at += lengths[i];
    }
    moult_encoder_run_shared(seat->encoder, split, ids, lengths, (uint32_t)B, vectors);
    for (size_t i = 0; i < B; i++) {
        float *vector = batch->vectors + batch->items[first + i].text * C;

        memcpy(vector, vectors + i * C, C * sizeof *vector);
        if (model->config.normalize)
            moult_vector_unit(model, vector);
    }
    free(ids);
    free(lengths);
    free(vectors);
}

static void lead_group(struct batch *batch, struct moult_seat *seat, size_t group) {
    struct moult_split *split = batch->model->crew->split;
    uint32_t threads = batch->model->threads;
    bool leads;

    threads = threads < MOULT_SHARE_THREADS_MAX ? threads : MOULT_SHARE_THREADS_MAX;
    leads = batch->shares && group + 1 == batch->group_count &&
            moult_split_begin(split, threads, moult_split_now());

    encode_group(batch, seat, group, leads ? split : NULL);
    if (leads)
        moult_split_end(split, moult_split_now());
    atomic_fetch_add(&batch->groups_done, 1);
}

static bool all_groups_are_done(void *context) {
    struct batch *batch = context;

    return atomic_load_explicit(&batch->groups_done, memory_order_relaxed) == batch->group_count;
}

static void encode_groups(void *context) {
    struct batch *batch = context;
    const struct moult_model *model = batch->model;
    struct moult_split *split = model->crew->split;
    struct moult_seat *seat = take_seat(model);
    uint32_t tokens_max = model->config.tokens_max;
    size_t i;

    if (seat->encoder == NULL)
        seat->encoder = moult_encoder_open(
            model, tokens_max > GROUP_TOKENS ? tokens_max : GROUP_TOKENS);
    while (seat->encoder != NULL && (i = atomic_fetch_add(&batch->next, 1)) < batch->group_count)
        lead_group(batch, seat, i);
    /* Who comes before the only group is led waits for that. */
    if (seat->encoder != NULL && batch->shares &&
        (batch->group_count == 1 || moult_split_led(split) != 0))
        moult_encoder_help(seat->encoder, split, all_groups_are_done, batch);
    give_seat_back(model, seat);
}
