/* The command line that starts a worker; what it then does is tests/unit/worker's. */
#include "cli/cli.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ipc/channel.h"

/* Runs the command in a child, since it closes descriptors. Returns its exit code. */
static int run(char **arguments) {
    int count = 0, status;
    while (arguments[count])
        count++;
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr))
            _exit(99);
        _exit(moult_cli_worker(count, arguments));
    }
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void it_is_not_for_people(void **state) {
    (void)state;
    char *wrong[][7] = {
        {"worker"},
        {"worker", "--channel=3,4", "--folder=6"},
        {"worker", "--channel=3,4,5,6", "--folder=7"},
        {"worker", "--channel=1,4,5", "--folder=7"},
        {"worker", "--channel=3,x,5", "--folder=7"},
        {"worker", "--channel=3,-4,5", "--folder=7"},
        {"worker", "--channel=3,4,5"},
        {"worker", "--channel=3,4,5", "--folder="},
        {"worker", "--channel=3,4,5", "--folder=0"},
        {"worker", "--channel=3,4,5", "--folder=99999999999999999999"},
        {"worker", "--channel=3,4,5", "--folder=6", "--threads=-1"},
        {"worker", "--channel=3,4,5", "--folder=6", "--threads=1x"},
        {"worker", "--channel=3,4,5", "--folder=6", "--rows="},
        {"worker", "--channel=3,4,5", "--folder=6", "--rows=7,"},
        {"worker", "--channel=3,4,5", "--folder=6", "--rows=7,2"},
        {"worker", "--channel=3,4,5", "--folder=6", "--rows=7,8x"},
        {"worker", "--channel=3,4,5", "--folder=6",
         "--rows=7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23"},
        {"worker", "--channel=3,4,5", "--folder=6", "--row-count=-1"},
        {"worker", "--channel=3,4,5", "--folder=6", "--follow-nice=21"},
        {"worker", "--channel=3,4,5,", "--folder=6"},
        {"worker", "--channel=3,4,5", "--folder=6", "more"},
        {"worker", "--channel=3,4,5", "--folder=6", "--unknown"},
    };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
        if (run(wrong[i]) != MOULT_EXIT_USAGE)
            fail_msg("Command line %zu was taken.", i);
}

/* A front that died before the worker could ask to die with it. */
static void another_parent_ends_it(void **state) {
    (void)state;
    char *arguments[] = {"worker", "--channel=3,4,5", "--folder=6", "--parent=1", NULL};
    assert_int_equal(MOULT_EXIT_FAILED, run(arguments));
}

/* The descriptors reach the worker in their order, whatever their numbers, and an
 * empty folder is what it complains about, through the channel. */
static void descriptors_reach_the_worker(void **state) {
    (void)state;
    char folder[] = "/tmp/moult-test-XXXXXX", channel_text[64], folder_text[32], parent_text[32];
    struct moult_error error;
    struct moult_channel *channel = moult_channel_open(&error);
    assert_non_null(channel);
    assert_non_null(mkdtemp(folder));
    int fds[MOULT_CHANNEL_FDS];
    moult_channel_worker_fds(channel, fds);
    int folder_fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int high = fcntl(fds[0], F_DUPFD_CLOEXEC, 200);
    snprintf(channel_text, sizeof(channel_text), "--channel=%d,%d,%d", high, fds[1], fds[2]);
    snprintf(folder_text, sizeof(folder_text), "--folder=%d", folder_fd);
    snprintf(parent_text, sizeof(parent_text), "--parent=%d", (int)getpid());
    char *arguments[] = {"worker",    channel_text,  folder_text, parent_text,
                         "--label=x", "--threads=1", NULL};
    assert_int_equal(MOULT_EXIT_FAILED, run(arguments));
    struct moult_worker_report report;
    moult_channel_report(channel, &report);
    assert_int_equal(MOULT_WORKER_FAILED, report.state);
    assert_non_null(strstr(report.failure, "config.json"));
    close(folder_fd);
    close(high);
    moult_channel_close(channel);
    rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_is_not_for_people),
        cmocka_unit_test(another_parent_ends_it),
        cmocka_unit_test(descriptors_reach_the_worker),
    };
    return cmocka_run_group_tests_name("cli worker", tests, NULL, NULL);
}
