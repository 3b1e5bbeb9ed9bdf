#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "model/json.h"

/* What a file may hold; what the encoder reads of it is fewer (weights.c). */
static const struct {
    char name[8];
    uint32_t bytes;
} dtypes[] = {
    {"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},     {"I32", 4},     {"I16", 2},
    {"I8", 1},  {"U64", 8}, {"U32", 4}, {"U16", 2},  {"U8", 1},      {"BOOL", 1},    {"C64", 8},
    {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1},
};

static int parse_tensor(struct moult_tensor *tensor, const char *name, const json_t *entry,
                        uint64_t data_at, uint64_t data_bytes, const char *what,
                        struct moult_error *error);
static int check_coverage(const struct moult_safetensors *contents, uint64_t data_at,
                          uint64_t data_bytes, const char *what, struct moult_error *error);
static int compare_names(const void *a, const void *b);

int moult_safetensors_read(struct moult_safetensors *contents, int fd, uint64_t size,
                           const char *what, struct moult_error *error) {
    unsigned char prefix[8];
    uint64_t header_size = 0;
    char *header;
    int result = -1;

    if (size < sizeof prefix)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s is cut off: it has %lu bytes, fewer than the size of its header.",
                          what, (unsigned long)size);
    if (moult_read_exact(fd, prefix, sizeof prefix, 0, what, error) != 0)
        return -1;
    for (int i = 7; i >= 0; i--)
        header_size = header_size << 8 | prefix[i];
    if (header_size > MOULT_SAFETENSORS_HEADER_BYTES_MAX)
        return moult_fail(error, MOULT_ERROR_LIMIT,
                          "%s is not a safetensors file, or its header is too large (%llu bytes; "
                          "%lu at most).",
                          what, (unsigned long long)header_size,
                          MOULT_SAFETENSORS_HEADER_BYTES_MAX);
    if (header_size > size - sizeof prefix)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s is cut off within its header: %lu of %lu bytes are there.", what,
                          (unsigned long)size, (unsigned long)(header_size + sizeof prefix));
    header = moult_allocate(header_size + 1, 1);
    if (moult_read_exact(fd, header, header_size, sizeof prefix, what, error) == 0)
        result = moult_safetensors_parse(contents, header, header_size,
                                         sizeof prefix + header_size,
                                         size - sizeof prefix - header_size, what, error);
    free(header);
    return result;
}

int moult_safetensors_parse(struct moult_safetensors *contents, const char *header,
                            size_t header_size, uint64_t data_at, uint64_t data_bytes,
                            const char *what, struct moult_error *error) {
    json_t *root = moult_model_json_parse(header, header_size, 0, what, error);
    const char *name;
    json_t *entry;

    *contents = (struct moult_safetensors){0};
    if (root == NULL)
        return -1;
    if (!json_is_object(root)) {
        json_decref(root);
        return moult_fail(error, MOULT_ERROR_INVALID, "%s: the header is not an object.", what);
    }
    if (json_object_size(root) > MOULT_TENSORS_MAX) {
        json_decref(root);
        return moult_fail(error, MOULT_ERROR_LIMIT, "%s has more than %d tensors.", what,
                          MOULT_TENSORS_MAX);
    }
    contents->tensors = moult_allocate(json_object_size(root) + 1, sizeof *contents->tensors);
    json_object_foreach(root, name, entry) {
        struct moult_tensor *tensor = &contents->tensors[contents->count];

        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (parse_tensor(tensor, name, entry, data_at, data_bytes, what, error) != 0)
            goto failed;
        tensor->name = moult_copy_string(name);
        contents->count++;
    }
    if (check_coverage(contents, data_at, data_bytes, what, error) != 0)
        goto failed;
    json_decref(root);
    qsort(contents->tensors, contents->count, sizeof *contents->tensors, compare_names);
    return 0;

failed:
    json_decref(root);
    moult_safetensors_release(contents);
    return -1;
}

void moult_safetensors_release(struct moult_safetensors *contents) {
    for (size_t i = 0; i < contents->count; i++)
        free(contents->tensors[i].name);
    free(contents->tensors);
    *contents = (struct moult_safetensors){0};
}

