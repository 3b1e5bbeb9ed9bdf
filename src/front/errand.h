/* A request that has something done at the desk (desk.h): documents, collections, searches.
 *
 *   kind->read()     body to what is asked             a pool thread where the body is large
 *   kind->check()    what the loop alone knows          the loop
 *   kind->run()      the store; writes the answer       a thread of the desk
 *   kind->then()     what is left to do                 the loop
 *
 * The struct of each kind begins with the errand. It is freed when its request is answered, or,
 * where the client goes, as soon as nobody has anything of it in hand. */
#ifndef MOULT_FRONT_ERRAND_H
#define MOULT_FRONT_ERRAND_H

#include "base/buffer.h"
#include "front/body.h"
#include "front/desk.h"
#include "front/follower.h"
#include "front/http_error.h"
#include "front/json.h"
#include "store/store.h"

struct moult_errand;

struct moult_errand_kind {
    size_t size;                      /* Of its struct. */
    enum moult_desk_queue queue;      /* Where it is handed in first. */
    bool takes_lists;                 /* Its body may be a list. */

    /* Each but then() and those below it may refuse by moult_refuse(&errand->refusal, …), and
     * returns 0 or -1. read() is NULL where there is no body to read. */
    int (*read)(struct moult_errand *errand, const json_t *body);
    /* May be NULL. 1: nothing is to be done at the desk yet; then() is next. */
    int (*check)(struct moult_errand *errand);
    /* As in desk.h. May refuse as well, where the error does not say it well. */
    int (*run)(struct moult_errand *errand, struct moult_store *store, struct moult_error *error);
    /* NULL: the answer is given. Its request may be NULL, for a client that has gone. */
    void (*then)(struct moult_errand *errand);
    /* Ends the answer, when it can be given; may be NULL. */
    void (*finish)(struct moult_errand *errand);
    /* Of what awaits: where in its list the version is; NULL: it has one document. */
    uint32_t (*index_of)(const struct moult_errand *errand, uint64_t seq);
    /* The client has gone while neither desk nor follower had it; may be NULL. */
    void (*gone)(struct moult_errand *errand);
    void (*release)(struct moult_errand *errand);              /* May be NULL. */
};

struct moult_errand {
    const struct moult_errand_kind *kind;
    struct moult_http_request *request;      /* NULL: the client has gone. */
    struct moult_server *server;
    char collection[MOULT_COLLECTION_NAME_BYTES_MAX + 1];
    struct moult_refusal refusal;
    enum moult_desk_queue queue;             /* The next time at the desk; of its kind to begin
                                                with. */

    /* The answer, as run() and then() make it. */
    unsigned status;                         /* 200 to begin with. */
    struct moult_buffer answer;

    /* errand.c's own. */
    struct moult_body_reader reader;
    struct moult_desk_task task;
    bool at_desk;
    bool waiting;                            /* Until it is found. */
    char *later;                             /* Why it cannot be searched yet; NULL: it can. */
};

/* For a request to a path of documents. NULL: it was answered, because there is no store here or
 * the collection's name is none. What is behind the errand in its struct is zero. */
void *moult_errand_open(struct moult_http_request *request, const struct moult_errand_kind *kind);
/* All that follows. */
void moult_errand_begin(struct moult_errand *errand);

/* For run(): the collection that the path names. MISSING where there is none of that name; but the
 * one that is meant without a name is empty before its first document, and has the number 0. */
int moult_errand_collection(const struct moult_errand *errand, struct moult_store *store,
                            struct moult_collection *collection, struct moult_error *error);

/* For then(). Each hands the errand on: it must not be touched after. */

/* Once more to the desk; run() is called again. */
void moult_errand_hand_in(struct moult_errand *errand);
/* Answers when what was written to that collection can be searched: see follower.h. 0 for both:
 * nothing was. */
void moult_errand_await(struct moult_errand *errand, const struct moult_collection *collection,
                        bool dropped, uint64_t first_seq, uint64_t last_seq);
void moult_errand_answer(struct moult_errand *errand);
/* As finish() of what awaits, whose answers are objects that run() has left open: closes it. */
void moult_errand_close_answer(struct moult_errand *errand);
/* With its refusal. */
void moult_errand_refuse(struct moult_errand *errand);
/* With what the store, or whoever else, says. */
void moult_errand_fail_with(struct moult_errand *errand, const struct moult_error *error);

#endif
