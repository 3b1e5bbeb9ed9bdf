/* Any bytes: where a record ends does not depend on the pieces they come in, and its fields lie
 * within it. Written again with all quotes, they are the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/memory.h"
#include "cli/csv.h"

#define BYTES_MAX (64u * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct moult_csv_fields *fields, char delimiter) {
    struct moult_csv_fields again = {0};
    struct moult_buffer text;
    moult_buffer_init(&text, 4 * BYTES_MAX);
    for (size_t i = 0; i < fields->count; i++) {
        if (i > 0)
            moult_buffer_append(&text, &delimiter, 1);
        moult_buffer_text(&text, "\"");
        for (size_t k = 0; k < fields->items[i].size; k++)
            moult_buffer_append(&text, fields->items[i].bytes[k] == '"' ? "\"\""
                                       : &fields->items[i].bytes[k],
                                fields->items[i].bytes[k] == '"' ? 2 : 1);
        moult_buffer_text(&text, "\"");
    }
    struct moult_csv_scan scan = {0};
    bool ended;
    MOULT_REQUIRE(!text.overflowed);
    MOULT_REQUIRE(moult_csv_scan(&scan, delimiter, text.bytes, text.size, &ended) == text.size);
    MOULT_REQUIRE(!ended && scan.state == MOULT_CSV_QUOTE);
    MOULT_REQUIRE(moult_csv_cut(text.bytes, text.size, delimiter, &again, NULL) == 0);
    MOULT_REQUIRE(again.count == fields->count);
    for (size_t i = 0; i < again.count; i++)
        MOULT_REQUIRE(again.items[i].size == fields->items[i].size &&
                      memcmp(again.items[i].bytes, fields->items[i].bytes,
                             again.items[i].size) == 0);
    moult_csv_fields_release(&again);
    moult_buffer_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct moult_csv_scan whole = {0}, pieces = {0};
    struct moult_csv_fields fields = {0};
    struct moult_error error = {0};
    bool ended, ended_in_pieces = false;
    if (size < 2 || size > BYTES_MAX || strchr("\"\r\n", data[0]) != NULL)
        return 0;
    char delimiter = (char)data[0];
    size_t piece = (size_t)data[1] + 1, at = 0;
    char *bytes = moult_copy_bytes((const char *)data + 2, size - 2);
    size -= 2;
    size_t end = moult_csv_scan(&whole, delimiter, bytes, size, &ended);
    while (at < size && !ended_in_pieces)
        at += moult_csv_scan(&pieces, delimiter, bytes + at, size - at < piece ? size - at : piece,
                             &ended_in_pieces);
    MOULT_REQUIRE(at == end && ended == ended_in_pieces && whole.state == pieces.state);
    size_t record = end - ended;
    if (moult_csv_cut(bytes, record, delimiter, &fields, &error) == 0) {
        MOULT_REQUIRE(fields.count > 0 && whole.state != MOULT_CSV_QUOTED);
        for (size_t i = 0; i < fields.count; i++)
            MOULT_REQUIRE(fields.items[i].bytes >= bytes &&
                          fields.items[i].bytes + fields.items[i].size <= bytes + record);
        check_again(&fields, delimiter);
    } else {
        MOULT_REQUIRE(error.message[0] != '\0');
    }
    moult_csv_fields_release(&fields);
    free(bytes);
    return 0;
}
