/* Attention in words, for the rungs of integers: q, k and v of a head are rounded to 16 bits, and
 * so are the weights that the softmax gives. add_words() of the including file adds two products
 * where one of floats adds one. Only the softmax between the two products knows floats.
 *
 * Words lie in pairs, one in each lane of 32 bits. A pair of the first product has two channels of
 * a query or key; it does not matter which two, and in which order, as long as both agree: they
 * are the ones that join_words() of two registers brings together. A pair of the second has the
 * weights of two neighbouring keys, or one channel of their values.
 *
 * One scale for all queries of a head and one for all keys, so that scores of one query compare
 * as they are; one for each channel of the values. All come from this sequence alone. No sum can
 * leave 32 bits: queries and keys have as many bits as D products leave room for, and the sums
 * of the second product become floats after every FLUSH_KEYS keys, unless the weights of all keys
 * add up to no more than those of so many can. */

enum {
    WEIGHT_LOG = 13,
    WEIGHT_MOST = 1 << WEIGHT_LOG,  /* The weight of the highest score. */
    FLUSH_KEYS = 64,
    VALUE_MOST = INT32_MAX / (WEIGHT_MOST * FLUSH_KEYS)     /* Of a word of v. */
};

/* One head of a sequence in the scratch. */
struct word_head {
    ints *queries;          /* [L][pairs] */
    ints *keys;             /* Panels [pairs][PANEL], of the last only the registers it needs. */
    ints *values;           /* Panels [key_pairs][VALUE_PANEL], the last only as wide as needed. */
    float *value_scales;    /* [D], rounded up to whole registers. */
    float *scores;          /* [MOULT_QUERY_ROWS][score stride] */
    float factor;           /* Of a score, as an exponent of two. */
    const float *ahead;     /* The queries of the next head, or NULL; [L] rows, keys and values */
    ptrdiff_t keys_ahead, values_ahead;     /* so many floats behind them. */
    size_t stride;
    uint32_t L, D;
    uint32_t pairs;         /* Of channels, rounded up to whole registers: the rest are zeros. */
    uint32_t key_pairs;     /* Whole blocks of 2 · LANES keys, then as few as will do. */
};

static uint32_t rounded_up(uint32_t count, uint32_t unit) {
    return (count + unit - 1) / unit * unit;
}

/* The largest |word| of queries and keys: D products of two of them fit into 32 bits. */
static float word_most(uint32_t D) {
    return (float)fmin(floor(sqrt((double)INT32_MAX / D)), INT16_MAX);
}

/* What becomes of the sums of a tile: where they go, and, if they are outputs, the scale of each
 * column and the factor of each row, every FACTOR_STEP floats. */
enum { FACTOR_STEP = 4 };

struct pair_sums {
    float *to;
    size_t stride;
    bool more;                  /* They come on top of what is there. */
    const float *scales;        /* NULL: they are not outputs yet. */
    const float *factors;
    float *out;
    size_t out_stride;
    lanes some[TILE_VECTORS];
};

/* [rows][vectors · LANES] = x [rows][steps] · panel [steps][vectors · LANES], of pairs. A tile of
 * one vector takes two steps at a time, since its few sums would wait for each other. */
ALWAYS_INLINE void multiply_pairs(const unsigned rows, const unsigned vectors, const char *x,
                                  size_t x_bytes, const ints *panel, uint32_t steps,
                                  const struct pair_sums *sums) {
    const unsigned width = vectors == 1 ? 2 : vectors;
    ints total[TILE_ROWS][TILE_VECTORS];

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < width; j++)
            total[i][j] = no_ints();
    }
    if (vectors == 1 && steps % 2 == 1) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            total[i][0] = add_words(total[i][0], four_bytes(x + i * x_bytes), load_ints(panel));
        x += 4;
        panel++;
    }
    for (uint32_t k = vectors == 1 ? steps / 2 : steps; k > 0; k--) {
        ints w[TILE_VECTORS];

        UNROLL
        for (unsigned j = 0; j < width; j++)
            w[j] = load_ints(panel + j);
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            ints pair = four_bytes(x + i * x_bytes);

            UNROLL
            for (unsigned j = 0; j < width; j++) {
                if (vectors == 1 && j == 1)
                    pair = four_bytes(x + 4 + i * x_bytes);
                total[i][j] = add_words(total[i][j], pair, w[j]);
            }
        }
        x += vectors == 1 ? 8 : 4;
        panel += width;
    }
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++) {
            float *to = sums->to + i * sums->stride + j * LANES;
            vector sum = to_floats(vectors == 1 ? add_ints(total[i][0], total[i][1])
                                                : total[i][j]);

            if (sums->more)
                sum = add(load(to), sum);
            if (sums->scales == NULL)
                store(to, sum);
            else
                store_some(sums->out + i * sums->out_stride + j * LANES, sums->some[j],
                           mul(sum, mul(load(sums->scales + j * LANES),
                                        broadcast(sums->factors[i * FACTOR_STEP]))));
        }
    }
}

