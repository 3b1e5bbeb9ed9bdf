#include "base/machine.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/memory.h"

#define NO_LIMIT UINT64_MAX
#define PROC_FILE_BYTES_MAX MOULT_MIB   /* mountinfo of a host with thousands of mounts. */
#define CPUS_MAX 8192

/* The control groups of a process.
 *
 * /proc/self/cgroup names the group of this process in every hierarchy, one a
 * line, relative to the hierarchy's root:
 *
 *     4:memory:/docker/abc         version 1, with its controllers
 *     0::/system.slice/moult.service   version 2
 *
 * /proc/self/mountinfo says where hierarchies are mounted, and which of their
 * folders the mount shows:
 *
 *     32 31 0:29 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
 *                ^ root      ^ where the root is seen      ^ type       ^ controllers
 *
 * So the group's folder is: where, plus the group's path without the mount's
 * root. A path outside of that root (a namespace shows it as "/../…") belongs
 * to a group that this process cannot look into; then the mount itself is the
 * best there is. A limit holds for everything below it, so every folder from the group's
 * up to the mount is asked, and the least counts. Hybrid systems have both
 * versions mounted; a controller lives in one of them only, and the other has
 * no such file, so asking both is right. */

struct hierarchy {
    const char *type;         /* As in mountinfo. */
    const char *controller;   /* Of version 1; NULL for version 2. */
    void (*ask)(const char *folder, struct moult_cgroup_limits *limits);
};

static void ask_v2(const char *folder, struct moult_cgroup_limits *limits);
static void ask_v1_cpu(const char *folder, struct moult_cgroup_limits *limits);
static void ask_v1_memory(const char *folder, struct moult_cgroup_limits *limits);

static const struct hierarchy hierarchies[] = {
    {"cgroup2", NULL, ask_v2},
    {"cgroup", "cpu", ask_v1_cpu},
    {"cgroup", "memory", ask_v1_memory},
};

static char *read_text(const char *root, const char *path);
static char *group_path(char *cgroup, const char *controller);
static bool find_mount(char *mountinfo, const struct hierarchy *hierarchy, char **mount_root,
                       char **where);

/* Asks the group's folder and each folder above it, up to the mount. */
static void ask_upwards(const char *root, const char *where, const char *below,
                        const struct hierarchy *hierarchy, struct moult_cgroup_limits *limits) {
    char *folder = moult_format("%s%s%s", root, where, strcmp(below, "/") == 0 ? "" : below);
    size_t shortest = strlen(root) + strlen(where);
    for (;;) {
        hierarchy->ask(folder, limits);
        char *slash = strrchr(folder, '/');
        if (slash == NULL || (size_t)(slash - folder) < shortest)
            break;
        *slash = '\0';
    }
    free(folder);
}

/* `path` without `mount_root`, or "" where it lies elsewhere. */
static const char *below_mount(const char *path, const char *mount_root) {
    if (strstr(path, "/..") != NULL)
        return "";
    if (strcmp(mount_root, "/") == 0)
        return path;
    size_t size = strlen(mount_root);
    if (strncmp(path, mount_root, size) != 0 || (path[size] != '/' && path[size] != '\0'))
        return "";
    return path + size;
}

static void ask_hierarchy(const char *root, const struct hierarchy *hierarchy,
                          struct moult_cgroup_limits *limits) {
    char *cgroup = read_text(root, "/proc/self/cgroup");
    char *mountinfo = read_text(root, "/proc/self/mountinfo");
    if (cgroup != NULL && mountinfo != NULL) {
        char *path = group_path(cgroup, hierarchy->controller);
        char *mount_root;
        char *where;
        if (path != NULL && find_mount(mountinfo, hierarchy, &mount_root, &where))
            ask_upwards(root, where, below_mount(path, mount_root), hierarchy, limits);
    }
    free(cgroup);
    free(mountinfo);
}

void moult_cgroup_read(const char *root, struct moult_cgroup_limits *limits) {
    *limits = (struct moult_cgroup_limits){NO_LIMIT, NO_LIMIT, NO_LIMIT};
    for (size_t i = 0; i < sizeof hierarchies / sizeof hierarchies[0]; i++)
        ask_hierarchy(root, &hierarchies[i], limits);
}

/* Whether `list`, separated by commas, holds `word`. */
static bool list_holds(const char *list, const char *word) {
    size_t size = strlen(word);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, word, size) == 0 && (at[size] == ',' || at[size] == '\0'))
            return true;
    }
    return false;
}

/* Cuts the line with `controller` out of the text of /proc/self/cgroup, and returns its path. */
static char *group_path(char *cgroup, const char *controller) {
    char *rest = cgroup;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *path = line;
        strsep(&path, ":");
        char *controllers = strsep(&path, ":");
        if (controllers == NULL || path == NULL || path[0] != '/')
            continue;
        if (controller == NULL ? controllers[0] == '\0' : list_holds(controllers, controller))
            return path;
    }
    return NULL;
}

