/* The numeric kernels: plain C first, faster ones laid over it level by level.
 *
 * One table of functions per level; moult_kernels_best() fills nothing and
 * decides nothing per call: it returns the highest table that this CPU and the
 * mask in MOULT_CPU allow ("c", "avx2", "avxvnni", "avx512", "avx512vnni" on x86, "c", "neon",
 * "neondot", "neoni8mm" on ARM64; for tests and bug reports).
 *
 * Every function of a table keeps promise 4 (docs/architecture.md): what it
 * writes for a row, or for a sequence, depends on that row or sequence alone,
 * bit for bit, whatever stands beside it and however callers split the work.
 * So there is one accumulator per output with the inner dimension in order,
 * and no arithmetic that depends on the number of rows. Two levels may differ
 * in the last bits, where the contract does not say otherwise.
 *
 * Letters: T rows (tokens), K inner dimension, N outputs, L tokens of one
 * sequence, H heads, D width of a head, C = H·D channels. A stride counts floats
 * between the starts of two rows. Nothing here allocates, except where said. */
#ifndef MOULT_KERNELS_KERNELS_H
#define MOULT_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "moult.h"

/* How a level wants the integers of a rung. */
struct moult_integer_layout {
    uint8_t group;          /* Inputs of one output that lie side by side in a panel. */
    uint8_t weight_bytes;   /* Of a weight; signed. */
    uint8_t value_bytes;    /* Of a value of x: int16_t, or for INT8 uint8_t or int16_t. */
};

/* A weight matrix [N][K] with its bias, packed for one level's `linear`:
 * panels of `panel` outputs, each [K][panel]; outputs beyond N are zero.
 * Integers lie in panels [K / group][panel][group], K rounded up with zeros, and one of them
 * stands for integer · scale of its output. */
struct moult_panels {
    union {                 /* Aligned to 64 bytes. Owned. */
        float *values;      /* F32 */
        int16_t *words;     /* Where weight_bytes is 2, */
        int8_t *bytes;      /* or 1. */
    };
    float *bias;            /* [panels·panel], aligned to 64 bytes. Owned. */
    /* Behind the bias, in its memory; NULL where the rung has none. */
    float *scales;          /* [panels·panel]: INT16 and INT8. */
    int32_t *sums;          /* [panels·panel]: INT8, the sum of an output's integers. */
    float *factors;         /* [K]: INT8, of x before it becomes integers; powers of two. */
    enum moult_precision precision;
    struct moult_integer_layout layout;
    uint32_t inputs;        /* K */
    uint32_t outputs;       /* N */
    uint32_t panel;         /* Outputs per panel: the table's. */
    uint32_t panels;        /* ceil(N / panel) */
};

/* Rows of x as integers, for the panels of one rung: x ≈ (integer - zero) · scale. */
struct moult_rows {
    void *values;           /* [T][moult_rows_stride(K)], aligned to 64 bytes. */
    float *scales;          /* [T] */
    int32_t *zeros;         /* [T]; 0 in INT16. */
};

/* An index asks for products of its rows with one query, as exact integers: of rows of nibbles
 * (0 to 15) and a query of two pieces for each dimension, 128 · high + low, neither of them below
 * -64 or above 64. No sum of products may leave 32 bits, in whichever order.
 *
 * `scan` takes 16 rows a block, and eight blocks at once, for memory gives more where it is read in
 * several places. A block has the rows' scales and residuals, f32 [MOULT_SCAN_ROWS] each, and then
 * [octs][MOULT_SCAN_ROWS][4]: eight dimensions of all rows, then the next eight; a byte has one of
 * the first four in its low nibble, one of the other four in its high one. Of each row it computes
 *
 *     product = sum over c of row[c] · query[c]
 *     upper = float(32 · product - offset) · scale + residual · width
 *
 * (every step in floats rounded, no two of them fused; the whole number has to fit into 32 bits,
 * 32 products alone need not) and whether that is `threshold` or more. As far as it reads in
 * blocks[b], it asks the memory for ahead[b], which need not be there.
 *
 * `scan_row` takes one row, [bytes], a multiple of MOULT_SCAN_ROW_UNIT: the first half of the
 * dimensions in low nibbles, the other half in high ones; and the query as [2][2·bytes]: all high
 * pieces in order, then the low ones. */
