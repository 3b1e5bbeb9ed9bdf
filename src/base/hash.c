#include "base/hash.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"

struct moult_sha256 {
    EVP_MD_CTX *context;
};

struct moult_sha256 *moult_sha256_open(void) {
    /* Without this, the first hash opens openssl.cnf, which a sandboxed worker
     * may not, and which must not be able to change what is computed here. */
    MOULT_REQUIRE(OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG, NULL) == 1);
    struct moult_sha256 *hash = moult_allocate(1, sizeof *hash);
    hash->context = EVP_MD_CTX_new();
    MOULT_REQUIRE(hash->context != NULL);
    MOULT_REQUIRE(EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) == 1);
    return hash;
}

void moult_sha256_add(struct moult_sha256 *hash, const void *bytes, size_t size) {
    MOULT_REQUIRE(EVP_DigestUpdate(hash->context, bytes, size) == 1);
}

void moult_sha256_close(struct moult_sha256 *hash, char hex[MOULT_SHA256_HEX]) {
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    MOULT_REQUIRE(EVP_DigestFinal_ex(hash->context, digest, &size) == 1);
    MOULT_REQUIRE(size == MOULT_SHA256_BYTES);
    for (unsigned i = 0; i < size; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15];
    }
    hex[MOULT_SHA256_HEX - 1] = '\0';
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

void moult_sha256_of(const void *bytes, size_t size, char hex[MOULT_SHA256_HEX]) {
    struct moult_sha256 *hash = moult_sha256_open();
    moult_sha256_add(hash, bytes, size);
    moult_sha256_close(hash, hex);
}
