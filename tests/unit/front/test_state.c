/* The state: as a document, and as it is kept on disk. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "front/keeper.h"
#include "front/state.h"
#include "front/sweep.h"

#define DIGEST_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DIGEST_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct moult_state_model model(uint64_t generation, const char *digest) {
    struct moult_state_model model = {.generation = generation, .since = 1700000000};
    memcpy(model.revision, digest, MOULT_SHA256_HEX);
    memcpy(model.fingerprint, digest, MOULT_SHA256_HEX);
    return model;
}

/* The n-th model of a slot, with a digest of its own. */
static struct moult_state_model nth_model(unsigned n) {
    char digest[MOULT_SHA256_HEX];
    snprintf(digest, sizeof digest, "%064x", n);
    struct moult_state_model made = model(n, digest);
    made.since = 1000 + n;
    return made;
}

static struct moult_state_slot *open_slot(struct moult_state *state, unsigned models,
                                          const struct moult_state_keeping *keeping) {
    moult_state_init(state);
    struct moult_state_slot *slot = moult_state_add(state, "a", "/a");
    slot->next_generation = 1000;
    for (unsigned n = 1; n <= models; n++) {
        struct moult_state_model next = nth_model(n);
        moult_state_succeed(state, slot, &next, keeping);
    }
    return slot;
}

static void what_was_replaced_is_kept_and_then_told_its_end(void **unused) {
    (void)unused;
    const struct moult_state_keeping keeping = {.models = 2, .notice_s = 100};
    struct moult_state state;
    struct moult_state_slot *slot = open_slot(&state, 6, &keeping);
    assert_int_equal(slot->current.generation, 6);
    assert_int_equal(slot->previous.generation, 5);
    assert_int_equal(slot->previous.until, 1006);
    assert_int_equal(slot->kept.count, 4);
    assert_int_equal(slot->kept.models[0].generation, 4);
    assert_int_equal(slot->kept.models[1].retires_at, 0);
    /* The second was pushed out by the sixth, the first by the fifth. */
    assert_int_equal(slot->kept.models[2].retires_at, 1106);
    assert_int_equal(slot->kept.models[3].retires_at, 1105);
    assert_int_equal(moult_state_next_end(&state), 1105);
    assert_false(moult_state_expire(&state, &keeping, 1104));
    assert_true(moult_state_expire(&state, &keeping, 1105));
    assert_int_equal(slot->kept.count, 3);
    /* What serves again is not kept besides, and the next one slides in: its end is taken back. */
    struct moult_state_model fourth = nth_model(4);
    fourth.since = 1105;
    moult_state_succeed(&state, slot, &fourth, &keeping);
    assert_int_equal(slot->kept.count, 3);
    assert_int_equal(slot->previous.generation, 6);
    assert_int_equal(slot->kept.models[0].generation, 5);
    assert_int_equal(slot->kept.models[1].generation, 3);
    assert_int_equal(slot->kept.models[2].retires_at, 1106);
    /* The same files once more change nothing. */
    moult_state_succeed(&state, slot, &fourth, &keeping);
    assert_int_equal(slot->kept.count, 3);
    assert_int_equal(slot->previous.generation, 6);
    moult_state_release(&state);
}

static void a_lease_takes_an_end_back_and_gives_it_anew(void **unused) {
    (void)unused;
    const struct moult_state_keeping keeping = {.models = 0, .notice_s = 100};
    struct moult_state state;
    struct moult_error error;
    struct moult_state_slot *slot = open_slot(&state, 3, &keeping);
    assert_int_equal(slot->kept.models[0].retires_at, 1103);
    struct moult_state_lease *lease =
        moult_state_lease_add(&state, "a", slot->kept.models[0].fingerprint, &error);
    lease->expires = 5000;
    moult_state_settle_kept(&state, slot, &keeping, 1050);
    assert_int_equal(slot->kept.models[0].retires_at, 0);
    assert_int_equal(moult_state_next_end(&state), 5000);
    assert_false(moult_state_expire(&state, &keeping, 4999));
    assert_true(moult_state_expire(&state, &keeping, 5000));
    assert_int_equal(state.lease_count, 0);
    assert_int_equal(slot->kept.models[0].retires_at, 5100);
    moult_state_release(&state);
}

