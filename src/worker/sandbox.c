/* The filter of system calls, in four kinds:
 *
 *     allowed    what computing needs: memory, threads, time, descriptors that are open
 *     bounded    the same, for some arguments: memory that is never code, clone()
 *                for threads alone, signals to itself alone
 *     killing    what only somebody else's code would call: the process dies at
 *                once (SIGSYS), and the front says which signal it was
 *     the rest   fails with ENOSYS
 *
 * The rest does not kill, since libraries probe: the allocator looks for the
 * machine's overcommit policy, a newer libc tries a newer call first. ENOSYS is the answer
 * of a kernel that lacks the call, which every libc lives with. It is also what
 * makes pthread_create() fall back from clone3(), whose flags lie in memory,
 * where no filter sees them, to clone(), whose flags are an argument.
 *
 * Filters look at numbers, never at what a pointer points to. So paths cannot be told apart, and
 * all are refused; a descriptor is what gives a right. Arguments of type int
 * are compared in their lower 32 bits, because the kernel ignores the others. */
#include "worker/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "worker/process.h"

#define CONDITIONS_MAX 3

struct rule {
    int call;
    unsigned conditions;                            /* All must hold. */
    struct scmp_arg_cmp condition[CONDITIONS_MAX];
};

/* Argument `at` as an int; some of its bits; some bits of a long. */
#define INT(at, value) {at, SCMP_CMP_MASKED_EQ, 0xFFFFFFFFu, value}
#define BITS(at, mask, value) {at, SCMP_CMP_MASKED_EQ, mask, value}

/* What pthread_create() says to clone(), and what it may say besides. */
#define THREAD_MUST ((uint64_t)(CLONE_VM | CLONE_SIGHAND | CLONE_THREAD))
#define THREAD_MAY                                                                            \
    ((uint64_t)(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SETTLS | CLONE_PARENT_SETTID | \
                CLONE_CHILD_CLEARTID | CLONE_CHILD_SETTID | CLONE_DETACHED))

static const struct rule allowed[] = {
    /* Memory. */
    {SCMP_SYS(brk), 0, {{0}}},
    {SCMP_SYS(madvise), 0, {{0}}},
    {SCMP_SYS(mremap), 0, {{0}}},
    {SCMP_SYS(munmap), 0, {{0}}},
    {SCMP_SYS(prlimit64), 2, {INT(0, 0), INT(1, RLIMIT_DATA)}},
    {SCMP_SYS(mmap), 2, {BITS(2, PROT_EXEC, 0), BITS(3, MAP_ANONYMOUS, MAP_ANONYMOUS)}},
    {SCMP_SYS(mprotect), 1, {BITS(2, PROT_EXEC, 0)}},
    /* Open descriptors: model files, the front's eventfd, the score, standard error. */
    {SCMP_SYS(close), 0, {{0}}},
    {SCMP_SYS(pread64), 0, {{0}}},
    {SCMP_SYS(pwrite64), 0, {{0}}},
    {SCMP_SYS(read), 0, {{0}}},
    {SCMP_SYS(write), 0, {{0}}},
    {SCMP_SYS(writev), 0, {{0}}},
    /* Threads. */
    {SCMP_SYS(clone), 1, {BITS(0, ~THREAD_MAY, THREAD_MUST)}},
    {SCMP_SYS(exit), 0, {{0}}},
    {SCMP_SYS(exit_group), 0, {{0}}},
    {SCMP_SYS(futex), 0, {{0}}},
    {SCMP_SYS(getpid), 0, {{0}}},
    {SCMP_SYS(gettid), 0, {{0}}},
    {SCMP_SYS(rseq), 0, {{0}}},
    {SCMP_SYS(sched_getaffinity), 0, {{0}}},
    {SCMP_SYS(sched_yield), 0, {{0}}},
    {SCMP_SYS(set_robust_list), 0, {{0}}},
    {SCMP_SYS(prctl), 1, {INT(0, PR_SET_NAME)}},
    /* Loading lowers itself, and may do no more: as root it could also rise. */
    {SCMP_SYS(setpriority), 3, {INT(0, PRIO_PROCESS), INT(1, 0), INT(2, MOULT_HASTE_NICE)}},
    {SCMP_SYS(sched_setscheduler), 2, {INT(0, 0), INT(1, SCHED_IDLE)}},
    /* Signals, for abort(); tgkill() is added in build(). */
    {SCMP_SYS(restart_syscall), 0, {{0}}},
    {SCMP_SYS(rt_sigaction), 0, {{0}}},
    {SCMP_SYS(rt_sigprocmask), 0, {{0}}},
    {SCMP_SYS(rt_sigreturn), 0, {{0}}},
    {SCMP_SYS(sigaltstack), 0, {{0}}},
    /* Time and chance; sysinfo() is how qsort() knows what memory it may use. */
    {SCMP_SYS(clock_getres), 0, {{0}}},
    {SCMP_SYS(clock_gettime), 0, {{0}}},
    {SCMP_SYS(clock_nanosleep), 0, {{0}}},
    {SCMP_SYS(getrandom), 0, {{0}}},
    {SCMP_SYS(gettimeofday), 0, {{0}}},
    {SCMP_SYS(nanosleep), 0, {{0}}},
    {SCMP_SYS(sysinfo), 0, {{0}}},
#ifdef MOULT_FAULTS
    /* A fault point reads and writes files by their names, and hangs (base/fault.h). */
    {SCMP_SYS(openat), 0, {{0}}},
    {SCMP_SYS(pause), 0, {{0}}},
    {SCMP_SYS(ppoll), 0, {{0}}},
#endif
};

