/* Every kernel of every level that this CPU has, against sums in double, under odd sizes,
 * between guards, at unaligned strides; and bit against bit where the contract says so.
 *
 * test_kernels [--few] [LEVEL …]        the tests, as TAP: all, or of few sizes; of some levels
 * test_kernels --bench [LEVEL [PART [f32|int16|int8]]]   what they cost
 * test_kernels --level                  which level MOULT_CPU and this CPU agree on
 * test_kernels --levels                 all that this CPU has */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "kernels/levels.h"

enum { GUARD = 67 };
static const uint32_t guard_bits = 0x7fb0dead;      /* Not a number. */

static uint64_t random_state;
static unsigned tests, failures;
static char reason[512];
bool check_few;

uint64_t check_random(void) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

uint32_t check_random_below(uint32_t end) {
    return (uint32_t)((check_random() >> 32) % end);
}

float check_random_float(float most) {
    return ((float)(check_random() >> 40) / 8388608.0f - 1) * most;
}

static uint32_t bits_of(float number) {
    uint32_t bits;

    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

/* Floats that end where a page ends, with a page behind them that nobody may touch. */
static float *map_floats(struct grid *grid) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), bytes = grid->memory_floats * sizeof(float);
    size_t usable = (bytes + page - 1) / page * page;
    char *memory = mmap(NULL, usable + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                        -1, 0);

    if (memory == MAP_FAILED || mprotect(memory + usable, page, PROT_NONE) != 0) {
        perror("Memory for a grid");
        exit(1);
    }
    grid->mapping = memory;
    grid->mapping_bytes = usable + page;
    return (float *)(memory + usable - bytes);
}

void check_grid_init(struct grid *grid, uint32_t rows, uint32_t columns, float most) {
    size_t before = GUARD + check_random_below(16), behind = check_random_below(2) * GUARD;

    grid->rows = rows;
    grid->columns = columns;
    grid->stride = columns + check_random_below(20);
    grid->memory_floats = before + (rows - 1) * grid->stride + columns + behind;
    grid->memory = map_floats(grid);
    grid->floats = grid->memory + before;
    for (size_t i = 0; i < grid->memory_floats; i++)
        memcpy(&grid->memory[i], &guard_bits, sizeof(guard_bits));
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++)
            grid->floats[i * grid->stride + j] = check_random_float(most);
    }
}

void check_grid_release(struct grid *grid) {
    munmap(grid->mapping, grid->mapping_bytes);
    memset(grid, 0, sizeof(*grid));
}

void check_grid_copy(struct grid *to, const struct grid *from) {
    for (size_t i = 0; i < from->rows; i++)
        memcpy(to->floats + i * to->stride, from->floats + i * from->stride,
               from->columns * sizeof(float));
}

bool check_grid_guarded(const struct grid *grid) {
    size_t before = (size_t)(grid->floats - grid->memory);

    for (size_t i = 0; i < grid->memory_floats; i++) {
        size_t at = i - before, row = at / grid->stride, column = at % grid->stride;
        bool inside = i >= before && row < grid->rows && column < grid->columns;

        if (!inside && bits_of(grid->memory[i]) != guard_bits)
            return check_because("float %td from the first row is written, of %u rows of %u",
                                 grid->memory + i - grid->floats, grid->rows, grid->columns);
    }
    return true;
}

bool check_grid_finite(const struct grid *grid) {
    for (size_t i = 0; i < grid->rows; i++) {
        for (size_t j = 0; j < grid->columns; j++) {
            if (!isfinite(grid->floats[i * grid->stride + j]))
                return check_because("row %zu, column %zu is %g", i, j,
                                     (double)grid->floats[i * grid->stride + j]);
        }
    }
    return true;
}

