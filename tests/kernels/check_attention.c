/* attention. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"

enum { HEADS = 3, SCRATCH_GUARD = 64 };

/* q, k and v as columns of one grid, as a model has them. */
struct sequence {
    uint32_t L, D;
    float scale;
    struct grid qkv;        /* [L][3 · HEADS · D] */
    struct grid out;        /* [L][HEADS · D] */
};

static void open_sequence(struct sequence *sequence, uint32_t L, uint32_t D, float most) {
    sequence->L = L;
    sequence->D = D;
    sequence->scale = 1 / sqrtf((float)D);
    check_grid_init(&sequence->qkv, L, 3 * HEADS * D, most);
    check_grid_init(&sequence->out, L, HEADS * D, 1);
}

static void close_sequence(struct sequence *sequence) {
    check_grid_release(&sequence->qkv);
    check_grid_release(&sequence->out);
}

static float *part(const struct sequence *sequence, unsigned which) {
    return sequence->qkv.floats + (size_t)which * HEADS * sequence->D;
}

/* Runs some heads with a scratch of just the size that the contract promises. */
static bool attend(const struct sequence *sequence, const struct moult_kernels *kernels,
                   uint32_t head_first, uint32_t head_end) {
    size_t floats = moult_attention_scratch_floats(sequence->L, sequence->D);
    size_t bytes = (floats + SCRATCH_GUARD) * sizeof(float);
    float *scratch = moult_allocate_large(bytes);
    bool passed = scratch != NULL || check_because("there is no memory for the scratch");

    if (!passed)
        return false;
    memset(scratch, 0xa5, bytes);
    kernels->attention(part(sequence, 0), part(sequence, 1), part(sequence, 2),
                       sequence->qkv.stride, sequence->out.floats, sequence->out.stride,
                       sequence->L, sequence->D, head_first, head_end, sequence->scale, scratch);
    for (size_t i = floats * sizeof(float); i < bytes && passed; i++) {
        if (((unsigned char *)scratch)[i] != 0xa5)
            passed = check_because("L=%u D=%u: more scratch is used than was asked for",
                                   sequence->L, sequence->D);
    }
    moult_free_large(scratch, bytes);
    return passed;
}

/* One query of one head in double. `size` becomes the largest sum of |q · k|: what the error of
 * a score is proportional to. */
static void exact_query(const struct sequence *sequence, uint32_t head, uint32_t i, double *weights,
                        double *out, double *size) {
    uint32_t D = sequence->D, L = sequence->L;
    size_t stride = sequence->qkv.stride;
    const float *q = part(sequence, 0) + i * stride + head * D;
    double highest = -INFINITY, sum = 0;

    *size = 0;
    for (size_t j = 0; j < L; j++) {
        const float *k = part(sequence, 1) + j * stride + head * D;
        double score = 0, all = 0;

        for (uint32_t d = 0; d < D; d++) {
            score += (double)q[d] * (double)k[d];
            all += fabs((double)q[d] * (double)k[d]);
        }
        weights[j] = score * (double)sequence->scale;
        highest = fmax(highest, weights[j]);
        *size = fmax(*size, all * (double)sequence->scale);
    }
    for (size_t j = 0; j < L; j++)
        sum += weights[j] = exp(weights[j] - highest);
    for (uint32_t d = 0; d < D; d++) {
        out[d] = 0;
        for (size_t j = 0; j < L; j++)
            out[d] += weights[j] / sum * (double)part(sequence, 2)[j * stride + head * D + d];
    }
}

/* Looks at every `step`-th query. */
static bool near_exact(const struct sequence *sequence, uint32_t step, double most) {
    uint32_t D = sequence->D;
    double *weights = moult_allocate(sequence->L, sizeof(*weights));
    double *exact = moult_allocate(D, sizeof(*exact));
    bool passed = true;

    for (uint32_t i = 0; i < sequence->L && passed; i += step) {
        for (uint32_t head = 0; head < HEADS && passed; head++) {
            double size, bound;

            exact_query(sequence, head, i, weights, exact, &size);
            bound = most * (6e-7 + 8 * 5.97e-8 * size + 5.97e-8 * sqrt(sequence->L));
            for (uint32_t d = 0; d < D && passed; d++) {
                size_t at = i * sequence->out.stride + head * D + d;
                double error = fabs((double)sequence->out.floats[at] - exact[d]);

                if (!(error <= bound))
                    passed = check_because("L=%u D=%u: query %u, head %u, channel %u is %g off",
                                           sequence->L, D, i, head, d, error);
            }
        }
    }
    free(weights);
    free(exact);
    return passed;
}

