/* What the files below know of followers, and nobody else does.
 *
 *   follower.c    one follower: which portion is next, telling the index, the cursor
 *   portion.c     one portion of changes: read, cut, embedded, written
 *   spared.c      vectors that are there already, and need not be made
 *   piece.c       the jobs of a portion, and what becomes of them when their worker dies
 *   space_file.c  spaces and their files of vectors, as the worker inherits them
 *   reclaim.c     disk space of rows that nobody needs
 *   writes.c      who waits to hear that what he wrote can be searched
 *   followers.c   all of them: beginnings and ends, what the slots tell, what is shown
 *
 * A follower's list of portions is in the order of the table, and gaps in it are read first:
 *
 *     told ─> [ told, and being told again ] [ read ] … gap … [ embedded ] [ read ] ─> behind them
 *
 * When its worker dies `told` falls back to 0, and all before the first portion is a gap, of
 * changes that the space has already; what was being embedded goes on meanwhile. A portion whose
 * rows turn out to be damaged is taken out of the list, and what it leaves is a gap as well. So one
 * rule, "read the first gap", is the start, the restart, the repair and the way ahead. */
#ifndef MOULT_FRONT_FOLLOW_H
#define MOULT_FRONT_FOLLOW_H

#include "front/brought.h"
#include "front/desk.h"
#include "front/follower.h"
#include "front/slot.h"
#include "ipc/rows.h"
#include "store/store.h"

/* At once under way: one is read or told while two are embedded. */
#define MOULT_PORTIONS_MAX 3

/* A space of the store (one fingerprint of a slot, cut in one way) and its file. */
struct moult_space_file {
    struct moult_followers *followers;
    struct moult_space_file *next;
    struct moult_space_key key;
    uint32_t number;                  /* In the store; 0: it is not there yet. */
    uint64_t chunks, created_at;      /* When they were last counted. */
    uint32_t next_row, holes;         /* Rows that were given; that are known to be holes. */
    struct moult_rows_file *rows;          /* NULL: not opened. */
    char *path;                       /* Of its file; NULL: it has none yet. */
    unsigned users;                   /* The list, followers, portions, tasks. */
    bool in_the_making;
};

/* A document of a portion that the space has not cut yet. */
struct moult_followed {
    const struct moult_store_change *change;
    struct moult_chunk *chunks;       /* [count], owned; NULL: not cut yet. */
    float *vectors;                   /* [count][C], owned. */
    uint32_t count, missing;          /* Chunks, and those without a vector. */
    unsigned failures;
    bool whole;                       /* One chunk, unless the worker says that it was too long. */
    bool refused;                     /* Its model cannot embed it. */
    bool spared;                      /* Its vector was there. */
    bool gone;                        /* Replaced or deleted meanwhile. */
};

enum moult_portion_state {
    MOULT_PORTION_READING,
    MOULT_PORTION_EMBEDDING,
    MOULT_PORTION_WRITING,
    MOULT_PORTION_DONE,               /* The space has all of it: to be told. */
    MOULT_PORTION_REPAIRING           /* Rows of it are damaged: they are being forgotten. */
};

struct moult_piece_job;

struct moult_portion {
    struct moult_desk_task task;      /* While READING, WRITING or REPAIRING. */
    struct moult_follower *follower;
    struct moult_space_file *file;
    struct moult_portion *next;
    enum moult_portion_state state;
    bool dropped;                     /* Nobody wants it: freed when its task is done. */
    uint64_t after, bound, through;   /* It has the changes of (after, through], up to the bound. */
    uint32_t count_max;
    size_t bytes_max;
    char slot[MOULT_MODEL_NAME_BYTES_MAX + 1];
    uint32_t space;
    bool last;                        /* Nothing lay behind it. */
    struct moult_changes changes;
    struct moult_followed *missing;   /* [missing_count], in order. */
    bool asks_brought;
    float **brought;                  /* [brought_count] of changes, or NULL; each [C] or NULL. */
    uint32_t brought_count;
    uint32_t missing_count, unfinished;
    struct moult_piece_job *jobs;
    uint64_t retry_ns;                /* What failed is tried again then; 0: nothing did. */
    unsigned failures;
    /* Telling: the next change, and chunk of it. */
    uint32_t told_changes, told_chunks;
    uint64_t *damaged;                /* [damaged_count] seqs. */
    uint32_t damaged_count;
};

/* Whether what a model brings is what it makes. */
enum moult_brought_is { MOULT_BROUGHT_UNTRIED, MOULT_BROUGHT_RIGHT, MOULT_BROUGHT_WRONG };

struct moult_follower {
    struct moult_followers *followers;
    struct moult_generation *generation;   /* Referenced. */
    struct moult_space_file *file;    /* NULL: its model is not known yet. */
    bool equipped;                    /* Its worker has that file. */
    /* What its worker has inherited, until it has said which model it is. */
    struct moult_space_file *inherited[MOULT_ROWS_FILES_MAX];
    unsigned inherited_count;
    struct moult_rows_file *blank;         /* For a space that is not there yet; NULL: none. */
    char *blank_path;
    bool left;                        /* Its generation is gone; freed with its last task. */

