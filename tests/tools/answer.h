/* What an answer should be, and whether it is that: the vectors that each model
 * gives for each text, read from .npy files, and two dialects' bodies compared
 * with them bit by bit; and the head of an answer. */
#ifndef TESTS_TOOLS_ANSWER_H
#define TESTS_TOOLS_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { EXPECTATIONS_MAX = 8, FINGERPRINT_HEAD = 16 };

/* The vectors of one model: row i is the vector of text i. */
struct expectation {
    char fingerprint[FINGERPRINT_HEAD + 1];
    size_t rows, C;
    float *vectors;              /* [rows][C] */
};

enum dialect { DIALECT_EMBED, DIALECT_OPENAI_FLOAT, DIALECT_OPENAI_BASE64, DIALECTS };

enum verdict {
    VERDICT_RIGHT,
    VERDICT_WRONG,               /* Not JSON, another shape, or bits that no known model gives. */
    VERDICT_MIXED                /* Bits of a model other than the one that the answer names. */
};

/* Reads "FINGERPRINT=FILE.npy". Exits with a message where it cannot. */
void expectation_open(struct expectation *expectation, const char *argument);

struct question {
    enum dialect dialect;
    unsigned count;
    const uint32_t *texts;       /* [count]: rows of the expectations. */
};

/* Compares `body`, which ends in a NUL, with what the model `fingerprint` (16 hex
 * digits) gives. `why` gets a reason where the verdict is not VERDICT_RIGHT. */
enum verdict answer_check(const struct expectation *expectations, unsigned expectation_count,
                          const struct question *question, const char *fingerprint,
                          const char *body, size_t size, char *why, size_t why_size);

struct answer_head {
    unsigned status;
    size_t head_size, body_size;
    uint64_t generation;         /* 0: none is named. */
    char fingerprint[FINGERPRINT_HEAD + 1];
    bool closes, has_length, has_retry_after;
};

/* Reads the start of an answer; `bytes` end in a NUL. 1: all of the answer is
 * there; 0: more bytes are needed; -1: it is not HTTP, or has no length. */
int answer_head_read(struct answer_head *head, const char *bytes, size_t size);

#endif
