/* From model.safetensors to packed weights. Each tensor is read once, piece by
 * piece; a piece is converted, checked and hashed while it is in the cache. The
 * embeddings are read to where they stay, matrices into one staging buffer from
 * which they are packed: there is never a second copy of the model. In a rung of
 * integers a ladder takes each layer as soon as it is packed. */
#include "model/weights.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "model/ladder.h"
#include "model/safetensors.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "Values of a safetensors file are little-endian, and hashed as they are.");

#define PIECE_VALUES (64u * 1024u)

struct reader {
    struct moult_weights *weights;
    const struct moult_config *config;
    const struct moult_kernels *kernels;
    struct moult_ladder *ladder;    /* NULL: f32. */
    const struct moult_model_file *file;
    struct moult_safetensors contents;
    const char *prefix;             /* "bert." or "": before each name in the file. */
    float *staging;                 /* The largest matrix and the longest bias. */
    size_t staging_values;
    uint16_t *halves;               /* [PIECE_VALUES]: 16-bit values before conversion. */
    const struct moult_load_progress *progress;
    uint64_t bytes_done, bytes_all;
    struct moult_error *error;
};

static void find_prefix(struct reader *reader);
static int check_none_left(struct reader *reader);
static int read_embeddings(struct reader *reader);
static int read_layer(struct reader *reader, uint32_t index);
static int compare_digests(const void *a, const void *b);

static int read_all(struct reader *reader) {
    struct moult_weights *weights = reader->weights;
    uint32_t layers = reader->config->layers;

    find_prefix(reader);
    if (read_embeddings(reader) != 0 ||
        (reader->ladder != NULL && moult_ladder_begin(reader->ladder, weights, reader->error) != 0))
        return -1;
    weights->layers = moult_allocate(layers, sizeof *weights->layers);
    weights->layer_count = layers;
    for (uint32_t i = 0; i < layers; i++) {
        if (read_layer(reader, i) != 0 ||
            (reader->ladder != NULL &&
             moult_ladder_layer(reader->ladder, &weights->layers[i], reader->error) != 0))
            return -1;
    }
    if (check_none_left(reader) != 0)
        return -1;
    qsort(weights->digests, weights->digest_count, sizeof *weights->digests, compare_digests);
    return 0;
}

/* Pickles run code when they are read, so moult has no way to read one. */
static const struct moult_model_file *find_file(const struct moult_config *config,
                                                const struct moult_model_files *files,
                                                struct moult_error *error) {
    const char *folder = config->transformer_folder;
    const struct moult_model_file *file =
        moult_model_files_find(files, folder, "model.safetensors");

    if (file != NULL)
        return file;
    if (moult_model_files_find(files, folder, "model.safetensors.index.json") != NULL)
        moult_fail(error, MOULT_ERROR_INVALID,
                   "The model's weights are split into several files, which moult does not read: "
                   "save it with save_pretrained(max_shard_size=\"16GB\").");
    else if (moult_model_files_find(files, folder, "pytorch_model.bin") != NULL)
        moult_fail(error, MOULT_ERROR_INVALID,
                   "The model has pytorch_model.bin but no model.safetensors; moult never reads "
                   "pickles: save it with save_pretrained(safe_serialization=True).");
    else
        moult_fail(error, MOULT_ERROR_MISSING, "The model has no model.safetensors.");
    return NULL;
}

int moult_weights_read(struct moult_weights *weights, const struct moult_config *config,
                       const struct moult_model_files *files,
                       const struct moult_kernels *kernels, struct moult_ladder *ladder,
                       const struct moult_load_progress *progress, struct moult_error *error) {
    struct reader reader = {
        .weights = weights,
        .config = config,
        .kernels = kernels,
        .ladder = ladder,
        .file = find_file(config, files, error),
        .progress = progress,
        .error = error,
    };
    int result = -1;

    *weights = (struct moult_weights){0};
    if (reader.file == NULL ||
        moult_safetensors_read(&reader.contents, reader.file->fd, reader.file->size,
                               reader.file->path, error) != 0)
        return -1;
    reader.halves = moult_allocate(PIECE_VALUES, sizeof *reader.halves);
    result = read_all(&reader);
    free(reader.halves);
    moult_free_large(reader.staging, reader.staging_values * sizeof(float));
    moult_safetensors_release(&reader.contents);
    if (result != 0)
        moult_weights_release(weights);
    return result;
}