typedef void multiply_pairs_function(const char *x, size_t x_bytes, const ints *panel,
                                     uint32_t steps, unsigned vectors,
                                     const struct pair_sums *sums);

#define MULTIPLY_PAIRS(rows) \
    static void multiply_pairs_##rows(const char *x, size_t x_bytes, const ints *panel, \
                                      uint32_t steps, unsigned vectors, \
                                      const struct pair_sums *sums) { \
        if (vectors == TILE_VECTORS) \
            multiply_pairs(rows, TILE_VECTORS, x, x_bytes, panel, steps, sums); \
        else if (vectors == 2) \
            multiply_pairs(rows, 2, x, x_bytes, panel, steps, sums); \
        else \
            multiply_pairs(rows, 1, x, x_bytes, panel, steps, sums); \
    }
#define MULTIPLY_PAIRS_ENTRY(rows) multiply_pairs_##rows,

FOR_EACH_ROWS(MULTIPLY_PAIRS)
static multiply_pairs_function *const multiply_pairs_of[] = {
    NULL, FOR_EACH_ROWS(MULTIPLY_PAIRS_ENTRY)};

/* A head becomes words. Functions with `whole` know that D is a multiple of 2 · LANES: as it
 * nearly always is, and then nothing has to be masked. */

ALWAYS_INLINE vector load_part(const bool whole, const float *from, lanes some) {
    return whole ? load(from) : load_some(from, some);
}

/* Which of LANES channels exist, from the d-th on, and which of the LANES behind them. */
static inline lanes channels(uint32_t D, uint32_t d) {
    return first_lanes(D > d ? D - d : 0);
}

/* The largest |q| and |k|, and the scale of each channel of v. */
ALWAYS_INLINE void measure(const bool whole, const struct word_head *head, const float *q,
                           const float *k, const float *v, float *q_largest, float *k_largest) {
    const vector least = broadcast(MOULT_INTEGERS_LEAST);
    vector largest[2] = {least, least};
    size_t stride = head->stride;

    for (uint32_t d = 0; d < head->D; d += 2 * LANES) {
        lanes low = channels(head->D, d), high = channels(head->D, d + LANES);
        const float *at[3] = {q + d, k + d, v + d};
        vector most[6];

        UNROLL
        for (unsigned j = 0; j < 6; j++)
            most[j] = broadcast(0);
        for (uint32_t i = 0; i < head->L; i++) {
            UNROLL
            for (unsigned j = 0; j < 3; j++) {
                most[2 * j] = larger_size(most[2 * j], load_part(whole, at[j], low));
                most[2 * j + 1] =
                    larger_size(most[2 * j + 1], load_part(whole, at[j] + LANES, high));
                at[j] += stride;
            }
        }
        UNROLL
        for (unsigned j = 0; j < 4; j++)
            largest[j / 2] = larger(largest[j / 2], most[j]);
        UNROLL
        for (unsigned j = 0; j < 2; j++) {
            if (whole || head->D - d > j * LANES)
                store(head->value_scales + d + j * LANES,
                      mul(larger(least, most[4 + j]), broadcast(1.0f / VALUE_MOST)));
        }
    }
    *q_largest = largest_of(largest[0]);
    *k_largest = largest_of(largest[1]);
}

/* The words of 2 · LANES channels as LANES pairs. */
ALWAYS_INLINE ints channel_pairs(const bool whole, const float *x, lanes low, lanes high,
                                 vector inverse) {
    return join_words(rounded(mul(load_part(whole, x, low), inverse)),
                      rounded(mul(load_part(whole, x + LANES, high), inverse)));
}

ALWAYS_INLINE void pack_query_words(const bool whole, const struct word_head *head, const float *q,
                                    float inverse) {
    size_t stride = head->stride, step = head->pairs / LANES;

    for (uint32_t d = 0; d < head->D; d += 2 * LANES) {
        lanes low = channels(head->D, d), high = channels(head->D, d + LANES);
        ints *to = head->queries + d / (2 * LANES);
        const float *row = q + d;

        for (uint32_t i = head->L; i > 0; i--, row += stride, to += step)
            store_ints(to, channel_pairs(whole, row, low, high, broadcast(inverse)));
    }
}