/* Opening to read is a probe, and fails; opening to write is none. */
#define OPENS_TO_WRITE(call, flags_at)                             \
    {SCMP_SYS(call), 1, {BITS(flags_at, O_ACCMODE, O_WRONLY)}},    \
    {SCMP_SYS(call), 1, {BITS(flags_at, O_ACCMODE, O_RDWR)}},      \
    {SCMP_SYS(call), 1, {BITS(flags_at, O_CREAT, O_CREAT)}},       \
    {SCMP_SYS(call), 1, {BITS(flags_at, O_TRUNC, O_TRUNC)}}

static const struct rule killing[] = {
    /* Code that was not in the program. */
    {SCMP_SYS(execve), 0, {{0}}},
    {SCMP_SYS(execveat), 0, {{0}}},
    {SCMP_SYS(mmap), 1, {BITS(2, PROT_EXEC, PROT_EXEC)}},
    {SCMP_SYS(mprotect), 1, {BITS(2, PROT_EXEC, PROT_EXEC)}},
    {SCMP_SYS(pkey_mprotect), 0, {{0}}},
    {SCMP_SYS(memfd_create), 0, {{0}}},
    {SCMP_SYS(personality), 0, {{0}}},
    /* Processes of its own, and those of others. */
    {SCMP_SYS(clone), 1, {BITS(0, CLONE_THREAD, 0)}},
    {SCMP_SYS(fork), 0, {{0}}},
    {SCMP_SYS(vfork), 0, {{0}}},
    {SCMP_SYS(kill), 0, {{0}}},
    {SCMP_SYS(tkill), 0, {{0}}},
    {SCMP_SYS(rt_sigqueueinfo), 0, {{0}}},
    {SCMP_SYS(rt_tgsigqueueinfo), 0, {{0}}},
    {SCMP_SYS(pidfd_getfd), 0, {{0}}},
    {SCMP_SYS(pidfd_open), 0, {{0}}},
    {SCMP_SYS(pidfd_send_signal), 0, {{0}}},
    {SCMP_SYS(process_vm_readv), 0, {{0}}},
    {SCMP_SYS(process_vm_writev), 0, {{0}}},
    {SCMP_SYS(ptrace), 0, {{0}}},
    /* The network, and local sockets. */
    {SCMP_SYS(accept), 0, {{0}}},
    {SCMP_SYS(accept4), 0, {{0}}},
    {SCMP_SYS(bind), 0, {{0}}},
    {SCMP_SYS(connect), 0, {{0}}},
    {SCMP_SYS(listen), 0, {{0}}},
    {SCMP_SYS(recvfrom), 0, {{0}}},
    {SCMP_SYS(recvmsg), 0, {{0}}},
    {SCMP_SYS(sendmsg), 0, {{0}}},
    {SCMP_SYS(sendto), 0, {{0}}},
    {SCMP_SYS(socket), 0, {{0}}},
    {SCMP_SYS(socketpair), 0, {{0}}},
    /* Files. */
#ifndef MOULT_FAULTS
    OPENS_TO_WRITE(openat, 2),
#endif
    OPENS_TO_WRITE(open, 1),
    {SCMP_SYS(creat), 0, {{0}}},
    {SCMP_SYS(link), 0, {{0}}},
    {SCMP_SYS(linkat), 0, {{0}}},
    {SCMP_SYS(mknod), 0, {{0}}},
    {SCMP_SYS(mknodat), 0, {{0}}},
    {SCMP_SYS(open_by_handle_at), 0, {{0}}},
    {SCMP_SYS(rename), 0, {{0}}},
    {SCMP_SYS(renameat), 0, {{0}}},
    {SCMP_SYS(renameat2), 0, {{0}}},
    {SCMP_SYS(symlink), 0, {{0}}},
    {SCMP_SYS(symlinkat), 0, {{0}}},
    {SCMP_SYS(unlink), 0, {{0}}},
    {SCMP_SYS(unlinkat), 0, {{0}}},
    /* The machine, and the large doors of the kernel. */
    {SCMP_SYS(bpf), 0, {{0}}},
    {SCMP_SYS(chroot), 0, {{0}}},
    {SCMP_SYS(finit_module), 0, {{0}}},
    {SCMP_SYS(init_module), 0, {{0}}},
    {SCMP_SYS(io_uring_enter), 0, {{0}}},
    {SCMP_SYS(io_uring_register), 0, {{0}}},
    {SCMP_SYS(io_uring_setup), 0, {{0}}},
    {SCMP_SYS(kexec_load), 0, {{0}}},
    {SCMP_SYS(keyctl), 0, {{0}}},
    {SCMP_SYS(mount), 0, {{0}}},
    {SCMP_SYS(perf_event_open), 0, {{0}}},
    {SCMP_SYS(pivot_root), 0, {{0}}},
    {SCMP_SYS(setns), 0, {{0}}},
    {SCMP_SYS(unshare), 0, {{0}}},
    {SCMP_SYS(userfaultfd), 0, {{0}}},
};

