/* Any bytes are refused with a sentence, or are a state that is written and read
 * back as the same. */
#include <stdlib.h>
#include <string.h>

#include "front/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_state state, again;
    struct moult_error error = {0};
    moult_state_init(&state);
    if (moult_state_parse(&state, (const char *)data, size, &error) != 0) {
        MOULT_REQUIRE(error.message[0] != '\0');
        moult_state_release(&state);
        return 0;
    }
    size_t written_size, again_size;
    char *written = moult_state_format(&state, &written_size);
    moult_state_init(&again);
    int parsed = moult_state_parse(&again, written, written_size, &error);
    MOULT_REQUIRE(parsed == 0);
    char *written_again = moult_state_format(&again, &again_size);
    MOULT_REQUIRE(written_size == again_size && memcmp(written, written_again, again_size) == 0);
    MOULT_REQUIRE(moult_state_last_id(&state) == moult_state_last_id(&again));
    free(written);
    free(written_again);
    moult_state_release(&again);
    moult_state_release(&state);
    return 0;
}
