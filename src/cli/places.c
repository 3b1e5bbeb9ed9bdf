#include "cli/places.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "front/state.h"

#define KEY_FILE_BYTES_MAX 4096

/* Without "." and doubled slashes; ".." stays, for what it means may depend on links. */
char *moult_place_absolute(const char *folder) {
    char *here = folder[0] == '/' ? moult_copy_string("") : getcwd(NULL, 0);
    char *whole = moult_format("%s/%s", here != NULL ? here : "", folder);
    char *out = whole;
    for (const char *part = whole; *part != '\0';) {
        part += strspn(part, "/");
        size_t length = strcspn(part, "/");
        if (length > 0 && !(length == 1 && part[0] == '.')) {
            *out++ = '/';
            memmove(out, part, length);
            out += length;
        }
        part += length;
    }
    if (out == whole)
        *out++ = '/';
    *out = '\0';
    free(here);
    return whole;
}

static char *name_of(const char *path) {
    const char *last = strrchr(path, '/') + 1;
    char *real = strcmp(last, "..") == 0 ? realpath(path, NULL) : NULL;
    char *name = moult_copy_string(real != NULL ? strrchr(real, '/') + 1 : last);
    free(real);
    return name;
}

static bool is_folder(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int moult_place_parse(const char *operand, char **name, char **path, struct moult_error *error) {
    const char *equals = strchr(operand, '=');
    const char *folder = equals != NULL && !is_folder(operand) ? equals + 1 : operand;
    if (folder[0] == '\0')
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%.200s\" names no folder.", operand);
    if (folder[0] != '/' && folder[0] != '.' && !is_folder(folder))
        return moult_fail(error, MOULT_ERROR_MISSING,
                          "There is no folder \"%.200s\"; a model is served from a folder in "
                          "sentence-transformers layout, and `make run` fetches one.",
                          folder);
    *path = moult_place_absolute(folder);
    *name = folder == operand ? name_of(*path)
                              : moult_copy_bytes(operand, (size_t)(folder - operand - 1));
    if (moult_slot_name_valid(*name))
        return 0;
    moult_fail(error, MOULT_ERROR_INVALID,
               "\"%.80s\" cannot be a model's name (A-Z a-z 0-9 . _ -, at most %d of them): "
               "name it with NAME=FOLDER.",
               *name, MOULT_MODEL_NAME_BYTES_MAX);
    free(*name);
    free(*path);
    return -1;
}

char *moult_key_read(const char *file, struct moult_error *error) {
    char *bytes;
    size_t size;
    if (moult_file_read(AT_FDCWD, file, KEY_FILE_BYTES_MAX, &bytes, &size, error) != 0)
        return NULL;
    size_t length = strcspn(bytes, "\r\n");
    bool good = length > 0 && strlen(bytes) == size;
    for (size_t i = 0; i < length; i++)
        good = good && bytes[i] > 0x20 && bytes[i] < 0x7F;
    bytes[length] = '\0';
    if (good)
        return bytes;
    free(bytes);
    moult_fail(error, MOULT_ERROR_INVALID,
               "%s must begin with a line that is the key: printable ASCII, no spaces.", file);
    return NULL;
}
