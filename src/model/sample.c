#include "model/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

int moult_sample_make(struct moult_sample *sample, const struct moult_config *config,
                      const struct moult_tokenizer *tokenizer, const char *const *texts,
                      uint32_t count, uint32_t tokens_max, struct moult_error *error) {
    struct moult_tokenizer_scratch *scratch = moult_tokenizer_scratch_open();
    int result = 0;

    if (tokens_max > config->tokens_max)
        tokens_max = config->tokens_max;
    *sample = (struct moult_sample){0};
    sample->ids = moult_allocate((size_t)count * tokens_max, sizeof *sample->ids);
    sample->lengths = moult_allocate(count, sizeof *sample->lengths);
    for (uint32_t i = 0; result == 0 && i < count; i++) {
        struct moult_token_ids ids;

        result = moult_tokenizer_encode(tokenizer, scratch, texts[i], strlen(texts[i]), tokens_max,
                                        &ids, error);
        if (result != 0 || ids.count == 0)
            continue;
        memcpy(sample->ids + sample->tokens, ids.ids, ids.count * sizeof *ids.ids);
        sample->lengths[sample->count++] = ids.count;
        sample->tokens += ids.count;
    }
    moult_tokenizer_scratch_close(scratch);
    if (result != 0)
        moult_sample_release(sample);
    return result;
}

void moult_sample_release(struct moult_sample *sample) {
    free(sample->ids);
    free(sample->lengths);
    *sample = (struct moult_sample){0};
}
