/* The forward pass in its parts, for the encoder itself and for the self-check. */
#ifndef MOULT_MODEL_ENCODER_H
#define MOULT_MODEL_ENCODER_H

#include "model/split.h"
#include "model/weights.h"

/* Rows that go through the feed-forward part of a layer at a time, at most. */
#define MOULT_BLOCK_ROWS 128u

/* Memory for spans of up to `rows` tokens; all in one allocation. */
struct moult_activations {
    float *hidden;      /* [rows][C] */
    float *qkv;         /* [rows][3C] */
    float *context;     /* [rows][C] */
    float *inner;       /* [block][F] */
    float *scratch;     /* Of the attention. */
    void *integers;     /* [block] rows of C or F; NULL in f32. */
    /* Where largest[i] is not NULL, the largest |x| of each input of a layer's i-th matrix is
     * kept there. */
    float *largest[MOULT_MATRICES];
    void *memory;
    size_t bytes;
    uint32_t rows;
};

/* What a moult_encoder of this model takes. */
size_t moult_encoder_bytes(const struct moult_config *config, enum moult_precision precision);
/* What moult_activations_init() takes. */
size_t moult_activations_bytes(const struct moult_config *config, enum moult_precision precision,
                               uint32_t rows);
/* For layers of f32, or of any rung. False when the machine has no memory left. */
bool moult_activations_init(struct moult_activations *activations,
                            const struct moult_config *config, enum moult_precision precision,
                            uint32_t rows);
void moult_activations_release(struct moult_activations *activations);

/* Whole sequences, `lengths` [B] adding up to T <= rows, from ids [T] to hidden [T][C]. `split`:
 * what the caller leads, and helpers bring moult_activations of this model to; or NULL. */
void moult_span_embed(const struct moult_kernels *kernels, const struct moult_weights *weights,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *ids, const uint32_t *lengths, uint32_t B,
                      struct moult_split *split);
void moult_span_layer(const struct moult_kernels *kernels, const struct moult_layer *layer,
                      const struct moult_config *config, struct moult_activations *activations,
                      const uint32_t *lengths, uint32_t B, struct moult_split *split);
/* From hidden to vectors [B][C], not normalised. */
void moult_span_pool(const struct moult_kernels *kernels, const struct moult_config *config,
                     const struct moult_activations *activations, const uint32_t *lengths,
                     uint32_t B, float *vectors);

#endif
