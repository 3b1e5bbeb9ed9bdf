/* Small tokenizer.json files: `plain`, with other parts where a test gives them. */
#ifndef MOULT_TESTS_UNIT_TOKENIZER_DESCRIPTION_H
#define MOULT_TESTS_UNIT_TOKENIZER_DESCRIPTION_H

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "tokenizer/tokenizer.h"

struct description {
    const char *added, *normalizer, *pre_tokenizer, *post_processor, *model, *more;
};

static const struct description plain = {
    .added = "[{\"id\":0,\"content\":\"[UNK]\",\"special\":true,\"normalized\":false,"
             "\"single_word\":false,\"lstrip\":false,\"rstrip\":false}]",
    .normalizer = "{\"type\":\"BertNormalizer\",\"clean_text\":true,"
                  "\"handle_chinese_chars\":true,\"strip_accents\":null,\"lowercase\":true}",
    .pre_tokenizer = "{\"type\":\"BertPreTokenizer\"}",
    .post_processor = "{\"type\":\"BertProcessing\",\"cls\":[\"[CLS]\",1],\"sep\":[\"[SEP]\",2]}",
    .model = "{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","
             "\"max_input_chars_per_word\":10,\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,\"[SEP]\":2,"
             "\"a\":3,\"##b\":4,\"ab\":5,\"##c\":6,\".\":7,\"e\":8}}",
    .more = ""};

static inline const char *part(const char *given, const char *otherwise) {
    return given != NULL ? given : otherwise;
}

/* Parts that are NULL are those of `plain`. */
static inline struct moult_tokenizer *parse(struct description parts, struct moult_error *error) {
    char *json = moult_format(
        "{\"version\":\"1.0\",\"truncation\":{\"max_length\":2},\"padding\":null,"
        "\"added_tokens\":%s,\"normalizer\":%s,\"pre_tokenizer\":%s,\"post_processor\":%s,"
        "\"decoder\":{\"type\":\"WordPiece\"},\"model\":%s%s}",
        part(parts.added, plain.added), part(parts.normalizer, plain.normalizer),
        part(parts.pre_tokenizer, plain.pre_tokenizer),
        part(parts.post_processor, plain.post_processor), part(parts.model, plain.model),
        part(parts.more, plain.more));
    struct moult_tokenizer *tokenizer = moult_tokenizer_parse(json, strlen(json), error);
    free(json);
    return tokenizer;
}

#endif
