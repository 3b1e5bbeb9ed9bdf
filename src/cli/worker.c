/* `moult worker`: how the front starts a worker (ipc/channel.h has the command
 * line). It is not in the help, since nobody else can use it. */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/precision.h"
#include "cli/cli.h"
#include "worker/worker.h"

#define FOLLOW_NICE_MAX 20

static int refuse(void) {
    fputs("moult worker is started by moult serve, which gives it its descriptors.\n", stderr);
    return MOULT_EXIT_USAGE;
}

/* A whole number from 0 to `max` at *text, which moves behind it. */
static bool read_number(const char **text, unsigned long max, unsigned long *number) {
    char *end;
    if (**text < '0' || **text > '9')
        return false;
    errno = 0;
    *number = strtoul(*text, &end, 10);
    *text = end;
    return errno == 0 && *number <= max;
}

static bool read_only_number(const char *text, unsigned long max, unsigned long *number) {
    return read_number(&text, max, number) && *text == '\0';
}

/* From 0 to 1. */
static bool read_fidelity(const char *text, double *fidelity) {
    char *end;
    *fidelity = strtod(text, &end);
    return end != text && *end == '\0' && *fidelity >= 0 && *fidelity <= 1;
}

/* "3,4,5": how many they are, or 0 where that is no list of at most `max` descriptors. */
static unsigned read_descriptors(const char *text, unsigned max, int *fds) {
    unsigned count = 0;
    do {
        unsigned long fd;
        if (count == max || !read_number(&text, 65535, &fd) || fd <= STDERR_FILENO)
            return 0;
        fds[count++] = (int)fd;
    } while (*text++ == ',');
    return text[-1] == '\0' ? count : 0;
}

static bool read_options(int argc, char **argv, struct moult_worker_options *options,
                         unsigned long *parent) {
    static const struct option known[] = {{"channel", required_argument, NULL, 'c'},
                                          {"folder", required_argument, NULL, 'f'},
                                          {"parent", required_argument, NULL, 'p'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"label", required_argument, NULL, 'l'},
                                          {"memory", required_argument, NULL, 'm'},
                                          {"haste", required_argument, NULL, 'h'},
                                          {"rows", required_argument, NULL, 'r'},
                                          {"row-count", required_argument, NULL, 'n'},
                                          {"follow-nice", required_argument, NULL, 'b'},
                                          {"precision", required_argument, NULL, 'P'},
                                          {"fidelity", required_argument, NULL, 'F'},
                                          {NULL, 0, NULL, 0}};
    unsigned long number;
    bool have_channel = false;
    int option;
    opterr = 0;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
        bool good = true;
        if (option == 'c')
            good = have_channel = read_descriptors(optarg, MOULT_CHANNEL_FDS,
                                                   options->channel_fds) == MOULT_CHANNEL_FDS;
        else if (option == 'f' && (good = read_only_number(optarg, 65535, &number)))
            options->folder_fd = (int)number;
        else if (option == 'p')
            good = read_only_number(optarg, 1ul << 31, parent);
        else if (option == 't' && (good = read_only_number(optarg, MOULT_THREADS_MAX, &number)))
            options->threads = (uint32_t)number;
        else if (option == 'm' && (good = read_only_number(optarg, ULONG_MAX, &number)))
            options->memory_bytes = number;
        else if (option == 'l')
            options->label = optarg;
        else if (option == 'h' && (good = read_only_number(optarg, MOULT_HASTE_FULL, &number)))
            options->haste = (enum moult_haste)number;
        else if (option == 'r')
            good = (options->rows_count = read_descriptors(optarg, MOULT_ROWS_FILES_MAX,
                                                           options->rows_fds)) > 0;
        else if (option == 'n' && (good = read_only_number(optarg, ULONG_MAX, &number)))
            options->row_count = number;
        else if (option == 'b' && (good = read_only_number(optarg, FOLLOW_NICE_MAX, &number)))
            options->follow_nice = (unsigned)number;
        else if (option == 'P')
            good = moult_precision_parse(optarg, &options->precision);
        else if (option == 'F')
            good = read_fidelity(optarg, &options->fidelity);
        else if (option == '?')
            good = false;
        if (!good)
            return false;
    }
    return have_channel && options->folder_fd > STDERR_FILENO && optind == argc;
}

static int compare_fds(const void *a, const void *b) {
    return *(const int *)a - *(const int *)b;
}

/* Closes every descriptor above 2 that the options do not name. */
static void close_strays(const struct moult_worker_options *options) {
    int kept[MOULT_CHANNEL_FDS + 1 + MOULT_ROWS_FILES_MAX];
    unsigned count = MOULT_CHANNEL_FDS + 1 + options->rows_count;
    memcpy(kept, options->channel_fds, sizeof(options->channel_fds));
    kept[MOULT_CHANNEL_FDS] = options->folder_fd;
    memcpy(kept + MOULT_CHANNEL_FDS + 1, options->rows_fds,
           options->rows_count * sizeof(kept[0]));
    qsort(kept, count, sizeof(kept[0]), compare_fds);
    unsigned first = STDERR_FILENO + 1;
    for (unsigned i = 0; i < count; i++) {
        if ((unsigned)kept[i] > first)
            close_range(first, (unsigned)kept[i] - 1, 0);
        first = (unsigned)kept[i] + 1;
    }
    close_range(first, ~0u, 0);
}

int moult_cli_worker(int argc, char **argv) {
    struct moult_worker_options options = {.folder_fd = -1, .label = "?"};
    unsigned long parent = 0;
    if (!read_options(argc, argv, &options, &parent))
        return refuse();
    /* The signal is for a front that dies from here on; one that has died
     * before has left this process to another parent. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (parent != 0 && (unsigned long)getppid() != parent)
        return MOULT_EXIT_FAILED;
    close_strays(&options);
    return moult_worker_main(&options);
}
