#include "cli/vectors.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* The header of a .npy file, format 1.0, with room for any number of rows: it is
 * written first and once more at the end, when the rows are counted. */
enum { NPY_HEADER_BYTES = 128, NPY_PREFIX_BYTES = 10 };

struct moult_vector_writer {
    FILE *file;
    char *path;             /* NULL: standard output. */
    char *path_meanwhile;
    bool npy;
    uint32_t dimensions;
    size_t written;
};

static bool ends_with(const char *text, const char *end) {
    size_t size = strlen(text), end_size = strlen(end);

    return size >= end_size && strcmp(text + size - end_size, end) == 0;
}

static void write_npy_header(struct moult_vector_writer *writer) {
    char header[NPY_HEADER_BYTES + 1];
    int used;

    memcpy(header, "\x93NUMPY\x01\x00", 8);
    header[8] = (char)(NPY_HEADER_BYTES - NPY_PREFIX_BYTES);
    header[9] = 0;
    used = NPY_PREFIX_BYTES +
           snprintf(header + NPY_PREFIX_BYTES, sizeof header - NPY_PREFIX_BYTES,
                    "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %u), }",
                    writer->written, writer->dimensions);
    memset(header + used, ' ', (size_t)(NPY_HEADER_BYTES - used));
    header[NPY_HEADER_BYTES - 1] = '\n';
    fwrite(header, 1, NPY_HEADER_BYTES, writer->file);
}

struct moult_vector_writer *moult_vector_writer_open(const char *path, uint32_t dimensions,
                                                     struct moult_error *error) {
    struct moult_vector_writer *writer = moult_allocate(1, sizeof *writer);

    writer->dimensions = dimensions;
    writer->file = stdout;
    if (path == NULL)
        return writer;
    writer->path = moult_copy_string(path);
    writer->path_meanwhile = moult_format("%s.incomplete", path);
    writer->npy = ends_with(path, ".npy");
    writer->file = fopen(writer->path_meanwhile, "wbe");
    if (writer->file == NULL) {
        moult_fail_errno(error, "%s cannot be written", writer->path_meanwhile);
        free(writer->path);
        free(writer->path_meanwhile);
        free(writer);
        return NULL;
    }
    if (writer->npy)
        write_npy_header(writer);
    return writer;
}

/* Nine digits bring every float32 back exactly. */
static void write_json(struct moult_vector_writer *writer, size_t index, const float *vector) {
    fprintf(writer->file, "{\"index\":%zu,\"embedding\":[", index);
    for (uint32_t c = 0; c < writer->dimensions; c++)
        fprintf(writer->file, c == 0 ? "%.9g" : ",%.9g", (double)vector[c]);
    fputs("]}\n", writer->file);
}

static int check_file(const struct moult_vector_writer *writer, struct moult_error *error) {
    if (!ferror(writer->file))
        return 0;
    return moult_fail_errno(error, "%s cannot be written",
                            writer->path ? writer->path_meanwhile : "Standard output");
}

int moult_vector_writer_add(struct moult_vector_writer *writer, const float *vectors,
                            size_t count, struct moult_error *error) {
    size_t C = writer->dimensions;

    if (writer->npy)
        fwrite(vectors, sizeof *vectors, count * C, writer->file);
    for (size_t i = 0; !writer->npy && i < count; i++)
        write_json(writer, writer->written + i, vectors + i * C);
    writer->written += count;
    if (writer->path == NULL)
        fflush(writer->file);
    return check_file(writer, error);
}

static int finish(struct moult_vector_writer *writer, struct moult_error *error) {
    if (writer->npy && fseek(writer->file, 0, SEEK_SET) == 0)
        write_npy_header(writer);
    fflush(writer->file);
    if (check_file(writer, error) != 0)
        return -1;
    if (writer->path != NULL && rename(writer->path_meanwhile, writer->path) != 0)
        return moult_fail_errno(error, "%s cannot be written", writer->path);
    return 0;
}

int moult_vector_writer_close(struct moult_vector_writer *writer, bool keep,
                              struct moult_error *error) {
    int result = keep ? finish(writer, error) : 0;

    if (writer->path != NULL) {
        fclose(writer->file);
        if (!keep || result != 0)
            unlink(writer->path_meanwhile);
    }
    free(writer->path);
    free(writer->path_meanwhile);
    free(writer);
    return result;
}