#ifndef __has_feature
#define __has_feature(feature) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/lsan_interface.h>

static int confined;

/* At the exit LeakSanitizer would start a process that traces this one, which is
 * what a filter is against; so it asks here first. */
int __lsan_is_turned_off(void) {
    return confined;
}
#define NOTE_CONFINED() (confined = 1)
#else
#define NOTE_CONFINED() ((void)0)
#endif

static int build(scmp_filter_ctx filter, unsigned nice);
static int load(scmp_filter_ctx filter);
static bool is_refusal(int failure);

int moult_sandbox_enter(unsigned nice, struct moult_error *error) {
    /* Else the first object would read the seed from /dev/urandom, and without one a
     * tokenizer.json could choose keys that all fall into one bucket. */
    json_object_seed(0);

    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "The library of system call filters does not know this kernel.");
    int failure = build(filter, nice);
    if (failure == 0)
        failure = load(filter);
    seccomp_release(filter);
    if (failure == 0) {
        NOTE_CONFINED();
        return 0;
    }
    return moult_fail(error, is_refusal(failure) ? MOULT_ERROR_UNAVAILABLE : MOULT_ERROR_SYSTEM,
                      "The filter of system calls cannot be set: %s.", strerror(-failure));
}

/* How a kernel without filters, one older than Linux 4.14, an emulator, or the
 * filter of a container says no. */
static bool is_refusal(int failure) {
    return failure == -ENOSYS || failure == -EINVAL || failure == -EPERM || failure == -EACCES ||
           failure == -EOPNOTSUPP;
}

static int add_rules(scmp_filter_ctx filter, uint32_t action, const struct rule *rules,
                     size_t count) {
    int failure = 0;
    for (size_t i = 0; i < count && failure == 0; i++)
        failure = seccomp_rule_add_array(filter, action, rules[i].call, rules[i].conditions,
                                         rules[i].condition);
    return failure;
}

static int set_attributes(scmp_filter_ctx filter) {
    /* Wishes. Kernels before 5.16 slow down a thread with a filter, in case it runs
     * foreign code that speculates; this one computes, and has none. And a tree is
     * searched faster than a list. */
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);

    int failure = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);
    /* load() sets it, since the library does not pass on why it could not. */
    if (failure == 0)
        failure = seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, 0);
    if (failure == 0)
        failure = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    /* The numbers of 32-bit programs mean other calls. */
    if (failure == 0)
        failure = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    return failure;
}

static int build(scmp_filter_ctx filter, unsigned nice) {
    const struct rule own[] = {
        {SCMP_SYS(tgkill), 1, {INT(0, (uint64_t)getpid())}},
        {SCMP_SYS(setpriority), 3, {INT(0, PRIO_PROCESS), INT(1, 0), INT(2, nice)}},
    };
    bool nicer = nice > 0 && nice < MOULT_NICE_IDLE && nice != MOULT_HASTE_NICE;
    int failure = set_attributes(filter);
    if (failure == 0)
        failure = add_rules(filter, SCMP_ACT_ALLOW, allowed, sizeof(allowed) / sizeof(*allowed));
    if (failure == 0)
        failure = add_rules(filter, SCMP_ACT_ALLOW, own, nicer ? 2 : 1);
    if (failure == 0)
        failure = add_rules(filter, SCMP_ACT_KILL_PROCESS, killing,
                            sizeof(killing) / sizeof(*killing));
    return failure;
}

/* Without the promise never to gain rights by a program only root may filter itself. */
static int load(scmp_filter_ctx filter) {
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 ? seccomp_load(filter) : -errno;
}