static void no_more_is_kept_than_there_is_room_for(void **unused) {
    (void)unused;
    const struct moult_state_keeping keeping = {.models = 1, .notice_s = 1000000};
    struct moult_state state;
    struct moult_error error;
    struct moult_state_slot *slot = open_slot(&state, 3, &keeping);
    struct moult_state_lease *lease =
        moult_state_lease_add(&state, "a", slot->kept.models[0].fingerprint, &error);
    lease->expires = UINT64_MAX;
    for (unsigned n = 4; n < 100; n++) {
        struct moult_state_model next = nth_model(n);
        moult_state_succeed(&state, slot, &next, &keeping);
    }
    assert_int_equal(slot->kept.count, MOULT_KEPT_MAX);
    assert_int_equal(slot->kept.models[0].generation, 97);
    assert_int_equal(slot->kept.models[MOULT_KEPT_MAX - 1].generation, 1);
    /* One of an equal fingerprint cannot be called any more. */
    struct moult_state_model twin = nth_model(100);
    memcpy(twin.fingerprint, slot->kept.models[0].fingerprint, sizeof twin.fingerprint);
    moult_state_succeed(&state, slot, &twin, &keeping);
    for (unsigned i = 0; i < slot->kept.count; i++)
        assert_string_not_equal(slot->kept.models[i].fingerprint, twin.fingerprint);
    moult_state_release(&state);
}

static void leases_have_limits(void **unused) {
    (void)unused;
    struct moult_state state;
    struct moult_error error;
    char fingerprint[MOULT_SHA256_HEX];
    moult_state_init(&state);
    for (unsigned i = 0; i < MOULT_LEASED_MODELS_MAX; i++) {
        snprintf(fingerprint, sizeof fingerprint, "%064x", i);
        struct moult_state_lease *lease = moult_state_lease_add(&state, "a", fingerprint, &error);
        assert_non_null(lease);
        lease->expires = 10 + i;
    }
    assert_null(moult_state_lease_add(&state, "a", DIGEST_A, &error));
    assert_int_equal(error.code, MOULT_ERROR_LIMIT);
    while (state.lease_count < MOULT_LEASES_MAX) {
        struct moult_state_lease *lease = moult_state_lease_add(&state, "a", fingerprint, &error);
        assert_non_null(lease);
        lease->expires = 9;
    }
    assert_null(moult_state_lease_add(&state, "b", fingerprint, &error));
    assert_int_equal(moult_state_leased_until(&state, "a", fingerprint), 17);
    assert_int_equal(moult_state_leased_until(&state, "b", fingerprint), 0);
    /* As JSON, and back. */
    size_t size;
    struct moult_state again;
    char *bytes = moult_state_format(&state, &size);
    moult_state_init(&again);
    assert_int_equal(moult_state_parse(&again, bytes, size, &error), 0);
    assert_int_equal(again.lease_count, MOULT_LEASES_MAX);
    assert_string_equal(again.leases[200].id, state.leases[200].id);
    free(bytes);
    moult_state_release(&again);
    moult_state_release(&state);
}