/* As pack_keys() does it, with pairs. The last key stands for those that its register lacks. */
ALWAYS_INLINE void pack_key_words(const bool whole, const struct word_head *head, const float *k,
                                  float inverse) {
    uint32_t vectors = (head->L + LANES - 1) / LANES;

    for (uint32_t at = 0; at < vectors; at++) {
        uint32_t first = at / TILE_VECTORS * TILE_VECTORS, here = vectors - first;
        uint32_t width = here < TILE_VECTORS ? here : TILE_VECTORS, left = head->L - at * LANES;
        const float *rows = k + (size_t)at * LANES * head->stride;
        ints *to = head->keys + (size_t)first * head->pairs + (at - first);

        for (uint32_t d = 0; d < head->D; d += 2 * LANES) {
            lanes low = channels(head->D, d), high = channels(head->D, d + LANES);
            const float *row = rows + d;
            vector square[LANES];

            UNROLL
            for (uint32_t i = 0; i < LANES; i++) {
                square[i] = as_floats(channel_pairs(whole, row, low, high, broadcast(inverse)));
                row += i + 1 < left ? head->stride : 0;
            }
            transpose(square);
            UNROLL
            for (uint32_t i = 0; i < LANES; i++, to += width)
                store_ints(to, as_ints(square[i]));
        }
    }
}

/* One pair for each channel of `width` registers, of the values of two keys. */
ALWAYS_INLINE void store_value_pairs(const bool whole, const unsigned width, ints *to,
                                     const float *row, const float *next, const lanes *some,
                                     const vector *inverse) {
    UNROLL
    for (unsigned j = 0; j < width; j++) {
        vector a = load_part(whole, row + j * LANES, some[j]);
        vector b = load_part(whole, next + j * LANES, some[j]);

        store_ints(to + j, pair_words(rounded(mul(a, inverse[j])), rounded(mul(b, inverse[j]))));
    }
}

/* Panels of two registers, or one, at the end. Weights of a whole block of keys come out of
 * join_words(), which takes four of LANES and four of the next LANES in turn; behind them they are
 * in order. Where L is odd, the last key stands for the one that it lacks: that has no weight. */
ALWAYS_INLINE void pack_value_panel(const bool whole, const struct word_head *head,
                                    const unsigned width, const float *v, uint32_t d) {
    ints *to = head->values + (size_t)d / LANES * head->key_pairs;
    size_t stride = head->stride;
    const float *row = v + d;
    lanes some[VALUE_VECTORS];
    vector inverse[VALUE_VECTORS];
    uint32_t key = 0;

    UNROLL
    for (unsigned j = 0; j < width; j++) {
        some[j] = channels(head->D, d + j * LANES);
        inverse[j] = quotient(broadcast(1), load(head->value_scales + d + j * LANES));
    }
    for (; key + 2 * LANES <= head->L; key += 2 * LANES, row += LANES * stride) {
        for (unsigned four = 0; four < LANES / 4; four++, row += 4 * stride, to += 4 * width) {
            UNROLL
            for (unsigned n = 0; n < 4; n++) {
                const float *from = row + (n / 2 * LANES + n % 2 * 2) * stride;

                store_value_pairs(whole, width, to + n * width, from, from + stride, some,
                                  inverse);
            }
        }
    }
    for (; key < head->L; key += 2, row += 2 * stride, to += width)
        store_value_pairs(whole, width, to, row, key + 1 < head->L ? row + stride : row, some,
                          inverse);
}

ALWAYS_INLINE void pack_value_words(const bool whole, const struct word_head *head,
                                    const float *v) {
    for (uint32_t d = 0; d < head->D; d += VALUE_PANEL) {
        if (whole || head->D - d > VALUE_PANEL - LANES)
            pack_value_panel(whole, head, VALUE_VECTORS, v, d);
        else
            pack_value_panel(whole, head, 1, v, d);
    }
}

ALWAYS_INLINE void pack_words(const bool whole, struct word_head *head, const float *q,
                              const float *k, const float *v, double unit) {
    float most = word_most(head->D), q_largest, k_largest;

    measure(whole, head, q, k, v, &q_largest, &k_largest);
    head->factor = (float)((double)q_largest * (double)k_largest * unit);
    pack_query_words(whole, head, q, most / q_largest);
    pack_key_words(whole, head, k, most / k_largest);
    pack_value_words(whole, head, v);
}

