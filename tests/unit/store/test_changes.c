#include "helper.h"

/* What a follower holds: which versions, and with how many chunks. It does what the changes say
 * and nothing else, as an index would. */
#define HELD_MAX 512

struct follower {
    uint64_t cursor;
    uint64_t seqs[HELD_MAX];
    uint32_t collections[HELD_MAX];
    unsigned count;
};

static void forget(struct follower *follower, unsigned at) {
    follower->count--;
    follower->seqs[at] = follower->seqs[follower->count];
    follower->collections[at] = follower->collections[follower->count];
}

static void apply(struct follower *follower, const struct moult_store_change *change) {
    for (unsigned i = follower->count; i-- > 0;)
        if ((change->removes != 0 && follower->seqs[i] == change->removes) ||
            (change->drops && follower->collections[i] == change->collection))
            forget(follower, i);
    if (!change->puts)
        return;
    assert_true(follower->count < HELD_MAX);
    follower->seqs[follower->count] = change->seq;
    follower->collections[follower->count++] = change->collection;
}

/* One call. True: nothing lies behind it. */
static bool follow_some(struct place *place, struct follower *follower, const char *slot,
                        uint32_t count_max) {
    struct moult_changes changes;
    uint64_t seq = follower->cursor;
    GOOD(moult_store_changes(place->reader, slot, 0, follower->cursor, count_max, 1000000,
                             &changes, &error));
    assert_true(changes.count <= count_max);
    for (uint32_t i = 0; i < changes.count; i++) {
        assert_true(changes.items[i].seq > seq);
        seq = changes.items[i].seq;
        assert_true(changes.items[i].removes <= follower->cursor);
        apply(follower, &changes.items[i]);
    }
    assert_true(changes.cursor >= seq);
    follower->cursor = changes.cursor;
    bool complete = changes.complete;
    moult_changes_release(&changes);
    return complete;
}

static void follow(struct place *place, struct follower *follower, const char *slot) {
    while (!follow_some(place, follower, slot, 7))
        continue;
}

static bool holds(const struct follower *follower, uint64_t seq) {
    for (unsigned i = 0; i < follower->count; i++)
        if (follower->seqs[i] == seq)
            return true;
    return false;
}

static void expect_behind(struct place *place, const char *slot, uint64_t cursor,
                          uint64_t expected) {
    uint64_t behind;
    GOOD(moult_store_behind(place->reader, slot, cursor, &behind, &error));
    assert_int_equal(expected, behind);
}

static void learns_of_documents(void **state) {
    struct place *place = *state;
    struct follower follower = {0};
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t a = put_one(place, c, "a", "one", NULL), b = put_one(place, c, "b", "two", NULL);
    expect_behind(place, "minilm", 0, 2);
    expect_behind(place, "minilm", a, 1);
    follow(place, &follower, "minilm");
    assert_int_equal(2, follower.count);
    assert_true(holds(&follower, a) && holds(&follower, b));
    assert_int_equal(b, follower.cursor);
    expect_behind(place, "minilm", b, 0);
    delete_one(place, c, "a");
    expect_behind(place, "minilm", b, 1);
    follow(place, &follower, "minilm");
    assert_int_equal(1, follower.count);
    assert_true(holds(&follower, b));
}

/* The case of the header: it holds 5, and 9 and 12 came since. */
static void sleeps_through_versions(void **state) {
    struct place *place = *state;
    struct follower follower = {0};
    struct moult_changes changes;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t first = put_one(place, c, "a", "first", NULL);
    follow(place, &follower, "minilm");
    uint64_t second = put_one(place, c, "a", "second", NULL);
    uint64_t third = put_one(place, c, "a", "third", NULL);
    expect_behind(place, "minilm", follower.cursor, 2);
    GOOD(moult_store_changes(place->reader, "minilm", 0, follower.cursor, 9, 1000, &changes,
                             &error));
    assert_int_equal(2, changes.count);
    assert_true(changes.complete);
    assert_int_equal(second, changes.items[0].seq);
    assert_int_equal(first, changes.items[0].removes);
    assert_false(changes.items[0].puts);
    assert_int_equal(third, changes.items[1].seq);
    assert_int_equal(0, changes.items[1].removes);
    assert_true(changes.items[1].puts);
    moult_changes_release(&changes);
    /* One that begins now has nothing to remove. */
    GOOD(moult_store_changes(place->reader, "minilm", 0, 0, 9, 1000, &changes, &error));
    assert_int_equal(1, changes.count);
    assert_int_equal(third, changes.items[0].seq);
    moult_changes_release(&changes);
}

