/* What the worker uses of a model beyond include/moult.h: opening from file
 * descriptors, and encoding token ids with memory that it holds itself. */
#ifndef MOULT_MODEL_MODEL_H
#define MOULT_MODEL_MODEL_H

#include "kernels/kernels.h"
#include "moult.h"
#include "tokenizer/tokenizer.h"

/* The open files of a model folder. They are opened by name first and parsed
 * afterwards, so that a process may give up its file system in between. */
struct moult_model_files;
struct moult_model_files *moult_model_files_open(int folder_fd, struct moult_error *error);
void moult_model_files_close(struct moult_model_files *files);

/* Where a long load stands; may be NULL. Called from the loading thread. */
struct moult_load_progress {
    void (*advance)(void *context, double done /* 0 to 1 */);
    void *context;
};

struct moult_model_options {
    uint32_t threads;                   /* 0: what the machine gives. */
    enum moult_precision precision;
    double fidelity;                    /* Of that precision, as measured by an earlier load of
                                           the same model on such a CPU; 0: measure it. */
    /* Asked before AUTO, which has tried another rung, goes back to one that takes more memory;
     * -1 ends the load. May be NULL. */
    int (*reconsider)(void *context, enum moult_precision precision, struct moult_error *error);
    void *context;
};

/* Parses, verifies and packs; `files` stays the caller's. Tensors must have the
 * expected names and shapes, finite values, and lie within the file. */
struct moult_model *moult_model_load(struct moult_model_files *files,
                                     const struct moult_kernels *kernels,
                                     const struct moult_model_options *options,
                                     const struct moult_load_progress *progress,
                                     struct moult_error *error);

const struct moult_tokenizer *moult_model_tokenizer(const struct moult_model *model);
const char *moult_model_prompt(const struct moult_model *model, enum moult_prompt prompt);

/* Memory for one thread's forward passes, for up to `tokens_max` tokens at a
 * time (at least the model's tokens_max). NULL when the machine has none left. */
struct moult_encoder;
struct moult_encoder *moult_encoder_open(const struct moult_model *model, uint32_t tokens_max);
void moult_encoder_close(struct moult_encoder *encoder);

/* Called between the layers of a pass, from its thread: a watchdog's sign of life. */
void moult_encoder_set_advance(struct moult_encoder *encoder, void (*advance)(void *context),
                               void *context);

/* One pass over B sequences packed end to end: ids [T], lengths [B] (each from 1
 * to the model's tokens_max) that add up to T <= the encoder's tokens_max. Writes
 * vectors [B][C], pooled but not yet normalised, since requests of one pass may
 * differ in that: moult_vector_unit() does it, where the model's info says
 * `normalized` or a request asks. */
void moult_encoder_run(struct moult_encoder *encoder, const uint32_t *ids,
                       const uint32_t *lengths, uint32_t B, float *vectors);

/* The same, shared with whoever helps with `split`, which the caller leads; NULL: alone. The bits
 * of the vectors do not depend on it. */
struct moult_split;
void moult_encoder_run_shared(struct moult_encoder *encoder, struct moult_split *split,
                              const uint32_t *ids, const uint32_t *lengths, uint32_t B,
                              float *vectors);
/* moult_split_help() with such passes, of the same model. */
void moult_encoder_help(struct moult_encoder *encoder, struct moult_split *split,
                        bool (*leave)(void *context), void *context);
/* From so many tokens on it pays to share a pass, among so many at most. */
#define MOULT_SHARE_THREADS_MAX 4u
uint32_t moult_encoder_share_tokens(const struct moult_model *model);

/* Scales a vector [C] of the model to length 1. */
void moult_vector_unit(const struct moult_model *model, float *vector);

/* A self-check on fixed texts: finite numbers, unit norm where the model
 * normalises, and the loaded kernels within tolerance of the plain C ones. */
int moult_model_check(const struct moult_model *model, struct moult_error *error);

#endif
