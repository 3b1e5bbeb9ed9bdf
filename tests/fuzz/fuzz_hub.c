/* A hub's answers, and what its client keeps of them. Any bytes are refused with a sentence, or
 * are what they should be: in two pages, cut at the first NUL; and the same bytes as the answer
 * about a commit, and as a cached listing. */
#include <string.h>

#include "source/listing.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_files(const struct moult_listing *listing) {
    for (unsigned i = 0; i < listing->count; i++) {
        const struct moult_listed_file *file = &listing->files[i];
        MOULT_REQUIRE(moult_source_path_safe(file->path));
        MOULT_REQUIRE((strlen(file->sha256) == 64) != (strlen(file->blob) == 40));
        MOULT_REQUIRE(moult_listing_find(listing, file->path) == file);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data;
    const char *cut = size > 0 ? memchr(text, '\0', size) : NULL;
    size_t first = cut != NULL ? (size_t)(cut - text) : size;
    struct moult_listing listing = {.count = 0};
    struct moult_error error = {0};
    char commit[MOULT_SHA1_HEX];
    int result = moult_listing_add_tree(&listing, text, first, &error);
    if (result == 0 && cut != NULL)
        result = moult_listing_add_tree(&listing, cut + 1, size - first - 1, &error);
    if (result == 0)
        result = moult_listing_sort(&listing, &error);
    MOULT_REQUIRE(result == 0 || error.message[0] != '\0');
    if (result == 0)
        check_files(&listing);
    moult_listing_release(&listing);
    error = (struct moult_error){0};
    result = moult_listing_add_cached_tree(&listing, text, size, &error);
    if (result == 0)
        result = moult_listing_sort(&listing, &error);
    MOULT_REQUIRE(result == 0 || error.message[0] != '\0');
    if (result == 0)
        check_files(&listing);
    moult_listing_release(&listing);
    error = (struct moult_error){0};
    result = moult_hub_commit_parse(text, size, commit, &error);
    MOULT_REQUIRE(result == 0 ? strlen(commit) == 40 : error.message[0] != '\0');
    return 0;
}
