#include "base/machine.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/limits.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* Each test builds the /proc and /sys of some system below `root`. */
static char root[64];
static struct moult_error error;

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/moult-test-machine-XXXXXX");
    return mkdtemp(root) == NULL ? -1 : 0;
}

static int remove_root(void **state) {
    (void)state;
    return moult_folder_remove(AT_FDCWD, root, &error);
}

static void put(const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s%s", root, path);
    char *slash = strrchr(whole, '/');
    *slash = '\0';
    assert_int_equal(0, moult_folder_make(whole, &error));
    *slash = '/';
    assert_int_equal(0, moult_file_replace(AT_FDCWD, whole, text, strlen(text), &error));
}

#define V2_MOUNT "23 1 0:20 / /proc rw - proc proc rw\n" \
                 "31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"

static struct moult_cgroup_limits limits_read(void) {
    struct moult_cgroup_limits limits;
    moult_cgroup_read(root, &limits);
    return limits;
}

static void nothing_known_means_no_limit(void **state) {
    (void)state;
    struct moult_cgroup_limits limits = limits_read();
    assert_true(limits.milli_cpus == UINT64_MAX);
    assert_true(limits.memory_bytes == UINT64_MAX);
    assert_true(limits.memory_free_bytes == UINT64_MAX);
}

static void max_means_no_limit(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/app\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/app/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/app/memory.max", "max\n");
    put("/sys/fs/cgroup/app/memory.current", "12345\n");
    nothing_known_means_no_limit(state);
}

static void quotas_round_up_to_threads(void **state) {
    (void)state;
    static const struct {
        const char *text;
        uint64_t milli_cpus;
        uint32_t threads_of_8;
    } cases[] = {
        {"150000 100000\n", 1500, 2}, {"50000 100000\n", 500, 1},   {"200000 100000\n", 2000, 2},
        {"200001 100000\n", 2001, 3}, {"1000 1000000\n", 1, 1},     {"0 100000\n", 0, 1},
        {"700000 100000\n", 7000, 7}, {"799999 100000\n", 8000, 8}, {"1000000 100000\n", 10000, 8},
    };
    put("/proc/self/cgroup", "0::/app\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        put("/sys/fs/cgroup/app/cpu.max", cases[i].text);
        struct moult_cgroup_limits limits = limits_read();
        assert_int_equal(cases[i].milli_cpus, limits.milli_cpus);
        assert_int_equal(cases[i].threads_of_8, moult_cgroup_threads(&limits, 8));
    }
}

/* The tightest of all enclosing groups counts, for each quantity on its own. */
static void every_enclosing_group_counts(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/pod/app/main\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/pod/cpu.max", "300000 100000\n");
    put("/sys/fs/cgroup/pod/app/cpu.max", "400000 100000\n");
    put("/sys/fs/cgroup/pod/app/main/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/pod/memory.max", "3000\n");
    put("/sys/fs/cgroup/pod/memory.current", "2500\n");
    put("/sys/fs/cgroup/pod/memory.stat", "anon 2000\ninactive_file 400\nactive_file 100\n");
    put("/sys/fs/cgroup/pod/app/memory.max", "2000\n");
    put("/sys/fs/cgroup/pod/app/memory.current", "100\n");
    struct moult_cgroup_limits limits = limits_read();
    assert_int_equal(3000, limits.milli_cpus);
    assert_int_equal(2000, limits.memory_bytes);
    /* Pages of files, read once or twice, are not held. */
    assert_int_equal(3000 - (2500 - 400 - 100), limits.memory_free_bytes);
}

static void slowing_down_is_a_limit_as_well(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/pod/app\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/pod/memory.max", "max\n");
    put("/sys/fs/cgroup/pod/memory.high", "4000\n");
    put("/sys/fs/cgroup/pod/memory.current", "1500\n");
    put("/sys/fs/cgroup/pod/memory.stat", "active_file 700\nfile_mapped 200\n");
    put("/sys/fs/cgroup/pod/app/memory.max", "9000\n");
    put("/sys/fs/cgroup/pod/app/memory.high", "max\n");
    put("/sys/fs/cgroup/pod/app/memory.current", "1000\n");
    assert_int_equal(4000, limits_read().memory_bytes);
    /* What programs have mapped is not dropped for nothing. */
    assert_int_equal(4000 - (1500 - 500), limits_read().memory_free_bytes);
}

static void a_group_over_its_limit_has_nothing_free(void **state) {
    (void)state;
    put("/proc/self/cgroup", "0::/\n");
    put("/proc/self/mountinfo", V2_MOUNT);
    put("/sys/fs/cgroup/memory.max", "1000\n");
    put("/sys/fs/cgroup/memory.current", "1500\n");
    assert_int_equal(0, limits_read().memory_free_bytes);
    put("/sys/fs/cgroup/memory.stat", "inactive_file 9000\n");
    assert_int_equal(1000, limits_read().memory_free_bytes);
}

