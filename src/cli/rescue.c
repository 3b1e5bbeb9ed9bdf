/* `moult rescue`: a damaged documents.db becomes a whole one with what can be read.
 *
 * documents.db.rescuing while it is filled; nothing, when that was broken off
 * documents.db.damaged what was there, with documents.db-wal as documents.db.damaged-wal
 *
 * When all is saved, the damaged pair gets these names in addition, the log loses its old one,
 * which would make it the new file's, and the new file takes the place of the old one. There is
 * no moment without a documents.db. Where this was broken off in between, documents.db is the
 * same file as documents.db.damaged, beside which the log lies under a name that fits: it is
 * read once more. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli/cli.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "store/store.h"

#define FILE_NAME "documents.db"

struct rescue {
    int folder_fd, lock_fd;
    const char *data;
    struct moult_progress bar;
};

static void draw(void *context, uint64_t documents, uint64_t expected) {
    struct moult_progress *bar = context;
    char note[64];
    if (documents % 256 != 0)
        return;
    snprintf(note, sizeof note, "%" PRIu64 " documents", documents);
    moult_progress_draw(bar, expected > 0 ? (double)documents / (double)expected : -1, note);
}

/* Whether there is such a file, and its status. */
static bool look(const struct rescue *rescue, const char *name, struct stat *status) {
    return fstatat(rescue->folder_fd, name, status, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool is_same(const struct rescue *rescue, const char *name, const char *other) {
    struct stat a, b;
    return look(rescue, name, &a) && look(rescue, other, &b) && a.st_dev == b.st_dev &&
           a.st_ino == b.st_ino;
}

static int remove_file(const struct rescue *rescue, const char *name, struct moult_error *error) {
    if (unlinkat(rescue->folder_fd, name, 0) == 0 || errno == ENOENT)
        return 0;
    return moult_fail_errno(error, "%s/%s cannot be removed", rescue->data, name);
}

static int rename_file(const struct rescue *rescue, const char *from, const char *to,
                       struct moult_error *error) {
    if (renameat(rescue->folder_fd, from, rescue->folder_fd, to) == 0 &&
        fsync(rescue->folder_fd) == 0)
        return 0;
    return moult_fail_errno(error, "%s/%s cannot be made", rescue->data, to);
}

/* One more name for what is there. */
static int keep(const struct rescue *rescue, const char *name, const char *kept,
                struct moult_error *error) {
    if (linkat(rescue->folder_fd, name, rescue->folder_fd, kept, 0) == 0 || errno == ENOENT ||
        is_same(rescue, name, kept))
        return 0;
    return moult_fail_errno(error, "%s/%s cannot be kept as %s", rescue->data, name, kept);
}

static int open_folder(struct rescue *rescue, struct moult_error *error) {
    rescue->folder_fd = open(rescue->data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (rescue->folder_fd < 0)
        return moult_fail_errno(error, "The data folder %s cannot be opened", rescue->data);
    rescue->lock_fd = openat(rescue->folder_fd, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                             0644);
    if (rescue->lock_fd < 0)
        return moult_fail_errno(error, "The data folder %s cannot be locked", rescue->data);
    if (flock(rescue->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return moult_fail(error, MOULT_ERROR_UNAVAILABLE,
                          "A server uses the data folder %s; stop it first.", rescue->data);
    return 0;
}

static int fill(struct rescue *rescue, const char *name, struct moult_error *error) {
    struct moult_rescue_progress progress = {draw, &rescue->bar};
    struct moult_rescue saved;
    char *from = moult_format("%s/%s", rescue->data, name);
    char *to = moult_format("%s/" FILE_NAME ".rescuing", rescue->data);
    remove_file(rescue, FILE_NAME ".rescuing", NULL);
    remove_file(rescue, FILE_NAME ".rescuing-wal", NULL);
    moult_progress_begin(&rescue->bar, "reading");
    int result = moult_store_rescue(from, to, &progress, &saved, error);
    moult_progress_end(&rescue->bar);
    free(from);
    free(to);
    if (result != 0)
        return -1;
    printf("%" PRIu64 " documents are saved", saved.documents);
    if (saved.bare > 0)
        printf(", %" PRIu64 " of them without their metadata", saved.bare);
    if (saved.expected > saved.documents)
        printf("; %" PRIu64 " are lost", saved.expected - saved.documents);
    else if (saved.lost > 0)
        printf("; %" PRIu64 " are lost", saved.lost);
    printf(".\n");
    return 0;
}

static int put_in_place(const struct rescue *rescue, struct moult_error *error) {
    if (keep(rescue, FILE_NAME "-wal", FILE_NAME ".damaged-wal", error) != 0 ||
        keep(rescue, FILE_NAME, FILE_NAME ".damaged", error) != 0)
        return -1;
    if (fsync(rescue->folder_fd) != 0)
        return moult_fail_errno(error, "The data folder %s cannot be synced", rescue->data);
    if (remove_file(rescue, FILE_NAME "-wal", error) != 0 ||
        remove_file(rescue, FILE_NAME "-shm", error) != 0)
        return -1;
    return rename_file(rescue, FILE_NAME ".rescuing", FILE_NAME, error);
}

static int run(struct rescue *rescue, struct moult_error *error) {
    if (open_folder(rescue, error) != 0)
        return -1;
    struct stat status;
    bool was_kept = is_same(rescue, FILE_NAME, FILE_NAME ".damaged");
    if (!look(rescue, FILE_NAME, &status))
        return moult_fail(error, MOULT_ERROR_MISSING, "There is no %s/" FILE_NAME ".",
                          rescue->data);
    if (!was_kept && (look(rescue, FILE_NAME ".damaged", &status) ||
                      look(rescue, FILE_NAME ".damaged-wal", &status)))
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "%s/" FILE_NAME ".damaged is there from an earlier rescue; move it and "
                          "what begins with its name away first.", rescue->data);
    if (fill(rescue, was_kept ? FILE_NAME ".damaged" : FILE_NAME, error) != 0)
        return -1;
    return put_in_place(rescue, error);
}

int moult_cli_rescue(int argc, char **argv) {
    struct rescue rescue = {.folder_fd = -1, .lock_fd = -1, .data = "./moult-data"};
    struct moult_error error;
    unsigned operand_count;
    const struct moult_option options[] = {
        {"--data", "FOLDER", "./moult-data", "the data folder; no server may use it",
         MOULT_OPTION_TEXT, &rescue.data, 0, 0},
    };
    const struct moult_command_line line = {
        .usage = "moult rescue [OPTION …]",
        .purpose = "Makes a damaged FOLDER/" FILE_NAME " whole again, with those documents that\n"
                   "can still be read. What was there is kept as " FILE_NAME ".damaged.\n"
                   "A backup, if there is one, is better: what cannot be read is lost. When the\n"
                   "server runs again, it embeds all documents again.",
        .options = options,
        .option_count = sizeof options / sizeof options[0],
    };
    enum moult_parsed parsed = moult_options_parse(&line, argc, argv, &operand_count);
    if (parsed != MOULT_PARSED_OK)
        return parsed == MOULT_PARSED_HELP ? MOULT_EXIT_OK : MOULT_EXIT_USAGE;
    int result = run(&rescue, &error);
    if (result == 0)
        printf("%s/" FILE_NAME " is whole; the damaged one is kept beside it.\n", rescue.data);
    else
        fprintf(stderr, "moult rescue: %s\n", error.message);
    if (rescue.lock_fd >= 0)
        close(rescue.lock_fd);
    if (rescue.folder_fd >= 0)
        close(rescue.folder_fd);
    return result == 0 ? MOULT_EXIT_OK : MOULT_EXIT_FAILED;
}