static void an_upsert_is_one_change(void **state) {
    struct place *place = *state;
    struct moult_changes changes;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t first = put_one(place, c, "a", "first", NULL);
    uint64_t second = put_one(place, c, "a", "second", NULL);
    GOOD(moult_store_changes(place->reader, "minilm", 0, first, 9, 1000, &changes, &error));
    assert_int_equal(1, changes.count);
    assert_int_equal(second, changes.items[0].seq);
    assert_int_equal(first, changes.items[0].removes);
    assert_true(changes.items[0].puts);
    moult_changes_release(&changes);
    expect_behind(place, "minilm", first, 1);
}

static void follows_its_own_slot(void **state) {
    struct place *place = *state;
    struct follower mini = {0}, large = {0}, nobody = {0};
    uint32_t c = make_collection(place, "a", "mini"), d = make_collection(place, "b", "large");
    uint32_t e = make_collection(place, "c", "mini");
    uint64_t first = put_one(place, c, "x", "one", NULL);
    uint64_t second = put_one(place, d, "x", "two", NULL);
    uint64_t third = put_one(place, e, "x", "three", NULL);
    uint64_t last = put_one(place, d, "x", "four", NULL);
    follow(place, &mini, "mini");
    follow(place, &large, "large");
    follow(place, &nobody, "nobody");
    assert_int_equal(2, mini.count);
    assert_true(holds(&mini, first) && holds(&mini, third));
    assert_int_equal(1, large.count);
    assert_true(holds(&large, last) && !holds(&large, second));
    assert_int_equal(0, nobody.count);
    /* What others were given lies behind all of them. */
    assert_int_equal(last, mini.cursor);
    assert_int_equal(last, nobody.cursor);
    expect_behind(place, "nobody", 0, 0);
}

static void gives_chunks_or_texts(void **state) {
    struct place *place = *state;
    struct moult_changes changes;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t space = make_space(place, "minilm", 'a'), other = make_space(place, "minilm", 'b');
    uint64_t a = put_one(place, c, "a", "0123456789", NULL);
    uint64_t b = put_one(place, c, "b", "uncut", NULL);
    cut_one(place, other, b, 5, 1);
    uint32_t row = cut_one(place, space, a, 10, 3);
    GOOD(moult_store_changes(place->reader, "minilm", space, 0, 9, 1000, &changes, &error));
    assert_int_equal(2, changes.count);
    assert_int_equal(3, changes.items[0].chunk_count);
    assert_null(changes.items[0].text);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(10 * i / 3, changes.items[0].chunks[i].begin);
        assert_int_equal(10 * (i + 1) / 3, changes.items[0].chunks[i].end);
        assert_int_equal(row + i, changes.items[0].chunks[i].row);
    }
    assert_int_equal(b, changes.items[1].seq);
    assert_int_equal(0, changes.items[1].chunk_count);
    assert_string_equal("uncut", changes.items[1].text);
    assert_int_equal(5, changes.items[1].text_size);
    moult_changes_release(&changes);
    GOOD(moult_store_changes(place->reader, "minilm", 0, 0, 9, 1000, &changes, &error));
    assert_null(changes.items[0].text);
    assert_int_equal(0, changes.items[0].chunk_count);
    moult_changes_release(&changes);
}

static void ends_a_portion_by_its_bytes(void **state) {
    struct place *place = *state;
    struct moult_changes changes;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t space = make_space(place, "minilm", 'a');
    char text[1001];
    memset(text, 't', 1000);
    text[1000] = '\0';
    for (unsigned i = 0; i < 9; i++) {
        char id[2] = {(char)('a' + i), '\0'};
        put_one(place, c, id, text, NULL);
    }
    GOOD(moult_store_changes(place->reader, "minilm", space, 0, 99, 3500, &changes, &error));
    assert_int_equal(4, changes.count);
    assert_int_equal(changes.items[3].seq, changes.cursor);
    assert_false(changes.complete);
    moult_changes_release(&changes);
    GOOD(moult_store_changes(place->reader, "minilm", space, 0, 99, 0, &changes, &error));
    assert_int_equal(1, changes.count);
    moult_changes_release(&changes);
}

static void forgets_a_dropped_collection(void **state) {
    struct place *place = *state;
    struct follower follower = {0}, late = {0};
    uint64_t seq;
    uint32_t c = make_collection(place, "a", "minilm"), d = make_collection(place, "b", "minilm");
    for (unsigned i = 0; i < 20; i++) {
        char id[8];
        snprintf(id, sizeof id, "%u", i);
        put_one(place, c, id, "text", NULL);
    }
    uint64_t kept = put_one(place, d, "kept", "text", NULL);
    follow(place, &follower, "minilm");
    put_one(place, c, "late", "text", NULL);
    GOOD(moult_store_begin(place->writer, &error));
    GOOD(moult_store_collection_drop(place->writer, "a", &seq, &error));
    GOOD(moult_store_commit(place->writer, &error));
    expect_behind(place, "minilm", 0, 2);
    expect_behind(place, "minilm", follower.cursor, 1);
    follow(place, &follower, "minilm");
    assert_int_equal(1, follower.count);
    assert_true(holds(&follower, kept));
    assert_int_equal(seq, follower.cursor);
    follow(place, &late, "minilm");
    assert_int_equal(1, late.count);
}

