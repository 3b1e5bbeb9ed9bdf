/* Attention in f32, over the registers of the including file and the tiles of f32.h: queries times
 * the keys of a head, the softmax of their scores, and its weights times the values. */

/* Keys [L][D], times `factor`, as panels of PANEL keys [D][PANEL]; the last has only as many
 * registers of keys as it needs, and zeros for the keys that it lacks. */
static void pack_keys(float *panels, const float *k, size_t stride, uint32_t L, uint32_t D,
                      vector factor) {
    uint32_t vectors = (L + LANES - 1) / LANES;

    for (uint32_t at = 0; at < vectors; at++) {
        uint32_t first = at / TILE_VECTORS * TILE_VECTORS, here = vectors - first;
        size_t width = (here < TILE_VECTORS ? here : TILE_VECTORS) * LANES;
        float *to = panels + (size_t)first * LANES * D + (at - first) * LANES;
        uint32_t keys = L - at * LANES < LANES ? L - at * LANES : LANES;

        for (uint32_t d = 0; d < D; d += LANES) {
            vector square[LANES];
            uint32_t count = D - d < LANES ? D - d : LANES;
            lanes some = first_lanes(count);

            for (uint32_t i = 0; i < LANES; i++)
                square[i] = i < keys
                                ? mul(factor, load_some(k + (at * LANES + i) * stride + d, some))
                                : broadcast(0);
            transpose(square);
            for (uint32_t i = 0; i < count; i++)
                store(to + (d + i) * width, square[i]);
        }
    }
}

/* Values [L][D] as panels [L][VALUE_PANEL], the last only as wide as it must be. */
static void pack_values(float *panels, const float *v, size_t stride, uint32_t L, uint32_t D) {
    for (uint32_t d = 0; d < D; d += LANES) {
        uint32_t first = d / VALUE_PANEL * VALUE_PANEL, left = D - first;
        size_t width = left > VALUE_PANEL - LANES ? VALUE_PANEL : LANES;
        float *to = panels + (size_t)first * L + (d - first);
        lanes some = first_lanes(D - d);

        for (uint32_t i = 0; i < L; i++)
            store(to + i * width, load_some(v + i * stride + d, some));
    }
}

/* scores [L] in, as exponents of two; their powers out, with zeros up to the end of a register.
 * Returns one over their sum. The order of the sum depends on L alone. */
static float softmax(float *scores, uint32_t L) {
    uint32_t whole = L / LANES * LANES;
    lanes some = first_lanes(L - whole);
    vector highest = broadcast(scores[0]), total = broadcast(0);

    for (uint32_t j = 0; j < whole; j += LANES)
        highest = larger(highest, load(scores + j));
    if (whole < L)
        highest = larger(highest, select_some(some, load(scores + whole), highest));
    highest = broadcast(largest_of(highest));
    for (uint32_t j = 0; j < whole; j += LANES) {
        vector power = power_of_two(sub(load(scores + j), highest));

        store(scores + j, power);
        total = add(total, power);
    }
    if (whole < L) {
        vector power = power_of_two(sub(load(scores + whole), highest));

        power = select_some(some, power, broadcast(0));
        store(scores + whole, power);
        total = add(total, power);
    }
    return 1 / sum_of(total);
}

/* One block of queries q [rows][D] against all keys and values of a head. */
static void attend(const float *q, size_t stride, const float *keys, const float *values,
                   float *scores, float *out, size_t out_stride, unsigned rows, uint32_t L,
                   uint32_t D) {
    size_t scores_stride = moult_score_stride(L);
    _Alignas(64) float sums[TILE_ROWS * VALUE_PANEL];
    float factors[TILE_ROWS];

    for (uint32_t at = 0; at < L; at += PANEL) {
        uint32_t vectors = (L - at + LANES - 1) / LANES;

        multiply[rows](q, stride, keys + (size_t)at * D, D,
                       vectors < TILE_VECTORS ? vectors : TILE_VECTORS, scores + at,
                       scores_stride, NULL);
    }
    for (unsigned i = 0; i < rows; i++)
        factors[i] = softmax(scores + i * scores_stride, L);
    for (uint32_t d = 0; d < D; d += VALUE_PANEL) {
        uint32_t vectors = D - d > VALUE_PANEL - LANES ? VALUE_VECTORS : 1;

        multiply[rows](scores, scores_stride, values + (size_t)d * L, L, vectors, sums,
                       VALUE_PANEL, NULL);
        for (unsigned i = 0; i < rows; i++) {
            for (uint32_t j = 0; j < vectors; j++)
                store_some(out + i * out_stride + d + j * LANES, first_lanes(D - d - j * LANES),
                           mul(load(sums + i * VALUE_PANEL + j * LANES), broadcast(factors[i])));
        }
    }
}

static void attention(const float *q, const float *k, const float *v, size_t stride, float *out,
                      size_t out_stride, uint32_t L, uint32_t D, uint32_t head_first,
                      uint32_t head_end, float scale, float *scratch) {
    size_t vectors = (L + LANES - 1) / LANES, width = (D + LANES - 1) / LANES * LANES;
    float *keys = scratch, *values = keys + vectors * LANES * D, *scores = values + L * width;
    /* exp(x) is 2^(x / log 2): the keys bring the division along. */
    vector factor = broadcast((float)((double)scale * 1.44269504088896340736));

    for (uint32_t head = head_first; head < head_end; head++) {
        size_t at = (size_t)head * D;

        pack_keys(keys, k + at, stride, L, D, factor);
        pack_values(values, v + at, stride, L, D);
        for (uint32_t i = 0; i < L;) {
            unsigned rows = rows_of_tile(L - i);

            attend(q + at + i * stride, stride, keys, values, scores, out + at + i * out_stride,
                   out_stride, rows, L, D);
            i += rows;
        }
    }
}
