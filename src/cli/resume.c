#include "cli/resume.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/limits.h"
#include "base/memory.h"

#define FILE_BYTES_MAX (64 * MOULT_KIB)
#define HEAD_BYTES_MAX (64 * MOULT_KIB)
#define TAIL_BYTES_MAX (4 * MOULT_KIB)

char *moult_resume_path(const char *file) {
    return moult_format("%s.moult-progress", file);
}

static int fail_foreign(const char *path, struct moult_error *error) {
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%s is no progress file of moult; remove it, or name another with "
                      "--resume-file.",
                      path);
}

static int check(const json_t *state, const char *path, const char *task,
                 struct moult_error *error) {
    const char *begun = json_string_value(json_object_get(state, "task"));
    if (begun == NULL)
        return fail_foreign(path, error);
    if (strcmp(begun, task) == 0)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "%s says how far another task has come: \"%.200s\". Finish that one, or "
                      "begin anew with --restart.",
                      path, begun);
}

json_t *moult_resume_read(const char *path, const char *task, struct moult_error *error) {
    char *bytes;
    size_t size;
    error->code = MOULT_OK;
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return NULL;
    if (moult_file_read(AT_FDCWD, path, FILE_BYTES_MAX, &bytes, &size, error) != 0)
        return NULL;
    json_t *state = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, NULL);
    free(bytes);
    if (state == NULL)
        fail_foreign(path, error);
    else if (check(state, path, task, error) == 0)
        return state;
    json_decref(state);
    return NULL;
}

int moult_resume_write(const char *path, const char *task, json_t *state,
                       struct moult_error *error) {
    json_object_set_new(state, "task", json_string(task));
    char *text = json_dumps(state, JSON_INDENT(2));
    json_decref(state);
    MOULT_REQUIRE(text != NULL);
    int result = moult_file_replace(AT_FDCWD, path, text, strlen(text), error);
    free(text);
    return result;
}

int moult_resume_remove(const char *path, struct moult_error *error) {
    if (unlink(path) != 0 && errno != ENOENT)
        return moult_fail_errno(error, "%s cannot be removed", path);
    return 0;
}

int moult_resume_digest(int fd, uint64_t offset, const char *name,
                        char digest[MOULT_RESUME_DIGEST_HEX], struct moult_error *error) {
    uint64_t head = offset < HEAD_BYTES_MAX ? offset : HEAD_BYTES_MAX;
    uint64_t tail = offset < TAIL_BYTES_MAX ? offset : TAIL_BYTES_MAX;
    char *bytes = moult_allocate(1, head + tail + 1);
    int result = moult_read_exact(fd, bytes, head, 0, name, error);
    if (result == 0)
        result = moult_read_exact(fd, bytes + head, tail, offset - tail, name, error);
    if (result == 0)
        moult_sha256_of(bytes, head + tail, digest);
    free(bytes);
    return result;
}
