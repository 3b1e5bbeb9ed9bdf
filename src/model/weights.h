/* The weights of a BERT encoder, read once, checked and packed for one level of
 * kernels, with the digests that the fingerprint is made of. */
#ifndef MOULT_MODEL_WEIGHTS_H
#define MOULT_MODEL_WEIGHTS_H

#include "base/hash.h"
#include "model/config.h"
#include "model/files.h"

/* The matrices of a layer, in the order in which a pass meets them. */
enum moult_matrix {
    MOULT_MATRIX_QKV,
    MOULT_MATRIX_OUTPUT,
    MOULT_MATRIX_INNER,
    MOULT_MATRIX_OUTER,
    MOULT_MATRICES
};

/* That of the panels in a layer of a rung: what GELU lets through is so uneven that in INT8 the
 * last matrix stays with INT16 (docs/decisions/0016). */
enum moult_precision moult_matrix_precision(enum moult_precision rung, enum moult_matrix matrix);

struct moult_norm {
    float *gamma;       /* [C] */
    float *beta;        /* [C] */
};

struct moult_layer {
    struct moult_panels qkv;        /* C to 3C: query, key and value side by side. */
    struct moult_panels output;     /* C to C, behind the attention. */
    struct moult_norm output_norm;
    struct moult_panels inner;      /* C to F */
    struct moult_panels outer;      /* F to C */
    struct moult_norm outer_norm;
};

/* One tensor under its canonical name, as the fingerprint sees it. */
struct moult_tensor_digest {
    char *name;
    uint64_t shape[2];
    uint32_t rank;
    char sha256[MOULT_SHA256_HEX];  /* Of its values as little-endian f32. */
};

struct moult_weights {
    float *words;                   /* [V][C] */
    float *positions;               /* [P][C] */
    float *types;                   /* [types][C]; every token has type 0. */
    struct moult_norm embedding_norm;
    struct moult_layer *layers;
    uint32_t layer_count;
    size_t words_bytes, positions_bytes, types_bytes;

    struct moult_tensor_digest *digests;    /* Sorted by name. */
    size_t digest_count;
};

struct moult_ladder;    /* ladder.h */

/* Reads model.safetensors, for f32 or, through `ladder`, for another rung. On failure nothing is
 * left to release. */
int moult_weights_read(struct moult_weights *weights, const struct moult_config *config,
                       const struct moult_model_files *files,
                       const struct moult_kernels *kernels, struct moult_ladder *ladder,
                       const struct moult_load_progress *progress, struct moult_error *error);
void moult_weights_release(struct moult_weights *weights);
/* Its matrices, and not its norms. */
void moult_layer_release_panels(struct moult_layer *layer);

#endif
