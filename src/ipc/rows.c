/* The file, byte by byte; integers and floats are native, for front and worker are one program on
 * one machine, and `endian` refuses a file that another kind of machine has left:
 *
 *     0        struct head: magic, version, endian, C, fingerprint, a digest of them
 *     128      zeros
 *     4,096    rows of 16 + 4·C bytes:
 *
 *         0    seq      u64     never 0, so a hole in the file is no row
 *         8    chunk    u32
 *         12   check    u32     a digest of seq, chunk, and the vector
 *         16   vector   [C] f32
 *
 * The digest has to tell accidents, not adversaries: the worker cannot write here, and who can
 * write to the disk can write whatever he likes. Each step of it is one-to-one in what it takes in
 * and in what came before, so a change of one word always changes the 64 bits that are folded at
 * the end; any other damage passes with a chance of 2^-32. SHA-256 would take four times as long on
 * a CPU that has instructions for it, and sixteen times on others, and a search that reads back a
 * hundred rows would feel that.
 *
 * A blank file has C = 0 and no fingerprint. Claiming it writes the head anew, in one piece; a
 * reader that meets it half-written finds the digest wrong, and looks again later. */
#include "ipc/rows.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"

#define MAGIC 0x73776f722d746cull /* "lt-rows" */
#define VERSION 1u
#define ENDIAN 0x01020304u
#define ROWS_AT 4096u
#define HOLE_BYTES 4096u
/* Of one write. */
#define BUFFER_BYTES (256 * MOULT_KIB)

struct head {
    uint64_t magic;
    uint32_t version, endian;
    uint32_t C;                            /* 0: blank. */
    uint32_t check;                        /* Of the head, with 0 here. */
    char fingerprint[MOULT_SHA256_HEX];
    char reserved[39];                     /* 0 */
};

struct row_head {
    uint64_t seq;
    uint32_t chunk, check;
};

static_assert(sizeof(struct head) == 128, "Byte table.");
static_assert(sizeof(struct row_head) == 16, "Byte table.");
static_assert(ROWS_AT % sizeof(uint64_t) == 0, "Byte table.");

struct moult_rows_file {
    int fd;                    /* -1: it cannot be written. */
    int fd_readonly;
    char *name;                /* For messages. */
    struct head head;
    char *buffer;              /* [BUFFER_BYTES], of who writes. */
};

/* Digests. */

static uint64_t mix(uint64_t state, uint64_t word) {
    state = (state ^ word) * 0x9e3779b97f4a7c15u;
    return state << 29 | state >> 35;
}

/* `size` is a multiple of 4. */
static uint64_t add_words(uint64_t state, const void *bytes, size_t size) {
    const char *at = bytes;
    uint64_t word = 0;
    for (; size >= sizeof(word); at += sizeof(word), size -= sizeof(word)) {
        memcpy(&word, at, sizeof(word));
        state = mix(state, word);
    }
    if (size > 0) {
        word = 0;
        memcpy(&word, at, size);
        state = mix(state, word);
    }
    return state;
}

static uint32_t fold(uint64_t state) {
    state = (state ^ state >> 32) * 0xd6e8feb86659fd93u;
    state = (state ^ state >> 32) * 0xd6e8feb86659fd93u;
    return (uint32_t)(state ^ state >> 32);
}

static uint32_t check_of_row(const struct row_head *row, const float *vector, uint32_t C) {
    uint64_t state = mix(mix(C, row->seq), row->chunk);
    return fold(add_words(state, vector, (size_t)C * sizeof(float)));
}

static uint32_t check_of_head(const struct head *head) {
    struct head copy = *head;
    copy.check = 0;
    return fold(add_words(VERSION, &copy, sizeof(copy)));
}

/* Opening. */

static size_t stride(uint32_t C) {
    return sizeof(struct row_head) + (size_t)C * sizeof(float);
}

uint64_t moult_rows_file_bytes(uint32_t C, uint64_t rows) {
    return ROWS_AT + rows * stride(C);
}

/* Reads what is there of [offset, offset + size): how much, or -1. */
static ssize_t read_at(int fd, void *bytes, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(fd, (char *)bytes + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -1;
        if (got == 0)
            break;
        done += (size_t)got;
    }
    return (ssize_t)done;
}

static int write_at(struct moult_rows_file *file, const void *bytes, size_t size, uint64_t offset,
                    struct moult_error *error) {
    size_t done = 0;
    while (done < size) {
        ssize_t put = pwrite(file->fd, (const char *)bytes + done, size - done,
                             (off_t)(offset + done));
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return moult_fail_errno(error, "Vectors cannot be written to %s", file->name);
        done += (size_t)put;
    }
    return 0;
}

