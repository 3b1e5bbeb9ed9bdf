#include "base/hash.h"

#include <inttypes.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"

struct moult_sha256 {
    EVP_MD_CTX *context;
};

struct moult_git_blob {
    EVP_MD_CTX *context;
};

static EVP_MD_CTX *open_digest(const EVP_MD *kind) {
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    MOULT_REQUIRE(context != NULL);
    MOULT_REQUIRE(EVP_DigestInit_ex(context, kind, NULL) == 1);
    return context;
}

/* Writes 2 * `expected` digits and a NUL. */
static void close_digest(EVP_MD_CTX *context, unsigned expected, char *hex) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    MOULT_REQUIRE(EVP_DigestFinal_ex(context, digest, &size) == 1);
    MOULT_REQUIRE(size == expected);
    for (unsigned i = 0; i < size; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[2 * size] = '\0';
    EVP_MD_CTX_free(context);
}

struct moult_sha256 *moult_sha256_open(void) {
    /* Without this, the first hash opens openssl.cnf, which a sandboxed worker
     * may not, and which must not be able to change what is computed here. */
    MOULT_REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
    struct moult_sha256 *hash = moult_allocate(1, sizeof *hash);
    hash->context = open_digest(EVP_sha256());
    return hash;
}

void moult_sha256_add(struct moult_sha256 *hash, const void *bytes, size_t size) {
    MOULT_REQUIRE(EVP_DigestUpdate(hash->context, bytes, size) == 1);
}

void moult_sha256_close(struct moult_sha256 *hash, char hex[MOULT_SHA256_HEX]) {
    close_digest(hash->context, MOULT_SHA256_BYTES, hex);
    free(hash);
}

struct moult_git_blob *moult_git_blob_open(uint64_t size) {
    char header[32];
    struct moult_git_blob *blob = moult_allocate(1, sizeof *blob);
    blob->context = open_digest(EVP_sha1());
    int length = snprintf(header, sizeof header, "blob %" PRIu64, size);
    moult_git_blob_add(blob, header, (size_t)length + 1);
    return blob;
}

void moult_git_blob_add(struct moult_git_blob *blob, const void *bytes, size_t size) {
    MOULT_REQUIRE(EVP_DigestUpdate(blob->context, bytes, size) == 1);
}

void moult_git_blob_close(struct moult_git_blob *blob, char hex[MOULT_SHA1_HEX]) {
    close_digest(blob->context, MOULT_SHA1_BYTES, hex);
    free(blob);
}

void moult_sha256_of(const void *bytes, size_t size, char hex[MOULT_SHA256_HEX]) {
    struct moult_sha256 *hash = moult_sha256_open();
    moult_sha256_add(hash, bytes, size);
    moult_sha256_close(hash, hex);
}

void moult_hmac_sha256(const void *key, size_t key_size, const void *bytes, size_t size,
                       unsigned char digest[MOULT_SHA256_BYTES]) {
    unsigned written = 0;
    MOULT_REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
    MOULT_REQUIRE(HMAC(EVP_sha256(), key, (int)key_size, bytes, size, digest, &written) != NULL);
    MOULT_REQUIRE(written == MOULT_SHA256_BYTES);
}
