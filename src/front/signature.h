/* Signatures of web hooks, as the Standard Webhooks specification has them, so that its
 * libraries verify them: HMAC-SHA256 over "ID.SECONDS.BODY", in base64, behind "v1,". */
#ifndef MOULT_FRONT_SIGNATURE_H
#define MOULT_FRONT_SIGNATURE_H

#include <stddef.h>
#include <stdint.h>

#include "base/base64.h"
#include "base/error.h"
#include "base/hash.h"

#define MOULT_SIGNING_KEYS_MAX 4
#define MOULT_SIGNING_KEY_BYTES_MIN 24
#define MOULT_SIGNING_KEY_BYTES_MAX 64
/* "v1,… v1,…" and a NUL. */
#define MOULT_SIGNATURE_BYTES_MAX                                                                 \
    (MOULT_SIGNING_KEYS_MAX * (4 + MOULT_BASE64_SIZE(MOULT_SHA256_BYTES)))

/* Several sign together while receivers change from one to the next. */
struct moult_signing_keys {
    unsigned count;
    struct moult_signing_key {
        unsigned char bytes[MOULT_SIGNING_KEY_BYTES_MAX];
        size_t size;
    } keys[MOULT_SIGNING_KEYS_MAX];
};

/* From the bytes of a file: one secret a line, "whsec_" and base64, or base64 alone. The message
 * of an error never shows any of it. */
int moult_signing_keys_read(const char *text, size_t size, struct moult_signing_keys *keys,
                            struct moult_error *error);

void moult_signature_write(const struct moult_signing_keys *keys, const char *id, int64_t seconds,
                           const char *body, size_t size,
                           char signature[MOULT_SIGNATURE_BYTES_MAX]);

#endif
