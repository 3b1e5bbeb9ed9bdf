/* Acknowledgement: a write is found once it is behind the cursor of every generation that a search
 * may meet. That is the current one, and any that is synced: from then on nothing is acknowledged
 * that it does not have, so nothing is missing when it becomes the current one. */
#include <stdio.h>
#include <stdlib.h>

#include "base/fault.h"
#include "base/machine.h"
#include "base/memory.h"
#include "front/follow.h"

struct moult_write_waiting {
    struct moult_followed_slot *followed;
    struct moult_write_waiting *next;
    uint64_t first_seq, last_seq;
    uint64_t since_ns;
    moult_write_listener listener;
    void *context;
    struct moult_write_result result;
};

static uint64_t documents_of(const struct moult_write_waiting *waiting) {
    return waiting->last_seq - waiting->first_seq + 1;
}

static void take_out(struct moult_write_waiting *waiting) {
    struct moult_followed_slot *followed = waiting->followed;
    struct moult_write_waiting *previous = NULL;
    for (struct moult_write_waiting *at = followed->first; at != waiting; at = at->next)
        previous = at;
    if (previous != NULL)
        previous->next = waiting->next;
    else
        followed->first = waiting->next;
    if (followed->last == waiting)
        followed->last = previous;
    followed->waiting_documents -= documents_of(waiting);
    followed->slot->writes_waiting--;
}

void moult_followers_wrote(struct moult_followers *followers, struct moult_slot *slot,
                           uint64_t first_seq, uint64_t last_seq, moult_write_listener listener,
                           void *context) {
    struct moult_followed_slot *followed = moult_followers_of(followers, slot);
    struct moult_write_waiting *waiting = moult_allocate(1, sizeof *waiting);
    MOULT_REQUIRE(first_seq <= last_seq);
    *waiting = (struct moult_write_waiting){.followed = followed,
                                            .first_seq = first_seq,
                                            .last_seq = last_seq,
                                            .since_ns = moult_clock_ns(),
                                            .listener = listener,
                                            .context = context};
    if (followed->last != NULL)
        followed->last->next = waiting;
    else
        followed->first = waiting;
    followed->last = waiting;
    followed->waiting_documents += documents_of(waiting);
    slot->writes_waiting++;
    if (last_seq > followed->head)
        followed->head = last_seq;
    followed->written = true;
    moult_followers_wake_by(followers, waiting->since_ns);
}

int moult_followers_admit(const struct moult_followers *followers, const struct moult_slot *slot,
                          uint32_t documents, struct moult_error *error) {
    const struct moult_followed_slot *followed = moult_followers_of(followers, slot);
    if (followed->waiting_documents == 0 ||
        followed->waiting_documents + documents <= MOULT_UNFOLLOWED_DOCUMENTS_MAX)
        return 0;
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "%llu documents wait for %s to embed them; at most %d may. Try again in a "
                      "moment.",
                      (unsigned long long)followed->waiting_documents, slot->name,
                      MOULT_UNFOLLOWED_DOCUMENTS_MAX);
}

static void tell(struct moult_write_waiting *waiting) {
    take_out(waiting);
    waiting->listener(waiting->context, &waiting->result);
    free(waiting);
}

/* 0: nobody can be searched. */
static uint64_t reached(const struct moult_followed_slot *followed) {
    const struct moult_slot *slot = followed->slot;
    if (slot->current == NULL || slot->current->follower == NULL)
        return 0;
    uint64_t least = slot->current->follower->told;
    for (unsigned i = 0; i < slot->generation_count; i++) {
        const struct moult_follower *follower = slot->generations[i]->follower;
        if (follower != NULL && follower->synced && follower->told < least)
            least = follower->told;
    }
    return least;
}

/* Who is told may write and stop: each look begins anew. */
static struct moult_write_waiting *find_reached(const struct moult_followed_slot *followed) {
    uint64_t seq = reached(followed);
    for (struct moult_write_waiting *at = followed->first; at != NULL; at = at->next)
        if (at->last_seq <= seq)
            return at;
    return NULL;
}

void moult_writes_look(struct moult_followed_slot *followed) {
    struct moult_write_waiting *waiting;
    while ((waiting = find_reached(followed)) != NULL) {
        if (waiting->last_seq > followed->acknowledged)
            followed->acknowledged = waiting->last_seq;
        tell(waiting);
    }
}

void moult_writes_refuse(struct moult_followed_slot *followed, uint64_t seq, bool killed_worker,
                         const char *message) {
    for (struct moult_write_waiting *at = followed->first; at != NULL; at = at->next) {
        if (seq < at->first_seq || seq > at->last_seq || at->result.outcome != MOULT_WRITE_FOUND)
            continue;
        at->result.outcome = MOULT_WRITE_REFUSED;
        at->result.killed_worker = killed_worker;
        at->result.seq = seq;
        snprintf(at->result.message, sizeof at->result.message, "%s", message);
    }
}

static void tell_later(struct moult_write_waiting *waiting, const char *message) {
    waiting->result = (struct moult_write_result){.outcome = MOULT_WRITE_LATER};
    snprintf(waiting->result.message, sizeof waiting->result.message, "%s", message);
    tell(waiting);
}

void moult_writes_give_up(struct moult_followed_slot *followed, const char *message) {
    /* Those who are told may write again: only who waits now. */
    uint64_t left = followed->slot->writes_waiting;
    for (; left > 0 && followed->first != NULL; left--)
        tell_later(followed->first, message);
}

static void tell_that_it_takes_long(struct moult_write_waiting *waiting) {
    const struct moult_slot *slot = waiting->followed->slot;
    const struct moult_follower *follower =
        slot->current != NULL ? slot->current->follower : NULL;
    char message[512];
    if (follower != NULL && follower->trouble[0] != '\0')
        snprintf(message, sizeof message, "It is stored, and cannot be searched yet. %s",
                 follower->trouble);
    else
        snprintf(message, sizeof message, "It is stored, and %s has not embedded it yet.",
                 slot->name);
    tell_later(waiting, message);
}

uint64_t moult_writes_tick(struct moult_followed_slot *followed, uint64_t now_ns) {
    uint64_t most_ns = moult_fault_seconds("WRITE", MOULT_WRITE_SECONDS_MAX) * 1000000000ull;
    moult_writes_look(followed);
    /* The oldest come first. */
    while (followed->first != NULL && now_ns >= followed->first->since_ns + most_ns)
        tell_that_it_takes_long(followed->first);
    return followed->first != NULL ? followed->first->since_ns + most_ns : UINT64_MAX;
}
