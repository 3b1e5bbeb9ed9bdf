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
 * of the second product become floats after every FLUSH_KEYS keys. */

enum {
    WEIGHT_LOG = 13,
    WEIGHT_MOST = 1 << WEIGHT_LOG,  /* The weight of the highest score. */
    FLUSH_KEYS = 64,
    WORDS_FROM = 24,        /* Tokens: fewer gain less than it takes to make words of them. */
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
    uint32_t L, D;
    uint32_t pairs;         /* Of channels, rounded up to whole registers: the rest are zeros. */
    uint32_t key_pairs;     /* Whole blocks of 2 · LANES keys, then as few as will do. */
};

static uint32_t rounded_up(uint32_t count, uint32_t unit) {
    return (count + unit - 1) / unit * unit;
}

/* The largest |word| of queries and keys: D products of two of them fit into 32 bits. */
static double word_most(uint32_t D) {
    return fmin(floor(sqrt((double)INT32_MAX / D)), INT16_MAX);
}

/* sums [rows][vectors · LANES] = x [rows][steps] · panel [steps][vectors · LANES], of pairs; with
 * `more`, on top of what is there. */
ALWAYS_INLINE void multiply_pairs(const unsigned rows, const unsigned vectors, const char *x,
                                  size_t x_bytes, const ints *panel, uint32_t steps, float *sums,
                                  size_t sums_stride, bool more) {
    ints total[TILE_ROWS][TILE_VECTORS];

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            total[i][j] = no_ints();
    }
    for (uint32_t k = 0; k < steps; k++) {
        ints w[TILE_VECTORS];

        UNROLL
        for (unsigned j = 0; j < vectors; j++)
            w[j] = load_ints(panel + j);
        UNROLL
        for (unsigned i = 0; i < rows; i++) {
            ints pair = four_bytes(x + i * x_bytes);

            UNROLL
            for (unsigned j = 0; j < vectors; j++)
                total[i][j] = add_words(total[i][j], pair, w[j]);
        }
        x += 4;
        panel += vectors;
    }
    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        UNROLL
        for (unsigned j = 0; j < vectors; j++) {
            float *to = sums + i * sums_stride + j * LANES;
            vector sum = to_floats(total[i][j]);

            store(to, more ? add(load(to), sum) : sum);
        }
    }
}

typedef void multiply_pairs_function(const char *x, size_t x_bytes, const ints *panel,
                                     uint32_t steps, unsigned vectors, float *sums,
                                     size_t sums_stride, bool more);

#define MULTIPLY_PAIRS(rows) \
    static void multiply_pairs_##rows(const char *x, size_t x_bytes, const ints *panel, \
                                      uint32_t steps, unsigned vectors, float *sums, \
                                      size_t sums_stride, bool more) { \
        if (vectors == TILE_VECTORS) \
            multiply_pairs(rows, TILE_VECTORS, x, x_bytes, panel, steps, sums, sums_stride, more); \
        else if (vectors == 2) \
            multiply_pairs(rows, 2, x, x_bytes, panel, steps, sums, sums_stride, more); \
        else \
            multiply_pairs(rows, 1, x, x_bytes, panel, steps, sums, sums_stride, more); \
    }
#define MULTIPLY_PAIRS_ENTRY(rows) multiply_pairs_##rows,

FOR_EACH_ROWS(MULTIPLY_PAIRS)
static multiply_pairs_function *const multiply_pairs_of[] = {
    NULL, FOR_EACH_ROWS(MULTIPLY_PAIRS_ENTRY)};

/* A head becomes words. */

/* largest [LANES] of |x| in LANES columns of x [L][at least that], those of `some`. */
static vector largest_in_columns(const float *x, size_t stride, uint32_t L, lanes some) {
    vector most[4] = {broadcast(MOULT_INTEGERS_LEAST), broadcast(0), broadcast(0), broadcast(0)};
    uint32_t i = 0;

    for (; i + 4 <= L; i += 4) {
        UNROLL
        for (unsigned j = 0; j < 4; j++)
            most[j] = larger(most[j], absolute(load_some(x + (i + j) * stride, some)));
    }
    for (; i < L; i++)
        most[0] = larger(most[0], absolute(load_some(x + i * stride, some)));
    return larger(larger(most[0], most[1]), larger(most[2], most[3]));
}

