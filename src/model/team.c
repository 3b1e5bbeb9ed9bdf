#include "model/team.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/machine.h"
#include "base/memory.h"

/* A helper that has found nothing more to do is gone in less than that; to sleep until then and be
 * woken would take longer. */
#define GONE_SPIN_NS 20000u

/* A piece of work while moult_team_run() is in it; it lies on that call's stack. */
struct piece {
    void (*work)(void *context);
    void *context;
    uint32_t wanted;        /* Helpers that may still begin. */
    _Atomic uint32_t inside;    /* Helpers that have begun and not ended; changed under the lock. */
    struct piece *next;
};

struct moult_team {
    pthread_mutex_t lock;
    pthread_cond_t offered; /* A piece was added, or `stopping` set. */
    pthread_cond_t ended;   /* Some piece has nobody inside any more. */
    struct piece *pieces;
    bool stopping;
    uint32_t count;
    pthread_t threads[];
};

static void *help(void *argument);

struct moult_team *moult_team_open(uint32_t helpers) {
    struct moult_team *team = moult_allocate(1, sizeof *team + helpers * sizeof *team->threads);

    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->offered, NULL);
    pthread_cond_init(&team->ended, NULL);
    while (team->count < helpers &&
           pthread_create(&team->threads[team->count], NULL, help, team) == 0)
        team->count++;
    return team;
}

void moult_team_close(struct moult_team *team) {
    if (team == NULL)
        return;
    pthread_mutex_lock(&team->lock);
    team->stopping = true;
    pthread_cond_broadcast(&team->offered);
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; i < team->count; i++)
        pthread_join(team->threads[i], NULL);
    pthread_mutex_destroy(&team->lock);
    pthread_cond_destroy(&team->offered);
    pthread_cond_destroy(&team->ended);
    free(team);
}

static void remove_piece(struct moult_team *team, const struct piece *piece) {
    struct piece **at = &team->pieces;

    while (*at != piece)
        at = &(*at)->next;
    *at = piece->next;
}

static void spin_until_empty(const struct piece *piece) {
    uint64_t until_ns = moult_clock_ns() + GONE_SPIN_NS;

    while (atomic_load_explicit(&piece->inside, memory_order_relaxed) > 0 &&
           moult_clock_ns() < until_ns)
        continue;
}

void moult_team_run(struct moult_team *team, uint32_t helpers, void (*work)(void *context),
                    void *context) {
    struct piece piece = {.work = work, .context = context, .wanted = helpers};

    pthread_mutex_lock(&team->lock);
    piece.next = team->pieces;
    team->pieces = &piece;
    pthread_mutex_unlock(&team->lock);
    for (uint32_t i = 0; i < helpers && i < team->count; i++)
        pthread_cond_signal(&team->offered);

    work(context);

    pthread_mutex_lock(&team->lock);
    remove_piece(team, &piece);
    pthread_mutex_unlock(&team->lock);
    spin_until_empty(&piece);
    pthread_mutex_lock(&team->lock);
    while (piece.inside > 0)
        pthread_cond_wait(&team->ended, &team->lock);
    pthread_mutex_unlock(&team->lock);
}

static struct piece *find_piece(struct moult_team *team) {
    struct piece *piece = team->pieces;

    while (piece != NULL && piece->wanted == 0)
        piece = piece->next;
    return piece;
}

static void *help(void *argument) {
    struct moult_team *team = argument;

    pthread_mutex_lock(&team->lock);
    for (;;) {
        struct piece *piece = find_piece(team);

        if (team->stopping)
            break;
        if (piece == NULL) {
            pthread_cond_wait(&team->offered, &team->lock);
            continue;
        }
        piece->wanted--;
        piece->inside++;
        pthread_mutex_unlock(&team->lock);
        piece->work(piece->context);
        pthread_mutex_lock(&team->lock);
        if (--piece->inside == 0)
            pthread_cond_broadcast(&team->ended);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}
