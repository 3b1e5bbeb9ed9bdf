/* What a document may be. */
#include <jansson.h>
#include <string.h>

#include "base/utf8.h"
#include "store/store.h"

bool moult_document_id_valid(const char *id) {
    size_t size = strnlen(id, MOULT_DOCUMENT_ID_BYTES_MAX + 1);
    if (size == 0 || size > MOULT_DOCUMENT_ID_BYTES_MAX || !moult_utf8_valid(id, size))
        return false;
    for (const char *at = id; *at != '\0';) {
        uint32_t c = moult_utf8_next(&at);
        if (c < 0x20 || (c >= 0x7F && c < 0xA0))
            return false;
    }
    return true;
}

static int check_text(const struct moult_put *put, uint32_t index, struct moult_error *error) {
    if (put->text_size == 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "documents[%u]: the text is empty.", index);
    if (put->text_size > MOULT_DOCUMENT_TEXT_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "documents[%u]: the text has %zu bytes; at most %lu are stored as one "
                          "document.", index, put->text_size, MOULT_DOCUMENT_TEXT_BYTES_MAX);
    if (!moult_utf8_valid(put->text, put->text_size))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "documents[%u]: the text is not valid UTF-8.", index);
    return 0;
}

static int check_metadata(const struct moult_put *put, uint32_t index,
                          struct moult_error *error) {
    if (put->metadata == NULL)
        return 0;
    if (put->metadata_size > MOULT_DOCUMENT_METADATA_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "documents[%u]: the metadata have %zu bytes; at most %lu are stored "
                          "with a document.", index, put->metadata_size,
                          MOULT_DOCUMENT_METADATA_BYTES_MAX);
    if (put->metadata_size == 2 && memcmp(put->metadata, "{}", 2) == 0)
        return 0;
    json_t *json = json_loadb(put->metadata, put->metadata_size,
                              JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
    bool is_object = json_is_object(json);
    json_decref(json);
    if (is_object)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "documents[%u]: the metadata must be a JSON object.", index);
}

int moult_put_check(const struct moult_put *put, uint32_t index, struct moult_error *error) {
    if (put->id != NULL && !moult_document_id_valid(put->id))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "documents[%u]: the id must have 1 to %d bytes, none of them a control "
                          "character.", index, MOULT_DOCUMENT_ID_BYTES_MAX);
    if (check_text(put, index, error) != 0)
        return -1;
    return check_metadata(put, index, error);
}