static void is_read_as_it_was_written(void **unused) {
    (void)unused;
    struct moult_state state, again;
    size_t size, size_again;
    moult_state_init(&state);
    struct moult_state_slot *slot = moult_state_add(&state, "minilm", "/models/\"a\"\n");
    moult_state_add(&state, "other", "");
    slot->next_generation = 9;
    slot->current = model(8, DIGEST_A);
    slot->previous = model(7, DIGEST_B);
    snprintf(slot->seen, sizeof slot->seen, "%s E\"5-6\"", DIGEST_A);
    slot->previous.dimensions = 384;
    slot->previous.rung = (struct moult_rung){MOULT_PRECISION_INT16, 0.99999125, "A \"CPU\""};
    slot->kept.models[0] = model(5, DIGEST_B);
    slot->kept.models[0].retires_at = 1700000009;
    slot->kept.models[0].bytes = 12345678901;
    slot->kept.count = 1;
    moult_state_refuse(slot, DIGEST_B);
    moult_state_note(slot, 5, 8, MOULT_UPDATE_LIVE, "Rolled \"back\".", 1700000000);
    moult_state_note(slot, 6, 0, MOULT_UPDATE_CANCELLED, "", 1700000001);
    char *bytes = moult_state_format(&state, &size);
    moult_state_init(&again);
    assert_int_equal(moult_state_parse(&again, bytes, size, NULL), 0);
    char *bytes_again = moult_state_format(&again, &size_again);
    assert_string_equal(bytes, bytes_again);
    slot = moult_state_find(&again, "minilm");
    assert_string_equal(slot->source, "/models/\"a\"\n");
    assert_int_equal(slot->previous.generation, 7);
    assert_string_equal(slot->seen, DIGEST_A " E\"5-6\"");
    assert_int_equal(slot->previous.dimensions, 384);
    assert_int_equal(slot->previous.rung.precision, MOULT_PRECISION_INT16);
    assert_true(slot->previous.rung.fidelity == 0.99999125);
    assert_string_equal(slot->previous.rung.cpu, "A \"CPU\"");
    assert_int_equal(slot->current.rung.precision, MOULT_PRECISION_AUTO);
    assert_int_equal(slot->kept.count, 1);
    assert_int_equal(slot->kept.models[0].retires_at, 1700000009);
    assert_int_equal(slot->kept.models[0].bytes, 12345678901);
    assert_true(moult_state_refused(slot, DIGEST_B));
    assert_false(moult_state_refused(slot, DIGEST_A));
    assert_int_equal(moult_state_last_id(&again), 6);
    assert_int_equal(moult_state_find(&again, "other")->current.generation, 0);
    free(bytes);
    free(bytes_again);
    moult_state_release(&state);
    moult_state_release(&again);
}

static void history_and_refusals_have_an_end(void **unused) {
    (void)unused;
    struct moult_state state;
    moult_state_init(&state);
    struct moult_state_slot *slot = moult_state_add(&state, "a", "/a");
    for (uint64_t id = 1; id <= MOULT_HISTORY_MAX + 7; id++)
        moult_state_note(slot, id, id, MOULT_UPDATE_LIVE, "", id);
    assert_int_equal(slot->history_count, MOULT_HISTORY_MAX);
    assert_int_equal(slot->history[0].id, 8);
    for (unsigned i = 0; i < MOULT_STATE_REFUSED_MAX + 3; i++) {
        char digest[MOULT_SHA256_HEX];
        moult_sha256_of(&i, sizeof i, digest);
        moult_state_refuse(slot, digest);
        moult_state_refuse(slot, digest);   /* Once is enough. */
    }
    assert_int_equal(slot->refused_count, MOULT_STATE_REFUSED_MAX);
    moult_state_forgive(slot, slot->refused[0]);
    assert_int_equal(slot->refused_count, MOULT_STATE_REFUSED_MAX - 1);
    moult_state_release(&state);
}

static void there_are_so_many_slots(void **unused) {
    (void)unused;
    struct moult_state state;
    char name[16];
    moult_state_init(&state);
    for (unsigned i = 0; i < MOULT_SLOTS_MAX; i++) {
        snprintf(name, sizeof name, "s%u", i);
        assert_non_null(moult_state_add(&state, name, "/s"));
    }
    assert_null(moult_state_add(&state, "one-more", "/s"));
    moult_state_release(&state);
}