#define MOULT_SCAN_ROWS 16
#define MOULT_SCAN_BLOCKS 8
#define MOULT_SCAN_ROW_UNIT 32

struct moult_scan_query {
    const int8_t *pieces;       /* [octs][4][4]: of each eight dimensions the high pieces of the
                                   first four and of the other four, then the low ones. */
    uint32_t octs;
    int32_t offset;
    float width, threshold;
};

struct moult_scan_result {
    int32_t products[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS];
    float uppers[MOULT_SCAN_BLOCKS][MOULT_SCAN_ROWS];
    uint16_t reached[MOULT_SCAN_BLOCKS];    /* A bit for each row whose upper is high enough. */
};

static inline size_t moult_scan_block_bytes(uint32_t octs) {
    return MOULT_SCAN_ROWS * (2 * sizeof(float) + (size_t)octs * 4);
}

/* What `linear` does with an output before it stores it. */
enum moult_epilogue {
    MOULT_EPILOGUE_NONE,    /* y = x·w + b */
    MOULT_EPILOGUE_GELU,    /* y = gelu(x·w + b), with the exact erf */
    MOULT_EPILOGUE_ADD      /* y = y + (x·w + b): the residual is already in y */
};

struct moult_kernels {
    const char *name;
    uint32_t panel;

    /* A good number of rows for one trip through a layer. `linear` blocks its rows by
     * itself and is right with any T; but a caller that takes so many rows at a time
     * through x → F → x of the feed-forward part finds the wide middle in L2 still.
     * Fewer than 8 rows wait for the weights and not for arithmetic. */
    uint32_t rows_block;

    /* Rows [0, T) of x [T][K] times the panels [panel_first, panel_end) of w,
     * into the matching columns of y [T][N], which may not overlap x. */
    void (*linear)(const struct moult_panels *w, const float *x, size_t x_stride, float *y,
                   size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                   enum moult_epilogue epilogue);

    /* INT16 and INT8: `integers` makes rows of x, each by itself, and `linear_integers`
     * multiplies them. Every level makes the same integers of the same x, adds up the same
     * products, and comes to the same bits as plain C, except behind GELU. */
    struct moult_integer_layout int16, int8;
    void (*integers)(const struct moult_panels *w, const float *x, size_t x_stride, uint32_t T,
                     struct moult_rows *rows);
    void (*linear_integers)(const struct moult_panels *w, const struct moult_rows *rows, float *y,
                            size_t y_stride, uint32_t T, uint32_t panel_first, uint32_t panel_end,
                            enum moult_epilogue epilogue);

    /* Self-attention of one sequence: for each head in [head_first, head_end),
     * out = softmax(q·kᵀ·scale)·v, with no mask: all L tokens are real.
     * q, k, v [L][H·D] with one common stride (they may interleave); out [L][H·D],
     * elsewhere.
     * `scratch`: moult_attention_scratch_floats(L, D) floats, aligned to 64 bytes. */
    void (*attention)(const float *q, const float *k, const float *v, size_t stride, float *out,
                      size_t out_stride, uint32_t L, uint32_t D, uint32_t head_first,
                      uint32_t head_end, float scale, float *scratch);

    /* The same for the rungs of integers, by products of words, where that is faster: NULL where
     * it is not. It rounds q and k of a head to 46340 / sqrt(D) steps of their largest (at most
     * 32767), v to 4095 steps of the largest of a channel, and the weights of keys to 8192 steps
     * of the highest. */
    void (*attention_words)(const float *q, const float *k, const float *v, size_t stride,
                            float *out, size_t out_stride, uint32_t L, uint32_t D,
                            uint32_t head_first, uint32_t head_end, float scale, float *scratch);

