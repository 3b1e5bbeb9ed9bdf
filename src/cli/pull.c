/* `moult pull`: for people, and for the front, which starts it with --parent and reads lines
 * (front/fetch_line.h has them), with --unless to look only whether the source has something else
 * than what had that validator. There it is a child, so that a disk, a hub or a network file
 * system that hangs stops no server. It reads and writes only when nobody else wants the
 * disk, and dies with its front. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/machine.h"
#include "base/memory.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/places.h"
#include "cli/progress.h"
#include "source/source.h"

#define ADVANCE_EVERY_NS 100000000u

/* The child of a front. */

static void settle(uint32_t parent) {
    const int who_process = 1, class_idle = 3, class_shift = 13;
    moult_log_setup("pull", MOULT_LOG_INFO);
    prctl(PR_SET_NAME, "moult-pull");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* It may have died before that. */
    if (getppid() != (pid_t)parent)
        _exit(MOULT_EXIT_FAILED);
    /* A terminal's Ctrl-C is the front's business. */
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_DFL);
    /* A file beyond ulimit -f is an error with a reason, not a death. */
    signal(SIGXFSZ, SIG_IGN);
    setpriority(PRIO_PROCESS, 0, 10);
    syscall(SYS_ioprio_set, who_process, 0, class_idle << class_shift);
}

static void print_line(struct moult_buffer *line) {
    moult_buffer_text(line, "\n");
    fwrite(line->bytes, 1, line->size, stdout);
    fflush(stdout);
    moult_buffer_release(line);
}

static void print_advance(void *context, uint64_t bytes_done, uint64_t bytes_all) {
    uint64_t *printed_ns = context;
    uint64_t now_ns = moult_clock_ns();
    if (now_ns - *printed_ns < ADVANCE_EVERY_NS)
        return;
    *printed_ns = now_ns;
    struct moult_buffer line;
    moult_buffer_init(&line, MOULT_PULL_LINE_BYTES_MAX);
    moult_buffer_format(&line, "{\"done\": %" PRIu64 ", \"all\": %" PRIu64 "}", bytes_done,
                        bytes_all);
    print_line(&line);
}

static void add_text(struct moult_buffer *line, const char *key, const char *text) {
    moult_buffer_format(line, "\"%s\": ", key);
    moult_buffer_json_string(line, text, strlen(text));
}

static void add_error(struct moult_buffer *line, const struct moult_error *error) {
    moult_buffer_format(line, "{\"code\": %d, ", (int)error->code);
    add_text(line, "error", error->message);
}