/* Each head by itself, from another place, in another stride. */
static bool same_elsewhere(const struct sequence *sequence, const struct moult_kernels *kernels) {
    struct sequence other;
    bool passed = true;

    open_sequence(&other, sequence->L, sequence->D, 1);
    check_grid_copy(&other.qkv, &sequence->qkv);
    for (uint32_t head = HEADS; head-- > 0 && passed;)
        passed = attend(&other, kernels, head, head + 1);
    passed = passed && check_grid_equal(&other.out, &sequence->out) &&
             check_grid_guarded(&other.out);
    close_sequence(&other);
    return passed;
}

static bool right(const struct moult_kernels *kernels, uint32_t L, uint32_t D, float most,
                  uint32_t step) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, L, D, most);
    passed = attend(&sequence, kernels, 0, HEADS) && check_grid_guarded(&sequence.out) &&
             check_grid_guarded(&sequence.qkv) && near_exact(&sequence, step, (double)most) &&
             same_elsewhere(&sequence, kernels);
    close_sequence(&sequence);
    return passed;
}

/* Scores that lie so far apart that all weight falls on one key: its value comes out. */
static bool far_apart(const struct moult_kernels *kernels, float most, float least) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, 53, 32, 1);
    for (size_t i = 0; i < 53; i++) {
        float *q = part(&sequence, 0) + i * sequence.qkv.stride;
        float *k = part(&sequence, 1) + i * sequence.qkv.stride;

        for (uint32_t c = 0; c < HEADS * 32; c++) {
            q[c] = 100;
            k[c] = i == 7 ? most : least;
        }
    }
    passed = attend(&sequence, kernels, 0, HEADS) && check_grid_finite(&sequence.out);
    for (size_t i = 0; i < 53 && passed; i++) {
        for (size_t c = 0; c < HEADS * 32 && passed; c++) {
            float is = sequence.out.floats[i * sequence.out.stride + c];
            float should = part(&sequence, 2)[7 * sequence.qkv.stride + c];

            if (!(fabsf(is - should) <= 2e-7f))
                passed = check_because("query %zu, channel %zu is %g, not %g", i, c, (double)is,
                                       (double)should);
        }
    }
    close_sequence(&sequence);
    return passed;
}

/* Where q is zero, or as good as zero, every key weighs the same. */
static bool indifferent(const struct moult_kernels *kernels, float q) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, 35, 32, 1);
    for (size_t i = 0; i < 35; i++) {
        for (uint32_t c = 0; c < HEADS * 32; c++)
            part(&sequence, 0)[i * sequence.qkv.stride + c] = q;
    }
    passed = attend(&sequence, kernels, 0, HEADS) && check_grid_finite(&sequence.out) &&
             near_exact(&sequence, 1, 1);
    close_sequence(&sequence);
    return passed;
}

void check_attention(const struct moult_kernels *kernels) {
    static const uint32_t widths[] = {32, 64, 17, 80, 8, 1};
    static const uint32_t lengths[] = {63, 64, 65, 96, 100, 127, 128, 129, 255, 257, 383, 512, 600};
    size_t count = check_few ? 8 : sizeof(lengths) / sizeof(lengths[0]);
    bool passed;

    for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
        passed = true;
        for (uint32_t L = 1; L <= 52 && passed; L += check_few ? 3 : 1)
            passed = right(kernels, L, widths[w], 2, 1);
        for (size_t l = 0; l < count && passed; l++)
            passed = right(kernels, lengths[l], widths[w], 1, 13);
        check_ok(passed, "%s: attention over 1 to %u tokens, heads of %u", kernels->name,
                 lengths[count - 1], widths[w]);
    }
    check_ok(check_few || right(kernels, 3001, 32, 1, 501), "%s: attention over 3,001 tokens%s",
             kernels->name, check_few ? " # SKIP few sizes" : "");
    check_ok(right(kernels, 40, 32, 20, 1), "%s: attention with scores of some hundreds",
             kernels->name);
    check_ok(far_apart(kernels, 1, -1) && far_apart(kernels, 1, -1e30f) &&
                 far_apart(kernels, 1, 0.9f) && far_apart(kernels, -2, -2.1f),
             "%s: attention with all weight on one key", kernels->name);
    check_ok(indifferent(kernels, 0) && indifferent(kernels, 1e-40f),
             "%s: attention where all keys weigh the same", kernels->name);
}
