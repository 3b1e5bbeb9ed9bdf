/* Texts to ids, for tests/golden/test_tokenizer.py:
 *
 *   tokenize TOKENIZER.JSON head|tail|spans TOKENS_MAX
 *
 * Reads texts from standard input, each after its size (4 bytes, in the machine's
 * order), and writes for each 1 if it was truncated or 0, the number of ids, and
 * the ids, all as 4 bytes; with "spans" each id is followed by where it begins and ends in
 * the text, and 1 if it begins a word, 2 if it is special, or 0. A tokenizer that is
 * refused is exit code 2 and a message on standard error.
 *
 *   tokenize TOKENIZER.JSON chunks TOKENS_MAX OVERLAP PROMPT
 *
 * Writes for each text how many chunks it is cut into, and where each begins and ends.
 *
 *   tokenize TOKENIZER.JSON fingerprint
 *
 * Writes the SHA-256 of what the tokenizer adds to a model's fingerprint. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer/chunks.h"
#include "tokenizer/tokenizer.h"

static int fail(const char *message) {
    fprintf(stderr, "%s\n", message);
    return 2;
}

static void put_number(uint32_t number) {
    fwrite(&number, sizeof number, 1, stdout);
}

static void write_answer(const struct moult_token_ids *ids) {
    put_number(ids->truncated);
    put_number(ids->count);
    for (uint32_t n = 0; n < ids->count; n++) {
        put_number(ids->ids[n]);
        if (ids->spans == NULL)
            continue;
        put_number(ids->spans[n].begin);
        put_number(ids->spans[n].end);
        put_number(ids->spans[n].special ? 2 : ids->spans[n].begins_word);
    }
}

static int write_chunks(const struct moult_tokenizer *tokenizer,
                        struct moult_tokenizer_scratch *scratch,
                        const struct moult_chunking *chunking, const char *text, size_t size,
                        struct moult_error *error) {
    size_t chunks_max = size + 1;
    struct moult_chunk *chunks = moult_allocate(chunks_max, sizeof *chunks);
    int64_t count = moult_tokenizer_cut(tokenizer, scratch, chunking, text, size, chunks,
                                        chunks_max, error);
    if (count > 0)
        put_number((uint32_t)count);
    for (int64_t n = 0; n < count; n++) {
        put_number(chunks[n].begin);
        put_number(chunks[n].end);
    }
    free(chunks);
    return count > 0 ? 0 : -1;
}

static int encode_all(const struct moult_tokenizer *tokenizer, const char *mode,
                      uint32_t tokens_max, const struct moult_chunking *chunking,
                      struct moult_error *error) {
    struct moult_tokenizer_scratch *scratch = moult_tokenizer_scratch_open();
    struct moult_token_ids ids;
    uint32_t size;
    int status = 0;

    while (status == 0 && fread(&size, sizeof size, 1, stdin) == 1) {
        /* Exactly as large as the text, so that a sanitizer sees every step beyond it. */
        char *text = malloc(size);
        if (size > 0 && (text == NULL || fread(text, 1, size, stdin) != size)) {
            status = moult_fail(error, MOULT_ERROR_INVALID, "A text is cut short.");
        } else if (!moult_utf8_valid(text, size)) {
            status = moult_fail(error, MOULT_ERROR_INVALID, "A text is not UTF-8.");
        } else if (chunking != NULL) {
            status = write_chunks(tokenizer, scratch, chunking, text, size, error);
        } else {
            status = (strcmp(mode, "tail") == 0    ? moult_tokenizer_encode_tail
                      : strcmp(mode, "spans") == 0 ? moult_tokenizer_encode_spans
                                                   : moult_tokenizer_encode)(
                tokenizer, scratch, text, size, tokens_max, &ids, error);
            if (status == 0)
                write_answer(&ids);
        }
        free(text);
    }
    moult_tokenizer_scratch_close(scratch);
    return status;
}

static int print_fingerprint(const struct moult_tokenizer *tokenizer) {
    struct moult_sha256 *hash = moult_sha256_open();
    char hex[MOULT_SHA256_HEX];

    moult_tokenizer_fingerprint(tokenizer, hash);
    moult_sha256_close(hash, hex);
    puts(hex);
    return 0;
}

int main(int argc, char **argv) {
    struct moult_error error = {0};
    char *json;
    size_t size;

    if (argc != 4 && !(argc == 3 && strcmp(argv[2], "fingerprint") == 0) &&
        !(argc == 6 && strcmp(argv[2], "chunks") == 0))
        return fail("usage: tokenize TOKENIZER.JSON head|tail|spans TOKENS_MAX, fingerprint, or "
                    "chunks TOKENS_MAX OVERLAP PROMPT");
    if (moult_file_read(AT_FDCWD, argv[1], MOULT_TOKENIZER_BYTES_MAX, &json, &size, &error) != 0)
        return fail(error.message);
    struct moult_tokenizer *tokenizer = moult_tokenizer_parse(json, size, &error);
    free(json);
    if (tokenizer == NULL)
        return fail(error.message);
    struct moult_chunking chunking = {.prompt = ""};
    uint32_t tokens_max = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 0;
    if (argc == 6)
        chunking = (struct moult_chunking){.tokens = tokens_max,
                                           .overlap = (uint32_t)strtoul(argv[4], NULL, 10),
                                           .prompt = argv[5]};
    int status = argc == 3 ? print_fingerprint(tokenizer)
                           : encode_all(tokenizer, argv[2], tokens_max,
                                        argc == 6 ? &chunking : NULL, &error);
    moult_tokenizer_free(tokenizer);
    return status != 0 ? fail(error.message) : 0;
}
