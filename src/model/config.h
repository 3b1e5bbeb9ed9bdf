/* What the JSON files of a model folder say, checked and put together.
 *
 * The files and their meaning are sentence-transformers' (2 to 6). What would change
 * the vectors and moult lacks is refused by name, never ignored. */
#ifndef MOULT_MODEL_CONFIG_H
#define MOULT_MODEL_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "model/model.h"

enum moult_pooling { MOULT_POOLING_MEAN, MOULT_POOLING_CLS, MOULT_POOLING_MAX };

struct moult_config {
    /* config.json */
    uint32_t layers;
    uint32_t width;             /* C */
    uint32_t heads;             /* H */
    uint32_t head_width;        /* D = C / H */
    uint32_t inner_width;       /* F */
    uint32_t vocabulary_size;   /* Rows of the word embeddings. */
    uint32_t positions;         /* Rows of the position embeddings. */
    uint32_t types;             /* Rows of the token type embeddings. */
    float epsilon;              /* Of every LayerNorm. */

    /* modules.json and the folders it names; owned. */
    char *transformer_folder;   /* "", or "0_Transformer". */
    char *pooling_folder;       /* NULL without modules.json. */
    char *normalize_folder;     /* NULL without the module. */
    enum moult_pooling pooling;
    bool normalize;

    uint32_t tokens_max;
    bool lower_case;            /* sentence_bert_config.json asks for it. */
    char *query_prompt;         /* Owned; "" where there is none. */
    char *document_prompt;
    char *default_prompt;
};

/* Reads and checks them all. On failure nothing is left to release. */
int moult_config_read(struct moult_config *config, const struct moult_model_files *files,
                      struct moult_error *error);
void moult_config_release(struct moult_config *config);

const char *moult_pooling_name(enum moult_pooling pooling);

/* One file each, for tests; moult_config_init() comes first, and modules.json before
 * the files of the folders that it names. */
void moult_config_init(struct moult_config *config);
int moult_config_parse_bert(struct moult_config *config, const char *json, size_t size,
                            struct moult_error *error);
int moult_config_parse_modules(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error);
int moult_config_parse_pooling(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error);
int moult_config_parse_normalize(struct moult_config *config, const char *json, size_t size,
                                 struct moult_error *error);
int moult_config_parse_sentence_bert(struct moult_config *config, const char *json, size_t size,
                                     struct moult_error *error);
int moult_config_parse_tokenizer(struct moult_config *config, const char *json, size_t size,
                                 struct moult_error *error);
int moult_config_parse_prompts(struct moult_config *config, const char *json, size_t size,
                               struct moult_error *error);

#endif
