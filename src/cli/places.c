#include "cli/places.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "front/state.h"
#include "source/source.h"

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

/* A model's place without a name before it. NULL with the error. */
char *moult_place_source(const char *model, struct moult_error *error) {
    enum moult_source_kind kind = moult_source_kind_of(model);
    if (model[0] == '/' || model[0] == '.' || is_folder(model))
        return moult_place_absolute(model);
    if (kind == MOULT_SOURCE_HUB && strchr(model, '/') == NULL) {
        moult_fail(error, MOULT_ERROR_MISSING,
                   "There is no folder \"%.200s\"; a model comes from a folder in "
                   "sentence-transformers layout, from a hub (org/name), or from the URL of a "
                   "model server.",
                   model);
        return NULL;
    }
    if (moult_source_check(model, error) != 0)
        return NULL;
    size_t size = strlen(model);
    while (kind == MOULT_SOURCE_WEB && model[size - 1] == '/')
        size--;
    return moult_copy_bytes(model, size);
}

/* NAME=…; but a folder or a URL may have such a sign in it, too. */
static const char *skip_name(const char *operand) {
    const char *equals = strchr(operand, '=');
    bool has_name = equals != NULL && !is_folder(operand) &&
                    moult_source_kind_of(operand) != MOULT_SOURCE_WEB;
    return has_name ? equals + 1 : operand;
}

int moult_place_parse(const char *operand, char **name, char **source,
                      struct moult_error *error) {
    const char *model = skip_name(operand);
    if (model[0] == '\0')
        return moult_fail(error, MOULT_ERROR_INVALID, "\"%.200s\" names no model.", operand);
    *source = moult_place_source(model, error);
    if (*source == NULL)
        return -1;
    if (!moult_utf8_valid(*source, strlen(*source))) {   /* Answers and state.json are JSON. */
        free(*source);
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The path of a model must be UTF-8; this one is not: rename it.");
    }
    *name = model != operand      ? moult_copy_bytes(operand, (size_t)(model - operand - 1))
            : (*source)[0] == '/' ? name_of(*source)
                                  : moult_source_last_name(*source);
    if (moult_slot_name_valid(*name))
        return 0;
    moult_fail(error, MOULT_ERROR_INVALID,
               "\"%.80s\" cannot be a model's name (A-Z a-z 0-9 . _ -, at most %d of them): "
               "name it with NAME=MODEL.",
               *name, MOULT_MODEL_NAME_BYTES_MAX);
    free(*name);
    free(*source);
    return -1;
}

int moult_place_use_hub_cache(const char *what, struct moult_error *error) {
    if (strcmp(what, "read") != 0 && strcmp(what, "fill") != 0)
        return moult_fail(error, MOULT_ERROR_INVALID, "--hub-cache is read or fill, not \"%.40s\".",
                          what);
    setenv("MOULT_HUB_CACHE", what, 1);
    return 0;
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
