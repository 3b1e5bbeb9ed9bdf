/* Any bytes are refused with a sentence, or are a list of files whose paths stay below a
 * folder, each once, with a digest. */
#include <string.h>

#include "source/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_listing listing = {.count = 0};
    struct moult_error error = {0};
    int result = moult_listing_add_manifest(&listing, (const char *)data, size, &error);
    if (result == 0)
        result = moult_listing_sort(&listing, &error);
    MOULT_REQUIRE(result == 0 || error.message[0] != '\0');
    for (unsigned i = 0; result == 0 && i < listing.count; i++) {
        const struct moult_listed_file *file = &listing.files[i];
        MOULT_REQUIRE(moult_source_path_safe(file->path) && strlen(file->sha256) == 64);
        MOULT_REQUIRE(i == 0 || strcmp(listing.files[i - 1].path, file->path) < 0);
        MOULT_REQUIRE(moult_listing_find(&listing, file->path) == file);
    }
    moult_listing_release(&listing);
    return 0;
}
