#include "front/sweep.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "source/source.h"

struct moult_sweep {
    uv_work_t work;
    char *models_folder;
    char (*keep)[MOULT_SHA256_HEX];
    unsigned count;
    void (*done)(void *context);
    void *context;
};

static bool is_kept(const struct moult_sweep *sweep, const char *name) {
    for (unsigned i = 0; i < sweep->count; i++)
        if (strcmp(sweep->keep[i], name) == 0)
            return true;
    return false;
}

/* A person's own files and folders in there are none of our business. */
static bool is_ours(const char *name) {
    return moult_install_is_leftover(name) ||
           (strlen(name) == MOULT_SHA256_HEX - 1 &&
            strspn(name, "0123456789abcdef") == MOULT_SHA256_HEX - 1);
}

/* Under another name first: killed half-way, this leaves a leftover that the next
 * start clears, and never half a revision under the name of a whole one. */
static int clear_away(int folder_fd, const char *name, struct moult_error *error) {
    char leftover[] = MOULT_LEFTOVER_REMOVED "01234567";
    if (name[0] != '.') {
        memcpy(strrchr(leftover, '-') + 1, name, 8);
        if (moult_folder_remove(folder_fd, leftover, error) != 0)
            return -1;
        if (renameat(folder_fd, name, folder_fd, leftover) != 0)
            return moult_fail_errno(error, "%s cannot be renamed", name);
        name = leftover;
    }
    return moult_folder_remove(folder_fd, name, error);
}

static void sweep_on_pool(uv_work_t *work) {
    struct moult_sweep *sweep = work->data;
    struct moult_error error;
    DIR *folder = opendir(sweep->models_folder);
    if (folder == NULL)
        return;
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;)
        if (is_ours(entry->d_name) && !is_kept(sweep, entry->d_name) &&
            clear_away(dirfd(folder), entry->d_name, &error) != 0)
            moult_log_warning("A revision that nobody uses stays: %s", error.message);
    closedir(folder);
}

static void on_swept(uv_work_t *work, int status) {
    struct moult_sweep *sweep = work->data;
    (void)status;
    sweep->done(sweep->context);
    free(sweep->models_folder);
    free(sweep->keep);
    free(sweep);
}

struct moult_sweep *moult_sweep_start(uv_loop_t *loop, const char *models_folder,
                                      char (*keep)[MOULT_SHA256_HEX], unsigned count,
                                      void (*done)(void *context), void *context) {
    struct moult_sweep *sweep = moult_allocate(1, sizeof *sweep);
    sweep->work.data = sweep;
    sweep->models_folder = moult_copy_string(models_folder);
    sweep->keep = keep;
    sweep->count = count;
    sweep->done = done;
    sweep->context = context;
    int queued = uv_queue_work(loop, &sweep->work, sweep_on_pool, on_swept);
    MOULT_REQUIRE(queued == 0);
    return sweep;
}
