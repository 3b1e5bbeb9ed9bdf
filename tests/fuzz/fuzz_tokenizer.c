/* A tokenizer.json and a text for it: JSON, a NUL byte, UTF-8. An input that does not
 * begin with "{" is a text alone, for a tokenizer that has a bit of everything. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "tokenizer/chunks.h"
#include "tokenizer/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ADDED(id, content, normalized, single_word, strip) \
    "{\"id\":" id ",\"content\":\"" content "\",\"special\":false,\"normalized\":" normalized \
    ",\"single_word\":" single_word ",\"lstrip\":" strip ",\"rstrip\":" strip "}"

static const char everything[] =
    "{\"added_tokens\":[" ADDED("9", "[M]", "false", "false", "true") ","
    ADDED("10", "a b", "true", "true", "true") "," ADDED("11", "  ", "false", "false", "true") ","
    ADDED("12", "\xc3\x89", "true", "false", "false") "],"
    "\"normalizer\":{\"type\":\"BertNormalizer\",\"clean_text\":true,"
    "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true},"
    "\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
    "\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"[C]\",1],\"sep\":[\"[S]\",2]},"
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[U]\",\"continuing_subword_prefix\":\"##\","
    "\"max_input_chars_per_word\":20,\"vocab\":{\"[U]\":0,\"[C]\":1,\"[S]\":2,\"a\":3,\"##b\":4,"
    "\"ab\":5,\".\":6,\"\xe4\xb8\xad\":7,\"##\xf0\x9d\x85\xa5\":8}}}";

struct result {
    uint32_t *ids;
    uint32_t count;
    bool truncated;
};

static struct result encode(const struct moult_tokenizer *tokenizer,
                            struct moult_tokenizer_scratch *scratch, const char *text,
                            size_t size, uint32_t tokens_max, bool tail) {
    struct moult_token_ids ids;
    MOULT_REQUIRE((tail ? moult_tokenizer_encode_tail : moult_tokenizer_encode)(
                      tokenizer, scratch, text, size, tokens_max, &ids, NULL) == 0);
    MOULT_REQUIRE(ids.count <= tokens_max);
    struct result result = {moult_allocate(ids.count, sizeof(uint32_t)), ids.count, ids.truncated};
    memcpy(result.ids, ids.ids, ids.count * sizeof(uint32_t));
    for (uint32_t n = 0; n < ids.count; n++)
        MOULT_REQUIRE(ids.ids[n] < moult_tokenizer_vocabulary_size(tokenizer));
    return result;
}

/* Spans change no id, and lie in the text; words begin where the text goes on. */
static void check_spans(const struct moult_tokenizer *tokenizer,
                        struct moult_tokenizer_scratch *scratch, const char *text, size_t size,
                        uint32_t tokens_max) {
    struct result plain = encode(tokenizer, scratch, text, size, tokens_max, false);
    struct moult_token_ids ids;
    MOULT_REQUIRE(moult_tokenizer_encode_spans(tokenizer, scratch, text, size, tokens_max, &ids,
                                               NULL) == 0);
    MOULT_REQUIRE(ids.count == plain.count && ids.truncated == plain.truncated);
    MOULT_REQUIRE(memcmp(ids.ids, plain.ids, ids.count * sizeof(uint32_t)) == 0);
    uint32_t special = 0;
    for (uint32_t n = 0; n < ids.count; n++) {
        const struct moult_token_span *span = &ids.spans[n];
        special += span->special;
        if (span->special)
            continue;
        MOULT_REQUIRE(span->begin <= span->end && span->end <= size);
        MOULT_REQUIRE(moult_utf8_valid(text + span->begin, span->end - span->begin));
    }
    MOULT_REQUIRE(special == moult_tokenizer_special_count(tokenizer));
    free(plain.ids);
}

/* Of a text: as many as make many chunks. */
#define CHUNKED_BYTES 400u

