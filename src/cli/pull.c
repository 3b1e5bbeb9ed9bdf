/* `moult pull`: hidden, for the front alone (front/fetch.h has its lines). A child,
 * so that a disk or a network file system that hangs stops no server. It reads
 * and writes only when nobody else wants the disk, and dies with its front. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/machine.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "source/source.h"

#define LINE_BYTES_MAX 4096
#define ADVANCE_EVERY_NS 100000000u

static void settle(uint32_t parent) {
    const int who_process = 1, class_idle = 3, class_shift = 13;
    moult_log_setup("pull", MOULT_LOG_INFO);
    prctl(PR_SET_NAME, "moult-pull");
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    /* It may have died before that. */
    if (parent != 0 && getppid() != (pid_t)parent)
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

static void advance(void *context, uint64_t bytes_done, uint64_t bytes_all) {
    uint64_t *printed_ns = context;
    uint64_t now_ns = moult_clock_ns();
    if (now_ns - *printed_ns < ADVANCE_EVERY_NS)
        return;
    *printed_ns = now_ns;
    struct moult_buffer line;
    moult_buffer_init(&line, LINE_BYTES_MAX);
    moult_buffer_format(&line, "{\"done\": %" PRIu64 ", \"all\": %" PRIu64 "}", bytes_done,
                        bytes_all);
    print_line(&line);
}

static int pull(const char *data, const char *source) {
    uint64_t printed_ns = moult_clock_ns();
    struct moult_install_progress progress = {advance, &printed_ns};
    struct moult_installed installed;
    struct moult_error error;
    struct moult_buffer line;
    moult_buffer_init(&line, LINE_BYTES_MAX);
    int result = moult_install_from_folder(source, data, &progress, &installed, &error);
    if (result == 0) {
        moult_buffer_format(&line,
                            "{\"revision\": \"%s\", \"bytes\": %" PRIu64 ", \"was_there\": %s}",
                            installed.revision, installed.bytes,
                            installed.was_there ? "true" : "false");
    } else {
        moult_buffer_format(&line, "{\"code\": %d, \"error\": ", (int)error.code);
        moult_buffer_json_string(&line, error.message, strlen(error.message));
        moult_buffer_text(&line, "}");
    }
    print_line(&line);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}

int moult_cli_pull(int argc, char **argv) {
    const char *data = NULL;
    uint32_t parent = 0;
    unsigned operand_count;
    const struct moult_option options[] = {
        {"--data", "FOLDER", NULL, "the data folder", MOULT_OPTION_TEXT, &data, 0, 0},
        {"--parent", "PID", NULL, "whose child it is", MOULT_OPTION_NUMBER, &parent, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult pull --data FOLDER MODEL",
        .purpose = "Installs a model into a data folder. Started by moult serve.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .operands_max = 1,
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    if (data == NULL || operand_count != 1) {
        fputs("moult pull is started by moult serve, which names its data folder.\n", stderr);
        return MOULT_EXIT_USAGE;
    }
    settle(parent);
    return pull(data, argv[1]);
}
