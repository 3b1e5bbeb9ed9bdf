/* The sandbox from inside. Every attempt is made twice, in a process of its own, by a
 * thread that was there before the filter: without it the attempt must succeed, or
 * its failing would prove nothing; with it the process must die of SIGSYS, or the call
 * must fail. */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "base/error.h"
#include "base/memory.h"
#include "ipc/channel.h"
#include "worker/process.h"

/* What a child says with its exit code. */
enum { SUCCEEDED, FAILED, UNCONFINED, BROKEN };

#define CHILD_SECONDS_MAX 20

/* Of threads for the third lane. */
enum { NICE = 13 };

/* What the attempts need, made before any of them. */
static struct moult_channel *channel;
static int request_fd, pipe_fds[2];
static pid_t parent;

/* Whether this machine lets a process confine itself at all. */
static bool available;

/* Attempts: 0 where it succeeded, else -1 with errno. */

static int exec_a_program(void) {
    return execl("/bin/true", "true", NULL);
}

static int fork_a_child(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    return child < 0 ? -1 : 0;
}

static int clone_a_process(void) {
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return child < 0 ? -1 : 0;
}

static int kill_the_parent(void) {
    return kill(parent, 0);
}

static int signal_the_parent(void) {
    return (int)syscall(SYS_tgkill, parent, parent, 0);
}

static int trace(void) {
    /* Without the filter: the parent is not being traced, so it cannot be let go. */
    return ptrace(PTRACE_DETACH, parent, NULL, NULL) == -1 && errno == ESRCH ? 0 : -1;
}

static int read_the_parents_memory(void) {
    char copy;
    struct iovec to = {&copy, 1}, from = {&parent, 1};
    /* Its own stands for it: not every machine lets a child look at its parent. */
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ? 0 : -1;
}

static int open_pidfd(void) {
    return (int)syscall(SYS_pidfd_open, parent, 0) < 0 ? -1 : 0;
}

static int open_a_socket(void) {
    return socket(AF_INET, SOCK_STREAM, 0) < 0 ? -1 : 0;
}

static int open_a_unix_pair(void) {
    int pair[2];
    return socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
}

static int map_code(void) {
    void *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
                      -1, 0);
    return code == MAP_FAILED ? -1 : 0;
}

static int turn_memory_into_code(void) {
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? -1 : mprotect(memory, 4096, PROT_READ | PROT_EXEC);
}

static int create_memory_with_a_name(void) {
    return memfd_create("x", 0) < 0 ? -1 : 0;
}

static int open_the_requests_to_write(void) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", request_fd);
    return open(path, O_RDWR) < 0 ? -1 : 0;
}

static int openat_to_write(void) {
    return openat(AT_FDCWD, "/dev/null", O_WRONLY) < 0 ? -1 : 0;
}

#ifdef SYS_open
static int open_to_write(void) {
    return (int)syscall(SYS_open, "/dev/null", O_RDWR) < 0 ? -1 : 0;
}
#endif

static int create_a_file(void) {
    char path[64];
    snprintf(path, sizeof(path), "/tmp/moult-sandbox-%d", (int)getpid());
    int fd = openat(AT_FDCWD, path, O_RDONLY | O_CREAT | O_EXCL, 0600);
    if (fd >= 0)
        unlink(path);
    return fd < 0 ? -1 : 0;
}

static int remove_a_file(void) {
    /* Without the filter it is the file system that says no, which is an answer. */
    return unlink("/nowhere/at/all") != 0 && errno == ENOENT ? 0 : -1;
}

static int unshare_descriptors(void) {
    return unshare(CLONE_FILES);
}

#ifdef __x86_64__
/* getpid() by its x32 number; a kernel without x32 has no such call. */
static int call_by_an_x32_number(void) {
    return syscall(0x40000000 | SYS_getpid) > 0 || errno == ENOSYS ? 0 : -1;
}

/* getpid() of 32-bit programs is number 20, which is writev() in ours. */
static int call_as_a_32_bit_program(void) {
    long result = 20;
    __asm__ volatile("int $0x80" : "+a"(result) : : "memory", "cc");
    return 0;
}
#endif

static int open_to_read(void) {
    return open("/dev/null", O_RDONLY) < 0 ? -1 : 0;
}

static int open_the_requests_to_read(void) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", request_fd);
    return open(path, O_RDONLY) < 0 ? -1 : 0;
}

static int look_at_a_file(void) {
    struct stat status;
    return stat("/dev/null", &status);
}

static int map_a_file(void) {
    void *bytes = mmap(NULL, 4096, PROT_READ, MAP_SHARED, request_fd, 0);
    return bytes == MAP_FAILED ? -1 : 0;
}