static void refuse(const char *text, const char *part) {
    struct moult_state state;
    struct moult_error error = {0};
    moult_state_init(&state);
    if (moult_state_parse(&state, text, strlen(text), &error) == 0)
        fail_msg("taken: %s", text);
    if (strstr(error.message, part) == NULL)
        fail_msg("\"%s\" does not say %s", error.message, part);
    moult_state_release(&state);
}

#define SLOT(name, next, current, more)                                                            \
    "{\"version\":1,\"slots\":[{\"name\":" name ",\"source\":\"/m\",\"next_generation\":" next     \
    ",\"current\":" current ",\"previous\":null,\"refused\":[]," more "}]}"
#define MODEL(generation, digest)                                                                  \
    "{\"generation\":" generation ",\"since\":1,\"revision\":\"" digest "\",\"fingerprint\":\""    \
    DIGEST_A "\"}"

static void what_is_no_state_is_refused(void **unused) {
    (void)unused;
    refuse("", "empty");
    refuse("[]", "object");
    refuse("{}", "version");
    refuse("{\"version\":2,\"slots\":[]}", "version 2");
    refuse("{\"version\":1}", "slots");
    refuse("{\"version\":1,\"slots\":[7]}", "name");
    refuse(SLOT("\"a/b\"", "1", "null", "\"history\":[]"), "name");
    refuse(SLOT("\"\"", "1", "null", "\"history\":[]"), "name");
    refuse(SLOT("\"a\"", "-1", "null", "\"history\":[]"), "next_generation");
    refuse(SLOT("\"a\"", "1", "7", "\"history\":[]"), "current");
    refuse(SLOT("\"a\"", "2", MODEL("1", "abc"), "\"history\":[]"), "revision");
    refuse(SLOT("\"a\"", "2", MODEL("0", DIGEST_A), "\"history\":[]"), "generation");
    /* A number that has been given away already must not be given again. */
    refuse(SLOT("\"a\"", "3", MODEL("3", DIGEST_A), "\"history\":[]"), "next_generation");
    refuse(SLOT("\"a\"", "1", "null", "\"history\":[{}]"), "history");
    refuse(SLOT("\"a\"", "1", "null",
                "\"history\":[{\"id\":1,\"generation\":1,\"at\":1,\"reason\":\"\","
                "\"result\":\"running\"}]"),
           "result");
    refuse(SLOT("\"a\"", "1", "null", "\"history\":0"), "history");
#define EVENT(more)                                                                                \
    SLOT("\"a\"", "1", "null",                                                                     \
         "\"history\":[{\"id\":1,\"generation\":1,\"at\":1,\"reason\":\"\"," \
         "\"result\":\"live\"," more "}]")
    refuse(EVENT("\"seconds\":\"long\""), "seconds");
    refuse(EVENT("\"seconds\":-1"), "seconds");
    refuse(EVENT("\"phases\":7"), "phases");
    refuse(EVENT("\"phases\":{\"loading\":[]}"), "loading");
    refuse(EVENT("\"memory\":{\"both_bytes\":1.5}"), "both_bytes");
    refuse(EVENT("\"latency\":{\"p99_during_ms\":null}"), "p99_during_ms");
    refuse(EVENT("\"fetched_bytes\":-1"), "fetched_bytes");
    refuse(EVENT("\"revision\":\"abc\""), "revision");
}

/* As moult 0.1 wrote them, and with what a later one may add. */
static void older_and_newer_histories_are_read(void **unused) {
    (void)unused;
    const char *texts[] = {EVENT("\"other\":1"),
                           EVENT("\"asked_by\":\"nobody\",\"phases\":{\"dreaming\":3}")};
    for (unsigned i = 0; i < 2; i++) {
        struct moult_state state;
        moult_state_init(&state);
        assert_int_equal(moult_state_parse(&state, texts[i], strlen(texts[i]), NULL), 0);
        const struct moult_state_event *event = &moult_state_find(&state, "a")->history[0];
        assert_int_equal(event->asked_by, MOULT_ASKED_BY_PERSON);
        assert_string_equal(event->revision, "");
        assert_true(event->figures.seconds == 0 && event->figures.candidate_bytes == 0);
        moult_state_release(&state);
    }
}