enum moult_precision moult_matrix_precision(enum moult_precision rung, enum moult_matrix matrix) {
    return rung == MOULT_PRECISION_INT8 && matrix == MOULT_MATRIX_OUTER ? MOULT_PRECISION_INT16
                                                                        : rung;
}

void moult_layer_release_panels(struct moult_layer *layer) {
    moult_panels_release(&layer->qkv);
    moult_panels_release(&layer->output);
    moult_panels_release(&layer->inner);
    moult_panels_release(&layer->outer);
}

static void release_norm(struct moult_norm *norm) {
    free(norm->gamma);
    free(norm->beta);
}

void moult_weights_release(struct moult_weights *weights) {
    for (uint32_t i = 0; i < weights->layer_count; i++) {
        struct moult_layer *layer = &weights->layers[i];

        moult_layer_release_panels(layer);
        release_norm(&layer->output_norm);
        release_norm(&layer->outer_norm);
    }
    free(weights->layers);
    release_norm(&weights->embedding_norm);
    moult_free_large(weights->words, weights->words_bytes);
    moult_free_large(weights->positions, weights->positions_bytes);
    moult_free_large(weights->types, weights->types_bytes);
    for (size_t i = 0; i < weights->digest_count; i++)
        free(weights->digests[i].name);
    free(weights->digests);
    *weights = (struct moult_weights){0};
}

/* Names. A tensor that is in the file and is not read must be known to be without
 * effect on an embedding: the pooler and the heads of pre-training, and a table of the
 * numbers from 0 on. Anything else means that the model is another than we think. */

static bool is_ignored(const char *name) {
    return strcmp(name, "embeddings.position_ids") == 0 ||
           strncmp(name, "pooler.", 7) == 0 || strncmp(name, "cls.", 4) == 0;
}

static const char *strip_prefix(const struct reader *reader, const char *name) {
    size_t size = strlen(reader->prefix);

    return strncmp(name, reader->prefix, size) == 0 ? name + size : name;
}

static void find_prefix(struct reader *reader) {
    const struct moult_safetensors *contents = &reader->contents;

    reader->prefix =
        moult_safetensors_find(contents, "bert.embeddings.word_embeddings.weight") ? "bert." : "";
    for (size_t i = 0; i < contents->count; i++) {
        if (!is_ignored(strip_prefix(reader, contents->tensors[i].name)))
            reader->bytes_all += contents->tensors[i].bytes;
    }
}

static int check_none_left(struct reader *reader) {
    const struct moult_safetensors *contents = &reader->contents;

    for (size_t i = 0; i < contents->count; i++) {
        const struct moult_tensor *tensor = &contents->tensors[i];

        if (tensor->used || is_ignored(strip_prefix(reader, tensor->name)))
            continue;
        return moult_fail(reader->error, MOULT_ERROR_INVALID,
                          "%s holds %.200s, which is no part of the BERT encoder that config.json "
                          "describes.",
                          reader->file->path, tensor->name);
    }
    return 0;
}

/* Old checkpoints call a LayerNorm's weight gamma and its bias beta. */
static struct moult_tensor *find_tensor(const struct reader *reader, const char *name) {
    char *full = moult_format("%s%s", reader->prefix, name);
    struct moult_tensor *tensor = moult_safetensors_find(&reader->contents, full);
    char *norm = strstr(full, ".LayerNorm.");