    /* What it is to do. */
    bool held;                        /* A candidate, of which nobody wants it yet. */
    bool aims;                        /* It is to be synced, as soon as its lag is small. */
    bool synced;                      /* Writes wait for it, though it is not the current one. */
    uint64_t sync_seq;                /* Once it is there, all that was acknowledged is. */
    uint64_t lap_seq;                 /* Where the lap ends; see follower.c. */
    uint64_t lap_from, lap_documents; /* `documents` when it began, and of the one before. */

    /* What its model brings. The first two are the desk's reading thread's. */
    bool brought_looked;
    struct moult_brought *brought;
    enum moult_brought_is brought_is;
    unsigned brought_tried;
    double brought_least;             /* Cosine of those that were tried. */

    /* Where it is. */
    bool wakes;                       /* Its worker is ready. */
    uint64_t told;                    /* The index has all up to here. */
    uint64_t again_to;                /* Up to here it may have some of it already. */
    uint64_t caught_up;               /* It once read to the end, in this run: there. */
    bool complete;                    /* The worker has been told that its index is. */
    struct moult_portion *first;
    unsigned portion_count;
    struct moult_job *telling;        /* The request under way, or NULL. */
    uint64_t telling_to;              /* Then `told` is this; */
    bool telling_complete;
    bool doubts;                      /* A search met a row that cannot be read: the worker says */
    bool telling_doubts;              /* which one it was when it is next told of something. */
    unsigned tasks;                   /* Of the desk. */
    bool present;                     /* The last portion had nothing to embed: larger ones. */

    /* What is told of it. */
    uint64_t documents;               /* In the index, by this run. */
    uint64_t embedded, embedded_bytes;
    uint64_t spared;                  /* Documents whose vectors were there. */
    uint64_t embedded_before;         /* It was to become the current one. */
    uint64_t embedding_since_ns;
    uint64_t retry_ns;
    unsigned failures;                /* In a row. */
    char trouble[400];                /* A sentence, or "". */
    bool has_news;                    /* To be told from the loop: it has got further, or not. */
};

struct moult_followed_slot {
    struct moult_slot *slot;
    uint64_t head;                    /* Of what is known to be on disk. */
    uint64_t acknowledged;            /* The largest that was. */
    uint64_t documents;               /* When they were last counted. */
    bool written;                     /* There may be more. */
    uint64_t purged;                  /* Removals up to here are forgotten, … */
    uint64_t passed;                  /* … and up to here may be, at the next look. */
    struct moult_write_waiting *first, *last;
    uint64_t waiting_documents;
};

struct moult_followers {
    uv_loop_t *loop;
    struct moult_slots *slots;
    struct moult_desk *desk;
    char *folder;                     /* DATA/vectors */
    bool own;                         /* It is ours to write. */
    bool stopping;
    bool owed_known;
    uint64_t owed;                    /* What an index must have before it answers. */
    bool keeps_removals;
    struct moult_reclaiming *reclaiming;   /* reclaim.c; NULL: nothing is being given back. */
    unsigned follower_count;
    unsigned tasks;                   /* Under way, beside those of followers. */
    struct moult_space_file *files;
    struct moult_followed_slot followed[MOULT_SLOTS_MAX];
    uv_timer_t timer;
    uint64_t timer_ns;                /* When it fires; UINT64_MAX: it does not. */
    uint64_t look_ns, tidy_ns;        /* When to look for what others wrote, and to tidy up. */
};

/* follower.c */
struct moult_follower *moult_follower_open(struct moult_followers *followers,
                                           struct moult_generation *generation);
/* Its generation is gone. Frees it, or sees to it that it is freed. */
void moult_follower_leave(struct moult_follower *follower);
void moult_follower_free_if_done(struct moult_follower *follower);
/* Its worker is ready, and has nothing in its index. */
void moult_follower_begin(struct moult_follower *follower);
/* Its worker is gone; `for_good`: nobody loads it again now. */
void moult_follower_end(struct moult_follower *follower, bool for_good);
/* The folder is another process's from now on. */
void moult_follower_disown(struct moult_follower *follower);
/* Does what can be done; to be called whenever anything has changed. */
void moult_follower_step(struct moult_follower *follower);
/* It may embed: the folder is ours, and of those that follow with the same space it comes first. */
bool moult_follower_leads(const struct moult_follower *follower);
/* Its generation takes jobs. */
bool moult_follower_can_submit(const struct moult_follower *follower);
enum moult_lane moult_follower_lane(const struct moult_follower *follower);
/* A portion has been read, embedded or written, or could not be: `error`. */
void moult_follower_read(struct moult_portion *portion, const struct moult_error *error);
void moult_follower_written(struct moult_portion *portion);
void moult_follower_in_trouble(struct moult_follower *follower, const char *message);
void moult_follower_out_of_trouble(struct moult_follower *follower);
/* update.c is to look at it, soon and not within this call. */
void moult_follower_has_news(struct moult_follower *follower);
/* When it wants to look again, on moult_clock_ns(); UINT64_MAX: not by itself. */
uint64_t moult_follower_due_ns(const struct moult_follower *follower, uint64_t now_ns);