static bool find_mount(char *mountinfo, const struct hierarchy *hierarchy, char **mount_root,
                       char **where) {
    char *rest = mountinfo;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        char *dash = strstr(line, " - ");
        if (dash == NULL)
            continue;
        *dash = '\0';
        char *tail = dash + 3;
        char *type = strsep(&tail, " ");
        strsep(&tail, " ");
        char *controllers = tail;
        if (strcmp(type, hierarchy->type) != 0 || controllers == NULL)
            continue;
        if (hierarchy->controller != NULL && !list_holds(controllers, hierarchy->controller))
            continue;
        for (int skipped = 0; skipped < 3; skipped++)
            strsep(&line, " ");
        *mount_root = strsep(&line, " ");
        *where = strsep(&line, " ");
        if (*mount_root != NULL && *where != NULL)
            return true;
    }
    return false;
}

/* A small file below `root`, or NULL. The caller frees it. Files of /proc say
 * that their size is 0, so moult_file_read() does not do. */
static char *read_text(const char *root, const char *path) {
    char *whole = moult_format("%s%s", root, path);
    int fd = open(whole, O_RDONLY | O_CLOEXEC);
    free(whole);
    if (fd < 0)
        return NULL;
    size_t capacity = 4096;
    size_t size = 0;
    char *text = moult_reallocate(NULL, capacity, 1);
    ssize_t got;
    while ((got = read(fd, text + size, capacity - size - 1)) > 0) {
        size += (size_t)got;
        if (size + 1 == capacity) {
            if (capacity >= PROC_FILE_BYTES_MAX)
                break;
            capacity *= 2;
            text = moult_reallocate(text, capacity, 1);
        }
    }
    close(fd);
    text[size] = '\0';
    return text;
}

/* The first number of a file; NO_LIMIT for "max", -1, or no such file. */
static uint64_t read_number(const char *folder, const char *name) {
    char *text = read_text(folder, name);
    uint64_t number = NO_LIMIT;
    if (text != NULL && text[0] >= '0' && text[0] <= '9')
        number = strtoull(text, NULL, 10);
    free(text);
    return number;
}

/* The number behind `key` in a text of "key number" lines; 0 where there is none. */
static uint64_t find_keyed(const char *text, const char *key) {
    size_t size = strlen(key);
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, key, size) == 0 && (line[size] == ' ' || line[size] == ':'))
            return strtoull(line + size + 1, NULL, 10);
    }
    return 0;
}

static uint64_t read_keyed(const char *folder, const char *name, const char *key) {
    char *text = read_text(folder, name);
    uint64_t number = find_keyed(text, key);
    free(text);
    return number;
}

static void lower(uint64_t *limit, uint64_t value) {
    if (value < *limit)
        *limit = value;
}

static void apply_quota(struct moult_cgroup_limits *limits, uint64_t quota_us, uint64_t period_us) {
    if (quota_us > UINT64_MAX / 1000 || period_us == 0 || period_us == NO_LIMIT)
        return;
    lower(&limits->milli_cpus, (quota_us * 1000 + period_us - 1) / period_us);
}

/* Pages of files, which the kernel drops before it kills; but not those of running programs. A
 * file that was read twice is active, and no harder to drop: the model that has just
 * been pulled and is about to be loaded is one. */
static uint64_t read_droppable(const char *folder, bool v1) {
    char *text = read_text(folder, "/memory.stat");
    uint64_t files = find_keyed(text, v1 ? "total_inactive_file" : "inactive_file") +
                     find_keyed(text, v1 ? "total_active_file" : "active_file");
    uint64_t mapped = find_keyed(text, v1 ? "total_mapped_file" : "file_mapped");
    free(text);
    return files > mapped ? files - mapped : 0;
}

static void apply_memory(struct moult_cgroup_limits *limits, uint64_t most, uint64_t used,
                         uint64_t droppable) {
    if (most == NO_LIMIT)
        return;
    lower(&limits->memory_bytes, most);
    if (used == NO_LIMIT)
        return;
    uint64_t held = used > droppable ? used - droppable : 0;
    lower(&limits->memory_free_bytes, most > held ? most - held : 0);
}

static void ask_v2(const char *folder, struct moult_cgroup_limits *limits) {
    char *text = read_text(folder, "/cpu.max");
    uint64_t quota_us;
    uint64_t period_us;
    if (text != NULL && sscanf(text, "%" SCNu64 " %" SCNu64, &quota_us, &period_us) == 2)
        apply_quota(limits, quota_us, period_us);
    free(text);
    uint64_t most = read_number(folder, "/memory.max");
    /* Above it nobody is killed, but everybody is slowed down. */
    lower(&most, read_number(folder, "/memory.high"));
    apply_memory(limits, most, read_number(folder, "/memory.current"),
                 read_droppable(folder, false));
}

