/* The name of a model's vector space: docs/fingerprint.md has the format. */
#ifndef MOULT_MODEL_FINGERPRINT_H
#define MOULT_MODEL_FINGERPRINT_H

#include "base/hash.h"
#include "model/weights.h"

void moult_fingerprint_compute(const struct moult_config *config,
                               const struct moult_tokenizer *tokenizer,
                               const struct moult_weights *weights, char hex[MOULT_SHA256_HEX]);

#endif
