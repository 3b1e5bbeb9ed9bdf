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
    bool words;             /* attention_words */
    float scale;
    struct grid qkv;        /* [L][3 · HEADS · D] */
    struct grid out;        /* [L][HEADS · D] */
};

static void open_sequence(struct sequence *sequence, bool words, uint32_t L, uint32_t D,
                          float most) {
    sequence->L = L;
    sequence->D = D;
    sequence->words = words;
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
    (sequence->words ? kernels->attention_words : kernels->attention)(
        part(sequence, 0), part(sequence, 1), part(sequence, 2), sequence->qkv.stride,
        sequence->out.floats, sequence->out.stride, sequence->L, sequence->D, head_first, head_end,
        sequence->scale, scratch);
    for (size_t i = floats * sizeof(float); i < bytes && passed; i++) {
        if (((unsigned char *)scratch)[i] != 0xa5)
            passed = check_because("L=%u D=%u: more scratch is used than was asked for",
                                   sequence->L, sequence->D);
    }
    moult_free_large(scratch, bytes);
    return passed;
}

/* One query of one head in double. */
struct exact {
    double *weights, *out;
    double size;        /* The largest sum of |q · k|: an error of a score is proportional to it. */
    double sum;         /* Of the weights, the largest being 1. */
};

static void exact_query(const struct sequence *sequence, uint32_t head, uint32_t i,
                        struct exact *exact) {
    uint32_t D = sequence->D, L = sequence->L;
    size_t stride = sequence->qkv.stride;
    const float *q = part(sequence, 0) + i * stride + head * D;
    double highest = -INFINITY, *weights = exact->weights;

    exact->size = exact->sum = 0;
    for (size_t j = 0; j < L; j++) {
        const float *k = part(sequence, 1) + j * stride + head * D;
        double score = 0, all = 0;

        for (uint32_t d = 0; d < D; d++) {
            score += (double)q[d] * (double)k[d];
            all += fabs((double)q[d] * (double)k[d]);
        }
        weights[j] = score * (double)sequence->scale;
        highest = fmax(highest, weights[j]);
        exact->size = fmax(exact->size, all * (double)sequence->scale);
    }
    for (size_t j = 0; j < L; j++)
        exact->sum += weights[j] = exp(weights[j] - highest);
    for (uint32_t d = 0; d < D; d++) {
        exact->out[d] = 0;
        for (size_t j = 0; j < L; j++)
            exact->out[d] += weights[j] / exact->sum *
                             (double)part(sequence, 2)[j * stride + head * D + d];
    }
}

/* How far a channel may be from the exact one, where no number is larger than `most`. */
static double bound_of(const struct sequence *sequence, const struct exact *exact, double most) {
    double L = sequence->L, D = sequence->D, steps, score, weights;

    if (!sequence->words)
        return most * (6e-7 + 8 * 5.97e-8 * exact->size + 5.97e-8 * sqrt(L));
    /* q and k are off by half a step each, so a score by half a step for each of D products, and
     * twice; what that does to all weights, and half a step of each weight; half a step of v. */
    steps = fmin(floor(sqrt(INT32_MAX / D)), INT16_MAX);
    score = (double)sequence->scale * D * most * most / steps;
    weights = 2 * (expm1(2 * score) + 2e-4) + L * 0.5 / 8192 / exact->sum;
    return most * (weights + 0.5 / 4095 + 1e-6);
}

/* Looks at every `step`-th query. */
static bool near_exact(const struct sequence *sequence, uint32_t step, double most) {
    uint32_t D = sequence->D;
    struct exact exact = {moult_allocate(sequence->L, sizeof(double)),
                          moult_allocate(D, sizeof(double)), 0, 0};
    bool passed = true;

    for (uint32_t i = 0; i < sequence->L && passed; i += step) {
        for (uint32_t head = 0; head < HEADS && passed; head++) {
            double bound;

            exact_query(sequence, head, i, &exact);
            bound = bound_of(sequence, &exact, most);
            for (uint32_t d = 0; d < D && passed; d++) {
                size_t at = i * sequence->out.stride + head * D + d;
                double error = fabs((double)sequence->out.floats[at] - exact.out[d]);

                if (!(error <= bound))
                    passed = check_because("L=%u D=%u: query %u, head %u, channel %u is %g off",
                                           sequence->L, D, i, head, d, error);
            }
        }
    }
    free(exact.weights);
    free(exact.out);
    return passed;
}