static int pull_for_front(const char *data, const char *source, bool no_links) {
    uint64_t printed_ns = moult_clock_ns();
    struct moult_install_progress progress = {print_advance, &printed_ns};
    struct moult_installed installed;
    struct moult_error error;
    struct moult_buffer line;
    moult_buffer_init(&line, MOULT_PULL_LINE_BYTES_MAX);
    bool real = no_links && moult_source_kind_of(source) == MOULT_SOURCE_FOLDER;
    int result = real ? moult_install_from_real_folder(source, data, &progress, &installed, &error)
                      : moult_install(source, data, &progress, &installed, &error);
    if (result == 0) {
        moult_buffer_format(&line,
                            "{\"revision\": \"%s\", \"bytes\": %" PRIu64 ", \"fetched\": %" PRIu64
                            ", \"was_there\": %s, ",
                            installed.revision, installed.bytes, installed.fetched,
                            installed.was_there ? "true" : "false");
        add_text(&line, "validator", installed.validator);
    } else {
        add_error(&line, &error);
    }
    moult_buffer_text(&line, "}");
    print_line(&line);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

static void add_paths(struct moult_buffer *line, const struct moult_look *look) {
    if (look->above != NULL) {
        moult_buffer_text(line, ", ");
        add_text(line, "above", look->above);
    }
    moult_buffer_text(line, ", \"paths\": [");
    for (unsigned i = 0; i < look->path_count; i++) {
        moult_buffer_text(line, i == 0 ? "" : ", ");
        moult_buffer_json_string(line, look->paths[i], strlen(look->paths[i]));
    }
    moult_buffer_text(line, "]");
}

/* Fetches nothing. Whatever the paths are made of, there is room for them and their escapes. */
static int look_for_front(const char *source, const char *unless) {
    static const char *const results[] = {"unchanged", "changed", "incomplete"};
    struct moult_look look;
    struct moult_error error;
    struct moult_buffer line;
    moult_buffer_init(&line, MOULT_PULL_LINE_BYTES_MAX);
    int result = moult_look(source, unless, &look, &error);
    if (result == 0) {
        moult_buffer_format(&line, "{\"look\": \"%s\", ", results[look.result]);
        add_text(&line, "validator", look.validator);
        moult_buffer_text(&line, ", ");
        add_text(&line, "reason", look.reason.message);
    } else {
        add_error(&line, &error);
        moult_buffer_format(&line, ", \"pause_s\": %" PRIu64, look.pause_s);
    }
    add_paths(&line, &look);
    moult_buffer_text(&line, "}");
    MOULT_REQUIRE(!line.overflowed);
    print_line(&line);
    moult_look_release(&look);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

/* For people. */

/* A server's own data folder is its own: it clears away what it does not serve. */
static int lock_data(const char *data, struct moult_error *error) {
    char *path = moult_format("%s/lock", data);
    int fd = moult_folder_make(data, error) != 0
                 ? -1
                 : open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    free(path);
    if (fd < 0)
        return moult_fail_errno(error, "The data folder %s cannot be locked", data);
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    close(fd);
    return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                      "A server uses the data folder %s: `moult update` has it take a newer model.",
                      data);
}

struct shown {
    struct moult_progress bar;
    uint64_t first_bytes, first_ns;   /* When the first bytes were there: some are from before. */
};

/* "12.1 of 90.9 MB, 8.4 MB/s, 9 s left" */
static void draw_advance(void *context, uint64_t bytes_done, uint64_t bytes_all) {
    struct shown *shown = context;
    char note[96];
    uint64_t now_ns = moult_clock_ns();
    if (bytes_all == 0) {
        moult_progress_draw(&shown->bar, -1, "asking");
        return;
    }
    if (shown->first_ns == 0) {
        shown->first_ns = now_ns;
        shown->first_bytes = bytes_done;
    }
    double seconds = (double)(now_ns - shown->first_ns) / 1e9;
    double came = bytes_done > shown->first_bytes ? (double)(bytes_done - shown->first_bytes) : 0;
    int size = snprintf(note, sizeof note, "%.1f of %.1f MB", (double)bytes_done / 1e6,
                        (double)bytes_all / 1e6);
    if (seconds > 1 && came > 0)
        snprintf(note + size, sizeof note - (size_t)size, ", %.1f MB/s, %.0f s left",
                 came / 1e6 / seconds, (double)(bytes_all - bytes_done) * seconds / came);
    moult_progress_draw(&shown->bar, (double)bytes_done / (double)bytes_all, note);
}

static void on_interrupt(int number) {
    static const char text[] =
        "\r\033[Kmoult pull: broken off; the same command goes on from here.\n";
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    signal(number, SIG_DFL);
    raise(number);
}

/* What one that was broken off has left; nobody else installs while the lock is held. */
static void clear_leftovers(const char *data) {
    char *models = moult_format("%s/models", data);
    moult_install_leftovers_remove(models);
    free(models);
}

static int pull_for_person(const char *data, const char *model) {
    struct shown shown = {.first_ns = 0};
    const struct moult_install_progress progress = {draw_advance, &shown};
    struct moult_installed installed;
    struct moult_error error;
    char *source = moult_place_source(model, &error);
    int lock_fd = source != NULL ? lock_data(data, &error) : -1;
    int result = -1;
    if (lock_fd >= 0) {
        clear_leftovers(data);
        moult_progress_begin(&shown.bar, source);
        shown.bar.shown = isatty(STDERR_FILENO) != 0;
        if (shown.bar.shown)
            signal(SIGINT, on_interrupt);
        result = moult_install(source, data, &progress, &installed, &error);
        moult_progress_end(&shown.bar);
        close(lock_fd);
    }
    if (result == 0)
        printf("%s/models/%s\n", data, installed.revision);
    else
        fprintf(stderr, "moult pull: %s\n", error.message);
    free(source);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

/* Asks the source, and fetches nothing. */
static int ask_for_person(const char *model) {
    struct moult_look look = {.path_count = 0};
    struct moult_error error;
    char *source = moult_place_source(model, &error);
    int result = source != NULL ? moult_look(source, "", &look, &error) : -1;
    if (result == 0 && look.result == MOULT_LOOK_INCOMPLETE)
        result = moult_fail(&error, look.reason.code, "%s", look.reason.message);
    if (result == 0)
        printf("%s has %s\n", source, look.validator);
    else
        fprintf(stderr, "moult pull: %s\n", error.message);
    moult_look_release(&look);
    free(source);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

int moult_cli_pull(int argc, char **argv) {
    const char *data = NULL;
    const char *unless = NULL;
    const char *hub_cache = NULL;
    bool dry_run = false, no_links = false;
    uint32_t parent = 0;
    struct moult_error error;
    unsigned operand_count;
    const struct moult_option options[] = {
        {"--data", "FOLDER", "./moult-data", "the data folder", MOULT_OPTION_TEXT, &data, 0, 0},
        {"--hub-cache", "WHAT", "read", "the cache in HF_HOME: read, or fill it, too, for others",
         MOULT_OPTION_TEXT, &hub_cache, 0, 0},
        {"--dry-run", NULL, NULL, "only ask the source what it has", MOULT_OPTION_FLAG, &dry_run, 0,
         0},
        {"--parent", "PID", NULL, NULL, MOULT_OPTION_NUMBER, &parent, 0, 0},
        {"--no-links", NULL, NULL, NULL, MOULT_OPTION_FLAG, &no_links, 0, 0},
        {"--unless", "VALIDATOR", NULL, NULL, MOULT_OPTION_TEXT, &unless, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult pull [OPTION …] MODEL",
        .purpose = "Fetches a model into a data folder, checks it, and prints where it lies.\n"
                   "MODEL is a folder, org/name[@revision] on a hub (HF_ENDPOINT, HF_TOKEN,\n"
                   "HF_HOME), or the URL of a model server. What was broken off is resumed. A\n"
                   "server that is then started with MODEL and the same data folder has no need\n"
                   "to fetch it.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
        .operand_needed = "a model",
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (moult_place_use_hub_cache(hub_cache, &error) != 0) {
        fprintf(stderr, "moult pull: %s\n", error.message);
        return MOULT_EXIT_USAGE;
    }
    if (parent == 0 && dry_run)
        return ask_for_person(argv[1]);
    if (parent == 0)
        return pull_for_person(data, argv[1]);
    settle(parent);
    if (unless != NULL)
        return look_for_front(argv[1], unless);
    return pull_for_front(data, argv[1], no_links);
}