static void what_an_update_took_is_kept(void **unused) {
    (void)unused;
    struct moult_state state, again;
    size_t size;
    moult_state_init(&state);
    struct moult_state_slot *slot = moult_state_add(&state, "a", "/a");
    struct moult_state_event *event = moult_state_note(slot, 3, 2, MOULT_UPDATE_LIVE, "", 17);
    memcpy(event->revision, DIGEST_B, MOULT_SHA256_HEX);
    event->asked_by = MOULT_ASKED_BY_TAKE_OVER;
    event->rollback = true;
    event->figures = (struct moult_update_figures){
        .seconds = 1.25, .fetched_bytes = 12, .candidate_bytes = 1ull << 33,
        .both_bytes = 1ull << 34, .p99_before_ms = 0.5, .p99_during_ms = 1.75};
    event->figures.phase_seconds[MOULT_PHASE_LOAD] = 0.125;
    char *bytes = moult_state_format(&state, &size);
    moult_state_init(&again);
    assert_int_equal(moult_state_parse(&again, bytes, size, NULL), 0);
    const struct moult_state_event *read = &moult_state_find(&again, "a")->history[0];
    assert_string_equal(read->revision, DIGEST_B);
    assert_int_equal(read->asked_by, MOULT_ASKED_BY_TAKE_OVER);
    assert_true(read->rollback);
    assert_memory_equal(&read->figures, &event->figures, sizeof read->figures);
    free(bytes);
    moult_state_release(&state);
    moult_state_release(&again);
}

static void a_slot_whose_start_failed_is_forgotten(void **unused) {
    (void)unused;
    struct moult_state state, again;
    size_t size;
    moult_state_init(&state);
    moult_state_add(&state, "a", "/a")->failed_start = true;
    moult_state_add(&state, "b", "/b");
    char *bytes = moult_state_format(&state, &size);
    moult_state_init(&again);
    assert_int_equal(moult_state_parse(&again, bytes, size, NULL), 0);
    assert_int_equal(again.count, 1);
    assert_non_null(moult_state_find(&again, "b"));
    free(bytes);
    moult_state_release(&state);
    moult_state_release(&again);
}

/* On disk. */

struct folder {
    char root[64];
    char *data;
    uv_loop_t loop;
};

static int make_folder(void **state) {
    struct folder *folder = moult_allocate(1, sizeof *folder);
    snprintf(folder->root, sizeof folder->root, "/tmp/moult-state-XXXXXX");
    assert_non_null(mkdtemp(folder->root));
    folder->data = moult_format("%s/data", folder->root);
    uv_loop_init(&folder->loop);
    *state = folder;
    return 0;
}

static int remove_folder(void **state) {
    struct folder *folder = *state;
    assert_int_equal(uv_loop_close(&folder->loop), 0);
    assert_int_equal(moult_folder_remove(AT_FDCWD, folder->root, NULL), 0);
    free(folder->data);
    free(folder);
    return 0;
}

static unsigned told, told_failed;

static void on_saved(void *context, uint64_t tag, const struct moult_error *error) {
    struct folder *folder = context;
    told++;
    told_failed += error != NULL;
    if (error != NULL)
        return;
    /* What was asked for is there at this moment. */
    char *path = moult_format("%s/state.json", folder->data);
    char *bytes;
    size_t size;
    struct moult_state state;
    assert_int_equal(moult_file_read(AT_FDCWD, path, MOULT_STATE_BYTES_MAX, &bytes, &size, NULL),
                     0);
    moult_state_init(&state);
    assert_int_equal(moult_state_parse(&state, bytes, size, NULL), 0);
    assert_true(moult_state_find(&state, "a")->next_generation >= tag);
    moult_state_release(&state);
    free(bytes);
    free(path);
}

