/* Any line is refused with a sentence, or has a digest. */
#include <string.h>

#include "front/brought.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    unsigned char digest[MOULT_SHA256_BYTES];
    struct moult_error error = {0};
    int result = moult_brought_read_line((const char *)data, size, digest, &error);
    MOULT_REQUIRE(result == 0 || error.message[0] != '\0');
    return 0;
}