    if (tensor == NULL && norm != NULL) {
        norm += strlen(".LayerNorm.");
        memcpy(norm, *norm == 'w' ? "gamma" : "beta", *norm == 'w' ? 6 : 5);
        tensor = moult_safetensors_find(&reader->contents, full);
    }
    free(full);
    return tensor;
}

/* Values. */

/* Exact: both formats are subsets of f32. Scaling by 2^112 moves the exponent of a
 * half where f32 wants it, and makes a subnormal half normal on the way. */
static float float_of_f16(uint16_t half) {
    uint32_t bits = (uint32_t)(half & 0x7FFF) << 13;
    float value;

    if (bits >= 0x0F800000u) {
        bits |= 0x7F800000u;
        memcpy(&value, &bits, sizeof value);
    } else {
        memcpy(&value, &bits, sizeof value);
        value *= 0x1p112f;
    }
    return half & 0x8000 ? -value : value;
}

static float float_of_bf16(uint16_t half) {
    uint32_t bits = (uint32_t)half << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static bool all_finite(const float *values, size_t count) {
    uint32_t found = 0;

    for (size_t i = 0; i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &values[i], sizeof bits);
        found |= (bits & 0x7F800000u) == 0x7F800000u;
    }
    return found == 0;
}

/* Values [at, at + count) of the tensor, at most PIECE_VALUES, as f32. */
static int read_piece(struct reader *reader, const struct moult_tensor *tensor, uint64_t at,
                      size_t count, float *values) {
    bool whole = strcmp(tensor->dtype, "F32") == 0, bf16 = strcmp(tensor->dtype, "BF16") == 0;
    size_t width = whole ? sizeof(float) : sizeof(uint16_t);

    if (moult_read_exact(reader->file->fd, whole ? (void *)values : (void *)reader->halves,
                         count * width, tensor->offset + at * width, reader->file->path,
                         reader->error) != 0)
        return -1;
    for (size_t i = 0; !whole && i < count; i++)
        values[i] = bf16 ? float_of_bf16(reader->halves[i]) : float_of_f16(reader->halves[i]);
    reader->bytes_done += count * width;
    return 0;
}

static void add_digest(struct reader *reader, const char *name, const struct moult_tensor *tensor,
                       struct moult_sha256 *hash) {
    struct moult_weights *weights = reader->weights;
    struct moult_tensor_digest *digest;

    weights->digests = moult_reallocate(weights->digests, weights->digest_count + 1,
                                        sizeof *weights->digests);
    digest = &weights->digests[weights->digest_count++];
    digest->name = moult_copy_string(name);
    digest->rank = tensor->rank;
    memcpy(digest->shape, tensor->shape, sizeof digest->shape);
    moult_sha256_close(hash, digest->sha256);
}

static int read_values(struct reader *reader, const char *name, const struct moult_tensor *tensor,
                       float *values) {
    struct moult_sha256 *hash = moult_sha256_open();
    uint64_t at = 0;
    int result = 0;

    while (result == 0 && at < tensor->values) {
        size_t count = tensor->values - at < PIECE_VALUES ? tensor->values - at : PIECE_VALUES;

        result = read_piece(reader, tensor, at, count, values + at);
        if (result == 0 && !all_finite(values + at, count))
            result = moult_fail(reader->error, MOULT_ERROR_INVALID,
                                "%s: %s holds a NaN or an infinite number.", reader->file->path,
                                name);
        moult_sha256_add(hash, values + at, count * sizeof(float));
        at += count;
    }
    add_digest(reader, name, tensor, hash);
    if (reader->progress != NULL && reader->progress->advance != NULL)
        reader->progress->advance(reader->progress->context,
                                  (double)reader->bytes_done / (double)reader->bytes_all);
    return result;
}