/* Changes at random, followers that begin and sleep at random, purges: in the end each follower
 * holds what the table holds. */
static void never_loses_or_revives(void **state) {
    struct place *place = *state;
    struct follower followers[5] = {{0}};
    uint32_t collections[3];
    unsigned seed = 12345;
    for (unsigned i = 0; i < 3; i++) {
        char name[2] = {(char)('a' + i), '\0'};
        collections[i] = make_collection(place, name, "minilm");
    }
    for (unsigned step = 0; step < 1500; step++) {
        seed = seed * 1103515245 + 12345;
        unsigned dice = seed >> 16;
        char id[8];
        snprintf(id, sizeof id, "%u", dice / 64 % 40);
        uint32_t c = collections[dice / 8 % 3];
        struct follower *follower = &followers[dice / 4 % 5];
        if (dice % 16 == 0)
            *follower = (struct follower){0};
        else if (dice % 16 < 5)
            follow_some(place, follower, "minilm", 1 + dice / 128 % 6);
        else if (dice % 16 < 8)
            delete_one(place, c, id);
        else if (dice % 16 == 8) {
            uint64_t least = UINT64_MAX;
            for (unsigned i = 0; i < 5; i++)
                if (followers[i].cursor > 0 && followers[i].cursor < least)
                    least = followers[i].cursor;
            GOOD(moult_store_begin(place->writer, &error));
            if (least != UINT64_MAX)
                GOOD(moult_store_purge(place->writer, "minilm", least, 1000, &error));
            GOOD(moult_store_commit(place->writer, &error));
        } else
            put_one(place, c, id, dice & 512 ? "heads" : "tails", NULL);
    }
    struct follower fresh = {0};
    follow(place, &fresh, "minilm");
    assert_true(fresh.count > 60);
    for (unsigned i = 0; i < 5; i++) {
        follow(place, &followers[i], "minilm");
        assert_int_equal(fresh.count, followers[i].count);
        for (unsigned n = 0; n < fresh.count; n++)
            assert_true(holds(&followers[i], fresh.seqs[n]));
    }
}

static void purges_in_portions(void **state) {
    struct place *place = *state;
    struct moult_store_numbers numbers;
    uint32_t c = make_collection(place, "default", "minilm");
    uint32_t d = make_collection(place, "other", "large");
    put_one(place, d, "a", "text", NULL);
    delete_one(place, d, "a");
    uint64_t seq = 0;
    for (unsigned i = 0; i < 10; i++)
        seq = put_one(place, c, "a", i % 2 ? "odd" : "even", NULL);
    GOOD(moult_store_begin(place->writer, &error));
    assert_int_equal(5, moult_store_purge(place->writer, "minilm", seq - 1, 5, NULL));
    assert_int_equal(3, moult_store_purge(place->writer, "minilm", seq - 1, 5, NULL));
    assert_int_equal(0, moult_store_purge(place->writer, "minilm", seq - 1, 5, NULL));
    assert_int_equal(0, moult_store_purge(place->writer, "nobody", seq, 5, NULL));
    GOOD(moult_store_commit(place->writer, &error));
    GOOD(moult_store_count(place->reader, &numbers, &error));
    assert_int_equal(2, numbers.removals);
}

static void gives_one_text(void **state) {
    struct place *place = *state;
    char *text;
    size_t size;
    uint32_t c = make_collection(place, "default", "minilm");
    uint64_t seq = put_one(place, c, "a", "the text", NULL);
    GOOD(moult_store_text(place->reader, seq, &text, &size, &error));
    assert_string_equal("the text", text);
    assert_int_equal(8, size);
    free(text);
    put_one(place, c, "a", "another", NULL);
    REFUSED(MOULT_ERROR_MISSING, "replaced",
            moult_store_text(place->reader, seq, &text, &size, &error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        PLACE_TEST(learns_of_documents),
        PLACE_TEST(sleeps_through_versions),
        PLACE_TEST(an_upsert_is_one_change),
        PLACE_TEST(follows_its_own_slot),
        PLACE_TEST(gives_chunks_or_texts),
        PLACE_TEST(ends_a_portion_by_its_bytes),
        PLACE_TEST(forgets_a_dropped_collection),
        PLACE_TEST(never_loses_or_revives),
        PLACE_TEST(purges_in_portions),
        PLACE_TEST(gives_one_text),
    };
    return cmocka_run_group_tests_name("changes", tests, NULL, NULL);
}