/* Chunks are the text, each goes further than the one before, and none has too many tokens. */
static void check_chunks(const struct moult_tokenizer *tokenizer,
                         struct moult_tokenizer_scratch *scratch, const char *text, size_t size,
                         struct moult_chunking chunking) {
    struct moult_chunk *chunks = moult_allocate(size + 1, sizeof *chunks);
    struct moult_error error;
    int64_t count = moult_tokenizer_cut(tokenizer, scratch, &chunking, text, size, chunks,
                                        size + 1, &error);
    MOULT_REQUIRE(count >= 1 || error.code == MOULT_ERROR_INVALID);
    for (int64_t n = 0; n < count; n++) {
        MOULT_REQUIRE(chunks[n].begin <= chunks[n].end && chunks[n].end <= size);
        MOULT_REQUIRE(n == 0 ? chunks[n].begin == 0
                             : chunks[n].begin > chunks[n - 1].begin &&
                                   chunks[n].begin <= chunks[n - 1].end &&
                                   chunks[n].end > chunks[n - 1].end);
        MOULT_REQUIRE(n < count - 1 || chunks[n].end == size);
        MOULT_REQUIRE(moult_utf8_valid(text + chunks[n].begin, chunks[n].end - chunks[n].begin));
        struct result alone = encode(tokenizer, scratch, text + chunks[n].begin,
                                     chunks[n].end - chunks[n].begin, UINT32_MAX, false);
        /* A single character is as short as a chunk can be. */
        MOULT_REQUIRE(alone.count <= chunking.tokens ||
                      chunks[n].end - chunks[n].begin <= 4);
        free(alone.ids);
    }
    free(chunks);
}

/* The first and the last ids are those of the whole. */
static void check_cut(const struct moult_tokenizer *tokenizer,
                      struct moult_tokenizer_scratch *scratch, const char *text, size_t size,
                      uint32_t tokens_max) {
    uint32_t special = moult_tokenizer_special_count(tokenizer);
    struct result whole = encode(tokenizer, scratch, text, size, UINT32_MAX, false);
    struct result head = encode(tokenizer, scratch, text, size, tokens_max, false);
    struct result tail = encode(tokenizer, scratch, text, size, tokens_max, true);
    struct result empty = encode(tokenizer, scratch, text, 0, special, false);

    MOULT_REQUIRE(!whole.truncated && whole.count >= special && empty.count == special);
    MOULT_REQUIRE(head.truncated == (whole.count > tokens_max));
    MOULT_REQUIRE(tail.truncated == head.truncated && tail.count == head.count);
    MOULT_REQUIRE(head.count == (head.truncated ? tokens_max : whole.count));
    if (!head.truncated) {
        MOULT_REQUIRE(memcmp(head.ids, whole.ids, whole.count * sizeof(uint32_t)) == 0);
        MOULT_REQUIRE(memcmp(tail.ids, whole.ids, whole.count * sizeof(uint32_t)) == 0);
    }
    free(whole.ids);
    free(head.ids);
    free(tail.ids);
    free(empty.ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *bytes = (const char *)data, *json = everything;
    size_t json_size = sizeof everything - 1;
    struct moult_error error = {0};

    if (size > 0 && bytes[0] == '{') {
        json = bytes;
        json_size = strnlen(bytes, size);
        bytes += json_size < size ? json_size + 1 : size;
        size -= (size_t)(bytes - json);
    }
    struct moult_tokenizer *tokenizer = moult_tokenizer_parse(json, json_size, &error);
    if (tokenizer == NULL) {
        MOULT_REQUIRE(error.message[0] != '\0' && json != everything);
        return 0;
    }
    if (moult_utf8_valid(bytes, size)) {
        /* A copy without a byte behind it, so that a step beyond its end is seen. */
        char *text = malloc(size);
        if (size > 0)
            memcpy(text, bytes, size);
        struct moult_tokenizer_scratch *scratch = moult_tokenizer_scratch_open();
        uint32_t special = moult_tokenizer_special_count(tokenizer);
        for (uint32_t more = 0; more < 40; more = 2 * more + 1)
            check_cut(tokenizer, scratch, text, size, special + more);
        check_spans(tokenizer, scratch, text, size, UINT32_MAX);
        check_spans(tokenizer, scratch, text, size, special + 3);
        struct moult_chunking chunking = {.tokens = 2 * special + 8, .prompt = ""};
        size_t begin = size < CHUNKED_BYTES ? size : CHUNKED_BYTES;
        while (begin > 0 && !moult_utf8_valid(text, begin))
            begin--;
        check_chunks(tokenizer, scratch, text, begin, chunking);
        chunking.overlap = 2;
        check_chunks(tokenizer, scratch, text, begin, chunking);
        chunking.prompt = "a";
        check_chunks(tokenizer, scratch, text, begin, chunking);
        moult_tokenizer_scratch_close(scratch);
        free(text);
    }
    moult_tokenizer_free(tokenizer);
    return 0;
}