static bool is_blank(const struct head *head) {
    return head->C == 0;
}

static int read_head(struct moult_rows_file *file, struct moult_error *error) {
    struct head head;
    ssize_t size = read_at(file->fd_readonly, &head, sizeof(head), 0);
    if (size < 0)
        return moult_fail_errno(error, "%s cannot be read", file->name);
    if ((size_t)size < sizeof(head) || head.magic != MAGIC)
        return moult_fail(error, MOULT_ERROR_INVALID, "%s is not a file of vectors.", file->name);
    if (head.version != VERSION || head.endian != ENDIAN)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s was written by another version of moult, or on another kind of "
                          "machine.", file->name);
    bool whole = head.check == check_of_head(&head) && head.C <= MOULT_DIMENSIONS_MAX &&
                 memchr(head.fingerprint, '\0', sizeof(head.fingerprint)) != NULL &&
                 is_blank(&head) == (head.fingerprint[0] == '\0');
    if (!whole)
        return moult_fail(error, MOULT_ERROR_INVALID, "The head of %s is damaged.", file->name);
    file->head = head;
    return 0;
}

static int write_head(struct moult_rows_file *file, const char *fingerprint, uint32_t C,
                      struct moult_error *error) {
    struct head head = {.magic = MAGIC, .version = VERSION, .endian = ENDIAN, .C = C};
    snprintf(head.fingerprint, sizeof(head.fingerprint), "%s", fingerprint);
    head.check = check_of_head(&head);
    if (write_at(file, &head, sizeof(head), 0, error) != 0)
        return -1;
    file->head = head;
    return 0;
}

void moult_rows_file_close(struct moult_rows_file *file) {
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    if (file->fd_readonly >= 0)
        close(file->fd_readonly);
    free(file->name);
    free(file->buffer);
    free(file);
}

/* Opens both descriptors of one and the same file: the path is used once. */
static struct moult_rows_file *open_to_write(const char *path, int flags,
                                             struct moult_error *error) {
    struct moult_rows_file *file = moult_allocate(1, sizeof(*file));
    char own_path[64];
    file->name = moult_copy_string(path);
    file->fd_readonly = -1;
    file->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0644);
    if (file->fd >= 0) {
        snprintf(own_path, sizeof(own_path), "/proc/self/fd/%d", file->fd);
        file->fd_readonly = open(own_path, O_RDONLY | O_CLOEXEC);
    }
    if (file->fd_readonly < 0) {
        moult_fail_errno(error, "The file of vectors %s cannot be opened", path);
        moult_rows_file_close(file);
        return NULL;
    }
    file->buffer = moult_allocate(1, BUFFER_BYTES);
    return file;
}

static bool is_empty(const struct moult_rows_file *file) {
    char byte;
    return read_at(file->fd_readonly, &byte, 1, 0) == 0;
}

static bool is_of(const struct head *head, const char *fingerprint, uint32_t C) {
    return head->C == C && strcmp(head->fingerprint, fingerprint) == 0;
}

struct moult_rows_file *moult_rows_file_create(const char *path, const char *fingerprint,
                                               uint32_t C, struct moult_error *error) {
    MOULT_REQUIRE(C >= 1 && C <= MOULT_DIMENSIONS_MAX);
    MOULT_REQUIRE(strlen(fingerprint) == MOULT_SHA256_HEX - 1);
    struct moult_rows_file *file = open_to_write(path, 0, error);
    if (!file)
        return NULL;
    int result = is_empty(file) ? write_head(file, fingerprint, C, error) : read_head(file, error);
    if (result == 0 && !is_of(&file->head, fingerprint, C))
        result = moult_fail(error, MOULT_ERROR_INVALID, "%s has the vectors of another model.",
                            path);
    if (result == 0)
        return file;
    moult_rows_file_close(file);
    return NULL;
}

struct moult_rows_file *moult_rows_file_create_blank(const char *path, struct moult_error *error) {
    struct moult_rows_file *file = open_to_write(path, O_TRUNC, error);
    if (!file || write_head(file, "", 0, error) == 0)
        return file;
    moult_rows_file_close(file);
    return NULL;
}

int moult_rows_file_claim(struct moult_rows_file *file, const char *fingerprint, uint32_t C,
                          struct moult_error *error) {
    MOULT_REQUIRE(file->fd >= 0 && is_blank(&file->head));
    MOULT_REQUIRE(C >= 1 && C <= MOULT_DIMENSIONS_MAX);
    MOULT_REQUIRE(strlen(fingerprint) == MOULT_SHA256_HEX - 1);
    return write_head(file, fingerprint, C, error);
}