static int duplicate(void) {
    return dup(pipe_fds[0]) < 0 ? -1 : 0;
}

static int outlive_the_front(void) {
    return prctl(PR_SET_PDEATHSIG, 0);
}

static int unset_no_core(void) {
    struct rlimit limit;
    return getrlimit(RLIMIT_CORE, &limit) == 0 ? setrlimit(RLIMIT_CORE, &limit) : -1;
}

static int type_on_the_terminal(void) {
    /* Without the filter it is the pipe that says no. */
    return ioctl(pipe_fds[0], TIOCSTI, "x") != 0 && errno == ENOTTY ? 0 : -1;
}

static int lower_further_than_was_said(void) {
    return setpriority(PRIO_PROCESS, 0, NICE + 1);
}

static int lower_the_parent(void) {
    return setpriority(PRIO_PROCESS, (id_t)parent, getpriority(PRIO_PROCESS, (id_t)parent));
}

static int clone_in_the_new_way(void) {
    /* Too small a structure: EINVAL comes from the call itself. */
    return syscall(SYS_clone3, NULL, 0) != 0 && errno == EINVAL ? 0 : -1;
}

struct attempt {
    const char *name;
    int (*make)(void);
};
#define ATTEMPT(make) {#make, make}

static const struct attempt deadly[] = {
    ATTEMPT(exec_a_program),
    ATTEMPT(fork_a_child),
    ATTEMPT(clone_a_process),
    ATTEMPT(kill_the_parent),
    ATTEMPT(trace),
    ATTEMPT(read_the_parents_memory),
    ATTEMPT(open_pidfd),
    ATTEMPT(open_a_socket),
    ATTEMPT(open_a_unix_pair),
    ATTEMPT(map_code),
    ATTEMPT(turn_memory_into_code),
    ATTEMPT(create_memory_with_a_name),
    ATTEMPT(open_the_requests_to_write),
    ATTEMPT(openat_to_write),
#ifdef SYS_open
    ATTEMPT(open_to_write),
#endif
    ATTEMPT(create_a_file),
    ATTEMPT(remove_a_file),
    ATTEMPT(unshare_descriptors),
#ifdef __x86_64__
    ATTEMPT(call_by_an_x32_number),
    ATTEMPT(call_as_a_32_bit_program),
#endif
};

static const struct attempt refused[] = {
    ATTEMPT(open_to_read),
    ATTEMPT(open_the_requests_to_read),
    ATTEMPT(look_at_a_file),
    ATTEMPT(map_a_file),
    ATTEMPT(duplicate),
    ATTEMPT(outlive_the_front),
    ATTEMPT(unset_no_core),
    ATTEMPT(type_on_the_terminal),
    ATTEMPT(signal_the_parent),
    ATTEMPT(lower_further_than_was_said),
    ATTEMPT(lower_the_parent),
    ATTEMPT(clone_in_the_new_way),
};

/* Running one. */

static sem_t begin;

static void *compute_thread(void *context) {
    const struct attempt *attempt = context;
    while (sem_wait(&begin) != 0)
        continue;
    int result = attempt->make();
    if (result != 0 && errno != ENOSYS)
        _exit(BROKEN);
    _exit(result == 0 ? SUCCEEDED : FAILED);
}

static void attempt_it(const struct attempt *attempt, bool confined) {
    pthread_t thread;
    struct moult_error error;
    sem_init(&begin, 0, 0);
    if (pthread_create(&thread, NULL, compute_thread, (void *)(uintptr_t)attempt) != 0)
        _exit(BROKEN);
    if (confined && moult_sandbox_enter(NICE, &error) != 0)
        _exit(UNCONFINED);
    sem_post(&begin);
    pthread_join(thread, NULL);
    _exit(BROKEN);
}

static int run(const struct attempt *attempt, bool confined) {
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        alarm(CHILD_SECONDS_MAX);
        attempt_it(attempt, confined);
    }
    assert_int_equal(child, waitpid(child, &status, 0));
    return status;
}

static bool exited_with(int status, int code) {
    return WIFEXITED(status) && WEXITSTATUS(status) == code;
}

static void run_all(const struct attempt *attempts, size_t count, bool deadly_ones) {
    if (!available)
        skip();
    unsigned wrong = 0;
    for (size_t i = 0; i < count; i++) {
        int without = run(&attempts[i], false), with = run(&attempts[i], true);
        bool held = deadly_ones ? WIFSIGNALED(with) && WTERMSIG(with) == SIGSYS
                                : exited_with(with, FAILED);
        if (!exited_with(without, SUCCEEDED) || !held) {
            print_error("%s: wait status 0x%x without the sandbox, 0x%x with it\n",
                        attempts[i].name, (unsigned)without, (unsigned)with);
            wrong++;
        }
    }
    assert_int_equal(0, wrong);
}