static int parse_shape(struct moult_tensor *tensor, const json_t *shape, const char *what,
                       const char *name, struct moult_error *error) {
    if (!json_is_array(shape) || json_array_size(shape) > MOULT_TENSOR_RANK_MAX)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: the shape of %s is not a list of at most %d numbers.", what, name,
                          MOULT_TENSOR_RANK_MAX);
    tensor->rank = (uint32_t)json_array_size(shape);
    tensor->values = 1;
    for (uint32_t i = 0; i < tensor->rank; i++) {
        const json_t *extent = json_array_get(shape, i);

        if (!json_is_integer(extent) || json_integer_value(extent) < 0)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "%s: the shape of %s holds something else than whole numbers.", what,
                              name);
        tensor->shape[i] = (uint64_t)json_integer_value(extent);
        if (__builtin_mul_overflow(tensor->values, tensor->shape[i], &tensor->values))
            return moult_fail(error, MOULT_ERROR_INVALID, "%s: the shape of %s is too large.",
                              what, name);
    }
    return 0;
}

static uint32_t dtype_bytes(const char *dtype) {
    for (size_t i = 0; dtype != NULL && i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(dtypes[i].name, dtype) == 0)
            return dtypes[i].bytes;
    }
    return 0;
}

static int parse_tensor(struct moult_tensor *tensor, const char *name, const json_t *entry,
                        uint64_t data_at, uint64_t data_bytes, const char *what,
                        struct moult_error *error) {
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    uint64_t first, last, bytes;

    if (dtype_bytes(dtype) == 0)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: %s has the dtype %s, which moult does not know.", what, name,
                          dtype ? dtype : "(none)");
    snprintf(tensor->dtype, sizeof tensor->dtype, "%s", dtype);
    if (parse_shape(tensor, json_object_get(entry, "shape"), what, name, error) != 0)
        return -1;
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: the data_offsets of %s are not [begin, end].", what, name);
    first = (uint64_t)json_integer_value(begin);
    last = (uint64_t)json_integer_value(end);
    if (last > data_bytes)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s is cut off: %s ends at byte %llu of the data, which has %llu.", what,
                          name, (unsigned long long)last, (unsigned long long)data_bytes);
    if (__builtin_mul_overflow(tensor->values, dtype_bytes(dtype), &bytes) ||
        bytes != last - first)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s: %s has %llu bytes, not what its dtype and shape say.", what, name,
                          (unsigned long long)(last - first));
    tensor->bytes = bytes;
    tensor->offset = data_at + first;
    return 0;
}

static int compare_offsets(const void *a, const void *b) {
    const struct moult_tensor *x = a, *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

static int compare_names(const void *a, const void *b) {
    const struct moult_tensor *x = a, *y = b;

    return strcmp(x->name, y->name);
}

static int check_coverage(const struct moult_safetensors *contents, uint64_t data_at,
                          uint64_t data_bytes, const char *what, struct moult_error *error) {
    uint64_t at = data_at;

    qsort(contents->tensors, contents->count, sizeof *contents->tensors, compare_offsets);
    for (size_t i = 0; i < contents->count; i++) {
        const struct moult_tensor *tensor = &contents->tensors[i];

        if (tensor->offset < at)
            return moult_fail(error, MOULT_ERROR_INVALID, "%s: %s overlaps another tensor.", what,
                              tensor->name);
        if (tensor->offset > at)
            return moult_fail(error, MOULT_ERROR_INVALID,
                              "%s: there is a gap of %llu bytes before %s.", what,
                              (unsigned long long)(tensor->offset - at), tensor->name);
        at += tensor->bytes;
    }
    if (at - data_at != data_bytes)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s has %llu bytes behind its last tensor.", what,
                          (unsigned long long)(data_bytes - (at - data_at)));
    return 0;
}

struct moult_tensor *moult_safetensors_find(const struct moult_safetensors *contents,
                                            const char *name) {
    struct moult_tensor wanted = {.name = (char *)(uintptr_t)name};

    if (contents->count == 0)
        return NULL;
    return bsearch(&wanted, contents->tensors, contents->count, sizeof *contents->tensors,
                   compare_names);
}
