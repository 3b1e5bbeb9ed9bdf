/* Any bytes are refused with a sentence, or are the head of an array whose size can be counted. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/memory.h"
#include "base/npy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_npy_head head = {0};
    struct moult_error error = {0};
    /* Of its own size, so that a step beyond the end is seen. */
    char *bytes = malloc(size > 0 ? size : 1);
    MOULT_REQUIRE(bytes != NULL);
    memcpy(bytes, data, size);
    if (moult_npy_read_head(bytes, size, &head, &error) == 0) {
        uint64_t all;
        MOULT_REQUIRE(head.C > 0 && head.C <= MOULT_DIMENSIONS_MAX);
        MOULT_REQUIRE(head.width == 2 || head.width == 4 || head.width == 8);
        MOULT_REQUIRE(head.offset <= size);
        MOULT_REQUIRE(!__builtin_mul_overflow(head.rows, (uint64_t)head.C * head.width, &all));
        MOULT_REQUIRE(all <= INT64_MAX);
    } else {
        MOULT_REQUIRE(error.message[0] != '\0');
    }
    free(bytes);
    return 0;
}
