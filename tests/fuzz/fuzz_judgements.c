/* Any bytes are refused with a sentence, or are queries whose nDCG lies between 0 and 1, and is 1
 * for what they want most. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "front/judgements.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_query(const struct moult_judgements *judgements,
                        const struct moult_judged_query *query) {
    const char *ids[MOULT_JUDGED_HITS];
    uint32_t count = 0;
    double most = 0;
    MOULT_REQUIRE(query->size > 0 && query->collection < judgements->collection_count);
    MOULT_REQUIRE(query->relevant_count > 0 && query->ideal > 0);
    for (uint32_t i = 0; i < query->relevant_count; i++) {
        const struct moult_judged_document *document = &query->relevant[i];
        MOULT_REQUIRE(document->gain >= 0 && document->gain <= MOULT_GATE_GAIN_MAX);
        MOULT_REQUIRE(i == 0 || strcmp(query->relevant[i - 1].id, document->id) < 0);
        most = document->gain > most ? document->gain : most;
        if (count < MOULT_JUDGED_HITS)
            ids[count++] = document->id;
    }
    double ndcg = moult_judged_ndcg(query, ids, count);
    MOULT_REQUIRE(ndcg >= 0 && ndcg <= 1 + 1e-9);
    if (query->relevant_count == 1)
        MOULT_REQUIRE(fabs(ndcg - 1) < 1e-9 && most > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_error error = {0};
    struct moult_judgements *judgements =
        moult_judgements_parse((const char *)data, size, &error);
    MOULT_REQUIRE(judgements != NULL || error.message[0] != '\0');
    for (uint32_t i = 0; judgements != NULL && i < judgements->count; i++)
        check_query(judgements, &judgements->queries[i]);
    moult_judgements_free(judgements);
    return 0;
}