static float largest_in_rows(const float *x, size_t stride, uint32_t L, uint32_t D) {
    vector most = broadcast(0);

    for (uint32_t d = 0; d < D; d += LANES)
        most = larger(most, largest_in_columns(x + d, stride, L, first_lanes(D - d)));
    return largest_of(most);
}

/* The words of 2 · LANES channels, of which `count` exist, as LANES pairs. */
ALWAYS_INLINE ints channel_pairs(const float *x, uint32_t count, vector inverse) {
    vector low = load_some(x, first_lanes(count)), high = broadcast(0);

    if (count > LANES)
        high = load_some(x + LANES, first_lanes(count - LANES));
    return join_words(rounded(mul(low, inverse)), rounded(mul(high, inverse)));
}

static void pack_query_words(const struct word_head *head, const float *q, size_t stride,
                             float inverse) {
    ints *to = head->queries;

    for (uint32_t i = 0; i < head->L; i++) {
        for (uint32_t d = 0; d < head->D; d += 2 * LANES)
            store_ints(to++, channel_pairs(q + i * stride + d, head->D - d, broadcast(inverse)));
    }
}

/* As pack_keys() does it, with pairs. */
static void pack_key_words(const struct word_head *head, const float *k, size_t stride,
                           float inverse) {
    uint32_t vectors = (head->L + LANES - 1) / LANES;

    for (uint32_t at = 0; at < vectors; at++) {
        uint32_t first = at / TILE_VECTORS * TILE_VECTORS, here = vectors - first;
        uint32_t width = here < TILE_VECTORS ? here : TILE_VECTORS;
        uint32_t left = head->L - at * LANES, keys = left < LANES ? left : LANES;
        ints *to = head->keys + (size_t)first * head->pairs + (at - first);

        for (uint32_t d = 0; d < head->D; d += 2 * LANES) {
            vector square[LANES];

            for (uint32_t i = 0; i < LANES; i++)
                square[i] = i < keys ? as_floats(channel_pairs(k + (at * LANES + i) * stride + d,
                                                               head->D - d, broadcast(inverse)))
                                     : broadcast(0);
            transpose(square);
            for (uint32_t i = 0; i < LANES; i++, to += width)
                store_ints(to, as_ints(square[i]));
        }
    }
}

/* The first of the two keys of a pair. Weights of a whole block come out of join_words(), which
 * takes four of LANES keys and four of the next in turn. */
static uint32_t key_of_pair(uint32_t pair, uint32_t L) {
    uint32_t block = pair / LANES * 2 * LANES, n = pair % LANES;

    if (block + 2 * LANES > L)
        return 2 * pair;
    return block + n / 4 * 4 + n % 2 * 2 + (n % 4 >= 2 ? LANES : 0);
}