static void saves_in_order_and_tells_when_it_is_durable(void **unused) {
    struct folder *folder = *unused;
    struct moult_keeper *keeper = moult_keeper_open(&folder->loop, folder->data, NULL);
    assert_non_null(keeper);
    struct moult_state_slot *slot = moult_state_add(moult_keeper_state(keeper), "a", "/a");
    told = told_failed = 0;
    for (uint64_t i = 1; i <= 100; i++) {
        slot->next_generation = i;
        moult_keeper_save(keeper, on_saved, folder, i);
    }
    assert_int_equal(told, 0);
    uv_run(&folder->loop, UV_RUN_DEFAULT);
    assert_int_equal(told, 100);
    assert_int_equal(told_failed, 0);
    moult_keeper_close(keeper);
    keeper = moult_keeper_open(&folder->loop, folder->data, NULL);
    assert_int_equal(moult_state_find(moult_keeper_state(keeper), "a")->next_generation, 100);
    moult_keeper_close(keeper);
}

static void a_save_that_fails_says_so(void **unused) {
    struct folder *folder = *unused;
    struct moult_keeper *keeper = moult_keeper_open(&folder->loop, folder->data, NULL);
    char *in_the_way = moult_format("%s/state.json.new/x", folder->data);
    assert_int_equal(moult_folder_make(in_the_way, NULL), 0);
    moult_state_add(moult_keeper_state(keeper), "a", "/a");
    told = told_failed = 0;
    moult_keeper_save(keeper, on_saved, folder, 1);
    uv_run(&folder->loop, UV_RUN_DEFAULT);
    assert_int_equal(told, 1);
    assert_int_equal(told_failed, 1);
    assert_true(moult_keeper_quiet(keeper));
    moult_keeper_close(keeper);
    free(in_the_way);
}

static void the_folder_is_for_one_server(void **unused) {
    struct folder *folder = *unused;
    struct moult_error error;
    struct moult_keeper *keeper = moult_keeper_open(&folder->loop, folder->data, NULL);
    assert_non_null(keeper);
    assert_null(moult_keeper_open(&folder->loop, folder->data, &error));
    assert_int_equal(error.code, MOULT_ERROR_UNAVAILABLE);
    assert_non_null(strstr(error.message, "Another moult"));
    moult_keeper_close(keeper);
    keeper = moult_keeper_open(&folder->loop, folder->data, &error);
    assert_non_null(keeper);
    moult_keeper_close(keeper);
}

/* As a child of a killed server does until it has executed its own program. */
static void a_lock_that_is_about_to_go_is_waited_for(void **unused) {
    struct folder *folder = *unused;
    struct moult_error error;
    char *path = moult_format("%s/lock", folder->data);
    assert_int_equal(moult_folder_make(folder->data, NULL), 0);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    pid_t child = fork();
    if (child == 0) {
        usleep(100000);
        _exit(0);
    }
    close(fd);
    struct moult_keeper *keeper = moult_keeper_open(&folder->loop, folder->data, &error);
    assert_non_null(keeper);
    moult_keeper_close(keeper);
    assert_int_equal(waitpid(child, NULL, 0), child);
    free(path);
}

static void make_revision(const struct folder *folder, const char *name) {
    char *path = moult_format("%s/models/%s", folder->data, name);
    char *file = moult_format("%s/config.json", path);
    assert_int_equal(moult_folder_make(path, NULL), 0);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
    assert_true(fd >= 0);
    close(fd);
    free(file);
    free(path);
}

static bool revision_exists(const struct folder *folder, const char *name) {
    char *path = moult_format("%s/models/%s", folder->data, name);
    bool exists = access(path, F_OK) == 0;
    free(path);
    return exists;
}