    /* x [T][C] in place: (x - mean) / sqrt(variance + epsilon) · gamma + beta. */
    void (*layer_norm)(float *x, size_t stride, uint32_t T, uint32_t C, const float *gamma,
                       const float *beta, float epsilon);

    /* out [C] = a + b + c, elementwise: word, position and type embedding of one token. */
    void (*add3)(float *out, const float *a, const float *b, const float *c, uint32_t C);

    /* out [C] = mean over the L rows of x [L][C]. */
    void (*mean)(float *out, const float *x, size_t stride, uint32_t L, uint32_t C);

    /* x [C] scaled to length 1; a norm below 1e-12 counts as 1e-12. */
    void (*unit)(float *x, uint32_t C);

    float (*dot)(const float *a, const float *b, uint32_t C);

    /* Does nothing but products of that rung, from registers to registers, and returns how many
     * operations (a multiplication and an addition are two): what this CPU has at most. */
    uint64_t (*peak)(enum moult_precision precision, uint32_t rounds);

    /* The scan of an index: see below. */
    void (*scan)(const uint8_t *const blocks[MOULT_SCAN_BLOCKS],
                 const uint8_t *const ahead[MOULT_SCAN_BLOCKS],
                 const struct moult_scan_query *query, struct moult_scan_result *result);
    int32_t (*scan_row)(const uint8_t *row, const int8_t *query, uint32_t bytes);
};

/* The table for this machine. The same pointer at every call. Where MOULT_CPU
 * names a level that this CPU lacks, the highest one below it; where it names
 * none at all, it counts as unset. */
const struct moult_kernels *moult_kernels_best(void);
/* The table of one level by name, or NULL where this CPU (or build) lacks it. */
const struct moult_kernels *moult_kernels_find(const char *name);
/* The levels in rising order: 0 is "c"; NULL behind the last this CPU runs. */
const struct moult_kernels *moult_kernels_at(unsigned index);

/* Packs `weights` [N][K] and `bias` [N] (NULL: zeros) for `kernels`. Returns 0, or -1
 * when the machine has no memory left: then `panels` is empty. moult_panels_release() frees. */
int moult_panels_pack(struct moult_panels *panels, const struct moult_kernels *kernels,
                      const float *weights, const float *bias, uint32_t N, uint32_t K);
/* The same in a rung of integers. `factors` [K], powers of two or NULL for ones: x is multiplied
 * by them and the weights divided. INT16 has none. */
int moult_panels_pack_integers(struct moult_panels *panels, const struct moult_kernels *kernels,
                               enum moult_precision precision, const float *weights,
                               const float *bias, const float *factors, uint32_t N, uint32_t K);
void moult_panels_release(struct moult_panels *panels);
/* The same numbers, exactly, as panels of another level. Returns as moult_panels_pack(). */
int moult_panels_repack(struct moult_panels *panels, const struct moult_kernels *kernels,
                        const struct moult_panels *from);
/* The weights [N][K] of panels of F32. */
void moult_panels_unpack(const struct moult_panels *panels, float *weights);
/* The memory that such panels take. */
size_t moult_panels_bytes(const struct moult_kernels *kernels, enum moult_precision precision,
                          uint32_t N, uint32_t K);

/* Values between the starts of two rows of K. */
size_t moult_rows_stride(uint32_t K);
/* Bytes that T rows of K take in any rung, and the rows in so many, aligned to 64. */
size_t moult_rows_bytes(uint32_t T, uint32_t K);
struct moult_rows moult_rows_in(void *memory, uint32_t T, uint32_t K);

size_t moult_attention_scratch_floats(uint32_t L, uint32_t D);

#endif