static void pack_value_words(const struct word_head *head, const float *v, size_t stride) {
    uint32_t L = head->L, D = head->D;

    for (uint32_t d = 0; d < D; d += LANES) {
        uint32_t first = d / VALUE_PANEL * VALUE_PANEL;
        uint32_t width = D - first > VALUE_PANEL - LANES ? VALUE_VECTORS : 1;
        ints *to = head->values + (size_t)first / LANES * head->key_pairs + (d - first) / LANES;
        lanes some = first_lanes(D - d);
        vector largest = largest_in_columns(v + d, stride, L, some);
        vector inverse = quotient(broadcast(VALUE_MOST), largest);

        store(head->value_scales + d, mul(largest, broadcast(1.0f / VALUE_MOST)));
        for (uint32_t n = 0; n < head->key_pairs; n++, to += width) {
            uint32_t key = key_of_pair(n, L);
            const float *row = v + key * stride + d;
            vector next = key + 1 < L ? load_some(row + stride, some) : broadcast(0);

            store_ints(to, pair_words(rounded(mul(load_some(row, some), inverse)),
                                      rounded(mul(next, inverse))));
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

/* Scores of `rows` queries become weights, pairs of words, in the same place. `factors` become
 * one over the sums of a query's weights. */
ALWAYS_INLINE void weigh(const unsigned rows, const struct word_head *head, float *scores,
                         float *factors) {
    size_t stride = moult_score_stride(head->L);
    uint32_t L = head->L, whole = L / LANES * LANES, j = 0;
    vector factor = broadcast(head->factor), least = broadcast(-30 / head->factor);
    vector highest[4];
    ints total[4];

    UNROLL
    for (unsigned i = 0; i < rows; i++) {
        highest[i] = broadcast(scores[i * stride]);
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
    UNROLL
    for (unsigned i = 0; i < rows; i++)
        highest[i] = broadcast(largest_of(highest[i]));
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
    UNROLL
    for (unsigned i = 0; i < rows; i++)
        factors[i] = 1 / (float)sum_of_ints(total[i]);
}

static void weigh_1(const struct word_head *head, float *scores, float *factors) {
    weigh(1, head, scores, factors);
}

static void weigh_4(const struct word_head *head, float *scores, float *factors) {
    weigh(4, head, scores, factors);
}

/* One block of queries, from the `first`, into out [rows][D]. */
static void attend_words(const struct word_head *head, uint32_t first, unsigned rows, float *out,
                         size_t out_stride) {
    size_t stride = moult_score_stride(head->L);
    uint32_t L = head->L, D = head->D;
    float *scores = head->scores, factors[TILE_ROWS];
    _Alignas(64) float sums[TILE_ROWS * VALUE_PANEL];
    unsigned i = 0;

    for (uint32_t at = 0; at < L; at += PANEL) {
        uint32_t vectors = (L - at + LANES - 1) / LANES;

        multiply_pairs_of[rows]((const char *)head->queries + (size_t)first * head->pairs * 4,
                                head->pairs * 4, head->keys + (size_t)at / LANES * head->pairs,
                                head->pairs, vectors < TILE_VECTORS ? vectors : TILE_VECTORS,
                                scores + at, stride, false);
    }
    for (; i + 4 <= rows; i += 4)
        weigh_4(head, scores + i * stride, factors + i);
    for (; i < rows; i++)
        weigh_1(head, scores + i * stride, factors + i);
    for (uint32_t d = 0; d < D; d += VALUE_PANEL) {
        unsigned vectors = D - d > VALUE_PANEL - LANES ? VALUE_VECTORS : 1;
        const ints *values = head->values + (size_t)d / LANES * head->key_pairs;

        for (uint32_t n = 0; n < head->key_pairs; n += FLUSH_KEYS / 2) {
            uint32_t left = head->key_pairs - n;

            multiply_pairs_of[rows]((const char *)scores + n * 4, stride * 4,
                                    values + (size_t)n * vectors,
                                    left < FLUSH_KEYS / 2 ? left : FLUSH_KEYS / 2, vectors, sums,
                                    VALUE_PANEL, n > 0);
        }
        for (i = 0; i < rows; i++) {
            for (uint32_t j = 0; j < vectors; j++) {
                vector scales = mul(load(head->value_scales + d + j * LANES),
                                    broadcast(factors[i]));

                store_some(out + i * out_stride + d + j * LANES, first_lanes(D - d - j * LANES),
                           mul(load(sums + i * VALUE_PANEL + j * LANES), scales));
            }
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
    double most = word_most(D), exponents = (double)scale * 1.44269504088896340736;

    if (L < WORDS_FROM) {
        attention(q, k, v, stride, out, out_stride, L, D, head_first, head_end, scale, scratch);
        return;
    }
    for (uint32_t h = head_first; h < head_end; h++) {
        size_t at = (size_t)h * D;
        float q_largest = largest_in_rows(q + at, stride, L, D);
        float k_largest = largest_in_rows(k + at, stride, L, D);

        head.factor = (float)((double)q_largest / most * ((double)k_largest / most) * exponents);
        pack_query_words(&head, q + at, stride, (float)(most / (double)q_largest));
        pack_key_words(&head, k + at, stride, (float)(most / (double)k_largest));
        pack_value_words(&head, v + at, stride);
        for (uint32_t i = 0; i < L;) {
            unsigned rows = rows_of_tile(L - i);

            attend_words(&head, i, rows, out + at + i * out_stride, out_stride);
            i += rows;
        }
    }
}