/* portion.c */
/* Begins to read what lies in (after, bound]. */
struct moult_portion *moult_portion_open(struct moult_follower *follower, uint64_t after,
                                         uint64_t bound);
/* Takes it out of its follower's list, and frees it as soon as nothing of it is under way. */
void moult_portion_drop(struct moult_portion *portion);
/* Only what lies before that change. */
void moult_portion_cut_off(struct moult_portion *portion, uint32_t at);
/* READING is over: embeds what is missing, writes it, and says moult_follower_written(). */
void moult_portion_embed(struct moult_portion *portion);
/* All jobs of it are done. */
void moult_portion_embedded(struct moult_portion *portion);
/* Time has come to try again what failed. */
void moult_portion_retry(struct moult_portion *portion);
/* Makes the space forget the cuts of those versions, and then drops the portion. */
void moult_portion_repair(struct moult_portion *portion);
const struct moult_followed *moult_portion_find(const struct moult_portion *portion,
                                                const struct moult_store_change *change);

/* spared.c */
/* In the desk's thread: what the model brings for what has just been read. */
void moult_spared_look(struct moult_portion *portion);
void moult_spared_release(struct moult_portion *portion);
/* Whether the vector of a document, which has been cut, is there; it has it then. */
bool moult_spared_take(struct moult_portion *portion, struct moult_followed *document);
/* All of the portion has vectors: compares those that the model brings, until enough were. */
void moult_spared_judge(struct moult_portion *portion);

/* piece.c */
/* Has the missing documents cut and embedded. */
void moult_pieces_begin(struct moult_portion *portion);
void moult_pieces_abandon(struct moult_portion *portion);

/* space_file.c */
/* Those of the store. */
void moult_space_files_note(struct moult_followers *followers, const struct moult_space *spaces,
                            unsigned count);
void moult_space_files_close(struct moult_followers *followers);
/* The space of that fingerprint, cut as texts are cut now; NULL: there is none yet. */
struct moult_space_file *moult_space_file_find(const struct moult_followers *followers,
                                               const struct moult_slot *slot,
                                               const char *fingerprint);
void moult_space_file_hold(struct moult_space_file *file);
void moult_space_file_release(struct moult_space_file *file);
/* Rows that an index of the slot may come to have. */
uint64_t moult_space_files_rows(const struct moult_followers *followers,
                                const struct moult_slot *slot);
/* What a worker of that generation is to inherit. */
void moult_space_files_equip(struct moult_follower *follower, struct moult_process_order *order);
/* Its worker has said which model it is: its space is found, or will be made. */
void moult_space_files_bind(struct moult_follower *follower);
/* Its worker has not got the file of its space: it is started again where that can be had now. */
void moult_space_files_mend(struct moult_follower *follower);
/* Its worker is gone before it has said so. */
void moult_space_files_unbind(struct moult_follower *follower);
/* Makes the space in the store where it is not there, and the folder is ours. */
void moult_space_file_make(struct moult_space_file *file);
/* Drops it out of the store, and its file. */
void moult_space_file_drop(struct moult_space_file *file);
/* Files of the folder that belong to no space. */
void moult_space_files_clear(struct moult_followers *followers);

/* reclaim.c */
/* Where there are enough rows that nobody needs, begins to give their space back. */
void moult_reclaim_begin(struct moult_followers *followers);
void moult_reclaim_look(struct moult_followers *followers);
void moult_reclaim_stop(struct moult_followers *followers);

/* writes.c */
/* How far the generations have come that searches may meet: tells those whose writes they have. */
void moult_writes_look(struct moult_followed_slot *followed);
/* A document that its model cannot embed. */
void moult_writes_refuse(struct moult_followed_slot *followed, uint64_t seq, bool killed_worker,
                         const char *message);
/* Nobody will have them soon: all of them, or those that have waited for too long. */
void moult_writes_give_up(struct moult_followed_slot *followed, const char *message);
uint64_t moult_writes_tick(struct moult_followed_slot *followed, uint64_t now_ns);

/* followers.c */
struct moult_followed_slot *moult_followers_of(const struct moult_followers *followers,
                                               const struct moult_slot *slot);
struct moult_followed_slot *moult_followers_of_name(struct moult_followers *followers,
                                                    const char *name);
void moult_followers_step(struct moult_followed_slot *followed);
void moult_followers_wake_by(struct moult_followers *followers, uint64_t ns);

#endif