static void pack_whole_words(struct word_head *head, const float *q, const float *k,
                             const float *v, double unit) {
    pack_words(true, head, q, k, v, unit);
}

static void pack_some_words(struct word_head *head, const float *q, const float *k, const float *v,
                            double unit) {
    pack_words(false, head, q, k, v, unit);
}

/* Asks for `rows` rows of the next head, which lie far apart. L1 has room for the rows of few
 * tokens. */
static void ask_ahead(const struct word_head *head, uint32_t first, unsigned rows) {
    const float *row = head->ahead + first * head->stride;
    ptrdiff_t keys = head->keys_ahead, values = head->values_ahead;

    for (unsigned i = 0; i < rows; i++, row += head->stride) {
        for (const float *at = row, *end = row + head->D; at < end; at += 16) {
            if (head->L <= 32) {
                __builtin_prefetch(at, 0, 3);
                __builtin_prefetch(at + keys, 0, 3);
                __builtin_prefetch(at + values, 0, 3);
            } else {
                __builtin_prefetch(at, 0, 2);
                __builtin_prefetch(at + keys, 0, 2);
                __builtin_prefetch(at + values, 0, 2);
            }
        }
    }
}

/* The softmax. */

/* 2^x for x <= 0 as an integer, of which WEIGHT_MOST are 1: x is `score` times `factor`, and a
 * score below `least` counts as that. A polynomial of degree 3 is enough for so few bits. */
ALWAYS_INLINE ints weight_of(vector score, vector factor, vector least) {
    const vector shift = broadcast(12582912.0f);
    vector x = larger(least, score);
    vector shifted = fma_add(x, factor, shift);
    vector rest = fma_add(x, factor, sub(shift, shifted));
    vector sum = broadcast(0.05517167f * WEIGHT_MOST);

    sum = fma_add(sum, rest, broadcast(0.24261112f * WEIGHT_MOST));
    sum = fma_add(sum, rest, broadcast(0.69326098f * WEIGHT_MOST));
    sum = fma_add(sum, rest, broadcast(0.99992807f * WEIGHT_MOST));
    return rounded(scale_by_power(sum, shifted));
}

/* Scores of `rows` queries, at most four, become weights, pairs of words, in the same place.
 * `factors` become one over the sums of a query's weights. */
ALWAYS_INLINE void weigh(const unsigned rows, const struct word_head *head, float *scores,
                         float *factors) {
    size_t stride = moult_score_stride(head->L);
    uint32_t L = head->L, whole = L / LANES * LANES, j = 0;
    vector factor = broadcast(head->factor), least = broadcast(-30 / head->factor);
    vector highest[4];
    ints total[4];

    UNROLL
    for (unsigned i = 0; i < 4; i++) {
        highest[i] = broadcast(scores[i < rows ? i * stride : 0]);
        total[i] = no_ints();
    }
    for (j = 0; j < whole; j += LANES) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            highest[i] = larger(highest[i], load(scores + i * stride + j));
    }
    if (whole < L) {
        UNROLL
        for (unsigned i = 0; i < rows; i++)
            highest[i] = larger(highest[i],
                                select_some(first_lanes(L - whole),
                                            load(scores + i * stride + whole), highest[i]));
    }
    largest_of_each(highest);
    for (j = 0; j + 2 * LANES <= L; j += 2 * LANES) {
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            float *at = scores + i * stride;
            ints low = weight_of(sub(load(at + j), highest[i]), factor, least);
            ints high = weight_of(sub(load(at + j + LANES), highest[i]), factor, least);

            total[i] = add_ints(total[i], add_ints(low, high));
            store_ints(at + j / 2, join_words(low, high));
        }
    }
    for (; j < L; j += LANES) {
        lanes some = first_lanes(L - j);

        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            float *at = scores + i * stride;
            ints weight = weight_of(sub(load(at + j), highest[i]), factor, least);

            weight = as_ints(select_some(some, as_floats(weight), broadcast(0)));
            total[i] = add_ints(total[i], weight);
            store_words((int16_t *)at + j, weight);
        }
    }
    store(factors, quotient(broadcast(1), to_floats(sums_of_four(total))));
}

#define WEIGH(rows) \
    static void weigh_##rows(const struct word_head *head, float *scores, float *factors) { \
        weigh(rows, head, scores, factors); \
    }

WEIGH(1)
WEIGH(2)
WEIGH(3)
WEIGH(4)
static void (*const weigh_of[])(const struct word_head *head, float *scores, float *factors) = {
    NULL, weigh_1, weigh_2, weigh_3, weigh_4};

/* Whether the weights of each query add up to no more than FLUSH_KEYS of the largest: then its sums
 * have room for all keys. */
