/* Any filter is refused with a sentence or compiled, and evaluates over any bytes without
 * leaving them; of a filter and its negation at most one matches, and exactly one where the
 * bytes are a JSON object. The input is the filter, a NUL, and the metadata. */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "store/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_object(const char *metadata, size_t size) {
    json_t *json = json_loadb(metadata, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    bool is_object = json_is_object(json);
    json_decref(json);
    return is_object;
}

/* Of its own length, so that a read beyond the NUL behind it is seen. */
static void evaluate(const json_t *json, const struct moult_filter *filter, const uint8_t *bytes,
                     size_t size) {
    char *metadata = moult_copy_bytes((const char *)bytes, size);
    bool matches = moult_filter_matches(filter, metadata, size);
    json_t *negated = json_pack("{s:O}", "$not", json);
    struct moult_filter *opposite = moult_filter_parse(negated, NULL);
    if (opposite != NULL) {
        bool opposite_matches = moult_filter_matches(opposite, metadata, size);
        MOULT_REQUIRE(!matches || !opposite_matches);
        MOULT_REQUIRE(matches || opposite_matches || !is_object(metadata, size));
    }
    moult_filter_free(opposite);
    json_decref(negated);
    free(metadata);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_error error = {0};
    const uint8_t *nul = size > 0 ? memchr(data, 0, size) : NULL;
    size_t filter_size = nul != NULL ? (size_t)(nul - data) : size;
    json_t *json = json_loadb((const char *)data, filter_size, JSON_DECODE_ANY | JSON_ALLOW_NUL,
                              NULL);
    if (json == NULL)
        return 0;
    struct moult_filter *filter = moult_filter_parse(json, &error);
    MOULT_REQUIRE(filter != NULL || error.message[0] != '\0');
    if (filter != NULL && nul != NULL)
        evaluate(json, filter, nul + 1, size - filter_size - 1);
    moult_filter_free(filter);
    json_decref(json);
    return 0;
}