struct moult_rows_file *moult_rows_file_adopt(int fd, struct moult_error *error) {
    struct moult_rows_file *file = moult_allocate(1, sizeof(*file));
    file->name = moult_copy_string("an inherited file");
    file->fd = -1;
    file->fd_readonly = fd;
    if (read_head(file, error) == 0)
        return file;
    moult_rows_file_close(file);
    return NULL;
}

bool moult_rows_file_is_of(struct moult_rows_file *file, const char *fingerprint, uint32_t C) {
    if (is_blank(&file->head) && read_head(file, NULL) != 0)
        return false;
    return !is_blank(&file->head) && is_of(&file->head, fingerprint, C);
}

int moult_rows_file_fd(const struct moult_rows_file *file) {
    return file->fd_readonly;
}

const char *moult_rows_file_fingerprint(const struct moult_rows_file *file) {
    return file->head.fingerprint;
}

uint32_t moult_rows_file_dimensions(const struct moult_rows_file *file) {
    return file->head.C;
}

/* Rows. */

static void put_row(char *at, uint64_t seq, uint32_t chunk, const float *vector, uint32_t C) {
    struct row_head row = {.seq = seq, .chunk = chunk};
    MOULT_REQUIRE(seq != 0);
    row.check = check_of_row(&row, vector, C);
    memcpy(at, &row, sizeof(row));
    memcpy(at + sizeof(row), vector, (size_t)C * sizeof(float));
}

int moult_rows_file_write(struct moult_rows_file *file, uint32_t first, uint32_t count,
                          const uint64_t *seqs, const uint32_t *chunks, const float *vectors,
                          struct moult_error *error) {
    uint32_t C = file->head.C;
    MOULT_REQUIRE(file->fd >= 0 && !is_blank(&file->head));
    MOULT_REQUIRE(first <= UINT32_MAX - count);
    uint32_t together = (uint32_t)(BUFFER_BYTES / stride(C));
    for (uint32_t done = 0, n; done < count; done += n) {
        n = count - done < together ? count - done : together;
        for (uint32_t i = 0; i < n; i++)
            put_row(file->buffer + i * stride(C), seqs[done + i], chunks[done + i],
                    vectors + (size_t)(done + i) * C, C);
        if (write_at(file, file->buffer, n * stride(C), moult_rows_file_bytes(C, first + done),
                     error) != 0)
            return -1;
    }
    return 0;
}

static int refuse_row(const struct moult_rows_file *file, uint32_t row, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "Row %u of %s is damaged, or not the vector that it should be.", row,
                      file->name);
}

int moult_rows_file_punch(struct moult_rows_file *file, uint32_t first, uint32_t count,
                          uint64_t *bytes, struct moult_error *error) {
    MOULT_REQUIRE(file->fd >= 0 && !is_blank(&file->head));
    uint64_t begin = moult_rows_file_bytes(file->head.C, first);
    uint64_t end = moult_rows_file_bytes(file->head.C, (uint64_t)first + count);
    begin = (begin + HOLE_BYTES - 1) / HOLE_BYTES * HOLE_BYTES;
    end = end / HOLE_BYTES * HOLE_BYTES;
    if (begin >= end)
        return 0;
    if (fallocate(file->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)begin,
                  (off_t)(end - begin)) == 0)
        *bytes += end - begin;
    else if (errno != EOPNOTSUPP && errno != ENOSYS)
        return moult_fail_errno(error, "Space of %s cannot be given back", file->name);
    return 0;
}

int moult_rows_file_read(const struct moult_rows_file *file, uint32_t row, uint64_t seq,
                         uint32_t chunk, float *vector, struct moult_error *error) {
    char bytes[sizeof(struct row_head) + MOULT_DIMENSIONS_MAX * sizeof(float)];
    uint32_t C = file->head.C;
    struct row_head head;
    MOULT_REQUIRE(!is_blank(&file->head));
    ssize_t size = read_at(file->fd_readonly, bytes, stride(C), moult_rows_file_bytes(C, row));
    if (size < 0)
        return moult_fail_errno(error, "Row %u of %s cannot be read", row, file->name);
    if ((size_t)size < stride(C))
        return refuse_row(file, row, error);
    memcpy(&head, bytes, sizeof(head));
    memcpy(vector, bytes + sizeof(head), (size_t)C * sizeof(float));
    if (head.seq != seq || head.chunk != chunk || seq == 0 ||
        head.check != check_of_row(&head, vector, C))
        return refuse_row(file, row, error);
    return 0;
}