static void on_swept(void *context) {
    ++*(int *)context;
}

static void what_nobody_uses_is_swept_away(void **unused) {
    struct folder *folder = *unused;
    static const char *const leftovers[] = {".incoming-12", ".removed-bbbbbbbb"};
    int swept = 0;
    make_revision(folder, DIGEST_A);
    make_revision(folder, DIGEST_B);
    make_revision(folder, "somebody's own");
    for (int i = 0; i < 2; i++)
        make_revision(folder, leftovers[i]);
    char(*keep)[MOULT_SHA256_HEX] = moult_allocate(1, sizeof *keep);
    memcpy(keep[0], DIGEST_A, sizeof keep[0]);
    char *models = moult_format("%s/models", folder->data);
    assert_non_null(moult_sweep_start(&folder->loop, models, keep, 1, on_swept, &swept));
    uv_run(&folder->loop, UV_RUN_DEFAULT);
    assert_int_equal(swept, 1);
    assert_true(revision_exists(folder, DIGEST_A));
    assert_true(revision_exists(folder, "somebody's own"));
    assert_false(revision_exists(folder, DIGEST_B));
    for (int i = 0; i < 2; i++)
        assert_false(revision_exists(folder, leftovers[i]));
    free(models);
}

static void a_damaged_state_is_not_taken_for_an_empty_one(void **unused) {
    struct folder *folder = *unused;
    struct moult_error error;
    assert_int_equal(moult_folder_make(folder->data, NULL), 0);
    char *path = moult_format("%s/state.json", folder->data);
    FILE *file = fopen(path, "w");
    fputs("{\"version\": 1, \"slo", file);
    fclose(file);
    assert_null(moult_keeper_open(&folder->loop, folder->data, &error));
    assert_non_null(strstr(error.message, "state.json cannot be used"));
    free(path);
}

static void names_of_slots(void **unused) {
    (void)unused;
    char longest[MOULT_MODEL_NAME_BYTES_MAX + 2];
    memset(longest, 'a', sizeof longest);
    longest[MOULT_MODEL_NAME_BYTES_MAX] = '\0';
    assert_true(moult_slot_name_valid("all-MiniLM-L6-v2"));
    assert_true(moult_slot_name_valid("a.b_c"));
    assert_true(moult_slot_name_valid(longest));
    longest[MOULT_MODEL_NAME_BYTES_MAX] = 'a';
    longest[MOULT_MODEL_NAME_BYTES_MAX + 1] = '\0';
    assert_false(moult_slot_name_valid(longest));
    assert_false(moult_slot_name_valid(""));
    assert_false(moult_slot_name_valid("a@b"));
    assert_false(moult_slot_name_valid("a:b"));
    assert_false(moult_slot_name_valid("a b"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_read_as_it_was_written),
        cmocka_unit_test(what_was_replaced_is_kept_and_then_told_its_end),
        cmocka_unit_test(a_lease_takes_an_end_back_and_gives_it_anew),
        cmocka_unit_test(no_more_is_kept_than_there_is_room_for),
        cmocka_unit_test(leases_have_limits),
        cmocka_unit_test(history_and_refusals_have_an_end),
        cmocka_unit_test(there_are_so_many_slots),
        cmocka_unit_test(what_is_no_state_is_refused),
        cmocka_unit_test(older_and_newer_histories_are_read),
        cmocka_unit_test(what_an_update_took_is_kept),
        cmocka_unit_test(a_slot_whose_start_failed_is_forgotten),
        cmocka_unit_test(names_of_slots),
        cmocka_unit_test_setup_teardown(saves_in_order_and_tells_when_it_is_durable, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_save_that_fails_says_so, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(the_folder_is_for_one_server, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_lock_that_is_about_to_go_is_waited_for, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(what_nobody_uses_is_swept_away, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(a_damaged_state_is_not_taken_for_an_empty_one, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
