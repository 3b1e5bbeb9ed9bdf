/* Any bytes are refused with a sentence, or are the list of a revision whose
 * paths stay below its folder, and which is written and read back as the same. */
#include <stdlib.h>
#include <string.h>

#include "source/installed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct moult_source_list list, again;

static void check_paths(void) {
    for (unsigned i = 0; i < list.count; i++) {
        MOULT_REQUIRE(moult_source_path_safe(list.files[i].path));
        MOULT_REQUIRE(list.files[i].path[0] != '/' && strstr(list.files[i].path, "/../") == NULL);
        MOULT_REQUIRE(i == 0 || strcmp(list.files[i - 1].path, list.files[i].path) < 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char revision[MOULT_SHA256_HEX], revision_again[MOULT_SHA256_HEX];
    struct moult_error error = {0};
    if (moult_revision_parse((const char *)data, size, &list, revision, &error) != 0) {
        MOULT_REQUIRE(error.message[0] != '\0');
        moult_source_list_release(&list);
        return 0;
    }
    check_paths();
    size_t written_size;
    char *written = moult_revision_format(&list, revision, "a source", 7, &written_size);
    int parsed = moult_revision_parse(written, written_size, &again, revision_again, &error);
    MOULT_REQUIRE(parsed == 0 && strcmp(revision, revision_again) == 0);
    MOULT_REQUIRE(again.count == list.count && again.bytes == list.bytes);
    free(written);
    moult_source_list_release(&again);
    moult_source_list_release(&list);
    return 0;
}
