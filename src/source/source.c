#include "source/source.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

#define HUB_PART_BYTES_MAX 96
#define HUB_REVISION_BYTES_MAX 200
#define URL_BYTES_MAX 1024

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

static bool begins_with(const char *text, const char *start) {
    return strncmp(text, start, strlen(start)) == 0;
}

enum moult_source_kind moult_source_kind_of(const char *source) {
    if (source[0] == '/')
        return MOULT_SOURCE_FOLDER;
    if (begins_with(source, "http://") || begins_with(source, "https://"))
        return MOULT_SOURCE_WEB;
    return MOULT_SOURCE_HUB;
}

/* The size of one part of a hub's name; 0 where it is none. */
static size_t hub_part(const char *text) {
    size_t size = strspn(text, letters);
    return size <= HUB_PART_BYTES_MAX && text[0] != '.' && text[0] != '-' ? size : 0;
}

static int check_hub(const char *source, struct moult_error *error) {
    size_t owner = hub_part(source);
    size_t name = owner > 0 && source[owner] == '/' ? hub_part(source + owner + 1) : 0;
    const char *rest = source + owner + 1 + name;
    bool good = name > 0;
    if (good && rest[0] == '@') {
        size_t size = strlen(++rest);
        good = size > 0 && size <= HUB_REVISION_BYTES_MAX && strstr(rest, "..") == NULL;
        for (size_t i = 0; good && i < size; i++)
            good = rest[i] > 0x20 && rest[i] < 0x7F;
        rest += size;
    }
    if (good && rest[0] == '\0')
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "\"%.200s\" is not the name of a model on a hub: org/name, or "
                      "org/name@revision.",
                      source);
}

static int check_web(const char *source, struct moult_error *error) {
    size_t size = strlen(source);
    const char *host = strstr(source, "://") + 3;
    size_t host_size = strcspn(host, "/");
    bool plain = size <= URL_BYTES_MAX && host_size > 0 && source[strcspn(source, "?#")] == '\0';
    for (size_t i = 0; plain && i < size; i++)
        plain = source[i] > 0x20 && source[i] < 0x7F;
    if (memchr(host, '@', host_size) != NULL)
        return moult_fail(error, MOULT_ERROR_INVALID,
                          "The URL of a model server must have no user or password in it: it is "
                          "shown in logs and answers.");
    if (plain)
        return 0;
    return moult_fail(error, MOULT_ERROR_INVALID,
                      "\"%.200s\" is not the URL of a model server: http://host/path, with no "
                      "spaces, \"?\" or \"#\".",
                      source);
}

int moult_source_check(const char *source, struct moult_error *error) {
    switch (moult_source_kind_of(source)) {
    case MOULT_SOURCE_HUB:
        return check_hub(source, error);
    case MOULT_SOURCE_WEB:
        return check_web(source, error);
    default:
        return 0;
    }
}

char *moult_source_last_name(const char *source) {
    enum moult_source_kind kind = moult_source_kind_of(source);
    const char *start = kind == MOULT_SOURCE_WEB ? strstr(source, "://") + 3 : source;
    size_t size = kind == MOULT_SOURCE_HUB ? strcspn(start, "@") : strlen(start);
    while (size > 0 && start[size - 1] == '/')
        size--;
    const char *slash = memrchr(start, '/', size);
    if (slash == NULL)
        return moult_copy_string("");
    return moult_copy_bytes(slash + 1, size - (size_t)(slash + 1 - start));
}

int moult_install(const char *source, const char *data_folder,
                  const struct moult_install_progress *progress,
                  struct moult_installed *installed, struct moult_error *error) {
    if (moult_source_check(source, error) != 0)
        return -1;
    switch (moult_source_kind_of(source)) {
    case MOULT_SOURCE_HUB:
        return moult_install_from_hub(source, data_folder, progress, installed, error);
    case MOULT_SOURCE_WEB:
        return moult_install_from_web(source, data_folder, progress, installed, error);
    default:
        return moult_install_from_folder(source, data_folder, progress, installed, error);
    }
}

int moult_look(const char *source, const char *unless, struct moult_look *look,
               struct moult_error *error) {
    *look = (struct moult_look){.result = MOULT_LOOK_UNCHANGED};
    if (moult_source_check(source, error) != 0)
        return -1;
    switch (moult_source_kind_of(source)) {
    case MOULT_SOURCE_HUB:
        return moult_look_at_hub(source, unless, look, error);
    case MOULT_SOURCE_WEB:
        return moult_look_at_web(source, unless, look, error);
    default:
        return moult_look_at_folder(source, unless, look, error);
    }
}

void moult_look_release(struct moult_look *look) {
    for (unsigned i = 0; i < look->path_count; i++)
        free(look->paths[i]);
    free(look->above);
    look->above = NULL;
    look->path_count = 0;
}
