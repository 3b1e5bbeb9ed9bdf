/* Texts of our own as token ids, for what is found out about a model while it loads. */
#ifndef MOULT_MODEL_SAMPLE_H
#define MOULT_MODEL_SAMPLE_H

#include "model/config.h"

/* Sequences packed end to end, as the encoder takes them. */
struct moult_sample {
    uint32_t *ids;          /* [tokens]. Owned. */
    uint32_t *lengths;      /* [count], each at least 1. Owned. */
    uint32_t count, tokens;
};

/* Each text is cut to `tokens_max` tokens, or the model's own most; one that the tokenizer keeps
 * nothing of is left out. On failure nothing is left to release. */
int moult_sample_make(struct moult_sample *sample, const struct moult_config *config,
                      const struct moult_tokenizer *tokenizer, const char *const *texts,
                      uint32_t count, uint32_t tokens_max, struct moult_error *error);
void moult_sample_release(struct moult_sample *sample);

/* Sentences as people write them, in a dozen languages: calibration.c. */
extern const char *const moult_calibration_texts[];
extern const uint32_t moult_calibration_count;

#endif
