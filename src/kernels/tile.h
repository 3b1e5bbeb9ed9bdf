/* What the tiles of all CPUs share: a tile is TILE_ROWS rows of x times a panel of TILE_VECTORS
 * registers of outputs, both said by the including file, and is computed by <cpu>/tile.h. */

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#define ALWAYS_INLINE static inline __attribute__((always_inline))

enum {
    PANEL = TILE_VECTORS * LANES,
    VALUE_PANEL = VALUE_VECTORS * LANES,
    VALUE_BYTES = BYTE_GROUP < 4 ? 2 : 1    /* Of a value of x in INT8. */
};

/* What a tile asks memory for while it computes: from `at` on, and `step` bytes further for each
 * k, or step of integers. NULL: nothing. */
struct ahead {
    const char *at;
    size_t step;
};

/* The integer weights of one tile: its panel and what belongs to its outputs. */
struct tile_weights {
    const char *panel;
    const float *scales;
    const int32_t *sums;
    uint32_t steps;
};

/* And its rows. */
struct tile_rows {
    const char *values;
    size_t stride;          /* In bytes. */
    const float *scales;
    const int32_t *zeros;
};
