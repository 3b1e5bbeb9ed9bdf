/* The table of contents of a safetensors file, checked entry by entry.
 *
 * A file is: the header's size, 8 bytes, little-endian; the header, a JSON object
 * of name: {"dtype", "shape", "data_offsets": [begin, end]} with an optional
 * "__metadata__" of strings; the data, to whose start the offsets count. The
 * tensors must cover the data without a gap or an overlap, and every size must
 * be what dtype and shape say: then no later read can leave the file. */
#ifndef MOULT_MODEL_SAFETENSORS_H
#define MOULT_MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define MOULT_TENSOR_RANK_MAX 8

struct moult_tensor {
    char *name;
    char dtype[8];      /* As the file spells it: "F32". */
    uint32_t rank;
    uint64_t shape[MOULT_TENSOR_RANK_MAX];
    uint64_t values;    /* The product of the shape. */
    uint64_t offset;    /* From the start of the file. */
    uint64_t bytes;
    bool used;          /* The reader's own mark; false at first. */
};

struct moult_safetensors {
    struct moult_tensor *tensors;   /* Sorted by name. Owned. */
    size_t count;
};

/* From the header's JSON alone; the data has `data_bytes` and begins at `data_at`
 * in the file. `what` names the file. On failure nothing is left to release. */
int moult_safetensors_parse(struct moult_safetensors *contents, const char *header,
                            size_t header_size, uint64_t data_at, uint64_t data_bytes,
                            const char *what, struct moult_error *error);
/* From an open file of `size` bytes. */
int moult_safetensors_read(struct moult_safetensors *contents, int fd, uint64_t size,
                           const char *what, struct moult_error *error);
void moult_safetensors_release(struct moult_safetensors *contents);

/* NULL where there is none. */
struct moult_tensor *moult_safetensors_find(const struct moult_safetensors *contents,
                                            const char *name);

#endif
