/* The last distinct texts that clients asked a slot to embed, for the comparison of its next model
 * with the present one. They are in memory alone, and never shown to anybody. */
#ifndef MOULT_FRONT_ASKED_H
#define MOULT_FRONT_ASKED_H

#include "front/job.h"

struct moult_asked;

struct moult_asked_text {
    enum moult_prompt prompt;
    char *bytes;
    size_t size;
    bool searched;            /* It was last asked as a search with a min_score: … */
    float score_min;          /* … that, … */
    uint32_t collection;      /* … in the store's collection of that number. */
};

/* Of at most `texts_max` texts; 0 remembers none. */
struct moult_asked *moult_asked_open(uint32_t texts_max);
void moult_asked_close(struct moult_asked *asked);

void moult_asked_note(struct moult_asked *asked, enum moult_prompt prompt, const char *bytes,
                      size_t size);
/* A few texts of a job that was answered, so that one import does not push all else out. */
void moult_asked_note_job(struct moult_asked *asked, const struct moult_job *job);

uint32_t moult_asked_count(const struct moult_asked *asked);
/* Of these, searches with a min_score. */
uint32_t moult_asked_searches(const struct moult_asked *asked);
/* Copies of all of them, latest first, with *count; moult_asked_texts_free(). */
struct moult_asked_text *moult_asked_copy(const struct moult_asked *asked, uint32_t *count);
void moult_asked_texts_free(struct moult_asked_text *texts, uint32_t count);

#endif