bool check_grid_equal(const struct grid *a, const struct grid *b) {
    for (size_t i = 0; i < a->rows; i++) {
        for (size_t j = 0; j < a->columns; j++) {
            float x = a->floats[i * a->stride + j], y = b->floats[i * b->stride + j];

            if (bits_of(x) != bits_of(y))
                return check_because("row %zu, column %zu: %.9g is not %.9g", i, j, (double)x,
                                     (double)y);
        }
    }
    return true;
}

bool check_because(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, sizeof(reason), format, arguments);
    va_end(arguments);
    return false;
}

void check_ok(bool passed, const char *format, ...) {
    va_list arguments;

    printf("%sok %u - ", passed ? "" : "not ", ++tests);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    if (!passed) {
        printf("# %s\n", reason);
        failures++;
    }
    fflush(stdout);
}

static void check_choice(void) {
    const struct moult_kernels *best = moult_kernels_best(), *level, *highest = NULL;
    const char *wish = getenv("MOULT_CPU");
    bool lacking = wish != NULL && moult_kernels_find(wish) == NULL;
    unsigned count = 0;

    for (; (level = moult_kernels_at(count)) != NULL; count++) {
        if (moult_kernels_find(level->name) != level)
            break;
        highest = level;
        if (wish != NULL && strcmp(level->name, wish) == 0)
            break;
    }
    check_because("the level chosen is %s", best->name);
    /* Where a level is wished for that this CPU lacks, test_levels.py knows which is below it. */
    check_ok((best == highest || lacking) && best == moult_kernels_best(),
             "the highest level is chosen: %s", best->name);
    check_because("a level was found, or the first is not c");
    check_ok(moult_kernels_find("sse9") == NULL && moult_kernels_find("") == NULL &&
                 strcmp(moult_kernels_at(0)->name, "c") == 0 && moult_kernels_at(1000) == NULL,
             "no other level exists");
}

static bool is_wanted(const struct moult_kernels *kernels, char **levels) {
    for (unsigned i = 0; levels[i] != NULL; i++) {
        if (strcmp(kernels->name, levels[i]) == 0)
            return true;
    }
    return levels[0] == NULL;
}

const struct moult_kernels *check_level_at(unsigned index) {
    const struct moult_kernels *kernels = moult_kernels_at(index);

#if defined(__x86_64__)
    if (kernels == NULL && index > 0 && moult_kernels_at(index - 1) != NULL &&
        (moult_cpu_flags() & MOULT_CPU_AVX512_VNNI))
        return &check_avxvnni_evex;
#endif
    return kernels;
}

/* Of all levels, or of those that are named. */
static void check_levels(char **levels) {
    const char *seed = getenv("MOULT_TEST_SEED");
    const struct moult_kernels *kernels;

    random_state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) * 2654435761u;
    random_state += random_state == 0;
    printf("TAP version 13\n# MOULT_TEST_SEED=%llu\n", (unsigned long long)random_state);
    check_choice();
    for (unsigned i = 0; (kernels = check_level_at(i)) != NULL; i++) {
        if (!is_wanted(kernels, levels))
            continue;
        check_linear(kernels);
        check_integers(kernels);
        check_attention(kernels);
        check_rows(kernels);
        check_scan(kernels);
    }
    printf("1..%u\n", tests);
}

int main(int count, char **words) {
    random_state = 88172645463325252u;
    if (count > 1 && strcmp(words[1], "--bench") == 0) {
        check_bench(count > 2 ? words[2] : NULL, count > 3 ? words[3] : NULL,
                    count > 4 ? words[4] : "f32");
    } else if (count > 1 && strcmp(words[1], "--level") == 0) {
        printf("%s\n", moult_kernels_best()->name);
    } else if (count > 1 && strcmp(words[1], "--levels") == 0) {
        for (unsigned i = 0; moult_kernels_at(i) != NULL; i++)
            printf("%s\n", moult_kernels_at(i)->name);
    } else {
        check_few = count > 1 && strcmp(words[1], "--few") == 0;
        check_levels(words + 1 + check_few);
    }
    return failures == 0 ? 0 : 1;
}
