/* How a model climbs down from f32 to a rung of integers while it loads: each layer, read as f32,
 * is packed once more in the rung and the f32 panels are given back, so that one layer at most
 * exists twice. On the way texts of our own go through both, which says how near the rung's
 * vectors come to those of f32; and for INT8 others show which inputs are large (smoothing). */
#ifndef MOULT_MODEL_LADDER_H
#define MOULT_MODEL_LADDER_H

#include "model/sample.h"
#include "model/weights.h"

/* What "auto" asks of a rung: the least cosine to f32 of any text. */
#define MOULT_FIDELITY_LEAST 0.9999
/* And how much faster its products must be: less is not worth any bits. */
#define MOULT_GAIN_LEAST 1.15

/* `rung` is INT16 or INT8; `measure`: whether moult_ladder_fidelity() will be asked. The rest is
 * the caller's and must stay. */
struct moult_ladder *moult_ladder_open(const struct moult_kernels *kernels,
                                       const struct moult_config *config,
                                       const struct moult_tokenizer *tokenizer,
                                       enum moult_precision rung, bool measure);
void moult_ladder_close(struct moult_ladder *ladder);

/* Before the first layer, once the embeddings are there. */
int moult_ladder_begin(struct moult_ladder *ladder, const struct moult_weights *weights,
                       struct moult_error *error);
/* The layer has panels of f32 before, and of the rung behind. In order. */
int moult_ladder_layer(struct moult_ladder *ladder, struct moult_layer *layer,
                       struct moult_error *error);
/* After the last one: the least cosine. */
double moult_ladder_fidelity(const struct moult_ladder *ladder);

/* What its texts take beside one layer of f32 and its largest matrix. */
size_t moult_ladder_bytes(const struct moult_config *config, enum moult_precision rung);

/* How much faster products of the rung are here than those of f32: measured. */
double moult_ladder_gain(const struct moult_kernels *kernels, enum moult_precision rung);
/* The rung that "auto" takes where its fidelity suffices: INT16 if that is faster, or F32. */
enum moult_precision moult_ladder_first(const struct moult_kernels *kernels);

#endif