static void print_shape(char text[64], const uint64_t *shape, uint32_t rank) {
    size_t used = (size_t)snprintf(text, 64, "[");

    for (uint32_t i = 0; i < rank && used < 64; i++)
        used += (size_t)snprintf(text + used, 64 - used, i == 0 ? "%llu" : ", %llu",
                                 (unsigned long long)shape[i]);
    if (used < 64)
        snprintf(text + used, 64 - used, "]");
}

/* Where rank is 1, shape[0] counts alone. */
static int check_tensor(const struct reader *reader, const char *name,
                        const struct moult_tensor *tensor, const uint64_t *shape,
                        uint32_t rank) {
    const char *path = reader->file->path;

    if (tensor == NULL)
        return moult_fail(reader->error, MOULT_ERROR_INVALID, "%s lacks the tensor %s%s.", path,
                          reader->prefix, name);
    if (tensor->rank != rank || memcmp(tensor->shape, shape, rank * sizeof *shape) != 0) {
        char found[64], wanted[64];

        print_shape(found, tensor->shape, tensor->rank);
        print_shape(wanted, shape, rank);
        return moult_fail(reader->error, MOULT_ERROR_INVALID,
                          "%s: %s has the shape %s, not %s as config.json says.", path, name,
                          found, wanted);
    }
    if (strcmp(tensor->dtype, "F32") != 0 && strcmp(tensor->dtype, "F16") != 0 &&
        strcmp(tensor->dtype, "BF16") != 0)
        return moult_fail(reader->error, MOULT_ERROR_INVALID,
                          "%s: %s has the dtype %s; moult reads F32, F16 and BF16.", path, name,
                          tensor->dtype);
    return 0;
}

/* Into values [columns]. */
static int read_vector(struct reader *reader, const char *name, uint32_t columns, float *values) {
    struct moult_tensor *tensor = find_tensor(reader, name);
    uint64_t shape[1] = {columns};

    if (check_tensor(reader, name, tensor, shape, 1) != 0)
        return -1;
    tensor->used = true;
    return read_values(reader, name, tensor, values);
}

/* Into values [rows][columns]. */
static int read_matrix(struct reader *reader, const char *name, uint32_t rows, uint32_t columns,
                       float *values) {
    struct moult_tensor *tensor = find_tensor(reader, name);
    uint64_t shape[2] = {rows, columns};

    if (check_tensor(reader, name, tensor, shape, 2) != 0)
        return -1;
    tensor->used = true;
    return read_values(reader, name, tensor, values);
}

static int read_norm(struct reader *reader, const char *name, struct moult_norm *norm) {
    uint32_t width = reader->config->width;
    char *weight = moult_format("%s.weight", name), *bias = moult_format("%s.bias", name);
    int result = -1;

    norm->gamma = moult_allocate(width, sizeof(float));
    norm->beta = moult_allocate(width, sizeof(float));
    if (read_vector(reader, weight, width, norm->gamma) == 0 &&
        read_vector(reader, bias, width, norm->beta) == 0)
        result = 0;
    free(weight);
    free(bias);
    return result;
}

/* The file is asked before memory is: it cannot be made to want more than it holds. */
static int read_table(struct reader *reader, const char *name, uint32_t rows, float **table,
                      size_t *bytes) {
    uint64_t shape[2] = {rows, reader->config->width};

    if (check_tensor(reader, name, find_tensor(reader, name), shape, 2) != 0)
        return -1;
    *bytes = shape[0] * shape[1] * sizeof(float);
    *table = moult_allocate_large(*bytes);
    if (*table == NULL)
        return moult_fail(reader->error, MOULT_ERROR_SYSTEM,
                          "There is no memory left for %s (%zu MiB).", name, *bytes / MOULT_MIB);
    return read_matrix(reader, name, rows, reader->config->width, *table);
}

