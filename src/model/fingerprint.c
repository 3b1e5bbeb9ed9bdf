#include "model/fingerprint.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Rises when this program changes what it makes of equal weights by more than
 * rounding: then old vectors and new ones are not to be compared. */
#define ENCODER_SEMANTICS 1

static void add_line(struct moult_sha256 *hash, char *line) {
    moult_sha256_add(hash, line, strlen(line));
    free(line);
}

static void add_prompt(struct moult_sha256 *hash, const char *name, const char *prompt) {
    add_line(hash, moult_format("%s %zu:%s\n", name, strlen(prompt), prompt));
}

static void add_config(struct moult_sha256 *hash, const struct moult_config *config) {
    uint32_t epsilon_bits;

    memcpy(&epsilon_bits, &config->epsilon, sizeof epsilon_bits);
    add_line(hash, moult_format("moult fingerprint 1\n"));
    add_line(hash, moult_format("encoder bert %d\n", ENCODER_SEMANTICS));
    add_line(hash, moult_format("heads %" PRIu32 "\n", config->heads));
    add_line(hash, moult_format("activation gelu\n"));
    add_line(hash, moult_format("layer_norm_eps %08" PRIx32 "\n", epsilon_bits));
    add_line(hash, moult_format("pooling %s\n", moult_pooling_name(config->pooling)));
    add_line(hash, moult_format("normalize %d\n", config->normalize));
    add_line(hash, moult_format("tokens_max %" PRIu32 "\n", config->tokens_max));
    add_prompt(hash, "document_prompt", config->document_prompt);
    add_prompt(hash, "default_prompt", config->default_prompt);
}

/* The tokenizer adds a digest of its own, in hexadecimal. */
static void add_tokenizer(struct moult_sha256 *hash, const struct moult_tokenizer *tokenizer) {
    moult_sha256_add(hash, "tokenizer ", 10);
    moult_tokenizer_fingerprint(tokenizer, hash);
    moult_sha256_add(hash, "\n", 1);
}

static void add_tensor(struct moult_sha256 *hash, const struct moult_tensor_digest *digest) {
    if (digest->rank == 1)
        add_line(hash, moult_format("tensor %s [%" PRIu64 "] %s\n", digest->name,
                                    digest->shape[0], digest->sha256));
    else
        add_line(hash, moult_format("tensor %s [%" PRIu64 ",%" PRIu64 "] %s\n", digest->name,
                                    digest->shape[0], digest->shape[1], digest->sha256));
}

void moult_fingerprint_compute(const struct moult_config *config,
                               const struct moult_tokenizer *tokenizer,
                               const struct moult_weights *weights, char hex[MOULT_SHA256_HEX]) {
    struct moult_sha256 *hash = moult_sha256_open();

    add_config(hash, config);
    add_tokenizer(hash, tokenizer);
    for (size_t i = 0; i < weights->digest_count; i++)
        add_tensor(hash, &weights->digests[i]);
    moult_sha256_close(hash, hex);
}
