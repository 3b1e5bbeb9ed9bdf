/* moult: sentence-embedding models, in process.
 *
 * The library loads one model folder in sentence-transformers layout and turns
 * texts into vectors. It knows no HTTP, no processes and no files but those of
 * the folder. All functions may be called from several threads at once, except
 * moult_model_close(), which must be the last call on its model.
 *
 * Letters of shapes: B texts, T tokens of all texts together, C the width of a
 * vector. Strings are UTF-8; those with a size need no terminating NUL. */
#ifndef MOULT_H
#define MOULT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MOULT_VERSION "0.1.0"

/* Which of the three kinds of trouble it is, for callers that must choose a
 * status or exit code. */
enum moult_error_code {
    MOULT_OK = 0,
    MOULT_ERROR_INVALID,   /* The input is wrong; trying again cannot help. */
    MOULT_ERROR_LIMIT,     /* The input is larger than a limit allows. */
    MOULT_ERROR_MISSING,   /* A file or a named thing does not exist. */
    MOULT_ERROR_SYSTEM,    /* The machine refused: memory, disk, permission. */
    MOULT_ERROR_UNAVAILABLE /* Not now; trying again may help. */
};

/* Filled on failure with one finished sentence; untouched on success. Always
 * owned by the caller, and valid to pass as NULL where it is not wanted. */
struct moult_error {
    enum moult_error_code code;
    char message[512];
};

/* The arithmetic of the linear layers, faster from rung to rung. The rest is f32 in all of them,
 * and so are weights in files and vectors. Vectors of two rungs are alike enough to be compared. */
enum moult_precision {
    MOULT_PRECISION_AUTO,  /* The fastest here of those whose vectors stay with those of f32. */
    MOULT_PRECISION_F32,
    MOULT_PRECISION_INT16, /* Values of 12 bits, in products of 16. */
    MOULT_PRECISION_INT8
};

struct moult_model;

struct moult_model_info {
    const char *architecture;     /* "bert" */
    const char *pooling;          /* "mean", "cls" or "max" */
    const char *kernels;          /* The level: "c", "avx512vnni", "neon", … */
    const char *precision;        /* "f32", "int16", "int8" */
    const char *fingerprint;      /* 64 hex digits: see docs/fingerprint.md. */
    const char *query_prompt;     /* "" where the model has none. */
    const char *document_prompt;  /* "" where the model has none. */
    uint32_t dimensions;          /* C */
    uint32_t tokens_max;          /* Per text, special tokens included. */
    uint32_t vocabulary_size;
    uint32_t layers;
    double fidelity;              /* The least cosine between vectors and those of f32. */
    bool normalized;              /* The model itself ends in unit vectors. */
};

enum moult_prompt { MOULT_PROMPT_NONE, MOULT_PROMPT_QUERY, MOULT_PROMPT_DOCUMENT };

struct moult_text {
    const char *bytes;
    size_t size;
};

struct moult_text_report {
    uint32_t tokens;   /* After truncation, with special tokens. */
    bool truncated;
};

/* Loads, verifies and packs the model in `folder`. `threads` is the most that
 * one moult_model_encode() call uses (0: as many as this process may run on).
 * `precision`: with MOULT_PRECISION_AUTO the model tells which it has taken.
 * Returns NULL and fills `error` when the folder is not a model that can be
 * served. The caller closes the model. */
struct moult_model *moult_model_open(const char *folder, uint32_t threads,
                                     enum moult_precision precision, struct moult_error *error);
void moult_model_close(struct moult_model *model);

/* Owned by the model. */
const struct moult_model_info *moult_model_info(const struct moult_model *model);

/* Writes `count` vectors of C floats into `vectors` [B][C] and, where `reports`
 * is not NULL, as many reports. The bits of a vector depend on its text, the
 * fingerprint, the precision and the kernels alone: not on its neighbours nor on `threads`.
 * Returns 0, or -1 with `error` filled; then nothing of `vectors` is to be used. */
int moult_model_encode(const struct moult_model *model, const struct moult_text *texts,
                       size_t count, enum moult_prompt prompt, float *vectors,
                       struct moult_text_report *reports, struct moult_error *error);

#ifdef __cplusplus
}
#endif
#endif
