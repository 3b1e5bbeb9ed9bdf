#include "front/signature.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define PREFIX "whsec_"

static size_t trimmed(const char *line, size_t size) {
    while (size > 0 && (line[size - 1] == ' ' || line[size - 1] == '\t' || line[size - 1] == '\r'))
        size--;
    return size;
}

static int read_key(const char *line, size_t size, struct moult_signing_keys *keys,
                    struct moult_error *error) {
    if (keys->count == MOULT_SIGNING_KEYS_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT, "It has more than %d secrets.",
                          MOULT_SIGNING_KEYS_MAX);
    struct moult_signing_key *key = &keys->keys[keys->count];
    if (size >= strlen(PREFIX) && memcmp(line, PREFIX, strlen(PREFIX)) == 0) {
        line += strlen(PREFIX);
        size -= strlen(PREFIX);
    }
    long read = moult_base64_read(key->bytes, sizeof key->bytes, line, size);
    if (read < MOULT_SIGNING_KEY_BYTES_MIN)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "Line %u is not a secret, which is base64 of %d to %d bytes; `openssl "
                          "rand -base64 32` makes one.",
                          keys->count + 1, MOULT_SIGNING_KEY_BYTES_MIN,
                          MOULT_SIGNING_KEY_BYTES_MAX);
    key->size = (size_t)read;
    keys->count++;
    return 0;
}

int moult_signing_keys_read(const char *text, size_t size, struct moult_signing_keys *keys,
                            struct moult_error *error) {
    keys->count = 0;
    while (size > 0) {
        const char *end = memchr(text, '\n', size);
        size_t line = end != NULL ? (size_t)(end - text) : size;
        size_t length = trimmed(text, line);
        if (length > 0 && read_key(text, length, keys, error) != 0)
            return -1;
        line += end != NULL;
        text += line;
        size -= line;
    }
    if (keys->count == 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "It has no secret.");
    return 0;
}

void moult_signature_write(const struct moult_signing_keys *keys, const char *id, int64_t seconds,
                           const char *body, size_t size,
                           char signature[MOULT_SIGNATURE_BYTES_MAX]) {
    char *head = moult_format("%s.%" PRId64 ".", id, seconds);
    size_t head_size = strlen(head);
    char *content = moult_reallocate(head, head_size + size, 1);
    memcpy(content + head_size, body, size);
    for (unsigned i = 0; i < keys->count; i++) {
        unsigned char digest[MOULT_SHA256_BYTES];
        moult_hmac_sha256(keys->keys[i].bytes, keys->keys[i].size, content, head_size + size,
                          digest);
        memcpy(signature, i == 0 ? "v1," : " v1,", 4);
        signature += i == 0 ? 3 : 4;
        moult_base64_write(signature, digest, sizeof digest);
        signature += MOULT_BASE64_SIZE(sizeof digest);
    }
    *signature = '\0';
    free(content);
}