static void version_1_has_a_hierarchy_per_controller(void **state) {
    (void)state;
    put("/proc/self/cgroup", "7:cpuset:/\n5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc/in\n");
    put("/proc/self/mountinfo",
        "40 30 0:1 /docker/abc /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n"
        "41 30 0:2 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "42 30 0:3 / /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250000\n");
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "5000\n");
    put("/sys/fs/cgroup/memory/memory.usage_in_bytes", "2000\n");
    put("/sys/fs/cgroup/memory/in/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/in/memory.usage_in_bytes", "2000\n");
    struct moult_cgroup_limits limits = limits_read();
    assert_int_equal(2500, limits.milli_cpus);
    assert_int_equal(5000, limits.memory_bytes);
    assert_int_equal(3000, limits.memory_free_bytes);
    put("/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    assert_true(limits_read().milli_cpus == UINT64_MAX);
}

/* Both versions are mounted, and each controller lives in one of them. */
static void hybrid_systems_are_asked_twice(void **state) {
    (void)state;
    put("/proc/self/cgroup", "4:memory:/job\n0::/scope\n");
    put("/proc/self/mountinfo",
        "41 30 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "42 30 0:3 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "7000\n");
    put("/sys/fs/cgroup/unified/scope/cpu.max", "70000 100000\n");
    struct moult_cgroup_limits limits = limits_read();
    assert_int_equal(700, limits.milli_cpus);
    assert_int_equal(7000, limits.memory_bytes);
    assert_true(limits.memory_free_bytes == UINT64_MAX);
}

/* A group outside of what the mount shows: the mount's own limits still hold,
 * and nothing above it is touched. */
static void groups_out_of_sight_fall_back_to_the_mount(void **state) {
    (void)state;
    static const char *const groups[] = {"0::/../../other\n", "0::/elsewhere\n", "0::/podium\n"};
    put("/proc/self/mountinfo", "31 23 0:28 /pod /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    put("/sys/fs/cgroup/cpu.max", "120000 100000\n");
    put("/sys/fs/cpu.max", "10000 100000\n");
    put("/sys/other/cpu.max", "10000 100000\n");
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++) {
        put("/proc/self/cgroup", groups[i]);
        assert_int_equal(1200, limits_read().milli_cpus);
    }
}

static void malformed_lines_are_passed_over(void **state) {
    (void)state;
    put("/proc/self/cgroup", "\n:\n0:\n0::\nx\n0::/app\n");
    put("/proc/self/mountinfo", "\n - \n - cgroup2\n1 2 - cgroup2 cgroup2 rw\n" V2_MOUNT);
    put("/sys/fs/cgroup/app/cpu.max", "100000\n");
    put("/sys/fs/cgroup/cpu.max", "100000 0\n");
    put("/sys/fs/cgroup/app/memory.max", "lots\n");
    nothing_known_means_no_limit(state);
}

/* The affinity mask of one CPU leaves one thread, whatever the machine has. */
static void affinity_counts(void **state) {
    (void)state;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        cpu_set_t all;
        CPU_ZERO(&all);
        sched_getaffinity(0, sizeof all, &all);
        cpu_set_t one;
        CPU_ZERO(&one);
        for (int cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
            if (CPU_ISSET(cpu, &all))
                CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        _exit(moult_machine_threads() == 1 ? 0 : 1);
    }
    int status;
    assert_int_equal(child, waitpid(child, &status, 0));
    assert_int_equal(0, status);
}

static void this_machine_gives_sane_answers(void **state) {
    (void)state;
    assert_in_range(moult_machine_threads(), 1, MOULT_THREADS_MAX);
    assert_in_range(moult_machine_memory_bytes(), 16 * MOULT_MIB, UINT64_MAX / 2);
    assert_true(moult_machine_memory_free_bytes() <= moult_machine_memory_bytes());
    assert_in_range(moult_machine_resident_bytes(0), 64 * MOULT_KIB, 64 * MOULT_GIB);
    assert_int_equal(0, moult_machine_resident_bytes(0x7FFFFFFF));
    uint64_t before_ns = moult_clock_ns();
    usleep(2000);
    assert_in_range(moult_clock_ns() - before_ns, 2000000, 60000000000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

static void a_cpu_has_the_name_that_the_machine_has_for_it(void **state) {
    (void)state;
    char name[64];
    moult_machine_cpu(root, name, sizeof name);
    assert_string_equal(name, "");
    put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2.80GHz\nflags\t\t: fpu\n");
    moult_machine_cpu(root, name, sizeof name);
    assert_string_equal(name, "Some CPU @ 2.80GHz");
    moult_machine_cpu(root, name, 9);
    assert_string_equal(name, "Some CPU");
}

static void a_cpu_without_a_name_has_its_numbers(void **state) {
    (void)state;
    char name[64];
    put("/proc/cpuinfo", "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\n"
                         "CPU architecture: 8\nCPU part\t: 0xd0c\nCPU revision\t: 1\n");
    moult_machine_cpu(root, name, sizeof name);
    assert_string_equal(name, "ARM64, implementer 0x41, part 0xd0c");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(nothing_known_means_no_limit),
        TEST(max_means_no_limit),
        TEST(quotas_round_up_to_threads),
        TEST(every_enclosing_group_counts),
        TEST(slowing_down_is_a_limit_as_well),
        TEST(a_group_over_its_limit_has_nothing_free),
        TEST(version_1_has_a_hierarchy_per_controller),
        TEST(hybrid_systems_are_asked_twice),
        TEST(groups_out_of_sight_fall_back_to_the_mount),
        TEST(malformed_lines_are_passed_over),
        TEST(a_cpu_has_the_name_that_the_machine_has_for_it),
        TEST(a_cpu_without_a_name_has_its_numbers),
        cmocka_unit_test(affinity_counts),
        cmocka_unit_test(this_machine_gives_sane_answers),
    };
    return cmocka_run_group_tests_name("machine", tests, NULL, NULL);
}
