/* Whatever a child says, the front has something it can use, or nothing. */
#include <string.h>

#include "front/fetch_line.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_fetch_line line;
    moult_fetch_line_parse(&line, (const char *)data, size);
    const struct moult_look *look = &line.look;
    if (line.kind == MOULT_FETCH_LINE_INSTALLED)
        MOULT_REQUIRE(strlen(line.installed.revision) == MOULT_SHA256_HEX - 1);
    if (line.kind == MOULT_FETCH_LINE_ADVANCE)
        MOULT_REQUIRE(line.progress >= 0 && line.progress <= 1);
    if (line.kind == MOULT_FETCH_LINE_FAILED)
        MOULT_REQUIRE(line.error.code != MOULT_OK);
    MOULT_REQUIRE(look->path_count <= MOULT_LOOK_PATHS_MAX);
    for (unsigned i = 0; i < look->path_count; i++)
        MOULT_REQUIRE(look->paths[i][0] == '/');
    MOULT_REQUIRE(look->above == NULL || look->above[0] == '/');
    MOULT_REQUIRE(strlen(look->validator) < MOULT_VALIDATOR_BYTES);
    moult_fetch_line_release(&line);
    return 0;
}
