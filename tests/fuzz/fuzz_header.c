/* Headers of a server that may say anything: five of them, cut at line feeds. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "source/header.h"

#define HEADERS 5
#define URL "https://host:8080/api/models?page=1"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_etag(const char *etag) {
    if (!moult_header_etag_usable(etag))
        return;
    MOULT_REQUIRE(strlen(etag) <= 128 && strpbrk(etag, " \r\n\t") == NULL);
    MOULT_REQUIRE(etag[0] == '"' || etag[0] == 'W');
}

static void check_next(const char *link) {
    char *next = moult_header_next_page(link, URL);
    MOULT_REQUIRE(next == NULL || strlen(next) <= strlen(link) + strlen(URL));
    MOULT_REQUIRE(next == NULL || strchr(next, '>') == NULL);
    free(next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = moult_copy_bytes((const char *)data, size);
    char *headers[HEADERS] = {text};
    for (unsigned i = 1; i < HEADERS; i++) {
        char *end = headers[i - 1] != NULL ? strchr(headers[i - 1], '\n') : NULL;
        if (end != NULL)
            *end++ = '\0';
        headers[i] = end;
    }
    check_etag(headers[0]);
    check_next(headers[1]);
    MOULT_REQUIRE(moult_header_pause_ms(headers[2], headers[3], 1700000000) <= 86400000);
    MOULT_REQUIRE(moult_header_date_s(headers[2]) >= -1);
    moult_header_range_first(headers[4]);
    free(text);
    return 0;
}
