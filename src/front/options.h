/* The options of `moult serve`, parsed by cli/serve.c and owned by it. */
#ifndef MOULT_FRONT_OPTIONS_H
#define MOULT_FRONT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "front/judgements.h"
#include "front/signature.h"
#include "moult.h"

/* Served where nobody names a model and the data folder has none; from the hub. */
#define MOULT_DEFAULT_MODEL "sentence-transformers/multi-qa-MiniLM-L6-cos-v1"

struct moult_serve_model {
    char *name;      /* The slot's. */
    char *source;    /* As source/source.h has them. */
};

struct moult_serve_options {
    struct moult_serve_model *models;
    unsigned model_count;
    const char *host;
    uint16_t port;
    const char *data;                /* The data folder. */
    bool take_over;                  /* From the moult that serves from it, if one does. */
    char **command;                  /* How this process was started: a name, arguments, NULL. */
    uint32_t threads;                /* 0: what the machine gives. */
    enum moult_precision precision;
    uint32_t keep_warm_s;
    uint32_t update_every_s;         /* 0: nothing is taken by itself. */
    uint32_t keep_models;            /* Older models of a slot that stay installed. */
    uint32_t retire_after_s;         /* The notice before one of them goes. */
    uint32_t idle_unload_s;          /* 0: idle models stay loaded. */
    size_t memory_bytes;           /* Of all workers together; 0: what the machine gives. */
    uint32_t waiting_texts_max;
    size_t body_bytes_max;
    bool overlong_error;             /* --overlong error */
    bool strict_models;
    bool cutover_manual;             /* --cutover manual, or its preset with --store none. */
    bool swap_wait;                  /* --swap wait */
    const char *api_key;             /* From --api-key-file; NULL: none. */
    const char **allowed_hosts;      /* [allowed_host_count] */
    unsigned allowed_host_count;
    const char **allowed_sources;    /* --allow-model-from: allowed.h; [allowed_source_count] */
    unsigned allowed_source_count;
    const char **cors_origins;
    unsigned cors_origin_count;
    const char **hook_urls;          /* [hook_count] */
    unsigned hook_count;
    bool no_store;                   /* --store none: no documents. */
    uint32_t chunk_tokens;           /* Texts are cut to chunks of so many; 0: they are not, or
                                        MOULT_CHUNK_TOKENS_AUTO: of as many as the model takes. */
    uint32_t chunk_overlap;          /* Of them, tokens that the chunk before has, too. */
    unsigned follow_nice;            /* Of threads that embed documents for a new model. */
    uint32_t report_texts;           /* 0: no report of what an update changes. */
    const struct moult_judgements *judgements;   /* --gate; NULL: none. */
    struct moult_gate_limit gate_limit;          /* --gate-min */
    struct moult_signing_keys hook_keys;   /* None: not signed. */
};

#endif