static bool weigh_little(const float *factors, unsigned rows) {
    bool little = true;

    for (unsigned i = 0; i < rows; i++)
        little = little && factors[i * FACTOR_STEP] >= 1.0f / (WEIGHT_MOST * FLUSH_KEYS);
    return little;
}

/* One block of queries, from the `first`, into out [rows][D]. */
static void attend_words(const struct word_head *head, uint32_t first, unsigned rows, float *out,
                         size_t out_stride) {
    size_t stride = moult_score_stride(head->L);
    uint32_t L = head->L, D = head->D;
    _Alignas(64) float sums[TILE_ROWS * VALUE_PANEL], factors[TILE_ROWS * FACTOR_STEP];
    struct pair_sums scores = {.to = head->scores, .stride = stride};
    uint32_t step;

    for (uint32_t at = 0; at < L; at += PANEL, scores.to += PANEL) {
        uint32_t vectors = (L - at + LANES - 1) / LANES;

        multiply_pairs_of[rows]((const char *)head->queries + (size_t)first * head->pairs * 4,
                                head->pairs * 4, head->keys + (size_t)at / LANES * head->pairs,
                                head->pairs, vectors < TILE_VECTORS ? vectors : TILE_VECTORS,
                                &scores);
    }
    for (unsigned i = 0; i < rows; i += 4)
        weigh_of[rows - i < 4 ? rows - i : 4](head, head->scores + i * stride,
                                              factors + i * FACTOR_STEP);
    step = FLUSH_KEYS / 2;
    if (step < head->key_pairs && weigh_little(factors, rows))
        step = head->key_pairs;
    for (uint32_t d = 0; d < D; d += VALUE_PANEL) {
        unsigned vectors = D - d > VALUE_PANEL - LANES ? VALUE_VECTORS : 1;
        const ints *values = head->values + (size_t)d / LANES * head->key_pairs;
        struct pair_sums done = {.to = sums, .stride = VALUE_PANEL, .factors = factors,
                                 .out = out + d, .out_stride = out_stride};

        for (unsigned j = 0; j < vectors; j++)
            done.some[j] = first_lanes(D - d - j * LANES);
        for (uint32_t n = 0; n < head->key_pairs; n += step) {
            uint32_t left = head->key_pairs - n;

            if (left <= step)
                done.scales = head->value_scales + d;
            multiply_pairs_of[rows]((const char *)head->scores + n * 4, stride * 4,
                                    values + (size_t)n * vectors,
                                    left < step ? left : step, vectors, &done);
            done.more = true;
        }
    }
}

static struct word_head word_head_in(float *scratch, uint32_t L, uint32_t D) {
    struct word_head head = {.L = L, .D = D, .pairs = rounded_up(D, 2 * LANES) / 2};
    uint32_t whole = L / (2 * LANES) * (2 * LANES);

    head.key_pairs = whole / 2 + (L - whole + 1) / 2;
    head.queries = (ints *)(void *)scratch;
    head.keys = head.queries + (size_t)L * head.pairs / LANES;
    head.values = head.keys + (size_t)rounded_up(L, LANES) / LANES * head.pairs;
    head.value_scales = (float *)(head.values + (size_t)rounded_up(D, LANES) / LANES *
                                                    head.key_pairs);
    head.scores = head.value_scales + rounded_up(D, LANES);
    return head;
}

static void attention_words(const float *q, const float *k, const float *v, size_t stride,
                            float *out, size_t out_stride, uint32_t L, uint32_t D,
                            uint32_t head_first, uint32_t head_end, float scale, float *scratch) {
    struct word_head head = word_head_in(scratch, L, D);
    double most = (double)word_most(D);
    /* exp(x) is 2^(x / log 2). */
    double unit = (double)scale * 1.44269504088896340736 / (most * most);

    head.stride = stride;
    head.keys_ahead = k - q;
    head.values_ahead = v - q;
    for (uint32_t h = head_first; h < head_end; h++) {
        size_t at = (size_t)h * D;

        (D % (2 * LANES) == 0 ? pack_whole_words : pack_some_words)(&head, q + at, k + at, v + at,
                                                                    unit);
        head.ahead = h + 1 < head_end ? q + at + D : NULL;
        for (uint32_t i = 0; i < L;) {
            unsigned rows = rows_of_tile(L - i);

            if (head.ahead != NULL)
                ask_ahead(&head, i, rows);
            attend_words(&head, i, rows, out + at + i * out_stride, out_stride);
            i += rows;
        }
    }
}
