/* SHA-256, from libcrypto, and its hexadecimal form. */
#ifndef MOULT_BASE_HASH_H
#define MOULT_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

#define MOULT_SHA256_BYTES 32
#define MOULT_SHA256_HEX 65   /* Digits and a NUL. */

struct moult_sha256;

struct moult_sha256 *moult_sha256_open(void);
void moult_sha256_add(struct moult_sha256 *hash, const void *bytes, size_t size);
/* Writes the digest, lower case, and frees the hash. */
void moult_sha256_close(struct moult_sha256 *hash, char hex[MOULT_SHA256_HEX]);
void moult_sha256_of(const void *bytes, size_t size, char hex[MOULT_SHA256_HEX]);

#endif