/* Tests. */

static void an_attack_ends_the_process(void **state) {
    (void)state;
    run_all(deadly, sizeof(deadly) / sizeof(*deadly), true);
}

static void what_a_library_may_probe_fails(void **state) {
    (void)state;
    run_all(refused, sizeof(refused) / sizeof(*refused), false);
}

/* The other half: what a worker does must go on working, threads of threads included. */

static void *nap(void *context) {
    struct timespec short_time = {0, 1000};
    prctl(PR_SET_NAME, "napping");
    return nanosleep(&short_time, NULL) == 0 ? context : NULL;
}

static int work_as_a_worker_does(void) {
    enum { LARGE = 8 << 20 };
    char byte = 'x';
    int waited;
    pthread_t thread;
    void *result = NULL;
    struct timespec now;
    moult_thread_lower(MOULT_HASTE_NONE);
    moult_thread_lower(MOULT_HASTE_SOME);
    if (setpriority(PRIO_PROCESS, 0, NICE) != 0)
        return -1;
    char *large = moult_allocate_large(LARGE), *small = malloc(5000);
    if (!large || !small)
        return -1;
    memset(large, 1, LARGE);
    small = realloc(small, LARGE);
    if (!small || pthread_create(&thread, NULL, nap, small) != 0)
        return -1;
    if (pthread_join(thread, &result) != 0 || result != small)
        return -1;
    free(small);
    moult_free_large(large, LARGE);
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) != 0)
        return -1;
    if (write(pipe_fds[1], &byte, 1) != 1 || read(pipe_fds[0], &byte, 1) != 1)
        return -1;
    waited = pread(request_fd, &byte, 1, 0) == 1 && close(request_fd) == 0;
    return waited && getpriority(PRIO_PROCESS, 0) == -1 && errno == ENOSYS ? 0 : -1;
}

static int find_a_bug(void) {
    moult_bug("a file", 1, "a condition");
}

static void computing_goes_on(void **state) {
    (void)state;
    static const struct attempt work = ATTEMPT(work_as_a_worker_does);
    if (!available)
        skip();
    assert_true(exited_with(run(&work, true), SUCCEEDED));
}

/* A bug must be told from an attack: it ends in SIGABRT, with its sentence. */
static void a_bug_still_aborts(void **state) {
    (void)state;
    static const struct attempt bug = ATTEMPT(find_a_bug);
    if (!available)
        skip();
    int status = run(&bug, true);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(SIGABRT, WTERMSIG(status));
}

static int enter_again(void) {
    struct moult_error error = {.message = ""};
    return moult_sandbox_enter(NICE, &error) != 0 && error.code == MOULT_ERROR_UNAVAILABLE &&
                   error.message[0] != '\0' ? 0 : -1;
}

/* A filter that forbids filters, as some containers have it: no failure but a refusal. */
static void where_filters_are_forbidden_it_says_so(void **state) {
    (void)state;
    static const struct attempt again = ATTEMPT(enter_again);
    if (!available)
        skip();
    assert_true(exited_with(run(&again, true), SUCCEEDED));
}

/* The kernel's own word, so that a wrong filter does not pass for one that is not granted. */
static bool kernel_has_filters(void) {
    uint32_t action = SECCOMP_RET_KILL_PROCESS;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static int set_up(void **state) {
    (void)state;
    struct moult_error error;
    int fds[MOULT_CHANNEL_FDS], status;
    parent = getpid();
    channel = moult_channel_open(&error);
    if (!channel || pipe(pipe_fds) != 0)
        return -1;
    moult_channel_worker_fds(channel, fds);
    request_fd = fds[0];
    pid_t child = fork();
    if (child == 0)
        _exit(moult_sandbox_enter(NICE, &error) == 0 ? SUCCEEDED
              : error.code == MOULT_ERROR_UNAVAILABLE ? UNCONFINED : BROKEN);
    if (waitpid(child, &status, 0) != child || exited_with(status, BROKEN))
        return -1;
    available = exited_with(status, SUCCEEDED);
    return available == kernel_has_filters() ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    moult_channel_close(channel);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_attack_ends_the_process),
        cmocka_unit_test(what_a_library_may_probe_fails),
        cmocka_unit_test(computing_goes_on),
        cmocka_unit_test(a_bug_still_aborts),
        cmocka_unit_test(where_filters_are_forbidden_it_says_so),
    };
    return cmocka_run_group_tests_name("sandbox", tests, set_up, tear_down);
}