static int read_embeddings(struct reader *reader) {
    const struct moult_config *config = reader->config;
    struct moult_weights *weights = reader->weights;

    if (read_table(reader, "embeddings.word_embeddings.weight", config->vocabulary_size,
                   &weights->words, &weights->words_bytes) != 0 ||
        read_table(reader, "embeddings.position_embeddings.weight", config->positions,
                   &weights->positions, &weights->positions_bytes) != 0 ||
        read_table(reader, "embeddings.token_type_embeddings.weight", config->types,
                   &weights->types, &weights->types_bytes) != 0 ||
        read_norm(reader, "embeddings.LayerNorm", &weights->embedding_norm) != 0)
        return -1;
    return 0;
}

/* Layers. */

/* Both shapes are bounded by limits.h; a file that lacks the tensors has cost nothing yet,
 * for memory that is not touched is not there. */
static int prepare_staging(struct reader *reader) {
    const struct moult_config *config = reader->config;
    size_t widest = config->inner_width > 3 * config->width ? config->inner_width
                                                             : 3 * config->width;

    if (reader->staging != NULL)
        return 0;
    reader->staging_values = widest * config->width + widest;
    reader->staging = moult_allocate_large(reader->staging_values * sizeof(float));
    if (reader->staging == NULL)
        return moult_fail(reader->error, MOULT_ERROR_SYSTEM,
                          "There is no memory left to read the weights (%zu MiB).",
                          reader->staging_values * sizeof(float) / MOULT_MIB);
    return 0;
}

/* Reads `parts` linear layers of one shape and packs them as one matrix [parts·N][K]. */
static int read_linear(struct reader *reader, const char *const names[], uint32_t parts,
                       uint32_t index, uint32_t N, uint32_t K, struct moult_panels *panels) {
    float *values = reader->staging, *bias = values + (size_t)parts * N * K;
    int result = 0;

    for (uint32_t i = 0; result == 0 && i < parts; i++) {
        char *weight = moult_format("encoder.layer.%u.%s.weight", index, names[i]);
        char *offset = moult_format("encoder.layer.%u.%s.bias", index, names[i]);

        if (read_matrix(reader, weight, N, K, values + (size_t)i * N * K) != 0 ||
            read_vector(reader, offset, N, bias + (size_t)i * N) != 0)
            result = -1;
        free(weight);
        free(offset);
    }
    if (result == 0 && moult_panels_pack(panels, reader->kernels, values, bias, parts * N, K) != 0)
        result = moult_fail(reader->error, MOULT_ERROR_SYSTEM,
                            "There is no memory left for layer %u.", index);
    return result;
}

static int read_layer_norm(struct reader *reader, const char *name, uint32_t index,
                           struct moult_norm *norm) {
    char *full = moult_format("encoder.layer.%u.%s", index, name);
    int result = read_norm(reader, full, norm);

    free(full);
    return result;
}

static int read_layer(struct reader *reader, uint32_t index) {
    static const char *const qkv[] = {"attention.self.query", "attention.self.key",
                                      "attention.self.value"};
    static const char *const output[] = {"attention.output.dense"};
    static const char *const inner[] = {"intermediate.dense"};
    static const char *const outer[] = {"output.dense"};
    struct moult_layer *layer = &reader->weights->layers[index];
    uint32_t C = reader->config->width, F = reader->config->inner_width;

    if (prepare_staging(reader) != 0 ||
        read_linear(reader, qkv, 3, index, C, C, &layer->qkv) != 0 ||
        read_linear(reader, output, 1, index, C, C, &layer->output) != 0 ||
        read_linear(reader, inner, 1, index, F, C, &layer->inner) != 0 ||
        read_linear(reader, outer, 1, index, C, F, &layer->outer) != 0 ||
        read_layer_norm(reader, "attention.output.LayerNorm", index, &layer->output_norm) != 0 ||
        read_layer_norm(reader, "output.LayerNorm", index, &layer->outer_norm) != 0)
        return -1;
    return 0;
}

static int compare_digests(const void *a, const void *b) {
    const struct moult_tensor_digest *x = a, *y = b;

    return strcmp(x->name, y->name);
}