/* Each head by itself, from another place, in another stride. */
static bool same_elsewhere(const struct sequence *sequence, const struct moult_kernels *kernels) {
    struct sequence other;
    bool passed = true;

    open_sequence(&other, sequence->words, sequence->L, sequence->D, 1);
    check_grid_copy(&other.qkv, &sequence->qkv);
    for (uint32_t head = HEADS; head-- > 0 && passed;)
        passed = attend(&other, kernels, head, head + 1);
    passed = passed && check_grid_equal(&other.out, &sequence->out) &&
             check_grid_guarded(&other.out);
    close_sequence(&other);
    return passed;
}

static bool right(const struct moult_kernels *kernels, bool words, uint32_t L, uint32_t D,
                  float most, uint32_t step) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, words, L, D, most);
    passed = attend(&sequence, kernels, 0, HEADS) && check_grid_guarded(&sequence.out) &&
             check_grid_guarded(&sequence.qkv) && near_exact(&sequence, step, (double)most) &&
             same_elsewhere(&sequence, kernels);
    close_sequence(&sequence);
    return passed;
}

/* Scores that lie so far apart that all weight falls on one key: its value comes out. */
static bool far_apart(const struct moult_kernels *kernels, bool words, float most, float least) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, words, 53, 32, 1);
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

            if (!(fabsf(is - should) <= (words ? 0.6f / 4095 : 2e-7f)))
                passed = check_because("query %zu, channel %zu is %g, not %g", i, c, (double)is,
                                       (double)should);
        }
    }
    close_sequence(&sequence);
    return passed;
}

/* Where q is zero, or as good as zero, every key weighs the same. */
static bool indifferent(const struct moult_kernels *kernels, bool words, float q) {
    struct sequence sequence;
    bool passed;

    open_sequence(&sequence, words, 35, 32, 1);
    for (size_t i = 0; i < 35; i++) {
        for (uint32_t c = 0; c < HEADS * 32; c++)
            part(&sequence, 0)[i * sequence.qkv.stride + c] = q;
    }
    passed = attend(&sequence, kernels, 0, HEADS) && check_grid_finite(&sequence.out) &&
             near_exact(&sequence, 1, 1);
    close_sequence(&sequence);
    return passed;
}

static void check_form(const struct moult_kernels *kernels, bool words) {
    static const uint32_t widths[] = {32, 64, 17, 80, 128, 8, 1};
    static const uint32_t lengths[] = {63, 64, 65, 96, 100, 127, 128, 129, 255, 257, 383, 512, 600};
    size_t count = check_few ? 8 : sizeof(lengths) / sizeof(lengths[0]);
    const char *form = words ? "attention in words" : "attention";
    bool passed;

    for (size_t w = 0; w < sizeof(widths) / sizeof(widths[0]); w++) {
        passed = true;
        for (uint32_t L = 1; L <= 52 && passed; L += check_few ? 3 : 1)
            passed = right(kernels, words, L, widths[w], 2, 1);
        for (size_t l = 0; l < count && passed; l++)
            passed = right(kernels, words, lengths[l], widths[w], 1, 13);
        check_ok(passed, "%s: %s over 1 to %u tokens, heads of %u", kernels->name, form,
                 lengths[count - 1], widths[w]);
    }
    passed = true;
    for (unsigned i = 0; i < (check_few ? 4 : 24) && passed; i++)
        passed = right(kernels, words, 1 + check_random_below(640),
                       16 * (1 + check_random_below(8)) - check_random_below(2), 1, 7);
    check_ok(passed, "%s: %s of random lengths and widths", kernels->name, form);
    check_ok(check_few || right(kernels, words, 3001, 32, 1, 501), "%s: %s over 3,001 tokens%s",
             kernels->name, form, check_few ? " # SKIP few sizes" : "");
    check_ok(right(kernels, words, 40, 32, 20, 1), "%s: %s with scores of some hundreds",
             kernels->name, form);
    check_ok(far_apart(kernels, words, 1, -1) && far_apart(kernels, words, 1, -1e30f) &&
                 far_apart(kernels, words, 1, 0.9f) && far_apart(kernels, words, -2, -2.1f),
             "%s: %s with all weight on one key", kernels->name, form);
    check_ok(indifferent(kernels, words, 0) && indifferent(kernels, words, 1e-40f),
             "%s: %s where all keys weigh the same", kernels->name, form);
}

void check_attention(const struct moult_kernels *kernels) {
    check_form(kernels, false);
    if (kernels->attention_words != NULL)
        check_form(kernels, true);
}
