/* The level that every ARM64 CPU runs. Without dot products it multiplies bytes as words, which are
 * no faster than floats: what int8 and int16 gain here is memory. */
#include "kernels/arm/neon.h"

enum { BYTE_GROUP = 1 };

#include "kernels/arm/tile.h"

ALWAYS_INLINE void multiply_bytes_tile(const unsigned rows, const struct tile_weights *w,
                                       const struct tile_rows *x, float *sums,
                                       const struct ahead *ahead) {
    (void)ahead;
    multiply_as_words(rows, true, w, x, sums);
}

static inline ints add_bytes(ints sum, ints x, ints w) {
    return add_words(sum, x, w);
}

#define LEVEL moult_kernels_neon
#define LEVEL_NAME "neon"
#define LEVEL_SCAN moult_scan_neon
#define LEVEL_SCAN_ROW moult_scan_row_neon
#include "kernels/f32.h"
