/* SHA-256, and the SHA-1 that git names its blobs by, from libcrypto, in hexadecimal form. */
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

/* HMAC-SHA256 (RFC 2104), as bytes. */
void moult_hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size,
                       unsigned char digest[MOULT_SHA256_BYTES]);

#define MOULT_SHA1_BYTES 20
#define MOULT_SHA1_HEX 41

/* The name that git gives a file of `size` bytes: the SHA-1 of "blob SIZE\0" and its bytes.
 * Nothing rests on it against an adversary; it tells a damaged file from a whole one. */
struct moult_git_blob;

struct moult_git_blob *moult_git_blob_open(uint64_t size);
void moult_git_blob_add(struct moult_git_blob *blob, const void *bytes, size_t size);
void moult_git_blob_close(struct moult_git_blob *blob, char hex[MOULT_SHA1_HEX]);

#endif