static void ask_v1_cpu(const char *folder, struct moult_cgroup_limits *limits) {
    apply_quota(limits, read_number(folder, "/cpu.cfs_quota_us"),
                read_number(folder, "/cpu.cfs_period_us"));
}

static void ask_v1_memory(const char *folder, struct moult_cgroup_limits *limits) {
    apply_memory(limits, read_number(folder, "/memory.limit_in_bytes"),
                 read_number(folder, "/memory.usage_in_bytes"),
                 read_droppable(folder, true));
}

static uint32_t threads_by_affinity(void) {
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *set = moult_allocate(1, size);
    int count = sched_getaffinity(0, size, set) == 0 ? CPU_COUNT_S(size, set) : 1;
    free(set);
    return count < 1 ? 1 : (uint32_t)count;
}

uint32_t moult_cgroup_threads(const struct moult_cgroup_limits *limits, uint32_t cpus) {
    uint64_t threads = cpus;
    if (limits->milli_cpus != NO_LIMIT)
        lower(&threads, limits->milli_cpus / 1000 + (limits->milli_cpus % 1000 > 0));
    lower(&threads, MOULT_THREADS_MAX);
    return threads < 1 ? 1 : (uint32_t)threads;
}

uint32_t moult_machine_threads(void) {
    struct moult_cgroup_limits limits;
    moult_cgroup_read("", &limits);
    return moult_cgroup_threads(&limits, threads_by_affinity());
}

static uint64_t read_meminfo(const char *key) {
    uint64_t kib = read_keyed("", "/proc/meminfo", key);
    return kib == 0 || kib > UINT64_MAX / 1024 ? NO_LIMIT : kib * 1024;
}

uint64_t moult_machine_memory_bytes(void) {
    struct moult_cgroup_limits limits;
    moult_cgroup_read("", &limits);
    lower(&limits.memory_bytes, read_meminfo("MemTotal"));
    return limits.memory_bytes;
}

uint64_t moult_machine_memory_free_bytes(void) {
    struct moult_cgroup_limits limits;
    moult_cgroup_read("", &limits);
    lower(&limits.memory_free_bytes, read_meminfo("MemAvailable"));
    return limits.memory_free_bytes;
}

uint64_t moult_machine_resident_bytes(int pid) {
    char path[64];
    if (pid == 0)
        snprintf(path, sizeof path, "/proc/self/statm");
    else
        snprintf(path, sizeof path, "/proc/%d/statm", pid);
    char *text = read_text("", path);
    uint64_t pages = 0;
    if (text == NULL || sscanf(text, "%*u %" SCNu64, &pages) != 1)
        pages = 0;
    free(text);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

uint64_t moult_machine_peak_bytes(int pid) {
    char folder[64];
    snprintf(folder, sizeof folder, "/proc/%d", pid == 0 ? (int)getpid() : pid);
    return read_keyed(folder, "/status", "VmHWM") * 1024;
}

/* What stands behind `key` and a colon in the text of /proc/cpuinfo; where nothing does, `size` is
 * 0. */
static const char *cpuinfo_value(const char *text, const char *key, int *size) {
    const char *found = text != NULL ? strstr(text, key) : NULL;
    *size = 0;
    if (found == NULL || (found = strchr(found, ':')) == NULL)
        return "";
    found += strspn(found, ": \t");
    *size = (int)strcspn(found, "\n");
    return found;
}

/* On ARM64 the machine knows no name: only who made the first core, and which of theirs it is. */
void moult_machine_cpu(const char *root, char *name, size_t capacity) {
    char *text = read_text(root, "/proc/cpuinfo");
    int size, part_size;
    const char *found = cpuinfo_value(text, "model name", &size);
    snprintf(name, capacity, "%.*s", size, found);
    if (size == 0) {
        const char *part = cpuinfo_value(text, "CPU part", &part_size);
        found = cpuinfo_value(text, "CPU implementer", &size);
        if (size > 0 && part_size > 0)
            snprintf(name, capacity, "ARM64, implementer %.*s, part %.*s", size, found, part_size,
                     part);
    }
    free(text);
}

void moult_machine_times(int pid, struct moult_process_times *times) {
    char path[64];
    *times = (struct moult_process_times){0};
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *tasks = opendir(path);
    for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
        uint64_t ran_ns, waited_ns;
        char *name = moult_format("/%s/schedstat", task->d_name);
        char *text = task->d_name[0] != '.' ? read_text(path, name) : NULL;
        if (text != NULL && sscanf(text, "%" SCNu64 " %" SCNu64, &ran_ns, &waited_ns) == 2) {
            times->ran_ns += ran_ns;
            times->waited_ns += waited_ns;
        }
        free(name);
        free(text);
    }
    if (tasks != NULL)
        closedir(tasks);
}

uint64_t moult_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
