/* moult's side of bench/search: the index over vectors that it is given, one thread, one query.
 *
 *   search VECTORS N C QUERIES COUNT ROWS [cpu]     files of f32; ROWS is written
 *
 * First a line: kernels, nanoseconds of adding, bytes in memory, bytes on disk. Then lines on
 * standard input, and what each answers, in one line:
 *   run FIRST COUNT K    the nanoseconds of each search
 *   effort FIRST COUNT K rows refined and rows read by each search
 *   hits FIRST COUNT K   the numbers of the vectors that each search finds
 *   check FIRST COUNT K  how many of them are, bit for bit, what a full scan in f32 finds
 *   read REPEATS         nanoseconds of reading an array of N·C bytes, as fast as we know how */
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/memory.h"
#include "index/index.h"
#include "ipc/rows.h"

enum { PORTION = 1000, STREAMS = 8, STREAM_AHEAD = 1024 };

struct bench {
    uint32_t N, C, queries_count;
    const float *vectors, *queries;
    struct moult_rows_file *file;
    struct moult_index *index;
    struct moult_index_scratch *scratch;
    const struct moult_kernels *kernels;
};

static clockid_t clock_id = CLOCK_MONOTONIC;

static uint64_t now_ns(void) {
    struct timespec now;

    clock_gettime(clock_id, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static _Noreturn void fail(const char *what) {
    fprintf(stderr, "search: %s\n", what);
    exit(1);
}

static const float *map_floats(const char *path, size_t count) {
    int fd = open(path, O_RDONLY);
    void *floats = mmap(NULL, count * sizeof(float), PROT_READ, MAP_SHARED, fd, 0);

    if (fd < 0 || floats == MAP_FAILED)
        fail(path);
    close(fd);
    return floats;
}

/* As a worker reads them: from the file, with their digests. */
static int read_rows(void *context, const struct moult_index_row *rows, uint32_t count, uint32_t C,
                     float *out, struct moult_error *error) {
    const struct bench *bench = context;

    for (uint32_t i = 0; i < count; i++) {
        if (moult_rows_file_read(bench->file, rows[i].row, rows[i].seq, rows[i].chunk,
                                 out + (size_t)i * C, error) != 0)
            return -1;
    }
    return 0;
}

static void write_rows(struct bench *bench, const char *path) {
    static const char fingerprint[] =
        "0000000000000000000000000000000000000000000000000000000000000000";
    uint64_t seqs[PORTION];
    uint32_t chunks[PORTION] = {0};
    struct moult_error error;

    unlink(path);
    bench->file = moult_rows_file_create(path, fingerprint, bench->C, &error);
    if (bench->file == NULL)
        fail(error.message);
    for (uint32_t first = 0; first < bench->N; first += PORTION) {
        uint32_t some = bench->N - first < PORTION ? bench->N - first : PORTION;

        for (uint32_t i = 0; i < some; i++)
            seqs[i] = first + i + 1;
        if (moult_rows_file_write(bench->file, first, some, seqs, chunks,
                                  bench->vectors + (size_t)first * bench->C, &error) != 0)
            fail(error.message);
    }
}

static uint64_t add_rows(struct bench *bench) {
    static struct moult_index_row rows[PORTION];
    uint64_t began = now_ns();

    for (uint32_t first = 0; first < bench->N; first += PORTION) {
        uint32_t some = bench->N - first < PORTION ? bench->N - first : PORTION;

        for (uint32_t i = 0; i < some; i++)
            rows[i] = (struct moult_index_row){.seq = first + i + 1, .row = first + i};
        if (moult_index_add(bench->index, 0, rows, some,
                            bench->vectors + (size_t)first * bench->C, NULL) != 0)
            fail("a vector was refused.");
    }
    return now_ns() - began;
}

static uint32_t search(const struct bench *bench, uint32_t query, uint32_t k,
                       struct moult_hit *hits) {
    int count = moult_index_search(
        bench->index,
        &(struct moult_index_query){.collection = 0, .k = k, .min_score = -INFINITY},
        bench->queries + (size_t)query * bench->C, bench->scratch, hits, NULL);

    if (count < 0)
        fail("a search failed.");
    return (uint32_t)count;
}

static bool before(const struct moult_hit *a, const struct moult_hit *b) {
    return a->score > b->score || (!(a->score < b->score) && a->seq < b->seq);
}

/* What a full scan finds: kept in order, the worst last. */
static uint32_t scan_floats(const struct bench *bench, uint32_t query, uint32_t k,
                            struct moult_hit *hits) {
    uint32_t count = 0;

    for (uint32_t i = 0; i < bench->N; i++) {
        struct moult_hit hit = {.seq = i + 1,
                                .score = bench->kernels->dot(
                                    bench->queries + (size_t)query * bench->C,
                                    bench->vectors + (size_t)i * bench->C, bench->C)};
        uint32_t at = count;

        if (count == k && !before(&hit, &hits[k - 1]))
            continue;
        for (at = count < k ? count++ : k - 1; at > 0 && before(&hit, &hits[at - 1]); at--)
            hits[at] = hits[at - 1];
        hits[at] = hit;
    }
    return count;
}

static bool is_exact(const struct bench *bench, uint32_t query, uint32_t k) {
    struct moult_hit *hits = moult_allocate(k, sizeof *hits);
    struct moult_hit *expected = moult_allocate(k, sizeof *expected);
    uint32_t count = search(bench, query, k, hits);
    bool exact = scan_floats(bench, query, k, expected) == count &&
                 memcmp(hits, expected, count * sizeof *hits) == 0;

    free(hits);
    free(expected);
    return exact;
}

/* Eight places at once, each asked for 1 KB ahead: no other way was faster, and one alone is
 * slower. The compiler is told to use this machine's widest registers. */
static uint64_t read_array(const uint8_t *array, size_t bytes) {
    struct line {
        uint64_t words[8];
    } sums = {{0}};
    size_t stream = bytes / STREAMS / 64 * 64;
    uint64_t began = now_ns(), all = 0, took;

    for (size_t at = 0; at < stream; at += 64) {
        for (size_t s = 0; s < STREAMS; s++) {
            const struct line *line = (const struct line *)(array + s * stream + at);

            __builtin_prefetch((const char *)line + STREAM_AHEAD);
            for (unsigned i = 0; i < 8; i++)
                sums.words[i] |= line->words[i];
        }
    }
    for (unsigned i = 0; i < 8; i++)
        all |= sums.words[i];
    took = now_ns() - began;
    return all == 0x0101010101010101u ? took : 0;
}

static void time_reads(const struct bench *bench, uint32_t repeats) {
    size_t bytes = (size_t)bench->N * bench->C;
    uint8_t *array = moult_allocate_large(bytes);

    if (array == NULL)
        fail("there is no memory for an array.");
    memset(array, 1, bytes);
    for (uint32_t i = 0; i < repeats; i++)
        printf("%" PRIu64 " ", read_array(array, bytes));
    moult_free_large(array, bytes);
}

static void answer(const struct bench *bench, const char *word, uint32_t query, uint32_t k) {
    struct moult_hit *hits = moult_allocate(k, sizeof *hits);
    uint64_t began = now_ns();
    uint32_t count = search(bench, query, k, hits);
    uint64_t took = now_ns() - began;

    if (strcmp(word, "run") == 0)
        printf("%" PRIu64 " ", took);
    for (uint32_t i = 0; i < count && strcmp(word, "hits") == 0; i++)
        printf("%" PRIu64 " ", hits[i].seq - 1);
    if (strcmp(word, "effort") == 0)
        printf("%" PRIu64 " %" PRIu64 " ", moult_index_effort(bench->scratch).rows_refined,
               moult_index_effort(bench->scratch).rows_read);
    free(hits);
}

static void work(const struct bench *bench) {
    char line[128], word[16];
    uint32_t first, count, k, exact;

    while (fgets(line, sizeof line, stdin) != NULL) {
        first = count = exact = 0;
        k = 1;
        if (sscanf(line, "%15s %" SCNu32 " %" SCNu32 " %" SCNu32, word, &first, &count, &k) < 2)
            fail("that is no order.");
        if (strcmp(word, "read") == 0)
            time_reads(bench, first);
        for (uint32_t i = 0; i < count; i++) {
            uint32_t query = (first + i) % bench->queries_count;

            if (strcmp(word, "check") == 0)
                exact += is_exact(bench, query, k);
            else
                answer(bench, word, query, k);
        }
        if (strcmp(word, "check") == 0)
            printf("%" PRIu32, exact);
        putchar('\n');
        fflush(stdout);
    }
}

int main(int argc, char **argv) {
    struct bench bench = {.kernels = moult_kernels_best()};
    struct moult_index_source source = {.read = read_rows, .context = &bench};
    uint64_t adding;

    if (argc < 7)
        fail("VECTORS N C QUERIES COUNT ROWS [cpu]");
    bench.N = (uint32_t)strtoul(argv[2], NULL, 10);
    bench.C = (uint32_t)strtoul(argv[3], NULL, 10);
    bench.queries_count = (uint32_t)strtoul(argv[5], NULL, 10);
    if (argc > 7 && strcmp(argv[7], "cpu") == 0)
        clock_id = CLOCK_THREAD_CPUTIME_ID;
    bench.vectors = map_floats(argv[1], (size_t)bench.N * bench.C);
    bench.queries = map_floats(argv[4], (size_t)bench.queries_count * bench.C);
    write_rows(&bench, argv[6]);
    bench.index = moult_index_open(bench.C, bench.kernels, &source);
    bench.scratch = moult_index_scratch_open(bench.index);
    adding = add_rows(&bench);
    printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", bench.kernels->name, adding,
           moult_index_bytes(bench.index), moult_rows_file_bytes(bench.C, bench.N));
    fflush(stdout);
    work(&bench);
    moult_index_scratch_close(bench.scratch);
    moult_index_close(bench.index);
    moult_rows_file_close(bench.file);
    return 0;
}
